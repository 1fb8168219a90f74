//! The host as a server sees it: who answers its requests and hears its notifications.

#![expect(
    deprecated,
    reason = "roots and logging are deprecated by SEP-2577, and older servers use them"
)]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use rmcp::{
    ErrorData, RoleClient, Service,
    model::{
        ClientConfig, ClientResult, ListRootsResult, LoggingMessageNotificationParam, Root,
        ServerNotification, ServerRequest,
    },
    service::{DynService, NotificationContext, RequestContext},
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::lock;

/// The service of one connection. It knows nothing of the host but what it holds here, so rmcp, which
/// holds it, holds nothing else of the host.
pub(super) struct HostService {
    pub(super) config: ClientConfig,
    pub(super) roots: watch::Receiver<Vec<Root>>,
    pub(super) handler: Option<Arc<dyn DynService<RoleClient>>>,
    pub(super) changes: Arc<Changes>,
    pub(super) messages: Arc<Messages>,
    /// Cancelled at the end of the connection, so that no handler outlives it.
    pub(super) ended: CancellationToken,
    /// Counts the handlers at work, which rmcp runs as tasks that nobody else counts.
    pub(super) at_work: TaskTracker,
}

/// What the server has logged lately, the oldest first.
#[derive(Debug)]
pub(super) struct Messages {
    limit: usize,
    kept: Mutex<VecDeque<LoggingMessageNotificationParam>>,
}

impl Messages {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, kept: Mutex::default() })
    }

    fn note(&self, notification: &ServerNotification) {
        let ServerNotification::LoggingMessageNotification(logged) = notification else {
            return;
        };
        let mut kept = lock(&self.kept);
        while kept.len() >= self.limit.max(1) {
            kept.pop_front();
        }
        if self.limit > 0 {
            kept.push_back(logged.params.clone());
        }
    }

    pub(super) fn read(&self) -> Vec<LoggingMessageNotificationParam> {
        lock(&self.kept).iter().cloned().collect()
    }
}

/// Which lists the server says it has changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    which: Mutex<Lists>,
    told: Notify,
}

/// A set of lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    pub(super) tools: bool,
    pub(super) resources: bool,
    pub(super) prompts: bool,
}

impl Lists {
    pub(super) const ALL: Lists = Lists { tools: true, resources: true, prompts: true };

    fn is_empty(self) -> bool {
        self == Lists::default()
    }
}

impl Changes {
    /// Takes note of a notification; `false` if it is none of these.
    pub(super) fn note(&self, notification: &ServerNotification) -> bool {
        let mut which = lock(&self.which);
        match notification {
            ServerNotification::ToolListChangedNotification(_) => which.tools = true,
            ServerNotification::ResourceListChangedNotification(_) => which.resources = true,
            ServerNotification::PromptListChangedNotification(_) => which.prompts = true,
            _ => return false,
        }
        self.told.notify_one();
        true
    }

    /// Any of them may have changed.
    pub(super) fn all(&self) {
        *lock(&self.which) = Lists::ALL;
        self.told.notify_one();
    }

    /// The lists that changed since the last call; waits until there is one.
    pub(super) async fn next(&self) -> Lists {
        loop {
            let lists = std::mem::take(&mut *lock(&self.which));
            if !lists.is_empty() {
                return lists;
            }
            self.told.notified().await;
        }
    }
}

impl HostService {
    pub(super) async fn answer(
        &self,
        request: ServerRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        match (request, &self.handler) {
            (ServerRequest::ListRootsRequest(_), _) => {
                let roots = self.roots.borrow().clone();
                Ok(ClientResult::ListRootsResult(ListRootsResult::new(roots)))
            }
            (request, Some(handler)) => handler.handle_request(request, context).await,
            (request, None) => Service::handle_request(&(), request, context).await,
        }
    }
}

impl Service<RoleClient> for HostService {
    async fn handle_request(
        &self,
        request: ServerRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        let _at_work = self.at_work.token();
        tokio::select! {
            biased;
            () = self.ended.cancelled() => {
                Err(ErrorData::internal_error("the host has closed the connection", None))
            }
            answer = self.answer(request, context) => answer,
        }
    }

    async fn handle_notification(
        &self,
        notification: ServerNotification,
        context: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        let _at_work = self.at_work.token();
        self.changes.note(&notification);
        self.messages.note(&notification);
        let Some(handler) = &self.handler else {
            return Ok(());
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Ok(()),
            heard = handler.handle_notification(notification, context) => heard,
        }
    }

    fn get_info(&self) -> ClientConfig {
        match &self.handler {
            Some(handler) => handler.get_info(),
            None => self.config.clone(),
        }
    }
}
