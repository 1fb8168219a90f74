//! Our core behind the seam.

use super::seam::{Acting, Host, Service, Settings};

/// The core's host.
pub(super) fn host(_settings: Settings) -> Option<Box<dyn Host>> {
    None
}

/// The core's sessions, below rmcp's Streamable HTTP server.
pub(super) fn service(_settings: Settings) -> Acting<Box<dyn Service>> {
    Box::pin(async { Err("there is no such service in this build".to_owned()) })
}
