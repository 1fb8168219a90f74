//! How a life ends: stdin ends, the client dies, signals come.

use super::{
    Action, HandshakePoint, Knowledge, Lifecycle, MID_INITIALIZE, N8, N9, Signal, Step, Whom,
    at_once, end_stdin, handshake, kill_client, lifecycle, open, signal, step,
};
use crate::lifecycle::step::Payload;

/// Requests in flight at once.
const SEVERAL: usize = 5;

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    let mut all = ends_of_stdin(known);
    all.extend(deaths_of_the_client(known));
    all.extend(signals(known));
    all
}

fn ends_of_stdin(known: &Knowledge) -> Vec<Lifecycle> {
    let several = || (0..SEVERAL).map(|_| known.busy());
    vec![
        lifecycle(
            "stdio/eof-call-in-flight",
            "Stdin ends while a request is being worked on.",
            N9,
            vec![open(), handshake(), known.busy(), end_stdin()],
        ),
        lifecycle(
            "stdio/eof-calls-in-flight",
            "Stdin ends while five requests are being worked on.",
            N9,
            [open(), handshake()].into_iter().chain(several()).chain([end_stdin()]).collect(),
        ),
        lifecycle(
            "stdio/eof-after-cancel",
            "A user gives up and leaves: a request is cancelled, then stdin ends.",
            N9,
            vec![open(), handshake(), known.busy(), step(Action::Cancel), end_stdin()],
        ),
        lifecycle(
            "stdio/eof-before-initialize",
            "A host that changes its mind: stdin ends before the first message.",
            N9,
            vec![open(), end_stdin()],
        ),
        lifecycle(
            "stdio/eof-mid-initialize",
            "A host that dies while it writes: stdin ends inside the first request.",
            N9,
            vec![
                open(),
                step(Action::Send { payload: Payload::Handshake, upto: Some(MID_INITIALIZE) }),
                end_stdin(),
            ],
        ),
        lifecycle(
            "stdio/eof-before-initialized",
            "Stdin ends inside the handshake: the server has answered and the client never says \
             that it is ready.",
            N9,
            vec![open(), step(Action::Handshake { until: HandshakePoint::Answered }), end_stdin()],
        ),
    ]
}

/// A life with requests that have been answered, up to where the end begins.
fn worked(known: &Knowledge, end: impl IntoIterator<Item = Step>) -> Vec<Step> {
    [open(), handshake()].into_iter().chain(known.served()).chain(end).collect()
}

fn deaths_of_the_client(known: &Knowledge) -> Vec<Lifecycle> {
    vec![
        lifecycle(
            "stdio/client-killed",
            "The host is killed: the kernel closes its pipes and nobody says goodbye.",
            N9,
            worked(known, [kill_client()]),
        ),
        lifecycle(
            "stdio/client-killed-while-starting",
            "The host is killed while the server still starts.",
            N9,
            vec![open(), kill_client()],
        ),
        lifecycle(
            "stdio/stdin-held",
            "The host dies while another process still has the write end of the server's stdin: \
             the end comes late, and then it must be obeyed.",
            N9,
            vec![
                open(),
                handshake(),
                step(Action::HoldStdin),
                kill_client(),
                step(Action::ReleaseStdin),
            ],
        ),
    ]
}

fn signals(known: &Knowledge) -> Vec<Lifecycle> {
    let sigterm = || signal(Signal::Term, Whom::Server);
    // Nothing obliges a server to die of SIGINT while its stdin is open. It is due when that ends.
    let ctrl_c = || [signal(Signal::Int, Whom::Group), end_stdin()];
    vec![
        lifecycle(
            "stdio/sigterm-idle",
            "SIGTERM to the one pid that the host started, as SDKs send it; stdin stays open.",
            N8,
            vec![open(), handshake(), sigterm()],
        ),
        lifecycle(
            "stdio/sigterm-busy",
            "SIGTERM to a server that has answered calls, while another is being worked on.",
            N8,
            worked(known, [known.busy(), sigterm()]),
        ),
        lifecycle(
            "stdio/sigterm-and-eof",
            "SIGTERM comes while stdin ends: two reasons to shut down must not make it hang.",
            N9,
            vec![open(), handshake(), at_once([end_stdin(), sigterm()])],
        ),
        lifecycle(
            "stdio/two-signals",
            "SIGTERM from the host and Ctrl-C in its terminal at once, while a request is being \
             worked on: the second must not stop what the first began.",
            N8,
            vec![
                open(),
                handshake(),
                known.busy(),
                // A terminal signals the whole group; launchers rely on that and pass no SIGINT on.
                at_once([sigterm(), signal(Signal::Int, Whom::Group)]),
            ],
        ),
        lifecycle(
            "stdio/sigint-idle",
            "Ctrl-C in a terminal: SIGINT to the whole group, and then the host leaves.",
            N9,
            [open(), handshake()].into_iter().chain(ctrl_c()).collect(),
        ),
        lifecycle(
            "stdio/sigint-busy",
            "Ctrl-C in a terminal, calls answered, while another is being worked on.",
            N9,
            worked(known, [known.busy()].into_iter().chain(ctrl_c())),
        ),
    ]
}
