//! The end of the session on the server.

use std::sync::Arc;

use futures::future::join_all;
use http::{HeaderValue, Method, StatusCode};
use rmcp::transport::common::http_header::{HEADER_MCP_PROTOCOL_VERSION, HEADER_SESSION_ID};

use super::{
    SessionEnd,
    connection::{Connection, lock},
    error::RequestError,
};

impl Connection {
    /// Asks the server to end every session it holds for us, all at once, and forgets those that
    /// are gone. Bounded by [`HttpSettings::delete_wait`](super::HttpSettings::delete_wait).
    pub(super) async fn delete_sessions(&self) -> SessionEnd {
        let sessions = lock(&self.sessions).all();
        let ends = sessions.into_iter().map(|(id, revision)| self.delete(id, revision));
        join_all(ends)
            .await
            .into_iter()
            .max_by_key(SessionEnd::badness)
            .unwrap_or(SessionEnd::NotNeeded)
    }

    async fn delete(&self, id: Arc<str>, revision: Option<HeaderValue>) -> SessionEnd {
        if self.hurried.is_cancelled() || sabotaged!(DeleteNotSent) {
            return SessionEnd::NotSent;
        }
        let mut request = self.bare_request(Method::DELETE);
        let Ok(value) = HeaderValue::try_from(&*id) else {
            return SessionEnd::NotSent;
        };
        request.headers_mut().insert(HEADER_SESSION_ID, value);
        if let Some(revision) = revision {
            request.headers_mut().insert(HEADER_MCP_PROTOCOL_VERSION, revision);
        }
        let sent = tokio::select! {
            biased;
            () = self.cut.cancelled() => return SessionEnd::NotSent,
            () = self.hurried.cancelled() => return SessionEnd::TimedOut,
            sent = self.send(request, self.settings.delete_wait, "delete_wait") => sent,
        };
        let end = match sent {
            Ok(response) => match response.status() {
                status if status.is_success() => SessionEnd::Deleted,
                StatusCode::NOT_FOUND => SessionEnd::Deleted,
                StatusCode::METHOD_NOT_ALLOWED => SessionEnd::Refused,
                status => SessionEnd::Failed(status),
            },
            Err(RequestError::TimedOut { .. }) => SessionEnd::TimedOut,
            Err(error) => SessionEnd::Unreachable(error.to_string().into()),
        };
        if end.is_settled() {
            lock(&self.sessions).remove(&id);
        }
        end
    }
}

impl SessionEnd {
    fn badness(&self) -> u8 {
        match self {
            SessionEnd::NotNeeded => 0,
            SessionEnd::Deleted => 1,
            SessionEnd::Refused => 2,
            SessionEnd::Failed(_) => 3,
            SessionEnd::Unreachable(_) => 4,
            SessionEnd::TimedOut => 5,
            SessionEnd::NotSent => 6,
        }
    }
}
