//! One request and its response on a socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use serde_json::Value;

use super::control::{Passing, Told};
use super::meter::{Meter, WasCut};
use super::response::Response;

/// How long the stream of an answer may take to end once the answer has come.
const END_OF_ANSWER: Duration = Duration::from_secs(1);
/// Most characters of a body that is no message.
pub(super) const BODY: usize = 300;

/// Writes a request and reads its response: the answer with this id, and whether its stream went on
/// after it.
pub(super) fn converse(
    socket: &mut TcpStream,
    request: &[u8],
    id: Option<&Value>,
    response: &mut Response,
    deadline: Instant,
    meter: &Meter,
) -> io::Result<(Option<Value>, bool)> {
    send(socket, request, meter)?;
    let mut answer = None;
    let mut fed = 0;
    let mut buffer = [0; 16 << 10];
    let mut bound = deadline;
    while !response.is_complete() {
        socket.set_read_timeout(Some(left(bound)))?;
        let room = meter.may_read(buffer.len());
        if room == 0 {
            return Err(WasCut::error());
        }
        match socket.read(&mut buffer[..room]) {
            Ok(0) if response.end() => {}
            Ok(0) if answer.is_some() => break,
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                response.feed(&buffer[..count]).map_err(io::Error::other)?;
                meter.read(count, &ends_since(response, &mut fed, count))?;
            }
            Err(error) if is_late(&error) && answer.is_some() => return Ok((answer, true)),
            Err(error) if is_late(&error) && Instant::now() < bound => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        while let Some(message) = response.message() {
            if answer.is_none() && id.is_some() && message.get("id") == id {
                answer = Some(message);
                bound = deadline.min(Instant::now() + END_OF_ANSWER);
            }
        }
    }
    Ok((answer, false))
}

pub(super) fn read_whole(
    socket: &mut TcpStream,
    response: &mut Response,
    deadline: Instant,
) -> io::Result<()> {
    converse(socket, b"", None, response, deadline, &Meter::new(Passing::All)).map(drop)
}

/// Sends a request, or as much of it as may pass.
pub(super) fn send(socket: &mut TcpStream, request: &[u8], meter: &Meter) -> io::Result<()> {
    let now = &request[..meter.may_send(request.len())];
    socket.write_all(now)?;
    let head = request.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at as u64 + 4);
    let ends: Vec<u64> = head.into_iter().chain([request.len() as u64]).collect();
    meter.sent(now.len(), &ends)
}

/// Where parts of a response end, in the bytes that were read last; `fed` is how many came before.
pub(super) fn ends_since(response: &mut Response, fed: &mut u64, count: usize) -> Vec<u64> {
    let before = *fed;
    *fed += count as u64;
    response.ends().iter().map(|end| end.saturating_sub(before)).collect()
}

/// What a response says, without its answer.
pub(super) fn describe(response: &Response) -> Told {
    let Some(head) = response.head() else { return Told::default() };
    let status = head.status();
    let content_type = head.header("content-type").map(str::to_owned);
    let text: String = String::from_utf8_lossy(response.body()).chars().take(BODY).collect();
    let body = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let said = body.as_ref().map(|body| format!(": {body}")).unwrap_or_default();
    let error = (status >= 300).then(|| format!("the server answered {status}{said}"));
    Told { status: Some(status), content_type, body, error, ..Told::default() }
}

/// Whether an idle connection is still open on the other side, as far as can be told.
pub(super) fn is_fresh(socket: &TcpStream) -> bool {
    let mut byte = [0; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(socket, &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
}

pub(super) fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Time that is left, never none: no time at all means for ever to a socket.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
