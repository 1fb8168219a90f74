//! Connections from birth to end in memory: rmcp's server in a scope of the core, with a session of
//! cursors each, and a peer that may stop at any byte.

mod peer;
mod server;

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use scupper_core::{
    census::{Census, Kind},
    cursor::{Cursors, MemoryStore, Settings},
    scope::{Ending, TaskScope},
};
use tokio::time::{sleep, timeout};

use self::{
    peer::{Message, Peer},
    server::Served,
};
use crate::{Reach, bounded::alone};

/// More are left out: the first ones show what there is to see, and inputs stay fast.
const OPERATIONS: usize = 48;
const CONNECTIONS: usize = 4;
/// What the pipe of a connection holds that is there from the beginning.
const ROOM_BYTES: usize = 512;
/// How often the scheduler gets a turn before a look: a task that was spawned has then begun.
const TURNS: usize = 4;
/// How long one operation may take, of the case's own time.
const OPERATION: Duration = Duration::from_secs(60);
/// How long a connection without a peer may stay: rmcp waits 5 s for handlers.
const AFTERWARDS: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// One thing that is done to one of four connections.
#[derive(Debug)]
enum Operation {
    /// Where there is none, over a pipe that holds so many bytes.
    Connect(u8, usize),
    /// A message, or so many bytes of it: the peer then says nothing more.
    Send(u8, Message, Option<usize>),
    Receive(u8),
    HalfClose(u8),
    /// The peer is gone.
    Leave(u8),
    /// By the owner.
    End(u8),
    Pass(Duration),
}

impl<'a> Arbitrary<'a> for Operation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let connection = |u: &mut Unstructured<'a>| u.int_in_range(0..=3_u8);
        Ok(match u.int_in_range(0..=12_u8)? {
            0 | 1 => Self::Connect(connection(u)?, usize::from(u.int_in_range(1..=255_u8)?) * 8),
            2..=6 => Self::Send(connection(u)?, Message::arbitrary(u)?, None),
            7 => {
                let (connection, message) = (connection(u)?, Message::arbitrary(u)?);
                Self::Send(connection, message, Some(usize::from(u8::arbitrary(u)?)))
            }
            8 => Self::Receive(connection(u)?),
            9 => Self::HalfClose(connection(u)?),
            10 => Self::Leave(connection(u)?),
            11 => Self::End(connection(u)?),
            _ => Self::Pass(Duration::from_millis(u64::from(u8::arbitrary(u)?) * 50)),
        })
    }
}

impl Operation {
    fn first_says(message: Message) -> Self {
        Self::Send(0, message, None)
    }
}

/// Bytes as what happens to connections. The first tells how all of it begins and ends.
pub(crate) fn lifecycle(data: &[u8]) -> Reach {
    let mut input = Unstructured::new(data);
    let Ok(bits) = u8::arbitrary(&mut input) else { return Reach::Rejected };
    let (ends_well, is_connected) = (bits & 1 != 0, bits & 2 != 0);
    let mut operations = Vec::new();
    if is_connected {
        operations.push(Operation::Connect(0, ROOM_BYTES));
        operations.extend([Message::Initialize, Message::Initialized].map(Operation::first_says));
    }
    while !input.is_empty() && operations.len() < OPERATIONS {
        operations.extend(Operation::arbitrary(&mut input));
    }
    alone(LONGEST, async move |census| {
        let mut case = Case::begin(&census);
        for operation in operations {
            let said = format!("{operation:?}");
            let performed = timeout(OPERATION, case.perform(operation)).await;
            assert!(performed.is_ok(), "{said} does not end");
            case.check().await;
        }
        let reach = Reach::active_if(case.was_active);
        case.end(ends_well).await;
        reach
    })
}

struct Case {
    census: Census,
    scope: TaskScope,
    cursors: Cursors,
    peers: [Option<Peer>; CONNECTIONS],
    served: [Option<Served>; CONNECTIONS],
    /// How many connections there ever were: no two sessions have one name.
    connected: usize,
    was_active: bool,
}

impl Case {
    fn begin(census: &Census) -> Self {
        let cursors = Cursors::open(MemoryStore::new(), Settings::default(), census)
            .expect("there is a runtime for the sweeper");
        Self {
            census: census.clone(),
            scope: TaskScope::new("connections", census),
            cursors,
            peers: [const { None }; CONNECTIONS],
            served: [const { None }; CONNECTIONS],
            connected: 0,
            was_active: false,
        }
    }

    async fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Connect(which, room) => {
                let place = usize::from(which);
                // A name may be taken again only when its connection has gone.
                let is_taken = self.served[place].as_ref().is_some_and(|it| !it.has_ended());
                if is_taken {
                    return;
                }
                let (ours, theirs) = tokio::io::duplex(room);
                let name = format!("connection {}", self.connected);
                self.connected += 1;
                let served = Served::spawn(&self.scope, name, ours, &self.cursors, &self.census);
                self.served[place] = Some(served);
                self.peers[place] = Some(Peer::new(theirs));
            }
            Operation::Send(which, message, cut) => {
                if let Some(peer) = self.peer(which) {
                    peer.send(&message, cut).await;
                }
            }
            Operation::Receive(which) => {
                if let Some(peer) = self.peer(which) {
                    peer.receive().await;
                }
            }
            Operation::HalfClose(which) => {
                if let Some(peer) = self.peer(which) {
                    peer.half_close().await;
                    self.expect_end(which).await;
                }
            }
            Operation::Leave(which) => {
                if let Some(peer) = self.peer(which) {
                    peer.leave();
                    self.expect_end(which).await;
                }
            }
            Operation::End(which) => {
                if let Some(served) = &self.served[usize::from(which)] {
                    served.cancel();
                    self.expect_end(which).await;
                }
            }
            Operation::Pass(time) => sleep(time).await,
        }
    }

    fn peer(&mut self, which: u8) -> Option<&mut Peer> {
        self.peers[usize::from(which)].as_mut()
    }

    /// Without a peer, or asked to end, a connection goes, whatever it was in the middle of.
    async fn expect_end(&self, which: u8) {
        if let Some(served) = &self.served[usize::from(which)] {
            let gone = timeout(AFTERWARDS, served.ended()).await;
            assert!(gone.is_ok(), "a connection that is to end is there:\n{}", self.census);
        }
    }

    /// Scope, cursors and census agree between any two operations.
    async fn check(&mut self) {
        self.was_active |= self.peers.iter().flatten().any(Peer::was_active);
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let rows = self.census.rows();
        let count = |kind| rows.iter().filter(|row| row.kind == kind).count();
        let alive = self.served.iter().flatten().filter(|served| !served.has_ended()).count();
        assert_eq!(count(Kind::Connection), alive, "connections in\n{}", self.census);
        assert_eq!(self.scope.len(), alive, "tasks of the scope, and connections");
        // The sweeper of the cursors has one, too.
        assert_eq!(count(Kind::Task), alive + 1, "tasks in\n{}", self.census);
        let held = self.cursors.statistics();
        assert!(held.sessions <= alive, "{} sessions of {alive} connections", held.sessions);
        assert_eq!(count(Kind::Cursor), held.cursors + held.waiting, "in\n{}", self.census);
    }

    async fn end(self, ends_well: bool) {
        if ends_well {
            for outcome in self.scope.close(AFTERWARDS).await {
                let ended = matches!(outcome.ending, Ending::Finished | Ending::Cancelled);
                assert!(ended, "{} {}", outcome.name, outcome.ending);
            }
            assert_eq!(self.cursors.statistics().sessions, 0, "sessions of no connection");
            assert!(self.cursors.close().await.is_complete());
            assert!(self.census.is_empty(), "closed, and {}", self.census);
        }
        drop(self);
        sleep(AFTERWARDS).await;
    }
}
