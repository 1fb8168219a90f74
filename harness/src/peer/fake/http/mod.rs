//! Servers over HTTP, `scupper fake NAME --http PORT`: Streamable HTTP of both eras at one endpoint,
//! or the older pair of HTTP and SSE, well-behaved but for one fault each.
//!
//! Start with `registry`, the list of them, and `fault`, which says where a fault may interfere.
//! `server` listens, sweeps and ends, `connection` serves one connection, `session` keeps the
//! sessions, `channel` the events of a stream, `subscription` those of the newer era, `call` the slow tool, `stream`
//! and `response` write.
//! The faults: `keeping`, `leaving`, `stalling`, `working`, `ending`, `starting`, `gateway`.
//!
//! At `/census` such a server tells what it keeps, so that a client that goes without DELETE shows.

mod call;
mod canary;
mod channel;
mod connection;
mod ending;
mod fault;
mod gateway;
mod keeping;
mod leaving;
mod modern;
mod pair;
pub(super) mod registry;
mod response;
mod server;
mod session;
mod signals;
mod stalling;
mod starting;
mod stream;
mod subscription;
#[cfg(test)]
mod tests;
mod working;

use std::io;

use super::options::FakeError;
use crate::lifecycle::scenario::FakeSpec;

/// Serves until it is told to end, and gives the exit code. Writes the address of its endpoint to
/// stdout, as one line.
pub(super) fn serve(spec: &FakeSpec, port: u16) -> Result<io::Result<u8>, FakeError> {
    let (fault, settings) = registry::build(spec)?;
    Ok(server::listen(fault, settings, port))
}
