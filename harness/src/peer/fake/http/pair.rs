//! The older pair of HTTP and SSE (2024-11-05): the session is the stream at `/sse`, and what the
//! client says is written to `/messages`.

use std::{io, sync::Arc};

use super::{
    super::message::Incoming,
    call::Call,
    channel::Channel,
    connection::{After, Answer, Peer, answer, begin, cancel},
    response::Response,
    stream::{Left, Style},
};

/// Answers a request.
pub(super) fn respond(peer: &Peer, body: &[u8]) -> io::Result<After> {
    let (path, query) = peer.head.word(1).split_once('?').unwrap_or((peer.head.word(1), ""));
    match (peer.head.word(0), path) {
        ("GET", "/sse") => listen(peer),
        ("POST", "/messages") => match query.strip_prefix("sessionId=") {
            Some(id) => take(peer, id, body),
            None => peer.refuse("400 Bad Request", "there is no sessionId"),
        },
        (_, "/sse" | "/messages") => peer.refuse("405 Method Not Allowed", "not here"),
        _ => peer.refuse("404 Not Found", "there is nothing at this path"),
    }
}

/// A session, from its beginning to its end.
fn listen(peer: &Peer) -> io::Result<After> {
    let channel = Channel::standalone();
    let Ok((id, _)) = begin(peer.server, peer.socket) else {
        return peer.refuse("503 Service Unavailable", "no session can begin");
    };
    peer.server.sessions.open(&id, &channel);
    channel.push(format!("event: endpoint\ndata: /messages?sessionId={id}").into_bytes());
    let left = peer.carry(&channel, 0, Style::Bare);
    if let Some(equipment) = peer.server.sessions.remove(&id) {
        peer.server.fault.end(equipment);
    }
    Ok(if matches!(left, Ok(Left::Ended)) { After::Request } else { After::StreamLeft })
}

fn take(peer: &Peer, id: &str, body: &[u8]) -> io::Result<After> {
    let sessions = &peer.server.sessions;
    let Some(channel) = sessions.a_stream_of(id) else {
        return peer.refuse("404 Not Found", "there is no such session");
    };
    match Incoming::parse(body) {
        Incoming::Request(request) if request.method == "initialize" => {
            let equipment = sessions.equipment(id);
            let result = equipment.and_then(|equipment| equipment.answer(&request));
            channel.push(result.unwrap_or_else(|| request.initialize_result()));
        }
        Incoming::Request(request) => match answer(sessions.equipment(id), &request) {
            Answer::Now(answer) => channel.push(answer),
            Answer::After(time, answer) => {
                let call = Call::start(peer.server, time, answer, Some(channel))?;
                if !sessions.call(id, &request.id, Arc::clone(&call)) {
                    call.cancel();
                }
            }
        },
        Incoming::Notification { method, params } => cancel(peer.server, id, &method, &params),
        Incoming::Ignored => {}
        Incoming::Invalid(complaint) => {
            return peer.send(&Response::with("400 Bad Request", complaint));
        }
    }
    peer.send(&Response::empty("202 Accepted"))
}
