//! The core's cursors over a store that fails, hangs and panics, against a model that knows what may
//! be read and what must be.

mod model;
mod store;

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use futures::future::join;
use scupper_core::{
    census::{Census, Kind},
    cursor::{CursorError, Cursors, Settings, WhenFull},
};
use tokio::time::{Instant, sleep};

use self::{
    model::Model,
    store::{Fault, Rough},
};
use crate::{Reach, bounded::alone, partly::partly};

/// More are left out: the first ones show what there is to see, and inputs stay fast.
const OPERATIONS: usize = 64;
/// Of the case's own time. No operation takes more than a few `store_limit`s.
const LONGEST: Duration = Duration::from_secs(3600);
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// One thing that is done. A session is one of four names.
#[derive(Debug)]
enum Operation {
    Open(u8),
    /// Put, and drop it after so many polls if it has not ended.
    Put(u8, usize, Option<u8>),
    /// Read one of the cursors that were given out, as its own session or another.
    Read(u8, Option<u8>),
    /// Read what nobody gave out.
    Guess(u8, Vec<u8>),
    Remove(u8, Option<u8>),
    End(u8, Option<u8>),
    /// Both at once.
    PutAndEnd(u8, usize),
    Sweep(Option<u8>),
    Pass(Duration),
    Break(Fault),
}

impl<'a> Arbitrary<'a> for Operation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let session = |u: &mut Unstructured<'a>| u.int_in_range(0..=3_u8);
        let polls = |u: &mut Unstructured<'a>| {
            let polls = u.int_in_range(0..=15_u8)?;
            Ok((polls < 4).then_some(polls))
        };
        let size = |u: &mut Unstructured<'a>| Ok(usize::from(u8::arbitrary(u)?));
        Ok(match u.int_in_range(0..=11_u8)? {
            0 => Self::Open(session(u)?),
            1 | 2 => Self::Put(session(u)?, size(u)?, polls(u)?),
            3 | 4 => Self::Read(u8::arbitrary(u)?, None),
            5 => Self::Read(u8::arbitrary(u)?, Some(session(u)?)),
            6 => Self::Guess(session(u)?, u.bytes(u.len().min(8))?.to_vec()),
            7 => Self::Remove(u8::arbitrary(u)?, polls(u)?),
            8 => Self::End(session(u)?, polls(u)?),
            9 => Self::PutAndEnd(session(u)?, size(u)?),
            10 if bool::arbitrary(u)? => Self::Sweep(polls(u)?),
            10 => Self::Pass(Duration::from_millis(u64::from(u8::arbitrary(u)?) * 50)),
            _ => Self::Break(Fault::arbitrary(u)?),
        })
    }
}

/// How a case begins and how it ends.
#[derive(Debug)]
struct Frame {
    settings: Settings,
    is_closed: bool,
}

impl<'a> Arbitrary<'a> for Frame {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let bits = u8::arbitrary(u)?;
        let choose = |bit: u8, yes: usize, no: usize| if bits & bit == 0 { no } else { yes };
        let seconds = |bit, yes, no| Duration::from_secs(choose(bit, yes, no) as u64);
        let settings = Settings {
            ttl: seconds(1, 3, 60),
            payload_bytes: 200,
            cursors_per_session: choose(2, 2, 4),
            when_full: if bits & 4 == 0 { WhenFull::EvictOldest } else { WhenFull::Refuse },
            total_bytes: choose(8, 500, 100_000),
            store_limit: STORE_LIMIT,
            sweep_interval: seconds(16, 1, 30),
            remembered_sessions: choose(32, 1, 64),
            ..Settings::default()
        };
        Ok(Self { settings, is_closed: bits & 64 == 0 })
    }
}

/// Bytes as operations on cursors.
pub(crate) fn cursor(data: &[u8]) -> Reach {
    let mut input = Unstructured::new(data);
    let Ok(frame) = Frame::arbitrary(&mut input) else { return Reach::Rejected };
    let mut operations = Vec::new();
    while !input.is_empty() && operations.len() < OPERATIONS {
        operations.extend(Operation::arbitrary(&mut input));
    }
    alone(LONGEST, async move |census| {
        let mut case = Case::begin(&frame, &census);
        for operation in operations {
            case.perform(operation).await;
            case.check(&census);
        }
        let read = case.model.read;
        case.end(frame.is_closed, &census).await;
        Reach::active_if(read > 0)
    })
}

struct Case {
    cursors: Cursors,
    store: Rough,
    model: Model,
}

impl Case {
    fn begin(frame: &Frame, census: &Census) -> Self {
        let store = Rough::default();
        let settings = frame.settings.clone();
        let cursors = Cursors::open(store.clone(), settings.clone(), census)
            .expect("there is a runtime for the sweeper");
        Self { cursors, store, model: Model::new(settings) }
    }

    async fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Open(session) => {
                let opened = self.cursors.open_session(name(session));
                self.model.opened(session, opened);
            }
            Operation::Put(session, size, polls) => {
                let (began, payload) = (Instant::now(), self.model.begin_put(session, size));
                let put = self.cursors.put(name(session), payload.clone());
                let result = partly(polls, put).await;
                self.model.put(session, payload, began, result);
            }
            Operation::Read(which, other) => self.read(which, other).await,
            Operation::Guess(session, bytes) => {
                let guess = String::from_utf8_lossy(&bytes).into_owned();
                let read = self.cursors.read(name(session), &guess).await;
                assert!(matches!(read, Err(CursorError::Unknown { .. })), "{guess:?}: {read:?}");
            }
            Operation::Remove(which, polls) => {
                let Some(known) = self.model.known(which) else { return };
                let (session, cursor) = (known.session, known.cursor.clone());
                let removed = partly(polls, self.cursors.remove(name(session), &cursor)).await;
                if polls != Some(0) {
                    self.model.removed(&cursor);
                }
                match removed {
                    None | Some(Ok(_)) => {}
                    Some(Err(CursorError::Store { .. })) => self.store.expect_trouble(),
                    Some(Err(error)) => panic!("removing a cursor: {error}"),
                }
            }
            Operation::End(session, polls) => {
                let ended = partly(polls, self.cursors.end_session(name(session))).await;
                if polls != Some(0) {
                    self.model.ended(session);
                }
                self.expect_ended(ended);
            }
            Operation::PutAndEnd(session, size) => {
                let payload = self.model.begin_put(session, size);
                let put = self.cursors.put(name(session), payload);
                let (_, ended) = join(put, self.cursors.end_session(name(session))).await;
                self.model.ended(session);
                self.expect_ended(Some(ended));
            }
            Operation::Sweep(polls) => {
                if let Some(report) = partly(polls, self.cursors.sweep()).await
                    && report.failure.is_some()
                {
                    self.store.expect_trouble();
                }
            }
            Operation::Pass(time) => sleep(time).await,
            Operation::Break(fault) => self.store.break_next(fault),
        }
    }

    async fn read(&mut self, which: u8, other: Option<u8>) {
        let Some(known) = self.model.known(which) else { return };
        let cursor = known.cursor.clone();
        let session = other.unwrap_or(known.session);
        let is_sound = self.store.is_sound();
        let read = self.cursors.read(name(session), &cursor).await;
        if matches!(read, Err(CursorError::Store { .. })) {
            self.store.expect_trouble();
        }
        self.model.judge_read(session, &cursor, is_sound, read);
    }

    fn expect_ended(&self, ended: Option<Result<usize, CursorError>>) {
        match ended {
            None | Some(Ok(_)) => {}
            Some(Err(CursorError::LeftToSweep { .. })) => self.store.expect_trouble(),
            Some(Err(error)) => panic!("ending a session: {error}"),
        }
    }

    /// Registry, census and model agree between any two operations.
    fn check(&self, census: &Census) {
        let held = self.cursors.statistics();
        assert_eq!(held.sessions, self.model.open_sessions(), "open sessions");
        self.model.check_limits(&held);
        let rows = census.rows().iter().filter(|row| row.kind == Kind::Cursor).count();
        assert_eq!(rows, held.cursors + held.waiting, "rows of cursors in\n{census}");
    }

    /// With a store that works again, a sweep leaves in it what may be read and nothing else.
    async fn end(self, is_closed: bool, census: &Census) {
        self.store.mend();
        // Whoever is in the middle of a call that hangs gives it up.
        sleep(STORE_LIMIT * 2).await;
        let report = self.cursors.sweep().await;
        assert!(report.failure.is_none(), "{report:?}");
        let held = self.cursors.statistics();
        assert_eq!(held.waiting, 0, "sessions still wait after a sweep");
        let stored = self.store.len();
        if held.given_up == 0 {
            assert_eq!(stored, held.cursors, "payloads in the store, and cursors that there are");
        }
        if is_closed {
            let report = self.cursors.close().await;
            assert!(report.is_complete(), "{report:?}");
            assert_eq!(report.removed, held.cursors, "cursors that the close removed");
            let late = self.cursors.put(name(0), "late").await;
            assert!(matches!(late, Err(CursorError::Closed)), "{late:?}");
        }
        drop(self.cursors);
        let drops = census.dropped_without_close();
        assert_eq!(drops, u64::from(!is_closed), "drops without close");
    }
}

fn name(session: u8) -> &'static str {
    ["first", "second", "third", "fourth"][usize::from(session)]
}
