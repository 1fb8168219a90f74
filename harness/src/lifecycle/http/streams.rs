//! Clients that do not read, or that write slowly.

use std::time::Duration;

use super::{
    Action, Era, Knowledge, Lifecycle, Step, Stream, Wire, body, close, handshake, lifecycle, list,
    open, repeat, stall, start, step,
};
use crate::lifecycle::step::MAIN;

/// Streams of one session.
const STREAMS: usize = 5;
/// Requests whose answers nobody reads: more than sockets hold, for a server with a few tools.
const UNREAD: u32 = 1_000;
/// The same of a server that starts processes for each.
const HEAVY_UNREAD: u32 = 5;
/// Calls of which a stream that is not read may be told.
const UNREAD_CALLS: usize = 10;
/// Between one byte of a slow body and the next.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a body that is never finished.
const PART: usize = 20;

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    let rule = known.end_rule();
    let begun = || [start(), open(), handshake()].into_iter();
    let mut all = vec![
        lifecycle(
            "http/stream-unread",
            "A client that opens a stream, asks for much and reads nothing: other sessions must be \
             served meanwhile, and so must this one.",
            rule,
            begun().chain(known.stream()).chain(unread(known)).chain(others(known)).collect(),
        ),
        lifecycle(
            "http/slow-body",
            "A client whose request comes byte by byte: others must be served meanwhile, and it leaves \
             nothing.",
            rule,
            begun()
                .chain([step(Action::Trickle { payload: body(known), pause: PAUSE }), list(true)])
                .chain([close()])
                .collect(),
        ),
        lifecycle(
            "http/unfinished-body",
            "Clients that die while they send a request, one after another: half a body, then nothing.",
            rule,
            vec![
                start(),
                repeat(
                    known.cycles,
                    vec![
                        open(),
                        step(Action::Send { payload: body(known), upto: Some(PART) }),
                        step(Action::Drop),
                    ],
                ),
            ],
        ),
    ];
    if !known.stream().is_empty() {
        let streams = (0..STREAMS).map(|_| step(Action::Listen));
        let round: Vec<Step> =
            [open(), handshake()].into_iter().chain(streams).chain([list(true), close()]).collect();
        let rule = known.left_stream_rule();
        let (lost_why, many_why) = match known.era {
            Era::Legacy => (
                "Streams that break while their sessions go on, one closed and one reset in each: the \
                 session is used on and ended well, and the broken streams must leave nothing.",
                "Five streams on one session, as a client that reconnects too eagerly opens them; the \
                 session ends well, and all of them with it.",
            ),
            Era::Modern => (
                "Subscriptions that their clients leave, one closed and one reset in each cycle: that \
                 cancels them, and nothing of them may stay.",
                "Five subscriptions of one client, as one that reconnects too eagerly makes them; it \
                 closes them all, which cancels them.",
            ),
        };
        let streams = vec![start(), repeat(known.cycles, lost(known.era))];
        all.push(lifecycle("http/stream-lost", lost_why, rule, streams));
        let streams = vec![start(), repeat(known.cycles, round)];
        all.push(lifecycle("http/many-streams", many_why, rule, streams));
    }
    all
}

/// A client whose stream breaks twice, on connections of its own; in the older era, in one session.
fn lost(era: Era) -> Vec<Step> {
    let broken = |name: &str, end: Action| -> Vec<Step> {
        let join = || step(Action::Join { session_of: Some(MAIN.to_owned()) });
        let joined = (era == Era::Legacy).then(join);
        let stream = [step(Action::Listen), step(end)];
        let steps = [open()].into_iter().chain(joined).chain(stream);
        steps.map(|step| step.on(name)).collect()
    };
    let begun = [open(), handshake()].into_iter();
    begun
        .chain(broken("closed", Action::Drop))
        .chain(broken("reset", Action::Reset))
        .chain([list(true), close()])
        .collect()
}

/// A client stops reading, and asks for much: calls, of which its stream may be told, and lists.
pub(super) fn unread(known: &Knowledge) -> Vec<Step> {
    let (calls, times) = if known.heavy { (0, HEAVY_UNREAD) } else { (UNREAD_CALLS, UNREAD) };
    let calls = (0..calls).map(|_| known.brief(false));
    let flood = step(Action::Flood { method: "tools/list".into(), times });
    [stall()].into_iter().chain(calls).chain([flood]).collect()
}

/// Another session, and then this one again: at once where its answers do not come by the stream that
/// is not read.
fn others(known: &Knowledge) -> Vec<Step> {
    let other = [open(), handshake(), known.brief(true), close()].map(|step| step.on("other"));
    let own = match known.wire {
        Wire::Streamable => list(true),
        Wire::Sse => step(Action::Resume { stream: Stream::Events }),
    };
    other.into_iter().chain([own, close()]).collect()
}
