//! One session: initialize, a call, DELETE. Requests go straight into the service, so that no socket
//! is measured, and both managers stand under the same service of rmcp.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use benches::effort::Effort;
use criterion::Criterion;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use scupper_core::census::Census;
use scupper_core::session::{Sessions, Settings};
use tokio::runtime::Runtime;
use tower_service::Service;

use crate::{Notes, us};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"0"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;

#[derive(Clone)]
struct Echo;

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _params: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("echo")]).into())
    }
}

/// How long each part of a life took.
struct Life {
    open: Duration,
    call: Duration,
    close: Duration,
}

impl Life {
    fn whole(&self) -> Duration {
        self.open + self.call + self.close
    }
}

/// Both managers, each under a router of its own.
struct Managers {
    ours: Router,
    rmcps: Router,
    sessions: Sessions,
    census: Census,
}

impl Managers {
    fn start(runtime: &Runtime) -> Managers {
        let census = Census::new();
        let sessions = runtime
            .block_on(async { Sessions::start(Settings::default(), &census) })
            .expect("inside a runtime");
        let config = StreamableHttpServerConfig::default;
        let service = sessions.service(|| Ok(Echo), config());
        let ours = Router::new().nest_service("/mcp", service);
        let manager = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(|| Ok(Echo), manager, config());
        let rmcps = Router::new().nest_service("/mcp", service);
        Managers { ours, rmcps, sessions, census }
    }

    fn end(self, runtime: &Runtime) {
        let Managers { ours, rmcps, sessions, census } = self;
        let closed = runtime.block_on(sessions.close());
        assert!(closed.is_complete(), "{closed}");
        drop((ours, rmcps));
        assert!(census.is_empty(), "{census}");
    }
}

/// Turn by turn, so that ratios are of neighbours.
pub(crate) fn measure(runtime: &Runtime, effort: Effort, notes: &mut Notes) {
    let mut managers = Managers::start(runtime);
    let (mut ours, mut rmcps) = (Vec::new(), Vec::new());
    for _ in 0..effort.samples(2000, 200) {
        ours.push(runtime.block_on(live(&mut managers.ours)));
        rmcps.push(runtime.block_on(live(&mut managers.rmcps)));
    }
    for (name, lives) in [("core", &ours), ("rmcp", &rmcps)] {
        let mut add = |figure, part: fn(&Life) -> Duration| {
            let samples: Vec<f64> = lives.iter().map(|life| us(part(life))).collect();
            notes.add(name, "lifecycle", 1, figure, &samples);
        };
        add("open_us", |life| life.open);
        add("call_us", |life| life.call);
        add("close_us", |life| life.close);
        add("whole_us", Life::whole);
    }
    let ratio = |(ours, rmcps): (&Life, &Life)| us(ours.whole()) / us(rmcps.whole());
    let ratios: Vec<f64> = ours.iter().zip(&rmcps).map(ratio).collect();
    notes.add("core", "lifecycle", 1, "ratio_to_rmcp", &ratios);
    managers.end(runtime);
}

pub(crate) fn by_criterion(criterion: &mut Criterion, runtime: &Runtime) {
    let mut managers = Managers::start(runtime);
    let mut group = criterion.benchmark_group("sessions");
    for name in ["core", "rmcp"] {
        let app = if name == "core" { &mut managers.ours } else { &mut managers.rmcps };
        group.bench_function(format!("lifecycle/{name}"), |bench| {
            bench.iter_custom(|rounds| {
                (0..rounds).map(|_| runtime.block_on(live(app)).whole()).sum()
            });
        });
    }
    group.finish();
    managers.end(runtime);
}

async fn live(app: &mut Router) -> Life {
    let began = Instant::now();
    let answer = send(app, Method::POST, None, INITIALIZE).await;
    let session = answer.headers()["mcp-session-id"].to_str().expect("ASCII").to_owned();
    read(answer).await;
    let answer = send(app, Method::POST, Some(&session), INITIALIZED).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    read(answer).await;
    let opened = began.elapsed();
    let answer = send(app, Method::POST, Some(&session), CALL).await;
    assert_eq!(answer.status(), StatusCode::OK);
    read(answer).await;
    let called = began.elapsed();
    let answer = send(app, Method::DELETE, Some(&session), "").await;
    assert!(answer.status().is_success(), "{}", answer.status());
    read(answer).await;
    let closed = began.elapsed();
    Life { open: opened, call: called - opened, close: closed - called }
}

async fn send(
    app: &mut Router,
    method: Method,
    session: Option<&str>,
    body: &'static str,
) -> Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-11-25");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    let request = request.body(Body::from(body)).expect("a request");
    app.call(request).await.expect("an answer")
}

async fn read(answer: Response<Body>) {
    answer.into_body().collect().await.expect("a whole answer");
}
