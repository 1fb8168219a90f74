//! A store that goes wrong when it is told to.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arbitrary::{Arbitrary, Result, Unstructured};
use scupper_core::cursor::{Answer, CursorStore, Id, Key, MemoryStore, StoreError};
use tokio::time::sleep;

/// How many faults wait for their calls.
const FAULTS: usize = 8;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is carried out.
    None,
    /// It takes its time, less than the limit.
    Slow,
    Fails,
    Hangs,
    Panics,
    /// It is carried out, and then this is said.
    FailsAfter,
    HangsAfter,
}

impl<'a> Arbitrary<'a> for Fault {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let faults = [
            Self::None,
            Self::Slow,
            Self::Fails,
            Self::Hangs,
            Self::Panics,
            Self::FailsAfter,
            Self::HangsAfter,
        ];
        Ok(*u.choose(&faults)?)
    }
}

/// Memory behind faults. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rough {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    memory: MemoryStore,
    faults: Mutex<VecDeque<Fault>>,
    has_struck: AtomicBool,
}

impl Rough {
    /// The call after those that faults wait for already goes like this.
    pub(super) fn break_next(&self, fault: Fault) {
        let mut faults = self.faults();
        if faults.len() < FAULTS {
            faults.push_back(fault);
        }
    }

    /// From now on everything works.
    pub(super) fn mend(&self) {
        self.faults().clear();
    }

    /// The next call will work.
    pub(super) fn is_sound(&self) -> bool {
        self.faults().is_empty()
    }

    /// Somebody says that the store failed: so it did.
    pub(super) fn expect_trouble(&self) {
        assert!(self.inner.has_struck.load(Relaxed), "a failure of a store that has never failed");
    }

    pub(super) fn len(&self) -> usize {
        self.inner.memory.len()
    }

    fn faults(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.inner.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roughly<'a, T: Send + 'a>(&'a self, call: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move {
            let fault = self.faults().pop_front().unwrap_or(Fault::None);
            if !matches!(fault, Fault::None | Fault::Slow) {
                self.inner.has_struck.store(true, Relaxed);
            }
            match fault {
                Fault::None => call.await,
                Fault::Slow => {
                    sleep(Duration::from_millis(700)).await;
                    call.await
                }
                Fault::Fails => Err(broken()),
                Fault::Hangs => pending().await,
                Fault::Panics => panic!("the store panics, as it was told to"),
                Fault::FailsAfter => call.await.and(Err(broken())),
                Fault::HangsAfter => {
                    call.await?;
                    pending().await
                }
            }
        })
    }
}

fn broken() -> StoreError {
    StoreError::Failed { what: "as it was told to".into(), source: "broken".into() }
}

impl CursorStore for Rough {
    fn put(&self, key: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
        self.roughly(self.inner.memory.put(key, payload, ttl))
    }

    fn read(&self, key: Key) -> Answer<'_, Option<Vec<u8>>> {
        self.roughly(self.inner.memory.read(key))
    }

    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
        self.roughly(self.inner.memory.remove(owner, cursors))
    }

    fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
        self.roughly(self.inner.memory.remove_owner(owner))
    }

    fn sweep(&self) -> Answer<'_, usize> {
        self.roughly(self.inner.memory.sweep())
    }

    fn close(&self) -> Answer<'_, ()> {
        self.roughly(self.inner.memory.close())
    }
}
