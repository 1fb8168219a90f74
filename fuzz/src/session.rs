//! The core's HTTP sessions, under rmcp's service, with requests in memory and paused time.

mod client;
mod demo;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arbitrary::{Arbitrary, Result, Unstructured};
use scupper_core::{
    census::{Census, Kind},
    cleanup::CleanupPlan,
    session::{OnDisconnect, Sessions, Settings},
};
use tokio::time::{sleep, timeout};

use self::{
    client::{Client, Post},
    demo::{Demo, Initialize},
};
use crate::{Reach, bounded::alone, partly::partly};

/// More are left out: the first ones show what there is to see, and inputs stay fast.
const OPERATIONS: usize = 40;
/// How long one operation may take, of the case's own time. The longest limit below it is 30 s.
const OPERATION: Duration = Duration::from_secs(600);
/// How long what rmcp started may take to notice that its session has gone.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// More than all operations, and the end.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 8);

/// One thing that a client, or the owner of the server, does. A session is one of the latest four.
#[derive(Debug)]
enum Operation {
    /// `initialize`, and the rest of the handshake if it comes to that.
    Begin(Initialize, bool),
    Post(u8, Post),
    Listen(u8),
    Resume(u8, String),
    /// Takes so many pieces of a stream.
    Read(u8, u8),
    Leave(u8),
    Delete(u8),
    /// By the owner.
    Remove(u8),
    Release,
    Pass(Duration),
}

impl<'a> Arbitrary<'a> for Operation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let session = |u: &mut Unstructured<'a>| u.int_in_range(0..=3_u8);
        Ok(match u.int_in_range(0..=13_u8)? {
            0 | 1 => Self::Begin(Initialize::arbitrary(u)?, u.ratio(3, 4)?),
            2..=5 => Self::Post(session(u)?, Post::arbitrary(u)?),
            6 => Self::Listen(session(u)?),
            7 => {
                let text = u.bytes(u.len().min(4))?;
                Self::Resume(session(u)?, text.iter().map(|byte| char::from(byte % 128)).collect())
            }
            8 => Self::Read(u8::arbitrary(u)?, u.int_in_range(1..=8)?),
            9 => Self::Leave(u8::arbitrary(u)?),
            10 => Self::Delete(session(u)?),
            11 => Self::Remove(session(u)?),
            12 => Self::Release,
            _ => Self::Pass(Duration::from_millis(u64::from(u8::arbitrary(u)?) * 40)),
        })
    }
}

/// How the server is set up and how it ends.
#[derive(Debug)]
struct Frame {
    settings: Settings,
    cleanup: Cleanup,
    /// It is closed; else it is dropped.
    is_closed: bool,
    /// Its clients leave before.
    is_left: bool,
}

#[derive(Clone, Copy, Debug)]
enum Cleanup {
    Works,
    Fails,
    Hangs,
    Panics,
}

impl<'a> Arbitrary<'a> for Frame {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let bits = u16::arbitrary(u)?;
        let has = |bit: u16| bits & (1 << bit) != 0;
        let seconds = |bit, yes, no| Duration::from_secs(if has(bit) { yes } else { no });
        let count = |bit, yes, no| if has(bit) { yes } else { no };
        let settings = Settings {
            session_limit: count(0, 2, 8),
            idle_limit: seconds(1, 2, 300),
            handshake_limit: seconds(2, 1, 30),
            request_limit: seconds(3, 3, 3600),
            on_disconnect: match has(4) {
                true => OnDisconnect::EndAfter(Duration::from_secs(1)),
                false => OnDisconnect::Keep,
            },
            stream_limit: count(5, 2, 64),
            queue_limit: count(6, 1, 64),
            replay_limit: count(7, 1, 64),
            replay_wait: seconds(8, 1, 60),
            stalled_write_limit: seconds(9, 1, 30),
            sse_retry: has(10).then_some(Duration::from_secs(3)),
            ..Settings::default()
        };
        let cleanup = match (has(11), has(12)) {
            (false, _) => Cleanup::Works,
            (true, false) => Cleanup::Fails,
            (true, true) if has(13) => Cleanup::Hangs,
            (true, true) => Cleanup::Panics,
        };
        Ok(Self { settings, cleanup, is_closed: !has(14), is_left: has(15) })
    }
}

/// Bytes as what clients and the owner of a server do.
pub(crate) fn session(data: &[u8]) -> Reach {
    let mut input = Unstructured::new(data);
    let Ok(frame) = Frame::arbitrary(&mut input) else { return Reach::Rejected };
    let mut operations = Vec::new();
    while !input.is_empty() && operations.len() < OPERATIONS {
        let polls = input.int_in_range(0..=31_u8).unwrap_or(31);
        let polls = (polls < 8).then_some(polls);
        operations.extend(Operation::arbitrary(&mut input).map(|operation| (operation, polls)));
    }
    alone(LONGEST, async move |census| {
        let mut case = Case::begin(&frame, &census);
        for (operation, polls) in operations {
            let said = format!("{operation:?}");
            let performed = partly(polls, case.perform(operation));
            assert!(timeout(OPERATION, performed).await.is_ok(), "{said} does not end");
            case.check(&census);
        }
        let reach = Reach::active_if(case.was_active);
        case.end(&frame, &census).await;
        reach
    })
}

struct Case {
    sessions: Sessions,
    client: Client,
    demo: Demo,
    session_limit: usize,
    cleanups: Arc<[AtomicU64; 2]>,
    was_active: bool,
}

impl Case {
    fn begin(frame: &Frame, census: &Census) -> Self {
        let cleanups = Arc::<[AtomicU64; 2]>::default();
        let settings =
            Settings { cleanup: Some(cleanup(frame.cleanup, &cleanups)), ..frame.settings.clone() };
        let session_limit = settings.session_limit;
        let sessions = Sessions::start(settings, census).expect("there is a runtime");
        let demo = Demo::default();
        let client = Client::new(&sessions, &demo);
        Self { sessions, client, demo, session_limit, cleanups, was_active: false }
    }

    async fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Begin(initialize, goes_on) => {
                self.client.initialize(initialize, goes_on).await;
            }
            Operation::Post(session, post) => self.client.post(session, &post).await,
            Operation::Listen(session) => self.client.listen(session, None).await,
            Operation::Resume(session, event) => self.client.listen(session, Some(&event)).await,
            Operation::Read(stream, pieces) => self.client.read(stream, pieces).await,
            Operation::Leave(stream) => self.client.leave(stream),
            Operation::Delete(session) => self.client.delete(session).await,
            Operation::Remove(session) => {
                if let Some(id) = self.client.session(session) {
                    let removal = self.sessions.remove(&id).await;
                    assert!(self.sessions.remove(&id).await.is_none(), "removed twice");
                    assert!(removal.is_none_or(|removal| removal.session.as_ref() == id));
                }
            }
            Operation::Release => self.demo.release.notify_waiters(),
            Operation::Pass(time) => sleep(time).await,
        }
    }

    /// Registry, statistics and census agree between any two operations.
    fn check(&mut self, census: &Census) {
        let said = self.sessions.statistics();
        let alive = said.connecting + said.active + said.closing;
        self.was_active |= said.active > 0 || said.streams > 0;
        let rows = census.rows();
        let count = |kind| rows.iter().filter(|row| row.kind == kind).count();
        assert_eq!(count(Kind::Session), alive, "sessions in {said} and\n{census}");
        assert_eq!(said.created, said.closed() + alive as u64, "sessions ever, in {said}");
        assert!(alive <= self.session_limit, "{alive} sessions, {} may be", self.session_limit);
        assert_eq!(count(Kind::Stream), said.streams, "streams in {said} and\n{census}");
        let handlers = rows.iter().filter(|row| &*row.state == "handler").count();
        assert_eq!(handlers, said.handlers, "handlers in {said} and\n{census}");
    }

    async fn end(mut self, frame: &Frame, census: &Census) {
        if frame.is_left {
            self.client.leave_all();
        }
        if frame.is_closed {
            let closed = self.sessions.close().await;
            assert_eq!(closed.handlers_left, 0, "{closed}");
            for removal in &closed.removals {
                assert!(removal.service_ended, "{removal}");
            }
            let left = census.rows().into_iter().filter(|row| row.kind == Kind::Session).count();
            assert_eq!(left, 0, "sessions after the close in\n{census}");
            let [made, run] = &*self.cleanups;
            assert_eq!(made.load(Relaxed), run.load(Relaxed), "cleanups that were made and run");
        } else {
            let alive = self.sessions.statistics();
            let alive = alive.connecting + alive.active + alive.closing;
            drop(self.sessions);
            assert_eq!(census.dropped_without_close(), alive as u64, "{:?}", census.drops());
        }
        drop(self.client);
        sleep(AFTERWARDS).await;
    }
}

/// What is done at the end of each session, and counted: made, and run.
fn cleanup(how: Cleanup, counts: &Arc<[AtomicU64; 2]>) -> scupper_core::session::MakeCleanup {
    let counts = Arc::clone(counts);
    Arc::new(move |_| {
        counts[0].fetch_add(1, Relaxed);
        let counts = Arc::clone(&counts);
        CleanupPlan::new().step("counted", Duration::from_secs(1), move || async move {
            counts[1].fetch_add(1, Relaxed);
            match how {
                Cleanup::Works => Ok(()),
                Cleanup::Fails => Err("the cleanup fails, as it was told to".into()),
                Cleanup::Hangs => std::future::pending().await,
                Cleanup::Panics => panic!("the cleanup panics, as it was told to"),
            }
        })
    })
}
