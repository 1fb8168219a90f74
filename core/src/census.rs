//! A printable inventory of everything alive, with where it was opened.
//!
//! A host makes one [`Census`] and hands clones to whatever it opens; there is no global one. A row
//! is put in once, when the thing is born, and taken out once, when its guard [`Row`] is dropped: a
//! test ends with [`Census::is_empty`].

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    panic::Location,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many drops without close are remembered by name; all are counted.
const REMEMBERED_DROPS: usize = 64;

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A child process and its group; the row goes when the process has been reaped.
    Process,
    /// The pipes of a connection; the row goes when they are closed.
    Connection,
    /// A task of a [`TaskScope`](crate::scope::TaskScope).
    Task,
    /// A named server of a host, from its registration to its removal.
    Server,
    /// A session of Streamable HTTP, on either side.
    Session,
    /// A stream of events that is open to a client or from a server.
    Stream,
    /// A socket, of a listener of ours or to a server, until it is closed.
    Socket,
    /// Pagination state of a session.
    Cursor,
    /// The process that outlives the host.
    Guard,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Process => "process",
            Kind::Connection => "connection",
            Kind::Task => "task",
            Kind::Server => "server",
            Kind::Session => "session",
            Kind::Stream => "stream",
            Kind::Socket => "socket",
            Kind::Cursor => "cursor",
            Kind::Guard => "guard",
        })
    }
}

/// One thing that is alive, as it was at the moment of asking.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its own in this census, never given out again.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// Its name: the server's name, the task's name.
    pub name: Arc<str>,
    /// What it is doing, in a word or two; a process also tells its pid here.
    pub state: Arc<str>,
    /// The line of the program that opened it.
    pub opened_at: &'static Location<'static>,
    /// How long it has been alive.
    pub age: Duration,
}

/// Something that was dropped although it should have been closed.
#[derive(Clone, Debug)]
pub struct DroppedWithoutClose {
    /// What it was.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// The line of the program that opened it.
    pub opened_at: &'static Location<'static>,
}

/// The inventory. Clones share it.
#[derive(Clone, Default)]
pub struct Census {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    next_number: u64,
    rows: BTreeMap<u64, Stored>,
    drops: VecDeque<DroppedWithoutClose>,
    drop_count: u64,
}

struct Stored {
    kind: Kind,
    name: Arc<str>,
    state: Arc<str>,
    opened_at: &'static Location<'static>,
    since: Instant,
}

impl Census {
    /// An empty inventory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a row in. Dropping the returned guard takes it out.
    pub fn enter(
        &self,
        kind: Kind,
        name: impl Into<Arc<str>>,
        state: impl Into<Arc<str>>,
        opened_at: &'static Location<'static>,
    ) -> Row {
        let stored = Stored {
            kind,
            name: name.into(),
            state: state.into(),
            opened_at,
            since: Instant::now(),
        };
        let mut inner = self.lock();
        let number = inner.next_number;
        inner.next_number += 1;
        inner.rows.insert(number, stored);
        Row { census: self.clone(), number }
    }

    /// Is nothing alive?
    pub fn is_empty(&self) -> bool {
        self.lock().rows.is_empty()
    }

    /// How many things are alive.
    pub fn len(&self) -> usize {
        self.lock().rows.len()
    }

    /// Everything alive, oldest first.
    pub fn rows(&self) -> Vec<Entry> {
        let inner = self.lock();
        inner
            .rows
            .iter()
            .map(|(number, stored)| Entry {
                number: *number,
                kind: stored.kind,
                name: Arc::clone(&stored.name),
                state: Arc::clone(&stored.state),
                opened_at: stored.opened_at,
                age: stored.since.elapsed(),
            })
            .collect()
    }

    /// How many things were dropped although they should have been closed.
    pub fn dropped_without_close(&self) -> u64 {
        self.lock().drop_count
    }

    /// The latest 64 of them, oldest first.
    pub fn drops(&self) -> Vec<DroppedWithoutClose> {
        self.lock().drops.iter().cloned().collect()
    }

    pub(crate) fn record_drop(&self, dropped: DroppedWithoutClose) {
        let mut inner = self.lock();
        inner.drop_count += 1;
        if inner.drops.len() == REMEMBERED_DROPS {
            inner.drops.pop_front();
        }
        inner.drops.push_back(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        if rows.is_empty() {
            return f.write_str("nothing is alive");
        }
        write!(f, "{} alive", rows.len())?;
        for row in rows {
            write!(
                f,
                "\n{:<11} {:<24} {:<24} {:>8.1} s  opened at {}",
                row.kind,
                row.name,
                row.state,
                row.age.as_secs_f64(),
                row.opened_at
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Census({self})")
    }
}

/// The guard of one row: while it lives, the row is in the census.
#[must_use = "the row leaves the census when this guard is dropped"]
pub struct Row {
    census: Census,
    number: u64,
}

impl Row {
    /// Changes what the row says the thing is doing.
    pub fn set_state(&self, state: impl Into<Arc<str>>) {
        let state = state.into();
        if let Some(stored) = self.census.lock().rows.get_mut(&self.number) {
            stored.state = state;
        }
    }

    /// Leaves the row in the census for good, because the thing could not be ended.
    pub(crate) fn abandon(self, state: impl Into<Arc<str>>) {
        self.set_state(state);
        std::mem::forget(self);
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.census.lock().rows.remove(&self.number);
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({})", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_drops_are_kept_and_all_are_counted() {
        let census = Census::new();
        for number in 1..=REMEMBERED_DROPS + 2 {
            census.record_drop(DroppedWithoutClose {
                kind: Kind::Session,
                name: number.to_string().into(),
                opened_at: Location::caller(),
            });
            assert_eq!(census.dropped_without_close(), number as u64);
            assert_eq!(census.drops().len(), number.min(REMEMBERED_DROPS));
        }
        assert_eq!(&*census.drops()[0].name, "3", "the oldest go first");
    }

    #[test]
    fn a_row_that_was_abandoned_stays_for_good() {
        let census = Census::new();
        let row = census.enter(Kind::Session, "page", "open", Location::caller());
        assert!(!census.is_empty());
        assert_eq!(format!("{row:?}"), "Row(0)");
        row.abandon("could not be deleted");
        assert_eq!(&*census.rows()[0].state, "could not be deleted");
        assert!(format!("{census:?}").starts_with("Census(1 alive\n"), "{census:?}");
    }
}
