//! How a session ends: by DELETE, or because its client is gone.

use super::{
    ABANDONED, Action, H12, H13, HandshakePoint, Knowledge, Lifecycle, Step, Whom, X3, close,
    handshake, lifecycle, list, open, repeat, start, step,
};

/// Clients of a wave, half of which end their sessions.
const WAVE: usize = 20;
/// The same of a server that starts processes for each.
const HEAVY_WAVE: usize = 3;
/// Waves, the warm-up not counted, for twenty cycles.
const WAVES: u32 = 10;

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    let mut all = vec![lifecycle(
        "http/reconnect",
        "Session after session, each used and ended well: nothing may pile up from one to the next.",
        if known.has_sessions() { H13 } else { known.end_rule() },
        vec![start(), repeat(known.cycles, vec![open(), handshake(), known.brief(true), close()])],
    )];
    all.push(waves(known));
    if known.has_sessions() {
        all.push(lifecycle(
            ABANDONED,
            "Clients that go without DELETE, one after another, as every crashed host does: what each \
             of them leaves behind is counted.",
            H13,
            vec![
                start(),
                repeat(
                    known.cycles,
                    vec![open(), handshake(), known.brief(true), step(Action::Drop)],
                ),
            ],
        ));
        all.push(lifecycle(
            "http/unknown-session",
            "A session that the server never gave out, and one that was ended: neither may answer.",
            H12,
            vec![
                start(),
                open(),
                handshake(),
                list(true),
                close(),
                open().on("stranger"),
                step(Action::Join { session_of: None }).on("stranger"),
                list(true).on("stranger"),
                step(Action::Drop).on("stranger"),
            ],
        ));
    }
    all.extend(cut_short(known));
    all
}

fn waves(known: &Knowledge) -> Lifecycle {
    let client = |number: usize| -> Vec<Step> {
        let end = if number.is_multiple_of(2) { close() } else { step(Action::Drop) };
        let name = format!("c{number}");
        [open(), handshake(), end].into_iter().map(|step| step.on(&name)).collect()
    };
    let size = if known.heavy { HEAVY_WAVE } else { WAVE };
    let wave = step(Action::Concurrently { branches: (1..=size).map(client).collect() });
    let waves = (known.cycles.saturating_mul(WAVES) / 20).max(5);
    lifecycle(
        "http/waves",
        "Two hundred clients in waves of twenty, half of which end their sessions and half of which \
         only hang up: what stays of them is counted.",
        if known.has_sessions() { H13 } else { known.end_rule() },
        vec![start(), repeat(waves, vec![wave])],
    )
}

/// Clients that end in the middle.
fn cut_short(known: &Knowledge) -> Vec<Lifecycle> {
    let begun = |then: Vec<Step>| -> Vec<Step> {
        let life = [start(), open(), handshake()].into_iter();
        life.chain(known.stream()).chain([list(true)]).chain(then).collect()
    };
    let another = || -> Vec<Step> {
        [open(), handshake(), list(true), close()].map(|step| step.on("next")).to_vec()
    };
    let mut all = vec![
        lifecycle(
            "http/half-handshake",
            "Clients that are gone before they say that they are ready, one after another.",
            if known.has_sessions() { X3 } else { known.end_rule() },
            vec![
                start(),
                repeat(
                    known.cycles,
                    vec![
                        open(),
                        step(Action::Handshake { until: HandshakePoint::Answered }),
                        step(Action::Drop),
                    ],
                ),
            ],
        ),
        lifecycle(
            "http/client-killed",
            "The host is killed while its stream is open and a request is being worked on: the kernel \
             closes its connections and nobody says goodbye.",
            known.end_rule(),
            begun(vec![known.busy(), step(Action::Kill { whom: Whom::Client })])
                .into_iter()
                .chain(another())
                .collect(),
        ),
        lifecycle(
            "http/reset",
            "The network drops the client's connections in the middle of a stream (RST).",
            known.end_rule(),
            begun(vec![known.busy(), step(Action::Reset)]).into_iter().chain(another()).collect(),
        ),
        lifecycle(
            "http/half-open",
            "A laptop is shut: its connections stay open for ever and nothing more comes. Others must \
             be served, and the server must end all the same.",
            known.end_rule(),
            begun(vec![step(Action::Silence)])
                .into_iter()
                .chain(another())
                .chain([super::signal(super::Signal::Term, Whom::Server), super::gone()])
                .collect(),
        ),
    ];
    if known.has_sessions() && known.listens && known.resumes {
        all.push(lifecycle(
            "http/resume",
            "A stream that broke is taken up again by its last event, and the session goes on and ends \
             well: the broken stream must leave nothing.",
            H13,
            vec![
                start(),
                repeat(
                    known.cycles,
                    vec![
                        open(),
                        handshake(),
                        step(Action::Listen),
                        known.brief(true),
                        step(Action::Reset),
                        open().on("again"),
                        step(Action::Join { session_of: Some("main".into()) }).on("again"),
                        step(Action::Listen).on("again"),
                        list(true).on("again"),
                        close().on("again"),
                    ],
                ),
            ],
        ));
    }
    all
}
