//! A client that does not read what the server writes, or no longer.

use std::time::Duration;

use super::{
    Action, Knowledge, Lifecycle, N9, Step, Stream, close, end_stdin, half_close, handshake,
    kill_client, lifecycle, list, open, step,
};
use crate::lifecycle::step::Read;

/// Lists whose answers nobody reads: more than a pipe holds, for a server with a few tools.
const UNREAD: usize = 40;
/// Longest time that all these answers may take once they are read.
const SLOW_READ: Duration = Duration::from_secs(60);
/// Calls whose log lines nobody reads.
const CALLS: usize = 5;

/// The client may ignore stderr.
const F6: &str = "2026-07-28 stdio F6";

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    let lists = || (0..UNREAD).map(|_| list(false));
    let calls = || (0..CALLS).map(|_| known.busy());
    let begun = |next: Step| [open(), handshake(), next].into_iter();
    let all_answers =
        Step { within: Some(SLOW_READ), ..step(Action::Read { what: Read::Answers }) };
    vec![
        lifecycle(
            "stdio/stderr-unread",
            "A host that does not read stderr is killed: a server that is stuck in a write to it \
             can only be freed by the reader's end.",
            F6,
            begun(stall(Stream::Stderr)).chain(calls()).chain([kill_client()]).collect(),
        ),
        lifecycle(
            "stdio/stderr-closed",
            "A host that closes stderr: writing a log line fails, and the end must still work.",
            F6,
            begun(half_close(Stream::Stderr)).chain(calls()).chain([end_stdin()]).collect(),
        ),
        lifecycle(
            "stdio/stdout-closed",
            "The host stops listening before it ends stdin: answering fails, and the server must \
             still end.",
            N9,
            begun(half_close(Stream::Stdout)).chain([list(false), end_stdin()]).collect(),
        ),
        lifecycle(
            "stdio/slow-reader",
            "A client that reads slowly gets all of forty answers, and the end works after it.",
            N9,
            begun(stall(Stream::Stdout))
                .chain(lists())
                .chain([step(Action::Resume { stream: Stream::Stdout }), all_answers, close()])
                .collect(),
        ),
        lifecycle(
            "stdio/stops-reading-then-leaves",
            "A client stops reading and leaves: a server that is stuck in a write must see it.",
            N9,
            begun(stall(Stream::Stdout)).chain(lists()).chain([step(Action::Drop)]).collect(),
        ),
    ]
}

fn stall(stream: Stream) -> Step {
    step(Action::Stall { stream })
}
