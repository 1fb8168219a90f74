//! HTTP/1.1 for the services that stand in: heads, bodies, streams of events, on tokio.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Longest body, in bytes.
const BODY_LIMIT: usize = 4 << 20;

/// A request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) session: Option<String>,
    pub(super) message: Value,
}

/// The read half of a connection.
pub(super) type Input = BufReader<OwnedReadHalf>;

impl Request {
    /// The next one of a connection; none at its end.
    pub(super) async fn read(input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if input.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let method = line.split_whitespace().next().unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            input.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length: usize =
            headers.get("content-length").and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length.min(BODY_LIMIT)];
        input.read_exact(&mut body).await?;
        let session = headers.remove("mcp-session-id");
        let message = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Some(Self { method, session, message }))
    }

    /// What the message asks for.
    pub(super) fn asks(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    /// The answer to it.
    pub(super) fn result(&self, result: Value) -> Value {
        serde_json::json!({"jsonrpc": "2.0", "id": self.message["id"], "result": result})
    }
}

/// A response with a message, or without.
pub(super) async fn respond(
    output: &mut (impl AsyncWrite + Unpin),
    status: &str,
    session: Option<&str>,
    message: Option<&Value>,
) -> io::Result<()> {
    let body = message.map(Value::to_string).unwrap_or_default();
    let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    output.write_all(text.as_bytes()).await
}

/// The head of a stream of events.
pub(super) async fn begin_events(output: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                Connection: close\r\n\r\n";
    output.write_all(head.as_bytes()).await
}

/// Takes connections until it is aborted, each in a task of its own.
pub(super) async fn accept<F>(listener: TcpListener, converse: impl Fn(Input, OwnedWriteHalf) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    // Conversations end with whoever ends the accepting.
    let mut conversations = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            // A connection that was gone before it was taken is none.
            taken = listener.accept() => if let Ok((socket, _)) = taken {
                let (input, output) = socket.into_split();
                // A client that goes in the middle of a sentence is its own affair.
                conversations.spawn(converse(BufReader::new(input), output));
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

/// The answer to `initialize`.
pub(super) fn introduction() -> Value {
    serde_json::json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "stand-in", "version": "1.0.0"},
    })
}

/// A task that is aborted with its guard.
pub(super) struct Aborted(pub(super) tokio::task::JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
