//! A generated lifecycle on any stdio server: of its steps those that a host may do to a server that
//! is not its own, and after which a rule says what must be gone.
//!
//! The moments are those of the battery, in any order and several lives at a time. A request that may
//! last is never waited for, and after one the life is ended without waiting for an answer.

use super::again::{cancel_round, round, times_of};
use super::{
    Action, HandshakePoint, Knowledge, Lifecycle, MID_INITIALIZE, N9, Signal, Step, Whom, close,
    end_stdin, handshake, kill_client, lifecycle, open, signal, step,
};
use crate::lifecycle::generate::{Act, Generated, PLACES, Peer, Place, Tool};
use crate::lifecycle::step::Payload;

/// Most lives of one lifecycle; each is a process of the server.
const LIVES: usize = 6;

/// The lifecycle; without steps where there is nothing that can be done to a server.
pub fn on_a_server(generated: &Generated, known: &Knowledge, id: &str) -> Lifecycle {
    let mut host = Host {
        known,
        open: [const { None }; PLACES],
        begun: 0,
        has_repeated: false,
        steps: Vec::new(),
    };
    for step in &generated.steps {
        host.play(step.act);
    }
    (0..PLACES).for_each(|place| host.end(place));
    let why = "A generated lifecycle: when a life has ended, nothing is left of it.";
    lifecycle(id, why, N9, host.steps)
}

struct Host<'a> {
    known: &'a Knowledge,
    open: [Option<Life>; PLACES],
    /// Lives so far.
    begun: usize,
    has_repeated: bool,
    steps: Vec<Step>,
}

/// A life that has not ended.
struct Life {
    name: String,
    /// The handshake is done, and no request is worked on.
    is_idle: bool,
    /// The handshake is done.
    is_ready: bool,
    /// A request is worked on that can be cancelled.
    is_busy: bool,
}

impl Host<'_> {
    fn play(&mut self, act: Act) {
        match act {
            Act::Add { server, peer, replaces, .. } => self.begin(server, peer, replaces),
            Act::Call(place) | Act::Request(place, Tool::Echo) | Act::Read(place) => {
                self.idle(place, |known| vec![known.brief()]);
            }
            Act::Listen(place) => self.idle(place, |_| vec![super::list(true)]),
            Act::Request(place, _) => {
                let busy = self.known.busy();
                if let Some(life) = self.open[place].as_mut().filter(|life| life.is_ready) {
                    (life.is_idle, life.is_busy) = (false, true);
                    self.steps.push(busy.on(&life.name));
                }
            }
            Act::DropCall(place) => {
                if let Some(life) = self.open[place].as_mut().filter(|life| life.is_busy) {
                    life.is_busy = false;
                    self.steps.push(step(Action::Cancel).on(&life.name));
                }
            }
            Act::Put(place) => self.repeat(place, round),
            Act::Take(place) | Act::Evict(place) => self.repeat(place, cancel_round),
            // Nobody waits here: time is what a server is given to grow in.
            Act::Wait { .. } | Act::Sweep | Act::Store(_) => {
                let idle = |life: &Option<Life>| life.as_ref().is_some_and(|life| life.is_idle);
                if let Some(place) = self.open.iter().position(idle) {
                    self.repeat(place, if act == Act::Sweep { round } else { cancel_round });
                }
            }
            Act::Remove(place) | Act::Delete(place) => self.end(place),
            Act::DropAdd(place) | Act::Disconnect(place) => {
                self.let_go(place, |_| vec![step(Action::Drop)]);
            }
            Act::PeerEnds(place) if self.open[place].as_ref().is_some_and(|life| life.is_ready) => {
                self.let_go(place, |_| vec![signal(Signal::Term, Whom::Server)]);
            }
            Act::CloseSessions | Act::Shutdown { .. } => {
                let mut open = self.open.iter().flatten().peekable();
                if open.peek().is_some() && open.all(|life| life.is_idle) {
                    self.steps.push(step(Action::Shutdown));
                    self.open = [const { None }; PLACES];
                } else {
                    (0..PLACES).for_each(|place| self.end(place));
                }
            }
            Act::NewHost => {
                (0..PLACES).for_each(|place| self.let_go(place, |_| vec![kill_client()]));
            }
            Act::DropSessions => (0..PLACES).for_each(|place| {
                self.let_go(place, |life| match life.is_ready {
                    true => {
                        vec![step(Action::HoldStdin), kill_client(), step(Action::ReleaseStdin)]
                    }
                    false => vec![kill_client()],
                });
            }),
            _ => {}
        }
    }

    fn begin(&mut self, place: Place, peer: Peer, replaces: bool) {
        if self.open[place].is_some() {
            if !replaces {
                return;
            }
            self.end(place);
        }
        if self.begun == LIVES {
            return;
        }
        self.begun += 1;
        let until = |until| Some(step(Action::Handshake { until }));
        let (next, is_ready) = match peer {
            Peer::NotOpened | Peer::NeverOpened | Peer::PanicsOpening => (None, false),
            Peer::HalfLine | Peer::DiesAt(_) => {
                let (payload, upto) = (Payload::Handshake, Some(MID_INITIALIZE));
                (Some(step(Action::Send { payload, upto })), false)
            }
            Peer::Silent | Peer::Deaf => (until(HandshakePoint::Sent), false),
            Peer::DiesEarly | Peer::Refuses => (until(HandshakePoint::Answered), false),
            _ => (Some(handshake()), true),
        };
        // Each life has a name of its own: what became of one is not taken for another's.
        let name = format!("c{}", self.begun);
        self.steps.extend([open()].into_iter().chain(next).map(|step| step.on(&name)));
        self.open[place] = Some(Life { name, is_idle: is_ready, is_ready, is_busy: false });
    }

    fn idle(&mut self, place: Place, steps: impl Fn(&Knowledge) -> Vec<Step>) {
        if let Some(life) = self.open[place].as_ref().filter(|life| life.is_idle) {
            self.steps.extend(steps(self.known).into_iter().map(|step| step.on(&life.name)));
        }
    }

    /// The same again and again, once in a lifecycle: growth takes its time to be judged.
    fn repeat(&mut self, place: Place, steps: impl Fn(&Knowledge) -> Vec<Step>) {
        if self.has_repeated {
            return;
        }
        let Some(life) = self.open[place].as_ref().filter(|life| life.is_idle) else { return };
        self.has_repeated = true;
        let inside = steps(self.known).into_iter().map(|step| step.on(&life.name)).collect();
        self.steps.push(times_of(self.known.cycles, inside));
    }

    /// The graceful end; whoever may be at work is not waited for.
    fn end(&mut self, place: Place) {
        self.let_go(place, |life| vec![if life.is_idle { close() } else { end_stdin() }]);
    }

    fn let_go(&mut self, place: Place, end: impl Fn(&Life) -> Vec<Step>) {
        if let Some(life) = self.open[place].take() {
            self.steps.extend(end(&life).into_iter().map(|step| step.on(&life.name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::verdict::Verdict;
    use crate::lifecycle::generate::of_seed;
    use crate::lifecycle::scenario::{self, Expectation, Scenario, Subject};

    #[test]
    fn every_seed_is_a_scenario_that_a_file_can_hold() {
        let known = Knowledge::of_any(20);
        let mut has_steps = 0;
        for seed in 0..300 {
            let lifecycle = on_a_server(&of_seed(seed), &known, "generated");
            if lifecycle.steps.is_empty() {
                continue;
            }
            has_steps += 1;
            let subject = Subject::Command(vec!["server".into()]);
            let expect = Expectation { verdict: Verdict::Clean, findings: Vec::new() };
            let scenario = Scenario { lifecycle, subject, expect };
            let problems = scenario::check(&scenario);
            assert!(problems.is_empty(), "seed {seed}: {problems:?}");
            let text = scenario::render(&scenario);
            match scenario::parse("generated.toml", &text) {
                Ok(read) => assert_eq!(read, scenario, "{text}"),
                Err(error) => panic!("{error:?}\n{text}"),
            }
        }
        assert!(has_steps > 200, "of 300 seeds {has_steps} come to a step");
    }
}
