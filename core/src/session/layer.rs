//! The tower layer between a listener and rmcp's service: it knows which session a connection
//! serves, gives refusals their status, and answers when the service panics.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use tower::{Layer, Service};

use super::{
    connection::Connection,
    loose::LooseStream,
    registry::Shared,
    request::{self, Refusal},
};
use crate::scope::catch_panic;

const SESSION_ID: &str = "mcp-session-id";
/// How many seconds a client that was refused should wait: a sweep may have passed by then.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("30");

/// Puts a [`SessionService`] around a service; got from [`Sessions::layer`](super::Sessions::layer).
#[derive(Clone)]
pub struct SessionLayer {
    pub(super) shared: Arc<Shared>,
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, service: S) -> SessionService<S> {
        SessionService { service, shared: Arc::clone(&self.shared) }
    }
}

/// rmcp's `StreamableHttpService`, with what it lacks: 503 at a limit, 404 to a DELETE of a session
/// that is gone, 500 when it panics, and connections that know their sessions.
#[derive(Clone)]
pub struct SessionService<S> {
    service: S,
    shared: Arc<Shared>,
}

type AnswerBody = BoxBody<Bytes, Infallible>;

impl<S, B> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>, Response = Response<AnswerBody>, Error = Infallible> + Clone,
    S: Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone takes the next call; the one that was polled ready takes this one.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let gone = shared.deletes_nothing(&request);
            let connection = request.extensions().get::<Arc<Connection>>().cloned();
            let notes_for = connection.clone();
            let answering = async move {
                match catch_panic(async { service.call(request).await }).await {
                    Ok(answer) => answer,
                    Err(message) => Ok(broken(&message)),
                }
            };
            let (answer, outcome) = request::with_notes(notes_for, answering).await;
            let answer = match outcome.refusal {
                Some(refusal) => refused(refusal),
                None => answer?,
            };
            let answer = match gone {
                Some(refusal) if answer.status() == StatusCode::ACCEPTED => refused(refusal),
                _ => answer,
            };
            shared.note_session(answer.headers(), connection.as_ref());
            Ok(shared.with_row(answer, outcome.opened_stream, connection))
        })
    }
}

impl Shared {
    /// rmcp answers a DELETE with 202 whether or not there is such a session.
    fn deletes_nothing<B>(&self, request: &Request<B>) -> Option<Refusal> {
        if request.method() != Method::DELETE {
            return None;
        }
        let id = request.headers().get(SESSION_ID)?.to_str().ok()?;
        if self.open_session(id).is_some() {
            return None;
        }
        Some(Refusal::Unknown(format!(
            "there is no session {id}: it was deleted or swept, or never was"
        )))
    }

    /// A session that was born in this answer is known to its connection.
    fn note_session(&self, headers: &HeaderMap, connection: Option<&Arc<Connection>>) {
        if let Some(connection) = connection
            && let Some(id) = headers.get(SESSION_ID).and_then(|id| id.to_str().ok())
            && let Some(session) = self.open_session(id)
        {
            session.carried_by(connection);
        }
    }

    /// Streams of a session have their rows; those of a request without one get theirs here.
    fn with_row(
        self: &Arc<Self>,
        answer: Response<AnswerBody>,
        has_row: bool,
        connection: Option<Arc<Connection>>,
    ) -> Response<AnswerBody> {
        let is_stream = answer
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if has_row || !is_stream || answer.headers().contains_key(SESSION_ID) {
            return answer;
        }
        let place = LooseStream::new(self, connection);
        answer.map(|body| Placed { body, _place: place }.boxed())
    }
}

fn refused(refusal: Refusal) -> Response<AnswerBody> {
    let (status, words) = match refusal {
        Refusal::Busy(words) => (StatusCode::SERVICE_UNAVAILABLE, words),
        Refusal::Unknown(words) => (StatusCode::NOT_FOUND, words),
        Refusal::BadRequest(words) => (StatusCode::BAD_REQUEST, words),
    };
    let mut answer = plain(status, words);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    answer
}

fn broken(message: &str) -> Response<AnswerBody> {
    tracing::error!(message, "the service panicked");
    plain(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the service panicked; see the server's log".to_owned(),
    )
}

fn plain(status: StatusCode, words: String) -> Response<AnswerBody> {
    let mut answer = Response::new(Full::new(Bytes::from(words)).boxed());
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// The body of a stream without a session.
struct Placed {
    body: AnswerBody,
    _place: LooseStream,
}

impl Body for Placed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
