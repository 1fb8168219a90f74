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
//! 7. [`http`]: the client side of Streamable HTTP, whose close ends session, streams and sockets
//! 8. [`host`]: named servers that are added, called, removed and shut down
//! 9. [`cleanup`]: the end of a session as a list of steps, each isolated, bounded and reported
//! 10. [`cursor`]: pagination state that belongs to a session and goes with it
//! 11. [`session`]: the server side of Streamable HTTP, where every session ends on one path
//! 12. `admin` (a feature): an HTTP API to look at a host and change it
//!
//! ```no_run
//! use rmcp::ServiceExt;
//! use scupper_core::{census::Census, process::Command, stdio::StdioServer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let census = Census::new();
//! let server = StdioServer::new(Command::new("my-server").arg("--stdio"));
//! let (transport, handle) = server.spawn(&census)?;
//! let client = ().serve(transport).await?;
//! println!("{:?}", client.list_all_tools().await?);
//! let teardown = handle.close().await;
//! client.waiting().await?;
//! println!("{teardown}");
//! assert!(census.is_empty(), "{census}");
//! # Ok(())
//! # }
//! ```
//!
//! Those who have several servers, by name, take a [`host`] in place of the above: a doctest there
//! replaces `TokioChildProcess` in ten lines.
//!
//! Linux only (pidfds, /proc), from 5.4 on. Works with and without `--cfg tokio_unstable`. Traces
//! with `tracing`: silent unless a subscriber listens.

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
pub mod scope;
#[cfg(feature = "http-server")]
pub mod session;
pub mod stdio;
