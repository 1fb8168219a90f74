//! The reference server: rmcp's own server half over stdio or Streamable HTTP, with the tools of the
//! fakes. What it does is what a server author gets from the Rust SDK.

use std::future::IntoFuture;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig,
    SubscriptionFilter,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;

/// Runs the reference server on stdin and stdout until its client is gone. Returns its exit code.
pub fn run() -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let running =
            Reference.serve(rmcp::transport::stdio()).await.map_err(|error| error.to_string())?;
        running.waiting().await.map_err(|error| error.to_string())
    });
    // rmcp's stdio reads on a blocking thread, which a runtime would wait for.
    runtime.shutdown_background();
    match ended {
        Ok(_) => Ok(0),
        Err(error) => {
            eprintln!("reference server: {error}");
            Ok(1)
        }
    }
}

/// Runs the reference server at this port of 127.0.0.1 (0: any) until it is sent SIGTERM or SIGINT.
/// Writes the address of its endpoint to stdout, as one line. Returns its exit code.
pub fn run_http(port: u16) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    std::thread::spawn(move || {
        // The first is enough; a second one changes nothing.
        if signals.forever().next().is_some() {
            asked.cancel();
        }
    });
    let ended = runtime.block_on(async {
        let socket = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        writeln!(io::stdout(), "http://{}/mcp", socket.local_addr()?)?;
        let config =
            StreamableHttpServerConfig::default().with_cancellation_token(stop.child_token());
        let sessions = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(|| Ok(Reference), sessions, config);
        let app = axum::Router::new().nest_service("/mcp", service);
        let stopped = stop.clone();
        let serving = axum::serve(socket, app)
            .with_graceful_shutdown(async move { stopped.cancelled().await });
        tokio::select! {
            served = serving.into_future() => served,
            // Connections that do not end by themselves are not waited for.
            () = async { stop.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
        }
    });
    runtime.shutdown_background();
    ended.map(|()| 0)
}

/// How long connections may take to end once the server is told to.
const DRAIN: Duration = Duration::from_secs(1);

struct Reference;

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    /// Sent back as it is
    text: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Sleep {
    /// Milliseconds
    ms: u64,
}

#[tool_router]
impl Reference {
    #[tool(
        description = "sends the text back",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn echo(&self, Parameters(echo): Parameters<Echo>) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text(echo.text)]))
    }

    #[tool(description = "answers after so many milliseconds, or when it is cancelled")]
    async fn sleep(
        &self,
        Parameters(sleep): Parameters<Sleep>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(sleep.ms)) => {
                Ok(CallToolResult::success(vec![ContentBlock::text("slept")]))
            }
            () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
        }
    }
}

#[tool_handler]
impl ServerHandler for Reference {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        ServerConfig::new(capabilities).with_server_info(Implementation::from_build_env())
    }

    /// Whatever is wanted and advertised. The SDK keeps the stream open until its client goes.
    fn accepted_subscription_filter(
        &self,
        wanted: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(wanted.clone())
    }
}
