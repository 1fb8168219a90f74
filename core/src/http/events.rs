//! A stream of events: bounded in size, silence and life, in the census while it is open.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use http::Method;
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use rmcp::model::{ErrorData, RequestId, ServerJsonRpcMessage};
use sse_stream::{Error as SseError, Sse, SseStream};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{backend::Backend, connection::Connection, error::RequestError};
use crate::census::Row;

/// A server that asks to be called again at once would be called in a tight loop.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// The request that a stream is to answer.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) id: RequestId,
    /// When its life ends; a subscription has no end.
    pub(super) until: Option<Instant>,
    /// How many streams in a row have ended without an event.
    pub(super) fruitless: u32,
}

/// One open stream.
pub(super) struct Events {
    pub(super) backend: Backend,
    pub(super) method: Method,
    pub(super) asked: Option<Asked>,
    pub(super) last_id: Option<String>,
    pub(super) fruitful: bool,
    pub(super) inner: BoxStream<'static, Result<Sse, SseError>>,
    pub(super) over: bool,
    pub(super) _row: Row,
    pub(super) _open: OpenStream,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Events {
    /// The events as rmcp wants them. What ends them before their time is told to whoever asked.
    pub(super) fn stream(self) -> BoxStream<'static, Result<Sse, SseError>> {
        futures::stream::unfold(self, |mut events| async move {
            let event = events.next().await?;
            Some((event, events))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<Sse, SseError>> {
        if self.over {
            return None;
        }
        let connection = Arc::clone(self.connection());
        let until = self.asked.as_ref().and_then(|asked| asked.until);
        let event = tokio::select! {
            biased;
            () = connection.ended.cancelled() => None,
            () = at(until) => Some(Err(SseError::Body(Box::new(Cut::Expired)))),
            event = self.inner.next() => event,
        };
        match event {
            Some(Ok(mut event)) => {
                self.note(&mut event);
                Some(Ok(event))
            }
            Some(Err(error)) => {
                self.over = true;
                self.end_with(error)
            }
            None => {
                self.over = true;
                self.expect_another();
                None
            }
        }
    }

    fn connection(&self) -> &Arc<Connection> {
        &self.backend.connection
    }

    fn note(&mut self, event: &mut Sse) {
        self.fruitful = true;
        if let Some(retry) = &mut event.retry {
            let longest = self.connection().settings.reconnect_wait_limit;
            *retry = (*retry).clamp(millis(SHORTEST_RETRY), millis(longest.max(SHORTEST_RETRY)));
        }
        if event.id.is_some() {
            self.last_id.clone_from(&event.id);
        }
    }

    /// The stream broke. One that can be resumed is left to rmcp, which opens it again; else the
    /// request it was to answer has failed, and its caller hears why.
    fn end_with(&mut self, error: SseError) -> Option<Result<Sse, SseError>> {
        let cut = match &error {
            SseError::Body(cause) => cause.downcast_ref::<Cut>(),
            _ => None,
        };
        let broken = matches!(cut, Some(Cut::Broken(_)) | None);
        if broken && (self.last_id.is_some() || self.asked.is_none()) {
            self.expect_another();
            return Some(Err(error));
        }
        let failure = self.failure(cut, &error);
        let Some(asked) = &self.asked else {
            // It would only bring the same again.
            self.connection().give_up_stream(&failure);
            return Some(Err(error));
        };
        let message = format!("server `{}`: {failure}", self.connection().name);
        let answer = ServerJsonRpcMessage::error(
            ErrorData::internal_error(message, None),
            Some(asked.id.clone()),
        );
        match serde_json::to_string(&answer) {
            Ok(data) => Some(Ok(Sse::default().data(data))),
            Err(_) => Some(Err(error)),
        }
    }

    /// rmcp may open it again, and it is to be known then what for, and how often in vain.
    fn expect_another(&self) {
        let connection = self.connection();
        let fruitless = |before: u32| if self.fruitful { 0 } else { before.saturating_add(1) };
        match (&self.asked, &self.last_id) {
            (Some(asked), Some(last_id)) => {
                let asked = Asked { fruitless: fruitless(asked.fruitless), ..asked.clone() };
                connection.expect_resume(last_id.clone(), asked);
            }
            (Some(_), None) => {}
            (None, _) => connection.stream_ended(fruitless),
        }
    }

    fn failure(&self, cut: Option<&Cut>, error: &SseError) -> RequestError {
        let connection = self.connection();
        let (method, url) = (self.method.clone(), Arc::clone(connection.target.url()));
        let settings = &connection.settings;
        match cut {
            Some(Cut::TooLarge) => RequestError::TooLarge {
                method,
                url,
                what: "an event of its answer",
                limit_bytes: settings.event_limit_bytes,
                setting: "event_limit_bytes",
            },
            Some(Cut::Silent) => RequestError::TimedOut {
                method,
                url,
                what: "the answer's stream brought nothing more",
                waited: settings.answer_wait,
                setting: "answer_wait",
            },
            Some(Cut::Expired) => RequestError::TimedOut {
                method,
                url,
                what: "the answer's stream did not end",
                waited: settings.request_wait,
                setting: "request_wait",
            },
            Some(Cut::Broken(why)) => RequestError::Broken { method, url, why: why.clone() },
            None => RequestError::Broken { method, url, why: error.to_string() },
        }
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Counts an open stream.
pub(super) struct OpenStream(Arc<std::sync::atomic::AtomicUsize>);

impl OpenStream {
    pub(super) fn new(count: &Arc<std::sync::atomic::AtomicUsize>) -> Self {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The events in a body, none larger than `limit_bytes`, and, where it matters, no silence longer
/// than `silence`. Comments end a silence: servers send them to show that they live.
pub(super) fn parse(
    body: Incoming,
    limit_bytes: usize,
    silence: Option<Duration>,
) -> BoxStream<'static, Result<Sse, SseError>> {
    SseStream::from_bytes_stream(metered(body, limit_bytes, silence).boxed()).boxed()
}

fn metered(
    body: Incoming,
    limit_bytes: usize,
    silence: Option<Duration>,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send {
    let start = Some((BodyDataStream::new(body), Meter::new(limit_bytes)));
    futures::stream::unfold(start, move |state| async move {
        let (mut body, mut meter) = state?;
        let chunk = match silence {
            Some(silence) => match tokio::time::timeout(silence, body.next()).await {
                Ok(chunk) => chunk,
                Err(_) => return Some((Err(Cut::Silent), None)),
            },
            None => body.next().await,
        };
        match chunk? {
            Ok(chunk) if meter.takes(&chunk) => Some((Ok(chunk), Some((body, meter)))),
            Ok(_) => Some((Err(Cut::TooLarge), None)),
            Err(error) => Some((Err(Cut::Broken(super::error::chain(&error))), None)),
        }
    })
}

/// Why a stream ended before its time.
#[derive(Debug)]
enum Cut {
    TooLarge,
    Silent,
    Expired,
    Broken(String),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::TooLarge => f.write_str("an event is too large"),
            Cut::Silent => f.write_str("it was silent for too long"),
            Cut::Expired => f.write_str("it took too long"),
            Cut::Broken(why) => f.write_str(why),
        }
    }
}

impl Error for Cut {}

/// Measures what a parser has to keep: the lines of the event that is not yet whole. Whole lines of
/// comment are not kept, and an unfinished line is, whatever it will be.
struct Meter {
    limit_bytes: usize,
    kept_bytes: usize,
    line_bytes: usize,
    is_comment: bool,
}

impl Meter {
    fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, kept_bytes: 0, line_bytes: 0, is_comment: false }
    }

    fn takes(&mut self, chunk: &[u8]) -> bool {
        chunk.iter().all(|&byte| {
            match byte {
                // CR LF counts as an empty line after the line, which ends the event early: that
                // measures too little by one line at most, so CR is left out.
                b'\r' => {}
                b'\n' if self.line_bytes == 0 => self.kept_bytes = 0,
                b'\n' => {
                    if !self.is_comment {
                        self.kept_bytes += self.line_bytes + 1;
                    }
                    self.line_bytes = 0;
                }
                _ => {
                    if self.line_bytes == 0 {
                        self.is_comment = byte == b':';
                    }
                    self.line_bytes += 1;
                }
            }
            self.kept_bytes + self.line_bytes <= self.limit_bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;

    #[test]
    fn an_event_may_be_as_large_as_the_limit_and_no_larger() {
        for (text, taken) in [
            ("data: ab\n\n", true),
            ("data: abc\n\n", false),
            ("data: ab\r\n\r\ndata: ab\r\n\r\n", true),
            ("data: ab\n\ndata: ab\n\n", true),
            (": comment\n: comment\n: comment\ndata: ab\n\n", true),
            ("id: 1\ndata: ab\n\n", false),
            (": a comment without end", false),
            ("data: ab", true),
            ("data: ab\nd", false),
        ] {
            assert_eq!(Meter::new(9).takes(text.as_bytes()), taken, "{text:?}");
            let mut meter = Meter::new(9);
            let split = text.as_bytes().chunks(1).all(|byte| meter.takes(byte));
            assert_eq!(split, taken, "{text:?}, byte by byte");
        }
    }
}
