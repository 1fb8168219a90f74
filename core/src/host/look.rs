//! Looking at a host: its servers, what they offer, whether they live, what was counted.

#![expect(
    deprecated,
    reason = "roots and logging are deprecated by SEP-2577, and older servers use them"
)]

use std::{panic::Location, sync::Arc};

use rmcp::model::{
    LoggingMessageNotificationParam, Prompt, Resource, ResourceTemplate, Root, Tool,
};
use tokio::sync::broadcast;

use super::{
    Catalog, EndReason, Host, HostError, HostEvent, ServerEnd, ServerState, Statistics,
    server::Server,
};
use crate::{process::ProcessId, stdio::StderrTail};

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
    /// Looks at all servers and removes the dead ones: those that died and will not be started again.
    pub async fn health(&self) -> Health {
        let registry = &self.owner.registry;
        let mut dead = Vec::new();
        for entry in registry.all() {
            let server = &entry.server;
            let exited = server.handle().is_some_and(|handle| !handle.is_alive());
            if let (true, Ok(live)) = (exited, server.live()) {
                // Its task is about to see the same.
                tokio::time::timeout(self.settings().force_wait, live.ended.cancelled()).await.ok();
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

    /// What a server has logged over its present connection, up to [`Settings::messages`](super::Settings::messages),
    /// the oldest first; nothing for one that is not ready.
    ///
    /// # Errors
    /// [`HostError::NoSuchServer`], [`HostError::Closed`].
    pub fn messages(&self, name: &str) -> Result<Vec<LoggingMessageNotificationParam>, HostError> {
        let server = self.owner.registry.server(name, "look at a server")?;
        Ok(server.live().map(|live| live.service.messages.read()).unwrap_or_default())
    }

    /// What servers are told when they ask for roots. Older ones hear of the change.
    pub fn set_roots(&self, roots: Vec<Root>) {
        self.owner.registry.roots.send_replace(roots);
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

fn view(server: &Server) -> ServerView {
    ServerView {
        name: Arc::clone(&server.name),
        state: server.state(),
        process: server.handle().and_then(|handle| handle.process()),
        opened_at: server.opened_at,
        catalog: server.catalog(),
    }
}
