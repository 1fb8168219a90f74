//! A client of MCP over HTTP on a bare socket, so that a test can misbehave at any byte.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it, so an expectation would fail in some"
)]

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"0"}}}"#;
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A call of a tool without arguments, in the era with sessions.
pub(crate) fn call(id: u32, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
    )
}

/// The same in the era without.
pub(crate) fn modern_call(id: u32, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"raw","version":"0"}}}}}}}}"#
    )
}

pub(crate) fn modern_headers(tool: &str) -> String {
    format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n")
}

/// An answer that has come whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn session(&self) -> String {
        self.headers.get("mcp-session-id").expect("a session id").clone()
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
    /// Text of a stream that is no whole event yet.
    events: String,
}

/// How reading ended before its time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The peer closed, or the body is at its end.
    Ended,
    /// The peer reset.
    Reset,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        Self { stream, read: Vec::new(), events: String::new() }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("written");
    }

    /// The head of a request and its body.
    pub(crate) async fn send(&mut self, method: &str, headers: &str, body: &str) {
        let text = format!(
            "{method} /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        self.write(&text).await;
    }

    pub(crate) async fn post(&mut self, session: Option<&str>, body: &str) -> Answer {
        self.send("POST", &of_session(session), body).await;
        self.answer().await
    }

    pub(crate) async fn delete(&mut self, session: &str) -> Answer {
        self.send("DELETE", &of_session(Some(session)), "").await;
        self.answer().await
    }

    /// Opens the standalone stream and reads the head of its answer.
    pub(crate) async fn listen(&mut self, session: &str) {
        self.send("GET", &of_session(Some(session)), "").await;
        let (status, _) = self.head().await.expect("a head");
        assert_eq!(status, 200);
    }

    /// Begins a call and reads the head of its answer.
    pub(crate) async fn begin(&mut self, session: &str, body: &str) {
        self.send("POST", &of_session(Some(session)), body).await;
        let (status, _) = self.head().await.expect("a head");
        assert_eq!(status, 200);
    }

    /// A session whose handshake is finished, on this connection.
    pub(crate) async fn handshake(&mut self) -> String {
        let session = self.post(None, INITIALIZE).await.session();
        assert_eq!(self.post(Some(&session), INITIALIZED).await.status, 202);
        session
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("a whole answer")
    }

    pub(crate) async fn try_answer(&mut self) -> Result<Answer, Over> {
        let (status, headers) = self.head().await?;
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk);
            }
        } else {
            let length =
                headers.get("content-length").map_or(0, |text| text.parse().expect("a length"));
            body = self.take(length).await?;
        }
        Ok(Answer { status, headers, body: text(body) })
    }

    pub(crate) async fn head(&mut self) -> Result<(u16, BTreeMap<String, String>), Over> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = text(head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.expect("a status line");
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Ok((status, headers))
    }

    /// The next event of a stream that has data, comments and empty events left out.
    pub(crate) async fn event(&mut self) -> Result<String, Over> {
        loop {
            if let Some((event, rest)) = self.events.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.events = rest;
                if event.lines().any(|line| line.starts_with("data:") && line.len() > 6) {
                    return Ok(event);
                }
                continue;
            }
            let chunk = self.chunk().await?.ok_or(Over::Ended)?;
            self.events.push_str(&text(chunk));
        }
    }

    /// Reads until the peer closes or resets, whatever comes.
    pub(crate) async fn gone(&mut self) -> Over {
        let mut scrap = [0; 65536];
        loop {
            match self.stream.read(&mut scrap).await {
                Ok(0) => return Over::Ended,
                Ok(_) => {}
                Err(_) => return Over::Reset,
            }
        }
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("set");
    }

    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Over> {
        let line = text(self.until(b"\r\n").await?);
        let length = usize::from_str_radix(line.trim(), 16).expect("a length");
        let mut chunk = self.take(length + 2).await?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Over> {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|bytes| bytes == mark) {
                return Ok(self.read.drain(..at + mark.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Over> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(self.read.drain(..length).collect())
    }

    async fn more(&mut self) -> Result<(), Over> {
        let read =
            tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.read));
        match read.await.expect("bytes within 20 s") {
            Ok(0) => Err(Over::Ended),
            Ok(_) => Ok(()),
            Err(_) => Err(Over::Reset),
        }
    }
}

pub(crate) fn of_session(session: Option<&str>) -> String {
    session.map_or(String::new(), |id| format!("Mcp-Session-Id: {id}\r\n"))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}
