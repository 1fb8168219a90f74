//! Our core behind the seam: as a host of servers, and as the sessions and cursors of a server.

pub(super) mod census;
mod host;
mod paged;
mod service;

use super::seam::{Acting, Host, Service, Settings};

/// The core's host.
pub(super) fn host(settings: &Settings) -> Box<dyn Host> {
    Box::new(host::OurHost::new(settings))
}

/// The core's sessions, below rmcp's Streamable HTTP server.
pub(super) fn service(settings: Settings) -> Acting<Box<dyn Service>> {
    Box::pin(async move { Ok(Box::new(service::start(settings).await?) as Box<dyn Service>) })
}
