//! The HTTP client against rmcp's own server, in both eras.

#[path = "support/http_server.rs"]
mod http_server;
mod support;

use http_server::{HttpPeer, serve_if_asked};
use rmcp::{
    ServiceExt,
    model::{CallToolRequestParams, ProtocolVersion},
    service::ClientLifecycleMode,
};
use scupper_core::{
    census::{Census, Kind},
    http::{EndCause, HttpClient, HttpServer, SessionEnd},
    lifecycle::State,
};
use support::{assert_empty, settle, within};

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
    let answer = within(client.call_tool(echo("again"))).await.unwrap();
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

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

fn echo(text: &str) -> CallToolRequestParams {
    let mut arguments = serde_json::Map::new();
    arguments.insert("text".to_owned(), text.into());
    CallToolRequestParams::new("echo").with_arguments(arguments)
}

fn kinds(census: &Census, kind: Kind) -> usize {
    census.rows().iter().filter(|row| row.kind == kind).count()
}

/// Drops a call that the server is at, and waits until the server knows.
async fn drop_a_call(client: &HttpClient<()>, peer: &HttpPeer) {
    let (waiting, cancelled) = (peer.count("waiting"), peer.count("cancelled"));
    tokio::select! {
        answer = client.call_tool(CallToolRequestParams::new("wait")) => panic!("{answer:?}"),
        () = settle("the call", || {
            let now = peer.count("waiting");
            (now == waiting + 1, now)
        }) => {}
    }
    settle("its end", || {
        let now = (peer.count("waiting"), peer.count("cancelled"));
        (now == (waiting, cancelled + 1), now)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_is_cancelled_on_the_server_and_the_connection_lives() {
    let peer = HttpPeer::start(SERVER);
    let server = HttpServer::new(&peer.url()).unwrap();
    let census = Census::new();
    let client = within(server.connect((), &census)).await.unwrap();
    within(drop_a_call(&client, &peer)).await;
    within(client.call_tool(echo("still there"))).await.unwrap();
    assert_eq!(peer.count("sessions"), 1);
    assert!(within(client.close()).await.is_complete());
    assert_empty(&census);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_session_a_dropped_call_closes_its_stream_and_close_deletes_nothing() {
    let peer = HttpPeer::start(SERVER);
    let server = HttpServer::new(&peer.url()).unwrap();
    let census = Census::new();
    let client = within(server.connect_with((), modern(), &census)).await.unwrap();
    assert_eq!(client.handle().session_id(), None);
    assert_eq!((peer.count("sessions"), kinds(&census, Kind::Session)), (0, 0), "{census}");
    within(client.call_tool(echo("hello"))).await.unwrap();
    within(drop_a_call(&client, &peer)).await;
    settle("its stream", || (kinds(&census, Kind::Stream) == 0, census.to_string())).await;
    within(client.call_tool(echo("still there"))).await.unwrap();
    let teardown = within(client.close()).await;
    assert_eq!(teardown.session, SessionEnd::NotNeeded);
    assert!(teardown.is_complete(), "{teardown}");
    assert_empty(&census);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_server_forgot_is_replaced() {
    let peer = HttpPeer::start(SERVER);
    let census = Census::new();
    let server = HttpServer::new(&peer.url()).unwrap();
    let client = within(server.connect((), &census)).await.unwrap();
    let first = client.handle().session_id().unwrap();
    assert_eq!(peer.count("forgotten"), 1);
    within(client.call_tool(echo("in the next one"))).await.unwrap();
    let second = client.handle().session_id().unwrap();
    assert_ne!(first, second);
    assert_eq!((peer.count("sessions"), kinds(&census, Kind::Session)), (1, 1), "{census}");
    assert_eq!(within(client.close()).await.session, SessionEnd::Deleted);
    assert_eq!(peer.count("sessions"), 0);
    assert_empty(&census);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_calls_that_are_under_way() {
    for lifecycle in [ClientLifecycleMode::Initialize, modern()] {
        let peer = HttpPeer::start(SERVER);
        let census = Census::new();
        let server = HttpServer::new(&peer.url()).unwrap();
        let client = within(server.connect_with((), lifecycle, &census)).await.unwrap();
        let handle = client.handle().clone();
        let calls = (0..5).map(|_| client.call_tool(CallToolRequestParams::new("wait")));
        let (answers, teardown) = within(async {
            tokio::join!(futures::future::join_all(calls), async {
                settle("the calls", || (peer.count("waiting") == 5, peer.count("waiting"))).await;
                handle.close().await
            })
        })
        .await;
        for answer in answers {
            answer.expect_err("the call fails");
        }
        assert!(teardown.is_complete(), "{teardown}");
        if teardown.session == SessionEnd::NotNeeded {
            // In the other era rmcp's server lets them run on for 5 s.
            settle("their end", || (peer.count("waiting") == 0, peer.count("waiting"))).await;
        }
        drop(within(client.close()).await);
        assert_empty(&census);
        assert_eq!(census.dropped_without_close(), 0);
        assert_eq!(peer.count("sessions"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_close_tells_the_same_and_use_after_it_is_an_error() {
    let peer = HttpPeer::start(SERVER);
    let census = Census::new();
    let server = HttpServer::new(&peer.url()).unwrap();
    let client = within(server.connect((), &census)).await.unwrap();
    let handle = client.handle().clone();
    let (first, second, third) =
        within(async { tokio::join!(handle.close(), handle.close(), handle.closed()) }).await;
    for teardown in [&second, &third, &handle.kill(), &within(handle.close()).await] {
        assert_eq!(teardown.to_string(), first.to_string());
    }
    assert_eq!((first.session, handle.state()), (SessionEnd::Deleted, State::Closed));
    within(client.list_all_tools()).await.expect_err("closed");
    assert_eq!(within(client.close()).await.cause, EndCause::Closed);
    assert_empty(&census);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_may_run_the_service_itself() {
    let peer = HttpPeer::start(SERVER);
    let census = Census::new();
    let server = HttpServer::new(&peer.url()).unwrap();
    // rmcp's own close ends it, session included.
    let (transport, handle) = server.transport(&census).unwrap();
    let mut client = within(().serve(transport)).await.unwrap();
    within(client.call_tool(echo("hello"))).await.unwrap();
    within(client.close()).await.unwrap();
    assert_eq!(handle.outcome().expect("it has ended").session, SessionEnd::Deleted);
    assert_empty(&census);
    // The handle's close ends rmcp's service.
    let (transport, handle) = server.transport(&census).unwrap();
    let client = within(().serve(transport)).await.unwrap();
    assert_eq!(within(handle.close()).await.session, SessionEnd::Deleted);
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
    // A transport that never served.
    let (transport, handle) = server.transport(&census).unwrap();
    assert_eq!(within(handle.close()).await.session, SessionEnd::NotNeeded);
    drop(transport);
    assert_empty(&census);
    assert_eq!((peer.count("sessions"), census.dropped_without_close()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ending_one_connection_does_not_touch_another() {
    let peer = HttpPeer::start(SERVER);
    let census = Census::new();
    let server = HttpServer::new(&peer.url()).unwrap();
    let one = within(server.connect((), &census)).await.unwrap();
    let other = within(server.connect((), &census)).await.unwrap();
    assert_ne!(one.handle().session_id(), other.handle().session_id());
    one.handle().kill();
    within(other.call_tool(echo("still there"))).await.unwrap();
    assert!(within(other.close()).await.is_complete());
    assert_eq!(within(one.close()).await.session, SessionEnd::NotSent);
    assert_empty(&census);
    assert_eq!(peer.count("sessions"), 1, "the one that was killed");
}
