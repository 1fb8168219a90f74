//! A fake that does something else instead of answering a request, or serves one era alone.

use std::{
    io::{self, Read},
    ops::ControlFlow::{Break, Continue},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::{Value, json};

use super::{
    message::Request,
    server::{Fault, Flow, Output},
    sleep::Sleeps,
};
use crate::lifecycle::{
    client::{Instead, Played},
    step::Era,
};

/// A fault, and what is done instead of an answer on top of it.
pub(super) struct Watched {
    pub(super) fault: Box<dyn Fault>,
    pub(super) server: Played,
    pub(super) late: Late,
}

impl Watched {
    fn instead(&self, method: &str) -> Option<Instead> {
        let unanswered = self.server.unanswered.as_ref()?;
        (unanswered.method == method).then_some(unanswered.instead)
    }
}

impl Fault for Watched {
    fn on_start(&mut self, out: &Output) -> io::Result<Flow> {
        self.fault.on_start(out)
    }

    fn speaks(&self, era: Era) -> bool {
        self.server.era.is_none_or(|only| only == era) && self.fault.speaks(era)
    }

    fn on_request(&mut self, request: &Request) -> Option<Vec<u8>> {
        match self.instead(&request.method) {
            Some(Instead::Hold) => Some(Vec::new()),
            _ => self.fault.on_request(request),
        }
    }

    fn on_call(&mut self, nth: u64) -> io::Result<()> {
        self.fault.on_call(nth)
    }

    fn on_cancel(&mut self) -> io::Result<()> {
        self.fault.on_cancel()
    }

    fn on_answer(&mut self, method: &str, answer: &[u8], out: &Output) -> io::Result<Flow> {
        match self.instead(method) {
            Some(Instead::Die) => Ok(Break(1)),
            Some(Instead::AskAndDie) => {
                out.write(&question(answer))?;
                Ok(Break(1))
            }
            Some(Instead::Late) => {
                self.late.hold(answer, out)?;
                Ok(Continue(()))
            }
            Some(Instead::Hold) | None => self.fault.on_answer(method, answer, out),
        }
    }

    fn on_eof(&mut self, sleeps: &Sleeps) -> u8 {
        self.fault.on_eof(sleeps)
    }
}

/// An answer that waits until the client has given up on it.
#[derive(Clone, Default)]
pub(super) struct Late {
    held: Arc<Mutex<Option<Held>>>,
    /// To the cell, which says by a byte that the client shows no sign of giving up.
    channel: Option<Arc<UnixStream>>,
}

/// An answer, and where it goes.
type Held = (Vec<u8>, Output);

impl Late {
    /// With the cell at the other end of this channel.
    pub(super) fn new(channel: UnixStream) -> Self {
        Self { held: Arc::default(), channel: Some(Arc::new(channel)) }
    }

    /// Keeps an answer until it is late.
    fn hold(&self, answer: &[u8], out: &Output) -> io::Result<()> {
        *self.lock() = Some((answer.to_vec(), out.clone()));
        let Some(channel) = self.channel.clone() else { return Ok(()) };
        // The server has asked for its last go-ahead by now, so the next byte is for this.
        channel.set_read_timeout(None)?;
        let late = self.clone();
        let watch = move || {
            let mut go = [0];
            if (&*channel).read(&mut go).is_ok_and(|count| count > 0) {
                late.comes();
            }
        };
        thread::Builder::new().name("late".into()).spawn(watch).map(drop)
    }

    /// The client has given up: the answer comes now, if there is one.
    pub(super) fn comes(&self) {
        if let Some((answer, out)) = self.lock().take() {
            // Who has given up may have closed the pipe, too.
            let _ = out.write(&answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server says that wants a message of the client's model before it answers: a request of
/// its own in the era of 2025-11-25, a result that asks for input in that of 2026-07-28.
fn question(answer: &[u8]) -> Vec<u8> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let params = json!({
        "messages": [{ "role": "user", "content": { "type": "text", "text": "hello" } }],
        "maxTokens": 16,
    });
    let method = "sampling/createMessage";
    let is_modern = answer.pointer("/result/resultType").is_some();
    let message = match is_modern {
        true => json!({
            "jsonrpc": "2.0",
            "id": answer["id"],
            "result": {
                "resultType": "input_required",
                "inputRequests": { "message": { "method": method, "params": params } },
            },
        }),
        false => {
            json!({ "jsonrpc": "2.0", "id": "scupper-1", "method": method, "params": params })
        }
    };
    format!("{message}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_era_asks_for_a_message_in_its_own_way() {
        let asked = |answer: &str| -> Value {
            serde_json::from_slice(&question(answer.as_bytes())).expect("it is JSON")
        };
        let legacy = asked(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#);
        assert_eq!(legacy["method"], "sampling/createMessage");
        let modern = asked(r#"{"jsonrpc":"2.0","id":3,"result":{"resultType":"complete"}}"#);
        assert_eq!(
            (&modern["id"], &modern["result"]["resultType"]),
            (&json!(3), &json!("input_required"))
        );
        let method = modern.pointer("/result/inputRequests/message/method");
        assert_eq!(method, Some(&json!("sampling/createMessage")));
    }
}
