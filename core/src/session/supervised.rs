//! A handler whose requests end: a panic is answered, and a cancelled request does not run on.
//!
//! rmcp gives each request a task of its own and does not abort it. A handler that panics leaves its
//! client waiting for ever, and one that ignores its cancellation runs on after its session.

#![expect(deprecated, reason = "what rmcp still calls for older clients is passed on as it is")]

use std::{
    borrow::Cow,
    sync::{
        Arc, Weak,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelledNotificationParam,
        CompleteRequestParams, CompleteResult, CustomNotification, CustomRequest, CustomResult,
        DiscoverResult, Extensions, GetPromptRequestParams, GetPromptResponse,
        GetSkillRequestParams, GetSkillResult, GetTaskParams, GetTaskResult,
        InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult,
        ListResourcesResult, ListSkillsResult, ListToolsResult, PaginatedRequestParams,
        ProgressNotificationParam, ProtocolVersion, ReadResourceDirectoryRequestParams,
        ReadResourceDirectoryResult, ReadResourceRequestParams, ReadResourceResponse, RequestId,
        ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
        UnsubscribeRequestParams, UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
};
use tokio_util::sync::CancellationToken;

use super::{SessionId, record::Session, statistics::Counters};
use crate::{
    census::{Census, Kind},
    scope::catch_panic,
};

/// Tells the handlers of a request which session they work for.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    session: Weak<Session>,
    closing: CancellationToken,
    request: Option<RequestId>,
}

impl Ticket {
    pub(super) fn new(session: &Arc<Session>, request: Option<RequestId>) -> Self {
        Self { session: Arc::downgrade(session), closing: session.closing.clone(), request }
    }

    fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Ticket>().cloned()
    }
}

/// The session that a handler works for, by the extensions of its context; `None` for a request
/// without one, and once the session is gone. Known in `initialize` too, where no header has it yet.
pub fn session_of(extensions: &Extensions) -> Option<SessionId> {
    let session = extensions.get::<Ticket>()?.session.upgrade()?;
    Some(Arc::clone(&session.id))
}

/// A [`ServerHandler`] under supervision; made by [`Sessions::service`](super::Sessions::service).
///
/// A handler that panics is answered with an internal error, and its session ends, because what it
/// shares with other requests may be half done; a panic inside `initialize` passes on and is answered
/// with 500. A handler whose request is cancelled has `handler_grace` to end, and is dropped at the
/// await it is at. Each running handler has a row in the census.
#[derive(Debug)]
pub struct Supervised<S> {
    handler: S,
    grace: Duration,
    census: Census,
    counters: Arc<Counters>,
}

impl<S> Supervised<S> {
    pub(super) fn new(
        handler: S,
        grace: Duration,
        census: &Census,
        counters: &Arc<Counters>,
    ) -> Self {
        Self { handler, grace, census: census.clone(), counters: Arc::clone(counters) }
    }

    /// Runs a handler until it ends, or until its grace after the cancellation is over. None runs that was
    /// spawned and had no turn before its server closed.
    async fn bounded<F: Future>(
        &self,
        name: &'static str,
        cancelled: CancellationToken,
        ticket: Option<&Ticket>,
        handler: F,
    ) -> Option<F::Output> {
        let _running = Running::new(&self.counters)?;
        let _row = self.census.enter(Kind::Task, name, "handler", std::panic::Location::caller());
        let closing = ticket.map(|ticket| ticket.closing.clone());
        let grace = self.grace;
        let over = async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = async { match &closing {
                    Some(closing) => closing.cancelled().await,
                    None => std::future::pending().await,
                } } => {}
            }
            tokio::time::sleep(grace).await;
            if sabotaged!(HandlerRunsOn) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            output = handler => Some(output),
            () = over => {
                tracing::warn!(handler = name, "dropped: it went on after its cancellation");
                None
            }
        }
    }

    async fn request<T>(
        &self,
        name: &'static str,
        cancelled: CancellationToken,
        ticket: Option<Ticket>,
        handler: impl Future<Output = Result<T, ErrorData>>,
    ) -> Result<T, ErrorData> {
        let caught = catch_panic(handler);
        match self.bounded(name, cancelled, ticket.as_ref(), caught).await {
            Some(Ok(result)) => result,
            Some(Err(message)) => Err(panicked(name, &message, ticket)),
            None => Err(ErrorData::internal_error(
                format!(
                    "{name} was dropped: it went on after it had been cancelled, or the server closed"
                ),
                None,
            )),
        }
    }

    async fn notification(
        &self,
        name: &'static str,
        ticket: Option<Ticket>,
        handler: impl Future<Output = ()>,
    ) {
        let caught = catch_panic(handler);
        if let Some(Err(message)) =
            self.bounded(name, CancellationToken::new(), ticket.as_ref(), caught).await
        {
            panicked(name, &message, ticket);
        }
    }
}

/// Counts a handler while it lives.
struct Running<'a>(&'a Counters);

impl<'a> Running<'a> {
    /// `None` once the sessions are closed. Whoever closes them says so first and counts then, and here it is
    /// the other way round, so that no handler is missed by both.
    fn new(counters: &'a Counters) -> Option<Self> {
        counters.handlers.fetch_add(1, SeqCst);
        let running = Self(counters);
        (!counters.closed.load(SeqCst)).then_some(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.handlers.fetch_sub(1, Relaxed);
    }
}

/// Ends the session of a handler that panicked; what its client is told.
fn panicked(name: &'static str, message: &str, ticket: Option<Ticket>) -> ErrorData {
    tracing::error!(handler = name, message, "panicked");
    if let Some(ticket) = ticket
        && let Some(session) = ticket.session.upgrade()
    {
        session.panicked(ticket.request);
    }
    // What it said is for the server's log: it may hold what is no business of the client's.
    ErrorData::internal_error(format!("{name} panicked; its session ends"), None)
}

macro_rules! requests {
    ($($name:ident($($params:ident: $Params:ty)?) -> $Result:ty;)*) => {
        $(async fn $name(
            &self,
            $($params: $Params,)?
            context: RequestContext<RoleServer>,
        ) -> Result<$Result, ErrorData> {
            let (cancelled, ticket) = (context.ct.clone(), Ticket::of(&context.extensions));
            let handler = self.handler.$name($($params,)? context);
            self.request(stringify!($name), cancelled, ticket, handler).await
        })*
    };
}

macro_rules! notifications {
    ($($name:ident($($params:ident: $Params:ty)?);)*) => {
        $(async fn $name(
            &self,
            $($params: $Params,)?
            context: NotificationContext<RoleServer>,
        ) {
            let ticket = Ticket::of(&context.extensions);
            let handler = self.handler.$name($($params,)? context);
            self.notification(stringify!($name), ticket, handler).await;
        })*
    };
}

impl<S: ServerHandler> ServerHandler for Supervised<S> {
    requests! {
        ping() -> ();
        discover() -> DiscoverResult;
        complete(params: CompleteRequestParams) -> CompleteResult;
        set_level(params: SetLevelRequestParams) -> ();
        get_prompt(params: GetPromptRequestParams) -> GetPromptResponse;
        list_prompts(params: Option<PaginatedRequestParams>) -> ListPromptsResult;
        list_resources(params: Option<PaginatedRequestParams>) -> ListResourcesResult;
        list_resource_templates(params: Option<PaginatedRequestParams>) -> ListResourceTemplatesResult;
        read_resource(params: ReadResourceRequestParams) -> ReadResourceResponse;
        subscribe(params: SubscribeRequestParams) -> ();
        unsubscribe(params: UnsubscribeRequestParams) -> ();
        call_tool(params: CallToolRequestParams) -> CallToolResponse;
        list_tools(params: Option<PaginatedRequestParams>) -> ListToolsResult;
        on_custom_request(params: CustomRequest) -> CustomResult;
        get_task(params: GetTaskParams) -> GetTaskResult;
        update_task(params: UpdateTaskParams) -> ();
        cancel_task(params: CancelTaskParams) -> ();
        list_skills(params: Option<PaginatedRequestParams>) -> ListSkillsResult;
        get_skill(params: GetSkillRequestParams) -> GetSkillResult;
        read_resource_directory(params: ReadResourceDirectoryRequestParams) -> ReadResourceDirectoryResult;
    }

    notifications! {
        on_cancelled(params: CancelledNotificationParam);
        on_progress(params: ProgressNotificationParam);
        on_initialized();
        on_roots_list_changed();
        on_custom_notification(params: CustomNotification);
    }

    /// Not caught: rmcp drops the transport of a session whose `initialize` panics, which ends the
    /// session and answers 500.
    async fn initialize(
        &self,
        params: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let (cancelled, ticket) = (context.ct.clone(), Ticket::of(&context.extensions));
        let handler = self.handler.initialize(params, context);
        match self.bounded("initialize", cancelled, ticket.as_ref(), handler).await {
            Some(result) => result,
            None => Err(ErrorData::internal_error("the session ended before it began", None)),
        }
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let request = context.request_context();
        let (cancelled, ticket) = (request.ct.clone(), Ticket::of(&request.extensions));
        let handler = self.handler.listen(context);
        self.request("listen", cancelled, ticket, handler).await
    }

    fn negotiate_initialize(
        &self,
        params: &InitializeRequestParams,
    ) -> Result<InitializeResult, ErrorData> {
        self.handler.negotiate_initialize(params)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.handler.supported_protocol_versions()
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        self.handler.accepted_subscription_filter(requested)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.handler.get_tool(name)
    }

    fn get_info(&self) -> ServerConfig {
        self.handler.get_info()
    }
}
