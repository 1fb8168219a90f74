//! The other side, always ours: byte-exact, and able to misbehave.
//!
//! - [`wire`]: messages of both eras as bytes, and what a line of the server's output is.
//! - [`control`]: how the cell tells a client process what to do, and what it hears back.
//! - [`client`]: the client process itself, one per connection.
//! - [`link`]: the cell's end of a client process.
//! - `reference` (feature `core`): rmcp's own server.
//! - [`http`]: Streamable HTTP as bytes, and the clients of a service.
//! - [`fake`]: misbehaving servers and their clean twins.
//! - [`fake_client`]: misbehaving clients and their clean twins.
//! - [`report`]: what such a server tells the cell when a judged client has started it.

pub mod client;
pub mod control;
pub mod fake;
pub mod fake_client;
pub mod http;
#[doc(hidden)]
pub mod lines;
pub mod link;
mod outbox;
#[cfg(feature = "core")]
pub mod reference;
pub mod report;
pub mod wire;
