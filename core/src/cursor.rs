//! Server-side pagination state that belongs to a session and goes with it.
//!
//! A server that cannot put a position into the cursor itself keeps it here: [`Cursors::put`] keeps a
//! payload for a session and gives back an opaque cursor that nobody can guess, [`Cursors::read`] gives
//! the payload back to the same session, and [`Cursors::end_session`] forgets all of a session's at
//! once. An unknown cursor is answered with -32602; one that has expired or is another session's cannot
//! be told from it.
//!
//! ```
//! use std::time::Duration;
//! use scupper_core::{census::Census, cleanup::CleanupPlan};
//! use scupper_core::cursor::{Cursors, MemoryStore, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let census = Census::new();
//! let cursors = Cursors::open(MemoryStore::new(), Settings::default(), &census)?;
//! cursors.open_session("s1")?;
//! let next = cursors.put("s1", "position 50").await?;
//! assert_eq!(cursors.read("s1", &next).await?, b"position 50");
//! let limit = Duration::from_secs(5);
//! let mut end = CleanupPlan::new().step("cursors", limit, cursors.cleanup_step("s1"));
//! assert!(end.run().await.is_complete());
//! assert!(cursors.read("s1", &next).await.is_err());
//! cursors.close().await;
//! assert!(census.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Sessions are those of the revisions up to 2025-11-25; a request of 2026-07-28 has none. The other
//! stores are `SqliteStore::open(path, &census).await?` (feature `sqlite`) and
//! `RedisStore::open(RedisSettings::new(url), &census).await?` (feature `redis`).
//!
//! **A store that fails or hangs** keeps no session alive. Every call of a [`CursorStore`] is bounded,
//! and its panics are caught. When the payloads of an ended session cannot be removed, that is reported
//! ([`CursorError::LeftToSweep`]), the session is gone all the same, and the sweep tries again until it
//! succeeds; such sessions are remembered up to a limit, and beyond it the oldest is left to the time to
//! live, which every store that outlives the process enforces by itself.
//!
//! **In the census** every cursor has a row from its birth to its removal from the store, and an ended
//! session whose payloads are still there has one.
//!
//! Cursors are not shared between processes, as sessions are not: a store knows each session under a
//! random name that ends with it, so that a session that takes up an old name never sees old cursors.

mod error;
mod id;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod registry;
mod settings;
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod sweep;

use std::{fmt, panic::Location, sync::Arc};

use tokio::time::timeout;

#[cfg(feature = "redis")]
pub use self::redis::{RedisSettings, RedisStore};
use self::shared::Shared;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::{
    error::CursorError,
    id::Id,
    memory::MemoryStore,
    registry::Statistics,
    settings::{Settings, WhenFull},
    store::{Answer, CursorStore, Key, StoreError},
    sweep::SweepReport,
};
use crate::{
    census::{Census, DroppedWithoutClose, Kind},
    cleanup::StepWork,
    scope::TaskScope,
};

/// The cursors of all sessions of a server. Clones share them.
#[derive(Clone)]
pub struct Cursors {
    owner: Arc<Owner>,
}

/// Ends the sweeper when the last clone goes.
struct Owner {
    shared: Arc<Shared>,
    scope: TaskScope,
    opened_at: &'static Location<'static>,
}

/// How the cursors ended; see [`Cursors::close`].
#[derive(Debug, Default)]
#[must_use = "it tells whether the store was emptied and closed"]
pub struct CloseReport {
    /// Cursors that were removed from the store.
    pub removed: usize,
    /// Cursors that may still be in the store, until their time is over.
    pub left: usize,
    /// The first thing that went wrong.
    pub failure: Option<CursorError>,
}

impl CloseReport {
    /// Is the store emptied and closed?
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.failure.is_none()
    }
}

impl Cursors {
    /// Cursors in `store`, whose rows are in `census`. Starts the sweeper.
    ///
    /// # Errors
    /// [`CursorError::Sweeper`] outside a tokio runtime.
    #[track_caller]
    pub fn open(
        store: impl CursorStore + 'static,
        settings: Settings,
        census: &Census,
    ) -> Result<Self, CursorError> {
        let opened_at = Location::caller();
        let shared = Arc::new(Shared::new(Box::new(store), settings, census));
        let scope = TaskScope::new("cursors", census);
        sabotaged!(CursorSweepKept => {
            let sweeping = Arc::clone(&shared);
            tokio::spawn(async move { sweeping.sweep_for_ever().await });
        });
        let sweeping = Arc::clone(&shared);
        let token = scope.token().clone();
        scope.spawn("cursor sweep", async move {
            token.run_until_cancelled(sweeping.sweep_for_ever()).await;
            Ok(())
        })?;
        Ok(Self { owner: Arc::new(Owner { shared, scope, opened_at }) })
    }

    /// Lets a session have cursors, until [`end_session`](Self::end_session).
    ///
    /// # Errors
    /// [`CursorError::SessionExists`] when a session of this name is open, [`CursorError::Closed`],
    /// [`CursorError::NoRandomness`].
    #[track_caller]
    pub fn open_session(&self, session: impl Into<Arc<str>>) -> Result<(), CursorError> {
        let owner = Id::random()?;
        self.shared().registry().open(session.into(), owner, Location::caller())
    }

    /// Keeps a payload and gives back its cursor. When the future is dropped, or fails, nobody ever
    /// reads what may have been kept, and the sweep removes it.
    ///
    /// # Errors
    /// [`CursorError::NoSession`], also when the session ends meanwhile; one of the limits;
    /// [`CursorError::Store`]; [`CursorError::Closed`]; [`CursorError::NoRandomness`].
    #[track_caller]
    pub fn put<'a>(
        &'a self,
        session: &'a str,
        payload: impl Into<Vec<u8>>,
    ) -> impl Future<Output = Result<String, CursorError>> + Send + 'a {
        let opened_at = Location::caller();
        let payload = payload.into();
        async move { self.shared().put(session, payload, opened_at).await }
    }

    /// The payload of a cursor of this session. Reading does not use a cursor up: a client may ask for
    /// a page twice.
    ///
    /// # Errors
    /// [`CursorError::Unknown`] for anything else than a cursor of this session that is alive;
    /// [`CursorError::Store`]; [`CursorError::Closed`].
    pub async fn read(&self, session: &str, cursor: &str) -> Result<Vec<u8>, CursorError> {
        let shared = self.shared();
        let unknown = || CursorError::Unknown { ttl: shared.settings.ttl };
        let cursor = Id::parse(cursor);
        let (owner, cursor) = {
            let registry = shared.registry();
            registry.check_open()?;
            let cursor = cursor.ok_or_else(unknown)?;
            (registry.readable(session, cursor).ok_or_else(unknown)?, cursor)
        };
        let key = Key { owner, cursor };
        let payload = shared.ask("reading a cursor", || shared.store.read(key)).await?;
        let mut registry = shared.registry();
        // It may have been removed, with its session or alone, while the store was asked.
        let still = registry.readable(session, cursor) == Some(owner);
        if still && payload.is_none() {
            // The store's clock was faster, or it evicts; the sweep makes sure.
            registry.hide(session, cursor);
        }
        payload.filter(|_| still).ok_or_else(unknown)
    }

    /// Forgets one cursor of this session, for instance the one of the last page, and tells whether
    /// there was one.
    ///
    /// # Errors
    /// [`CursorError::Store`]: nobody reads it any more, and the sweep removes it.
    pub async fn remove(&self, session: &str, cursor: &str) -> Result<bool, CursorError> {
        let shared = self.shared();
        let Some(cursor) = Id::parse(cursor) else {
            return Ok(false);
        };
        let was_alive = {
            let mut registry = shared.registry();
            registry.readable(session, cursor).and_then(|_| registry.hide(session, cursor))
        };
        let Some(owner) = was_alive else {
            return Ok(false);
        };
        let (doing, cursors) = ("removing a cursor", [cursor]);
        let turn = shared.registry().session(session).map(|found| Arc::clone(&found.turn))?;
        let _turn =
            shared.take(&turn).await.map_err(|source| CursorError::Store { doing, source })?;
        shared.ask(doing, || shared.store.remove(owner, &cursors)).await?;
        shared.registry().forget(session, owner, &cursors);
        Ok(true)
    }

    /// Ends a session: from the first poll on it has no cursors, whatever happens next. Tells how many
    /// the store held; 0 when the session was not open (any more). When the future is dropped, the
    /// sweep does the rest.
    ///
    /// # Errors
    /// [`CursorError::LeftToSweep`] when the store failed or did not answer: the session has ended all
    /// the same.
    pub async fn end_session(&self, session: &str) -> Result<usize, CursorError> {
        sabotaged!(CursorsKeptOnEnd => return Ok(0));
        let shared = self.shared();
        let number = shared.registry().end(session);
        match number {
            Some(number) => shared.remove_ended(number).await,
            None => Ok(0),
        }
    }

    /// [`end_session`](Self::end_session) as a step of a [`CleanupPlan`](crate::cleanup::CleanupPlan).
    /// Give it a limit of at least twice [`Settings::store_limit`], so that it is told why it failed.
    pub fn cleanup_step(
        &self,
        session: impl Into<Arc<str>>,
    ) -> impl FnOnce() -> StepWork + Send + 'static {
        let cursors = self.clone();
        let session = session.into();
        move || {
            Box::pin(async move {
                let removed = cursors.end_session(&session).await?;
                tracing::debug!(%session, removed, "cursors removed");
                Ok(())
            })
        }
    }

    /// Tries again what could not be removed, and removes what is over. The sweeper does this every
    /// [`Settings::sweep_interval`]. Can be dropped at any time.
    pub async fn sweep(&self) -> SweepReport {
        self.shared().sweep().await
    }

    /// What there is at the moment.
    pub fn statistics(&self) -> Statistics {
        self.shared().registry().statistics()
    }

    /// Ends every session, the sweeper and the store. Afterwards every use is an error, and a second
    /// close finds nothing to do. One that was dropped midway is called again.
    pub async fn close(&self) -> CloseReport {
        let shared = self.shared();
        let sessions = shared.registry().close();
        self.owner.scope.close(shared.settings.store_limit).await;
        let mut report = CloseReport::default();
        {
            let mut registry = shared.registry();
            for session in sessions {
                registry.end(&session);
            }
        }
        let emptied = timeout(shared.settings.close_limit, shared.empty(&mut report)).await;
        if emptied.is_err() && report.failure.is_none() {
            let source = StoreError::TimedOut(shared.settings.close_limit);
            let doing = "removing the cursors of every session";
            report.failure = Some(CursorError::Store { doing, source });
        }
        let closed = shared.ask("closing the store", || shared.store.close()).await;
        report.failure = report.failure.take().or(closed.err());
        report.left = shared.registry().abandon();
        report
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let was_closed = {
            let mut registry = self.shared.registry();
            let was_closed = registry.is_closed();
            registry.abandon();
            was_closed
        };
        if !was_closed {
            self.shared.census.record_drop(DroppedWithoutClose {
                kind: Kind::Cursor,
                name: "cursors".into(),
                opened_at: self.opened_at,
            });
        }
    }
}

impl fmt::Debug for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursors({:?})", self.statistics())
    }
}
