//! What is compared: a client that opens connections to a server, and closes them by the clock.

use std::time::{Duration, Instant};

use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest};
use rmcp::service::{PeerRequestOptions, RequestHandle};
use rmcp::{Peer, RoleClient};

pub(crate) const PEER: &str = env!("CARGO_BIN_EXE_peer");
/// The waits of a subject whose waits can be set: for the end of stdin to be heeded, for SIGTERM, for
/// the answer to a DELETE.
pub(crate) const WAIT: Duration = Duration::from_millis(200);
/// How long a call sleeps that is in flight when its connection is closed.
pub(crate) const BUSY: Duration = Duration::from_millis(50);

/// A server, and the state in which it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    /// The fake of the harness, over stdio.
    pub(crate) server: &'static str,
    pub(crate) end: End,
}

/// How the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, when its stdin ends.
    AtOnce,
    /// By itself, when the call that is in flight is done.
    WhenDone,
    /// So many waits later.
    Forced(u32),
}

impl Case {
    pub(crate) fn is_stubborn(&self) -> bool {
        matches!(self.end, End::Forced(_))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.end == End::WhenDone
    }
}

/// How one round went.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// From the beginning of the first close to the return of the last.
    pub(crate) whole: Duration,
    /// Of each close, from the same beginning. Empty where it was not told.
    pub(crate) each: Vec<Duration>,
    /// Of each connection whose rungs are known, by their figures' names.
    pub(crate) rungs: Vec<Vec<(&'static str, Duration)>>,
    /// What was left behind when all had returned: processes, or sessions on an HTTP server.
    pub(crate) left: usize,
}

/// Someone who closes connections.
pub(crate) trait Subject {
    fn name(&self) -> &str;

    /// What [`Ended::left`] counts.
    fn leaves(&self) -> &'static str {
        "left_processes"
    }

    /// Whether this is measured: not where its waits cannot be set and would take all the time.
    fn plays(&self, case: Case, at_once: usize) -> bool;

    /// In how many rounds at most.
    fn most_rounds(&self, _case: Case) -> usize {
        usize::MAX
    }

    /// Opens so many connections, closes them at the same time, and tells how that went.
    fn end(&mut self, case: Case, at_once: usize) -> Ended;
}

/// A connection that is ready to be closed: its `echo` was called, and where the case is busy, a call
/// of `sleep` is in flight. The server reads in order, so that it has begun.
pub(crate) async fn prepare(
    peer: &Peer<RoleClient>,
    case: Case,
) -> Option<RequestHandle<RoleClient>> {
    let in_flight = match case.is_busy() {
        true => {
            let sleep = call("sleep", "ms", BUSY.as_millis().try_into().unwrap_or(u64::MAX));
            let request = ClientRequest::CallToolRequest(CallToolRequest::new(sleep));
            let sent = peer.send_cancellable_request(request, PeerRequestOptions::no_options());
            Some(sent.await.expect("the server reads"))
        }
        false => None,
    };
    peer.call_tool(call("echo", "text", "hello")).await.expect("the server answers");
    in_flight
}

fn call(
    tool: &'static str,
    argument: &str,
    value: impl Into<serde_json::Value>,
) -> CallToolRequestParams {
    let arguments = serde_json::Map::from_iter([(argument.to_owned(), value.into())]);
    CallToolRequestParams::new(tool).with_arguments(arguments)
}

/// Awaits and takes the time since `began`.
pub(crate) async fn timed<T>(began: Instant, work: impl Future<Output = T>) -> (Duration, T) {
    let value = work.await;
    (began.elapsed(), value)
}
