//! Payloads in the memory of this process.

use std::{
    collections::HashMap,
    fmt,
    future::ready,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Answer, CursorStore, Id, Key};

/// The store that needs nothing. What it holds is bounded by the settings of
/// [`Cursors`](super::Cursors) and ends with the process.
#[derive(Default)]
pub struct MemoryStore {
    owners: Mutex<HashMap<Id, HashMap<Id, Vec<u8>>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many payloads it holds.
    pub fn len(&self) -> usize {
        self.lock().values().map(HashMap::len).sum()
    }

    /// Does it hold none?
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, HashMap<Id, Vec<u8>>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CursorStore for MemoryStore {
    fn put(&self, key: Key, payload: Vec<u8>, _ttl: Duration) -> Answer<'_, ()> {
        // Done when first polled, so that a call that is dropped before has not happened.
        Box::pin(async move {
            self.lock().entry(key.owner).or_default().insert(key.cursor, payload);
            Ok(())
        })
    }

    fn read(&self, key: Key) -> Answer<'_, Option<Vec<u8>>> {
        let payload = self.lock().get(&key.owner).and_then(|held| held.get(&key.cursor)).cloned();
        Box::pin(ready(Ok(payload)))
    }

    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut owners = self.lock();
            if let Some(held) = owners.get_mut(&owner) {
                cursors.iter().for_each(|cursor| drop(held.remove(cursor)));
                if held.is_empty() {
                    owners.remove(&owner);
                }
            }
            Ok(())
        })
    }

    fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
        if sabotaged!(MemoryStoreKeeps) {
            return Box::pin(ready(Ok(0)));
        }
        Box::pin(async move { Ok(self.lock().remove(&owner).map_or(0, |held| held.len())) })
    }

    fn sweep(&self) -> Answer<'_, usize> {
        // Nothing here has another owner than this process.
        Box::pin(ready(Ok(0)))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            *self.lock() = HashMap::new();
            Ok(())
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore({} payloads)", self.len())
    }
}
