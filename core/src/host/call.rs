//! Requests to a server, each bounded in time and ended by the end of the server.

use std::{pin::pin, sync::Arc, time::Duration};

use rmcp::{
    RoleClient, ServiceError,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, DEFAULT_MRTR_MAX_ROUNDS,
        GetPromptRequestParams, GetPromptResponse, GetPromptResult, ReadResourceRequestParams,
        ReadResourceResponse, ReadResourceResult,
    },
    service::Peer,
};

use super::{Host, HostError, server::Live};
use crate::{stdio::StdioError, stream::StreamError};

impl Host {
    /// Calls a tool of a server. Dropping the future tells the server that the call is cancelled.
    ///
    /// # Errors
    /// [`HostError`]: no such server or not ready, an error of the server's, no answer within
    /// [`Settings::call_wait`](super::Settings::call_wait); at once when the server dies or is removed
    /// meanwhile.
    pub async fn call_tool(
        &self,
        server: &str,
        mut params: CallToolRequestParams,
    ) -> Result<CallToolResult, HostError> {
        let wait = self.owner.registry.settings.call_wait;
        self.through(server, "calling a tool", wait, |live| async move {
            for _ in 0..DEFAULT_MRTR_MAX_ROUNDS {
                match live.peer.call_tool_once(params.clone()).await? {
                    CallToolResponse::Complete(result) => return Ok(result),
                    CallToolResponse::InputRequired(wanted) => {
                        (params.input_responses, params.request_state) =
                            live.answers(wanted).await?;
                    }
                    // Tasks are for those who poll them, by `with_peer`.
                    _ => return Err(ServiceError::UnexpectedResponse),
                }
            }
            Err(TOO_MANY_ROUNDS)
        })
        .await
    }

    /// Gets a prompt of a server.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    pub async fn get_prompt(
        &self,
        server: &str,
        mut params: GetPromptRequestParams,
    ) -> Result<GetPromptResult, HostError> {
        let wait = self.owner.registry.settings.call_wait;
        self.through(server, "getting a prompt", wait, |live| async move {
            for _ in 0..DEFAULT_MRTR_MAX_ROUNDS {
                match live.peer.get_prompt_once(params.clone()).await? {
                    GetPromptResponse::Complete(result) => return Ok(result),
                    GetPromptResponse::InputRequired(wanted) => {
                        (params.input_responses, params.request_state) =
                            live.answers(wanted).await?;
                    }
                    _ => return Err(ServiceError::UnexpectedResponse),
                }
            }
            Err(TOO_MANY_ROUNDS)
        })
        .await
    }

    /// Reads a resource of a server.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    pub async fn read_resource(
        &self,
        server: &str,
        mut params: ReadResourceRequestParams,
    ) -> Result<ReadResourceResult, HostError> {
        let wait = self.owner.registry.settings.call_wait;
        self.through(server, "reading a resource", wait, |live| async move {
            for _ in 0..DEFAULT_MRTR_MAX_ROUNDS {
                match live.peer.read_resource_once(params.clone()).await? {
                    ReadResourceResponse::Complete(result) => return Ok(result),
                    ReadResourceResponse::InputRequired(wanted) => {
                        (params.input_responses, params.request_state) =
                            live.answers(wanted).await?;
                    }
                    _ => return Err(ServiceError::UnexpectedResponse),
                }
            }
            Err(TOO_MANY_ROUNDS)
        })
        .await
    }

    /// Anything else that rmcp's peer can do, within `wait`, and ended when the server ends:
    /// `host.with_peer("git", wait, |peer| async move { peer.complete(params).await })`. A peer kept
    /// longer keeps nothing of the connection open; it fails.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool).
    pub async fn with_peer<T, F>(
        &self,
        server: &str,
        wait: Duration,
        request: impl FnOnce(Peer<RoleClient>) -> F,
    ) -> Result<T, HostError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        self.through(server, "a request", wait, |live| request(live.peer.clone())).await
    }

    async fn through<T, F>(
        &self,
        server: &str,
        doing: &'static str,
        waited: Duration,
        request: impl FnOnce(Arc<Live>) -> F,
    ) -> Result<T, HostError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let server = self.owner.registry.server(server, doing)?;
        let live = server.live()?;
        let answer = {
            let mut answer = pin!(tokio::time::timeout(waited, request(Arc::clone(&live))));
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                () = live.ended.cancelled() => return Err(live.error(&server.name, doing)),
            }
        };
        let server = Arc::clone(&server.name);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Err(_) => Err(HostError::TimedOut { server, doing, waited }),
            Ok(Err(error)) if ends_the_connection(&error) => {
                // The server's task, or the end of it, follows at once.
                live.fail(format!("a message could not be sent: {error}"));
                live.ended.cancelled().await;
                Err(live.error(&server, doing))
            }
            Ok(Err(source)) => Err(HostError::Refused { server, doing, source }),
        }
    }
}

const TOO_MANY_ROUNDS: ServiceError =
    ServiceError::InputRequiredRoundsExceeded { max_rounds: DEFAULT_MRTR_MAX_ROUNDS };

/// After a failed send nobody knows what the server has read; only a message that could not be
/// written in JSON was never sent. Over HTTP each message has an exchange of its own, and a failed
/// one says nothing of the next.
fn ends_the_connection(error: &ServiceError) -> bool {
    match error {
        ServiceError::TransportClosed => true,
        ServiceError::TransportSend(error) => {
            let (stdio, stream) = (error.error.downcast_ref(), error.error.downcast_ref());
            !matches!(stdio, Some(StdioError::Encode { .. }))
                && !matches!(stream, Some(StreamError::Encode { .. }))
                && !is_one_exchange(&*error.error)
        }
        _ => false,
    }
}

#[cfg(feature = "http-client")]
fn is_one_exchange(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(crate::http::HttpError::Request { .. }))
}

#[cfg(not(feature = "http-client"))]
fn is_one_exchange(_: &(dyn std::error::Error + 'static)) -> bool {
    false
}
