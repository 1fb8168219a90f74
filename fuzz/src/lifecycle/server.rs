//! One connection of a server: its task, its session, and what its handlers do.

use std::{panic::Location, sync::Arc, time::Duration};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
        ServerConfig,
    },
    service::RequestContext,
};
use scupper_core::{
    census::{Census, Kind},
    cleanup::CleanupPlan,
    cursor::Cursors,
    scope::{TaskError, TaskScope},
};
use tokio::{io::DuplexStream, sync::watch};

/// How long the cursors of a session may take to go.
const CLEANUP: Duration = Duration::from_secs(5);

/// A connection that is served, or was.
pub(super) struct Served {
    /// Closed when its task has ended, however it ended.
    running: watch::Receiver<()>,
    cancel: watch::Sender<bool>,
}

impl Served {
    pub(super) fn spawn(
        scope: &TaskScope,
        name: String,
        stream: DuplexStream,
        cursors: &Cursors,
        census: &Census,
    ) -> Self {
        let (runs, running) = watch::channel(());
        let (cancel, mut cancelled) = watch::channel(false);
        let handler = Handler { name: name.clone().into(), cursors: cursors.clone() };
        let (census, token) = (census.clone(), scope.token().clone());
        let task = async move {
            let _runs = runs;
            let name = Arc::clone(&handler.name);
            let _row =
                census.enter(Kind::Connection, Arc::clone(&name), "served", Location::caller());
            handler.cursors.open_session(Arc::clone(&name))?;
            let step = handler.cursors.cleanup_step(name);
            let mut plan = CleanupPlan::new().step("cursors", CLEANUP, step);
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => {}
                () = serve(handler, stream) => {}
            }
            let report = plan.run().await;
            if report.is_complete() { Ok(()) } else { Err(TaskError::from(report.to_string())) }
        };
        scope.spawn(name, task).expect("the scope is open and there is a runtime");
        Self { running, cancel }
    }

    pub(super) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.running.has_changed().is_err()
    }

    pub(super) async fn ended(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }
}

async fn serve(handler: Handler, stream: DuplexStream) {
    // A handshake that fails, and a service that does, end the connection and nothing else.
    if let Ok(service) = handler.serve(stream).await {
        service.waiting().await.ok();
    }
}

#[derive(Clone)]
struct Handler {
    name: Arc<str>,
    cursors: Cursors,
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match &*params.name {
            "echo" => {}
            "wait" => context.ct.cancelled().await,
            "put" => {
                let cursor = self.cursors.put(&self.name, "position").await?;
                let read = self.cursors.read(&self.name, &cursor).await?;
                assert_eq!(read, b"position", "not what was put");
            }
            "panic" => panic!("a tool panics, as it was told to"),
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}
