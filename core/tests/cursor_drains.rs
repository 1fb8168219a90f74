//! Stores give back their files, threads and sockets, and stay as they are over 10,000 cycles. One
//! test in one process, because others would open and close beside it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use futures::future::join_all;
use scupper_core::{
    census::Census,
    cursor::{CursorStore, Cursors, MemoryStore, RedisSettings, RedisStore, Settings, SqliteStore},
};

#[path = "support/redis_server.rs"]
mod redis_server;
use redis_server::RedisServer;

const LONG: Duration = Duration::from_secs(20);
const CYCLES: usize = 10_000;
const AT_ONCE: usize = 16;

#[test]
fn every_store_gives_back_its_files_threads_and_sockets() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cursors.db");
    let server =
        RedisServer::start("redis in every_store_gives_back_its_files_threads_and_sockets");

    drains("memory", |_| async { Box::new(MemoryStore::new()) as Box<dyn CursorStore> }, || 0);
    drains(
        "sqlite",
        |census| {
            let opening = SqliteStore::open(&file, &census);
            async move { Box::new(opening.await.expect("a file")) as Box<dyn CursorStore> }
        },
        || size_of(&file),
    );
    if let Some(server) = &server {
        drains(
            "redis",
            |census| {
                let settings =
                    RedisSettings { response_limit: LONG, ..RedisSettings::new(server.url()) };
                async move {
                    let store = RedisStore::open(settings, &census).await;
                    Box::new(store.expect("a connection")) as Box<dyn CursorStore>
                }
            },
            || server.keys().len() as u64,
        );
    }
}

/// `size` is what the store has outside of this process.
fn drains<F>(name: &str, open: impl Fn(Census) -> F, size: impl Fn() -> u64)
where
    F: Future<Output = Box<dyn CursorStore>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let census = Census::new();
    let settings = Settings { store_limit: LONG, ..Settings::default() };
    // The first life opens what a process opens once.
    for life in ["closed", "dropped"] {
        runtime.block_on(live(open(census.clone()), &settings, &census, life));
    }
    let before = Held::now();
    for life in ["closed", "dropped", "closed"] {
        runtime.block_on(live(open(census.clone()), &settings, &census, life));
        assert!(census.is_empty(), "{name} {life}: {census}");
        assert_eq!(Held::now(), before, "{name} {life}");
    }

    runtime.block_on(async {
        let store = open(census.clone()).await;
        let cursors = Cursors::open(store, settings.clone(), &census).expect("opened");
        cycles(&cursors, 10 * AT_ONCE).await;
        let (held, rows, kept) = (Held::now(), census.len(), size());
        cycles(&cursors, CYCLES).await;
        assert_eq!(Held::now(), held, "{name} after {CYCLES} cycles");
        assert_eq!((census.len(), size()), (rows, kept), "{name} after {CYCLES} cycles: {census}");
        assert!(cursors.close().await.is_complete());
    });
    assert_eq!(Held::now(), before, "{name}");
    drop(runtime);
}

/// A life of a store, ended in one of two ways.
async fn live(
    open: impl Future<Output = Box<dyn CursorStore>>,
    settings: &Settings,
    census: &Census,
    life: &str,
) {
    let cursors = Cursors::open(open.await, settings.clone(), census).expect("opened");
    cycles(&cursors, 2).await;
    cursors.open_session("at the end").expect("opened");
    cursors.put("at the end", "page").await.expect("kept");
    if life == "closed" {
        let report = cursors.close().await;
        assert!(report.is_complete(), "{report:?}");
        assert!(census.is_empty(), "gone when close returns: {census}");
        return;
    }
    cursors.end_session("at the end").await.expect("ended");
    drop(cursors);
    // Tasks that were aborted go when the runtime comes to them.
    let deadline = Instant::now() + LONG;
    while !census.is_empty() {
        assert!(Instant::now() < deadline, "{census}");
        tokio::task::yield_now().await;
    }
}

/// Rounds of sixteen sessions at a time.
async fn cycles(cursors: &Cursors, count: usize) {
    for _ in 0..count.div_ceil(AT_ONCE) {
        join_all((0..AT_ONCE).map(|number| cycle(cursors, format!("s{number}")))).await;
    }
}

async fn cycle(cursors: &Cursors, session: String) {
    cursors.open_session(&*session).expect("opened");
    let cursor = cursors.put(&session, "page").await.expect("kept");
    assert_eq!(cursors.read(&session, &cursor).await.expect("read"), b"page");
    assert_eq!(cursors.end_session(&session).await.expect("ended"), 1);
}

fn size_of(file: &Path) -> u64 {
    fs::metadata(file).expect("the file").len()
}

/// Descriptors by number and target, threads by id.
#[derive(Debug, PartialEq)]
struct Held {
    descriptors: BTreeSet<(String, String)>,
    threads: BTreeSet<String>,
}

impl Held {
    fn now() -> Self {
        let names = |directory: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(directory).expect("listed");
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into()).collect()
        };
        // The descriptor that lists them is gone when its link is read.
        let link = |number: String| {
            let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        };
        Self {
            descriptors: names("/proc/self/fd").into_iter().filter_map(link).collect(),
            threads: names("/proc/self/task"),
        }
    }
}
