//! A server that behaves badly on request.

use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
        InitializeRequestParams, InitializeResult, NumberOrString, ProgressNotificationParam,
        ProgressToken, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
};
use tokio::sync::Notify;

/// The token of the progress that [`Tool::Counts`] tells.
const TOKEN: i64 = 7;

/// What becomes of an `initialize`, by the name of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initialize {
    Works,
    Fails,
    Hangs,
    Panics,
}

impl Initialize {
    pub(super) fn client_name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "fails",
            Self::Hangs => "hangs",
            Self::Panics => "panics",
        }
    }
}

impl<'a> Arbitrary<'a> for Initialize {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15_u8)? {
            0 => Self::Fails,
            1 => Self::Hangs,
            2 => Self::Panics,
            _ => Self::Works,
        })
    }
}

/// A tool by what it does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tool {
    Echoes,
    /// Until it is released or cancelled.
    Waits,
    /// Until it is released, cancelled or not.
    Stubborn,
    Panics,
    /// Tells of its progress, more than fits in a queue.
    Counts,
}

impl Tool {
    const ALL: [Self; 5] = [Self::Echoes, Self::Waits, Self::Stubborn, Self::Panics, Self::Counts];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Echoes => "echo",
            Self::Waits => "wait",
            Self::Stubborn => "stubborn",
            Self::Panics => "panic",
            Self::Counts => "count",
        }
    }
}

impl<'a> Arbitrary<'a> for Tool {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(*u.choose(&Self::ALL)?)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Demo {
    /// Lets those go on that wait.
    pub(super) release: Arc<Notify>,
}

impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn initialize(
        &self,
        params: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<InitializeResult, ErrorData> {
        match params.client_info.name.as_str() {
            "panics" => panic!("initialize panics, as it was told to"),
            "hangs" => std::future::pending().await,
            "fails" => return Err(ErrorData::internal_error("no", None)),
            _ => {}
        }
        context.peer.set_peer_info(params.clone());
        self.negotiate_initialize(&params)
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, ErrorData> {
        match &*params.name {
            "echo" => {}
            "wait" => tokio::select! {
                () = self.release.notified() => {}
                () = context.ct.cancelled() => {}
            },
            "stubborn" => self.release.notified().await,
            "panic" => panic!("a tool panics, as it was told to"),
            "count" => {
                for number in 0..8_u8 {
                    let token = ProgressToken(NumberOrString::Number(TOKEN));
                    let progress = ProgressNotificationParam::new(token, f64::from(number));
                    context.peer.notify_progress(progress).await.ok();
                }
            }
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}
