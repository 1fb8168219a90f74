//! How the server ends, and begins again.

use super::streams::unread;
use super::{
    Action, Knowledge, Lifecycle, Signal, Step, Whom, close, gone, handshake, lifecycle, list,
    open, signal, start, step,
};

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    let begun = || [start(), open(), handshake()].into_iter();
    let open_streams = || begun().chain(known.stream()).chain([list(true)]);
    let sigterm = || signal(Signal::Term, Whom::Server);
    // A terminal signals the whole group; launchers rely on that and pass no SIGINT on.
    let ctrl_c = || signal(Signal::Int, Whom::Group);
    let at_once = |steps: Vec<Step>| {
        step(Action::Concurrently { branches: steps.into_iter().map(|one| vec![one]).collect() })
    };
    let life = || [start(), open(), handshake(), list(true)];
    let restart: Vec<Step> = life()
        .into_iter()
        .chain(known.stream())
        .chain([sigterm(), gone()])
        .chain(life())
        .chain([close()])
        .collect();
    let cases: Vec<(&str, &str, Vec<Step>)> = vec![
        (
            "http/sigterm-open-streams",
            "SIGTERM while clients are connected and their streams are open, as every deployment sends \
             it: the server must not wait for them to go.",
            open_streams().chain([sigterm(), gone()]).collect(),
        ),
        (
            "http/sigterm-stalled-reader",
            "SIGTERM while a client reads nothing of what it asked for: a server that is stuck in a \
             write must end all the same.",
            open_streams().chain(unread(known)).chain([sigterm(), gone()]).collect(),
        ),
        (
            "http/sigterm-busy",
            "SIGTERM while a request is being worked on.",
            begun().chain([list(true), known.busy(), sigterm(), gone()]).collect(),
        ),
        (
            "http/sigint-idle",
            "Ctrl-C in a terminal: SIGINT to the whole group.",
            begun().chain([list(true), close(), ctrl_c(), gone()]).collect(),
        ),
        (
            "http/sigint-open-streams",
            "Ctrl-C in a terminal while a client's stream is open.",
            open_streams().chain([ctrl_c(), gone()]).collect(),
        ),
        (
            "http/two-signals",
            "SIGTERM and Ctrl-C at once, while a request is being worked on: the second must not stop \
             what the first began.",
            open_streams()
                .chain([known.busy(), at_once(vec![sigterm(), ctrl_c()]), gone()])
                .collect(),
        ),
        (
            "http/restart",
            "The server is ended with its clients connected and started again on the same port at once.",
            restart,
        ),
    ];
    let rule = |id: &str| match id {
        "http/sigterm-open-streams" | "http/sigint-open-streams" => known.open_stream_rule(),
        _ => known.end_rule(),
    };
    cases.into_iter().map(|(id, why, steps)| lifecycle(id, why, rule(id), steps)).collect()
}
