//! A whole MCP server over HTTP, rmcp's own, in a child process, so that the descriptors and tasks
//! of the test are the client's alone.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{CallToolResult, ContentBlock},
    schemars,
    service::RequestContext,
    tool, tool_handler, tool_router,
    transport::{
        StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_server::session::local::LocalSessionManager,
    },
};

/// Set in the child.
const ROLE: &str = "SCUPPER_TEST_HTTP_SERVER";

/// The server, which ends with this value.
pub(crate) struct HttpPeer {
    child: Child,
    /// Its last words would have nowhere to go.
    _stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) origin: String,
}

impl HttpPeer {
    /// Runs this test binary again, as the server. `test` names the test that calls
    /// [`serve_if_asked`].
    pub(crate) fn start(test: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the test binary"))
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server started");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let origin = lines
            .find_map(|line| Some(line.expect("a line").split_once("serving ")?.1.to_owned()))
            .expect("the server's address");
        Self { child, _stdout: lines, origin }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    /// What the server counts: sessions, calls under way, calls cancelled; asked for `forgotten`, it
    /// forgets its sessions.
    pub(crate) fn count(&self, what: &str) -> usize {
        let authority = self.origin.strip_prefix("http://").expect("http");
        let mut socket = std::net::TcpStream::connect(authority).expect("connected");
        write!(socket, "GET /count/{what} HTTP/1.0\r\nhost: {authority}\r\n\r\n").expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer.rsplit("\r\n").next().and_then(|n| n.parse().ok()).expect(what)
    }
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        // The end of its stdin ends it.
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("the server's exit");
        if !std::thread::panicking() {
            assert!(status.success(), "the server ended with {status}");
        }
    }
}

#[derive(Default)]
struct Counts {
    waiting: std::sync::atomic::AtomicUsize,
    cancelled: std::sync::atomic::AtomicUsize,
}

#[derive(Clone)]
struct Tools {
    counts: Arc<Counts>,
    #[expect(dead_code, reason = "the macro reads it")]
    tool_router: ToolRouter<Self>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    text: String,
}

#[tool_router]
impl Tools {
    fn new(counts: Arc<Counts>) -> Self {
        Self { counts, tool_router: Self::tool_router() }
    }

    #[tool(description = "says it again")]
    async fn echo(&self, Parameters(echo): Parameters<Echo>) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text(echo.text)]))
    }

    #[tool(description = "waits until it is cancelled")]
    async fn wait(&self, context: RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
        use std::sync::atomic::Ordering::SeqCst;
        self.counts.waiting.fetch_add(1, SeqCst);
        context.ct.cancelled().await;
        self.counts.waiting.fetch_sub(1, SeqCst);
        self.counts.cancelled.fetch_add(1, SeqCst);
        Err(ErrorData::internal_error("cancelled", None))
    }
}

#[tool_handler]
impl ServerHandler for Tools {}

/// Serves until the end of stdin, if this process is the server. Tells whether it was.
pub(crate) fn serve_if_asked() -> bool {
    if std::env::var_os(ROLE).is_none() {
        return false;
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(serve());
    true
}

async fn serve() {
    let counts = Arc::new(Counts::default());
    let sessions = Arc::new(LocalSessionManager::default());
    let config = StreamableHttpServerConfig::default();
    let service = StreamableHttpService::new(
        {
            let counts = Arc::clone(&counts);
            move || Ok(Tools::new(Arc::clone(&counts)))
        },
        Arc::clone(&sessions),
        config,
    );
    let count = move |axum::extract::Path(what): axum::extract::Path<String>| async move {
        use std::sync::atomic::Ordering::SeqCst;
        match &*what {
            "sessions" => sessions.sessions.read().await.len(),
            "forgotten" => {
                let held = std::mem::take(&mut *sessions.sessions.write().await);
                held.len()
            }
            "waiting" => counts.waiting.load(SeqCst),
            "cancelled" => counts.cancelled.load(SeqCst),
            what => panic!("no count of {what}"),
        }
        .to_string()
    };
    let router = axum::Router::new()
        .route("/count/{what}", axum::routing::get(count))
        .nest_service("/mcp", service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("serving http://{}", listener.local_addr().expect("its address"));
    let stdin_ended = tokio::task::spawn_blocking(|| {
        let mut rest = Vec::new();
        std::io::stdin().read_to_end(&mut rest).ok();
    });
    tokio::select! {
        served = axum::serve(listener, router) => served.expect("served"),
        _ = stdin_ended => {}
    }
}
