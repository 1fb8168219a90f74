//! The service's half of the model: sessions, their streams and handlers, and their cursors.

use super::{Expected, Range, SLACK_MS, Sort, Waits};
use crate::lifecycle::generate::{Act, Mood, Opening, PLACES, Place, Tool};

/// The sessions of a service, and the store of their cursors.
#[derive(Debug)]
pub(super) struct Service {
    waits: Waits,
    sessions: [Session; PLACES],
    is_open: bool,
    /// Until when the sweepers of services that are closing may be there.
    sweepers: Vec<u64>,
    /// The store works, and since when.
    works_since: Option<u64>,
}

#[derive(Clone, Debug)]
struct Session {
    phase: Phase,
    /// Streams that the client holds open.
    listening: usize,
    /// When requests were begun that never end by themselves.
    hanging: Vec<u64>,
    /// Until when handlers that were cancelled may be there.
    handlers_by: u64,
    cursors: Cursors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Absent,
    /// Without the end of its handshake, since then.
    Half {
        since: u64,
    },
    /// Used last at that moment.
    Active {
        used: u64,
    },
    /// Gone by then.
    Closing {
        by: u64,
    },
}

/// The cursors of a session, those of the time before it included.
#[derive(Clone, Debug, Default)]
struct Cursors {
    /// Those that were begun to be kept and may be there.
    born: Vec<Born>,
    /// Whether all of them were kept, in the session that is open, and none was removed since.
    sure: bool,
    /// Nobody reads them any more since then.
    ended_at: Option<u64>,
}

/// A cursor.
#[derive(Clone, Copy, Debug)]
struct Born {
    at: u64,
    /// Its session went without its end being told.
    is_orphan: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            phase: Phase::Absent,
            listening: 0,
            hanging: Vec::new(),
            handlers_by: 0,
            cursors: Cursors { sure: true, ..Cursors::default() },
        }
    }
}

impl Service {
    pub(super) fn new(waits: Waits) -> Self {
        Self {
            waits,
            sessions: Default::default(),
            is_open: true,
            sweepers: Vec::new(),
            works_since: Some(0),
        }
    }

    pub(super) fn pass(&mut self, now: u64) {
        for place in 0..PLACES {
            let session = &self.sessions[place];
            let end = self.end_takes(session);
            let tick = self.waits.session_sweep;
            let over = match session.phase {
                Phase::Half { since } => Some(since + self.waits.handshake),
                Phase::Active { used } => match session.hanging.iter().min() {
                    Some(oldest) => Some(oldest + self.waits.request),
                    None => Some(used + self.waits.idle),
                },
                _ => None,
            };
            if let Some(over) = over.filter(|over| now + SLACK_MS >= *over) {
                self.close(place, over, over + tick + end);
            }
            let session = &mut self.sessions[place];
            if matches!(session.phase, Phase::Closing { by } if now > by) {
                session.phase = Phase::Absent;
                session.listening = 0;
            }
        }
        self.sweepers.retain(|by| now <= *by);
        let works_since = self.works_since;
        for session in &mut self.sessions {
            session.cursors.pass(works_since, now, &self.waits);
        }
    }

    /// There is one session in each place.
    pub(super) fn can(&self, act: Act) -> bool {
        match act {
            Act::Open(place, _) => self.sessions[place].phase == Phase::Absent,
            _ => true,
        }
    }

    pub(super) fn begin(&mut self, act: Act, now: u64, is_quiet: bool) {
        let place = match act {
            Act::Request(place, _)
            | Act::Listen(place)
            | Act::Disconnect(place)
            | Act::Delete(place)
            | Act::Evict(place)
            | Act::Put(place)
            | Act::Read(place)
            | Act::Take(place) => Some(place),
            _ => None,
        };
        if let Some(place) = place.filter(|_| !is_quiet) {
            // What it meets is not sure; it ends at the latest when it has gone unused.
            let hangs = matches!(act, Act::Request(_, Tool::Hang));
            self.loosen(place, now, hangs || !self.sessions[place].hanging.is_empty());
        }
        match act {
            Act::Open(place, how) => self.open(place, how, now),
            Act::Request(place, tool) => self.request(place, tool, now),
            Act::Listen(place) => {
                let session = &mut self.sessions[place];
                match session.phase {
                    Phase::Active { .. } => {
                        session.phase = Phase::Active { used: now };
                        session.listening += 1;
                    }
                    Phase::Half { .. } | Phase::Closing { .. } => {
                        session.listening += 1;
                        self.loosen(place, now, false);
                    }
                    Phase::Absent => {}
                }
            }
            Act::Disconnect(place) => self.sessions[place].listening = 0,
            Act::Delete(place) | Act::Evict(place) => self.end(place, now, 0),
            Act::CloseSessions => self.end_all(now),
            Act::DropSessions if self.is_open => {
                self.is_open = false;
                self.sweepers.push(now + SLACK_MS);
                for place in 0..PLACES {
                    self.end(place, now, 0);
                    // The owner did not clean up, so its cursors stay until their time is over.
                    for cursor in &mut self.sessions[place].cursors.born {
                        cursor.is_orphan = true;
                    }
                }
            }
            Act::Put(place) => {
                let works = self.works_since.is_some();
                let session = &mut self.sessions[place];
                let is_active = matches!(session.phase, Phase::Active { .. });
                let cursors = &mut session.cursors;
                if session.phase != Phase::Absent {
                    cursors.sure &= works && is_active;
                    cursors.born.push(Born { at: now, is_orphan: false });
                }
            }
            Act::Take(place) => self.sessions[place].cursors.sure = false,
            Act::Sweep => {}
            Act::Store(Mood::Works) => {
                self.works_since = self.works_since.or(Some(now));
            }
            Act::Store(_) => {
                self.works_since = None;
                // An end that was sure to be quick has the store to wait for now.
                let longer = self.store_takes();
                for session in &mut self.sessions {
                    if let Phase::Closing { by } = &mut session.phase {
                        *by += longer;
                        let ended_at = &mut session.cursors.ended_at;
                        *ended_at = ended_at.map(|ended_at| ended_at.max(*by));
                    }
                }
                self.sweepers.iter_mut().for_each(|by| *by += longer);
            }
            _ => {}
        }
    }

    fn open(&mut self, place: Place, how: Opening, now: u64) {
        self.is_open = true;
        let waits = self.waits;
        let session = &mut self.sessions[place];
        session.phase = match how {
            Opening::Whole => Phase::Active { used: now },
            Opening::Half => Phase::Half { since: now },
            // As far as it came: not at all, half the handshake, or all of it.
            Opening::GivenUp(_) => Phase::Closing {
                by: now + waits.idle + waits.session_sweep + waits.session_end + SLACK_MS,
            },
        };
        session.listening = 0;
        session.hanging.clear();
        let cursors = &mut session.cursors;
        cursors.sure = cursors.born.is_empty() && how == Opening::Whole;
        if cursors.sure {
            cursors.ended_at = None;
        }
    }

    fn request(&mut self, place: Place, tool: Tool, now: u64) {
        match self.sessions[place].phase {
            Phase::Active { .. } => {
                let session = &mut self.sessions[place];
                session.phase = Phase::Active { used: now };
                match tool {
                    Tool::Echo => {}
                    Tool::Hang => session.hanging.push(now),
                    Tool::Panic => self.end(place, now, self.waits.session_sweep),
                }
            }
            // rmcp ends a session whose client asks before its handshake is done, or it lives on.
            Phase::Half { .. } | Phase::Closing { .. } => {
                self.loosen(place, now, tool == Tool::Hang);
            }
            Phase::Absent => {}
        }
    }

    /// From now on nobody knows whether the session is there, until it must have ended unused.
    fn loosen(&mut self, place: Place, now: u64, hangs: bool) {
        if self.sessions[place].phase == Phase::Absent {
            return;
        }
        let waits = self.waits;
        let longest = if hangs { waits.request + waits.handler_end } else { waits.idle };
        let end = self.end_takes(&self.sessions[place]);
        let by = now + longest + waits.session_sweep + end;
        self.close(place, now, by);
        if hangs {
            let session = &mut self.sessions[place];
            session.handlers_by = session.handlers_by.max(by + waits.handler_end);
        }
    }

    /// How long the end of this session takes.
    fn end_takes(&self, session: &Session) -> u64 {
        let handlers = if session.hanging.is_empty() { 0 } else { self.waits.handler_end };
        // Who asked the store before its mood changed is waited for, too.
        let store = if self.works_since == Some(0) { 0 } else { self.store_takes() };
        self.waits.session_end + handlers + store + SLACK_MS
    }

    /// How long a cleanup takes that waits for whoever asks the store, and then asks it.
    fn store_takes(&self) -> u64 {
        2 * self.waits.store + SLACK_MS
    }

    fn end(&mut self, place: Place, now: u64, found_in: u64) {
        let takes = self.end_takes(&self.sessions[place]);
        self.close(place, now, now + found_in + takes);
    }

    /// The end of a session begins at the one moment, and is over at the other.
    fn close(&mut self, place: Place, from: u64, by: u64) {
        let handler_end = self.waits.handler_end;
        let session = &mut self.sessions[place];
        let by = match session.phase {
            Phase::Absent => return,
            // The first end counts; another one waits for it.
            Phase::Closing { by: first } => first.max(by),
            _ => by,
        };
        if !session.hanging.is_empty() {
            session.handlers_by = session.handlers_by.max(by + handler_end);
        }
        session.phase = Phase::Closing { by };
        session.hanging.clear();
        session.cursors.sure = false;
        session.cursors.ended_at = Some(session.cursors.ended_at.unwrap_or(from).max(by));
    }

    fn end_all(&mut self, now: u64) {
        if !self.is_open {
            return;
        }
        self.is_open = false;
        let mut longest = now;
        for place in 0..PLACES {
            // Requests that run have a time to answer first.
            let hangs = !self.sessions[place].hanging.is_empty();
            let drain = if hangs { self.waits.handler_end } else { 0 };
            self.end(place, now, drain + self.waits.handler_end);
            if let Phase::Closing { by } = self.sessions[place].phase {
                longest = longest.max(by);
            }
        }
        // Handlers that ignore their end are waited for as well.
        self.sweepers.push(longest + self.waits.handler_end + self.waits.session_end + SLACK_MS);
    }

    pub(super) fn expect(&self, expected: &mut Expected, now: u64) {
        let sweepers = usize::from(self.is_open);
        let most = sweepers + self.sweepers.len();
        expected.insert((Sort::Task, "sweeper".into()), Range { least: sweepers, most });
        expected.insert((Sort::Task, "cursor sweep".into()), Range::ONE);
        let mut handlers = Range::default();
        for (place, session) in self.sessions.iter().enumerate() {
            let name = format!("session {place}");
            let (row, ends) = match session.phase {
                Phase::Absent => (Range::default(), 0),
                Phase::Half { .. } | Phase::Active { .. } => (Range::ONE, 0),
                Phase::Closing { .. } => (Range::MAYBE, 1),
            };
            let is_open = row == Range::ONE;
            expected.insert((Sort::Session, name.clone()), row);
            expected.insert((Sort::Task, format!("end of {name}")), Range::up_to(ends));
            let streams = match session.listening {
                1 if is_open => Range::ONE,
                most => Range::up_to(most),
            };
            expected.insert((Sort::Stream, format!("standalone stream of {name}")), streams);
            let running = session.hanging.len();
            let requests = if row == Range::default() { 0 } else { PLACES.max(running) * 12 };
            expected.insert((Sort::Stream, format!("request of {name}")), Range::up_to(requests));
            handlers.least += running;
            handlers.most += running;
            if now <= session.handlers_by || !is_open && row != Range::default() {
                handlers.most += 48;
            }
            expected.insert((Sort::Cursor, name), session.cursors.range(now, &self.waits));
        }
        expected.insert((Sort::Task, "handler".into()), handlers);
    }
}

impl Cursors {
    /// Forgets those that must be gone: their time, or their session's, is over, and the store has
    /// worked since for longer than it takes to sweep.
    fn pass(&mut self, works_since: Option<u64>, now: u64, waits: &Waits) {
        let Some(works_since) = works_since else { return };
        let gone = |over: u64| {
            // A call that hung when the mood changed holds its turn for its limit.
            let from = over.max(works_since + waits.store);
            now > from + 2 * waits.cursor_sweep + waits.store + SLACK_MS
        };
        let ended_at = self.ended_at.filter(|ended_at| gone(*ended_at));
        self.born.retain(|born| {
            let with_session =
                !born.is_orphan && ended_at.is_some_and(|ended_at| born.at <= ended_at);
            !(with_session || gone(born.at + waits.cursor_ttl))
        });
        if ended_at.is_some() {
            self.ended_at = None;
        }
    }

    fn range(&self, now: u64, waits: &Waits) -> Range {
        let alive = |born: &&Born| now + SLACK_MS < born.at + waits.cursor_ttl;
        let least = if self.sure { self.born.iter().filter(alive).count() } else { 0 };
        let ended = usize::from(self.ended_at.is_some());
        Range { least: least.min(waits.cursors), most: self.born.len() + ended }
    }
}
