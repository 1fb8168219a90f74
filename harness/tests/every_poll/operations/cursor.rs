//! Cursors of sessions, in memory and in a file.

use std::path::Path;
use std::time::Duration;

use scupper_core::cursor::{Cursors, MemoryStore, Settings, SqliteStore};

use crate::operation::{Made, Making, Slot, World, holds, words};

/// Where cursors are kept.
#[derive(Clone, Copy)]
pub(super) enum Store {
    Memory,
    Sqlite,
}

const SESSION: &str = "poll";
const FILE: &str = "cursors.db";

async fn open(world: &World, store: Store) -> Result<Cursors, String> {
    // Swept when it is asked to, and by nobody else.
    let settings = Settings { sweep_interval: Duration::from_secs(600), ..Settings::default() };
    match store {
        Store::Memory => Cursors::open(MemoryStore::new(), settings, &world.census),
        Store::Sqlite => {
            let store = SqliteStore::open(world.folder.join(FILE), &world.census).await;
            Cursors::open(store.map_err(words)?, settings, &world.census)
        }
    }
    .map_err(words)
}

/// With a session that has two cursors, the first of which is told.
async fn filled(world: &World, store: Store) -> Result<(Cursors, String), String> {
    let cursors = open(world, store).await?;
    cursors.open_session(SESSION).map_err(words)?;
    let first = cursors.put(SESSION, vec![1; 64]).await.map_err(words)?;
    cursors.put(SESSION, vec![2; 64]).await.map_err(words)?;
    Ok((cursors, first))
}

/// After the session's end and one sweep there is nothing, whatever was cut off; then they are closed.
async fn end(cursors: Cursors) -> Result<(), String> {
    cursors.end_session(SESSION).await.map_err(words)?;
    let swept = cursors.sweep().await;
    holds(swept.failure.is_none(), || format!("{swept:?}"))?;
    let held = cursors.statistics();
    let nothing = held.sessions + held.cursors + held.bytes + held.waiting == 0;
    holds(nothing, || format!("after a sweep there is {held:?}"))?;
    let closed = cursors.close().await;
    holds(closed.is_complete(), || format!("{closed:?}"))
}

/// The file of the database stays, as it should; what belongs to it while it is open does not.
fn clear(world: &World) -> impl FnOnce() + Send + 'static {
    let file = world.folder.join(FILE);
    move || drop(std::fs::remove_file(Path::new(&file)))
}

pub(super) fn opening(world: World) -> Making {
    Box::pin(async move {
        let (slot, clear) = (Slot::new(), clear(&world));
        let made = slot.clone();
        let work = async move {
            made.put(open(&world, Store::Sqlite).await?);
            Ok(())
        };
        let end = async move {
            match slot.take() {
                Some(cursors) => end(cursors).await,
                None => Ok(()),
            }
        };
        Ok(Made::new(work, end).clearing(clear))
    })
}

/// Any operation on cursors that are there.
fn working<F>(
    world: World,
    store: Store,
    work: impl FnOnce(Cursors, String) -> F + Send + 'static,
) -> Making
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    Box::pin(async move {
        let clear = clear(&world);
        let (cursors, first) = filled(&world, store).await?;
        Ok(Made::new(work(cursors.clone(), first), end(cursors)).clearing(clear))
    })
}

pub(super) fn put(world: World, store: Store) -> Making {
    working(world, store, |cursors, _| async move {
        cursors.put(SESSION, vec![3; 64]).await.map(drop).map_err(words)
    })
}

pub(super) fn read(world: World, store: Store) -> Making {
    working(world, store, |cursors, first| async move {
        let payload = cursors.read(SESSION, &first).await.map_err(words)?;
        holds(payload == [1; 64], || "another payload".to_owned())
    })
}

pub(super) fn remove(world: World, store: Store) -> Making {
    working(world, store, |cursors, first| async move {
        let was_there = cursors.remove(SESSION, &first).await.map_err(words)?;
        holds(was_there, || "it was not there".to_owned())
    })
}

pub(super) fn end_session(world: World, store: Store) -> Making {
    working(world, store, |cursors, _| async move {
        let removed = cursors.end_session(SESSION).await.map_err(words)?;
        holds(removed == 2, || format!("{removed} of two cursors"))
    })
}

pub(super) fn sweep(world: World, store: Store) -> Making {
    working(world, store, |cursors, _| async move {
        let swept = cursors.sweep().await;
        holds(swept.failure.is_none(), || format!("{swept:?}"))
    })
}

pub(super) fn close(world: World, store: Store) -> Making {
    Box::pin(async move {
        let clear = clear(&world);
        let (cursors, _) = filled(&world, store).await?;
        let closing = cursors.clone();
        let work = async move {
            let closed = closing.close().await;
            holds(closed.is_complete(), || format!("{closed:?}"))
        };
        // One that was dropped midway is called again.
        let end = async move {
            let closed = cursors.close().await;
            holds(closed.is_complete(), || format!("{closed:?}"))
        };
        Ok(Made::new(work, end).clearing(clear))
    })
}
