//! The field report of a multiplexer that ran out of descriptors, through the API: what failed, died
//! or was refused holds nothing afterwards. Each test has a process of its own.

#[path = "support/alone.rs"]
mod alone;
#[path = "support/asking.rs"]
mod asking;
mod support;

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use alone::{alone, descriptors};
use asking::*;
use scupper_core::{
    admin::{Admin, Settings},
    census::Census,
    host::{self, Host, ServerState},
};
use serde_json::json;
use support::{hosted, settle, within};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

fn host_in(census: &Census) -> Host {
    Host::new(host::Settings { census: census.clone(), ..host::Settings::default() })
}

async fn end(admin: Admin, host: &Host) {
    let closed = within(admin.close()).await;
    assert!(closed.is_complete(), "{closed}");
    within(host.shutdown(hosted::ENOUGH)).await;
}

/// The API's own sockets come and go with each request; the listener stays.
async fn only_the_listener(census: &Census) {
    settle("the connections of the API gone", || (census.len() == 2, census.clone())).await;
}

#[test]
fn fifteen_creations_in_five_cycles_leave_the_descriptors_as_they_were() {
    alone(
        "fifteen_creations_in_five_cycles_leave_the_descriptors_as_they_were",
        |census| async move {
            let host = host_in(&census);
            let admin = start(&host);
            let at = admin.address();
            // One life of each kind before anything is counted.
            cycle(&host, at).await;
            only_the_listener(&census).await;
            let before = descriptors();
            for _ in 0..5 {
                cycle(&host, at).await;
                only_the_listener(&census).await;
                assert_eq!(descriptors(), before);
            }
            let text = get(at, "/metrics").await.body;
            for (sample, each) in [
                // Taken in: one that cannot start, one that cannot initialize, one that dies, one that lives.
                ("scupper_servers_created_total", 4.0),
                ("scupper_servers_failed_total", 2.0),
                ("scupper_servers_died_total", 1.0),
                ("scupper_servers_stale_total", 1.0),
                ("scupper_servers_removed_total", 1.0),
                ("scupper_servers_refused_total", 1.0),
            ] {
                assert_eq!(metric(&text, sample), 6.0 * each, "{sample} in\n{text}");
            }
            assert_eq!(metric(&text, "scupper_children"), 0.0);
            assert_eq!(metric(&text, "scupper_dropped_without_close_total"), 0.0);
            end(admin, &host).await;
        },
    );
}

/// Three creations that fail, in each way of the report, a duplicate, and one that is removed.
async fn cycle(host: &Host, at: SocketAddr) {
    let cannot_start =
        post(at, &json!({ "name": "a", "command": "no-such-program-of-ours" })).await;
    assert_eq!(cannot_start.status, 422);
    let cannot_initialize = post(at, &shell("a", "echo no >&2; exit 1")).await;
    assert_eq!(cannot_initialize.status, 502);

    assert_eq!(post(at, &server("dies")).await.status, 201);
    within(host.call_tool("dies", hosted::tool("die"))).await.expect_err("dead");
    hosted::until(host, "dies", |state| matches!(state, ServerState::Dead { .. })).await;
    let health = get(at, "/mcp/health").await.json();
    assert_eq!(health["dropped"][0]["name"], "dies");

    assert_eq!(post(at, &server("lives")).await.status, 201);
    assert_eq!(post(at, &server("lives")).await.status, 409);
    assert_eq!(remove(at, "lives").await.status, 200);
    assert_eq!(remove(at, "lives").await.status, 404);
}

#[test]
fn requests_at_the_same_time_leave_nothing() {
    alone("requests_at_the_same_time_leave_nothing", |census| async move {
        let host = host_in(&census);
        let admin = start(&host);
        let at = admin.address();
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..12 {
            asking.spawn(async move {
                let name = format!("s{}", number % 4);
                let status = post(at, &server(&name)).await.status;
                assert!([201, 409].contains(&status), "{status}");
                get(at, "/mcp/health").await.json();
                get(at, "/metrics").await;
                let status = remove(at, &name).await.status;
                assert!([200, 404].contains(&status), "{status}");
            });
        }
        within(async {
            while let Some(asked) = asking.join_next().await {
                asked.unwrap()
            }
        })
        .await;
        let statistics = host.statistics();
        assert_eq!(statistics.created + statistics.refused, 12, "{statistics:?}");
        assert_eq!(statistics.created, statistics.removed + statistics.failed, "{statistics:?}");
        end(admin, &host).await;
    });
}

#[test]
fn clients_that_misbehave_leave_nothing() {
    alone("clients_that_misbehave_leave_nothing", |census| async move {
        let host = host_in(&census);
        let settings = Settings { read_wait: Duration::from_millis(100), ..settings() };
        let admin = Admin::start(&host, settings).unwrap();
        let at = admin.address();
        let whole = request("POST", "/mcp/servers", &server("x").to_string());
        for length in [0, 1, 40, whole.len() - 1] {
            // One that waits until it is cut, one that leaves, one that resets.
            let mut waits = TcpStream::connect(at).await.unwrap();
            waits.write_all(&whole.as_bytes()[..length]).await.unwrap();
            let mut leaves = TcpStream::connect(at).await.unwrap();
            leaves.write_all(&whole.as_bytes()[..length]).await.unwrap();
            drop(leaves);
            let mut resets = TcpStream::connect(at).await.unwrap();
            resets.write_all(&whole.as_bytes()[..length]).await.unwrap();
            resets.set_zero_linger().unwrap();
            drop(resets);
            let cut = within(read_answer(&mut waits)).await.unwrap_err();
            assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
        }
        for garbage in ["\0\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "HELO there\r\n\r\n"] {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(garbage.as_bytes()).await.unwrap();
            read_answer(&mut stream).await.ok();
        }
        only_the_listener(&census).await;
        assert_eq!(host.statistics().created, 0);
        end(admin, &host).await;
    });
}

#[test]
fn an_admin_that_is_dropped_leaves_nothing() {
    alone("an_admin_that_is_dropped_leaves_nothing", |census| async move {
        let host = host_in(&census);
        let admin = start(&host);
        let held = TcpStream::connect(admin.address()).await.unwrap();
        post(admin.address(), &server("alpha")).await;
        drop(admin);
        within(host.shutdown(hosted::ENOUGH)).await;
        drop(held);
        assert_eq!(census.dropped_without_close(), 1);
    });
}

#[test]
fn without_descriptors_it_waits_and_goes_on() {
    alone("without_descriptors_it_waits_and_goes_on", |census| async move {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let host = host_in(&census);
        let admin = start(&host);
        let at = admin.address();
        let socket = TcpSocket::new_v4().unwrap();
        let usual = getrlimit(Resource::Nofile);
        // What is open stays; nothing more can be.
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..usual }).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        stream.write_all(request("GET", "/metrics", "").as_bytes()).await.unwrap();
        let state = || census.rows().into_iter().map(|row| row.state).collect::<Vec<_>>();
        settle("told in the census", || {
            let seen = state();
            (seen.iter().any(|state| state.contains("Too many open files")), seen)
        })
        .await;
        setrlimit(Resource::Nofile, usual).unwrap();
        let answer = read_answer(&mut stream).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(metric(&answer.body, "scupper_admin_not_accepted_total") >= 1.0);
        assert!(!state().iter().any(|state| state.contains("Too many open files")));
        drop(stream);
        end(admin, &host).await;
    });
}
