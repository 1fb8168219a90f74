//! What of a stand-in's caches and registries is alive, seen through weak handles: a thing is kept as
//! long as anybody keeps it.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::super::seam::Books;
use crate::ledger::snapshot::{Facts, Identity};

/// Weak handles on everything that a stand-in keeps. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<Vec<Watched>>>);

#[derive(Debug)]
struct Watched {
    identity: Identity,
    words: String,
    thing: Weak<dyn Any + Send + Sync>,
}

impl Shelf {
    /// Watches an entry of a registry.
    pub(super) fn entry<T: Any + Send + Sync>(&self, registry: &str, key: &str, thing: &Arc<T>) {
        let identity = Identity::Entry { registry: registry.to_owned(), key: key.to_owned() };
        self.watch(identity, String::new(), thing);
    }

    /// Watches anything that is kept.
    pub(super) fn watch<T: Any + Send + Sync>(
        &self,
        identity: Identity,
        words: String,
        thing: &Arc<T>,
    ) {
        let thing: Arc<dyn Any + Send + Sync> = Arc::<T>::clone(thing);
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.push(Watched { identity, words, thing: Arc::downgrade(&thing) });
    }
}

impl Books for Shelf {
    fn kept(&self) -> Vec<(Identity, Facts)> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|one| one.thing.strong_count() > 0);
        let thing = |one: &Watched| {
            let facts = Facts::Kept { words: one.words.clone(), opened_at: None };
            (one.identity.clone(), facts)
        };
        shelf.iter().map(thing).collect()
    }
}
