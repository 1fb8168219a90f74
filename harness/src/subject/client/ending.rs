//! What is done to a client: the script's attack, and the end that every case comes to.

use std::time::Instant;

use rustix::process::Signal;

use super::Play;
use crate::ledger::abandoned::Departure;
use crate::ledger::verdict::StepRef;
use crate::lifecycle::client::{Attack, Deed};

impl Play<'_> {
    /// Does to the client what the script says, and waits for its exit.
    pub(super) fn attack(&mut self, attack: Attack) {
        let step = match attack.deed {
            Deed::EndStdin => self.step("end of client's stdin"),
            signal => self.step(&format!("{signal} to client")),
        };
        self.look(&step);
        match attack.deed {
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
    }

    /// A client that ended by itself in the first look, and does not with another server, waits for
    /// that server.
    pub(super) fn note_rest(&mut self) {
        let ends_by_itself = !self.order.first_look && self.script.ends_with_stdin.is_none();
        if ends_by_itself {
            let waited = self.patience().as_secs();
            self.played.notes.push(format!(
                "the client still waited for its server after {waited} s without news, and had to \
                 be ended; requests SHOULD have a timeout (2025-11-25 lifecycle T1)"
            ));
        }
    }

    /// Sees to it that the client exits, and gives back the step by which all of it is due.
    pub(super) fn bring_to_an_end(&mut self) -> StepRef {
        if !self.has_exited() && self.departure != Departure::Killed {
            let was_done = |deed| {
                let attack = self.script.script.attack.filter(|_| self.moment.is_some());
                attack.is_some_and(|attack| attack.deed == deed)
            };
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
        self.departure = Departure::Killed;
        self.signalled(Signal::KILL);
    }

    /// Waits for the client's exit, as long as there is news of its servers, and then as long as
    /// anything due may take.
    pub(super) fn wait_for_exit(&mut self) -> bool {
        let patience = self.patience();
        let bound = Instant::now() + 5 * patience;
        while !self.has_exited() && self.last_news.elapsed() <= patience && Instant::now() < bound {
            self.turn();
        }
        self.has_exited()
    }
}
