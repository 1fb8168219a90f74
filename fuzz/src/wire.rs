//! What comes over pipes and sockets: the same messages whatever the pieces it comes in, and no panic.
//!
//! The bytes are the wire's own, so that seeds can be read. Every parser gets them: lines and events of
//! the core, lines and HTTP of the harness.

use std::{
    fmt::Debug,
    io::{BufRead, BufReader},
};

use bytes::Bytes;
use futures::FutureExt;
use harness::peer::{
    http::{
        message::{Head, messages},
        response::Response,
    },
    lines::Lines,
    wire::{Incoming, classify},
};
use scupper_core::{
    http::events_in,
    stdio::{LineBuffer, LineRing, StderrTail, TooLong},
};

use crate::Reach;

/// Limits so low that inputs reach them.
const LINE_BYTES: usize = 200;
const EVENT_BYTES: usize = 300;
const STDERR_LINES: usize = 4;
const STDERR_BYTES: usize = 40;
/// Up to so many bytes, an input is cut in two at every byte; a longer one at so many places.
const CUTS: usize = 64;
const SOME_CUTS: usize = 12;
const EVENTS_FOLLOW: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// Bytes as they are read from a peer.
pub(crate) fn wire(data: &[u8]) -> Reach {
    let (lines, _) = however_split(data, core_lines);
    let in_lines = lines.iter().any(|line| classify(line) != Incoming::Noise);
    let tail = however_split(data, stderr);
    assert!(tail.lines.len() <= STDERR_LINES + 1, "{} lines are kept", tail.lines.len());
    however_split(data, harness_lines);

    let (events, _) = however_split(data, core_events);
    let is_message = |data: &String| classify(data.as_bytes()) != Incoming::Noise;
    let in_events = events.iter().any(|(_, data)| data.as_ref().is_some_and(is_message));

    let raw = however_split(data, response);
    let streamed = however_split(data, |pieces| response(&[&[EVENTS_FOLLOW], pieces].concat()));
    let in_http = !raw.messages.is_empty() || !streamed.messages.is_empty();

    let whole = blocking(data);
    for room in [1, 5] {
        let slowly = blocking(BufReader::with_capacity(room, data));
        assert_eq!(slowly, whole, "read {room} bytes at a time");
    }
    Reach::active_if(in_lines || in_events || in_http)
}

/// What a parser makes of the bytes in one piece, having seen that other pieces make no difference.
fn however_split<T: PartialEq + Debug>(data: &[u8], parse: impl Fn(&[&[u8]]) -> T) -> T {
    let whole = parse(&[data]);
    for size in [1, 2, 7] {
        let pieces: Vec<&[u8]> = data.chunks(size).collect();
        assert_eq!(parse(&pieces), whole, "in pieces of {size}");
    }
    for cut in cuts(data) {
        let (left, right) = data.split_at(cut);
        assert_eq!(parse(&[left, right]), whole, "cut at {cut}");
    }
    whole
}

/// Where to cut: everywhere, or at places that the bytes themselves choose.
fn cuts(data: &[u8]) -> Vec<usize> {
    if data.len() <= CUTS {
        return (1..data.len()).collect();
    }
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in data {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap_or_default() % data.len()
    };
    (0..SOME_CUTS).map(next).collect()
}

fn core_lines(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<TooLong>) {
    let mut buffer = LineBuffer::new(LINE_BYTES);
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for piece in pieces {
        buffer.push(piece);
        loop {
            match buffer.next_line() {
                Ok(Some(line)) => lines.push(line.to_vec()),
                Ok(None) => break,
                Err(too_long) => return (lines, Some(too_long)),
            }
        }
    }
    assert!(lines.iter().all(|line| line.len() <= LINE_BYTES), "a line over the limit");
    (lines, None)
}

fn stderr(pieces: &[&[u8]]) -> StderrTail {
    let mut ring = LineRing::new(STDERR_LINES, STDERR_BYTES);
    pieces.iter().for_each(|piece| ring.push(piece));
    ring.tail()
}

/// A line with its full length.
type Line = (Vec<u8>, u64);

/// Whole lines, and the one that has not ended.
fn harness_lines(pieces: &[&[u8]]) -> (Vec<Line>, Option<Vec<u8>>) {
    let mut lines = Lines::new(LINE_BYTES);
    let mut seen = Vec::new();
    for piece in pieces {
        lines.take(piece, &mut |line: &[u8], length| seen.push((line.to_vec(), length)));
    }
    (seen, lines.begun().map(<[u8]>::to_vec))
}

/// Kind and data of an event.
type Event = (Option<String>, Option<String>);

/// The events, and the words of what ended them.
fn core_events(pieces: &[&[u8]]) -> (Vec<Event>, Option<String>) {
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let (events, error) = events_in(pieces, EVENT_BYTES)
        .now_or_never()
        .expect("what is there already is read without waiting");
    let events = events.into_iter().map(|event| (event.event, event.data)).collect();
    (events, error.map(|error| error.to_string()))
}

/// What a response comes to.
#[derive(Debug, PartialEq)]
struct Heard {
    head: Option<Head>,
    body: Vec<u8>,
    messages: Vec<serde_json::Value>,
    last_id: Option<String>,
    endpoint: Option<String>,
    events: u64,
    is_complete: bool,
    is_broken: bool,
    ends: Vec<u64>,
}

fn response(pieces: &[&[u8]]) -> Heard {
    let mut response = Response::default();
    let is_broken = pieces.iter().any(|piece| response.feed(piece).is_err());
    let is_complete = !is_broken && response.end();
    let events = response.events();
    Heard {
        head: response.head().cloned(),
        body: response.body().to_vec(),
        last_id: events.and_then(|events| events.last_id.clone()),
        endpoint: events.and_then(|events| events.endpoint.clone()),
        events: events.map_or(0, |events| events.count),
        messages: std::iter::from_fn(|| response.message()).collect(),
        is_complete,
        is_broken,
        ends: response.ends(),
    }
}

/// A message of HTTP as the blocking reader takes it: head, body, and how many messages are in it.
fn blocking(mut input: impl BufRead) -> Option<(Head, Vec<u8>, usize)> {
    let head = Head::read(&mut input).ok()??;
    let body = head.body(&mut input).ok()?;
    let count = messages(&head, &body).len();
    Some((head, body, count))
}
