//! The plain server over Streamable HTTP: sessions that begin with `initialize` and end with DELETE,
//! a stream of events for each GET, and at `/census` what it keeps, so that a client that goes
//! without DELETE shows.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use super::message::{INVALID_PARAMS, Incoming, METHOD_NOT_FOUND, Request};
use super::options::FakeError;
use crate::lifecycle::scenario::FakeSpec;
use crate::peer::http::message::Head;

/// Most connections at once.
const CONNECTIONS: usize = 1024;

/// Every session, and the streams that it has open.
type Sessions = Arc<Mutex<Kept>>;

#[derive(Default)]
struct Kept {
    begun: u64,
    connections: usize,
    sessions: BTreeMap<String, Vec<Arc<TcpStream>>>,
}

/// Serves until it is killed. Writes the address of its endpoint to stdout, as one line.
pub(super) fn serve(spec: &FakeSpec, port: u16) -> Result<io::Result<u8>, FakeError> {
    if spec.name != "plain" {
        return Err(FakeError::StdioOnly { name: spec.name.clone() });
    }
    Ok(listen(port))
}

fn listen(port: u16) -> io::Result<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    writeln!(io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    let sessions = Sessions::default();
    // A thread that waits in accept(2) holds a number for a descriptor that there is not yet, and a
    // look at this process would never be whole.
    listener.set_nonblocking(true)?;
    loop {
        poll(&mut [PollFd::new(&listener, PollFlags::IN)], None)?;
        // A connection that was gone before it was taken is none.
        let Ok((socket, _)) = listener.accept() else { continue };
        socket.set_nonblocking(false)?;
        let mut kept = lock(&sessions);
        if kept.connections >= CONNECTIONS {
            continue;
        }
        kept.connections += 1;
        drop(kept);
        let sessions = Arc::clone(&sessions);
        thread::spawn(move || {
            let _ = converse(socket, &sessions);
            lock(&sessions).connections -= 1;
        });
    }
}

/// One connection, request after request.
fn converse(socket: TcpStream, sessions: &Sessions) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut input = BufReader::new(&*socket);
    while let Some(head) = Head::read(&mut input)? {
        let body = head.body(&mut input)?;
        let session = head.header("mcp-session-id");
        match (head.word(0), head.word(1)) {
            ("GET", "/census") => {
                let census: Vec<Value> = lock(sessions)
                    .sessions
                    .iter()
                    .map(|(id, streams)| json!({"id": id, "streams": streams.len()}))
                    .collect();
                respond(&socket, "200 OK", &[], Some(&json!({ "sessions": census })))?;
            }
            ("GET", "/mcp") => {
                let Some(id) = session else {
                    refuse(&socket, "400 Bad Request")?;
                    continue;
                };
                let known = match lock(sessions).sessions.get_mut(id) {
                    Some(streams) => {
                        streams.push(Arc::clone(&socket));
                        true
                    }
                    None => false,
                };
                if !known {
                    refuse(&socket, "404 Not Found")?;
                    continue;
                }
                let streamed = stream(&socket);
                if let Some(streams) = lock(sessions).sessions.get_mut(id) {
                    streams.retain(|one| !Arc::ptr_eq(one, &socket));
                }
                return streamed;
            }
            ("DELETE", "/mcp") => {
                let streams = session.and_then(|id| lock(sessions).sessions.remove(id));
                match &streams {
                    Some(_) => respond(&socket, "200 OK", &[], None)?,
                    None => refuse(&socket, "404 Not Found")?,
                }
                for stream in streams.into_iter().flatten() {
                    // Its client may have gone already.
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            ("POST", "/mcp") => post(&socket, session, &body, sessions)?,
            _ => refuse(&socket, "404 Not Found")?,
        }
    }
    Ok(())
}

fn post(
    socket: &TcpStream,
    session: Option<&str>,
    body: &[u8],
    sessions: &Sessions,
) -> io::Result<()> {
    let request = match Incoming::parse(body) {
        Incoming::Request(request) => request,
        Incoming::Notification { .. } | Incoming::Ignored => {
            return respond(socket, "202 Accepted", &[], None);
        }
        Incoming::Invalid(complaint) => return send(socket, "400 Bad Request", &[], &complaint),
    };
    if request.method == "initialize" {
        let mut kept = lock(sessions);
        kept.begun += 1;
        let id = format!("session-{}", kept.begun);
        kept.sessions.insert(id.clone(), Vec::new());
        drop(kept);
        return send(socket, "200 OK", &[("Mcp-Session-Id", &id)], &request.initialize_result());
    }
    match session {
        None => return refuse(socket, "400 Bad Request"),
        Some(id) if !lock(sessions).sessions.contains_key(id) => {
            return refuse(socket, "404 Not Found");
        }
        Some(_) => {}
    }
    send(socket, "200 OK", &[], &answer(&request))
}

fn answer(request: &Request) -> Vec<u8> {
    let arguments = request.params.get("arguments");
    let argument = |name| arguments.and_then(|given: &Value| given.get(name));
    match (request.method.as_str(), request.params.get("name").and_then(Value::as_str)) {
        ("ping", _) => request.result(json!({})),
        ("tools/list", _) => request.tools_result(),
        ("tools/call", Some("echo")) => match argument("text").and_then(Value::as_str) {
            Some(text) => request.tool_result(text, false),
            None => request.tool_result("`text` must be a string", true),
        },
        ("tools/call", Some("sleep")) => match argument("ms").and_then(Value::as_u64) {
            Some(ms) => {
                thread::sleep(Duration::from_millis(ms));
                request.tool_result(&format!("slept {ms} ms"), false)
            }
            None => request.tool_result("`ms` must be a whole number", true),
        },
        ("tools/call", _) => request.error(INVALID_PARAMS, "unknown tool"),
        _ => request.error(METHOD_NOT_FOUND, "method not found"),
    }
}

/// The head of a stream of events; then nothing until the client goes or the session ends.
fn stream(mut socket: &TcpStream) -> io::Result<()> {
    socket.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
          Connection: close\r\n\r\n: here we are\n\n",
    )?;
    let mut rest = [0; 64];
    while socket.read(&mut rest)? > 0 {}
    Ok(())
}

fn refuse(socket: &TcpStream, status: &str) -> io::Result<()> {
    respond(socket, status, &[], Some(&json!({ "error": status })))
}

fn respond(
    socket: &TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> io::Result<()> {
    send(socket, status, headers, body.map(Value::to_string).unwrap_or_default().as_bytes())
}

fn send(
    mut socket: &TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    if !body.is_empty() {
        text.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    socket.write_all(&[text.as_bytes(), body].concat())
}

/// A table whose holder panicked is still right: every change is one step.
fn lock(sessions: &Sessions) -> MutexGuard<'_, Kept> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}
