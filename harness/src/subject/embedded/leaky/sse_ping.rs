//! Report 2: a server whose ping tickers outlive their clients. A stream's ping writes on when its
//! client has gone, when another stream has taken its place and when the server ends; connections
//! and sessions are never removed; there is no shutdown, and a sweeper that counts.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::tcp::OwnedWriteHalf;

use super::super::seam::{Acting, Books, Service, Settings};
use super::serve::{Input, Request, accept, begin_events, introduction, respond};
use super::shelf::Shelf;
use crate::ledger::snapshot::Identity;

struct SsePing {
    address: String,
    connections: Arc<Connections>,
}

struct Connections {
    name: String,
    shelf: Shelf,
    keep_alive: Duration,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
}

#[derive(Default)]
struct Session {
    /// The stream of now. One that it replaced is forgotten, not closed.
    stream: Mutex<Option<Arc<Stream>>>,
}

/// An open stream, for whoever writes to it.
type Stream = tokio::sync::Mutex<OwnedWriteHalf>;

pub(super) async fn start(settings: &Settings) -> Result<Box<dyn Service>, String> {
    let words = |error: io::Error| format!("listening: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(words)?;
    let address = listener.local_addr().map_err(words)?.to_string();
    let connections = Arc::new(Connections {
        name: settings.name.clone(),
        shelf: Shelf::default(),
        keep_alive: settings.duration("keep-alive"),
        sessions: Mutex::default(),
    });
    let (all, counted) = (Arc::clone(&connections), Arc::clone(&connections));
    tokio::spawn(accept(listener, move |input, output| converse(Arc::clone(&all), input, output)));
    let mut sweep = tokio::time::interval(settings.duration("sweep"));
    tokio::spawn(async move {
        loop {
            sweep.tick().await;
            // How many there are is known; who of them is gone is not.
            let _ = lock(&counted.sessions).len();
        }
    });
    Ok(Box::new(SsePing { address, connections }))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(
    connections: Arc<Connections>,
    mut input: Input,
    mut output: OwnedWriteHalf,
) -> io::Result<()> {
    while let Some(request) = Request::read(&mut input).await? {
        match (request.method.as_str(), request.asks()) {
            ("POST", "initialize") => {
                let id = connections.begin();
                let answer = request.result(introduction());
                respond(&mut output, "200 OK", Some(&id), Some(&answer)).await?;
            }
            ("POST", _) if request.message.get("id").is_some() => {
                let content = json!([{"type": "text", "text": "hello"}]);
                let answer = request.result(json!({ "content": content }));
                respond(&mut output, "200 OK", None, Some(&answer)).await?;
            }
            ("POST", _) => respond(&mut output, "202 Accepted", None, None).await?,
            ("GET", _) => {
                let session =
                    request.session.and_then(|id| lock(&connections.sessions).get(&id).cloned());
                let Some(session) = session else {
                    respond(&mut output, "404 Not Found", None, None).await?;
                    continue;
                };
                begin_events(&mut output).await?;
                let stream = Arc::new(Stream::new(output));
                *lock(&session.stream) = Some(Arc::clone(&stream));
                let mut ticker = tokio::time::interval(connections.keep_alive);
                tokio::spawn(async move {
                    loop {
                        ticker.tick().await;
                        // The client is asked nothing, and an error is no reason to end.
                        let _ = stream.lock().await.write_all(b": ping\n\n").await;
                    }
                });
                // Until the client goes; what was begun for it is nobody's any more.
                while Request::read(&mut input).await?.is_some() {}
                return Ok(());
            }
            // It is taken note of.
            _ => respond(&mut output, "204 No Content", None, None).await?,
        }
    }
    Ok(())
}

impl Connections {
    fn begin(&self) -> String {
        let mut sessions = lock(&self.sessions);
        let id = format!("{}-{}", self.name, sessions.len() + 1);
        let session = Arc::new(Session::default());
        let keeper = format!("service {}", self.name);
        let identity = Identity::Session { keeper, id: id.clone() };
        self.shelf.watch(identity, String::new(), &session);
        sessions.insert(id.clone(), session);
        id
    }
}

impl Service for SsePing {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn shutdown(&self) -> Acting {
        // There is none.
        let known = lock(&self.connections.sessions).len();
        Box::pin(async move { if known < usize::MAX { Ok(()) } else { Err("too many".into()) } })
    }

    fn books(&self) -> Box<dyn Books> {
        Box::new(self.connections.shelf.clone())
    }
}
