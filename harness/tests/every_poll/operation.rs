//! What an operation is: a future of the core's, and what goes before and after it.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use scupper_core::census::Census;

/// The future that is cut off.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// An operation by name.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) make: fn(World) -> Making,
}

pub(crate) type Making = Pin<Box<dyn Future<Output = Result<Made, String>> + Send>>;

/// What an operation has to work with.
#[derive(Clone)]
pub(crate) struct World {
    /// Everything of the core is to be entered here.
    pub(crate) census: Census,
    /// The program, for its fakes.
    pub(crate) scupper: String,
    /// A server over HTTP, in a process of its own.
    pub(crate) url: String,
    /// A directory that is empty before and has to be so after.
    pub(crate) folder: PathBuf,
}

/// An operation ready to be polled.
pub(crate) struct Made {
    pub(crate) work: Work,
    /// Everything has to be as before it already when it has been cut off, before the end.
    pub(crate) is_transient: bool,
    /// Ends in order what it works on. Dropped, where the runtime is.
    pub(crate) end: Work,
    /// Removes what the core is meant to leave, such as a database, after either end.
    pub(crate) clear: Box<dyn FnOnce() + Send>,
}

impl Made {
    /// An operation that owns all it works on.
    pub(crate) fn alone(work: impl Future<Output = Result<(), String>> + Send + 'static) -> Self {
        Self::new(work, async { Ok(()) })
    }

    pub(crate) fn new(
        work: impl Future<Output = Result<(), String>> + Send + 'static,
        end: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> Self {
        let (work, end) = (Box::pin(work), Box::pin(end));
        Self { work, is_transient: false, end, clear: Box::new(|| {}) }
    }

    /// Nothing of it may outlive it, not even until the end.
    pub(crate) fn transient(mut self) -> Self {
        self.is_transient = true;
        self
    }

    pub(crate) fn clearing(mut self, clear: impl FnOnce() + Send + 'static) -> Self {
        self.clear = Box::new(clear);
        self
    }
}

/// Where an operation that was not cut off puts what it has made, for the end.
pub(crate) struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    pub(crate) fn put(&self, made: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An error in words.
pub(crate) fn words(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

/// An error if this does not hold.
pub(crate) fn holds(fact: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if fact { Ok(()) } else { Err(otherwise()) }
}
