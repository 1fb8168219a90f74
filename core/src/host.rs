//! Named MCP servers that are added, called, removed and shut down.

mod call;
mod catalog;
mod error;
mod event;
mod input;
mod keeper;
mod life;
mod link;
mod outcome;
mod registry;
mod server;
mod service;
mod settings;
mod spec;
mod statistics;

use std::{
    fmt,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use rmcp::model::{Prompt, Resource, ResourceTemplate, Tool};
use tokio::{sync::broadcast, time::Instant};
#[cfg(feature = "admin")]
use tokio_util::sync::CancellationToken;

pub use catalog::Catalog;
pub use error::HostError;
pub use event::{HostEvent, ServerState, What};
pub use outcome::{ConnectionEnd, EndReason, ServerEnd, Shutdown};
pub use settings::{OnDuplicate, Restart, Settings};
pub use spec::{Era, ServerSpec};
pub use statistics::{Statistics, TeardownTimes};

use crate::{census::Census, process::ProcessId, scope::ScopeError, stdio::StderrTail};
use registry::Registry;
use server::{Entry, LAST_BREATH, Membership, Server};

/// Longer than anybody waits; an instant cannot be moved by `Duration::MAX`.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Named servers. Clones are the same host; dropping the last one before
/// [`shutdown`](Self::shutdown) kills what is left, blocks until it is gone, and records it in the
/// census as dropped without close.
#[derive(Clone)]
pub struct Host {
    owner: Arc<Owner>,
}

/// Dropped with the last handle. The tasks of the servers hold the registry only, so no task keeps
/// its host.
struct Owner {
    registry: Arc<Registry>,
    /// Works on the host of somebody else, and ends nothing when it goes.
    is_guest: bool,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.is_guest {
            self.registry.kill_all();
        }
    }
}

/// A server that was added.
#[derive(Clone, Debug)]
pub struct Added {
    /// How the one ended that had the name before.
    pub replaced: Option<Arc<ServerEnd>>,
}

/// What [`Host::health`] found.
#[derive(Clone, Debug)]
pub struct Health {
    /// The servers that stay.
    pub servers: Vec<ServerView>,
    /// The dead ones, which are gone now.
    pub dropped: Vec<Arc<ServerEnd>>,
}

/// A server at the moment of asking.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// Its name.
    pub name: Arc<str>,
    /// What it is doing.
    pub state: ServerState,
    /// Its process, if it has one now.
    pub process: Option<ProcessId>,
    /// The line of the program that added it.
    pub opened_at: &'static Location<'static>,
    /// What it offers.
    pub catalog: Arc<Catalog>,
}

impl Host {
    /// A host without servers.
    pub fn new(settings: Settings) -> Self {
        Self { owner: Arc::new(Owner { registry: Registry::new(settings), is_guest: false }) }
    }

    /// Runs `work` with a host and then closes it: when `work` returns, also with an error, by a
    /// [`shutdown`](Self::shutdown) with [`Settings::shutdown_wait`]; so too when it panics, and the
    /// panic goes on then. When the future of the scope is dropped, everything is killed on the spot.
    /// Clones of the host that outlive the scope are closed.
    pub async fn scope<T, F>(settings: Settings, work: impl FnOnce(Host) -> F) -> (T, Arc<Shutdown>)
    where
        F: Future<Output = T>,
    {
        let host = Host::new(settings);
        let mut unclosed = Unclosed { registry: &host.owner.registry, is_closed: false };
        let result = {
            let mut work = pin!(async { work(host.clone()).await });
            std::future::poll_fn(|cx| {
                match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            })
            .await
        };
        let shutdown = host.shutdown(host.settings().shutdown_wait).await;
        unclosed.is_closed = true;
        match result {
            Ok(value) => (value, shutdown),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The same host, for what shall not keep it: dropping it ends nothing, and once the last other
    /// handle is dropped it is closed.
    #[cfg(feature = "admin")]
    pub(crate) fn guest(&self) -> Self {
        let registry = Arc::clone(&self.owner.registry);
        Self { owner: Arc::new(Owner { registry, is_guest: true }) }
    }

    /// Cancelled when the host has been shut down or dropped.
    #[cfg(feature = "admin")]
    pub(crate) fn lifetime(&self) -> &CancellationToken {
        self.owner.registry.lifetime()
    }

    /// What its servers are made of.
    #[cfg(feature = "admin")]
    pub(crate) fn specs(&self) -> Vec<(Arc<str>, ServerSpec)> {
        let entries = self.owner.registry.all();
        let spec = |entry: &Arc<Entry>| (Arc::clone(&entry.server.name), entry.server.spec.clone());
        entries.iter().map(spec).collect()
    }

    /// How the host was made.
    pub fn settings(&self) -> &Settings {
        &self.owner.registry.settings
    }

    /// The inventory of everything the host has opened.
    pub fn census(&self) -> &Census {
        &self.settings().census
    }

    /// Adds a server and waits until it can be used: opened, shaken hands with, its lists fetched.
    ///
    /// Dropping the future removes the server again, in the background: its task ends it like any
    /// other. With [`OnDuplicate::Replace`] the old server is closed, and gone, before the new one is
    /// opened; if the new one fails, the old one is gone all the same.
    ///
    /// # Errors
    /// [`HostError`]: the host is closed, the name is taken, or the server did not get ready; it is
    /// gone then, and the name free.
    #[track_caller]
    pub fn add<Name, Spec>(
        &self,
        name: Name,
        spec: Spec,
        on_duplicate: OnDuplicate,
    ) -> impl Future<Output = Result<Added, HostError>> + Send + use<Name, Spec>
    where
        Name: Into<Arc<str>>,
        Spec: Into<ServerSpec>,
    {
        let opened_at = Location::caller();
        let (name, spec) = (name.into(), spec.into());
        let host = self.clone();
        async move { host.add_at(name, spec, on_duplicate, opened_at).await }
    }

    async fn add_at(
        &self,
        name: Arc<str>,
        spec: ServerSpec,
        on_duplicate: OnDuplicate,
        opened_at: &'static Location<'static>,
    ) -> Result<Added, HostError> {
        let registry = &self.owner.registry;
        let mut replaced = None;
        let entry = loop {
            match registry.enter(Arc::clone(&name), spec.clone(), opened_at) {
                Err(HostError::Duplicate { .. }) if on_duplicate == OnDuplicate::Replace => {
                    let Some(old) = registry.get(&name) else {
                        continue;
                    };
                    replaced = Some(self.end(&old, EndReason::Replaced).await);
                    if !old.server.gone.is_cancelled() {
                        let state = old.server.state();
                        return Err(HostError::Duplicate { server: name, state });
                    }
                }
                entered => break entered.inspect_err(|_| registry.counts.refused())?,
            }
        };
        let server = &entry.server;
        let membership = Membership::new(server, registry);
        registry.tell(&server.name, What::Added);
        let ready = entry
            .scope
            .start(Arc::clone(&name), |ready| life::live(membership, ready))
            .map_err(|source| why_not_started(server, source))?;
        let mut unwanted = Unwanted { server, registry, is_wanted: false };
        let outcome = ready.await;
        unwanted.is_wanted = true;
        drop(unwanted);
        match outcome {
            Ok(()) => Ok(Added { replaced }),
            Err(error) => {
                entry.close(Instant::now() + LAST_BREATH).await;
                Err(why_not_ready(name, error))
            }
        }
    }

    /// Removes a server: its tools, resources and prompts go first, then it is closed, and then it is
    /// waited for, as long as its own settings say and [`Settings::force_wait`] beyond. Others are
    /// not touched. `None` if there is no such server.
    ///
    /// A server that is connecting stops connecting. Who removes at the same time, or while the host
    /// shuts down, waits for the same end. Dropping the future does not stop the end.
    pub async fn remove(&self, name: &str) -> Option<Arc<ServerEnd>> {
        let entry = self.owner.registry.get(name)?;
        Some(self.end(&entry, EndReason::Removed).await)
    }

    async fn end(&self, entry: &Entry, reason: EndReason) -> Arc<ServerEnd> {
        let server = &entry.server;
        server.ask(reason, &self.owner.registry);
        let patience = server.spec.longest_end().saturating_add(self.settings().force_wait);
        entry.close(Instant::now() + patience.min(LONGEST_WAIT)).await;
        server.end.get().cloned().unwrap_or_else(|| {
            // Its task blocks its thread and cannot even be aborted; its rows are in the census.
            Arc::new(ServerEnd {
                server: Arc::clone(&server.name),
                reason,
                died: None,
                connection: None,
            })
        })
    }

    /// Closes all servers at the same time and takes no new ones, in the time of the slowest. Those
    /// that are still there after `deadline` are killed, and [`Shutdown::overran`] names them.
    ///
    /// Who shuts down again, at the same time or later, waits for the first and hears the same; the
    /// earlier deadline counts. Dropping the future does not stop the servers from ending, only the
    /// deadline from being kept.
    pub async fn shutdown(&self, deadline: Duration) -> Arc<Shutdown> {
        let registry = &self.owner.registry;
        registry.begin_shutdown();
        let entries = registry.all();
        let is_late = |entry: &&Arc<Entry>| !entry.server.gone.is_cancelled();
        wait_for(&entries, deadline).await;
        let late: Vec<_> = entries.iter().filter(is_late).cloned().collect();
        if !late.is_empty() {
            registry.overran(&late);
            wait_for(&late, self.settings().force_wait).await;
        }
        for entry in &entries {
            entry.close(Instant::now()).await;
        }
        registry.report()
    }

    /// Has it been shut down, or is it being?
    pub fn is_closed(&self) -> bool {
        self.owner.registry.is_closed()
    }

    /// Looks at all servers and removes the dead ones: those that died and will not be started again.
    pub async fn health(&self) -> Health {
        let registry = &self.owner.registry;
        let mut dead = Vec::new();
        for entry in registry.all() {
            let server = &entry.server;
            let exited = server.handle().is_some_and(|handle| !handle.is_alive());
            if let (true, Ok(live)) = (exited, server.live()) {
                // Its task is about to see the same.
                tokio::time::timeout(LAST_BREATH, live.ended.cancelled()).await.ok();
            }
            if matches!(server.state(), ServerState::Dead { .. }) {
                server.ask(EndReason::Unhealthy, registry);
                dead.push(entry);
            }
        }
        let mut dropped = Vec::new();
        for entry in &dead {
            dropped.push(self.end(entry, EndReason::Unhealthy).await);
        }
        Health { servers: self.servers(), dropped }
    }

    /// All servers, by name.
    pub fn servers(&self) -> Vec<ServerView> {
        self.owner.registry.all().iter().map(|entry| view(&entry.server)).collect()
    }

    /// One server.
    ///
    /// # Errors
    /// [`HostError::NoSuchServer`], [`HostError::Closed`].
    pub fn server(&self, name: &str) -> Result<ServerView, HostError> {
        Ok(view(&*self.owner.registry.server(name, "look at a server")?))
    }

    /// The latest lines that a stdio server wrote to stderr; none for one that has no process now.
    ///
    /// # Errors
    /// [`HostError::NoSuchServer`], [`HostError::Closed`].
    pub fn stderr_tail(&self, name: &str) -> Result<StderrTail, HostError> {
        let server = self.owner.registry.server(name, "look at a server")?;
        Ok(server.handle().map(|handle| handle.stderr_tail()).unwrap_or_default())
    }

    /// Every tool with the server that has it, by the servers' names.
    pub fn tools(&self) -> Vec<(Arc<str>, Tool)> {
        self.listed(|catalog| &catalog.tools)
    }

    /// Every resource with the server that has it.
    pub fn resources(&self) -> Vec<(Arc<str>, Resource)> {
        self.listed(|catalog| &catalog.resources)
    }

    /// Every template of resources with the server that has it.
    pub fn resource_templates(&self) -> Vec<(Arc<str>, ResourceTemplate)> {
        self.listed(|catalog| &catalog.resource_templates)
    }

    /// Every prompt with the server that has it.
    pub fn prompts(&self) -> Vec<(Arc<str>, Prompt)> {
        self.listed(|catalog| &catalog.prompts)
    }

    /// The servers that have a tool of this name.
    pub fn servers_with_tool(&self, tool: &str) -> Vec<Arc<str>> {
        let has = |view: &ServerView| view.catalog.tools.iter().any(|known| known.name == tool);
        self.servers().into_iter().filter(has).map(|view| view.name).collect()
    }

    fn listed<T: Clone>(&self, list: impl Fn(&Catalog) -> &Vec<T>) -> Vec<(Arc<str>, T)> {
        let mut all = Vec::new();
        for ServerView { name, catalog, .. } in self.servers() {
            all.extend(list(&catalog).iter().map(|item| (Arc::clone(&name), item.clone())));
        }
        all
    }

    /// What the host has counted, and how many servers are in which state.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.owner.registry.counts.read();
        for entry in self.owner.registry.all() {
            *match entry.server.state() {
                ServerState::Connecting => &mut statistics.connecting,
                ServerState::Ready => &mut statistics.ready,
                ServerState::Restarting { .. } => &mut statistics.restarting,
                ServerState::Dead { .. } => &mut statistics.dead,
                ServerState::Closing => &mut statistics.closing,
            } += 1;
        }
        statistics
    }

    /// What happens from now on. A listener that does not keep up misses the older events.
    pub fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.owner.registry.listen()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.servers().iter().map(|view| (&view.name, &view.state))).finish()
    }
}

/// Held while somebody waits for a server to be ready; dropped early, it has the server removed.
struct Unwanted<'a> {
    server: &'a Arc<Server>,
    registry: &'a Registry,
    is_wanted: bool,
}

impl Drop for Unwanted<'_> {
    fn drop(&mut self) {
        if !self.is_wanted {
            self.server.ask(EndReason::AddCancelled, self.registry);
        }
    }
}

/// Held by a scope; dropped early, it kills everything.
struct Unclosed<'a> {
    registry: &'a Registry,
    is_closed: bool,
}

impl Drop for Unclosed<'_> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.registry.kill_all();
        }
    }
}

fn view(server: &Server) -> ServerView {
    ServerView {
        name: Arc::clone(&server.name),
        state: server.state(),
        process: server.handle().and_then(|handle| handle.process()),
        opened_at: server.opened_at,
        catalog: server.catalog(),
    }
}

/// Waits until all are gone, or the time is over.
async fn wait_for(entries: &[Arc<Entry>], wait: Duration) {
    let until = Instant::now() + wait.min(LONGEST_WAIT);
    for entry in entries {
        if tokio::time::timeout_at(until, entry.server.gone.cancelled()).await.is_err() {
            return;
        }
    }
}

fn why_not_started(server: &Server, source: ScopeError) -> HostError {
    let name = Arc::clone(&server.name);
    match server.asked() {
        Some(reason) => HostError::Ended { server: name, doing: "connecting", reason },
        None => HostError::Task { server: name, source },
    }
}

fn why_not_ready(server: Arc<str>, error: ScopeError) -> HostError {
    match error {
        ScopeError::NotReady { task, why, source: Some(source) } => match source.downcast() {
            Ok(error) => *error,
            Err(source) => {
                let source = ScopeError::NotReady { task, why, source: Some(source) };
                HostError::Task { server, source }
            }
        },
        source => HostError::Task { server, source },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
