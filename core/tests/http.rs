//! The HTTP client against rmcp's own server.

#[path = "support/http_server.rs"]
mod http_server;
mod support;

use http_server::{HttpPeer, serve_if_asked};
use rmcp::model::CallToolRequestParams;
use scupper_core::{
    census::{Census, Kind},
    http::{EndCause, HttpServer, SessionEnd},
    lifecycle::State,
};
use support::*;

const SERVER: &str = "the_server_of_these_tests_serves_and_ends";

/// The other tests' server is this test in another process.
#[test]
fn the_server_of_these_tests_serves_and_ends() {
    if !serve_if_asked() {
        assert_eq!(HttpPeer::start(SERVER).count("sessions"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_and_close_ends_the_session() {
    let peer = HttpPeer::start(SERVER);
    let census = Census::new();
    let server = HttpServer::new(&peer.url()).unwrap().named("demo");
    let client = within(server.connect((), &census)).await.unwrap();
    let tools = within(client.list_all_tools()).await.unwrap();
    assert_eq!(tools.len(), 2);
    assert_eq!(client.handle().state(), State::Active);
    assert!(client.handle().session_id().is_some());
    assert_eq!(peer.count("sessions"), 1);
    let kinds: Vec<Kind> = census.rows().iter().map(|row| row.kind).collect();
    for kind in [Kind::Connection, Kind::Session, Kind::Socket, Kind::Task] {
        assert!(kinds.contains(&kind), "no {kind}: {census}");
    }
    let echoed = CallToolRequestParams::new("echo")
        .with_arguments(serde_json::json!({ "text": "again" }).as_object().unwrap().clone());
    let answer = within(client.call_tool(echoed)).await.unwrap();
    assert!(format!("{answer:?}").contains("again"), "{answer:?}");
    let handle = client.handle().clone();
    let teardown = within(client.close()).await;
    assert!(teardown.is_complete(), "{teardown}");
    assert_eq!(teardown.cause, EndCause::Closed);
    assert_eq!(teardown.session, SessionEnd::Deleted);
    assert_eq!(peer.count("sessions"), 0);
    assert_eq!(handle.session_id(), None);
    assert_empty(&census);
}
