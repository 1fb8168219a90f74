//! What a client may say, and when.

use serde_json::{Value, json};

use super::{
    Action, Discover, Knowledge, Lifecycle, N9, close, end_stdin, handshake, lifecycle, list, open,
    step,
};
use crate::lifecycle::step::{CURSOR, Era, EraChoice, PAGES, Payload};

/// A request that breaks off.
const HALF_LINE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/li"#;
/// An answer to a request that no server made.
const ANSWER: &str = concat!(r#"{"jsonrpc":"2.0","id":987654321,"result":{}}"#, "\n");

/// A client that writes responses, for which no server of 2026-07-28 asks.
const N5: &str = "2026-07-28 stdio N5";

/// A server with cursors.
const A2: &str = "2026-07-28 pagination A2";
/// No server has given this one.
const UNKNOWN_CURSOR: &str = "scupper-unknown-cursor";
/// A client of both eras.
const N12: &str = "2026-07-28 stdio N12";

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    let send = |text: &str| step(Action::Send { payload: Payload::Text(text.into()), upto: None });
    let mut all = vec![
        lifecycle(
            "stdio/half-line-then-eof",
            "A host dies in the middle of a message: half a line, then the end of stdin.",
            N9,
            vec![open(), handshake(), send(HALF_LINE), end_stdin()],
        ),
        lifecycle(
            "stdio/answer-unasked",
            "An answer that the server never asked for, which a client may send when a request was \
             given up; the end must work after it.",
            N5,
            vec![open(), handshake(), send(ANSWER), list(false), end_stdin()],
        ),
    ];
    all.push(pagination());
    all.extend(known.other_era.map(|era| both_eras(known, era)));
    all.extend(known.discover.map(discover_first));
    all
}

fn pagination() -> Lifecycle {
    let at = |cursor: &str| {
        let params = json!({ "cursor": cursor });
        step(Action::Request { method: "tools/list".into(), params, wait: true })
    };
    let all = step(Action::ListAll { method: "tools/list".into(), pages: PAGES });
    lifecycle(
        "stdio/pagination",
        "A list to its end, a cursor that does not exist, and in the next life a cursor of this \
         one: what a server keeps for a cursor must go with its life.",
        A2,
        vec![
            open(),
            handshake(),
            all,
            at(UNKNOWN_CURSOR),
            close(),
            open(),
            handshake(),
            at(CURSOR),
            close(),
        ],
    )
}

/// A server that says nothing is not waited for: that it answers what comes next was seen.
fn discover_first(discover: Discover) -> Lifecycle {
    let probe = step(Action::Request {
        method: "server/discover".into(),
        params: modern_params(),
        wait: discover == Discover::Answered,
    });
    lifecycle(
        "stdio/discover-first",
        "A client of both eras asks with server/discover first and then goes on with initialize: \
         the question must leave nothing behind.",
        N12,
        vec![open(), probe, handshake(), list(true), close()],
    )
}

fn both_eras(known: &Knowledge, other: Era) -> Lifecycle {
    let life = lifecycle(
        "stdio/both-eras",
        "A server of both eras, a whole life in the other one: stdin ends while a request is being \
         worked on.",
        N9,
        vec![open(), handshake(), list(true), known.busy(), end_stdin()],
    );
    let era = match other {
        Era::Legacy => EraChoice::Legacy,
        Era::Modern => EraChoice::Modern,
    };
    Lifecycle { era, ..life }
}

/// What a request of the stateless era carries (2026-07-28 basic, versioning).
fn modern_params() -> Value {
    json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": Era::Modern.revision(),
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {
            "name": "scupper",
            "version": env!("CARGO_PKG_VERSION"),
        },
    } })
}
