//! The life of one server: one task that opens it, serves it and tears it down.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ConnectionEnd, EndReason, HostError, Restart, ServerEnd, ServerState, What, keeper,
    link::{Handle, Link, NotOpened, Opening},
    registry::Registry,
    server::{Gone, Live, Membership, Server},
    service::{Changes, HostService, Messages},
};
use crate::scope::{Ready, TaskError};

/// How one connection of a life went.
enum Lived {
    /// It was told to end.
    Asked { died: Option<Arc<str>>, connection: Option<ConnectionEnd> },
    /// It could not be opened.
    NotOpened(HostError),
    /// It ended by itself.
    Died { why: Arc<str>, connection: ConnectionEnd, was_ready: bool, next: Next },
}

/// What comes after a death.
#[derive(Clone, Copy)]
enum Next {
    Attempt { number: u32, pause: Duration },
    Nothing,
}

impl Next {
    fn state(self, why: &Arc<str>) -> ServerState {
        let why = Arc::clone(why);
        match self {
            Next::Attempt { number: attempt, .. } => ServerState::Restarting { attempt, why },
            Next::Nothing => ServerState::Dead { why },
        }
    }
}

/// How often a server may still be started again.
struct Retries {
    restart: Option<Restart>,
    made: u32,
}

impl Retries {
    /// It has died, after having been ready since then.
    fn next(&mut self, ready_since: Option<Instant>) -> Next {
        let Some(restart) = self.restart else {
            return Next::Nothing;
        };
        if ready_since.is_some_and(|since| since.elapsed() >= restart.stable_after) {
            self.made = 0;
        }
        self.made = self.made.saturating_add(1);
        match restart.pause(self.made) {
            Some(pause) => Next::Attempt { number: self.made, pause },
            None => Next::Nothing,
        }
    }
}

/// Opens, serves, tears down, and does it again where a restart is due. A dead server that is not
/// started again waits here for its removal, so that there is one way out for all.
pub(super) async fn live(mut membership: Membership, ready: Ready) -> Result<(), TaskError> {
    membership.begin();
    let server = Arc::clone(&membership.server);
    let registry = Arc::clone(&membership.registry);
    let restart = server.spec.restart.unwrap_or(registry.settings.restart);
    let mut retries = Retries { restart, made: 0 };
    let mut ready = Some(ready);
    let mut died: Option<Arc<str>> = None;
    let mut last: Option<ConnectionEnd> = None;
    loop {
        let is_first = ready.is_some();
        let next = match connection(&server, &registry, &mut ready, &mut retries).await {
            Lived::Asked { died: now, connection } => {
                died = now.or(died);
                last = connection.or(last);
                break;
            }
            Lived::NotOpened(error) if is_first => return Err(fail(&membership, error, last)),
            Lived::NotOpened(error) => {
                died = Some(error.to_string().into());
                retries.next(None)
            }
            Lived::Died { why, connection, was_ready: false, .. } if is_first => {
                let name = Arc::clone(&server.name);
                let doing = "fetching the lists";
                let error = HostError::Died { server: name, doing, why };
                return Err(fail(&membership, error, Some(connection)));
            }
            Lived::Died { why, connection, next, .. } => {
                died = Some(why);
                last = Some(connection);
                next
            }
        };
        if let Some(why) = &died {
            server.set_state(next.state(why));
        }
        if !wait_for(next, &server, &registry).await {
            break;
        }
    }
    let reason = server.asked().unwrap_or(EndReason::Dropped);
    membership.tell_end(ServerEnd {
        server: Arc::clone(&server.name),
        reason,
        died,
        connection: last,
    });
    match ready {
        None => Ok(()),
        Some(_) => Err(Box::new(HostError::Ended {
            server: Arc::clone(&server.name),
            doing: "connecting",
            reason,
        })),
    }
}

/// The first connection failed: the one who adds the server hears of it, and the name is free.
fn fail(membership: &Membership, error: HostError, last: Option<ConnectionEnd>) -> TaskError {
    let server = &membership.server;
    membership.tell_end(ServerEnd {
        server: Arc::clone(&server.name),
        reason: server.asked().unwrap_or(EndReason::NotReady),
        died: Some(error.to_string().into()),
        connection: last,
    });
    Box::new(error)
}

/// Waits until the next attempt is due, or, where there is none, for the removal. `false` once the
/// end was asked for.
async fn wait_for(next: Next, server: &Server, registry: &Registry) -> bool {
    match next {
        Next::Attempt { number: attempt, pause } => {
            registry.tell(&server.name, What::Restarting { attempt, pause });
            tokio::time::timeout(pause, server.token.cancelled()).await.is_err()
        }
        Next::Nothing => {
            server.token.cancelled().await;
            false
        }
    }
}

/// One connection, from its opening to its end.
async fn connection(
    server: &Arc<Server>,
    registry: &Registry,
    ready: &mut Option<Ready>,
    retries: &mut Retries,
) -> Lived {
    server.opening();
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    let changes = Arc::new(Changes::default());
    let messages = Messages::new(registry.settings.messages);
    let at_work = TaskTracker::new();
    sabotaged!(RootsWatcherKept => crate::sabotage::hold_in_a_task(registry.roots.subscribe()));
    let service = || HostService {
        config: registry.settings.client.clone(),
        roots: registry.roots.subscribe(),
        handler: server.spec.handler.clone(),
        changes: Arc::clone(&changes),
        messages: Arc::clone(&messages),
        ended: ended.clone(),
        at_work: at_work.clone(),
    };
    let opening = Opening {
        name: &server.name,
        spec: &server.spec,
        census: &registry.settings.census,
        opened_at: server.opened_at,
        guard: registry.settings.guard.as_ref(),
        cancelled: &server.token,
    };
    let opened = Link::open(opening, service, |handle| server.set_handle(Some(handle))).await;
    let link = match opened {
        Ok(link) => link,
        Err(NotOpened::Failed(error)) => {
            server.set_handle(None);
            return Lived::NotOpened(error);
        }
        Err(NotOpened::Cancelled(connection)) => {
            server.set_handle(None);
            if let Some(connection) = &connection {
                registry.counts.teardown(connection);
            }
            return Lived::Asked { died: None, connection };
        }
    };
    let handle = link.handle();
    let live = Arc::new(Live {
        peer: link.peer().clone(),
        service: Arc::new(service()),
        ended: ended.clone(),
        why: Default::default(),
        failed: CancellationToken::new(),
        failure: Default::default(),
    });
    let mut ready_since = None;
    let died = tokio::select! {
        biased;
        () = server.token.cancelled() => None,
        why = end_of(&handle, &live) => Some(why),
        never = keeper::keep(server, registry, &live, &changes, ready, &mut ready_since) => {
            match never {}
        }
    };
    let death = died.map(|why| {
        registry.counts.died();
        registry.tell(&server.name, What::Died { why: Arc::clone(&why) });
        let next = retries.next(ready_since);
        server.unregister(Gone::Died(Arc::clone(&why)), next.state(&why), registry);
        (why, next)
    });
    ended.cancel();
    drop(live);
    sabotaged!(DeadLinkKept => if death.is_some() {
        crate::sabotage::hold_in_a_task(link.handle());
    });
    let connection = link.close().await;
    at_work.close();
    tokio::time::timeout(registry.settings.force_wait, at_work.wait()).await.ok();
    server.set_handle(None);
    registry.counts.teardown(&connection);
    match death {
        Some((why, next)) if server.asked().is_none() => {
            Lived::Died { why, connection, was_ready: ready_since.is_some(), next }
        }
        death => Lived::Asked { died: death.map(|(why, _)| why), connection: Some(connection) },
    }
}

/// Waits until the connection ends without having been asked to, or a message could not be sent.
async fn end_of(handle: &Handle, live: &Live) -> Arc<str> {
    tokio::select! {
        biased;
        why = handle.ended() => why.into(),
        () = live.failed.cancelled() => {
            live.failure.get().cloned().unwrap_or_else(|| "a send failed".into())
        }
    }
}
