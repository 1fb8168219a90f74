//! The core's sessions, listener and cursors as one service.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rmcp::transport::StreamableHttpServerConfig;
use scupper_core::census::Census;
use scupper_core::cleanup::CleanupPlan;
use scupper_core::cursor::{
    Answer, CursorStore, Cursors, Id, Key, MemoryStore, RedisSettings, RedisStore, SqliteStore,
    StoreError,
};
use scupper_core::session::{ListenerSettings, Server, SessionId, Sessions};

use super::super::seam::{Acting, Books, Service, Settings};
use super::census::CensusBooks;
use super::paged::Paged;
use crate::ledger::snapshot::{Facts, Identity};

/// Longest time for one step of a session's end.
const STEP: Duration = Duration::from_secs(5);

struct OurService {
    server: Mutex<Option<Server>>,
    cursors: Cursors,
    held: Option<Held>,
    address: String,
    census: Census,
    name: String,
}

pub(super) async fn start(settings: Settings) -> Result<impl Service, String> {
    let census = Census::new();
    let (cursors, held) = open_cursors(&settings, &census).await?;
    let (begun, fails) = (cursors.clone(), settings.text("failing-step") == "devtools");
    let cleanup = move |id: &SessionId| {
        // A name that is open already is the registry's own mistake, and shows as a session without
        // cursors.
        let _ = begun.open_session(id.to_string());
        CleanupPlan::new()
            .step("devtools", STEP, move || {
                Box::pin(
                    async move { if fails { Err("the browser is gone".into()) } else { Ok(()) } },
                )
            })
            .step("cursors", STEP, begun.cleanup_step(id.to_string()))
    };
    let sessions = scupper_core::session::Settings {
        session_limit: settings.number("max-sessions"),
        sweep_interval: settings.duration("sweep"),
        idle_limit: settings.duration("idle"),
        handshake_limit: settings.duration("handshake-timeout"),
        stalled_write_limit: settings.duration("write-timeout"),
        cleanup: Some(Arc::new(cleanup)),
        ..Default::default()
    };
    let sessions = Sessions::start(sessions, &census).map_err(|error| error.to_string())?;
    let paged = Paged {
        cursors: cursors.clone(),
        tools: settings.number("tools"),
        payload_bytes: settings.number("payload-kib") << 10,
    };
    let config = StreamableHttpServerConfig::default()
        .with_sse_keep_alive(Some(settings.duration("keep-alive")));
    let app = axum::Router::new()
        .nest_service("/mcp", sessions.service(move || Ok(paged.clone()), config));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let socket = socket.map_err(|error| format!("listening on 127.0.0.1: {error}"))?;
    let listener = ListenerSettings {
        idle_limit: settings.duration("idle"),
        stalled_write_limit: settings.duration("write-timeout"),
        ..Default::default()
    };
    let server = Server::serve(socket, app, sessions, listener, &census)
        .map_err(|error| error.to_string())?;
    Ok(OurService {
        address: server.address().to_string(),
        server: Mutex::new(Some(server)),
        cursors,
        held,
        census,
        name: settings.name,
    })
}

async fn open_cursors(
    settings: &Settings,
    census: &Census,
) -> Result<(Cursors, Option<Held>), String> {
    let limits = scupper_core::cursor::Settings {
        sweep_interval: settings.duration("sweep"),
        ttl: settings.duration("cursor-ttl"),
        ..Default::default()
    };
    let words = |error: StoreError| error.to_string();
    let mut held = None;
    let store: Arc<dyn CursorStore> = match (settings.text("cursors"), &settings.redis) {
        ("sqlite", _) => {
            Arc::new(SqliteStore::open(settings.sqlite.clone(), census).await.map_err(words)?)
        }
        ("redis", Some(address)) => {
            let redis = RedisSettings::new(format!("redis://{address}"));
            Arc::new(RedisStore::open(redis, census).await.map_err(words)?)
        }
        _ => {
            let store = Arc::new(MemoryStore::new());
            let place = format!("memory of {}", settings.name);
            held = Some(Held { store: store.clone(), keys: Keys::default(), place });
            store
        }
    };
    let times = if settings.text("failing-step") == "cursors" { FAILURES } else { 0 };
    let keys = held.as_ref().map(|held| Arc::clone(&held.keys));
    let store = Failing { store, keys, times: AtomicU32::new(times) };
    let cursors = Cursors::open(store, limits, census).map_err(|error| error.to_string())?;
    Ok((cursors, held))
}

/// Most cursors of a store in memory that are asked for.
const KEYS: usize = 10_000;

/// Owner and cursor of what was put into a store.
type Keys = Arc<Mutex<BTreeSet<(Id, Id)>>>;

/// What a store in memory holds, whatever the registry above it says.
#[derive(Clone)]
struct Held {
    store: Arc<MemoryStore>,
    keys: Keys,
    /// Such as `memory of main`.
    place: String,
}

impl Held {
    fn holds(&self, owner: Id, cursor: Id) -> bool {
        let mut read = self.store.read(Key { owner, cursor });
        let read = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(read, Poll::Ready(Ok(Some(_))))
    }
}

impl Books for Held {
    fn kept(&self) -> Vec<(Identity, Facts)> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let held = keys.into_iter().filter(|(owner, cursor)| self.holds(*owner, *cursor));
        held.map(|(_, cursor)| {
            let words = "a payload in memory".to_owned();
            let identity = Identity::Cursor { store: self.place.clone(), id: cursor.to_string() };
            (identity, Facts::Kept { words, opened_at: None })
        })
        .collect()
    }
}

/// The census, and the store behind it where that is in memory.
struct OurBooks {
    census: CensusBooks,
    held: Option<Held>,
}

impl Books for OurBooks {
    fn kept(&self) -> Vec<(Identity, Facts)> {
        let held = self.held.iter().flat_map(Held::kept);
        self.census.kept().into_iter().chain(held).collect()
    }

    fn children(&self) -> Option<BTreeSet<i32>> {
        self.census.children()
    }
}

/// How often a store fails that is to fail.
const FAILURES: u32 = 3;

/// A store that fails to forget some times, and then does.
struct Failing {
    store: Arc<dyn CursorStore>,
    /// What was put, for whoever asks what is still there.
    keys: Option<Keys>,
    times: AtomicU32,
}

impl CursorStore for Failing {
    fn put(&self, key: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
        if let Some(keys) = &self.keys {
            let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
            if keys.len() < KEYS {
                keys.insert((key.owner, key.cursor));
            }
        }
        self.store.put(key, payload, ttl)
    }

    fn read(&self, key: Key) -> Answer<'_, Option<Vec<u8>>> {
        self.store.read(key)
    }

    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
        self.store.remove(owner, cursors)
    }

    fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
        let less = |times: u32| times.checked_sub(1);
        if self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            let what = "forgetting a session, as it was asked to fail".to_owned();
            return Box::pin(async move {
                Err(StoreError::Failed { what, source: "the disk is full".into() })
            });
        }
        self.store.remove_owner(owner)
    }

    fn sweep(&self) -> Answer<'_, usize> {
        self.store.sweep()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.store.close()
    }
}

impl Service for OurService {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn shutdown(&self) -> Acting {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        let cursors = self.cursors.clone();
        Box::pin(async move {
            let Some(server) = server else { return Err("the service is shut down".to_owned()) };
            let _ = server.close().await;
            let report = cursors.close().await;
            if report.is_complete() { Ok(()) } else { Err(format!("the cursors: {report:?}")) }
        })
    }

    fn books(&self) -> Box<dyn Books> {
        let keeper = format!("service {}", self.name);
        let census = CensusBooks { census: self.census.clone(), keeper };
        Box::new(OurBooks { census, held: self.held.clone() })
    }
}
