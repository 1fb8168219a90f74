//! What a client may say, and when.

use super::{Action, Knowledge, Lifecycle, N9, end_stdin, handshake, lifecycle, list, open, step};
use crate::lifecycle::step::Payload;

/// A request that breaks off.
const HALF_LINE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/li"#;
/// An answer to a request that no server made.
const ANSWER: &str = concat!(r#"{"jsonrpc":"2.0","id":987654321,"result":{}}"#, "\n");

/// A client that writes responses, for which no server of 2026-07-28 asks.
const N5: &str = "2026-07-28 stdio N5";

pub(super) fn all(_known: &Knowledge) -> Vec<Lifecycle> {
    let send = |text: &str| step(Action::Send { payload: Payload::Text(text.into()), upto: None });
    vec![
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
    ]
}
