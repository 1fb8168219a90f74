//! What a server offers, as last fetched.

use std::sync::Arc;

use rmcp::{
    RoleClient, ServiceError,
    model::{ErrorCode, PaginatedRequestParams, Prompt, Resource, ResourceTemplate, Tool},
    service::Peer,
};

use super::{Settings, service::Lists};

/// The lists of a server. The host keeps the latest; after the server's end it keeps none, so a
/// catalog that you hold is the last there is of it.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Its tools.
    pub tools: Vec<Tool>,
    /// Its resources.
    pub resources: Vec<Resource>,
    /// Its templates of resources.
    pub resource_templates: Vec<ResourceTemplate>,
    /// Its prompts.
    pub prompts: Vec<Prompt>,
    /// Lists that could not be fetched, or not whole; they hold what came before that.
    pub problems: Vec<String>,
}

impl Catalog {
    /// Fetches `which` of the lists that the server says it has; the others stay as they are in `old`.
    pub(super) async fn fetch(
        peer: &Peer<RoleClient>,
        which: Lists,
        old: &Catalog,
        settings: &Settings,
    ) -> Catalog {
        let mut new = old.clone();
        new.problems.clear();
        let Some(info) = peer.peer_info() else {
            return new;
        };
        let has = &info.capabilities;
        let mut problems = Vec::new();
        let deadline = tokio::time::Instant::now().checked_add(settings.catalog_wait);
        let mut fetch = Fetch { settings, deadline, problems: &mut problems };
        if which.tools && has.tools.is_some() {
            new.tools = fetch
                .all("tools", |page| async move {
                    peer.list_tools(page).await.map(|list| (list.tools, list.next_cursor))
                })
                .await;
        }
        if which.resources && has.resources.is_some() {
            new.resources = fetch
                .all("resources", |page| async move {
                    peer.list_resources(page).await.map(|list| (list.resources, list.next_cursor))
                })
                .await;
            new.resource_templates = fetch
                .all("resource templates", |page| async move {
                    let list = peer.list_resource_templates(page).await;
                    list.map(|list| (list.resource_templates, list.next_cursor))
                })
                .await;
        }
        if which.prompts && has.prompts.is_some() {
            new.prompts = fetch
                .all("prompts", |page| async move {
                    peer.list_prompts(page).await.map(|list| (list.prompts, list.next_cursor))
                })
                .await;
        }
        new.problems = problems;
        new
    }
}

struct Fetch<'a> {
    settings: &'a Settings,
    deadline: Option<tokio::time::Instant>,
    problems: &'a mut Vec<String>,
}

impl Fetch<'_> {
    /// All pages, up to the limits. What goes wrong is noted, and ends this list only.
    async fn all<T, F>(
        &mut self,
        what: &str,
        page: impl Fn(Option<PaginatedRequestParams>) -> F,
    ) -> Vec<T>
    where
        F: Future<Output = Result<(Vec<T>, Option<String>), ServiceError>>,
    {
        let (pages, items) = (self.settings.catalog_pages, self.settings.catalog_items);
        let mut found = Vec::new();
        let mut cursor = None;
        for _ in 0..pages {
            let params = cursor
                .take()
                .map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let asked = page(params);
            let answer = match self.deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, asked).await,
                None => Ok(asked.await),
            };
            let next = match answer {
                Ok(Ok((some, next))) => {
                    found.extend(some);
                    next
                }
                Ok(Err(ServiceError::McpError(error)))
                    if error.code == ErrorCode::METHOD_NOT_FOUND =>
                {
                    return found;
                }
                Ok(Err(error)) => {
                    self.problems.push(format!("{what}: {error}"));
                    return found;
                }
                Err(_) => {
                    let waited = self.settings.catalog_wait;
                    self.problems.push(format!(
                        "{what}: not all there within {waited:?} (`Settings::catalog_wait`)"
                    ));
                    return found;
                }
            };
            if found.len() > items {
                found.truncate(items);
                self.problems
                    .push(format!("{what}: cut after {items} (`Settings::catalog_items`)"));
                return found;
            }
            match next {
                Some(next) => cursor = Some(next),
                None => return found,
            }
        }
        self.problems.push(format!("{what}: cut after {pages} pages (`Settings::catalog_pages`)"));
        found
    }
}

/// A catalog for those who have none.
pub(super) fn empty() -> Arc<Catalog> {
    Arc::default()
}
