//! A generated lifecycle on a host with real servers, in the words of scenarios: child processes and
//! sockets in place of streams in memory.
//!
//! Real time is nobody's to command, so only what is certain is written: whether an adding succeeds
//! follows from the server and from what has its name, never from who is quicker. What is not certain
//! is left out, or is begun and not waited for. The steps on sessions are another subject's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::generate::{Act, Generated, GeneratedStep, PLACES, Peer, Place};
use super::step::{Action, Condition, EraChoice, FakeSpec, Lifecycle, Step, Transport, Whom};

/// The names of the servers. The last one is an HTTP server, which runs beside the host.
const NAMES: [&str; PLACES] = ["a", "b", "c", "http"];
/// The place of the HTTP server.
const OVER_HTTP: Place = PLACES - 1;
/// Options of the host: whoever never answers is still connecting when the lifecycle ends.
pub const OPTIONS: [(&str, &str); 1] = [("connect-timeout", "60s")];
/// How long what is left of a dead server may take to go.
const GONE: Duration = Duration::from_secs(20);

/// What is certain of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Absent,
    /// It never answers.
    Connecting,
    Ready(Nature),
    /// Dead, and still holding its name.
    Dead,
    /// Nothing is certain until the host ends.
    Unsure,
}

/// How a server takes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Answers,
    /// Works on one for ever.
    Hangs,
    /// Ends its answers.
    Breaks,
    /// Does not read it.
    Deaf,
}

/// What comes of adding a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ready(Nature),
    Fails,
    Connects,
}

/// The lifecycle on a host. Without a step on servers it is the start of a host and no more.
pub fn on_a_host(generated: &Generated, id: &str) -> Lifecycle {
    let mut host = Host {
        servers: [Server::Absent; PLACES],
        is_closed: false,
        http_is_dead: false,
        is_out_of_reach: [false; PLACES],
        at_once: Vec::new(),
        steps: Vec::new(),
    };
    host.alone(Step::new(Action::Start { options: BTreeMap::new() }));
    for step in &generated.steps {
        host.play(step);
    }
    host.flush();
    Lifecycle {
        id: id.to_owned(),
        why: "A generated lifecycle: when all has ended, nothing is left of any server.".to_owned(),
        rule: None,
        era: EraChoice::Auto,
        steps: host.steps,
    }
}

struct Host {
    servers: [Server; PLACES],
    is_closed: bool,
    http_is_dead: bool,
    /// Of what was born while several servers were added, nobody knows whose it is.
    is_out_of_reach: [bool; PLACES],
    /// Steps on different servers that begin together.
    at_once: Vec<(Place, Step)>,
    steps: Vec<Step>,
}

impl Host {
    fn play(&mut self, step: &GeneratedStep) {
        // Where the next step does not wait for this one, they begin together.
        let waits = step.turns.is_none();
        match step.act {
            Act::Add { server, peer, replaces, .. } => self.add(server, peer, replaces, waits),
            Act::DropAdd(place) if self.servers[place] == Server::Connecting => {
                self.remove(place, waits);
            }
            Act::Call(place) => self.call(place, waits),
            Act::Remove(place) => self.remove(place, waits),
            Act::PeerEnds(place) => self.kill(place),
            Act::Health => self.health(),
            Act::Shutdown { .. } => {
                self.alone(Step::new(Action::Shutdown));
                self.is_closed = true;
                self.all_gone();
            }
            Act::NewHost => {
                // A host that is dropped has no time to end its sessions.
                if matches!(self.servers[OVER_HTTP], Server::Ready(_)) {
                    self.remove(OVER_HTTP, true);
                }
                self.alone(Step::new(Action::Drop));
                self.alone(Step::new(Action::Start { options: BTreeMap::new() }));
                self.is_closed = false;
                self.all_gone();
            }
            _ => {}
        }
    }

    fn all_gone(&mut self) {
        self.servers = [Server::Absent; PLACES];
    }

    fn add(&mut self, place: Place, peer: Peer, replaces: bool, waits: bool) {
        let state = self.servers[place];
        let is_http = place == OVER_HTTP;
        if state == Server::Unsure || (is_http && self.http_is_dead) {
            return;
        }
        let (server, outcome) = match is_http {
            true => (fake("plain", &[]), Outcome::Ready(Nature::Answers)),
            false => server_of(peer),
        };
        let is_refused = self.is_closed || (state != Server::Absent && !replaces);
        let connects = outcome == Outcome::Connects && !is_refused;
        // While the one before takes its time to end, a removal would end that one and not this.
        if connects && state != Server::Absent {
            return;
        }
        let fails = is_refused || outcome == Outcome::Fails;
        let transport = if is_http { Transport::Http } else { Transport::Stdio };
        let add = Action::Add { server, transport, replace: replaces, wait: !connects };
        let step = Step { fails, ..Step::new(add).on(NAMES[place]) };
        if connects {
            self.alone(step);
        } else {
            self.together(place, step, waits);
        }
        if is_refused {
            return;
        }
        self.servers[place] = match outcome {
            Outcome::Ready(nature) => Server::Ready(nature),
            Outcome::Fails => Server::Absent,
            Outcome::Connects => Server::Connecting,
        };
    }

    fn call(&mut self, place: Place, waits: bool) {
        let (hangs, fails) = match self.servers[place] {
            Server::Absent | Server::Dead => (false, true),
            Server::Ready(Nature::Breaks) => {
                self.servers[place] = Server::Dead;
                (false, true)
            }
            Server::Ready(Nature::Answers) if waits => (false, false),
            Server::Ready(Nature::Answers | Nature::Hangs) => {
                self.servers[place] = Server::Ready(Nature::Hangs);
                (true, false)
            }
            Server::Ready(Nature::Deaf) | Server::Connecting | Server::Unsure => return,
        };
        let (tool, arguments) = match hangs {
            true => ("sleep".to_owned(), json!({ "ms": 60_000 })),
            false => ("echo".to_owned(), json!({ "text": "hello" })),
        };
        let call = Action::Call { tool, arguments, wait: !hangs };
        let step = Step { fails, ..Step::new(call).on(NAMES[place]) };
        if hangs {
            self.alone(step);
        } else {
            self.together(place, step, waits);
        }
    }

    fn remove(&mut self, place: Place, waits: bool) {
        if self.servers[place] == Server::Unsure {
            return;
        }
        let fails = self.servers[place] == Server::Absent;
        let step = Step { fails, ..Step::new(Action::Remove).on(NAMES[place]) };
        self.together(place, step, waits);
        self.servers[place] = Server::Absent;
    }

    fn kill(&mut self, place: Place) {
        // Whether it was added together with others is known once that is written.
        self.flush();
        let is_http = place == OVER_HTTP;
        let is_within_reach = is_http || !self.is_out_of_reach[place];
        if !(is_within_reach && matches!(self.servers[place], Server::Ready(_))) {
            return;
        }
        self.alone(Step::new(Action::Kill { whom: Whom::Server }).on(NAMES[place]));
        self.http_is_dead |= is_http;
        self.servers[place] = if is_http { Server::Unsure } else { Server::Dead };
    }

    /// The dead are dropped; whoever does not read may be taken for dead.
    fn health(&mut self) {
        self.alone(Step::new(Action::Health));
        for (place, name) in NAMES.into_iter().enumerate() {
            match self.servers[place] {
                Server::Dead if self.is_out_of_reach[place] => {
                    self.servers[place] = Server::Unsure;
                }
                Server::Dead => {
                    let wait = Action::WaitFor { condition: Condition::Gone };
                    let step = Step { within: Some(GONE), ..Step::new(wait).on(name) };
                    self.alone(step);
                    self.servers[place] = Server::Absent;
                }
                Server::Ready(Nature::Deaf | Nature::Breaks) => {
                    self.servers[place] = Server::Unsure;
                }
                _ => {}
            }
        }
    }

    fn alone(&mut self, step: Step) {
        self.flush();
        self.steps.push(step);
    }

    /// Begins a step together with those before it on other servers, if the last one does not wait.
    fn together(&mut self, place: Place, step: Step, waits: bool) {
        if self.at_once.iter().any(|(other, _)| *other == place) {
            self.flush();
        }
        self.at_once.push((place, step));
        if waits {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let is_one_of_several = self.at_once.len() > 1;
        for (place, step) in &self.at_once {
            if matches!(step.action, Action::Add { .. }) && !step.fails {
                self.is_out_of_reach[*place] = is_one_of_several;
            }
        }
        let mut steps: Vec<Step> = self.at_once.drain(..).map(|(_, step)| step).collect();
        if steps.len() > 1 {
            let branches = steps.into_iter().map(|step| vec![step]).collect();
            self.steps.push(Step::new(Action::Concurrently { branches }));
        } else {
            self.steps.append(&mut steps);
        }
    }
}

/// The fake that is nearest to a peer in memory, and what comes of adding it.
fn server_of(peer: Peer) -> (FakeSpec, Outcome) {
    use Nature::{Answers, Breaks, Deaf, Hangs};
    let (name, outcome) = match peer {
        Peer::Well => ("plain", Outcome::Ready(Answers)),
        Peer::HangsOnCall => ("plain", Outcome::Ready(Hangs)),
        Peer::Late => return (fake("slow-exit", &[("ms", "300")]), Outcome::Ready(Answers)),
        Peer::Lingers => ("ignores-eof", Outcome::Ready(Answers)),
        Peer::Deaf => ("ignores-eof-and-term", Outcome::Ready(Answers)),
        Peer::PanicsOpening => {
            return (fake("helper-same-group", &[("at", "start")]), Outcome::Ready(Answers));
        }
        Peer::DiesOnCall => {
            return (fake("closes-stdout-stays", &[("at", "call")]), Outcome::Ready(Breaks));
        }
        Peer::StopsReading => ("stops-reading-stdin", Outcome::Ready(Deaf)),
        Peer::DiesAt(bytes) => {
            return (fake("crash-at-byte", &[("byte", &bytes.to_string())]), Outcome::Fails);
        }
        Peer::LongLine | Peer::Refuses => ("crash-at-byte", Outcome::Fails),
        Peer::DiesEarly | Peer::NotOpened => ("exits-before-initialize", Outcome::Fails),
        Peer::Silent | Peer::NeverOpened => ("never-answers", Outcome::Connects),
        Peer::Garbage => ("garbage", Outcome::Connects),
        Peer::HalfLine => ("half-a-line", Outcome::Connects),
    };
    (fake(name, &[]), outcome)
}

fn fake(name: &str, options: &[(&str, &str)]) -> FakeSpec {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let options = options.iter().map(own).collect();
    FakeSpec { name: name.to_owned(), fixed: false, options }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::verdict::Verdict;
    use crate::lifecycle::generate::{lifecycle_of, of_seed};
    use crate::lifecycle::scenario::{self, Embedded, Expectation, Scenario, Subject};

    fn scenario_of(lifecycle: Lifecycle) -> Scenario {
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let options = OPTIONS.into_iter().map(own).collect();
        let subject = Subject::Host(Embedded { name: "core".into(), options });
        let expect = Expectation { verdict: Verdict::Clean, findings: Vec::new() };
        Scenario { lifecycle, subject, expect }
    }

    #[test]
    fn every_seed_is_a_scenario_that_a_file_can_hold() {
        for seed in 0..300 {
            let scenario = scenario_of(on_a_host(&of_seed(seed), "generated"));
            let problems = scenario::check(&scenario);
            assert!(problems.is_empty(), "seed {seed}: {problems:?}");
            let text = scenario::render(&scenario);
            match scenario::parse("generated.toml", &text) {
                Ok(read) => assert_eq!(read, scenario, "{text}"),
                Err(error) => panic!("{error:?}\n{text}"),
            }
        }
    }

    /// What is done to a server that is ready, dead or absent is written with what comes of it.
    #[test]
    fn what_is_certain_is_written() {
        let bytes = [
            [8, 0, 0, 0],   // add a, which does all it should
            [8, 0, 0, 0],   // again: refused
            [24, 0, 0, 0],  // it dies
            [16, 0, 0, 0],  // a call fails
            [27, 0, 0, 0],  // and it is dropped
            [20, 0, 0, 0],  // there is nothing to remove
            [8, 1, 8, 0],   // b, which never answers
            [20, 1, 0, 0],  // is removed while it connects
            [8, 2, 0, 255], // c and http together
            [8, 3, 0, 0],
            [29, 0, 0, 0], // the host is dropped
        ];
        let lifecycle = on_a_host(&lifecycle_of(&bytes.concat()), "generated");
        let words: Vec<String> = lifecycle
            .steps
            .iter()
            .map(|step| {
                let fails = if step.fails { ", refused" } else { "" };
                format!("{} {}{fails}", step.connection, step.action.name())
            })
            .collect();
        let expected = [
            "main start",
            "a add plain",
            "a add plain, refused",
            "a kill server",
            "a call echo, refused",
            "main health",
            "a wait-for gone",
            "a remove, refused",
            "b add never-answers",
            "b remove",
            "main concurrently",
            "http remove",
            "main drop",
            "main start",
        ];
        assert_eq!(words, expected);
    }
}
