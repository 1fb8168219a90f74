//! Misbehaving servers, `scupper fake NAME`: real stdio servers of both eras, well-behaved but for
//! one fault each, and with `--fixed` the twin that does the same work in the right way.
//!
//! Start with `registry`, the list of them. `server` is the good server below them all and
//! says where a fault may interfere; `message` and `sleep` are its words and its slow tool.
//! The faults: `ending`, `growth`, `lock`, `process`, `launcher`, `wire`, `flood`; `helper` is what
//! they start, `options` how they are set. `http` are those over HTTP, with a list of their own,
//! [`watched`] a fake that a judged client starts, [`service`] the HTTP server of one.

mod cut;
mod ending;
mod flood;
mod growth;
mod helper;
mod http;
mod instead;
mod launcher;
mod lock;
mod message;
mod options;
mod process;
mod registry;
mod server;
pub mod service;
mod sleep;
#[cfg(test)]
mod tests;
pub mod watched;
mod wire;

use std::io;

pub use self::{
    http::registry::HTTP_FAKES,
    options::FakeError,
    registry::{FAKES, FakeInfo},
};
use crate::lifecycle::scenario::FakeSpec;

/// Whether there is such a fake, with such options.
pub fn check(spec: &FakeSpec) -> Result<(), FakeError> {
    registry::build(spec).map(drop)
}

/// Is this fake over HTTP, at a port of 127.0.0.1 (0: any), until a signal ends it, and returns its
/// exit code. Threads may still be at work: the caller must exit at once, as a server does.
pub fn run_http(spec: &FakeSpec, port: u16) -> Result<io::Result<u8>, FakeError> {
    http::serve(spec, port)
}

/// Is this fake until it ends, and returns its exit code. Threads may still be at work: the caller
/// must exit at once, as a server does.
pub fn run(spec: &FakeSpec) -> Result<u8, FakeError> {
    let mut fault = registry::build(spec)?;
    let out = server::Output::new(io::stdout());
    Ok(server::serve(fault.as_mut(), io::stdin().lock(), out))
}
