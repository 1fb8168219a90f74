//! The servers that a client has started: what befell each of them.

use std::time::{Duration, Instant};

use crate::ledger::snapshot::ProcessId;
use crate::ledger::verdict::StepRef;
use crate::peer::report::Report;

/// Most messages of one server that are remembered.
const MOST_METHODS: usize = 1_000;
/// The rung that nobody sees coming.
const KILL: &str = "SIGKILL";

/// One server that was started.
#[derive(Debug)]
pub struct Server {
    /// Which connection to the channel it is.
    pub start: usize,
    /// Which of the client's servers, from 0.
    pub number: usize,
    /// Which fake, by name.
    pub fake: String,
    /// Which process; none where it was gone before it could be identified.
    pub id: Option<ProcessId>,
    /// Its parent when it was born, the client or what the client started.
    pub parent: Option<ProcessId>,
    /// The step in which it was born.
    pub born: StepRef,
    /// The pipe that is its stdin, by inode; none where it is none.
    pub stdin: Option<u64>,
    /// The pipes that are its three streams, by inode, with its number; those that are pipes.
    pub streams: Vec<(i32, u64)>,
    /// A message has come.
    pub has_heard: bool,
    /// Methods of the messages that came, in order.
    pub methods: Vec<String>,
    /// When its stdin ended.
    pub stdin_ended: Option<Instant>,
    /// Signals that came, and when.
    pub signals: Vec<(String, Instant)>,
    /// It left of its own accord.
    pub left: bool,
    /// When its end was seen.
    pub gone: Option<Instant>,
}

/// One rung of the ladder by which a client ends a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// `end of stdin`, or a signal.
    pub name: String,
    /// How long after the rung before it; zero for the first.
    pub after: Duration,
}

impl Server {
    /// Takes in a report that is not its birth.
    pub fn heard(&mut self, report: Report, at: Instant) {
        match report {
            Report::Born { .. } | Report::Passed { .. } | Report::Http(_) => {}
            Report::Heard { method, .. } => {
                if self.methods.len() < MOST_METHODS {
                    self.methods.extend(method);
                }
            }
            Report::StdinEnded => self.stdin_ended = Some(at),
            Report::Signalled { name } => self.signals.push((name, at)),
            Report::Leaving { .. } => self.left = true,
        }
    }

    /// Its end has been seen.
    pub fn ended(&mut self, at: Instant, deaf: bool) {
        self.gone = Some(at);
        // A signal at its default action is told, and then ends it.
        let by_a_signal = !self.signals.is_empty() && !deaf;
        if !self.left && !by_a_signal {
            self.signals.push((KILL.to_owned(), at));
        }
    }

    /// It heard a message with this method.
    pub fn knows(&self, method: &str) -> bool {
        self.methods.iter().any(|heard| heard == method)
    }

    /// What its client did to end it, in order.
    pub fn ladder(&self) -> Vec<Rung> {
        let stdin = self.stdin_ended.map(|at| ("end of stdin".to_owned(), at));
        let mut rungs: Vec<(String, Instant)> =
            stdin.into_iter().chain(self.signals.iter().cloned()).collect();
        rungs.sort_by_key(|(_, at)| *at);
        let times: Vec<Instant> = rungs.iter().map(|(_, at)| *at).collect();
        rungs
            .into_iter()
            .enumerate()
            .map(|(place, (name, at))| Rung {
                name,
                after: place.checked_sub(1).map_or(Duration::ZERO, |before| at - times[before]),
            })
            .collect()
    }

    /// The same in words; none where nothing was done.
    pub fn ladder_words(&self) -> Option<String> {
        let mut words = String::new();
        for rung in self.ladder() {
            if words.is_empty() {
                words.push_str(&rung.name);
            } else {
                words.push_str(&format!(", {} {:.1} s later", rung.name, rung.after.as_secs_f64()));
            }
        }
        (!words.is_empty()).then_some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            start: 0,
            number: 0,
            fake: "plain".into(),
            id: None,
            parent: None,
            born: StepRef { place: "2".into(), name: "client starts server".into(), cycle: None },
            stdin: None,
            streams: Vec::new(),
            has_heard: false,
            methods: Vec::new(),
            stdin_ended: None,
            signals: Vec::new(),
            left: false,
            gone: None,
        }
    }

    #[test]
    fn a_ladder_is_told_with_its_times() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut server = server();
        server.heard(Report::StdinEnded, after(1));
        server.heard(Report::Signalled { name: "SIGTERM".into() }, after(3));
        server.ended(after(6), true);
        let words = server.ladder_words();
        assert_eq!(
            words.as_deref(),
            Some("end of stdin, SIGTERM 2.0 s later, SIGKILL 3.0 s later")
        );
    }

    #[test]
    fn an_end_without_a_word_is_a_kill_and_an_exit_is_none() {
        let now = Instant::now();
        let mut killed = server();
        killed.ended(now, false);
        assert_eq!(killed.ladder()[0].name, "SIGKILL");
        let mut left = server();
        left.heard(Report::Leaving { code: 0 }, now);
        left.ended(now, false);
        assert!(left.ladder().is_empty());
        let mut terminated = server();
        terminated.heard(Report::Signalled { name: "SIGTERM".into() }, now);
        terminated.ended(now, false);
        assert_eq!(terminated.ladder().len(), 1);
    }
}
