//! Report 4: a host whose clients are opened in one task and torn down in another. A cancel scope
//! that is left in another task than it was entered in refuses, so that child, pipes and reader stay;
//! and since the client is torn down before its components are unregistered, those stay too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::seam::{Acting, Books, Host, Reach, Server, Settings};
use super::child::ServerProcess;
use super::shelf::Shelf;

pub(super) struct CrossTask {
    inner: Arc<Mutex<Inner>>,
    shelf: Shelf,
    name: String,
    connect_timeout: Duration,
}

#[derive(Default)]
struct Inner {
    clients: BTreeMap<String, Arc<Client>>,
    /// Tools by server, for the model to choose from.
    tools: BTreeMap<String, Arc<Value>>,
}

/// A client in the cancel scope that it was opened in.
struct Client {
    process: ServerProcess,
    scope: CancelScope,
}

/// What is to be left in the task that has entered it, as in anyio.
struct CancelScope {
    entered_in: tokio::task::Id,
    cancel: tokio::sync::Notify,
}

impl CancelScope {
    fn leave(&self) -> Result<(), String> {
        if tokio::task::try_id() != Some(self.entered_in) {
            return Err(
                "attempted to exit a cancel scope in a different task than it was entered in"
                    .to_owned(),
            );
        }
        self.cancel.notify_waiters();
        Ok(())
    }
}

impl CrossTask {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            inner: Arc::default(),
            shelf: Shelf::default(),
            name: settings.name.clone(),
            connect_timeout: settings.duration("connect-timeout"),
        }
    }

    fn ask(&self, server: &str, method: &str, params: Value) -> Acting {
        let client = lock(&self.inner).clients.get(server).cloned();
        let (server, method) = (server.to_owned(), method.to_owned());
        Box::pin(async move {
            let client = client.ok_or(format!("no server is called {server}"))?;
            client.process.request(&method, params).await.map(drop)
        })
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tears a client down, and unregisters its components after it.
fn tear_down(inner: &Mutex<Inner>, server: &str) -> Result<(), String> {
    let client = lock(inner).clients.get(server).cloned();
    let client = client.ok_or(format!("no server is called {server}"))?;
    client.scope.leave()?;
    client.process.end();
    let mut inner = lock(inner);
    inner.clients.remove(server);
    inner.tools.remove(server);
    Ok(())
}

impl Host for CrossTask {
    fn add(&self, server: Server) -> Acting {
        let Reach::Stdio(command) = server.reach else {
            return Box::pin(async { Err("it speaks stdio only".to_owned()) });
        };
        let (inner, timeout) = (Arc::clone(&self.inner), self.connect_timeout);
        let (shelf, host) = (self.shelf.clone(), self.name.clone());
        Box::pin(async move {
            let opening = tokio::spawn(async move {
                let process = ServerProcess::start(&command)?;
                process.initialize().await?;
                let tools = Arc::new(process.request("tools/list", json!({})).await?);
                let entered_in = tokio::task::id();
                let scope = CancelScope { entered_in, cancel: tokio::sync::Notify::new() };
                let client = Arc::new(Client { process, scope });
                let watched = Arc::clone(&client);
                // The task group of the client: it lives until its scope is left.
                tokio::spawn(async move { watched.scope.cancel.notified().await });
                let name = server.name;
                shelf.entry(&format!("clients of host {host}"), &name, &client);
                shelf.entry(&format!("tools of host {host}"), &name, &tools);
                let mut inner = lock(&inner);
                inner.clients.insert(name.clone(), client);
                inner.tools.insert(name, tools);
                Ok::<(), String>(())
            });
            let opened = tokio::time::timeout(timeout, opening).await;
            let opened = opened.map_err(|_| "the server is not ready".to_owned())?;
            opened.map_err(|error| error.to_string())?
        })
    }

    fn call(&self, server: &str, tool: &str, arguments: Value) -> Acting {
        self.ask(server, "tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    fn request(&self, server: &str, method: &str) -> Acting {
        self.ask(server, method, json!({}))
    }

    fn remove(&self, server: &str) -> Acting {
        let (inner, server) = (Arc::clone(&self.inner), server.to_owned());
        Box::pin(async move {
            let torn = tokio::spawn(async move { tear_down(&inner, &server) });
            // The original logs what it raises, and the loop goes on.
            torn.await.map(drop).map_err(|error| error.to_string())
        })
    }

    fn health(&self) -> Acting {
        Box::pin(async { Ok(()) })
    }

    fn shutdown(&self) -> Acting {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let torn = tokio::spawn(async move {
                let names: Vec<String> = lock(&inner).clients.keys().cloned().collect();
                // Logged by the original, and gone over.
                names.iter().filter_map(|name| tear_down(&inner, name).err()).count()
            });
            torn.await.map(drop).map_err(|error| error.to_string())
        })
    }

    fn books(&self) -> Box<dyn Books> {
        Box::new(self.shelf.clone())
    }
}
