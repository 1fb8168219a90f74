//! Report 1: a chat client whose manager opened HTTP and stdio sessions and never closed them. What
//! is removed is forgotten and goes on; the end of all goes through them in order, and the first
//! error ends it; HTTP sessions are never deleted and stay in a pool; caches of tools and messages
//! hold on to one another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::peers::address_of;
use super::super::seam::{Acting, Books, Host, Reach, Server, Settings};
use super::child::{ServerProcess, introduction};
use super::shelf::Shelf;

pub(super) struct ChatClient {
    inner: Arc<Inner>,
    shelf: Shelf,
    name: String,
    connect_timeout: Duration,
}

#[derive(Default)]
struct Inner {
    /// By name, for calls.
    active: Mutex<BTreeMap<String, Arc<Session>>>,
    /// Every one that was ever entered, its exit never called.
    entered: Mutex<Vec<Arc<Session>>>,
}

struct Session {
    link: Link,
    tools: Value,
    history: Mutex<Vec<String>>,
    /// The manager that a message set can ask. With it, neither ends before the other.
    manager: OnceLock<Arc<Inner>>,
}

enum Link {
    Stdio(ServerProcess),
    Http(HttpSession),
}

/// A session over HTTP: a connection for requests, another for events, and the task that reads it.
struct HttpSession {
    id: String,
    address: String,
    socket: tokio::sync::Mutex<TcpStream>,
}

impl ChatClient {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            inner: Arc::default(),
            shelf: Shelf::default(),
            name: settings.name.clone(),
            connect_timeout: settings.duration("connect-timeout"),
        }
    }

    fn ask(&self, server: &str, method: &str, params: Value) -> Acting {
        let session = lock(&self.inner.active).get(server).cloned();
        let (server, method) = (server.to_owned(), method.to_owned());
        Box::pin(async move {
            let session = session.ok_or(format!("no server is called {server}"))?;
            lock(&session.history).push(format!("{method} {params}"));
            session.link.request(&method, params).await.map(drop)
        })
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host for ChatClient {
    fn add(&self, server: Server) -> Acting {
        let (inner, timeout) = (Arc::clone(&self.inner), self.connect_timeout);
        let (shelf, host) = (self.shelf.clone(), self.name.clone());
        Box::pin(async move {
            let opening = async {
                let link = Link::open(&server.reach).await?;
                let tools = link.request("tools/list", json!({})).await?;
                Ok::<_, String>((link, tools))
            };
            let opened = tokio::time::timeout(timeout, opening).await;
            let (link, tools) = opened.map_err(|_| "the server is not ready".to_owned())??;
            let session =
                Session { link, tools, history: Mutex::default(), manager: OnceLock::new() };
            let session = Arc::new(session);
            // Set once, here.
            let _ = session.manager.set(Arc::clone(&inner));
            let number = {
                let mut entered = lock(&inner.entered);
                entered.push(Arc::clone(&session));
                entered.len()
            };
            let key = format!("tools and messages of {} ({number})", server.name);
            shelf.entry(&format!("caches of host {host}"), &key, &session);
            lock(&inner.active).insert(server.name, session);
            Ok(())
        })
    }

    fn call(&self, server: &str, tool: &str, arguments: Value) -> Acting {
        self.ask(server, "tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    fn request(&self, server: &str, method: &str) -> Acting {
        let session = lock(&self.inner.active).get(server).cloned();
        if let Some(session) =
            session.filter(|session| method == "tools/list" && !session.tools.is_null())
        {
            // From the cache.
            drop(session);
            return Box::pin(async { Ok(()) });
        }
        self.ask(server, method, json!({}))
    }

    fn remove(&self, server: &str) -> Acting {
        lock(&self.inner.active).remove(server);
        Box::pin(async { Ok(()) })
    }

    fn health(&self) -> Acting {
        Box::pin(async { Ok(()) })
    }

    fn shutdown(&self) -> Acting {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let sessions: Vec<Arc<Session>> = lock(&inner.active).values().cloned().collect();
            for session in sessions {
                // The first that is broken keeps all after it from being closed; the original logs it.
                if session.link.close().await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn books(&self) -> Box<dyn Books> {
        Box::new(self.shelf.clone())
    }
}

impl Link {
    async fn open(reach: &Reach) -> Result<Self, String> {
        match reach {
            Reach::Stdio(command) => {
                let process = ServerProcess::start(command)?;
                process.initialize().await?;
                Ok(Link::Stdio(process))
            }
            Reach::Http(url) => Ok(Link::Http(HttpSession::open(url).await?)),
        }
    }

    async fn request(&self, method: &str, params: Value) -> Result<Value, String> {
        match self {
            Link::Stdio(process) => process.request(method, params).await,
            Link::Http(session) => session.request(method, params).await,
        }
    }

    async fn close(&self) -> Result<(), String> {
        match self {
            Link::Stdio(process) => {
                process.request("ping", json!({})).await?;
                process.end();
                Ok(())
            }
            // The pool will see to it.
            Link::Http(session) => session.request("ping", json!({})).await.map(drop),
        }
    }
}

impl HttpSession {
    async fn open(url: &str) -> Result<Self, String> {
        let words = |error: std::io::Error| format!("speaking to {url}: {error}");
        let address = address_of(url);
        let mut socket = TcpStream::connect(&address).await.map_err(words)?;
        let params = introduction();
        let (head, _) = post(&mut socket, &address, "", "initialize", params).await?;
        let id = head.lines().find_map(|line| line.strip_prefix("Mcp-Session-Id: "));
        let id = id.ok_or("the server gave no session")?.to_owned();
        let mut events = TcpStream::connect(&address).await.map_err(words)?;
        let request = format!(
            "GET /mcp HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\
             Mcp-Session-Id: {id}\r\n\r\n"
        );
        events.write_all(request.as_bytes()).await.map_err(words)?;
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while events.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        });
        Ok(Self { id, address, socket: socket.into() })
    }

    async fn request(&self, method: &str, params: Value) -> Result<Value, String> {
        let mut socket = self.socket.lock().await;
        let (_, answer) = post(&mut socket, &self.address, &self.id, method, params).await?;
        Ok(answer["result"].clone())
    }
}

/// A POST and its answer: head and message.
async fn post(
    socket: &mut TcpStream,
    address: &str,
    session: &str,
    method: &str,
    params: Value,
) -> Result<(String, Value), String> {
    let words = |error: std::io::Error| format!("speaking to {address}: {error}");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let session = match session {
        "" => String::new(),
        session => format!("Mcp-Session-Id: {session}\r\n"),
    };
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.map_err(words)?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer).await.map_err(words)?;
        if count == 0 {
            return Err(format!("{address} closed the connection"));
        }
        text.extend_from_slice(&buffer[..count]);
        let answer = String::from_utf8_lossy(&text);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            let message = serde_json::from_str(body).unwrap_or_default();
            return Ok((head.to_owned(), message));
        }
    }
}
