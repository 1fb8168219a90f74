//! Answers that are whole: a status, headers, and a body of JSON or none.

use std::{
    io::{self, Write},
    net::TcpStream,
};

use serde_json::json;

/// An answer.
pub(super) struct Response {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Response {
    /// One without a body.
    pub(super) fn empty(status: &'static str) -> Self {
        Self::with(status, Vec::new())
    }

    /// One with this body.
    pub(super) fn with(status: &'static str, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// A refusal, which says why.
    pub(super) fn refusal(status: &'static str, why: &str) -> Self {
        Self::with(status, json!({ "error": why }).to_string().into_bytes())
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Writes it in one piece.
    pub(super) fn write(&self, mut socket: &TcpStream) -> io::Result<()> {
        let mut text =
            format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n", self.status, self.body.len());
        if !self.body.is_empty() {
            text.push_str("Content-Type: application/json\r\n");
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        socket.write_all(&[text.as_bytes(), &self.body].concat())
    }
}
