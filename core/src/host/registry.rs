//! The names of a host: who is there, who may come in, what is counted.

#![expect(
    deprecated,
    reason = "roots are deprecated by SEP-2577, and every older server may ask for them"
)]

use std::{
    collections::BTreeMap,
    panic::Location,
    sync::{Arc, Mutex},
    time::Instant,
};

use rmcp::model::Root;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{
    EndReason, HostError, HostEvent, ServerEnd, ServerSpec, Settings, Shutdown, What, lock,
    server::{Entry, Server},
    statistics::Counts,
};
use crate::{census::Kind, scope::TaskScope};

pub(super) struct Registry {
    pub(super) settings: Settings,
    pub(super) counts: Counts,
    pub(super) roots: watch::Sender<Vec<Root>>,
    /// Cancelled when the host has been shut down or dropped: the parent of all scopes.
    token: CancellationToken,
    book: Mutex<Book>,
    events: broadcast::Sender<HostEvent>,
}

#[derive(Default)]
struct Book {
    servers: BTreeMap<Arc<str>, Arc<Entry>>,
    closing: Option<Closing>,
}

/// A shutdown under way, or done.
struct Closing {
    began: Instant,
    ended: BTreeMap<Arc<str>, Arc<ServerEnd>>,
    overran: Vec<Arc<str>>,
    report: Option<Arc<Shutdown>>,
}

impl Closing {
    fn begin() -> Self {
        Self { began: Instant::now(), ended: BTreeMap::new(), overran: Vec::new(), report: None }
    }
}

impl Registry {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let (events, _) = broadcast::channel(settings.event_backlog.max(1));
        Arc::new(Self {
            settings,
            counts: Counts::default(),
            roots: watch::Sender::default(),
            token: CancellationToken::new(),
            book: Mutex::default(),
            events,
        })
    }

    #[cfg(feature = "admin")]
    pub(super) fn lifetime(&self) -> &CancellationToken {
        &self.token
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<HostEvent> {
        self.events.subscribe()
    }

    pub(super) fn tell(&self, server: &Arc<str>, what: What) {
        self.tell_event(HostEvent { server: Arc::clone(server), what });
    }

    pub(super) fn tell_event(&self, event: HostEvent) {
        tracing::debug!(%event, "host");
        // Nobody listening is no error.
        self.events.send(event).ok();
    }

    /// Puts a server in: the one insert.
    pub(super) fn enter(
        &self,
        name: Arc<str>,
        spec: ServerSpec,
        opened_at: &'static Location<'static>,
    ) -> Result<Arc<Entry>, HostError> {
        let mut book = lock(&self.book);
        if book.closing.is_some() {
            return Err(HostError::Closed { doing: "add servers" });
        }
        if let Some(entry) = book.servers.get(&name) {
            return Err(HostError::Duplicate { server: name, state: entry.server.state() });
        }
        let limit = self.settings.server_limit;
        if book.servers.len() >= limit {
            return Err(HostError::TooMany { server: name, limit });
        }
        let census = &self.settings.census;
        let scope = TaskScope::under(&self.token, format!("server {name}"), census);
        let row = census.enter(Kind::Server, Arc::clone(&name), "connecting", opened_at);
        let token = scope.token().clone();
        let server = Server::new(Arc::clone(&name), spec, opened_at, token, row);
        let entry = Arc::new(Entry { server, scope });
        book.servers.insert(name, Arc::clone(&entry));
        drop(book);
        self.counts.created();
        Ok(entry)
    }

    /// Takes a server out: the one remove. Called by its [`Membership`](super::server::Membership).
    pub(super) fn leave(&self, server: &Arc<Server>, end: &Arc<ServerEnd>) {
        let mut book = lock(&self.book);
        let entry = book.servers.remove(&server.name);
        if let Some(closing) = book.closing.as_mut().filter(|closing| closing.report.is_none()) {
            closing.ended.insert(Arc::clone(&server.name), Arc::clone(end));
        }
        drop(book);
        self.counts.ended(end);
        // Its scope goes with it, outside of the lock.
        drop(entry);
    }

    /// The mistake of a mutant: a name is free, and its server has not ended.
    #[cfg(feature = "sabotage")]
    pub(super) fn forget_entry(&self, name: &str) {
        std::mem::forget(lock(&self.book).servers.remove(name));
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Entry>> {
        lock(&self.book).servers.get(name).cloned()
    }

    /// The server of this name, or an error that names those there are.
    pub(super) fn server(&self, name: &str, doing: &'static str) -> Result<Arc<Server>, HostError> {
        let book = lock(&self.book);
        match book.servers.get(name) {
            Some(entry) => Ok(Arc::clone(&entry.server)),
            None if book.closing.is_some() => Err(HostError::Closed { doing }),
            None => Err(HostError::NoSuchServer {
                server: name.into(),
                known: book.servers.keys().cloned().collect(),
            }),
        }
    }

    /// All servers, by name.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let book = lock(&self.book);
        sabotaged!(ShutdownForgetsLast => if book.closing.is_some() {
            return book.servers.values().skip(1).cloned().collect();
        });
        book.servers.values().cloned().collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.book).closing.is_some()
    }

    /// From now on nobody comes in, and everybody is asked to go.
    pub(super) fn begin_shutdown(&self) {
        lock(&self.book).closing.get_or_insert_with(Closing::begin);
        for entry in self.all() {
            entry.server.ask(EndReason::Shutdown, self);
        }
    }

    /// The time is over: those that are left are killed from now on.
    pub(super) fn overran(&self, left: &[Arc<Entry>]) {
        let mut book = lock(&self.book);
        if let Some(closing) = &mut book.closing {
            for entry in left {
                let name = &entry.server.name;
                if !closing.overran.contains(name) {
                    closing.overran.push(Arc::clone(name));
                }
            }
        }
        drop(book);
        for entry in left {
            if let Some(handle) = entry.server.handle() {
                handle.hurry();
            }
        }
    }

    /// What the shutdown came to; the first to ask fixes it.
    pub(super) fn report(&self) -> Arc<Shutdown> {
        let mut book = lock(&self.book);
        let left: Vec<Arc<str>> = book.servers.keys().cloned().collect();
        let closing = book.closing.get_or_insert_with(Closing::begin);
        let report = closing.report.get_or_insert_with(|| {
            Arc::new(Shutdown {
                servers: std::mem::take(&mut closing.ended).into_values().collect(),
                overran: std::mem::take(&mut closing.overran),
                left,
                took: closing.began.elapsed(),
            })
        });
        // The servers have been told; what else lives as long as the host ends now too.
        self.token.cancel();
        Arc::clone(report)
    }

    /// Ends everything on the spot, blocking: the host is dropped, or its scope cancelled.
    pub(super) fn kill_all(&self) {
        lock(&self.book).closing.get_or_insert_with(Closing::begin);
        let entries = self.all();
        for entry in &entries {
            entry.server.record_drop(self);
            entry.server.ask(EndReason::Dropped, self);
        }
        for entry in &entries {
            if let Some(handle) = entry.server.handle() {
                handle.kill();
            }
        }
        self.token.cancel();
    }
}
