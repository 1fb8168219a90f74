//! HTTP servers of a host, beside stdio servers and alone.

#[path = "support/http_server.rs"]
mod http_server;
mod support;

use http_server::{HttpPeer, serve_if_asked};
use rmcp::model::CallToolRequestParams;
use scupper_core::{
    census::Kind,
    host::{ConnectionEnd, EndReason, Era, Host, HostError, OnDuplicate, ServerSpec, ServerState},
    http::SessionEnd,
};
use support::{hosted::*, *};

const SERVER: &str = "the_server_of_these_tests_serves_and_ends";

/// The other tests' server is this test in another process.
#[test]
fn the_server_of_these_tests_serves_and_ends() {
    if !serve_if_asked() {
        assert_eq!(HttpPeer::start(SERVER).count("sessions"), 0);
    }
}

fn echo(text: &str) -> CallToolRequestParams {
    let arguments = serde_json::json!({ "text": text });
    tool("echo").with_arguments(arguments.as_object().expect("an object").clone())
}

async fn add_http(host: &Host, name: &str, url: &str, era: Era) {
    add(host, name, ServerSpec::http(url).expect("a URL").with_era(era)).await;
}

fn session_end(end: &Option<ConnectionEnd>) -> &SessionEnd {
    match end {
        Some(ConnectionEnd::Http(teardown)) => &teardown.session,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_server_is_added_called_and_removed_and_its_session_deleted() {
    let peer = HttpPeer::start(SERVER);
    let host = host();
    add_http(&host, "older", &peer.url(), Era::Initialize).await;
    add_http(&host, "newer", &peer.url(), Era::Auto).await;
    add(&host, "child", hosted("", "")).await;
    assert_eq!(peer.count("sessions"), 1, "the newer protocol has none");
    assert_eq!(host.servers_with_tool("wait").len(), 2);
    for name in ["older", "newer"] {
        let answer = within(host.call_tool(name, echo("again"))).await.unwrap();
        assert_eq!(answer.content[0].as_text().unwrap().text, "again");
    }

    let end = within(host.remove("older")).await.unwrap();

    assert_eq!(*session_end(&end.connection), SessionEnd::Deleted);
    assert_eq!(peer.count("sessions"), 0);
    let answer = within(host.call_tool("newer", echo("still"))).await.unwrap();
    assert_eq!(answer.content[0].as_text().unwrap().text, "still");
    let shutdown = within(host.shutdown(ENOUGH)).await;
    assert!(shutdown.servers.iter().all(|end| end.is_clean()), "{shutdown}");
    assert_empty(host.census());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_under_way_ends_with_its_server() {
    let peer = HttpPeer::start(SERVER);
    let host = host();
    add_http(&host, "older", &peer.url(), Era::Initialize).await;
    let waiting = tokio::spawn({
        let host = host.clone();
        async move { host.call_tool("older", tool("wait")).await }
    });
    settle("waiting", || (peer.count("waiting") == 1, ())).await;
    within(host.remove("older")).await.unwrap();
    let error = within(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, HostError::Ended { reason: EndReason::Removed, .. }), "{error}");
    settle("cancelled", || (peer.count("waiting") == 0, peer.count("waiting"))).await;
    assert_empty(host.census());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_request_fails_one_call_and_hinders_nobody_s_end() {
    let peer = HttpPeer::start(SERVER);
    let host = host();
    add_http(&host, "gone", &peer.url(), Era::Auto).await;
    add(&host, "child", hosted("", "")).await;
    drop(peer);
    let error = within(host.call_tool("gone", echo("anybody there"))).await.unwrap_err();
    assert!(matches!(error, HostError::Refused { .. }), "{error}");
    assert_eq!(host.server("gone").unwrap().state, ServerState::Ready, "it may come back");
    let shutdown = within(host.shutdown(ENOUGH)).await;
    assert_eq!(shutdown.servers.len(), 2);
    assert_empty(host.census());
}

#[tokio::test]
async fn a_server_that_nobody_runs_is_an_error_with_a_cause() {
    let host = host();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", unused.local_addr().unwrap());
    drop(unused);
    let spec = ServerSpec::http(&url).unwrap();
    let error = within(host.add("nobody", spec, OnDuplicate::Refuse)).await.unwrap_err();
    assert!(error.to_string().contains("is the server running"), "{error}");
    assert_empty(host.census());
    assert_eq!(host.statistics().failed, 1);
}

#[tokio::test]
async fn a_removal_ends_a_connect_to_a_server_that_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let host = host();
    let adding =
        tokio::spawn(host.add("mute", ServerSpec::http(&url).unwrap(), OnDuplicate::Refuse));
    let _socket = within(listener.accept()).await.unwrap();
    let end = within(host.remove("mute")).await.unwrap();
    assert_eq!(end.reason, EndReason::Removed);
    within(adding).await.unwrap().unwrap_err();
    assert_empty(host.census());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_nobody_closed_closes_its_sockets() {
    let peer = HttpPeer::start(SERVER);
    let host = host();
    let census = host.census().clone();
    add_http(&host, "older", &peer.url(), Era::Initialize).await;
    assert!(census.rows().iter().any(|row| row.kind == Kind::Socket), "{census}");
    drop(host);
    assert_eq!(census.drops()[0].kind, Kind::Server);
    settle("empty", || (census.is_empty(), census.to_string())).await;
}
