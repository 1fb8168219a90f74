//! The admin API: requests by a client of ours on a bare socket, which goes away at each of its
//! polls, and its close.

use std::net::SocketAddr;
use std::time::Duration;

use scupper_core::admin::{Admin, Settings, Token};
use scupper_core::host::{self, Host};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::operation::{Made, Making, World, holds, words};

const TOKEN: &str = "0123456789abcdef";
const LONG: Duration = Duration::from_secs(15);

/// A host and its API.
async fn api(world: &World) -> Result<(Host, Admin), String> {
    let settings = host::Settings { census: world.census.clone(), ..host::Settings::default() };
    let host = Host::new(settings);
    let token = Some(Token::new(TOKEN).map_err(words)?);
    let admin = Admin::start(&host, Settings { token, ..Settings::default() }).map_err(words)?;
    Ok((host, admin))
}

async fn end(host: Host, admin: Admin) -> Result<(), String> {
    let closed = admin.close().await;
    let shutdown = host.shutdown(LONG).await;
    holds(closed.is_complete(), || closed.to_string())?;
    holds(shutdown.left.is_empty(), || shutdown.to_string())
}

async fn ask(at: SocketAddr, what: &str, body: &str, expected: u16) -> Result<(), String> {
    let mut stream = TcpStream::connect(at).await.map_err(words)?;
    let request = format!(
        "{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(words)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(words)?;
    let good = answer.starts_with(&format!("HTTP/1.1 {expected} "));
    holds(good, || answer)
}

fn entry(world: &World) -> String {
    json!({"name": "one", "command": world.scupper, "args": ["fake", "plain"]}).to_string()
}

async fn add(at: SocketAddr, entry: &str) -> Result<(), String> {
    ask(at, "POST /mcp/servers", entry, 201).await
}

pub(super) fn health(world: World) -> Making {
    Box::pin(async move {
        let (host, admin) = api(&world).await?;
        let at = admin.address();
        add(at, &entry(&world)).await?;
        let work = async move { ask(at, "GET /mcp/health", "", 200).await };
        Ok(Made::new(work, end(host, admin)))
    })
}

pub(super) fn metrics(world: World) -> Making {
    Box::pin(async move {
        let (host, admin) = api(&world).await?;
        let at = admin.address();
        let work = async move { ask(at, "GET /metrics", "", 200).await };
        Ok(Made::new(work, end(host, admin)))
    })
}

pub(super) fn post(world: World) -> Making {
    Box::pin(async move {
        let (host, admin) = api(&world).await?;
        let at = admin.address();
        let work = async move { add(at, &entry(&world)).await };
        Ok(Made::new(work, end(host, admin)))
    })
}

pub(super) fn delete(world: World) -> Making {
    Box::pin(async move {
        let (host, admin) = api(&world).await?;
        let at = admin.address();
        add(at, &entry(&world)).await?;
        let work = async move { ask(at, "DELETE /mcp/servers/one", "", 200).await };
        Ok(Made::new(work, end(host, admin)))
    })
}

pub(super) fn close(world: World) -> Making {
    Box::pin(async move {
        let (host, admin) = api(&world).await?;
        let at = admin.address();
        add(at, &entry(&world)).await?;
        // A client that has said half of what it wants.
        let mut waits = TcpStream::connect(at).await.map_err(words)?;
        waits.write_all(b"GET /mcp/health HTTP/1.1\r\nHost: 127").await.map_err(words)?;
        let work = async move {
            let closed = admin.close().await;
            holds(closed.cut <= 1, || closed.to_string())
        };
        let end = async move {
            drop(waits);
            super::host::shut_down(host).await
        };
        Ok(Made::new(work, end))
    })
}
