//! Servers, ends and the census as JSON.

use std::time::Duration;

use serde_json::{Value, json};

#[cfg(feature = "http-client")]
use crate::http::HttpTeardown;
use crate::{
    census::Census,
    host::{ConnectionEnd, ServerEnd, ServerState, ServerView},
    process::ProcessId,
    stdio::Teardown,
};

/// How many rows of the census an answer has; all are counted.
const SHOWN_ROWS: usize = 10_000;

pub(super) fn server(view: &ServerView) -> Value {
    let (state, why) = state(&view.state);
    json!({
        "name": &*view.name,
        "state": state,
        "why": why,
        "process": view.process.map(process),
        "opened_at": view.opened_at.to_string(),
        "tools": view.catalog.tools.len(),
        "resources": view.catalog.resources.len(),
        "resource_templates": view.catalog.resource_templates.len(),
        "prompts": view.catalog.prompts.len(),
        "problems": view.catalog.problems,
    })
}

fn state(state: &ServerState) -> (&'static str, Option<&str>) {
    match state {
        ServerState::Connecting => ("connecting", None),
        ServerState::Ready => ("ready", None),
        ServerState::Restarting { why, .. } => ("restarting", Some(why)),
        ServerState::Dead { why } => ("dead", Some(why)),
        ServerState::Closing => ("closing", None),
    }
}

pub(super) fn end(end: &ServerEnd) -> Value {
    json!({
        "name": &*end.server,
        "reason": end.reason.to_string(),
        "died": end.died.as_deref(),
        "clean": end.is_clean(),
        "connection": end.connection.as_ref().map(connection),
    })
}

fn connection(end: &ConnectionEnd) -> Value {
    let mut shown = match end {
        ConnectionEnd::Stdio(teardown) => stdio(teardown),
        ConnectionEnd::Stream(end) => json!({
            "kind": "stream",
            "cause": end.cause.to_string(),
            "peer_ended": end.peer_ended,
        }),
        #[cfg(feature = "http-client")]
        ConnectionEnd::Http(teardown) => http(teardown),
    };
    shown["forced"] = end.was_forced().into();
    shown["complete"] = end.is_complete().into();
    shown["took_ms"] = ms(end.took()).into();
    shown
}

fn stdio(teardown: &Teardown) -> Value {
    let rungs = teardown.rungs.iter();
    let swept = teardown.swept.iter();
    json!({
        "kind": "stdio",
        "process": process(teardown.process),
        "cause": teardown.cause.to_string(),
        "exit": teardown.exit.map(|exit| exit.to_string()),
        "rungs": rungs
            .map(|(rung, at)| json!({ "rung": rung.to_string(), "at_ms": ms(*at) }))
            .collect::<Vec<_>>(),
        "swept": swept
            .map(|member| json!({ "process": process(member.process), "command": member.command }))
            .collect::<Vec<_>>(),
        "problems": teardown.problems,
    })
}

#[cfg(feature = "http-client")]
fn http(teardown: &HttpTeardown) -> Value {
    json!({
        "kind": "http",
        "cause": teardown.cause.to_string(),
        "session": teardown.session.to_string(),
        "sockets": teardown.sockets,
        "streams": teardown.streams,
        "problems": teardown.problems,
    })
}

fn process(process: ProcessId) -> Value {
    json!({ "pid": process.pid, "start_time_ticks": process.start_time_ticks })
}

pub(super) fn census(census: &Census) -> Value {
    let rows = census.rows();
    let shown: Vec<Value> = rows
        .iter()
        .take(SHOWN_ROWS)
        .map(|row| {
            json!({
                "kind": row.kind.to_string(),
                "name": &*row.name,
                "state": &*row.state,
                "opened_at": row.opened_at.to_string(),
                "age_ms": ms(row.age),
            })
        })
        .collect();
    let drops: Vec<Value> = census
        .drops()
        .iter()
        .map(|drop| {
            json!({
                "kind": drop.kind.to_string(),
                "name": &*drop.name,
                "opened_at": drop.opened_at.to_string(),
            })
        })
        .collect();
    json!({
        "alive": rows.len(),
        "shown": shown.len(),
        "rows": shown,
        "dropped_without_close": { "count": census.dropped_without_close(), "latest": drops },
    })
}

/// Milliseconds, to the microsecond.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
