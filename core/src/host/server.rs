//! One named server: what its task, its host and its callers share.

use std::{
    panic::Location,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use rmcp::{RoleClient, service::Peer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Catalog, EndReason, HostError, HostEvent, ServerEnd, ServerSpec, ServerState, What,
    catalog::empty, link::Handle, lock, registry::Registry, service::HostService,
};
use crate::{
    census::{DroppedWithoutClose, Kind, Row},
    scope::TaskScope,
};

/// How long a task that has let go of everything may take to be gone itself.
pub(super) const LAST_BREATH: Duration = Duration::from_secs(1);

/// A server in the registry. The scope holds the one task that is its life; the task holds what is
/// shared and not the scope.
pub(super) struct Entry {
    pub(super) server: Arc<Server>,
    pub(super) scope: TaskScope,
}

impl Entry {
    /// Waits for the end of a server that has been asked to end, until then; aborts its task if that
    /// does not happen.
    pub(super) async fn close(&self, until: Instant) {
        let gone = tokio::time::timeout_at(until, self.server.gone.cancelled()).await.is_ok();
        self.scope.close(if gone { LAST_BREATH } else { Duration::ZERO }).await;
    }
}

pub(super) struct Server {
    pub(super) name: Arc<str>,
    pub(super) spec: ServerSpec,
    pub(super) opened_at: &'static Location<'static>,
    /// The token of its scope: the task ends the server when it is cancelled.
    pub(super) token: CancellationToken,
    /// Everything of it is gone but the last breath of its task.
    pub(super) gone: CancellationToken,
    slot: Mutex<Slot>,
    asked: OnceLock<EndReason>,
    pub(super) end: OnceLock<Arc<ServerEnd>>,
}

struct Slot {
    state: ServerState,
    /// In the census until the task lets go of it.
    row: Option<Row>,
    /// What calls go through; present while it is ready.
    live: Option<Arc<Live>>,
    /// The hold on its connection, from before the handshake to the end of it.
    handle: Option<Handle>,
    catalog: Arc<Catalog>,
    is_registered: bool,
    drop_is_recorded: bool,
}

/// A connection that is ready for calls.
pub(super) struct Live {
    pub(super) peer: Peer<RoleClient>,
    pub(super) service: Arc<HostService>,
    /// Nothing goes through any more; `why` is set before.
    pub(super) ended: CancellationToken,
    pub(super) why: OnceLock<Gone>,
    /// A send failed: the task shall end the connection.
    pub(super) failed: CancellationToken,
    pub(super) failure: OnceLock<Arc<str>>,
}

/// Why a connection takes no more calls.
#[derive(Clone, Debug)]
pub(super) enum Gone {
    Asked(EndReason),
    Died(Arc<str>),
}

impl Live {
    fn end(&self, why: Gone) {
        self.why.set(why).ok();
        self.ended.cancel();
    }

    /// What a call that was under way fails with.
    pub(super) fn error(&self, server: &Arc<str>, doing: &'static str) -> HostError {
        let server = Arc::clone(server);
        match self.why.get() {
            Some(Gone::Died(why)) => HostError::Died { server, doing, why: Arc::clone(why) },
            Some(Gone::Asked(reason)) => HostError::Ended { server, doing, reason: *reason },
            None => HostError::Ended { server, doing, reason: EndReason::Dropped },
        }
    }

    /// Lets the task end the connection, because a message could not be sent.
    pub(super) fn fail(&self, why: String) {
        self.failure.set(why.into()).ok();
        self.failed.cancel();
    }
}

impl Server {
    pub(super) fn new(
        name: Arc<str>,
        spec: ServerSpec,
        opened_at: &'static Location<'static>,
        token: CancellationToken,
        row: Row,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            spec,
            opened_at,
            token,
            gone: CancellationToken::new(),
            slot: Mutex::new(Slot {
                state: ServerState::Connecting,
                row: Some(row),
                live: None,
                handle: None,
                catalog: empty(),
                is_registered: true,
                drop_is_recorded: false,
            }),
            asked: OnceLock::new(),
            end: OnceLock::new(),
        })
    }

    pub(super) fn state(&self) -> ServerState {
        lock(&self.slot).state.clone()
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&lock(&self.slot).catalog)
    }

    pub(super) fn handle(&self) -> Option<Handle> {
        lock(&self.slot).handle.clone()
    }

    /// Who asked for its end, once somebody has.
    pub(super) fn asked(&self) -> Option<EndReason> {
        self.asked.get().copied()
    }

    /// What calls go through.
    pub(super) fn live(&self) -> Result<Arc<Live>, HostError> {
        let slot = lock(&self.slot);
        slot.live.clone().ok_or_else(|| HostError::NotReady {
            server: Arc::clone(&self.name),
            state: slot.state.clone(),
        })
    }

    /// Asks for the end: unregisters, then cancels; the waiting is the caller's. The first to ask is
    /// the reason; asking again changes nothing.
    pub(super) fn ask(&self, reason: EndReason, registry: &Registry) {
        if self.asked.set(reason).is_err() {
            return;
        }
        self.unregister(Gone::Asked(reason), ServerState::Closing, registry);
        registry.tell(&self.name, What::Cancelled { reason });
        self.token.cancel();
    }

    /// Takes its tools, resources and prompts away, and fails the calls that are under way.
    pub(super) fn unregister(&self, why: Gone, state: ServerState, registry: &Registry) {
        let (live, was_registered) = {
            let mut slot = lock(&self.slot);
            slot.set_state(state);
            slot.catalog = empty();
            (slot.live.take(), std::mem::replace(&mut slot.is_registered, false))
        };
        if let Some(live) = live {
            live.end(why);
        }
        if was_registered {
            registry.tell(&self.name, What::Unregistered);
        }
    }

    /// A connection is being opened; unless its end has been asked for, that is its state.
    pub(super) fn opening(&self) {
        let mut slot = lock(&self.slot);
        if self.asked().is_none() {
            slot.is_registered = true;
            slot.set_state(ServerState::Connecting);
        }
    }

    pub(super) fn set_state(&self, state: ServerState) {
        let mut slot = lock(&self.slot);
        if self.asked().is_none() {
            slot.set_state(state);
        }
    }

    pub(super) fn set_handle(&self, handle: Option<Handle>) {
        lock(&self.slot).handle = handle;
    }

    /// Calls may come, unless its end has been asked for.
    pub(super) fn ready(&self, live: &Arc<Live>, catalog: Catalog) -> bool {
        let mut slot = lock(&self.slot);
        // Under the lock that `unregister` takes after the reason is set: either it sees this, or
        // this sees the reason.
        if self.asked().is_some() {
            return false;
        }
        slot.live = Some(Arc::clone(live));
        slot.catalog = Arc::new(catalog);
        slot.set_state(ServerState::Ready);
        true
    }

    /// Replaces the lists, unless they have been taken away meanwhile.
    pub(super) fn set_catalog(&self, catalog: Catalog) -> bool {
        let mut slot = lock(&self.slot);
        let is_live = slot.live.is_some();
        if is_live {
            slot.catalog = Arc::new(catalog);
        }
        is_live
    }

    /// Takes note in the census that it was dropped although it should have been closed, once.
    pub(super) fn record_drop(&self, registry: &Registry) {
        if std::mem::replace(&mut lock(&self.slot).drop_is_recorded, true) {
            return;
        }
        registry.settings.census.record_drop(DroppedWithoutClose {
            kind: Kind::Server,
            name: Arc::clone(&self.name),
            opened_at: self.opened_at,
        });
        let opened_at = self.opened_at;
        tracing::warn!(server = %self.name, %opened_at, "dropped without close");
    }

    pub(super) fn leave_census(&self) {
        lock(&self.slot).row.take();
    }
}

impl Slot {
    fn set_state(&mut self, state: ServerState) {
        if let Some(row) = &self.row {
            row.set_state(state.to_string());
        }
        self.state = state;
    }
}

/// Held by the task that is a server's life: its drop is the one way out of the registry, whatever
/// ended the task.
pub(super) struct Membership {
    pub(super) server: Arc<Server>,
    pub(super) registry: Arc<Registry>,
    has_begun: bool,
}

impl Membership {
    pub(super) fn new(server: &Arc<Server>, registry: &Arc<Registry>) -> Self {
        Self { server: Arc::clone(server), registry: Arc::clone(registry), has_begun: false }
    }

    /// The task runs; from now on it has an end to tell.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// How the server ended, told by its task; the first telling counts.
    pub(super) fn tell_end(&self, end: ServerEnd) {
        self.server.end.set(Arc::new(end)).ok();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let (server, registry) = (&self.server, &self.registry);
        let reason = server.asked().unwrap_or(EndReason::Dropped);
        server.unregister(Gone::Asked(reason), ServerState::Closing, registry);
        let end = server.end.get_or_init(|| {
            let reason = if self.has_begun {
                // The task was aborted, panicked, or lost its runtime.
                server.record_drop(registry);
                EndReason::Dropped
            } else {
                server.asked().unwrap_or(EndReason::NotReady)
            };
            Arc::new(ServerEnd {
                server: Arc::clone(&server.name),
                reason,
                died: None,
                connection: None,
            })
        });
        server.set_handle(None);
        sabotaged!(RemovedServerKept => {
            server.gone.cancel();
            return;
        });
        server.leave_census();
        registry.leave(server, end);
        registry.tell_event(HostEvent {
            server: Arc::clone(&server.name),
            what: What::Ended(Arc::clone(end)),
        });
        server.gone.cancel();
    }
}
