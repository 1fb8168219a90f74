//! What is done to a client: the script's attack, and the end that every case comes to.

use std::time::Instant;

use rustix::process::Signal;

use super::Play;
use super::servers::Server;
use crate::ledger::abandoned::Departure;
use crate::ledger::verdict::StepRef;
use crate::lifecycle::client::{Attack, Deed, Instead, Moment, Played};
use crate::peer::report::CANCELLED;

impl Play<'_> {
    /// Does to the client what the script says, and waits for its exit.
    pub(super) fn attack(&mut self, attack: Attack) {
        let step = self.step(&step_of(attack.deed));
        self.told.insert(attack.deed);
        self.look(&step);
        let is_closing = attack.moment == Moment::Closing;
        match attack.deed {
            // In its ladder it ends without being told.
            Deed::EndStdin | Deed::Interrupt if is_closing => {
                let ended = match attack.deed {
                    Deed::EndStdin => self.end_stdin(),
                    _ => self.signalled(Signal::INT),
                };
                if !ended {
                    let rest = self.step("client at rest");
                    self.look(&rest);
                    self.judge_rest(&rest);
                }
            }
            Deed::EndStdin => {
                let ended = self.end_stdin();
                if !ended {
                    self.not_applicable =
                        Some("the client does not end when its own stdin does".to_owned());
                }
            }
            Deed::Terminate => self.terminate(&step),
            Deed::Interrupt => {
                if !self.signalled(Signal::INT) {
                    // Hosts take the first one for a request to stop what they do.
                    self.not_applicable =
                        Some("the client does not end upon one SIGINT".to_owned());
                }
            }
            Deed::Kill => self.kill(),
        }
        // What it does with a signal cannot be asked: Node catches SIGTERM only to pass it on to itself.
        let signal = match attack.deed {
            Deed::Terminate => Signal::TERM,
            Deed::Interrupt => Signal::INT,
            Deed::Kill | Deed::EndStdin => return,
        };
        let exit = self.client.as_ref().and_then(|client| client.exit);
        if is_closing && exit == Some((None, Some(signal.as_raw()))) {
            self.departure = Departure::Struck(attack.deed);
        }
    }

    /// A client that lives on ends its servers when it is told to end: by SIGINT where that comes a
    /// second time, as people press it, and else by the end of its stdin where it minds that.
    pub(super) fn tell_to_close(&mut self) {
        let attack = self.script.script.attack;
        let Some(Attack { moment: Moment::Closing, deed }) = attack else { return };
        let Some(ends_with_stdin) = self.script.ends_with_stdin else { return };
        if !self.told.is_empty() || !self.has_come(Moment::Idle) {
            return;
        }
        let by = match deed {
            Deed::Interrupt => Deed::Interrupt,
            Deed::Terminate | Deed::Kill if ends_with_stdin => Deed::EndStdin,
            Deed::Terminate | Deed::Kill | Deed::EndStdin => Deed::Terminate,
        };
        self.step(&step_of(by));
        self.last_news = Instant::now();
        self.told.insert(by);
        if let Some(client) = &mut self.client {
            match by {
                Deed::EndStdin => client.end_stdin(),
                Deed::Interrupt => client.signal(Signal::INT),
                Deed::Terminate | Deed::Kill => client.signal(Signal::TERM),
            }
        }
    }

    /// The client has begun to end a server, which is still there, and so is the client.
    pub(super) fn is_closing(&self) -> bool {
        let begun = |server: &Server| {
            server.gone.is_none() && (server.stdin_ended.is_some() || !server.signals.is_empty())
        };
        self.servers.iter().any(begun) && self.is_alive()
    }

    /// The client is neither dead nor dying.
    pub(super) fn is_alive(&self) -> bool {
        self.client.as_ref().is_some_and(|client| has_descriptors(client.id.pid))
    }

    /// The client ended by itself in the first look.
    pub(super) fn ends_by_itself(&self) -> bool {
        !self.order.first_look && self.script.ends_with_stdin.is_none()
    }

    /// One that ended by itself in the first look, and does not with another server, waits for that
    /// server. Where all of them are dead it waits for nothing.
    pub(super) fn tell_of_rest(&mut self, at: &StepRef) {
        if !self.ends_by_itself() {
            return;
        }
        if self.servers.iter().all(|server| server.gone.is_some()) {
            return self.judge_waiting(at);
        }
        let waited = self.patience().as_secs();
        self.played.notes.push(format!(
            "the client still waited for its server after {waited} s without news, and had to be \
             ended; requests SHOULD have a timeout (2025-11-25 lifecycle T1)"
        ));
    }

    /// Has an answer come that is held back until the client gives up, where it does not; false where
    /// none is held back.
    pub(super) fn give_what_is_held(&mut self) -> bool {
        let is_late = |played: &Played| {
            let instead = played.unanswered.as_ref().map(|request| request.instead);
            instead == Some(Instead::Late)
        };
        if !self.script.script.servers.iter().any(is_late) || !self.is_in_flight() {
            return false;
        }
        let waits = |server: &&Server| {
            server.gone.is_none() && server.stdin_ended.is_none() && !server.knows(CANCELLED)
        };
        let held: Vec<usize> =
            self.servers.iter().filter(waits).map(|server| server.start).collect();
        if held.is_empty() {
            return false;
        }
        let waited = self.patience().as_secs();
        for start in held {
            self.channel.go(start);
        }
        self.last_news = Instant::now();
        let said = format!("the client still waited for the answer after {waited} s without news");
        if self.ends_by_itself() {
            let longer = "--leak-timeout 70s, say, holds it back for longer";
            self.not_applicable = Some(format!("{said}; {longer}"));
        } else {
            self.played.notes.push(format!("{said}, or gave up without a word; it came then"));
        }
        true
    }

    /// Sees to it that the client exits, and gives back the step by which all of it is due.
    pub(super) fn bring_to_an_end(&mut self) -> StepRef {
        if !self.has_exited() && self.departure != Departure::Killed {
            let was_done = |deed| self.told.contains(&deed);
            let (asked, terminated) = (was_done(Deed::EndStdin), was_done(Deed::Terminate));
            // Of one that ended by itself in the first look, nothing is known and nothing expected.
            let may_end = self.order.first_look || self.script.ends_with_stdin == Some(true);
            if may_end && !asked && !terminated {
                self.step("end of client's stdin");
                let ended = self.end_stdin();
                self.learned.client.get_or_insert_default().ends_with_stdin = Some(ended);
                if !ended && !self.order.first_look {
                    self.played.notes.push(
                        "with a server without fault the client ends when its own stdin does; here \
                         it did not, and had to be sent SIGTERM"
                            .to_owned(),
                    );
                }
            }
            if !self.has_exited() && !terminated {
                let step = self.step("SIGTERM to client");
                self.terminate(&step);
            }
        }
        if !self.has_exited() {
            self.kill();
        }
        let due = match self.departure {
            Departure::Killed => "client is killed",
            _ => "client exits",
        };
        self.step(due)
    }

    pub(super) fn end_stdin(&mut self) -> bool {
        self.last_news = Instant::now();
        if let Some(client) = &mut self.client {
            client.end_stdin();
        }
        self.wait_for_exit()
    }

    /// SIGTERM, upon which every client has to end.
    pub(super) fn terminate(&mut self, step: &StepRef) {
        if !self.signalled(Signal::TERM) {
            self.judge_client(step);
        }
    }

    pub(super) fn signalled(&mut self, signal: Signal) -> bool {
        self.last_news = Instant::now();
        if let Some(client) = &self.client {
            client.signal(signal);
        }
        self.wait_for_exit()
    }

    pub(super) fn kill(&mut self) {
        self.signalled(Signal::KILL);
        let exit = self.client.as_ref().and_then(|client| client.exit);
        // One that was quicker has exited by itself.
        if !matches!(exit, Some((Some(_), _))) {
            self.departure = Departure::Killed;
        }
    }

    /// Waits for the client's exit, as long as there is news of its servers, and then as long as
    /// anything due may take.
    pub(super) fn wait_for_exit(&mut self) -> bool {
        let patience = self.patience();
        let bound = Instant::now() + 5 * patience;
        while !self.has_exited() && self.rested() <= patience && Instant::now() < bound {
            self.turn();
        }
        self.has_exited()
    }
}

/// A process that is dying, and has told its servers of it by that, has none any more.
fn has_descriptors(pid: i32) -> bool {
    let listed = std::fs::read_dir(format!("/proc/{pid}/fd"));
    // Where they cannot be read it may have some.
    listed.map_or(true, |mut listed| listed.next().is_some())
}

/// What is done to a client, as the name of a step.
fn step_of(deed: Deed) -> String {
    match deed {
        Deed::EndStdin => "end of client's stdin".to_owned(),
        signal => format!("{signal} to client"),
    }
}
