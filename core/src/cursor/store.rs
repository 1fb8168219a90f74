//! Where payloads are kept, behind one trait.

use std::{error::Error, pin::Pin, sync::Arc, time::Duration};

use super::Id;

/// What a store answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It was closed, or its thread or connection has ended for good.
    #[error("the store is closed")]
    Closed,
    /// It did not answer in time; what it was asked may still be done.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It panicked, with this message.
    #[error("the store panicked: {0}")]
    Panicked(String),
    /// The database behind it refused or failed.
    #[error("{what}: {source}")]
    Failed {
        /// What was being done, to which file or server, and what to look at.
        what: String,
        /// The database's own words.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Which payload is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The owner: one session of one process, under a name that only that process knows. Sessions'
    /// own ids, which are as good as passwords, never reach a store.
    pub owner: Id,
    /// The cursor.
    pub cursor: Id,
}

/// Keeps payloads for [`Cursors`](super::Cursors), which does everything else: it gives out the ids,
/// knows which cursors a session has, holds the limits and the times to live, and bounds every call.
///
/// Calls may be made at the same time, except that those of one owner that change something come one
/// after the other. A call that is dropped may have been carried out or not, but is not carried out
/// after a later one for the same owner. Every call may be repeated.
pub trait CursorStore: Send + Sync {
    /// Keeps a payload. A store that outlives the process sees to it that the payload goes when `ttl`
    /// is over, whatever becomes of the process.
    fn put(&self, key: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()>;

    /// A payload, or `None` when it is not there or its time is over.
    fn read(&self, key: Key) -> Answer<'_, Option<Vec<u8>>>;

    /// Forgets some payloads of one owner; those that are not there are no error.
    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()>;

    /// Forgets all payloads of an owner, in one transaction, and tells how many there were.
    fn remove_owner(&self, owner: Id) -> Answer<'_, usize>;

    /// Forgets what processes that are gone left behind and whose time is over, and tells how many
    /// payloads those were.
    fn sweep(&self) -> Answer<'_, usize>;

    /// Gives back files, threads and connections. May be called twice.
    fn close(&self) -> Answer<'_, ()>;
}

/// Lets a program choose its store while it runs, or keep a handle on it.
macro_rules! forward {
    ($pointer:ident) => {
        impl<S: CursorStore + ?Sized> CursorStore for $pointer<S> {
            fn put(&self, key: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
                (**self).put(key, payload, ttl)
            }
            fn read(&self, key: Key) -> Answer<'_, Option<Vec<u8>>> {
                (**self).read(key)
            }
            fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
                (**self).remove(owner, cursors)
            }
            fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
                (**self).remove_owner(owner)
            }
            fn sweep(&self) -> Answer<'_, usize> {
                (**self).sweep()
            }
            fn close(&self) -> Answer<'_, ()> {
                (**self).close()
            }
        }
    };
}

forward!(Box);
forward!(Arc);
