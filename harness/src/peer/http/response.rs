//! A response of HTTP/1.1 as it comes in, piece by piece: head, body, events. No socket, no clock.

use std::collections::VecDeque;

use serde_json::Value;

use super::message::Head;

/// Longest head, in bytes.
const HEAD_LIMIT: usize = 64 << 10;
/// Longest body that is kept, and longest event, in bytes.
const BODY_LIMIT: usize = 16 << 20;
/// Most messages that wait to be taken.
const MESSAGES: usize = 10_000;
/// Most ends of parts that wait to be taken.
const ENDS: usize = 1_000;

/// Why bytes are no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoResponse {
    /// They do not begin like one.
    #[error("no HTTP came back; it begins with {0}")]
    Odd(String),
    /// A head without an end.
    #[error("the head of the response is longer than 64 KiB")]
    LongHead,
    /// A body or an event without an end.
    #[error("the response is longer than 16 MiB")]
    Long,
    /// A broken chunk or length.
    #[error("the response's framing is broken: {0}")]
    Framing(String),
}

/// A response, as far as it has come.
#[derive(Debug, Default)]
pub struct Response {
    unread: Vec<u8>,
    head: Option<Head>,
    framing: Framing,
    /// What is no event: a body of JSON or text.
    body: Vec<u8>,
    events: Option<Events>,
    messages: VecDeque<Value>,
    complete: bool,
    /// Bytes that were made sense of.
    taken: u64,
    /// Where its parts end: head, chunks and their sizes, events, the whole.
    ends: Vec<u64>,
}

#[derive(Debug, Default)]
enum Framing {
    #[default]
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    ToEnd,
}

impl Response {
    /// Takes in bytes as they were read.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), NoResponse> {
        self.unread.extend_from_slice(bytes);
        while !self.complete && self.step()? {}
        Ok(())
    }

    /// The connection has ended. Whether the response had, too.
    pub fn end(&mut self) -> bool {
        if matches!(self.framing, Framing::ToEnd) {
            self.finish();
        }
        self.complete
    }

    /// Its head, once it is there.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Nothing more belongs to it.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Something has come.
    pub fn has_begun(&self) -> bool {
        self.head.is_some() || !self.unread.is_empty()
    }

    /// The body that is no stream of events, as far as it has come.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The next message that has come whole.
    pub fn message(&mut self) -> Option<Value> {
        self.messages.pop_front()
    }

    /// Where its parts end that have come since this was asked, in bytes from its beginning.
    pub fn ends(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.ends)
    }

    fn ends_here(&mut self, at: u64) {
        if self.ends.len() < ENDS && self.ends.last() != Some(&at) {
            self.ends.push(at);
        }
    }

    /// What its events say beside messages.
    pub fn events(&self) -> Option<&Events> {
        self.events.as_ref()
    }

    /// Does one thing with the bytes at hand; false where there are too few.
    fn step(&mut self) -> Result<bool, NoResponse> {
        match self.framing {
            Framing::Head => return self.take_head(),
            Framing::Length(left) => {
                let count = left.min(self.unread.len());
                self.take_body(count)?;
                self.framing = Framing::Length(left - count);
                if left == count {
                    self.finish();
                }
                return Ok(false);
            }
            Framing::ToEnd => {
                self.take_body(self.unread.len())?;
                return Ok(false);
            }
            Framing::Chunk(left) => {
                let count = left.min(self.unread.len());
                self.take_body(count)?;
                if left == count {
                    self.ends_here(self.taken);
                }
                self.framing =
                    if left == count { Framing::ChunkEnd } else { Framing::Chunk(left - count) };
                return Ok(left == count);
            }
            Framing::ChunkSize | Framing::ChunkEnd | Framing::Trailer => {}
        }
        let Some(line) = self.take_line()? else { return Ok(false) };
        let line = line.trim();
        self.framing = match self.framing {
            Framing::ChunkEnd if line.is_empty() => Framing::ChunkSize,
            Framing::Trailer if line.is_empty() => {
                self.finish();
                return Ok(false);
            }
            Framing::Trailer => Framing::Trailer,
            Framing::ChunkSize => {
                let digits = line.split(';').next().unwrap_or_default().trim();
                match usize::from_str_radix(digits, 16) {
                    Ok(0) => Framing::Trailer,
                    Ok(size) => Framing::Chunk(size),
                    Err(_) => return Err(NoResponse::Framing(format!("chunk size {line:?}"))),
                }
            }
            _ => return Err(NoResponse::Framing(format!("{line:?} after a chunk"))),
        };
        Ok(true)
    }

    fn take_head(&mut self) -> Result<bool, NoResponse> {
        let begins = b"HTTP/1.";
        let seen = self.unread.len().min(begins.len());
        if self.unread[..seen] != begins[..seen] {
            return Err(NoResponse::Odd(first_bytes(&self.unread)));
        }
        let Some(end) = find(&self.unread, b"\r\n\r\n") else {
            return if self.unread.len() > HEAD_LIMIT {
                Err(NoResponse::LongHead)
            } else {
                Ok(false)
            };
        };
        let rest = self.unread.split_off(end + 4);
        let text = std::mem::replace(&mut self.unread, rest);
        self.taken += text.len() as u64;
        self.ends_here(self.taken);
        let head = Head::read(&mut text.as_slice())
            .ok()
            .flatten()
            .ok_or_else(|| NoResponse::Odd(first_bytes(&text)))?;
        let status = head.status();
        if (100..200).contains(&status) {
            // Interim; the real one follows.
            return Ok(true);
        }
        let is = |name: &str, word: &str| {
            head.header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word))
        };
        if is("content-type", "text/event-stream") {
            self.events = Some(Events::default());
        }
        self.framing = match head.header("content-length").map(str::parse) {
            _ if matches!(status, 204 | 304) => Framing::Length(0),
            _ if is("transfer-encoding", "chunked") => Framing::ChunkSize,
            Some(Ok(length)) => Framing::Length(length),
            Some(Err(_)) => return Err(NoResponse::Framing("its Content-Length".to_owned())),
            None => Framing::ToEnd,
        };
        self.head = Some(head);
        Ok(true)
    }

    fn take_line(&mut self) -> Result<Option<String>, NoResponse> {
        let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') else {
            if self.unread.len() > HEAD_LIMIT {
                return Err(NoResponse::Framing("a line without an end".to_owned()));
            }
            return Ok(None);
        };
        let rest = self.unread.split_off(end + 1);
        let line = std::mem::replace(&mut self.unread, rest);
        self.taken += line.len() as u64;
        self.ends_here(self.taken);
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    fn take_body(&mut self, count: usize) -> Result<(), NoResponse> {
        let rest = self.unread.split_off(count);
        let taken = std::mem::replace(&mut self.unread, rest);
        let before = self.taken;
        self.taken += count as u64;
        match &mut self.events {
            Some(events) => {
                for end in events.feed(&taken, &mut self.messages)? {
                    self.ends_here(before + end);
                }
            }
            None if self.body.len() + taken.len() > BODY_LIMIT => return Err(NoResponse::Long),
            None => self.body.extend_from_slice(&taken),
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.complete = true;
        self.ends_here(self.taken);
        if self.events.is_none() {
            match serde_json::from_slice(&self.body) {
                // Revision 2025-03-26 had batches.
                Ok(Value::Array(many)) => self.messages.extend(many),
                Ok(one) => self.messages.push_back(one),
                Err(_) => {}
            }
        }
    }
}

/// A stream of events, as far as it has come.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    kind: String,
    data: String,
    /// The last id that was given.
    pub last_id: Option<String>,
    /// Where messages are to be posted, in the older pair of HTTP and SSE.
    pub endpoint: Option<String>,
    /// Events that have come whole.
    pub count: u64,
}

impl Events {
    /// Takes in bytes; gives back after which of them an event ends.
    fn feed(
        &mut self,
        bytes: &[u8],
        messages: &mut VecDeque<Value>,
    ) -> Result<Vec<u64>, NoResponse> {
        let mut ends = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > BODY_LIMIT {
                    return Err(NoResponse::Long);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() && ends.len() < ENDS {
                ends.push(at as u64 + 1);
            }
            self.line(line, messages);
        }
        Ok(ends)
    }

    fn line(&mut self, line: &str, messages: &mut VecDeque<Value>) {
        if line.is_empty() {
            return self.dispatch(messages);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                if self.data.len() + value.len() <= BODY_LIMIT {
                    self.data.push_str(value);
                }
            }
            "id" => self.last_id = Some(value.to_owned()),
            _ => {}
        }
    }

    fn dispatch(&mut self, messages: &mut VecDeque<Value>) {
        let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        if kind.is_empty() && data.is_empty() {
            return;
        }
        self.count += 1;
        if kind == "endpoint" {
            self.endpoint = Some(data.trim().to_owned());
        } else if let Ok(message) = serde_json::from_str(&data)
            && messages.len() < MESSAGES
        {
            messages.push_back(message);
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The first bytes, for people.
fn first_bytes(bytes: &[u8]) -> String {
    let some = &bytes[..bytes.len().min(24)];
    match std::str::from_utf8(some) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => {
            let hex: Vec<String> = some.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("the bytes {}", hex.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The same response in one piece, and byte by byte.
    fn both(text: &str) -> Response {
        let mut whole = Response::default();
        whole.feed(text.as_bytes()).expect("a response");
        let mut pieces = Response::default();
        for byte in text.as_bytes() {
            pieces.feed(&[*byte]).expect("a response");
        }
        assert_eq!(whole.is_complete(), pieces.is_complete());
        assert_eq!(whole.messages, pieces.messages);
        assert_eq!(whole.body, pieces.body);
        assert_eq!(whole.ends, pieces.ends);
        whole
    }

    #[test]
    fn a_body_ends_by_length_by_chunks_or_with_its_connection() {
        let json = r#"{"id":1}"#;
        let mut response = both(&format!("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{json}"));
        assert!(response.is_complete());
        assert_eq!(response.message(), Some(json!({ "id": 1 })));

        let chunks =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n3;a=b\r\n:1}\r\n";
        assert!(!both(chunks).is_complete());
        let mut response = both(&format!("{chunks}0\r\nX: y\r\n\r\n"));
        assert_eq!(response.message(), Some(json!({ "id": 1 })));
        assert!(response.is_complete());

        let mut response = both(&format!("HTTP/1.0 200 OK\r\n\r\n{json}"));
        assert!(!response.is_complete() && response.end());
        assert_eq!(response.message(), Some(json!({ "id": 1 })));

        let mut cut = both("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{");
        assert!(!cut.end());
    }

    #[test]
    fn events_are_messages_ids_and_an_endpoint() {
        let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        let events =
            ": hello\n\nevent: endpoint\r\ndata: /m?s=1\r\n\r\nid: 7\ndata: {\"a\":\ndata: 1}\n\n";
        let mut response = both(&format!("{head}{events}data: {{\"b\""));
        assert_eq!(response.message(), Some(json!({ "a": 1 })));
        assert_eq!(response.message(), None);
        let told = response.events().expect("events");
        assert_eq!(told.endpoint.as_deref(), Some("/m?s=1"));
        assert_eq!(told.last_id.as_deref(), Some("7"));
        assert!(!response.is_complete());
    }

    #[test]
    fn the_ends_of_its_parts_are_known() {
        let (head, body) = ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", r#"{"id":1}"#);
        let mut response = both(&format!("{head}{body}"));
        let end = head.len() as u64;
        assert_eq!(response.ends(), [end, end + 8]);

        let kind = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head = format!("HTTP/1.1 200 OK\r\n{kind}");
        let mut response = both(&format!("{head}6\r\nid:1\n\n\r\n0\r\n\r\n"));
        let ends: Vec<u64> = response.ends().iter().map(|end| end - head.len() as u64).collect();
        assert_eq!(ends, [0, 3, 9, 11, 14, 16], "size, chunk and event, end of chunk, last, end");
    }

    #[test]
    fn what_is_no_http_is_told_by_its_first_bytes() {
        let said = |bytes: &[u8]| Response::default().feed(bytes).expect_err("none").to_string();
        let alert = said(&[0x15, 3, 1, 0, 2, 2, 0x46]);
        assert!(alert.ends_with("begins with the bytes 15 03 01 00 02 02 46"), "{alert}");
        assert!(said(b"SSH-2.0-x").contains("\"SSH-2.0-x\""));
        assert!(
            said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").contains("xyz")
        );
    }
}
