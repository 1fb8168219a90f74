//! Report 5: a multiplexer that ran out of file descriptors. Servers that fail to start or to
//! initialize, or die, stay with child and pipes; a name given twice starts another; nothing is
//! removed; health counts; shutdown sends SIGTERM and waits for nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::seam::{Acting, Books, Host, Reach, Server, Settings};
use super::child::ServerProcess;
use super::shelf::Shelf;

pub(super) struct Multiplexer {
    inner: Arc<Mutex<Inner>>,
    shelf: Shelf,
    name: String,
    connect_timeout: Duration,
}

#[derive(Default)]
struct Inner {
    /// Every process ever started. Nobody takes one out.
    processes: Vec<Arc<ServerProcess>>,
    servers: BTreeMap<String, Arc<ServerProcess>>,
}

impl Multiplexer {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            inner: Arc::default(),
            shelf: Shelf::default(),
            name: settings.name.clone(),
            connect_timeout: settings.duration("connect-timeout"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn ask(&self, server: &str, method: &str, params: Value) -> Acting {
        let (process, method) = (self.lock().servers.get(server).cloned(), method.to_owned());
        let server = server.to_owned();
        Box::pin(async move {
            let process = process.ok_or(format!("no server is called {server}"))?;
            process.request(&method, params).await.map(drop)
        })
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host for Multiplexer {
    fn add(&self, server: Server) -> Acting {
        let Reach::Stdio(command) = server.reach else {
            return Box::pin(async { Err("it speaks stdio only".to_owned()) });
        };
        let (inner, timeout) = (Arc::clone(&self.inner), self.connect_timeout);
        let (shelf, host) = (self.shelf.clone(), self.name.clone());
        Box::pin(async move {
            let process = Arc::new(ServerProcess::start(&command)?);
            let number = {
                let mut inner = lock(&inner);
                inner.processes.push(Arc::clone(&process));
                inner.processes.len()
            };
            let key = format!("{} ({number})", server.name);
            shelf.entry(&format!("servers of host {host}"), &key, &process);
            // Whoever leaves here leaves the process behind.
            let ready = tokio::time::timeout(timeout, process.initialize());
            ready.await.map_err(|_| "the server did not initialize in time".to_owned())??;
            lock(&inner).servers.insert(server.name, process);
            Ok(())
        })
    }

    fn call(&self, server: &str, tool: &str, arguments: Value) -> Acting {
        self.ask(server, "tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    fn request(&self, server: &str, method: &str) -> Acting {
        self.ask(server, method, json!({}))
    }

    fn remove(&self, server: &str) -> Acting {
        // The endpoint answers, and the process goes on.
        self.lock().servers.remove(server);
        Box::pin(async { Ok(()) })
    }

    fn health(&self) -> Acting {
        // It counts them.
        let count = self.lock().servers.len();
        Box::pin(async move { if count < usize::MAX { Ok(()) } else { Err("too many".into()) } })
    }

    fn shutdown(&self) -> Acting {
        let processes = self.lock().processes.clone();
        Box::pin(async move {
            for process in processes {
                process.terminate();
            }
            Ok(())
        })
    }

    fn books(&self) -> Box<dyn Books> {
        Box::new(self.shelf.clone())
    }
}
