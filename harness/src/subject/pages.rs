//! Lists by pages, and the cursor that is remembered from them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::finding;
use super::server::Play;
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::step::{Action, CURSOR};

/// JSON-RPC's code for invalid params, which is what an unknown cursor is.
const INVALID_PARAMS: i64 = -32602;

impl Play<'_> {
    /// Follows the cursors of a list to its end. A list without end is cut off after so many pages,
    /// or once `time` is up; a page that does not come in this time is a failure.
    pub(super) fn list_all(
        &mut self,
        name: &str,
        method: &str,
        most: u32,
        at: &StepRef,
        time: Duration,
    ) -> Result<(), Box<Failure>> {
        let began = Instant::now();
        let mut params = Value::Null;
        for page in 1..=most {
            let Some(connection) = self.connections.get_mut(name) else { return Ok(()) };
            let id = connection.request(method, params);
            let result = match connection.answer(id, Instant::now() + time) {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => {
                    self.note_error(at, &error);
                    return Ok(());
                }
                Err(cause) => {
                    let message = finding::no_answer(method, &cause, &connection.link.heard);
                    return Err(self.failure(name, at, message));
                }
            };
            let Some(cursor) = result["nextCursor"].as_str() else { return Ok(()) };
            params = json!({ "cursor": cursor });
            self.cursor = Some(cursor.to_owned());
            if page == most || began.elapsed() >= time {
                self.played
                    .notes
                    .push(format!("{at}: stopped after {page} pages, with more to come"));
                return Ok(());
            }
        }
        Ok(())
    }

    /// A scenario's author counts on a cursor; the battery asks every server for one.
    pub(super) fn note_no_cursor(&mut self) {
        let note = format!("no list gave a cursor, so requests with {CURSOR} were left out");
        if !self.order.for_any_server && !self.played.notes.contains(&note) {
            self.played.notes.push(note);
        }
    }
}

/// Params with the cursor in its places; none where there are places and no cursor.
pub(super) fn filled_in(params: &Value, cursor: Option<&str>) -> Option<Value> {
    Some(match params {
        Value::String(text) if text == CURSOR => Value::from(cursor?),
        Value::Array(values) => {
            values.iter().map(|value| filled_in(value, cursor)).collect::<Option<_>>()?
        }
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| Some((name.clone(), filled_in(value, cursor)?));
            members.iter().map(member).collect::<Option<_>>()?
        }
        other => other.clone(),
    })
}

/// Whether a request that named a cursor was answered that there is no such one.
pub(super) fn refuses_cursor(action: &Action, error: &Value) -> bool {
    matches!(action, Action::Request { params, .. } if params["cursor"].is_string())
        && error["code"] == INVALID_PARAMS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_goes_where_its_name_stands_alone() {
        let params = json!({ "cursor": CURSOR, "list": [CURSOR, "a {cursor}", 1] });
        let filled = json!({ "cursor": "c7", "list": ["c7", "a {cursor}", 1] });
        assert_eq!(filled_in(&params, Some("c7")), Some(filled));
        assert_eq!(filled_in(&params, None), None);
        assert_eq!(filled_in(&json!({ "a": 1 }), None), Some(json!({ "a": 1 })));
    }
}
