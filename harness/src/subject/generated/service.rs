//! The service of a generated lifecycle: sessions of rmcp's Streamable HTTP in memory, whose cursors
//! are kept in a store that has moods.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use scupper_core::census::Census;
use scupper_core::cleanup::CleanupPlan;
use scupper_core::cursor::{Answer, CursorStore, Cursors, Id, Key, MemoryStore, StoreError};
use scupper_core::session::{SessionId, Sessions};
use tokio::task::JoinHandle;
use tower_service::Service as _;

use super::{WAITS, ms};
use crate::lifecycle::generate::{Mood, Opening, PLACES, Place, Tool};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"client","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// Nothing here answers with more.
const BODY_BYTES: usize = 1 << 20;

tokio::task_local! {
    /// The place of the session that the task opens.
    static OPENING: Place;
}

type Answered = std::pin::Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Endpoint = Arc<dyn Fn(Request<Body>) -> Answered + Send + Sync>;

/// Sessions and cursors, and the clients of the sessions.
pub(super) struct Service {
    census: Census,
    running: Option<(Sessions, Endpoint)>,
    pub(super) cursors: Cursors,
    mood: Arc<AtomicU8>,
    clients: [Client; PLACES],
    known: Arc<Known>,
    next_request: u64,
    pub(super) at_work: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Client {
    id: Arc<Mutex<Option<String>>>,
    exchanges: Vec<JoinHandle<()>>,
    cursor: Arc<Mutex<Option<String>>>,
}

/// Which session is in which place.
#[derive(Default)]
pub(super) struct Known {
    places: Mutex<BTreeMap<Arc<str>, Place>>,
}

impl Known {
    /// A name with the place of a session instead of its id.
    pub(super) fn name(&self, name: &str) -> String {
        let places = lock(&self.places);
        let Some((before, id)) = name.rsplit_once(' ') else {
            return places.get(name).map_or(name.to_owned(), |place| format!("session {place}"));
        };
        places.get(id).map_or(name.to_owned(), |place| format!("{before} {place}"))
    }
}

impl Service {
    pub(super) fn start(census: &Census) -> Result<Self, String> {
        let mood = Arc::new(AtomicU8::new(0));
        let store = Moody { store: MemoryStore::new(), mood: Arc::clone(&mood) };
        let settings = scupper_core::cursor::Settings {
            ttl: ms(WAITS.cursor_ttl),
            cursors_per_session: WAITS.cursors,
            store_limit: ms(WAITS.store),
            sweep_interval: ms(WAITS.cursor_sweep),
            ..Default::default()
        };
        let cursors = Cursors::open(store, settings, census).map_err(|error| error.to_string())?;
        let mut service = Self {
            census: census.clone(),
            running: None,
            cursors,
            mood,
            clients: Default::default(),
            known: Arc::default(),
            next_request: 10,
            at_work: Vec::new(),
        };
        service.running = Some(service.sessions()?);
        Ok(service)
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    fn sessions(&self) -> Result<(Sessions, Endpoint), String> {
        let (cursors, known) = (self.cursors.clone(), Arc::clone(&self.known));
        let cleanup = move |id: &SessionId| {
            if let Ok(place) = OPENING.try_with(|place| *place) {
                lock(&known.places).insert(Arc::clone(id), place);
            }
            // A name that is open already would show as a cursor that nobody expects.
            let _ = cursors.open_session(Arc::clone(id));
            let limit = ms(2 * WAITS.store + 50);
            CleanupPlan::new().step("cursors", limit, cursors.cleanup_step(Arc::clone(id)))
        };
        let settings = scupper_core::session::Settings {
            sweep_interval: ms(WAITS.session_sweep),
            idle_limit: ms(WAITS.idle),
            handshake_limit: ms(WAITS.handshake),
            request_limit: ms(WAITS.request),
            handler_grace: ms(WAITS.handler_end),
            drain_wait: ms(WAITS.handler_end),
            cleanup: Some(Arc::new(cleanup)),
            ..Default::default()
        };
        let sessions =
            Sessions::start(settings, &self.census).map_err(|error| error.to_string())?;
        // Keep-alive comments go by the clock of the machine, which is far behind a paused one.
        let config = StreamableHttpServerConfig::default().with_sse_keep_alive(None);
        let service = sessions.service(|| Ok(Tools), config);
        let endpoint: Endpoint = Arc::new(move |request| {
            let answered = service.clone().call(request);
            Box::pin(async move {
                match answered.await {
                    Ok(response) => response.map(Body::new),
                    Err(never) => match never {},
                }
            })
        });
        Ok((sessions, endpoint))
    }

    fn id(&self, place: Place) -> Option<String> {
        lock(&self.clients[place].id).clone()
    }

    /// Begins an exchange of a client, whose answer is read to its end.
    fn exchange(&mut self, place: Place, method: Method, body: String) {
        let (Some((_, endpoint)), Some(id)) = (&self.running, self.id(place)) else { return };
        let answered = endpoint(request(method, Some(&id), body));
        let exchange = tokio::spawn(async move {
            let _ = to_bytes(answered.await.into_body(), BODY_BYTES).await;
        });
        self.clients[place].exchanges.push(exchange);
    }

    pub(super) async fn open(&mut self, place: Place, how: Opening) -> Result<(), String> {
        if self.running.is_none() {
            self.running = Some(self.sessions()?);
        }
        let Some((_, endpoint)) = &self.running else { return Ok(()) };
        let endpoint = Arc::clone(endpoint);
        let id = Arc::clone(&self.clients[place].id);
        lock(&id).take();
        let opening = tokio::spawn(OPENING.scope(place, async move {
            let answer = endpoint(request(Method::POST, None, INITIALIZE.to_owned())).await;
            let given = answer.headers().get("mcp-session-id");
            let Some(given) = given.and_then(|id| id.to_str().ok()).map(str::to_owned) else {
                return;
            };
            lock(&id).replace(given.clone());
            let _ = to_bytes(answer.into_body(), BODY_BYTES).await;
            if how != Opening::Half {
                let last = request(Method::POST, Some(&given), INITIALIZED.to_owned());
                let _ = to_bytes(endpoint(last).await.into_body(), BODY_BYTES).await;
            }
        }));
        if let Opening::GivenUp(turns) = how {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            opening.abort();
        }
        self.clients[place].exchanges.push(opening);
        Ok(())
    }

    pub(super) fn request(&mut self, place: Place, tool: Tool) {
        let id = self.next_request;
        self.next_request += 1;
        let name = match tool {
            Tool::Echo => "echo",
            Tool::Hang => "hang",
            Tool::Panic => "panic",
        };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}","arguments":{{}}}}}}"#
        );
        self.exchange(place, Method::POST, body);
    }

    pub(super) fn listen(&mut self, place: Place) {
        self.exchange(place, Method::GET, String::new());
    }

    pub(super) fn disconnect(&mut self, place: Place) {
        for exchange in self.clients[place].exchanges.drain(..) {
            exchange.abort();
        }
    }

    pub(super) fn delete(&mut self, place: Place) {
        self.exchange(place, Method::DELETE, String::new());
    }

    /// Begins the end of a session; it goes on although nobody waits for it.
    pub(super) async fn evict(&self, place: Place) {
        let (Some((sessions, _)), Some(id)) = (&self.running, self.id(place)) else { return };
        let mut removing = std::pin::pin!(sessions.remove(&id));
        poll_fn(|turn| {
            let _ = removing.as_mut().poll(turn);
            Poll::Ready(())
        })
        .await;
    }

    pub(super) fn close_sessions(&mut self) {
        if let Some((sessions, _)) = self.running.take() {
            self.at_work.push(tokio::spawn(async move {
                let _ = sessions.close().await;
            }));
        }
    }

    pub(super) fn drop_sessions(&mut self) {
        if self.running.take().is_some() {
            // Their cursors are nobody's now.
            for client in &self.clients {
                lock(&client.id).take();
            }
        }
    }

    pub(super) fn put(&mut self, place: Place) {
        let Some(id) = self.id(place) else { return };
        let (cursors, kept) = (self.cursors.clone(), Arc::clone(&self.clients[place].cursor));
        self.at_work.push(tokio::spawn(async move {
            if let Ok(cursor) = cursors.put(&id, "position").await {
                lock(&kept).replace(cursor);
            }
        }));
    }

    pub(super) fn read(&mut self, place: Place) {
        self.with_cursor(place, |cursors, id, cursor| async move {
            let _ = cursors.read(&id, &cursor).await;
        });
    }

    pub(super) fn take(&mut self, place: Place) {
        self.with_cursor(place, |cursors, id, cursor| async move {
            let _ = cursors.remove(&id, &cursor).await;
        });
    }

    fn with_cursor<F>(&mut self, place: Place, act: impl FnOnce(Cursors, String, String) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cursor = lock(&self.clients[place].cursor).clone();
        let (Some(id), Some(cursor)) = (self.id(place), cursor) else { return };
        self.at_work.push(tokio::spawn(act(self.cursors.clone(), id, cursor)));
    }

    pub(super) fn sweep(&mut self) {
        let cursors = self.cursors.clone();
        self.at_work.push(tokio::spawn(async move {
            let _ = cursors.sweep().await;
        }));
    }

    pub(super) fn store(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }

    /// Everything that clients and owner began, for the end.
    pub(super) fn begun(&mut self) -> impl Iterator<Item = JoinHandle<()>> {
        let clients = self.clients.iter_mut().flat_map(|client| client.exchanges.drain(..));
        let begun: Vec<_> = clients.chain(self.at_work.drain(..)).collect();
        begun.into_iter()
    }
}

fn request(method: Method, session: Option<&str>, body: String) -> Request<Body> {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    let headers = request.headers_mut();
    for (name, value) in [
        ("host", "127.0.0.1"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2025-11-25"),
    ] {
        headers.insert(name, axum::http::HeaderValue::from_static(value));
    }
    if let Some(Ok(id)) = session.map(str::parse) {
        headers.insert("mcp-session-id", id);
    }
    request
}

/// The tools.
#[derive(Clone)]
struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match request.name.as_ref() {
            "hang" => std::future::pending().await,
            // Without the hook that would print it: nobody is to look for a mistake here.
            "panic" => std::panic::resume_unwind(Box::new("panics, as it should")),
            _ => Ok(CallToolResult::success(Vec::new()).into()),
        }
    }
}

/// A store that does what its mood says.
struct Moody {
    store: MemoryStore,
    mood: Arc<AtomicU8>,
}

impl Moody {
    fn in_its_mood<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        match self.mood.load(Ordering::Relaxed) {
            0 => answer,
            1 => Box::pin(async {
                let (what, source) = ("keeping cursors".to_owned(), "the disk is full".into());
                Err(StoreError::Failed { what, source })
            }),
            2 => Box::pin(std::future::pending()),
            _ => Box::pin(async { std::panic::resume_unwind(Box::new("panics, as it should")) }),
        }
    }
}

impl CursorStore for Moody {
    fn put(&self, key: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
        self.in_its_mood(self.store.put(key, payload, ttl))
    }

    fn read(&self, key: Key) -> Answer<'_, Option<Vec<u8>>> {
        self.in_its_mood(self.store.read(key))
    }

    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
        self.in_its_mood(self.store.remove(owner, cursors))
    }

    fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
        self.in_its_mood(self.store.remove_owner(owner))
    }

    fn sweep(&self) -> Answer<'_, usize> {
        self.in_its_mood(self.store.sweep())
    }

    fn close(&self) -> Answer<'_, ()> {
        self.in_its_mood(self.store.close())
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
