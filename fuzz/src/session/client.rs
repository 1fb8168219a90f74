//! Requests in memory, straight into the service, and the streams that come back.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use scupper_core::session::{Registry, SessionService, Sessions, Supervised};
use tokio::time::timeout;
use tower_service::Service;

use super::demo::{Demo, Initialize, Tool};

/// How long a client waits for a piece of a stream.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long it waits for the whole of an answer that is no stream of a call.
const WHOLE: Duration = Duration::from_secs(60);
/// How many sessions and streams it remembers; the oldest stream is left.
const SESSIONS: usize = 4;
const STREAMS: usize = 12;

type AnswerBody = BoxBody<Bytes, Infallible>;

/// A message to post.
#[derive(Clone, Debug)]
pub(super) enum Post {
    Initialized,
    Call(Tool, u8),
    /// A call of the era without sessions.
    ModernCall(Tool, u8),
    Cancel(u8),
    Ping(u8),
    /// The answer to a question of the sweeper, which may not have been asked.
    Answer(u8),
    /// Anything.
    Bytes(Vec<u8>),
}

impl<'a> Arbitrary<'a> for Post {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let id = |u: &mut Unstructured<'a>| u.int_in_range(0..=3_u8);
        Ok(match u.int_in_range(0..=9_u8)? {
            0 => Self::Initialized,
            1..=4 => Self::Call(Tool::arbitrary(u)?, id(u)?),
            5 => Self::ModernCall(Tool::arbitrary(u)?, id(u)?),
            6 => Self::Cancel(id(u)?),
            7 => Self::Ping(id(u)?),
            8 => Self::Answer(id(u)?),
            _ => Self::Bytes(u.bytes(u.len().min(16))?.to_vec()),
        })
    }
}

impl Post {
    fn body(&self) -> Vec<u8> {
        let call = |tool: &Tool, id: &u8, meta: &str| {
            let name = tool.name();
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}","arguments":{{}},"_meta":{{{meta}}}}}}}"#
            )
        };
        let text = match self {
            Self::Initialized => r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.into(),
            Self::Call(tool, id) => call(tool, id, r#""progressToken":7"#),
            Self::ModernCall(tool, id) => call(
                tool,
                id,
                r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"works","version":"0"}"#,
            ),
            Self::Cancel(id) => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ),
            Self::Ping(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#),
            Self::Answer(id) => {
                format!(r#"{{"jsonrpc":"2.0","id":"scupper-are-you-there-{id}","result":{{}}}}"#)
            }
            Self::Bytes(bytes) => return bytes.clone(),
        };
        text.into_bytes()
    }
}

pub(super) struct Client {
    service: SessionService<StreamableHttpService<Supervised<Demo>, Registry>>,
    sessions: VecDeque<String>,
    streams: VecDeque<AnswerBody>,
}

impl Client {
    pub(super) fn new(sessions: &Sessions, demo: &Demo) -> Self {
        let demo = demo.clone();
        let config = StreamableHttpServerConfig::default();
        let service = sessions.service(move || Ok(demo.clone()), config);
        Self { service, sessions: VecDeque::new(), streams: VecDeque::new() }
    }

    /// One of the latest sessions, the latest first.
    pub(super) fn session(&self, which: u8) -> Option<String> {
        self.sessions.get(usize::from(which)).cloned()
    }

    /// Begins a session, and finishes the handshake if it is to go on.
    pub(super) async fn initialize(&mut self, initialize: Initialize, goes_on: bool) {
        let name = initialize.client_name();
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"{name}","version":"0"}}}}}}"#
        );
        let response = self.send(Method::POST, None, &[], body.into_bytes()).await;
        let (parts, body) = response.into_parts();
        let session = parts
            .headers
            .get("mcp-session-id")
            .map(|id| id.to_str().expect("an id is visible ASCII").to_owned());
        if parts.status == StatusCode::OK {
            let session = session.expect("an initialize that worked has a session");
            self.sessions.push_front(session);
            self.sessions.truncate(SESSIONS);
        }
        timeout(WHOLE, body.collect()).await.ok();
        if parts.status == StatusCode::OK && goes_on {
            self.post(0, &Post::Initialized).await;
        }
    }

    pub(super) async fn post(&mut self, session: u8, post: &Post) {
        let (session, headers): (_, &[(&str, &str)]) = match post {
            Post::ModernCall(tool, _) => (
                None,
                &[
                    ("mcp-protocol-version", "2026-07-28"),
                    ("mcp-method", "tools/call"),
                    ("mcp-name", tool.name()),
                ],
            ),
            _ => (self.session(session), &[]),
        };
        let response = self.send(Method::POST, session.as_deref(), headers, post.body());
        // In the newer era the head of a response waits for the first message; a client gives up.
        if let Ok(response) = timeout(WHOLE, response).await {
            self.take(response).await;
        }
    }

    /// Opens a stream of its own, or resumes one.
    pub(super) async fn listen(&mut self, session: u8, event: Option<&str>) {
        let headers: Vec<_> = event.map(|event| ("last-event-id", event)).into_iter().collect();
        let session = self.session(session);
        let response = self.send(Method::GET, session.as_deref(), &headers, Vec::new()).await;
        self.take(response).await;
    }

    pub(super) async fn delete(&mut self, session: u8) {
        let session = self.session(session);
        let response = self.send(Method::DELETE, session.as_deref(), &[], Vec::new()).await;
        self.take(response).await;
    }

    pub(super) async fn read(&mut self, stream: u8, pieces: u8) {
        let Some(place) = self.place(stream) else { return };
        for _ in 0..pieces {
            match timeout(PATIENCE, self.streams[place].frame()).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.streams.remove(place);
                    return;
                }
                Err(_) => return,
            }
        }
    }

    pub(super) fn leave(&mut self, stream: u8) {
        if let Some(place) = self.place(stream) {
            self.streams.remove(place);
        }
    }

    pub(super) fn leave_all(&mut self) {
        self.streams.clear();
    }

    fn place(&self, stream: u8) -> Option<usize> {
        usize::from(stream).checked_rem(self.streams.len())
    }

    async fn send(
        &self,
        method: Method,
        session: Option<&str>,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Response<AnswerBody> {
        let mut request = Request::builder()
            .method(method)
            .uri("/mcp")
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // What no header can hold, no client can send.
        let Ok(request) = request.body(Full::new(Bytes::from(body))) else {
            return Response::new(Full::default().boxed());
        };
        match self.service.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Keeps a stream; anything else is read to its end.
    async fn take(&mut self, response: Response<AnswerBody>) {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if is_stream {
            self.streams.truncate(STREAMS - 1);
            self.streams.push_front(response.into_body());
        } else {
            timeout(WHOLE, response.into_body().collect()).await.ok();
        }
    }
}
