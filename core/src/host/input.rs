//! Answers to what a server of MCP 2026-07-28 wants to know before it completes a request (MRTR).
//!
//! rmcp does this in `RunningService`, which belongs to the task that is the server's life; calls go
//! through a peer, so that none can keep the connection.

use std::time::Duration;

use rmcp::{
    ServiceError,
    model::{
        ClientResult, InputRequest, InputRequiredResult, InputResponses, NumberOrString,
        ServerRequest,
    },
    service::RequestContext,
};

use super::server::Live;

impl Live {
    /// What the next round carries: the answers, and the server's state unchanged.
    pub(super) async fn answers(
        &self,
        wanted: InputRequiredResult,
    ) -> Result<(Option<InputResponses>, Option<String>), ServiceError> {
        let requests = wanted.input_requests.unwrap_or_default();
        if requests.is_empty() {
            if wanted.request_state.is_none() {
                return Err(ServiceError::UnexpectedResponse);
            }
            // The server only wants to be asked again, and not at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Ok((None, wanted.request_state));
        }
        let mut responses = InputResponses::new();
        for (key, request) in requests {
            let request = match request {
                InputRequest::CreateMessage(request) => {
                    ServerRequest::CreateMessageRequest(request)
                }
                InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
                InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
                _ => return Err(ServiceError::UnexpectedResponse),
            };
            let id = NumberOrString::String(key.as_str().into());
            let context = RequestContext::new(id, self.peer.clone());
            let answer = self.service.answer(request, context).await;
            let answer = match answer.map_err(ServiceError::McpError)? {
                ClientResult::CreateMessageResult(result) => serde_json::to_value(result),
                ClientResult::ElicitResult(result) => serde_json::to_value(result),
                ClientResult::ListRootsResult(result) => serde_json::to_value(result),
                _ => return Err(ServiceError::UnexpectedResponse),
            };
            responses.insert(key, answer.map_err(|_| ServiceError::UnexpectedResponse)?);
        }
        Ok((Some(responses), wanted.request_state))
    }
}
