//! Where the battery keeps its cursors: a place for each store, and a valve before it.

use std::{sync::Arc, time::Duration};

use scupper_core::{
    census::{Census, Kind},
    cursor::{
        Answer, CursorError, CursorStore, Cursors, Id, Key, MemoryStore, RedisSettings, RedisStore,
        Settings, SqliteStore, StoreError,
    },
};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::redis_server::RedisServer;

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Where a store's payloads are, and a way to count them that is not the store's own.
pub(crate) enum Home {
    Memory(Arc<MemoryStore>),
    Sqlite(TempDir),
    Redis(RedisServer),
}

impl Home {
    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn redis(test: &str) -> Option<Self> {
        RedisServer::start(test).map(Self::Redis)
    }

    pub(crate) async fn store(&self, census: &Census) -> Box<dyn CursorStore> {
        match self {
            Self::Memory(store) => Box::new(Arc::clone(store)),
            Self::Sqlite(directory) => {
                let store = SqliteStore::open(directory.path().join("cursors.db"), census);
                Box::new(store.await.expect("a file"))
            }
            Self::Redis(server) => {
                let settings =
                    RedisSettings { response_limit: LONG, ..RedisSettings::new(server.url()) };
                Box::new(RedisStore::open(settings, census).await.expect("a connection"))
            }
        }
    }

    /// Cursors over this store, through a valve that can be shut.
    pub(crate) async fn open(&self, settings: Settings) -> Opened {
        let census = Census::new();
        let (valve, position) = watch::channel(WORKS);
        let store = Valve { inner: self.store(&census).await, position };
        let cursors = Cursors::open(store, settings, &census).expect("opened");
        Opened { census, cursors, valve }
    }

    /// How many payloads there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Memory(store) => store.len(),
            Self::Sqlite(directory) => {
                let file = directory.path().join("cursors.db");
                let connection = rusqlite::Connection::open(file).expect("a second connection");
                let count: i64 = connection
                    .query_row("SELECT count(*) FROM scupper_cursor", [], |row| row.get(0))
                    .expect("counted");
                usize::try_from(count).expect("not negative")
            }
            Self::Redis(server) => {
                server.keys().iter().filter(|key| key.contains(":cursor:")).count()
            }
        }
    }
}

pub(crate) struct Opened {
    pub(crate) census: Census,
    pub(crate) cursors: Cursors,
    pub(crate) valve: watch::Sender<u8>,
}

impl Opened {
    /// The rows of cursors.
    pub(crate) fn rows(&self) -> usize {
        self.census.rows().iter().filter(|row| row.kind == Kind::Cursor).count()
    }

    pub(crate) async fn put(&self, session: &str, payload: impl Into<Vec<u8>>) -> String {
        self.cursors.put(session, payload).await.expect("kept")
    }

    pub(crate) async fn is_unknown(&self, session: &str, cursor: &str) -> bool {
        matches!(self.cursors.read(session, cursor).await, Err(CursorError::Unknown { .. }))
    }

    pub(crate) fn turn(&self, position: u8) {
        self.valve.send_replace(position);
    }

    pub(crate) async fn drains(self, home: &Home) {
        let report = self.cursors.close().await;
        assert!(report.is_complete(), "{report:?}");
        assert!(self.census.is_empty(), "{}", self.census);
        assert_eq!(self.census.dropped_without_close(), 0);
        assert_eq!(home.count(), 0);
    }
}

/// No sweep but those that a test asks for; no time that runs out on a slow machine.
pub(crate) fn calm() -> Settings {
    Settings {
        ttl: Duration::from_secs(3600),
        store_limit: LONG,
        sweep_interval: Duration::from_secs(3600),
        ..Settings::default()
    }
}

pub(crate) const WORKS: u8 = 0;
pub(crate) const FAILS: u8 = 1;
pub(crate) const HANGS: u8 = 2;
pub(crate) const PANICS: u8 = 3;
/// New payloads do not reach the store and old ones not the reader, until it works again.
pub(crate) const HOLDS: u8 = 4;

/// A store that stops working when it is told to.
struct Valve {
    inner: Box<dyn CursorStore>,
    position: watch::Receiver<u8>,
}

impl Valve {
    fn through<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move {
            let position = *self.position.borrow();
            match position {
                FAILS => Err(StoreError::Failed {
                    what: "asking the test".into(),
                    source: "the valve is shut".into(),
                }),
                HANGS => std::future::pending().await,
                PANICS => panic!("the valve broke"),
                _ => answer.await,
            }
        })
    }

    async fn hold(&self) {
        let mut position = self.position.clone();
        position.wait_for(|position| *position != HOLDS).await.expect("the test goes on");
    }
}

impl CursorStore for Valve {
    fn put(&self, key: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
        Box::pin(async move {
            self.hold().await;
            self.through(self.inner.put(key, payload, ttl)).await
        })
    }
    fn read(&self, key: Key) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let payload = self.through(self.inner.read(key)).await;
            self.hold().await;
            payload
        })
    }
    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
        self.through(self.inner.remove(owner, cursors))
    }
    fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
        self.through(self.inner.remove_owner(owner))
    }
    fn sweep(&self) -> Answer<'_, usize> {
        self.through(self.inner.sweep())
    }
    fn close(&self) -> Answer<'_, ()> {
        self.through(self.inner.close())
    }
}
