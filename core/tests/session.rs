//! Sessions of an HTTP server over real sockets: however one ends, it is gone, and so is all it held.

#[path = "support/alone.rs"]
mod alone;
#[path = "support/demo.rs"]
mod demo;
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::{sync::Arc, time::Duration};

use alone::alone;
use demo::{Demo, brisk, serve};
use raw::{INITIALIZE, Over, Raw, call, modern_call};
use rmcp::transport::StreamableHttpServerConfig;
use scupper_core::{
    census::{Census, Kind},
    cleanup::CleanupPlan,
    cursor::{self, Cursors, MemoryStore},
    session::{Cause, OnDisconnect, Server, Sessions, Settings},
};
use support::{settle, within};

fn count(census: &Census, kind: Kind) -> usize {
    census.rows().iter().filter(|row| row.kind == kind).count()
}

async fn removed_by(server: &Server, cause: Cause) {
    settle(&format!("a session removed: {cause}"), || {
        let statistics = server.sessions().statistics();
        (statistics.removed.get(&cause) == Some(&1), (statistics, server.sessions().removals()))
    })
    .await;
}

#[test]
fn deleted_session_is_gone_and_answers_404() {
    alone("deleted_session_is_gone_and_answers_404", |census| async move {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        assert_eq!(count(&census, Kind::Session), 1);
        assert_eq!(server.sessions().statistics().active, 1);

        assert_eq!(client.delete(&session).await.status, 202);
        assert_eq!(count(&census, Kind::Session), 0);
        assert_eq!(server.sessions().removals()[0].cause, Cause::Deleted);
        assert!(server.sessions().removals()[0].is_complete());
        // The connection that served it alone ends with it.
        assert_eq!(within(client.gone()).await, Over::Ended);

        let mut client = Raw::connect(server.address()).await;
        assert_eq!(client.post(Some(&session), &call(1, "echo")).await.status, 404);
        let again = client.delete(&session).await;
        assert_eq!(again.status, 404, "{}", again.body);
        assert!(again.body.contains("was deleted or swept"), "{}", again.body);
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn deletes_at_the_same_time_end_a_session_once() {
    alone("deletes_at_the_same_time_end_a_session_once", |census| async move {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let session = Raw::connect(server.address()).await.handshake().await;
        let deletes = (0..8)
            .map(|_| async { Raw::connect(server.address()).await.delete(&session).await.status });
        let statuses = futures::future::join_all(deletes).await;
        assert!(statuses.contains(&202), "{statuses:?}");
        assert!(statuses.iter().all(|status| [202, 404].contains(status)), "{statuses:?}");
        assert_eq!(server.sessions().statistics().closed(), 1);
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn owner_removes_a_session_and_is_told_of_its_cleanup() {
    alone("owner_removes_a_session_and_is_told_of_its_cleanup", |census| async move {
        let cleanup: scupper_core::session::MakeCleanup = Arc::new(|_| {
            CleanupPlan::new().step("lock", Duration::from_secs(1), || async { Ok(()) }).step(
                "browser",
                Duration::from_secs(1),
                || async { Err("crashed".into()) },
            )
        });
        let settings = Settings { cleanup: Some(cleanup), ..brisk() };
        let server = serve(&census, &Demo::default(), settings).await;
        let session = Raw::connect(server.address()).await.handshake().await;
        let removal = server.sessions().remove(&session).await.expect("removed");
        assert_eq!(removal.cause, Cause::Asked);
        let failed: Vec<_> = removal.cleanup.unfinished().map(|step| &*step.name).collect();
        assert_eq!(failed, ["browser"], "{removal}");
        assert_eq!(count(&census, Kind::Session), 0, "gone although a step failed");
        assert!(server.sessions().remove(&session).await.is_none(), "removed twice");
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn session_takes_its_cursors_along_and_leaves_those_of_others() {
    alone("session_takes_its_cursors_along_and_leaves_those_of_others", |census| async move {
        let cursors =
            Cursors::open(MemoryStore::new(), cursor::Settings::default(), &census).unwrap();
        let of_session = cursors.clone();
        let cleanup: scupper_core::session::MakeCleanup = Arc::new(move |session| {
            of_session.open_session(Arc::clone(session)).expect("a new session");
            let step = of_session.cleanup_step(Arc::clone(session));
            CleanupPlan::new().step("cursors", Duration::from_secs(5), step)
        });
        let settings = Settings { cleanup: Some(cleanup), ..brisk() };
        let server = serve(&census, &Demo::default(), settings).await;
        let mut first = Raw::connect(server.address()).await;
        let deleted = first.handshake().await;
        let kept = Raw::connect(server.address()).await.handshake().await;
        for place in 0..3 {
            cursors.put(&deleted, vec![place; 1 << 10]).await.unwrap();
        }
        let cursor = cursors.put(&kept, "here").await.unwrap();
        assert_eq!(count(&census, Kind::Cursor), 4);
        assert_eq!(first.delete(&deleted).await.status, 202);
        assert!(server.sessions().removals()[0].is_complete());
        assert_eq!(count(&census, Kind::Cursor), 1);
        assert_eq!(cursors.read(&kept, &cursor).await.unwrap(), b"here");
        assert!(server.close().await.is_complete());
        assert_eq!(count(&census, Kind::Cursor), 0);
        assert!(cursors.close().await.is_complete());
    });
}

#[test]
fn idle_session_is_swept_and_one_with_a_running_request_is_not() {
    alone("idle_session_is_swept_and_one_with_a_running_request_is_not", |census| async move {
        let demo = Demo::default();
        let settings = Settings { idle_limit: Duration::from_millis(200), ..brisk() };
        let server = serve(&census, &demo, settings).await;
        let mut busy = Raw::connect(server.address()).await;
        let in_use = busy.handshake().await;
        busy.begin(&in_use, &call(1, "wait")).await;
        let mut lazy = Raw::connect(server.address()).await;
        let idle = lazy.handshake().await;
        removed_by(&server, Cause::Idle).await;
        assert_eq!(&*server.sessions().removals()[0].session, idle);
        assert_eq!(server.sessions().statistics().stale, 1);
        let mut late = Raw::connect(server.address()).await;
        assert_eq!(late.post(Some(&idle), &call(1, "echo")).await.status, 404);
        demo.release.notify_one();
        assert!(within(busy.event()).await.unwrap().contains("waited"));
        let _ = server.close().await;
    });
}

#[test]
fn listening_client_that_answers_the_question_stays_and_a_silent_one_goes() {
    alone(
        "listening_client_that_answers_the_question_stays_and_a_silent_one_goes",
        |census| async move {
            let settings = Settings { idle_limit: Duration::from_millis(400), ..brisk() };
            let server = serve(&census, &Demo::default(), settings).await;
            let mut lively = Raw::connect(server.address()).await;
            let kept = lively.handshake().await;
            lively.listen(&kept).await;
            let mut silent = Raw::connect(server.address()).await;
            let swept = silent.handshake().await;
            silent.listen(&swept).await;
            // It is asked again and again, over many idle limits in which the other is swept.
            let mut answers = Raw::connect(server.address()).await;
            let mut asked = std::collections::BTreeSet::new();
            for _ in 0..6 {
                let event = within(lively.event()).await.expect("a question");
                let id = event.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
                let id = id.unwrap_or_else(|| panic!("no id in {event}"));
                assert!(event.contains("\"method\":\"ping\""), "{event}");
                assert!(asked.insert(id.to_owned()), "asked twice by one id: {event}");
                let answer = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{}}}}"#);
                assert_eq!(answers.post(Some(&kept), &answer).await.status, 202);
            }
            removed_by(&server, Cause::Idle).await;
            assert_eq!(&*server.sessions().removals()[0].session, swept);
            // Its stream ended in good order, and its socket.
            assert_eq!(within(silent.gone()).await, Over::Ended);
            assert_eq!(server.sessions().statistics().active, 1);
            let _ = server.close().await;
        },
    );
}

#[test]
fn handshake_that_is_never_finished_ends_the_session() {
    alone("handshake_that_is_never_finished_ends_the_session", |census| async move {
        let settings = Settings { handshake_limit: Duration::from_millis(100), ..brisk() };
        let server = serve(&census, &Demo::default(), settings).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.post(None, INITIALIZE).await.session();
        removed_by(&server, Cause::Handshake).await;
        let mut client = Raw::connect(server.address()).await;
        assert_eq!(client.post(Some(&session), &call(1, "echo")).await.status, 404);
        let _ = server.close().await;
    });
}

#[test]
fn initialize_that_hangs_is_answered_and_leaves_nothing() {
    alone("initialize_that_hangs_is_answered_and_leaves_nothing", |census| async move {
        let demo = Demo::default();
        let settings = Settings { handshake_limit: Duration::from_millis(100), ..brisk() };
        let server = serve(&census, &demo, settings).await;
        let mut client = Raw::connect(server.address()).await;
        let answer = client.post(None, &INITIALIZE.replace("\"raw\"", "\"hangs\"")).await;
        assert_eq!(answer.status, 500, "{}", answer.body);
        removed_by(&server, Cause::Handshake).await;
        assert!(server.sessions().removals()[0].service_ended);
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn client_that_leaves_in_its_initialize_leaves_no_session() {
    alone("client_that_leaves_in_its_initialize_leaves_no_session", |census| async move {
        let demo = Demo::default();
        let server = serve(&census, &demo, brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        client.send("POST", "", &INITIALIZE.replace("\"raw\"", "\"hangs\"")).await;
        settle("initialize began", || (demo.log.has("initialize began"), demo.log.lines())).await;
        client.reset();
        removed_by(&server, Cause::Handshake).await;
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn panic_in_initialize_is_answered_500_and_others_live() {
    alone("panic_in_initialize_is_answered_500_and_others_live", |census| async move {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut other = Raw::connect(server.address()).await;
        let session = other.handshake().await;
        let mut client = Raw::connect(server.address()).await;
        let answer = client.post(None, &INITIALIZE.replace("\"raw\"", "\"panics\"")).await;
        assert_eq!(answer.status, 500);
        assert!(answer.body.contains("panicked"), "{}", answer.body);
        removed_by(&server, Cause::Panicked).await;
        assert!(other.post(Some(&session), &call(1, "echo")).await.body.contains("echo"));
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn panic_in_a_handler_is_answered_and_ends_its_session_alone() {
    alone("panic_in_a_handler_is_answered_and_ends_its_session_alone", |census| async move {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut other = Raw::connect(server.address()).await;
        let kept = other.handshake().await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        let answer = client.post(Some(&session), &call(1, "panic")).await;
        assert!(answer.body.contains("call_tool panicked"), "{}", answer.body);
        assert!(!answer.body.contains("in a tool"), "{}", answer.body);
        removed_by(&server, Cause::Panicked).await;
        assert!(other.post(Some(&kept), &call(1, "echo")).await.body.contains("echo"));
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn service_that_fails_the_handshake_ends_the_session() {
    alone("service_that_fails_the_handshake_ends_the_session", |census| async move {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let answer = client.post(None, &INITIALIZE.replace("\"raw\"", "\"fails\"")).await;
        assert!(answer.body.contains("\"error\""), "{}", answer.body);
        removed_by(&server, Cause::Service).await;
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn request_over_its_limit_ends_the_session() {
    alone("request_over_its_limit_ends_the_session", |census| async move {
        let demo = Demo::default();
        let settings = Settings { request_limit: Duration::from_millis(100), ..brisk() };
        let server = serve(&census, &demo, settings).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.begin(&session, &call(1, "wait")).await;
        removed_by(&server, Cause::Limit).await;
        assert!(demo.log.has("wait cancelled"), "{:?}", demo.log.lines());
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn handler_that_ignores_its_cancellation_is_dropped() {
    alone("handler_that_ignores_its_cancellation_is_dropped", |census| async move {
        let demo = Demo::default();
        let server = serve(&census, &demo, brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.begin(&session, &call(1, "stubborn")).await;
        settle("begun", || (demo.log.has("stubborn began"), demo.log.lines())).await;
        let removal = server.sessions().remove(&session).await.expect("removed");
        assert!(removal.is_complete(), "{removal}");
        assert!(demo.log.has("stubborn gone"), "{:?}", demo.log.lines());
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn disconnect_policy_ends_a_session_whose_client_is_gone() {
    alone("disconnect_policy_ends_a_session_whose_client_is_gone", |census| async move {
        let on_disconnect = OnDisconnect::EndAfter(Duration::from_millis(300));
        let server = serve(&census, &Demo::default(), Settings { on_disconnect, ..brisk() }).await;
        let mut listens = Raw::connect(server.address()).await;
        let kept = listens.handshake().await;
        listens.listen(&kept).await;
        let mut leaves = Raw::connect(server.address()).await;
        let session = leaves.handshake().await;
        leaves.listen(&session).await;
        leaves.reset();
        removed_by(&server, Cause::Disconnected).await;
        assert_eq!(&*server.sessions().removals()[0].session, session);
        assert_eq!(server.sessions().statistics().active, 1);
        let _ = server.close().await;
    });
}

#[test]
fn session_over_the_limit_is_refused_with_advice() {
    alone("session_over_the_limit_is_refused_with_advice", |census| async move {
        let settings = Settings { session_limit: 1, ..brisk() };
        let server = serve(&census, &Demo::default(), settings).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        let mut refused = Raw::connect(server.address()).await;
        let answer = refused.post(None, INITIALIZE).await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        assert!(answer.body.contains("raise `session_limit`"), "{}", answer.body);
        assert_eq!(server.sessions().statistics().refused, 1);
        assert_eq!(client.delete(&session).await.status, 202);
        assert_eq!(refused.post(None, INITIALIZE).await.status, 200);
        let _ = server.close().await;
    });
}

#[test]
fn session_takes_no_more_requests_than_its_limit_and_none_twice() {
    alone("session_takes_no_more_requests_than_its_limit_and_none_twice", |census| async move {
        let demo = Demo::default();
        let settings = Settings { stream_limit: 2, ..brisk() };
        let server = serve(&census, &demo, settings).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.begin(&session, &call(1, "wait")).await;
        let mut beside = Raw::connect(server.address()).await;
        let twice = beside.post(Some(&session), &call(1, "echo")).await;
        assert_eq!(twice.status, 400, "{}", twice.body);
        let mut second = Raw::connect(server.address()).await;
        second.begin(&session, &call(2, "wait")).await;
        let third = beside.post(Some(&session), &call(3, "echo")).await;
        assert_eq!(third.status, 503);
        assert!(third.body.contains("raise `stream_limit`"), "{}", third.body);
        let cancel =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
        assert_eq!(beside.post(Some(&session), cancel).await.status, 202);
        assert!(within(second.event()).await.is_err(), "a cancelled request is not answered");
        assert!(beside.post(Some(&session), &call(4, "echo")).await.body.contains("echo"));
        demo.release.notify_waiters();
        let _ = server.close().await;
    });
}

#[test]
fn foreign_origin_and_host_are_refused() {
    alone("foreign_origin_and_host_are_refused", |census| async move {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        client.send("POST", "Origin: https://evil.example\r\n", INITIALIZE).await;
        assert_eq!(client.answer().await.status, 403);
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {}\r\n\r\n{INITIALIZE}",
            INITIALIZE.len()
        );
        let mut client = Raw::connect(server.address()).await;
        client.write(&request).await;
        assert_eq!(client.answer().await.status, 403);
        assert_eq!(server.sessions().statistics().created, 0);
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn shutdown_ends_open_streams_and_running_requests() {
    alone("shutdown_ends_open_streams_and_running_requests", |census| async move {
        let demo = Demo::default();
        let server = serve(&census, &demo, brisk()).await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = Raw::connect(server.address()).await;
            let session = client.handshake().await;
            client.listen(&session).await;
            let mut second = Raw::connect(server.address()).await;
            second.begin(&session, &call(1, "wait")).await;
            clients.push((client, second));
        }
        let closed = within(server.close()).await;
        assert!(closed.is_complete(), "{closed}");
        assert_eq!(closed.sessions.removals.len(), 5);
        for (mut client, mut second) in clients {
            assert_eq!(within(client.gone()).await, Over::Ended);
            assert_eq!(within(second.gone()).await, Over::Ended);
        }
    });
}

#[test]
fn drop_without_close_ends_everything_and_is_recorded() {
    alone("drop_without_close_ends_everything_and_is_recorded", |census| async move {
        let demo = Demo::default();
        let server = serve(&census, &demo, brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.begin(&session, &call(1, "wait")).await;
        drop(server);
        let dropped: Vec<_> = census.drops().iter().map(|d| d.kind).collect();
        assert_eq!(dropped, [Kind::Socket, Kind::Session]);
        within(client.gone()).await;
    });
}

#[test]
fn close_that_is_dropped_midway_ends_everything_too() {
    alone("close_that_is_dropped_midway_ends_everything_too", |census| async move {
        let demo = Demo::default();
        for polls in 0..12 {
            let server = serve(&census, &demo, brisk()).await;
            let mut client = Raw::connect(server.address()).await;
            let session = client.handshake().await;
            client.begin(&session, &call(1, "stubborn")).await;
            let closed = support::cancelled_after(polls, server.close()).await;
            assert!(closed.is_err() || polls > 2, "closed within {polls} polls");
            within(client.gone()).await;
        }
    });
}

#[test]
fn runtime_that_goes_first_takes_everything_along() {
    let census = Census::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, clients) = runtime.block_on(async {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut listens = Raw::connect(server.address()).await;
        let session = listens.handshake().await;
        listens.listen(&session).await;
        let mut calls = Raw::connect(server.address()).await;
        calls.begin(&session, &call(1, "wait")).await;
        (server, (listens, calls))
    });
    drop(clients);
    drop(runtime);
    drop(server);
    support::assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 2);
}

/// Between a request without a session and its handler are tasks of rmcp, and which of them has its turn
/// before the close is the scheduler's lot; so it is drawn often, with the client gone after each number of
/// turns.
#[test]
fn handler_that_had_no_turn_before_the_close_does_not_run_after_it() {
    use tower::Service;

    for round in 0..400 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let census = Census::new();
            let sessions = Sessions::start(brisk(), &census).expect("started");
            let demo = Demo::default();
            let mut service =
                sessions.service(move || Ok(demo.clone()), StreamableHttpServerConfig::default());
            let request = http::Request::post("/mcp")
                .header("host", "127.0.0.1")
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", "tools/call")
                .header("mcp-name", "stubborn")
                .body(axum::body::Body::from(modern_call(1, "stubborn")))
                .expect("a request");
            let mut asked = Box::pin(service.call(request));
            for turn in 0..=round % 8 {
                if turn > 0 {
                    tokio::task::yield_now().await;
                }
                assert!(futures::poll!(&mut asked).is_pending(), "it goes on until it is released");
            }
            drop(asked);
            let closed = sessions.close().await;
            assert_eq!(closed.handlers_left, 0, "round {round}: {closed}");
            let handlers = census.rows().into_iter().filter(|row| &*row.state == "handler");
            assert_eq!(handlers.count(), 0, "round {round}: {census}");
        });
    }
}
