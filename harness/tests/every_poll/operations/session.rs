//! Sessions of a server of ours: its service without a socket, so that the request itself is the
//! future that is cut off, as a listener does when its client goes; and behind a socket.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::{Request, Response};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use scupper_core::http::HttpServer;
use scupper_core::session::{
    ListenerSettings, Registry, Server, SessionService, Sessions, Settings, Supervised,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::Service;

use crate::operation::{Made, Making, World, holds, words};

/// The longest answer.
const ANSWER_BYTES: usize = 1 << 20;

#[derive(Clone)]
struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if params.name == "sleep" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}

type Mcp = SessionService<StreamableHttpService<Supervised<Tools>, Registry>>;

fn settings() -> Settings {
    Settings {
        handler_grace: Duration::from_millis(50),
        drain_wait: Duration::from_millis(50),
        close_wait: Duration::from_millis(50),
        ..Settings::default()
    }
}

fn started(world: &World) -> Result<(Sessions, Mcp), String> {
    let sessions = Sessions::start(settings(), &world.census).map_err(words)?;
    let config =
        StreamableHttpServerConfig::default().with_sse_keep_alive(Some(Duration::from_millis(2)));
    let mcp = sessions.service(|| Ok(Tools), config);
    Ok((sessions, mcp))
}

async fn end(sessions: Sessions) -> Result<(), String> {
    let closed = sessions.close().await;
    holds(closed.is_complete(), || closed.to_string())
}

fn request(method: &str, session: Option<&str>, body: &Value) -> Request<String> {
    let mut request = Request::builder()
        .method(method)
        .uri("/mcp")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json");
    let accepted = match method {
        "GET" => "text/event-stream",
        _ => "application/json, text/event-stream",
    };
    request = request.header("accept", accepted);
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request.body(body).expect("a request of ours")
}

async fn answer(mut mcp: Mcp, request: Request<String>) -> Result<Response<Body>, String> {
    std::future::poll_fn(|context| Service::<Request<String>>::poll_ready(&mut mcp, context))
        .await
        .map_err(words)?;
    let answer = mcp.call(request).await.map_err(words)?;
    let good = answer.status().is_success();
    holds(good, || format!("answered {}", answer.status()))?;
    Ok(answer.map(Body::new))
}

/// Asks, and reads the answer to its end.
async fn ask(mcp: Mcp, request: Request<String>) -> Result<Response<()>, String> {
    let (head, body) = answer(mcp, request).await?.into_parts();
    to_bytes(body, ANSWER_BYTES).await.map_err(words)?;
    Ok(Response::from_parts(head, ()))
}

fn initialize() -> Request<String> {
    let body = json!({
        "jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "poll", "version": "0"},
        },
    });
    request("POST", None, &body)
}

fn initialized(session: &str) -> Request<String> {
    let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    request("POST", Some(session), &body)
}

fn call(session: &str, tool: &str) -> Request<String> {
    let params = json!({"name": tool, "arguments": {}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    request("POST", Some(session), &body)
}

async fn shake_hands(mcp: &Mcp) -> Result<String, String> {
    let answer = ask(mcp.clone(), initialize()).await?;
    let session = answer.headers().get("mcp-session-id").ok_or("no session")?;
    let session = session.to_str().map_err(words)?.to_owned();
    ask(mcp.clone(), initialized(&session)).await?;
    Ok(session)
}

/// Anything on a session that is open.
fn on_a_session<F>(world: World, work: impl FnOnce(Mcp, String) -> F + Send + 'static) -> Making
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    Box::pin(async move {
        let (sessions, mcp) = started(&world)?;
        let session = shake_hands(&mcp).await?;
        Ok(Made::new(work(mcp, session), end(sessions)))
    })
}

pub(super) fn open(world: World) -> Making {
    Box::pin(async move {
        let (sessions, mcp) = started(&world)?;
        let work = async move { shake_hands(&mcp).await.map(drop) };
        Ok(Made::new(work, end(sessions)))
    })
}

pub(super) fn short_call(world: World) -> Making {
    on_a_session(
        world,
        |mcp, session| async move { ask(mcp, call(&session, "echo")).await.map(drop) },
    )
}

pub(super) fn long_call(world: World) -> Making {
    on_a_session(
        world,
        |mcp, session| async move { ask(mcp, call(&session, "sleep")).await.map(drop) },
    )
}

/// The stream of a session; three events of it, the keep-alive ones included.
pub(super) fn stream(world: World) -> Making {
    on_a_session(world, |mcp, session| async move {
        let answer = answer(mcp, request("GET", Some(&session), &Value::Null)).await?;
        let mut body = answer.into_body();
        for _ in 0..3 {
            let frame =
                std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            frame.ok_or("the stream ended")?.map_err(words)?;
        }
        Ok(())
    })
}

pub(super) fn delete(world: World) -> Making {
    on_a_session(world, |mcp, session| async move {
        ask(mcp, request("DELETE", Some(&session), &Value::Null)).await.map(drop)
    })
}

pub(super) fn remove(world: World) -> Making {
    Box::pin(async move {
        let (sessions, mcp) = started(&world)?;
        let sessions = Arc::new(sessions);
        let session = shake_hands(&mcp).await?;
        let from = Arc::clone(&sessions);
        let work = async move {
            let removal = from.remove(&session).await;
            drop(from);
            let removal = removal.ok_or("there was no session")?;
            holds(removal.is_complete(), || removal.to_string())
        };
        let end = async move {
            drop(mcp);
            end(Arc::into_inner(sessions).ok_or("its future is still there")?).await
        };
        Ok(Made::new(work, end))
    })
}

pub(super) fn close(world: World) -> Making {
    Box::pin(async move {
        let (sessions, mcp) = started(&world)?;
        shake_hands(&mcp).await?;
        let busy = shake_hands(&mcp).await?;
        // A request that runs meanwhile, and a client that does not take its answer.
        let waits = answer(mcp, call(&busy, "sleep")).await?;
        let work = async move {
            let _waits = waits;
            let closed = sessions.close().await;
            holds(closed.removals.len() == 2, || closed.to_string())
        };
        Ok(Made::alone(work))
    })
}

async fn served(world: &World) -> Result<Server, String> {
    let (sessions, mcp) = started(world)?;
    let app = axum::Router::new().nest_service("/mcp", mcp);
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(words)?;
    let listening = ListenerSettings::default();
    Server::serve(socket, app, sessions, listening, &world.census).map_err(words)
}

async fn close_server(server: Server) -> Result<(), String> {
    let closed = server.close().await;
    holds(closed.is_complete(), || closed.to_string())
}

/// Our own client at our own server: a session is opened, used and deleted over a socket.
pub(super) fn life_over_a_socket(world: World) -> Making {
    Box::pin(async move {
        let server = served(&world).await?;
        let url = format!("http://{}/mcp", server.address());
        let work = async move {
            let client = HttpServer::new(&url).map_err(words)?.connect((), &world.census).await;
            let client = client.map_err(words)?;
            super::stdio::tool(&client, "echo", json!({})).await?;
            let closed = client.close().await;
            holds(closed.is_complete(), || closed.to_string())
        };
        Ok(Made::new(work, close_server(server)))
    })
}

pub(super) fn close_of_a_server(world: World) -> Making {
    Box::pin(async move {
        let server = served(&world).await?;
        // One with a session, which keeps its connection, and one that has said nothing.
        let (mut talks, silent) = (
            TcpStream::connect(server.address()).await.map_err(words)?,
            TcpStream::connect(server.address()).await.map_err(words)?,
        );
        let body = initialize().into_body();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        talks.write_all(head.as_bytes()).await.map_err(words)?;
        let mut first = [0; 12];
        talks.read_exact(&mut first).await.map_err(words)?;
        holds(first.ends_with(b"200"), || String::from_utf8_lossy(&first).into_owned())?;
        let work = async move {
            let _ = server.close().await;
            Ok(())
        };
        let end = async move {
            drop((talks, silent));
            Ok(())
        };
        Ok(Made::new(work, end))
    })
}
