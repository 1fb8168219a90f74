//! Stand-ins for software as five field reports found it, before its repair: each leaks the same
//! resources on the same occasions, really, in this process. `scenarios/seeds/README.md` links
//! report, lifecycle and finding.
//!
//! - [`chat_client`], [`cross_task`], [`multiplexer`]: hosts.
//! - [`sse_ping`], [`cursor_server`]: services.
//! - [`child`], [`serve`], [`shelf`]: the wire code that they share, and what can be seen of what
//!   they keep.

mod chat_client;
mod child;
mod cross_task;
mod cursor_server;
mod multiplexer;
mod serve;
mod shelf;
mod sse_ping;

use super::seam::{Acting, Host, Service, Settings};

/// The host of this name, if there is one.
pub(super) fn host(name: &str, settings: Settings) -> Option<Box<dyn Host>> {
    Some(match name {
        "chat-client" => Box::new(chat_client::ChatClient::new(&settings)),
        "cross-task" => Box::new(cross_task::CrossTask::new(&settings)),
        "multiplexer" => Box::new(multiplexer::Multiplexer::new(&settings)),
        _ => return None,
    })
}

/// The service of this name, once it is up.
pub(super) fn service(name: &str, settings: Settings) -> Acting<Box<dyn Service>> {
    let name = name.to_owned();
    Box::pin(async move {
        match name.as_str() {
            "sse-ping" => sse_ping::start(&settings).await,
            "cursor-server" => cursor_server::start(settings).await,
            _ => Err(format!("no service is called {name}")),
        }
    })
}
