//! The core's sessions, listener and cursors as one service.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Longest time for one step of a session's end.
const STEP: Duration = Duration::from_secs(5);

struct OurService {
    server: Mutex<Option<Server>>,
    cursors: Cursors,
    address: String,
    census: Census,
    name: String,
}

pub(super) async fn start(settings: Settings) -> Result<impl Service, String> {
    let census = Census::new();
    let cursors = open_cursors(&settings, &census).await?;
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
        census,
        name: settings.name,
    })
}

async fn open_cursors(settings: &Settings, census: &Census) -> Result<Cursors, String> {
    let limits = scupper_core::cursor::Settings {
        sweep_interval: settings.duration("sweep"),
        ..Default::default()
    };
    let words = |error: StoreError| error.to_string();
    let store: Box<dyn CursorStore> = match (settings.text("cursors"), &settings.redis) {
        ("sqlite", _) => {
            Box::new(SqliteStore::open(settings.sqlite.clone(), census).await.map_err(words)?)
        }
        ("redis", Some(address)) => {
            let redis = RedisSettings::new(format!("redis://{address}"));
            Box::new(RedisStore::open(redis, census).await.map_err(words)?)
        }
        _ => Box::new(MemoryStore::new()),
    };
    let times = if settings.text("failing-step") == "cursors" { FAILURES } else { 0 };
    let store = Failing { store, times: AtomicU32::new(times) };
    Cursors::open(store, limits, census).map_err(|error| error.to_string())
}

/// How often a store fails that is to fail.
const FAILURES: u32 = 3;

/// A store that fails to forget some times, and then does.
struct Failing {
    store: Box<dyn CursorStore>,
    times: AtomicU32,
}

impl CursorStore for Failing {
    fn put(&self, key: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
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
        Box::new(CensusBooks { census: self.census.clone(), keeper })
    }
}
