//! A server with tools that behave badly on request, and what they went through.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it, so an expectation would fail in some"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
        InitializeRequestParams, InitializeResult, ProgressNotificationParam, ProgressToken,
        ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    transport::StreamableHttpServerConfig,
};
use scupper_core::{
    census::Census,
    session::{ListenerSettings, Server, Sessions, Settings},
};
use tokio::sync::Notify;

/// What handlers told of themselves, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn say(&self, line: impl Into<String>) {
        self.0.lock().expect("no panic in the log").push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic in the log").clone()
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.0.lock().expect("no panic in the log").iter().any(|said| said == line)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Demo {
    pub(crate) log: Log,
    /// Lets `wait` go on.
    pub(crate) release: Arc<Notify>,
}

/// Says so when it goes.
struct Witness(Log, &'static str);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.say(self.1);
    }
}

impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn initialize(
        &self,
        params: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        match params.client_info.name.as_str() {
            "panics" => panic!("in initialize"),
            "hangs" => {
                self.log.say("initialize began");
                std::future::pending::<()>().await;
            }
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
    ) -> Result<CallToolResponse, ErrorData> {
        let text = match &*params.name {
            "echo" => "echo".to_owned(),
            "big" => {
                self.log.say("big began");
                "x".repeat(16 << 20)
            }
            "count" => {
                for number in 0..10 {
                    let token = ProgressToken(rmcp::model::NumberOrString::Number(7));
                    let progress = ProgressNotificationParam::new(token, f64::from(number))
                        .with_message(format!("number {number}"));
                    context.peer.notify_progress(progress).await.ok();
                    if number == 4 {
                        self.release.notified().await;
                    }
                }
                "counted".to_owned()
            }
            "panic" => panic!("in a tool"),
            "wait" => {
                let _witness = Witness(self.log.clone(), "wait gone");
                self.log.say("wait began");
                tokio::select! {
                    () = self.release.notified() => self.log.say("wait released"),
                    () = context.ct.cancelled() => self.log.say("wait cancelled"),
                }
                "waited".to_owned()
            }
            "stubborn" => {
                let _witness = Witness(self.log.clone(), "stubborn gone");
                self.log.say("stubborn began");
                self.release.notified().await;
                "late".to_owned()
            }
            "flood" => {
                let _witness = Witness(self.log.clone(), "flood gone");
                self.log.say("flood began");
                loop {
                    let progress = ProgressNotificationParam::new(
                        ProgressToken(rmcp::model::NumberOrString::Number(7)),
                        1.0,
                    )
                    .with_message("x".repeat(64 << 10));
                    if context.peer.notify_progress(progress).await.is_err()
                        || context.ct.is_cancelled()
                    {
                        break;
                    }
                }
                "flooded".to_owned()
            }
            other => return Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// Limits that a test can wait for.
pub(crate) fn brisk() -> Settings {
    Settings {
        handler_grace: Duration::from_millis(100),
        drain_wait: Duration::from_millis(100),
        close_wait: Duration::from_secs(4),
        ..Settings::default()
    }
}

pub(crate) async fn serve(census: &Census, demo: &Demo, settings: Settings) -> Server {
    serve_with(census, demo, settings, ListenerSettings::default()).await
}

pub(crate) async fn serve_with(
    census: &Census,
    demo: &Demo,
    settings: Settings,
    listener: ListenerSettings,
) -> Server {
    let sessions = Sessions::start(settings, census).expect("started");
    let demo = demo.clone();
    let config =
        StreamableHttpServerConfig::default().with_sse_keep_alive(Some(Duration::from_millis(20)));
    let mcp = sessions.service(move || Ok(demo.clone()), config);
    let app = axum::Router::new().nest_service("/mcp", mcp);
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    Server::serve(socket, app, sessions, listener, census).expect("served")
}
