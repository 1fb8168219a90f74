//! Report 3: a browser-automation server whose pagination cursors outlive their clients, in memory,
//! in a file of SQLite, in Redis. A session that ends leaves its cursors; a step of its end that
//! fails leaves the session too; a session that expires ends in the same way. Connections and tasks
//! are in order here.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};

use super::super::seam::{Acting, Books, Service, Settings};
use super::serve::{Aborted, Input, Request, accept, begin_events, introduction, respond};
use super::shelf::Shelf;
use crate::ledger::snapshot::Identity;

/// Tools to a page.
const PAGE: usize = 3;

struct CursorServer {
    address: String,
    state: Arc<State>,
    /// Accepting and sweeping.
    tasks: Mutex<Vec<Aborted>>,
}

struct State {
    settings: Settings,
    shelf: Shelf,
    idle: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    begun: usize,
    sessions: BTreeMap<String, Arc<Mutex<Instant>>>,
    /// The store in memory.
    cursors: BTreeMap<String, Arc<Vec<u8>>>,
    next_cursor: usize,
}

pub(super) async fn start(settings: Settings) -> Result<Box<dyn Service>, String> {
    let words = |error: io::Error| format!("listening: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(words)?;
    let address = listener.local_addr().map_err(words)?.to_string();
    let (idle, every) = (settings.duration("idle"), settings.duration("sweep"));
    let (shelf, inner) = (Shelf::default(), Mutex::default());
    let state = Arc::new(State { settings, shelf, idle, inner });
    let (served, swept) = (Arc::clone(&state), Arc::clone(&state));
    let accepting = tokio::spawn(accept(listener, move |input, output| {
        converse(Arc::clone(&served), input, output)
    }));
    let mut ticker = tokio::time::interval(every);
    let sweeping = tokio::spawn(async move {
        loop {
            ticker.tick().await;
            swept.sweep();
        }
    });
    let tasks = [accepting, sweeping].map(Aborted);
    Ok(Box::new(CursorServer { address, state, tasks: Mutex::new(tasks.into()) }))
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(
    state: Arc<State>,
    mut input: Input,
    mut output: OwnedWriteHalf,
) -> io::Result<()> {
    while let Some(request) = Request::read(&mut input).await? {
        let session = request.session.clone().unwrap_or_default();
        if let Some(seen) = lock(&state.inner).sessions.get(&session) {
            *lock(seen) = Instant::now();
        }
        match (request.method.as_str(), request.asks()) {
            ("POST", "initialize") => {
                let id = state.begin();
                let answer = request.result(introduction());
                respond(&mut output, "200 OK", Some(&id), Some(&answer)).await?;
            }
            ("POST", _) if !lock(&state.inner).sessions.contains_key(&session) => {
                respond(&mut output, "404 Not Found", None, None).await?;
            }
            ("POST", "tools/list") => {
                let cursor = request.message.pointer("/params/cursor").and_then(Value::as_str);
                let page = state.page(&session, cursor).await.map_err(io::Error::other)?;
                respond(&mut output, "200 OK", None, Some(&request.result(page))).await?;
            }
            ("POST", _) if request.message.get("id").is_some() => {
                let answer = request.result(json!({ "content": [] }));
                respond(&mut output, "200 OK", None, Some(&answer)).await?;
            }
            ("POST", _) => respond(&mut output, "202 Accepted", None, None).await?,
            ("GET", _) => {
                begin_events(&mut output).await?;
                while Request::read(&mut input).await?.is_some() {}
                return Ok(());
            }
            _ => {
                // What goes wrong is logged; the client has gone and hears nothing of it.
                let _ = state.remove(&session);
                respond(&mut output, "204 No Content", None, None).await?;
            }
        }
    }
    Ok(())
}

impl State {
    fn begin(&self) -> String {
        let mut inner = lock(&self.inner);
        inner.begun += 1;
        let id = format!("{}-{}", self.settings.name, inner.begun);
        let seen = Arc::new(Mutex::new(Instant::now()));
        let identity = Identity::Session { keeper: self.keeper(), id: id.clone() };
        self.shelf.watch(identity, String::new(), &seen);
        inner.sessions.insert(id.clone(), seen);
        id
    }

    fn keeper(&self) -> String {
        format!("service {}", self.settings.name)
    }

    /// The steps of a session's end, of which the first that fails is the last.
    fn remove(&self, session: &str) -> Result<(), String> {
        if self.settings.text("failing-step") == "devtools" {
            return Err(format!("cleaning up the devtools of {session}: the browser is gone"));
        }
        lock(&self.inner).sessions.remove(session);
        Ok(())
    }

    fn sweep(&self) {
        let idle: Vec<String> = {
            let inner = lock(&self.inner);
            let is_idle = |seen: &Arc<Mutex<Instant>>| lock(seen).elapsed() > self.idle;
            let sessions = inner.sessions.iter().filter(|(_, seen)| is_idle(seen));
            sessions.map(|(id, _)| id.clone()).collect()
        };
        for session in idle {
            // Tried again with the next sweep.
            let _ = self.remove(&session);
        }
    }

    /// A page of tools, and a cursor for the next.
    async fn page(&self, session: &str, cursor: Option<&str>) -> Result<Value, String> {
        let total = self.settings.number("tools");
        let from: usize = match cursor {
            Some(cursor) => {
                let digits = cursor.rsplit('-').next().unwrap_or_default();
                digits.parse().map_err(|_| "no such cursor".to_owned())?
            }
            None => 0,
        };
        let to = (from + PAGE).min(total);
        let tools: Vec<Value> = (from..to)
            .map(|number| json!({"name": format!("tool-{number}"), "inputSchema": {"type": "object"}}))
            .collect();
        let mut page = json!({ "tools": tools });
        if to < total {
            let number = {
                let mut inner = lock(&self.inner);
                inner.next_cursor += 1;
                inner.next_cursor
            };
            let id = format!("{session}-{number}-{to}");
            self.keep(session, &id).await?;
            page["nextCursor"] = id.into();
        }
        Ok(page)
    }

    /// Keeps what the next page will need.
    async fn keep(&self, session: &str, id: &str) -> Result<(), String> {
        let payload = vec![b'x'; self.settings.number("payload-kib") << 10];
        match (self.settings.text("cursors"), &self.settings.redis) {
            ("sqlite", _) => {
                let path = self.settings.sqlite.clone();
                sqlite_put(&path, session, id, &payload).map_err(|error| error.to_string())
            }
            ("redis", Some(address)) => {
                redis_put(address, id, &payload).await.map_err(|error| error.to_string())
            }
            _ => {
                let words = format!("{} KiB of session {session}", payload.len() >> 10);
                let payload = Arc::new(payload);
                let store = format!("memory of {}", self.keeper());
                let identity = Identity::Cursor { store, id: id.to_owned() };
                self.shelf.watch(identity, words, &payload);
                lock(&self.inner).cursors.insert(id.to_owned(), payload);
                Ok(())
            }
        }
    }
}

fn sqlite_put(path: &PathBuf, session: &str, id: &str, payload: &[u8]) -> rusqlite::Result<()> {
    let database = rusqlite::Connection::open(path)?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS cursors (id TEXT PRIMARY KEY, session TEXT, payload BLOB)",
    )?;
    database.execute("INSERT INTO cursors VALUES (?1, ?2, ?3)", (id, session, payload))?;
    Ok(())
}

async fn redis_put(address: &str, id: &str, payload: &[u8]) -> io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    let key = format!("cursor:{id}");
    let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), payload.len());
    socket.write_all(&[head.as_bytes(), payload, b"\r\n"].concat()).await?;
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).await?;
    if &answer == b"+OK\r\n" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

impl Service for CursorServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn shutdown(&self) -> Acting {
        lock(&self.tasks).clear();
        let mut inner = lock(&self.state.inner);
        inner.sessions.clear();
        Box::pin(async { Ok(()) })
    }

    fn books(&self) -> Box<dyn Books> {
        Box::new(self.state.shelf.clone())
    }
}
