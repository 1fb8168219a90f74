//! MCP connections that drain: every descriptor, process and task of a connection is gone when its
//! close returns, and the same holds after a drop, a cancelled future, a dropped runtime or a panic.
//!
//! Built on rmcp for the protocol; what is here replaces the parts that own resources.
//!
//! Start here, in reading order:
//!
//! 1. [`lifecycle`]: the states of a connection and the one table of moves between them
//! 2. [`census`]: the inventory of everything alive, with where it was opened
//! 3. [`scope`]: tasks that end together; the only spawner
//! 4. [`process`]: children as group leaders, named, signalled, swept, reaped
//! 5. [`guard`]: a process that outlives the host and ends what it left
//! 6. [`stdio`]: a child process as a transport for rmcp, and its shutdown ladder
//! 7. [`stream`]: any pair of byte streams as a transport: sockets, containers, the same process
//! 8. [`http`]: the client side of Streamable HTTP, whose close ends session, streams and sockets
//! 9. [`host`]: named servers that are added, called, removed and shut down
//! 10. [`cleanup`]: the end of a session as a list of steps, each isolated, bounded and reported
//! 11. [`cursor`]: pagination state that belongs to a session and goes with it
//! 12. [`session`]: the server side of Streamable HTTP, where every session ends on one path
//! 13. `admin` (a feature): an HTTP API to look at a host and change it
//!
//! # In place of `TokioChildProcess`
//!
//! rmcp's child process signals one pid, leaves what the server started, and its drop needs a runtime
//! that lives on. The transport goes to rmcp as before; the handle closes, and tells how it went:
//!
//! ```no_run
//! use rmcp::ServiceExt;
//! use scupper_core::{census::Census, process::Command, stdio::StdioServer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let census = Census::new();
//! let server = StdioServer::new(Command::new("my-server").arg("--stdio"));
//! let (transport, handle) = server.spawn(&census)?; // was: TokioChildProcess::new(command)?
//! let client = ().serve(transport).await?;
//! println!("{:?}", client.list_all_tools().await?);
//! let teardown = handle.close().await; // was: client.cancel().await?
//! client.waiting().await?;
//! println!("{teardown}");
//! assert!(census.is_empty(), "{census}");
//! # Ok(())
//! # }
//! ```
//!
//! The handshake of `serve` has no limit in time. [`StdioServer::connect`](stdio::StdioServer::connect)
//! makes one thing of both, with a bounded handshake. `HttpServer` of [`http`] has the same shape for servers at a URL. A host of many servers
//! is a [`host::Host`]; a doctest of [`host`] puts one in place of `TokioChildProcess`s in a map.
//!
//! # In place of `LocalSessionManager`
//!
//! rmcp's sessions have no limit in number, and a client that does not read keeps its socket. With
//! ours under the same service, in the same axum app (feature `http-server`):
//!
//! ```
//! use rmcp::{ServerHandler, transport::StreamableHttpServerConfig};
//! use scupper_core::{census::Census, session::{ListenerSettings, Server, Sessions, Settings}};
//!
//! # #[derive(Clone)] struct Demo;
//! # impl ServerHandler for Demo {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let census = Census::new();
//! let sessions = Sessions::start(Settings::default(), &census)?;
//! let mcp = sessions.service(|| Ok(Demo), StreamableHttpServerConfig::default());
//! let app = axum::Router::new().nest_service("/mcp", mcp);
//! let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let server = Server::serve(socket, app, sessions, ListenerSettings::default(), &census)?;
//! println!("{}", server.close().await); // was: axum::serve(socket, app).await?
//! assert!(census.is_empty(), "{census}");
//! # Ok(())
//! # }
//! ```
//!
//! # What ends what
//!
//! | the host | its servers over stdio | its sessions at HTTP servers |
//! |---|---|---|
//! | closes | by the ladder: end of stdin, SIGTERM, SIGKILL to the group, sweep | DELETE, bounded |
//! | drops rmcp's client, whose runtime lives on | by the ladder, in the background: rmcp closes the transport | DELETE, in the background |
//! | drops a connection or a host of ours, panics, is cancelled, loses its runtime | SIGKILL to the group, blocking for a second at most | sockets closed; the session lives until the server's idle limit |
//! | is killed itself | end of stdin; with a [`guard`] SIGKILL after a grace | as above |
//!
//! A helper that left its server's group (`setsid(2)`) is out of reach of signals to the group; with
//! [`Settings::sweep_cookie`](stdio::Settings::sweep_cookie) a close finds it all the same.
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `http-client` | yes | servers at a URL |
//! | `http-server` | yes | sessions of a server of one's own, and its listener |
//! | `tls` | no | `https` for `http-client`, by rustls |
//! | `sqlite`, `redis` | no | stores for cursors |
//! | `admin` | no | the HTTP API to look at a host and change it, and its metrics |
//! | `sabotage` | no | mistakes to switch on, for measuring what finds them; in no release |
//!
//! Examples to run: `host`, `gateway`, `scupper-host` (with the admin API), `guarded_host`.
//!
//! Linux only (pidfds, /proc), from 5.4 on. Works with and without `--cfg tokio_unstable`. Traces
//! with `tracing`: silent unless a subscriber listens.

/// Whether a mistake of [`sabotage`] is made here: never, without that feature.
macro_rules! sabotaged {
    ($mutant:ident) => {{
        #[cfg(feature = "sabotage")]
        let is_on = crate::sabotage::is_on(crate::sabotage::Mutant::$mutant);
        #[cfg(not(feature = "sabotage"))]
        let is_on = false;
        is_on
    }};
    // What is done where it is made.
    ($mutant:ident => $($mistake:tt)+) => {
        #[cfg(feature = "sabotage")]
        if crate::sabotage::is_on(crate::sabotage::Mutant::$mutant) {
            $($mistake)+
        }
    };
}

#[cfg(not(target_os = "linux"))]
compile_error!("scupper-core supervises processes by pidfd and /proc, which only Linux has");

#[cfg(feature = "admin")]
pub mod admin;
pub mod census;
pub mod cleanup;
pub mod cursor;
pub mod guard;
pub mod host;
#[cfg(feature = "http-client")]
pub mod http;
pub mod lifecycle;
pub mod process;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod scope;
#[cfg(feature = "http-server")]
pub mod session;
pub mod stdio;
pub mod stream;
