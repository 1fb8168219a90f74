//! What rmcp's worker and its tasks make requests with.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::Incoming;
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, ServerJsonRpcMessage},
    transport::{
        common::http_header::{
            HEADER_LAST_EVENT_ID, HEADER_MCP_PROTOCOL_VERSION, HEADER_SESSION_ID, JSON_MIME_TYPE,
        },
        streamable_http_client::{
            AuthRequiredError, StreamableHttpClient, StreamableHttpError,
            StreamableHttpPostResponse,
        },
    },
};
use sse_stream::{Error as SseError, Sse};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    answer::{self, Answer},
    connection::{Connection, lock},
    error::RequestError,
    events::{self, Asked, Events, OpenStream},
};
use crate::census::{Kind, Row};

/// rmcp itself gives a probe ten seconds.
const LONGEST_PROBE: Duration = Duration::from_secs(9);

type Failed = StreamableHttpError<RequestError>;

/// What rmcp's worker and its tasks make requests with. The last one to be dropped tells that they
/// are gone.
#[derive(Clone)]
pub(super) struct Backend {
    pub(super) connection: Arc<Connection>,
    _presence: Arc<Presence>,
}

/// rmcp's tasks in the census.
struct Presence {
    _row: Row,
    _vacated: DropGuard,
}

impl Backend {
    pub(super) fn new(connection: &Arc<Connection>, vacated: CancellationToken) -> Self {
        let row = connection.census.enter(
            Kind::Task,
            "rmcp http worker",
            format!("in server {}", connection.name),
            connection.opened_at,
        );
        Self {
            connection: Arc::clone(connection),
            _presence: Arc::new(Presence { _row: row, _vacated: vacated.drop_guard() }),
        }
    }

    async fn post(
        &self,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let connection = &self.connection;
        let wait = match self.is_probe(&message) {
            true => connection.settings.probe_wait,
            false => connection.settings.request_wait,
        };
        let asked = asked(&message, wait);
        let permit = match &asked {
            Some(_) => Some(self.turn().await?),
            None => None,
        };
        let body = serde_json::to_vec(&message).map_err(RequestError::Encode).map_err(client)?;
        let mut request = self.request(Method::POST, session.as_deref(), headers)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_MIME_TYPE));
        *request.body_mut() = Full::new(Bytes::from(body));
        let response = self.send(request).await?;
        self.note_session(&message, &response);
        let minted = header(&response, HEADER_SESSION_ID);
        if response.status() == StatusCode::NOT_FOUND
            && let Some(id) = &session
        {
            lock(&connection.sessions).remove(id);
            return Err(StreamableHttpError::SessionExpired);
        }
        let reading = answer::read(connection, &message, session.is_some(), response);
        match self.unless_ended(reading).await? {
            Answer::Accepted => Ok(StreamableHttpPostResponse::Accepted),
            Answer::Message(message) => Ok(StreamableHttpPostResponse::Json(*message, minted)),
            Answer::Events(body) => {
                let stream = self.events(Method::POST, body, asked, None, permit);
                Ok(StreamableHttpPostResponse::Sse(stream, minted))
            }
        }
    }

    /// Is this the question of a handshake that goes on without an answer, too?
    fn is_probe(&self, message: &ClientJsonRpcMessage) -> bool {
        self.connection.expects_probe()
            && matches!(
                message,
                ClientJsonRpcMessage::Request(request)
                    if matches!(request.request, ClientRequest::DiscoverRequest(_))
            )
    }

    async fn get(
        &self,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        let connection = &self.connection;
        let asked = last_event_id.as_deref().and_then(|id| connection.take_resume(id));
        let fruitless = match &asked {
            Some(asked) => asked.fruitless,
            None => connection.fruitless_streams(),
        };
        if fruitless >= connection.settings.stream_reconnects.max(1) {
            tracing::warn!(parent: connection.span(), "a stream breaks again and again: given up");
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        // One that is to go on with an answer counts as the request did.
        let permit = match &asked {
            Some(_) => Some(self.turn().await?),
            None => None,
        };
        let mut request = self.request(Method::GET, session.as_deref(), headers)?;
        if let Some(id) = &last_event_id {
            let id = HeaderValue::try_from(id)
                .map_err(|_| StreamableHttpError::ServerDoesNotSupportSse)?;
            request.headers_mut().insert(HEADER_LAST_EVENT_ID, id);
        }
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(error) => {
                if let (Some(id), Some(asked)) = (last_event_id, asked) {
                    connection.expect_resume(id, asked);
                }
                return Err(error);
            }
        };
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportSse),
            // rmcp opens a stream again after every failure but these.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                let challenge = answer::challenge(&response).unwrap_or_default();
                Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge)))
            }
            _ => {
                let reading = answer::read_stream(connection, response);
                let body = self.unless_ended(reading).await?;
                Ok(self.events(Method::GET, body, asked, last_event_id, permit))
            }
        }
    }

    fn events(
        &self,
        method: Method,
        body: Incoming,
        asked: Option<Asked>,
        last_id: Option<String>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> BoxStream<'static, Result<Sse, SseError>> {
        let connection = &self.connection;
        let settings = &connection.settings;
        let what = if asked.is_some() { "answer" } else { "open" };
        // Only who waits for an answer minds a silence, and a subscription waits for none.
        let waits = asked.as_ref().is_some_and(|asked| asked.until.is_some());
        let silence = waits.then_some(settings.answer_wait);
        // Counted before it is listed: whoever sees the row finds the stream in the count.
        let open = OpenStream::new(&connection.streams);
        let events = Events {
            backend: self.clone(),
            method,
            asked,
            last_id,
            fruitful: false,
            inner: events::parse(body, settings.event_limit_bytes, silence),
            over: false,
            _row: connection.census.enter(
                Kind::Stream,
                Arc::clone(&connection.name),
                what,
                connection.opened_at,
            ),
            _open: open,
            _permit: permit,
        };
        events.stream()
    }

    fn request(
        &self,
        method: Method,
        session: Option<&str>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, Failed> {
        let mut request = self.connection.bare_request(method);
        if let Some(id) = session {
            let revision = HeaderName::from_static("mcp-protocol-version");
            debug_assert_eq!(revision, HEADER_MCP_PROTOCOL_VERSION);
            if let Some(revision) = headers.get(&revision) {
                lock(&self.connection.sessions).note_revision(id, revision);
            }
            let id = HeaderValue::try_from(id).map_err(|_| {
                client(RequestError::NotMcp {
                    method: request.method().clone(),
                    url: Arc::clone(self.connection.target.url()),
                    why: "its session id has characters that no header may have".to_owned(),
                    body: String::new(),
                })
            })?;
            request.headers_mut().insert(HEADER_SESSION_ID, id);
        }
        request.headers_mut().extend(headers);
        Ok(request)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        let wait = self.connection.settings.answer_wait;
        self.unless_ended(self.connection.send(request, wait, "answer_wait")).await
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Failed> {
        let connection = &self.connection;
        let turn = Arc::clone(&connection.requests).acquire_owned();
        let turn = async {
            match tokio::time::timeout(connection.settings.answer_wait, turn).await {
                Ok(Ok(permit)) => Ok(permit),
                _ => Err(RequestError::Busy { limit: connection.settings.max_requests }),
            }
        };
        self.unless_ended(turn).await
    }

    async fn unless_ended<T>(
        &self,
        work: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, Failed> {
        tokio::select! {
            biased;
            () = self.connection.ended.cancelled() => {
                Err(client(RequestError::Ended(self.connection.cause())))
            }
            result = work => result.map_err(|error| {
                self.connection.note_failure(&error);
                client(error)
            }),
        }
    }

    /// The session begins with the head of the answer, not with its body: from here on a close
    /// knows what to delete.
    fn note_session(&self, message: &ClientJsonRpcMessage, response: &Response<Incoming>) {
        let is_initialize = matches!(
            message,
            ClientJsonRpcMessage::Request(request)
                if matches!(request.request, ClientRequest::InitializeRequest(_))
        );
        if !is_initialize || !response.status().is_success() {
            return;
        }
        let Some(id) = header(response, HEADER_SESSION_ID) else {
            return;
        };
        self.connection.session_began(id);
    }
}

/// The id of a request, and until when its answer is waited for.
fn asked(message: &ClientJsonRpcMessage, wait: Duration) -> Option<Asked> {
    let ClientJsonRpcMessage::Request(request) = message else {
        return None;
    };
    let is_subscription = matches!(request.request, ClientRequest::SubscriptionsListenRequest(_));
    let until = (!is_subscription).then(|| Instant::now().checked_add(wait)).flatten();
    Some(Asked { id: request.id.clone(), until, fruitless: 0 })
}

fn header(response: &Response<Incoming>, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn client(error: RequestError) -> Failed {
    StreamableHttpError::Client(error)
}

/// The limits on events come from the connection's settings, which rmcp was given too.
impl StreamableHttpClient for Backend {
    type Error = RequestError;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let probe = match &message {
            ClientJsonRpcMessage::Request(request) if self.is_probe(&message) => {
                Some(request.id.clone())
            }
            _ => None,
        };
        let posted = self.post(message, session_id, custom_headers);
        let Some(id) = probe else {
            return posted.await;
        };
        // rmcp's worker does nothing else while this first request waits, so silence has to become
        // an answer here for the handshake to go on.
        let wait = self.connection.settings.probe_wait.min(LONGEST_PROBE);
        match tokio::time::timeout(wait, posted).await {
            Ok(answer) => answer,
            Err(_) => {
                let silence = "the server did not answer server/discover in time";
                let silence = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, silence, None);
                let answer = ServerJsonRpcMessage::error(silence, Some(id));
                Ok(StreamableHttpPostResponse::Json(answer, None))
            }
        }
    }

    /// The connection's own close does it, once, whatever rmcp's worker gets to.
    async fn delete_session(
        &self,
        _: Arc<str>,
        _: Arc<str>,
        _: Option<String>,
        _: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failed> {
        Ok(())
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        self.get(session_id, last_event_id, custom_headers).await
    }
}
