//! The reference server: rmcp's own server half over stdio, with the tools of the fakes. What it
//! does is what a server author gets from the Rust SDK.

use std::io;
use std::time::Duration;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock};
use rmcp::service::RequestContext;
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt, schemars, tool, tool_handler, tool_router,
};

/// Runs the reference server on stdin and stdout until its client is gone. Returns its exit code.
pub fn run() -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let running =
            Reference.serve(rmcp::transport::stdio()).await.map_err(|error| error.to_string())?;
        running.waiting().await.map_err(|error| error.to_string())
    });
    // rmcp's stdio reads on a blocking thread, which a runtime would wait for.
    runtime.shutdown_background();
    match ended {
        Ok(_) => Ok(0),
        Err(error) => {
            eprintln!("reference server: {error}");
            Ok(1)
        }
    }
}

struct Reference;

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    /// Sent back as it is
    text: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Sleep {
    /// Milliseconds
    ms: u64,
}

#[tool_router]
impl Reference {
    #[tool(
        description = "sends the text back",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn echo(&self, Parameters(echo): Parameters<Echo>) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text(echo.text)]))
    }

    #[tool(description = "answers after so many milliseconds, or when it is cancelled")]
    async fn sleep(
        &self,
        Parameters(sleep): Parameters<Sleep>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(sleep.ms)) => {
                Ok(CallToolResult::success(vec![ContentBlock::text("slept")]))
            }
            () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
        }
    }
}

#[tool_handler]
impl ServerHandler for Reference {}
