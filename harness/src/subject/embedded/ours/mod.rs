//! Our core behind the seam: as a host of servers, and as the sessions and cursors of a server.

pub(super) mod census;
mod host;
mod paged;
mod service;

use super::seam::{Acting, Host, Service, Settings};

/// Becomes the guard of a host of ours, where this process was started as one.
pub(super) fn guard_if_asked() {
    scupper_core::guard::run_if_asked();
}

/// The core's host, or why what it was to have beside it could not be started.
pub(super) fn host(settings: &Settings) -> Result<Box<dyn Host>, String> {
    Ok(Box::new(host::OurHost::new(settings)?))
}

/// The core's sessions, below rmcp's Streamable HTTP server.
pub(super) fn service(settings: Settings) -> Acting<Box<dyn Service>> {
    Box::pin(async move { Ok(Box::new(service::start(settings).await?) as Box<dyn Service>) })
}
