//! Cursors of a session, in memory, in a file of SQLite and in Redis.

use std::time::{Duration, Instant};

use benches::effort::Effort;
use criterion::Criterion;
use scupper_core::census::Census;
use scupper_core::cursor::{
    Cursors, MemoryStore, RedisSettings, RedisStore, Settings, SqliteStore,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::redis::Redis;
use crate::{Notes, us};

const SIZES: [usize; 2] = [1024, 100 * 1024];
const SESSION: &str = "session";
/// How many cursors a session has when it ends.
const OF_A_SESSION: usize = 32;

struct Store {
    name: &'static str,
    cursors: Cursors,
    census: Census,
    _directory: Option<TempDir>,
}

fn stores(runtime: &Runtime, redis: Option<&Redis>) -> Vec<Store> {
    // No sweep but those of the store itself.
    let settings = || Settings { sweep_interval: Duration::from_secs(3600), ..Settings::default() };
    runtime.block_on(async {
        let census = Census::new();
        let cursors = Cursors::open(MemoryStore::new(), settings(), &census).expect("a runtime");
        let mut stores = vec![Store { name: "memory", cursors, census, _directory: None }];

        let (census, directory) = (Census::new(), tempfile::tempdir().expect("a directory"));
        let file = directory.path().join("cursors.db");
        let store = SqliteStore::open(file, &census).await.expect("a file");
        let cursors = Cursors::open(store, settings(), &census).expect("a runtime");
        stores.push(Store { name: "sqlite", cursors, census, _directory: Some(directory) });

        if let Some(redis) = redis {
            let census = Census::new();
            let store = RedisStore::open(RedisSettings::new(redis.url()), &census).await;
            let cursors = Cursors::open(store.expect("Redis answers"), settings(), &census);
            let cursors = cursors.expect("a runtime");
            stores.push(Store { name: "redis", cursors, census, _directory: None });
        }
        stores
    })
}

fn close(runtime: &Runtime, stores: Vec<Store>) {
    for store in stores {
        let closed = runtime.block_on(store.cursors.close());
        assert!(closed.is_complete(), "{closed:?}");
        assert!(store.census.is_empty(), "{}", store.census);
    }
}

/// Turn by turn over the stores.
pub(crate) fn measure(runtime: &Runtime, effort: Effort, redis: Option<&Redis>, notes: &mut Notes) {
    let stores = stores(runtime, redis);
    for size in SIZES {
        let mut all: Vec<Times> = stores.iter().map(|_| Times::default()).collect();
        for _ in 0..effort.samples(40, 6) {
            for (store, times) in stores.iter().zip(&mut all) {
                runtime.block_on(live(&store.cursors, size, times));
            }
        }
        for (store, times) in stores.iter().zip(&all) {
            let Times { put, read, remove, end } = times;
            let figures = [
                ("put_us", put),
                ("read_us", read),
                ("remove_us", remove),
                ("end_session_us", end),
            ];
            for (figure, samples) in figures {
                notes.add(store.name, "cursors", size, figure, samples);
            }
        }
    }
    close(runtime, stores);
}

#[derive(Default)]
struct Times {
    put: Vec<f64>,
    read: Vec<f64>,
    /// Of one cursor.
    remove: Vec<f64>,
    /// Of all that a session has.
    end: Vec<f64>,
}

/// A session that keeps cursors, reads each, gives back the half and ends.
async fn live(cursors: &Cursors, size: usize, times: &mut Times) {
    cursors.open_session(SESSION).expect("there is no other");
    let mut ids = Vec::new();
    for number in 0..OF_A_SESSION + OF_A_SESSION / 2 {
        let payload = vec![number as u8; size];
        let began = Instant::now();
        ids.push(cursors.put(SESSION, payload).await.expect("kept"));
        times.put.push(us(began.elapsed()));
    }
    for id in &ids {
        let began = Instant::now();
        let payload = cursors.read(SESSION, id).await.expect("it is there");
        times.read.push(us(began.elapsed()));
        assert_eq!(payload.len(), size);
    }
    for id in &ids[OF_A_SESSION..] {
        let began = Instant::now();
        assert!(cursors.remove(SESSION, id).await.expect("removed"));
        times.remove.push(us(began.elapsed()));
    }
    let began = Instant::now();
    assert_eq!(cursors.end_session(SESSION).await.expect("ended"), OF_A_SESSION);
    times.end.push(us(began.elapsed()));
}

/// A cursor that is kept, read and given back.
pub(crate) fn by_criterion(criterion: &mut Criterion, runtime: &Runtime, redis: Option<&Redis>) {
    let stores = stores(runtime, redis);
    let mut group = criterion.benchmark_group("cursors");
    for store in &stores {
        let cursors = &store.cursors;
        cursors.open_session(SESSION).expect("there is no other");
        for size in SIZES {
            group.bench_function(format!("{}/{size}", store.name), |bench| {
                bench.iter(|| {
                    runtime.block_on(async {
                        let id = cursors.put(SESSION, vec![7; size]).await.expect("kept");
                        cursors.read(SESSION, &id).await.expect("it is there");
                        assert!(cursors.remove(SESSION, &id).await.expect("removed"));
                    })
                });
            });
        }
        runtime.block_on(cursors.end_session(SESSION)).expect("ended");
    }
    group.finish();
    close(runtime, stores);
}
