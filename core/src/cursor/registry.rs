//! Which cursors there are: one row each, one way in, one way out. No I/O.

use std::{
    collections::{BTreeMap, HashMap},
    panic::Location,
    sync::Arc,
};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{CursorError, Id, Settings, WhenFull};
use crate::census::{Census, Kind, Row};

/// Changes of one owner's payloads take turns, so that a store sees them one after the other.
pub(super) type Turn = Arc<AsyncMutex<()>>;

pub(super) struct Registry {
    census: Census,
    phase: Phase,
    sessions: HashMap<Arc<str>, Session>,
    /// Ended sessions whose payloads may still be in the store, oldest first.
    ended: BTreeMap<u64, Ended>,
    next_number: u64,
    bytes: usize,
    given_up: u64,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Closed,
}

pub(super) struct Session {
    opened_at: &'static Location<'static>,
    pub(super) owner: Id,
    pub(super) turn: Turn,
    cursors: HashMap<Id, Cursor>,
}

struct Cursor {
    number: u64,
    bytes: usize,
    expires_at: Instant,
    /// The store has confirmed it and nobody has begun to remove it.
    readable: bool,
    _row: Row,
}

/// A session that has ended.
pub(super) struct Ended {
    pub(super) session: Arc<str>,
    pub(super) owner: Id,
    pub(super) turn: Turn,
    pub(super) cursors: usize,
    bytes: usize,
    /// A removal was tried and did not succeed.
    failed: bool,
    row: Row,
}

/// What a new cursor meets.
pub(super) enum Admission {
    /// It is entered, and readable once [`Registry::confirm`] is called.
    Entered,
    /// These have to leave the store first.
    After(Vec<Id>),
}

impl Registry {
    pub(super) fn new(census: &Census) -> Self {
        Self {
            census: census.clone(),
            phase: Phase::Open,
            sessions: HashMap::new(),
            ended: BTreeMap::new(),
            next_number: 0,
            bytes: 0,
            given_up: 0,
        }
    }

    pub(super) fn open(
        &mut self,
        session: Arc<str>,
        owner: Id,
        opened_at: &'static Location<'static>,
    ) -> Result<(), CursorError> {
        self.check_open()?;
        if self.sessions.contains_key(&session) {
            return Err(CursorError::SessionExists { session });
        }
        let (turn, cursors) = (Turn::default(), HashMap::new());
        let opened = Session { opened_at, owner, turn, cursors };
        self.sessions.insert(session, opened);
        Ok(())
    }

    pub(super) fn session(&self, session: &str) -> Result<&Session, CursorError> {
        self.check_open()?;
        self.sessions.get(session).ok_or_else(|| CursorError::NoSession { session: session.into() })
    }

    /// Enters a cursor, or says what has to go first. Nothing of this session's may be on its way to
    /// the store: the caller has its turn.
    pub(super) fn admit(
        &mut self,
        session: &Arc<str>,
        owner: Id,
        cursor: Id,
        bytes: usize,
        settings: &Settings,
        opened_at: &'static Location<'static>,
    ) -> Result<Admission, CursorError> {
        self.check_open()?;
        let now = Instant::now();
        let held = self.bytes;
        let number = self.next_number;
        let Some(found) = self.of(session, owner) else {
            return Err(CursorError::NoSession { session: Arc::clone(session) });
        };
        let limit = settings.cursors_per_session;
        if found.cursors.len() >= limit {
            let mut victims = found.dead(now);
            if victims.is_empty() {
                if settings.when_full == WhenFull::Refuse {
                    return Err(CursorError::SessionFull { session: Arc::clone(session), limit });
                }
                let oldest = found.cursors.iter().min_by_key(|(_, cursor)| cursor.number);
                victims.extend(oldest.map(|(id, _)| *id));
            }
            for victim in &victims {
                found.hide(*victim);
            }
            return Ok(Admission::After(victims));
        }
        let limit = settings.total_bytes;
        if held.saturating_add(bytes) > limit {
            return Err(CursorError::TotalFull { held, bytes, limit });
        }
        let row = self.census.enter(
            Kind::Cursor,
            Arc::clone(session),
            format!("{bytes} bytes"),
            opened_at,
        );
        let expires_at = now + settings.ttl;
        let entered = Cursor { number, bytes, expires_at, readable: false, _row: row };
        if let Some(found) = self.of(session, owner) {
            found.cursors.insert(cursor, entered);
        }
        self.bytes += bytes;
        self.next_number += 1;
        Ok(Admission::Entered)
    }

    /// The store has it; false when the session ended meanwhile.
    pub(super) fn confirm(&mut self, session: &str, owner: Id, cursor: Id) -> bool {
        let found = self.of(session, owner).and_then(|found| found.cursors.get_mut(&cursor));
        found.map(|cursor| cursor.readable = true).is_some()
    }

    /// The owner of a cursor that may be read now.
    pub(super) fn readable(&self, session: &str, cursor: Id) -> Option<Id> {
        let found = self.sessions.get(session)?;
        let cursor = found.cursors.get(&cursor)?;
        (cursor.readable && cursor.expires_at > Instant::now()).then_some(found.owner)
    }

    /// From now on nobody reads it; it stays entered until the store has forgotten it.
    pub(super) fn hide(&mut self, session: &str, cursor: Id) -> Option<Id> {
        let found = self.sessions.get_mut(session)?;
        found.hide(cursor).then_some(found.owner)
    }

    /// The one removal of single cursors: the store has forgotten them.
    pub(super) fn forget(&mut self, session: &str, owner: Id, cursors: &[Id]) {
        let Some(found) = self.of(session, owner) else {
            return;
        };
        let gone = cursors.iter().filter_map(|cursor| found.cursors.remove(cursor));
        let bytes: usize = gone.map(|cursor| cursor.bytes).sum();
        self.bytes -= bytes;
    }

    /// The one removal of sessions. What they held waits in the list of ended ones, under the returned
    /// number, until [`settle`](Self::settle).
    pub(super) fn end(&mut self, session: &str) -> Option<u64> {
        let (session, ended) = self.sessions.remove_entry(session)?;
        let Session { opened_at, owner, turn, cursors } = ended;
        if cursors.is_empty() {
            return None;
        }
        let state = format!("{} of an ended session", cursors.len());
        let ended = Ended {
            row: self.census.enter(Kind::Cursor, Arc::clone(&session), state, opened_at),
            session,
            owner,
            turn,
            bytes: cursors.values().map(|cursor| cursor.bytes).sum(),
            cursors: cursors.len(),
            failed: false,
        };
        let number = self.next_number;
        self.next_number += 1;
        self.ended.insert(number, ended);
        Some(number)
    }

    pub(super) fn ended(&self, number: u64) -> Option<&Ended> {
        self.ended.get(&number)
    }

    /// The numbers of all ended sessions, oldest first.
    pub(super) fn all_ended(&self) -> Vec<u64> {
        self.ended.keys().copied().collect()
    }

    /// The store holds nothing of this session any more, or is given up.
    pub(super) fn settle(&mut self, number: u64) {
        if let Some(ended) = self.ended.remove(&number) {
            self.bytes -= ended.bytes;
        }
    }

    /// A removal did not succeed; beyond the limit the oldest such session is given up.
    pub(super) fn postpone(&mut self, number: u64, limit: usize) {
        let Some(ended) = self.ended.get_mut(&number) else {
            return;
        };
        ended.failed = true;
        ended.row.set_state(format!("{} wait for the sweep", ended.cursors));
        let failed: Vec<u64> = self.failed().collect();
        for number in failed.iter().take(failed.len().saturating_sub(limit)) {
            if let Some(ended) = self.ended.get(number) {
                tracing::warn!(
                    session = %ended.session, cursors = ended.cursors,
                    "removal given up: too many ended sessions wait for the store"
                );
            }
            self.settle(*number);
            self.given_up += 1;
        }
    }

    /// The sessions with cursors that are over, or were never confirmed.
    pub(super) fn with_dead(&self) -> Vec<(Arc<str>, Id, Turn)> {
        sabotaged!(CursorsKeptOnExpiry => return Vec::new());
        let now = Instant::now();
        self.sessions
            .iter()
            .filter(|(_, session)| session.cursors.values().any(|cursor| cursor.is_dead(now)))
            .map(|(name, session)| (Arc::clone(name), session.owner, Arc::clone(&session.turn)))
            .collect()
    }

    /// Those cursors of one of them.
    pub(super) fn dead(&mut self, session: &str, owner: Id) -> Vec<Id> {
        self.of(session, owner).map_or(Vec::new(), |found| found.dead(Instant::now()))
    }

    /// No more sessions and cursors; the names of the sessions that are open.
    pub(super) fn close(&mut self) -> Vec<Arc<str>> {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
        }
        self.sessions.keys().cloned().collect()
    }

    /// The end: every row goes. How many cursors may still be in the store.
    pub(super) fn abandon(&mut self) -> usize {
        self.phase = Phase::Closed;
        self.bytes = 0;
        let open: usize = self.sessions.drain().map(|(_, session)| session.cursors.len()).sum();
        let ended = std::mem::take(&mut self.ended);
        open + ended.values().map(|ended| ended.cursors).sum::<usize>()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(super) fn check_open(&self) -> Result<(), CursorError> {
        if self.phase == Phase::Open { Ok(()) } else { Err(CursorError::Closed) }
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            sessions: self.sessions.len(),
            cursors: self.sessions.values().map(|session| session.cursors.len()).sum(),
            bytes: self.bytes,
            waiting: self.failed().count(),
            given_up: self.given_up,
        }
    }

    fn failed(&self) -> impl Iterator<Item = u64> {
        self.ended.iter().filter(|(_, ended)| ended.failed).map(|(number, _)| *number)
    }

    /// The session of this name, if it is still the one with this owner.
    fn of(&mut self, session: &str, owner: Id) -> Option<&mut Session> {
        self.sessions.get_mut(session).filter(|session| session.owner == owner)
    }
}

impl Session {
    fn hide(&mut self, cursor: Id) -> bool {
        self.cursors.get_mut(&cursor).map(|cursor| cursor.readable = false).is_some()
    }

    fn dead(&self, now: Instant) -> Vec<Id> {
        self.cursors.iter().filter(|(_, cursor)| cursor.is_dead(now)).map(|(id, _)| *id).collect()
    }
}

impl Cursor {
    fn is_dead(&self, now: Instant) -> bool {
        !self.readable || self.expires_at <= now
    }
}

/// What [`Cursors`](super::Cursors) hold at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Open sessions.
    pub sessions: usize,
    /// Their cursors, expired ones that have not been swept included.
    pub cursors: usize,
    /// The payloads of these and of sessions that wait, in bytes.
    pub bytes: usize,
    /// Ended sessions whose payloads wait in the store for the sweep.
    pub waiting: usize,
    /// Ended sessions whose payloads were left to their time to live, because too many waited.
    pub given_up: u64,
}
