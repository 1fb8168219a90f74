//! Named MCP servers that are added, called, removed and shut down.
//!
//! In place of `().serve(TokioChildProcess::new(command)?)` and a map of the results:
//!
//! ```no_run
//! use rmcp::model::CallToolRequestParams;
//! use scupper_core::{host::{Host, OnDuplicate, ServerSpec, Settings}, process::Command};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (answer, shutdown) = Host::scope(Settings::default(), |host| async move {
//!     let command = Command::new("npx").args(["-y", "@modelcontextprotocol/server-everything"]);
//!     host.add("all", ServerSpec::stdio(command), OnDuplicate::Refuse).await?;
//!     for (server, tool) in host.tools() {
//!         println!("{server}: {}", tool.name);
//!     }
//!     host.call_tool("all", CallToolRequestParams::new("get-env")).await
//! })
//! .await;
//! println!("{:?}\n{shutdown}", answer?);
//! # Ok(())
//! # }
//! ```
//!
//! A host that lives longer is made by [`Host::new`] and ended by [`Host::shutdown`]; servers of a file
//! come from [`config`].
//!
//! **A life is one task.** Each server is opened, served and torn down in one task of a scope of its
//! own. [`Host::add`] waits for its readiness and gets its errors. The task is the only one who takes
//! the server out of the host, so removal, replacement, shutdown, failure, death, abort and the end of
//! the runtime all leave by the same door, and whoever waits for an end hears the same.
//!
//! | at the same time | what happens |
//! |---|---|
//! | remove, remove | both wait for one end; who comes after it finds no such server |
//! | remove or shutdown, while it connects | the connecting ends, [`Host::add`] fails with [`HostError::Ended`] |
//! | remove, while the host shuts down | it waits for the end that the shutdown began |
//! | shutdown, shutdown | both wait for one end and tell the same; the earlier deadline counts |
//! | add, while the host shuts down | [`HostError::Closed`] |
//! | add by replacing, several times | one after the other; the last one stays |
//! | dropping the future of `add` | the server is removed again, by its task |
//! | dropping the future of `remove` or `shutdown` | the ends go on; the next shutdown takes over |
//! | a call, while its server is removed or dies | it fails at once, and says which |
//!
//! **A server that dies** is noticed by its pidfd or its pipes. Its calls fail, its lists go, its group
//! is swept, and what it died of is its state; [`Restart`] may start it again, [`Host::health`] removes
//! it. A stdio connection on which a send has failed is closed. An HTTP server that does not answer
//! fails single calls and may come back.
//!
//! **Nothing is kept.** Tasks hold the registry and not the host, rmcp holds the service and not the
//! peer's owner, callers hold a connection for one call only: with the last of them everything that
//! was cached of a server (lists, messages, headers with tokens, handlers) goes.

mod call;
mod catalog;
pub mod config;
mod error;
mod event;
mod input;
mod keeper;
mod life;
mod link;
mod look;
mod outcome;
mod registry;
mod scoped;
mod server;
mod service;
mod settings;
mod spec;
mod statistics;

use std::{
    fmt,
    panic::Location,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
#[cfg(feature = "admin")]
use tokio_util::sync::CancellationToken;

pub use catalog::Catalog;
pub use error::HostError;
pub use event::{HostEvent, ServerState, What};
pub use look::{Health, ServerView};
pub use outcome::{ConnectionEnd, EndReason, ServerEnd, Shutdown};
pub use settings::{OnDuplicate, Restart, Settings};
pub use spec::{Era, ServerSpec};
pub use statistics::{Statistics, TeardownTimes};

use crate::{census::Census, scope::ScopeError};
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
        if !self.is_guest && !sabotaged!(HostDropLeaves) {
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

impl Host {
    /// A host without servers.
    pub fn new(settings: Settings) -> Self {
        Self { owner: Arc::new(Owner { registry: Registry::new(settings), is_guest: false }) }
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
                    sabotaged!(ReplacedNotEnded => {
                        registry.forget_entry(&name);
                        std::mem::forget(old);
                        continue;
                    });
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
        sabotaged!(ShutdownsRace => if registry.is_closed() {
            crate::sabotage::hold_in_a_task(registry.all());
        });
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
