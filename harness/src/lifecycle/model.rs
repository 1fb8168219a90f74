//! What must exist after each step of a generated lifecycle.
//!
//! The model sees what is alive as plain rows of kind and name, as the census probe gives them, and
//! knows nothing of the core but its settings and what its documentation promises. Where an end is
//! under way, a thing may be there or not; everywhere else it must, or must not. What nobody expects
//! must not exist at all.

mod host;
mod service;

use std::collections::BTreeMap;
use std::fmt;

use super::generate::Act;
use host::Host;
use service::Service;

/// How far a moment may be off, because every step takes a moment itself, in milliseconds.
const SLACK_MS: u64 = 30;

/// The waits of the subject, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Opening and handshake of a server.
    pub connect: u64,
    /// The end of a server that does not end its own stream.
    pub end_grace: u64,
    /// From the birth of a session to the end of its handshake.
    pub handshake: u64,
    /// How long a session may go unused.
    pub idle: u64,
    /// How long a request may run.
    pub request: u64,
    /// Between two looks for sessions that are over.
    pub session_sweep: u64,
    /// The longest end of a session whose handlers and cleanup do not hang.
    pub session_end: u64,
    /// What handlers that hang add to it.
    pub handler_end: u64,
    /// How long a call of the store may take.
    pub store: u64,
    /// Between two sweeps of the cursors.
    pub cursor_sweep: u64,
    /// How long a cursor lives.
    pub cursor_ttl: u64,
    /// How many cursors a session may have.
    pub cursors: usize,
}

/// The kinds of things that the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// A named server of the host.
    Server,
    /// Its streams.
    Connection,
    /// A session.
    Session,
    /// A stream of a session.
    Stream,
    /// A cursor, or what is left of an ended session's.
    Cursor,
    /// A task.
    Task,
    /// Something that none of the lifecycles opens.
    Other,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sort::Server => "server",
            Sort::Connection => "connection",
            Sort::Session => "session",
            Sort::Stream => "stream",
            Sort::Cursor => "cursor",
            Sort::Task => "task",
            Sort::Other => "thing of another kind",
        })
    }
}

/// Something alive, as the census tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// What it is.
    pub sort: Sort,
    /// Its name, with sessions numbered by their places.
    pub name: String,
    /// What it is doing, for the message.
    pub state: String,
    /// Where it was opened, for the message.
    pub opened_at: String,
}

/// How many things of a sort and name there must be at least, and may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Range {
    pub(super) least: usize,
    pub(super) most: usize,
}

impl Range {
    pub(super) const ONE: Range = Range { least: 1, most: 1 };
    pub(super) const MAYBE: Range = Range { least: 0, most: 1 };

    pub(super) fn up_to(most: usize) -> Self {
        Self { least: 0, most }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (0, 0) => f.write_str("none"),
            (least, most) if least == most => write!(f, "{least}"),
            (least, most) => write!(f, "{least} to {most}"),
        }
    }
}

/// Everything that must or may exist.
pub(super) type Expected = BTreeMap<(Sort, String), Range>;

/// What the model and the census do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub sort: Sort,
    /// Its name.
    pub name: String,
    /// There are more than there may be.
    pub is_left: bool,
    /// How many the model expects.
    pub expected: String,
    /// Those that the census has.
    pub alive: Vec<Alive>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sort, name, found) = (self.sort, &self.name, self.alive.len());
        write!(f, "{sort} `{name}`: the model expects {}, the census has {found}", self.expected)?;
        for alive in &self.alive {
            write!(f, "\n  {}, opened at {}", alive.state, alive.opened_at)?;
        }
        Ok(())
    }
}

/// The model of one lifecycle.
#[derive(Debug)]
pub struct Model {
    host: Host,
    service: Service,
}

impl Model {
    /// Nothing but what a host and a service are with nothing in them.
    pub fn new(waits: Waits) -> Self {
        Self { host: Host::new(waits), service: Service::new(waits) }
    }

    /// A step begins at this moment, in milliseconds since the beginning; `is_quiet` when what was
    /// begun before has come as far as it comes without time. `false` if it cannot be played: there
    /// is a session in its place already.
    pub fn begin(&mut self, act: Act, now_ms: u64, is_quiet: bool) -> bool {
        self.pass(now_ms);
        if !self.service.can(act) {
            return false;
        }
        self.host.begin(act, now_ms, is_quiet);
        self.service.begin(act, now_ms, is_quiet);
        true
    }

    /// Time has passed.
    pub fn pass(&mut self, now_ms: u64) {
        self.host.pass(now_ms);
        self.service.pass(now_ms);
    }

    /// Compares what is alive at this moment with what must be.
    pub fn compare(&mut self, alive: &[Alive], now_ms: u64) -> Vec<Difference> {
        self.pass(now_ms);
        let mut expected = Expected::new();
        self.host.expect(&mut expected, now_ms, alive);
        self.service.expect(&mut expected, now_ms);
        differences(&expected, alive)
    }
}

/// What is left when everything was told to end.
pub fn nothing(alive: &[Alive]) -> Vec<Difference> {
    differences(&Expected::new(), alive)
}

fn differences(expected: &Expected, alive: &[Alive]) -> Vec<Difference> {
    let mut found: BTreeMap<(Sort, &str), Vec<&Alive>> = BTreeMap::new();
    for one in alive {
        found.entry((one.sort, &one.name)).or_default().push(one);
    }
    for (sort, name) in expected.keys() {
        found.entry((*sort, name)).or_default();
    }
    let differ = |((sort, name), alive): ((Sort, &str), Vec<&Alive>)| {
        let range = expected.get(&(sort, name.to_owned())).copied().unwrap_or_default();
        let agrees = (range.least..=range.most).contains(&alive.len());
        (!agrees).then(|| Difference {
            sort,
            name: name.to_owned(),
            is_left: alive.len() > range.most,
            expected: range.to_string(),
            alive: alive.into_iter().cloned().collect(),
        })
    };
    found.into_iter().filter_map(differ).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(sort: Sort, name: &str) -> Alive {
        let (state, opened_at) = ("open".into(), "src/x.rs:1".into());
        Alive { sort, name: name.into(), state, opened_at }
    }

    #[test]
    fn too_few_too_many_and_unexpected_things_differ() {
        let mut expected = Expected::new();
        expected.insert((Sort::Server, "a".into()), Range::ONE);
        expected.insert((Sort::Task, "a".into()), Range::MAYBE);
        let row = alive;
        assert_eq!(differences(&expected, &[row(Sort::Server, "a")]), []);
        assert_eq!(differences(&expected, &[row(Sort::Server, "a"), row(Sort::Task, "a")]), []);
        let wrong = [row(Sort::Task, "a"), row(Sort::Task, "a"), row(Sort::Cursor, "c")];
        let words: Vec<String> =
            differences(&expected, &wrong).iter().map(Difference::to_string).collect();
        assert_eq!(
            words,
            [
                "server `a`: the model expects 1, the census has 0",
                "cursor `c`: the model expects none, the census has 1\n  open, opened at src/x.rs:1",
                "task `a`: the model expects 0 to 1, the census has 2\n  open, opened at \
                 src/x.rs:1\n  open, opened at src/x.rs:1",
            ]
        );
    }
}
