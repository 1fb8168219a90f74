//! Every way for an HTTP connection to end, judged by the descriptors of the process. They are the
//! whole process's, so the tests of this binary take turns; the server is another process.

#[path = "support/http_server.rs"]
mod http_server;
mod support;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use http_server::{HttpPeer, serve_if_asked};
use rmcp::{ServiceExt, model::ClientJsonRpcMessage, transport::Transport};
use scupper_core::{
    census::{Census, Entry, Kind},
    http::{EndCause, HttpClient, HttpHandle, HttpServer, HttpTransport, SessionEnd},
};
use support::{assert_empty, cancelled_after, settle, within};
use tokio::runtime::{Builder, Runtime};

const SERVER: &str = "the_server_of_these_tests_serves_and_ends";

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The first runtime of a process opens what tokio keeps for all.
    drop(runtime());
    turn
}

/// The other tests' server is this test in another process.
#[test]
fn the_server_of_these_tests_serves_and_ends() {
    let _turn = turn();
    if !serve_if_asked() {
        assert_eq!(HttpPeer::start(SERVER).count("sessions"), 0);
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Descriptor numbers and what they lead to; the one of the look itself left out.
fn descriptors() -> BTreeMap<i32, String> {
    std::fs::read_dir("/proc/self/fd")
        .expect("/proc/self/fd")
        .filter_map(|entry| {
            let entry = entry.expect("an entry");
            let target = std::fs::read_link(entry.path()).ok()?;
            let target = target.to_string_lossy().into_owned();
            let own_look = target.ends_with("/fd");
            let number = entry.file_name().to_str()?.parse().ok()?;
            (!own_look).then_some((number, target))
        })
        .collect()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Tasks have been told to end; the runtime comes to them.
async fn settled(census: &Census) {
    settle("rows and tasks", || {
        let tasks = tasks();
        (census.is_empty() && tasks == 0, (census.to_string(), tasks))
    })
    .await;
}

async fn connected(peer: &HttpPeer, census: &Census) -> HttpClient<()> {
    let server = HttpServer::new(&peer.url()).expect("a URL");
    let client = within(server.connect((), census)).await.expect("connected");
    within(client.list_all_tools()).await.expect("tools");
    settle("the stream", || {
        // That of an answer may still be there, and is none that stays.
        let stays = |row: &Entry| row.kind == Kind::Stream && &*row.state == "open";
        let open = census.rows().iter().any(stays);
        (open, census.to_string())
    })
    .await;
    client
}

#[test]
fn a_closed_client_leaves_nothing() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    for runtime in [runtime(), Runtime::new().expect("one with threads")] {
        let before = descriptors();
        runtime.block_on(async {
            for _ in 0..20 {
                let census = Census::new();
                let client = connected(&peer, &census).await;
                assert_ne!(descriptors(), before, "sockets are open");
                let teardown = within(client.close()).await;
                assert_eq!(descriptors(), before, "{teardown}");
                assert!(teardown.is_complete(), "{teardown}");
                assert!(teardown.sockets > 0 && teardown.streams > 0, "{teardown}");
                assert_empty(&census);
                assert_eq!(census.dropped_without_close(), 0);
            }
            settle("tasks", || (tasks() == 0, tasks())).await;
        });
        assert_eq!(peer.count("sessions"), 0);
    }
}

#[test]
fn a_dropped_client_leaves_nothing_here_and_its_session_there() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let client = connected(&peer, &census).await;
        let handle = client.handle().clone();
        drop(client);
        assert_eq!(descriptors(), before, "{census}");
        let teardown = handle.outcome().expect("it has ended");
        assert_eq!(teardown.cause, EndCause::DroppedWithoutClose);
        assert_eq!(teardown.session, SessionEnd::NotSent);
        assert_eq!(handle.session_id(), None);
        assert_eq!(census.dropped_without_close(), 1);
        assert_eq!(census.drops()[0].kind, Kind::Connection);
        assert!(census.drops()[0].opened_at.file().ends_with("http_ends.rs"));
        settled(&census).await;
        // A close after the drop tells the same.
        assert_eq!(within(handle.close()).await.session, SessionEnd::NotSent);
    });
    assert_eq!(peer.count("sessions"), 1);
}

#[test]
fn a_dropped_transport_leaves_nothing() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let server = HttpServer::new(&peer.url()).unwrap();
        let (transport, handle) = server.transport(&census).unwrap();
        drop(transport);
        assert_eq!(descriptors(), before);
        assert_eq!(handle.outcome().expect("it has ended").session, SessionEnd::NotNeeded);
        settled(&census).await;
        assert_eq!(census.dropped_without_close(), 1);
    });
}

/// What the crate page says of hosts that run rmcp's service themselves.
#[test]
fn a_dropped_service_of_rmcp_deletes_its_session_in_the_background() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let server = HttpServer::new(&peer.url()).unwrap();
        let (transport, handle) = server.transport(&census).unwrap();
        let service = within(().serve(transport)).await.expect("connected");
        assert!(handle.session_id().is_some());
        drop(service);
        let teardown = within(handle.closed()).await;
        assert_eq!(teardown.session, SessionEnd::Deleted, "{teardown}");
        assert_eq!(descriptors(), before);
        settled(&census).await;
    });
}

#[test]
fn killed_from_a_thread_without_runtime_the_sockets_are_gone_at_once() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let client = connected(&peer, &census).await;
        let handle = client.handle().clone();
        // The runtime has one thread, which waits here: no task can help.
        let (teardown, after) =
            std::thread::spawn(move || (handle.kill(), descriptors())).join().expect("no panic");
        assert_eq!(after, before, "{teardown}");
        assert_eq!((teardown.cause, teardown.session), (EndCause::Killed, SessionEnd::NotSent));
        within(client.list_all_tools()).await.expect_err("killed");
        assert_eq!(within(client.close()).await.cause, EndCause::Killed);
        settled(&census).await;
        assert_eq!(census.dropped_without_close(), 0);
    });
}

#[test]
fn a_runtime_that_is_dropped_first_is_no_obstacle() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let before = descriptors();
    let census = Census::new();
    let runtime = runtime();
    let client = runtime.block_on(connected(&peer, &census));
    drop(runtime);
    let teardown = client.handle().kill();
    assert_eq!(teardown.session, SessionEnd::NotSent, "{teardown}");
    drop(client);
    assert_eq!(descriptors(), before);
    assert_empty(&census);
}

#[test]
fn a_client_that_is_dropped_after_its_runtime_leaves_nothing() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let before = descriptors();
    let census = Census::new();
    let runtime = runtime();
    let client = runtime.block_on(connected(&peer, &census));
    drop(runtime);
    drop(client);
    assert_eq!(descriptors(), before);
    assert_empty(&census);
}

#[test]
fn a_panic_leaves_nothing() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let before = descriptors();
    let census = Census::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        runtime().block_on(async {
            let _client = connected(&peer, &census).await;
            panic!("on purpose");
        });
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert_eq!(descriptors(), before);
    assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 1);
}

/// A session without rmcp's service, which would close too.
async fn shaken_hands(peer: &HttpPeer, census: &Census) -> (HttpTransport, HttpHandle) {
    let server = HttpServer::new(&peer.url()).expect("a URL");
    let (mut transport, handle) = server.transport(census).expect("a runtime");
    let initialize = serde_json::json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "0" },
        },
    });
    within(transport.send(message(initialize))).await.expect("sent");
    within(transport.receive()).await.expect("an answer");
    let initialized =
        serde_json::json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    within(transport.send(message(initialized))).await.expect("sent");
    settle("the stream", || {
        // That of an answer may still be there, and is none that stays.
        let stays = |row: &Entry| row.kind == Kind::Stream && &*row.state == "open";
        let open = census.rows().iter().any(stays);
        (open, census.to_string())
    })
    .await;
    (transport, handle)
}

fn message(message: serde_json::Value) -> ClientJsonRpcMessage {
    serde_json::from_value(message).expect("a message")
}

#[test]
fn a_close_cancelled_at_any_await_leaves_nothing() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let runtime = runtime();
    let before = descriptors();
    for polls in 1.. {
        let finished = runtime.block_on(async {
            let census = Census::new();
            let (transport, handle) = shaken_hands(&peer, &census).await;
            let closed = cancelled_after(polls, handle.close()).await;
            assert_eq!(descriptors(), before, "after {polls} polls: {census}");
            assert!(handle.outcome().is_some(), "after {polls} polls");
            assert_eq!(handle.session_id(), None, "after {polls} polls");
            settled(&census).await;
            drop(transport);
            assert_eq!(census.dropped_without_close(), 0, "after {polls} polls");
            closed.is_ok()
        });
        if finished {
            assert!(polls > 2, "a close has awaits");
            return;
        }
    }
}

#[test]
fn a_connect_cancelled_at_any_await_leaves_nothing() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let runtime = runtime();
    let before = descriptors();
    for polls in 0.. {
        let finished = runtime.block_on(async {
            let census = Census::new();
            let server = HttpServer::new(&peer.url()).unwrap();
            let connected = cancelled_after(polls, server.connect((), &census)).await;
            let finished = connected.is_ok();
            match connected {
                Ok(client) => drop(within(client.expect("connected").close()).await),
                Err(()) => assert_eq!(descriptors(), before, "after {polls} polls: {census}"),
            }
            settled(&census).await;
            finished
        });
        assert_eq!(descriptors(), before, "after {polls} polls");
        if finished {
            assert!(polls > 2, "a connect has awaits");
            return;
        }
    }
}

#[test]
fn a_service_that_is_dropped_by_its_host_leaves_nothing() {
    let _turn = turn();
    let peer = HttpPeer::start(SERVER);
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let server = HttpServer::new(&peer.url()).unwrap();
        let (transport, handle) = server.transport(&census).unwrap();
        drop(within(().serve(transport)).await.unwrap());
        // rmcp closes the transport when its service is dropped, as long as there is a runtime.
        assert_eq!(within(handle.closed()).await.session, SessionEnd::Deleted);
        assert_eq!(descriptors(), before);
        settled(&census).await;
    });
    assert_eq!(peer.count("sessions"), 0);
}
