//! The server behind the core's sessions: tools by pages, whose cursors belong to the session.

use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use scupper_core::cursor::{CursorError, Cursors};

/// Tools to a page.
const PAGE: usize = 3;

/// Lists tools a few at a time.
#[derive(Clone)]
pub(super) struct Paged {
    pub(super) cursors: Cursors,
    pub(super) tools: usize,
    pub(super) payload_bytes: usize,
}

impl ServerHandler for Paged {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let session = session_of(&context)?;
        let from = match request.and_then(|request| request.cursor) {
            Some(cursor) => {
                let payload = self.cursors.read(&session, &cursor).await.map_err(refuse)?;
                position(&payload)
            }
            None => 0,
        };
        let to = (from + PAGE).min(self.tools);
        let empty = Arc::new(rmcp::object!({"type": "object"}));
        let tool = |number| Tool::new(format!("tool-{number}"), "one of many", Arc::clone(&empty));
        let mut page = ListToolsResult::with_all_items((from..to).map(tool).collect());
        if to < self.tools {
            let mut payload = to.to_string().into_bytes();
            payload.resize(self.payload_bytes.max(payload.len() + 1), b' ');
            page.next_cursor = Some(self.cursors.put(&session, payload).await.map_err(refuse)?);
        }
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let number = |name: &str| arguments.get(name).and_then(|value| value.as_u64()).unwrap_or(0);
        let text = match request.name.as_ref() {
            "echo" => arguments.get("text").and_then(|text| text.as_str()).unwrap_or("").to_owned(),
            "sleep" => {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(number("ms"))) => {}
                    () = context.ct.cancelled() => {
                        return Err(ErrorData::internal_error("cancelled", None));
                    }
                }
                "slept".to_owned()
            }
            // Takes no notice of its cancellation.
            "work" => {
                tokio::time::sleep(Duration::from_millis(number("ms"))).await;
                "worked".to_owned()
            }
            // More than the sockets between here and a client that does not read can hold.
            "flood" => "x".repeat(usize::try_from(number("kib")).unwrap_or(0) << 10),
            // Without the hook that would print it: nobody is to look for a mistake here.
            "panic" => std::panic::resume_unwind(Box::new("the tool panics, as it was asked to")),
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// The session that a request belongs to, from its head.
fn session_of(context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
    let head = context.extensions.get::<Parts>();
    let id = head.and_then(|head| head.headers.get("mcp-session-id")?.to_str().ok());
    let id = id.ok_or_else(|| ErrorData::invalid_request("a request without a session", None))?;
    Ok(id.to_owned())
}

fn position(payload: &[u8]) -> usize {
    let digits: String =
        payload.iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn refuse(error: CursorError) -> ErrorData {
    ErrorData::invalid_params(error.to_string(), None)
}
