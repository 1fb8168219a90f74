//! The endpoints.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use http::{Method, Request, StatusCode, Uri, header};
use serde_json::{Value, json};
use tower_service::Service;

use super::{
    Figure, MoreFigures, entry, figures, metrics, secrets::Secrets, serve::Counts, show,
    trouble::Trouble,
};
use crate::host::Host;

/// What the endpoints work on.
pub(super) struct Api {
    /// A guest: it does not keep the host.
    pub(super) host: Host,
    pub(super) more: Vec<MoreFigures>,
    pub(super) counts: Arc<Counts>,
}

impl Api {
    /// Answers a request that may ask.
    pub(super) async fn answer(self: &Arc<Self>, request: Request<Body>) -> Response {
        let mut router = router().with_state(Arc::clone(self));
        match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn figures(&self) -> Vec<Figure> {
        figures::all(&self.host.statistics(), self.host.census(), &self.counts, &self.more)
    }
}

fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/mcp/servers", get(list).post(add))
        .route("/mcp/servers/{name}", delete(remove))
        .route("/mcp/health", get(health))
        .route("/mcp/census", get(census))
        .route("/metrics", get(scrape))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
}

async fn list(State(api): State<Arc<Api>>) -> Response {
    let servers: Vec<Value> = api.host.servers().iter().map(show::server).collect();
    let mut shown = json!({ "closed": api.host.is_closed(), "servers": servers });
    Secrets::of(&api.host).hide(&mut shown);
    Json(shown).into_response()
}

async fn add(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let wanted = match entry::read(&body) {
        Ok(wanted) => wanted,
        Err(trouble) => return trouble.into_response(),
    };
    let name = wanted.name;
    let mut secrets = Secrets::of(&api.host);
    secrets.learn(Arc::clone(&name), &wanted.spec);
    let added = api.host.add(Arc::clone(&name), wanted.spec, wanted.on_duplicate).await;
    let (status, mut shown) = match added {
        Ok(added) => {
            let server = api.host.server(&name).ok();
            let shown = json!({
                "server": server.as_ref().map(show::server),
                "replaced": added.replaced.as_deref().map(show::end),
            });
            (StatusCode::CREATED, shown)
        }
        Err(error) => {
            let trouble = Trouble::adding(&error);
            (trouble.status, trouble.to_json())
        }
    };
    secrets.hide_of(&name, &mut shown);
    (status, Json(shown)).into_response()
}

async fn remove(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Response {
    let secrets = Secrets::of(&api.host);
    let Some(end) = api.host.remove(&name).await else {
        let names: Vec<_> = api.host.servers().into_iter().map(|view| view.name).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Trouble::new(
            StatusCode::NOT_FOUND,
            format!("there is no server `{name}`; the host has {known}"),
            "it was removed already, never got ready, or its name is written differently",
            "see GET /mcp/servers",
        )
        .into_response();
    };
    let mut shown = json!({ "removed": show::end(&end) });
    secrets.hide_of(&name, &mut shown);
    Json(shown).into_response()
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    let mut secrets = Secrets::of(&api.host);
    let health = api.host.health().await;
    secrets.learn_all(&api.host);
    let mut shown = json!({
        "healthy": health.dropped.is_empty(),
        "dropped": health.dropped.iter().map(|end| show::end(end)).collect::<Vec<_>>(),
        "servers": health.servers.iter().map(show::server).collect::<Vec<_>>(),
    });
    secrets.hide(&mut shown);
    Json(shown).into_response()
}

async fn census(State(api): State<Arc<Api>>) -> Response {
    let secrets = Secrets::of(&api.host);
    let mut shown = show::census(api.host.census());
    shown["figures"] = figures::to_json(&api.figures());
    secrets.hide(&mut shown);
    Json(shown).into_response()
}

async fn scrape(State(api): State<Arc<Api>>) -> Response {
    match metrics::text(api.figures(), api.host.statistics().teardowns) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => Trouble::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("writing the metrics: {error}"),
            "a figure of the program has a name or a label that cannot be written",
            "see which figures the program adds (`Settings::figures`)",
        )
        .into_response(),
    }
}

async fn no_such_path(uri: Uri) -> Trouble {
    Trouble::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {}", uri.path()),
        "the path is misspelt",
        "there are /mcp/servers, /mcp/servers/{name}, /mcp/health, /mcp/census and /metrics",
    )
}

async fn no_such_method(method: Method, uri: Uri) -> Trouble {
    Trouble::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not know {method}", uri.path()),
        "the method is that of another endpoint",
        "GET and POST /mcp/servers, DELETE /mcp/servers/{name}, GET the others",
    )
}
