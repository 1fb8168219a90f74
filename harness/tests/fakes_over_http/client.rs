//! A client that speaks HTTP by hand, and what it asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use harness::peer::http::message::{Head, messages};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::BOUND;

/// How long a fake that reads may take to read on, on a busy host.
const FULL: Duration = Duration::from_secs(3);

pub(crate) fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    }})
}

/// A request, or the call of a tool where it names one.
pub(crate) fn call(id: u32, name: &str, arguments: Value) -> Value {
    let tool = json!({"name": name, "arguments": arguments});
    match name {
        "echo" | "sleep" => {
            json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": tool})
        }
        method => json!({"jsonrpc": "2.0", "id": id, "method": method, "params": arguments}),
    }
}

pub(crate) fn modern(id: u32, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(crate) fn session(id: &str) -> String {
    format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n")
}

pub(crate) fn headers(method: &str) -> String {
    format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n")
}

/// A client's connection.
pub(crate) struct Client(BufReader<TcpStream>);

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: String,
}

impl Response {
    /// The last message in it.
    pub(crate) fn message(&self) -> Value {
        messages(&self.head, self.body.as_bytes()).pop().unwrap_or_default()
    }
}

impl Client {
    /// Connected to a port of this machine.
    pub(crate) fn of(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        socket.set_read_timeout(Some(BOUND)).expect("a time-out");
        Self(BufReader::new(socket))
    }

    pub(crate) fn initialize(&mut self) -> String {
        let response = self.ask(&initialize(), "");
        response.head.header("mcp-session-id").expect("a session").to_owned()
    }

    pub(crate) fn ask(&mut self, message: &Value, headers: &str) -> Response {
        self.request("POST", "/mcp", headers, Some(message))
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: Option<&Value>,
    ) -> Response {
        self.send(method, path, headers, body);
        let head = Head::read(&mut self.0).expect("a head").expect("an answer");
        let body = head.body(&mut self.0).expect("a body");
        Response { status: head.status(), head, body: String::from_utf8(body).expect("text") }
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &str, body: Option<&Value>) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, \
             text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.write(text.as_bytes());
    }

    /// Asks until the server takes no more, and reads nothing.
    pub(crate) fn flood(&mut self, headers: &str) {
        let list = call(7, "tools/list", json!({})).to_string();
        let text =
            format!("POST /mcp HTTP/1.1\r\n{headers}Content-Length: {}\r\n\r\n{list}", list.len());
        let socket = self.0.get_ref();
        socket.set_write_timeout(Some(FULL)).expect("a time-out");
        // An error is the end of what fits, for one who waited for more room.
        while (&*socket).write_all(text.as_bytes()).is_ok() {}
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("it takes a request");
    }

    /// The next line that has this in it.
    pub(crate) fn line_with(&mut self, words: &str) -> String {
        let mut lines = self.0.by_ref().lines().map_while(Result::ok);
        let found = lines.find(|line| line.contains(words));
        found.unwrap_or_else(|| panic!("no line with {words}"))
    }

    pub(crate) fn first_line(&mut self) -> String {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).expect("an answer");
        String::from_utf8_lossy(&line).into_owned()
    }

    /// All that comes until the connection or the body ends.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            if self.0.read(&mut byte).expect("an end") == 0 {
                break;
            }
            text.push(byte[0]);
        }
        String::from_utf8(text).expect("text")
    }

    pub(crate) fn is_answered_within(&mut self, time: Duration) -> bool {
        self.0.get_ref().set_read_timeout(Some(time)).expect("a time-out");
        self.0.fill_buf().is_ok_and(|bytes| !bytes.is_empty())
    }

    pub(crate) fn reset(self) {
        set_socket_linger(self.0.get_ref(), Some(Duration::ZERO)).expect("a socket");
    }
}
