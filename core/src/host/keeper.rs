//! Keeps the lists of a connection: fetched when it opens, and again when the server says that they
//! have changed.

use std::{convert::Infallible, sync::Arc, time::Duration};

use rmcp::{
    model::{ProtocolVersion, ServerPeerInfo, SubscriptionFilter},
    service::{ClientCacheConfig, Subscription},
};
use tokio::time::Instant;

use super::{
    Catalog, What,
    registry::Registry,
    server::{Live, Server},
    service::{Changes, Lists},
};
use crate::scope::Ready;

/// Between two fetches, so that a server that announces a change at each fetch does not keep both
/// sides busy.
const FETCH_PAUSE: Duration = Duration::from_millis(50);
/// Before a subscription that ended is opened again.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// Gets the lists, says that the server is ready, and stays until it is dropped.
pub(super) async fn keep(
    server: &Server,
    registry: &Registry,
    live: &Arc<Live>,
    changes: &Changes,
    ready: &mut Option<Ready>,
    ready_since: &mut Option<Instant>,
) -> Infallible {
    let settings = &registry.settings;
    // Before anything is awaited, so that no change is missed.
    let mut roots = registry.roots.subscribe();
    // A cached answer of a server that is gone would hide that it is, and the lists are kept here.
    live.peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
    let mut announcements = Announcements::open(live, settings.catalog_wait).await;
    let catalog = Catalog::fetch(&live.peer, Lists::ALL, &Catalog::default(), settings).await;
    if server.ready(live, catalog) {
        *ready_since = Some(Instant::now());
        registry.tell(&server.name, What::Ready);
        match ready.take() {
            Some(ready) => ready.signal(),
            None => registry.counts.restarted(),
        }
    }
    loop {
        let which = tokio::select! {
            which = changes.next() => which,
            Ok(()) = roots.changed() => {
                tell_roots(live, settings.call_wait).await;
                continue;
            }
            never = announcements.pass_on(live, changes) => match never {},
        };
        let catalog = Catalog::fetch(&live.peer, which, &server.catalog(), settings).await;
        if server.set_catalog(catalog) {
            registry.tell(&server.name, What::CatalogChanged);
        }
        tokio::time::sleep(FETCH_PAUSE).await;
    }
}

/// Older servers are told that there are other roots; newer ones ask whenever they want to know.
async fn tell_roots(live: &Live, wait: Duration) {
    let is_older = |info: Arc<ServerPeerInfo>| info.protocol_version.has_initialize();
    if live.peer.peer_info().is_some_and(is_older) {
        let told = tokio::time::timeout(wait, live.peer.notify_roots_list_changed()).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::debug!(?told, "the server could not be told of other roots");
        }
    }
}

/// From MCP 2026-07-28 on, changes are told to those who listen only.
struct Announcements {
    filter: Option<SubscriptionFilter>,
    subscription: Option<Subscription>,
    wait: Duration,
}

impl Announcements {
    async fn open(live: &Live, wait: Duration) -> Self {
        let mut announcements = Self { filter: filter(live), subscription: None, wait };
        announcements.listen(live).await;
        announcements
    }

    async fn listen(&mut self, live: &Live) {
        let Some(filter) = self.filter.clone() else {
            return;
        };
        match tokio::time::timeout(self.wait, live.peer.listen(filter)).await {
            Ok(Ok(subscription)) => self.subscription = Some(subscription),
            Ok(Err(error)) => tracing::debug!(%error, "the server takes no subscription"),
            Err(_) => tracing::debug!("the server did not answer a subscription"),
        }
    }

    /// Hands announcements on; dropping the future loses none.
    async fn pass_on(&mut self, live: &Live, changes: &Changes) -> Infallible {
        if self.filter.is_none() {
            return std::future::pending().await;
        }
        loop {
            match &mut self.subscription {
                Some(subscription) => match subscription.next().await {
                    Ok(Some(notification)) => {
                        changes.note(&notification);
                    }
                    Ok(None) | Err(_) => self.subscription = None,
                },
                None => {
                    tokio::time::sleep(LISTEN_PAUSE).await;
                    self.listen(live).await;
                    if self.subscription.is_some() {
                        // What changed in between was told to nobody.
                        changes.all();
                    }
                }
            }
        }
    }
}

/// What to listen for: the lists that the server says may change; `None` where it is told unasked.
fn filter(live: &Live) -> Option<SubscriptionFilter> {
    let info = live.peer.peer_info()?;
    if info.protocol_version < ProtocolVersion::V_2026_07_28 {
        return None;
    }
    let has = &info.capabilities;
    let changes = |list_changed: Option<bool>| list_changed == Some(true);
    let tools = has.tools.as_ref().is_some_and(|tools| changes(tools.list_changed));
    let prompts = has.prompts.as_ref().is_some_and(|prompts| changes(prompts.list_changed));
    let resources = has.resources.as_ref().is_some_and(|list| changes(list.list_changed));
    let mut filter = SubscriptionFilter::builder();
    if tools {
        filter = filter.tools_list_changed();
    }
    if prompts {
        filter = filter.prompts_list_changed();
    }
    if resources {
        filter = filter.resources_list_changed();
    }
    (tools || prompts || resources).then(|| filter.build())
}
