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
    let lines = metered(BodyDataStream::new(body), limit_bytes, silence);
    SseStream::from_bytes_stream(lines.boxed()).boxed()
}

/// The events in a body that comes in these pieces, and what ended it before its time.
pub async fn events_in(pieces: Vec<Bytes>, limit_bytes: usize) -> (Vec<Sse>, Option<SseError>) {
    let pieces = futures::stream::iter(pieces).map(Ok::<_, Cut>);
    let mut events = SseStream::from_bytes_stream(metered(pieces, limit_bytes, None).boxed());
    let mut seen = Vec::new();
    loop {
        match events.next().await {
            Some(Ok(event)) => seen.push(event),
            Some(Err(error)) => return (seen, Some(error)),
            None => return (seen, None),
        }
    }
}

/// The bytes of a body, a line or a piece of one at a time: what is wrong with a line must not swallow
/// the whole events that came before it in the same chunk.
fn metered<S, E>(
    body: S,
    limit_bytes: usize,
    silence: Option<Duration>,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: Error + 'static,
{
    let start = Some((body, Meter::new(limit_bytes), Bytes::new()));
    futures::stream::unfold(start, move |state| async move {
        let (mut body, mut meter, mut chunk) = state?;
        if chunk.is_empty() {
            let next = match silence {
                Some(silence) => match tokio::time::timeout(silence, body.next()).await {
                    Ok(next) => next,
                    Err(_) => return Some((Err(Cut::Silent), None)),
                },
                None => body.next().await,
            };
            match next? {
                Ok(next) => chunk = next,
                Err(error) => return Some((Err(Cut::Broken(super::error::chain(&error))), None)),
            }
        }
        let line = chunk.split_to(end_of_line(&chunk));
        match meter.takes(&line) {
            true => Some((Ok(line), Some((body, meter, chunk)))),
            false => Some((Err(Cut::TooLarge), None)),
        }
    })
}

/// Where the first line of a chunk ends, or the chunk.
fn end_of_line(chunk: &[u8]) -> usize {
    let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    end.map_or(chunk.len(), |at| at + 1)
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
    /// A line feed now would belong to the end of the line before.
    after_return: bool,
}

impl Meter {
    fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, kept_bytes: 0, line_bytes: 0, is_comment: false, after_return: false }
    }

    fn takes(&mut self, chunk: &[u8]) -> bool {
        chunk.iter().all(|&byte| {
            let ends_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if ends_return => {}
                b'\n' | b'\r' if self.line_bytes == 0 => self.kept_bytes = 0,
                b'\n' | b'\r' => {
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
            ("data: ab\r\rdata: ab\r\r", true),
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
