//! A client of a server that misbehaves, and what its tests ask of it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it, so an expectation would fail in some"
)]

use std::{io::Write, time::Duration};

use rmcp::{ServiceError, model::CallToolRequestParams};
use scupper_core::{
    census::Census,
    http::{HttpClient, HttpConnectError, HttpServer, HttpSettings, HttpTeardown},
};

use crate::{
    rude::Exchange,
    support::{assert_empty, settle, within},
};

pub(crate) fn settings() -> HttpSettings {
    HttpSettings {
        answer_wait: Duration::from_secs(10),
        delete_wait: Duration::from_secs(10),
        reconnect_wait: Duration::from_millis(5),
        ..HttpSettings::default()
    }
}

pub(crate) fn server(url: &str) -> HttpServer {
    HttpServer::new(url).expect("a URL").named("rude").with_settings(settings())
}

pub(crate) async fn connect(server: &HttpServer, census: &Census) -> HttpClient<()> {
    within(server.connect((), census)).await.expect("connected")
}

/// Why there is no connection.
pub(crate) async fn refusal(server: &HttpServer, census: &Census) -> (String, HttpTeardown) {
    let before = tasks();
    let error = within(server.connect((), census)).await.expect_err("no connection");
    assert_empty(census);
    settle("tasks", || (tasks() <= before, tasks())).await;
    // What is in the sources is also there for whoever prints the error alone.
    match error {
        HttpConnectError::Handshake { ref ended, .. }
        | HttpConnectError::TimedOut { ref ended, .. } => (error.to_string(), (**ended).clone()),
        other => panic!("{other}"),
    }
}

pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Closes, and sees that nothing is left.
pub(crate) async fn close(client: HttpClient<()>, census: &Census) -> HttpTeardown {
    let teardown = within(client.close()).await;
    assert_empty(census);
    assert!(teardown.problems.is_empty(), "{teardown}");
    settle("tasks", || (tasks() == 0, tasks())).await;
    teardown
}

pub(crate) async fn call(client: &HttpClient<()>) -> Result<(), String> {
    match within(client.call_tool(CallToolRequestParams::new("any"))).await {
        Ok(_) => Ok(()),
        Err(ServiceError::TransportSend(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[track_caller]
pub(crate) fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no `{wanted}` in: {text}");
    }
}

pub(crate) fn flood(exchange: &mut Exchange, drop: &str) -> std::io::Result<()> {
    let wave = drop.repeat(4096);
    loop {
        exchange.socket.write_all(wave.as_bytes())?;
    }
}
