//! What all clones share: the store, the registry beside it, and the way one asks the other.

use std::{
    panic::Location,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::timeout,
};

use super::{
    Answer, CursorError, CursorStore, Id, Key, Settings, StoreError,
    registry::{Admission, Registry, Turn},
};
use crate::{census::Census, scope::catch_panic};

pub(super) struct Shared {
    pub(super) store: Box<dyn CursorStore>,
    pub(super) settings: Settings,
    registry: Mutex<Registry>,
    pub(super) census: Census,
    /// One sweep at a time.
    pub(super) sweeping: AsyncMutex<()>,
}

impl Shared {
    pub(super) fn new(store: Box<dyn CursorStore>, settings: Settings, census: &Census) -> Self {
        Self {
            store,
            settings: settings.within_reason(),
            registry: Mutex::new(Registry::new(census)),
            census: census.clone(),
            sweeping: AsyncMutex::new(()),
        }
    }

    pub(super) async fn put(
        &self,
        session: &str,
        payload: Vec<u8>,
        opened_at: &'static Location<'static>,
    ) -> Result<String, CursorError> {
        let (bytes, limit) = (payload.len(), self.settings.payload_bytes);
        if bytes > limit {
            return Err(CursorError::PayloadTooLarge { bytes, limit });
        }
        let session: Arc<str> = session.into();
        let cursor = Id::random()?;
        let (owner, turn) = {
            let registry = self.registry();
            let found = registry.session(&session)?;
            (found.owner, Arc::clone(&found.turn))
        };
        let doing = "keeping a cursor";
        let _turn =
            self.take(&turn).await.map_err(|source| CursorError::Store { doing, source })?;
        loop {
            let admission =
                self.registry().admit(&session, owner, cursor, bytes, &self.settings, opened_at)?;
            match admission {
                Admission::Entered => break,
                Admission::After(victims) => {
                    self.ask("making room", || self.store.remove(owner, &victims)).await?;
                    self.registry().forget(&session, owner, &victims);
                }
            }
        }
        let key = Key { owner, cursor };
        self.ask(doing, || self.store.put(key, payload, self.settings.ttl)).await?;
        if self.registry().confirm(&session, owner, cursor) {
            Ok(cursor.to_string())
        } else {
            Err(CursorError::NoSession { session })
        }
    }

    /// Asks the store, bounded, its panics caught.
    pub(super) async fn ask<'a, T>(
        &self,
        doing: &'static str,
        question: impl FnOnce() -> Answer<'a, T>,
    ) -> Result<T, CursorError> {
        self.ask_store(question).await.map_err(|source| CursorError::Store { doing, source })
    }

    pub(super) async fn ask_store<'a, T>(
        &self,
        question: impl FnOnce() -> Answer<'a, T>,
    ) -> Result<T, StoreError> {
        let limit = self.settings.store_limit;
        match timeout(limit, catch_panic(async { question().await })).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(message)) => Err(StoreError::Panicked(message)),
            Err(_) => Err(StoreError::TimedOut(limit)),
        }
    }

    /// Whoever has the turn is asking the store, so that waiting for it is waiting for the store.
    pub(super) async fn take(&self, turn: &Turn) -> Result<OwnedMutexGuard<()>, StoreError> {
        let limit = self.settings.store_limit;
        let turn = Arc::clone(turn).lock_owned();
        timeout(limit, turn).await.map_err(|_| StoreError::TimedOut(limit))
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
