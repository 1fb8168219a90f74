//! A transport that gives the first question of a handshake a shorter time than rmcp does.
//!
//! rmcp's `ClientLifecycleMode::Auto` asks `server/discover` and waits ten seconds before it takes
//! silence for a server of the older protocol; an answer that comes later than that would be
//! mistaken for the one to `initialize`. Here the wait is a setting, and a late answer is dropped.

use std::{borrow::Cow, time::Duration};

use rmcp::{
    ErrorData, RoleClient,
    model::{ClientRequest, ErrorCode, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::time::Instant;

pub(crate) struct Probing<T> {
    inner: T,
    /// How long a probe may take; `None` where nobody would take silence for an answer.
    wait: Option<Duration>,
    /// The probe that is waiting for its answer, and until when.
    asked: Option<(RequestId, Instant)>,
    /// A probe whose answer nobody wants any more.
    given_up: Option<RequestId>,
}

impl<T> Probing<T> {
    pub(crate) fn new(inner: T, wait: Option<Duration>) -> Self {
        Self { inner, wait, asked: None, given_up: None }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Probing<T> {
    type Error = T::Error;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        if let (Some(wait), JsonRpcMessage::Request(request)) = (self.wait, &item)
            && matches!(request.request, ClientRequest::DiscoverRequest(_))
        {
            let until = Instant::now().checked_add(wait);
            self.asked = until.map(|until| (request.id.clone(), until));
        }
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let message = match &self.asked {
                None => self.inner.receive().await?,
                Some((id, until)) => {
                    match tokio::time::timeout_at(*until, self.inner.receive()).await {
                        Ok(message) => message?,
                        Err(_) => {
                            let id = id.clone();
                            self.asked = None;
                            self.given_up = Some(id.clone());
                            let silence = ErrorData::new(
                                ErrorCode::METHOD_NOT_FOUND,
                                "the server did not answer server/discover in time",
                                None,
                            );
                            return Some(JsonRpcMessage::error(silence, Some(id)));
                        }
                    }
                }
            };
            let Some(answered) = answered(&message) else {
                return Some(message);
            };
            if is(&self.given_up, answered) {
                self.given_up = None;
                tracing::debug!("dropped a late answer to server/discover");
                continue;
            }
            if self.asked.as_ref().is_some_and(|(id, _)| same(id, answered)) {
                self.asked = None;
            }
            return Some(message);
        }
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}

fn answered(message: &RxJsonRpcMessage<RoleClient>) -> Option<&RequestId> {
    match message {
        JsonRpcMessage::Response(response) => Some(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref(),
        _ => None,
    }
}

fn is(id: &Option<RequestId>, other: &RequestId) -> bool {
    id.as_ref().is_some_and(|id| same(id, other))
}

/// Some servers answer a number with the same number as a string.
fn same(id: &RequestId, other: &RequestId) -> bool {
    id == other || id.to_string() == other.to_string()
}
