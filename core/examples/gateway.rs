//! A gateway: one MCP server, over stdio or HTTP, for many clients over Streamable HTTP.
//!
//! ```text
//! cargo run -p scupper-core --example gateway -- npx -y @modelcontextprotocol/server-everything stdio
//! cargo run -p scupper-core --example gateway -- http://127.0.0.1:8000/mcp
//! ```
//!
//! Prints its endpoint on the first line of stdout and serves until SIGINT or SIGTERM. Then it ends
//! its clients' sessions, after them the server, and tells how each went. The exit status is 0 only
//! if nothing is left.

use std::{env, error::Error, io, process::ExitCode};

use rmcp::{
    ErrorData, RoleClient, RoleServer, ServerHandler, ServiceError,
    model::{
        CallToolRequestParams, CallToolResponse, ListToolsResult, PaginatedRequestParams,
        ServerConfig,
    },
    service::{Peer, RequestContext},
    transport::StreamableHttpServerConfig,
};
use scupper_core::{
    census::Census,
    http::{HttpClient, HttpServer},
    process::Command,
    session::{ListenerSettings, Server, Sessions, Settings},
    stdio::{StdioClient, StdioServer},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let census = Census::new();
    let behind = Behind::open(&arguments, &census).await?;
    let peer = behind.peer().clone();
    let served = serve(peer, &census).await;
    // Whatever became of the front, the server behind it is closed.
    println!("{}", behind.close().await);
    served?;
    println!("{census}");
    Ok(if census.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn serve(peer: Peer<RoleClient>, census: &Census) -> Result<(), Box<dyn Error>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let sessions = Sessions::start(Settings::default(), census)?;
    let forwards = move || Ok::<_, io::Error>(Forwards { peer: peer.clone() });
    let mcp = sessions.service(forwards, StreamableHttpServerConfig::default());
    let app = axum::Router::new().nest_service("/mcp", mcp);
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let front = Server::serve(socket, app, sessions, ListenerSettings::default(), census)?;
    println!("http://{}/mcp", front.address());
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    println!("{}", front.close().await);
    Ok(())
}

/// The server that all clients share.
enum Behind {
    Stdio(StdioClient<()>),
    Http(HttpClient<()>),
}

impl Behind {
    async fn open(arguments: &[String], census: &Census) -> Result<Self, Box<dyn Error>> {
        match arguments {
            [] => Err("name a server: the URL of its endpoint, or a command".into()),
            [url] if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Self::Http(HttpServer::new(url)?.connect((), census).await?))
            }
            [program, arguments @ ..] => {
                let command = arguments.iter().fold(Command::new(program), Command::arg);
                Ok(Self::Stdio(StdioServer::new(command).connect((), census).await?))
            }
        }
    }

    fn peer(&self) -> &Peer<RoleClient> {
        match self {
            Self::Stdio(client) => client,
            Self::Http(client) => client,
        }
    }

    async fn close(self) -> String {
        match self {
            Self::Stdio(client) => client.close().await.to_string(),
            Self::Http(client) => client.close().await.to_string(),
        }
    }
}

/// What a client meets: the tools of the server behind. A call that its client drops is dropped
/// here too, and so cancelled there.
#[derive(Clone)]
struct Forwards {
    peer: Peer<RoleClient>,
}

impl ServerHandler for Forwards {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities.tools = Some(Default::default());
        info
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        unless_cancelled(&context, self.peer.list_tools(page)).await
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        unless_cancelled(&context, self.peer.call_tool(call)).await.map(Into::into)
    }
}

async fn unless_cancelled<T>(
    context: &RequestContext<RoleServer>,
    answer: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ErrorData> {
    tokio::select! {
        () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
        answer = answer => answer.map_err(|error| match error {
            // The server's own words, with their code.
            ServiceError::McpError(error) => error,
            error => ErrorData::internal_error(format!("the server behind: {error}"), None),
        }),
    }
}
