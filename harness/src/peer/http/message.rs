//! Heads and bodies of HTTP/1.1, blocking.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

/// Longest head, in bytes.
const HEAD_LIMIT: u64 = 64 << 10;
/// Longest body, in bytes.
const BODY_LIMIT: u64 = 16 << 20;

/// The first line and the headers of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Request line or status line.
    pub first: String,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
}

impl Head {
    /// Reads one; none where the other side has nothing more to say.
    pub fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut input = Read::take(input, HEAD_LIMIT);
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        whole(&line)?;
        let mut head = Head { first: line.trim_end().to_owned(), headers: BTreeMap::new() };
        loop {
            line.clear();
            input.read_line(&mut line)?;
            whole(&line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                return Ok(Some(head));
            };
            head.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }

    /// A header by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// A word of the first line: method, path, version, or version, status, reason.
    pub fn word(&self, index: usize) -> &str {
        self.first.split_whitespace().nth(index).unwrap_or_default()
    }

    /// The body after it, whole. That of a request without a length is empty, that of a response
    /// goes on to the end of the connection.
    pub fn body(&self, input: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked")) {
            while chunk(input, &mut body)? {}
            return Ok(body);
        }
        let is_response = self.first.starts_with("HTTP/");
        let length = match self.header("content-length").map(str::parse) {
            Some(Ok(length)) => length,
            Some(Err(_)) => return Err(io::ErrorKind::InvalidData.into()),
            None if is_response && !matches!(self.status(), 202 | 204) => u64::MAX,
            None => 0,
        };
        Read::take(&mut *input, length.min(BODY_LIMIT)).read_to_end(&mut body)?;
        if length != u64::MAX && (body.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }
}

/// A line of a head that ends where it should; half of one is no line.
fn whole(line: &str) -> io::Result<()> {
    if line.ends_with('\n') { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// One chunk of a chunked body; false after the last.
fn chunk(input: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<bool> {
    let mut line = String::new();
    Read::take(&mut *input, HEAD_LIMIT).read_line(&mut line)?;
    let digits = line.trim().split(';').next().unwrap_or_default();
    let length = u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
    if length.saturating_add(body.len() as u64) > BODY_LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Read::take(&mut *input, length).read_to_end(body)?;
    line.clear();
    Read::take(&mut *input, HEAD_LIMIT).read_line(&mut line)?;
    Ok(length > 0)
}

/// The messages in a body: one, or the data of each event.
pub fn messages(head: &Head, body: &[u8]) -> Vec<serde_json::Value> {
    let is_events = head.header("content-type").is_some_and(|kind| kind.contains("event-stream"));
    if !is_events {
        return serde_json::from_slice(body).into_iter().collect();
    }
    let text = String::from_utf8_lossy(body);
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data.trim()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_by_length_by_chunks_and_to_the_end() {
        let body = |text: &str| {
            let mut input = text.as_bytes();
            let head = Head::read(&mut input).expect("a head").expect("one");
            (
                head.status(),
                String::from_utf8(head.body(&mut input).expect("a body")).expect("text"),
            )
        };
        let ok = |rest: &str| body(&format!("HTTP/1.1 200 OK\r\n{rest}"));
        assert_eq!(ok("Content-Length: 2\r\n\r\nhixx"), (200, "hi".to_owned()));
        assert_eq!(
            ok("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n you\r\n0\r\n\r\n").1,
            "hi yo"
        );
        assert_eq!(ok("\r\nall of it"), (200, "all of it".to_owned()));
        assert_eq!(body("HTTP/1.1 202 Accepted\r\n\r\n"), (202, String::new()));
    }

    #[test]
    fn a_cut_message_is_an_error() {
        let mut input = &b"HTTP/1.1 200 OK\r\nContent-Len"[..];
        assert!(Head::read(&mut input).is_err());
        let mut input = &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"[..];
        let head = Head::read(&mut input).expect("a head").expect("one");
        assert!(head.body(&mut input).is_err());
    }

    #[test]
    fn messages_are_taken_from_events_too() {
        let mut head = Head::default();
        head.headers.insert("content-type".into(), "text/event-stream".into());
        let body = b": ping\n\nid: 1\ndata:\n\nevent: message\ndata: {\"id\":1}\n\n";
        assert_eq!(messages(&head, body), [serde_json::json!({"id": 1})]);
    }
}
