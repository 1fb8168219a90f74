//! Faults of a server that nobody can talk to: what it does instead of serving.

use super::{
    super::options::{FakeError, Settings},
    fault::Fault,
    response::Response,
};
use crate::peer::http::message::Head;

/// Starts, says nothing, and listens nowhere.
pub(super) struct NeverListens;

impl Fault for NeverListens {
    fn listens(&self) -> bool {
        false
    }
}

/// Listens on another port than it was told.
pub(super) struct ListensElsewhere;

impl Fault for ListensElsewhere {
    fn port(&self, _asked: u16) -> u16 {
        0
    }
}

/// Answers every request with 500.
pub(super) struct Answers500;

impl Fault for Answers500 {
    fn on_request(&self, _head: &Head) -> Option<Response> {
        Some(Response::refusal("500 Internal Server Error", "database is not configured"))
    }
}

/// Speaks TLS: to whoever does not, it says so in one alert record and closes.
pub(super) struct SpeaksTls;

impl Fault for SpeaksTls {
    fn blurts(&self) -> Option<&'static [u8]> {
        // Alert, TLS 1.2, two bytes: fatal, unexpected message.
        Some(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a])
    }
}

/// Has its endpoint at another path.
pub(super) struct NotFound;

impl Fault for NotFound {
    fn path(&self) -> &'static str {
        "/api/mcp"
    }
}

/// Serves only those who know the token.
pub(super) struct NeedsToken {
    expected: String,
}

impl NeedsToken {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self { expected: format!("Bearer {}", settings.text("token")) }))
    }
}

impl Fault for NeedsToken {
    fn on_request(&self, head: &Head) -> Option<Response> {
        let known = head.header("authorization") == Some(self.expected.as_str());
        (!known).then(|| {
            Response::refusal("401 Unauthorized", "a token is needed")
                .header("WWW-Authenticate", "Bearer realm=\"scupper-fake\"")
        })
    }
}
