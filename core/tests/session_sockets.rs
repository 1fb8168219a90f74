//! Peers that are slow, stalled, idle, gone or greedy: each is cut, socket included, and hurts nobody
//! else.

#[path = "support/alone.rs"]
mod alone;
#[path = "support/demo.rs"]
mod demo;
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::time::Duration;

use alone::alone;
use demo::{Demo, brisk, serve, serve_with};
use raw::{INITIALIZE, Over, Raw, call, modern_call, modern_headers, of_session};
use scupper_core::{
    census::Kind,
    session::{Cut, ListenerSettings, Server, Settings},
};
use support::{settle, within};
use tokio::io::AsyncWriteExt;

/// A call whose answers come as progress, without end.
const FLOOD: &str = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"flood","arguments":{},"_meta":{"progressToken":7}}}"#;

async fn cut_by(server: &Server, cut: Cut) {
    settle(&format!("a connection cut: {cut}"), || {
        let connections = server.connections();
        (connections.cut.contains_key(&cut), connections)
    })
    .await;
}

#[test]
fn client_that_does_not_read_is_cut_while_another_is_served() {
    alone("client_that_does_not_read_is_cut_while_another_is_served", |census| async move {
        let demo = Demo::default();
        let settings =
            Settings { queue_limit: 4, stalled_write_limit: Duration::from_millis(300), ..brisk() };
        let server = serve(&census, &demo, settings).await;
        let mut stalled = Raw::connect(server.address()).await;
        let session = stalled.handshake().await;
        stalled.begin(&session, FLOOD).await;
        let mut other = Raw::connect(server.address()).await;
        let kept = other.handshake().await;
        // The session of the client that does not read answers elsewhere, and so do others.
        let mut beside = Raw::connect(server.address()).await;
        let mut calls = 100;
        while !server.connections().cut.contains_key(&Cut::Stalled) {
            calls += 1;
            assert!(
                within(other.post(Some(&kept), &call(calls, "echo"))).await.body.contains("echo")
            );
            assert!(
                within(beside.post(Some(&session), &call(calls, "echo")))
                    .await
                    .body
                    .contains("echo")
            );
        }
        assert_eq!(within(stalled.gone()).await, Over::Reset);
        assert_eq!(server.sessions().statistics().cut, 1);
        // Legacy: a lost stream cancels nothing. The end of the session does.
        assert!(!demo.log.has("flood gone"));
        assert_eq!(beside.delete(&session).await.status, 202);
        assert!(demo.log.has("flood gone"));
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn socket_that_takes_nothing_is_cut() {
    alone("socket_that_takes_nothing_is_cut", |census| async move {
        let listener = ListenerSettings {
            stalled_write_limit: Duration::from_millis(200),
            ..ListenerSettings::default()
        };
        let server = serve_with(&census, &Demo::default(), brisk(), listener).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.send("POST", &of_session(Some(&session)), &call(1, "big")).await;
        cut_by(&server, Cut::Stalled).await;
        assert_eq!(within(client.gone()).await, Over::Reset);
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn head_that_never_ends_is_cut() {
    alone("head_that_never_ends_is_cut", |census| async move {
        let listener = ListenerSettings {
            header_read_limit: Duration::from_millis(100),
            ..ListenerSettings::default()
        };
        let server = serve_with(&census, &Demo::default(), brisk(), listener).await;
        let mut client = Raw::connect(server.address()).await;
        client.write("POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ").await;
        cut_by(&server, Cut::SlowHeader).await;
        within(client.gone()).await;
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn body_that_never_comes_is_cut_and_one_that_is_abandoned_leaves_nothing() {
    alone(
        "body_that_never_comes_is_cut_and_one_that_is_abandoned_leaves_nothing",
        |census| async move {
            let listener = ListenerSettings {
                body_read_limit: Duration::from_millis(100),
                ..ListenerSettings::default()
            };
            let server = serve_with(&census, &Demo::default(), brisk(), listener).await;
            let half = &INITIALIZE[..INITIALIZE.len() / 2];
            let request = format!(
                "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{half}",
                INITIALIZE.len()
            );
            let mut slow = Raw::connect(server.address()).await;
            slow.write(&request).await;
            cut_by(&server, Cut::SlowBody).await;
            within(slow.gone()).await;
            let mut leaves = Raw::connect(server.address()).await;
            leaves.write(&request).await;
            drop(leaves);
            settle("no connections", || (server.connections().open == 0, server.connections()))
                .await;
            assert_eq!(server.sessions().statistics().created, 0);
            assert!(server.close().await.is_complete());
        },
    );
}

#[test]
fn idle_connection_is_cut_and_its_session_stays() {
    alone("idle_connection_is_cut_and_its_session_stays", |census| async move {
        let listener = ListenerSettings {
            idle_limit: Duration::from_millis(100),
            ..ListenerSettings::default()
        };
        let server = serve_with(&census, &Demo::default(), brisk(), listener).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        cut_by(&server, Cut::Idle).await;
        within(client.gone()).await;
        let mut again = Raw::connect(server.address()).await;
        assert!(again.post(Some(&session), &call(1, "echo")).await.body.contains("echo"));
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn connection_over_the_limit_is_told_so() {
    alone("connection_over_the_limit_is_told_so", |census| async move {
        let listener = ListenerSettings { connection_limit: 1, ..ListenerSettings::default() };
        let server = serve_with(&census, &Demo::default(), brisk(), listener).await;
        let mut first = Raw::connect(server.address()).await;
        let session = first.handshake().await;
        let mut second = Raw::connect(server.address()).await;
        let answer = second.answer().await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key("retry-after"));
        assert!(answer.body.ends_with("raise the limit\n"), "{}", answer.body);
        assert_eq!(within(second.gone()).await, Over::Ended, "the length is that of the body");
        assert_eq!(server.connections().refused, 1);
        assert!(first.post(Some(&session), &call(1, "echo")).await.body.contains("echo"));
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn reset_in_the_middle_of_a_stream_closes_the_stream_and_keeps_the_session() {
    alone(
        "reset_in_the_middle_of_a_stream_closes_the_stream_and_keeps_the_session",
        |census| async move {
            let server = serve(&census, &Demo::default(), brisk()).await;
            let mut client = Raw::connect(server.address()).await;
            let session = client.handshake().await;
            client.begin(&session, FLOOD).await;
            within(client.event()).await.expect("progress");
            assert_eq!(server.sessions().statistics().streams, 1);
            client.reset();
            settle("the stream gone", || {
                let rows = census.rows();
                (
                    !rows.iter().any(|r| {
                        [Kind::Stream, Kind::Socket].contains(&r.kind) && &*r.state == "open"
                    }),
                    rows,
                )
            })
            .await;
            assert_eq!(server.sessions().statistics().streams, 0);
            let mut again = Raw::connect(server.address()).await;
            assert!(again.post(Some(&session), &call(1, "echo")).await.body.contains("echo"));
            let _ = server.close().await;
        },
    );
}

#[test]
fn legacy_disconnect_cancels_nothing_and_the_answer_is_resumed() {
    alone("legacy_disconnect_cancels_nothing_and_the_answer_is_resumed", |census| async move {
        let demo = Demo::default();
        let server = serve(&census, &demo, brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.begin(&session, &call(1, "wait")).await;
        settle("begun", || (demo.log.has("wait began"), demo.log.lines())).await;
        client.reset();
        settle("stream gone", || {
            let streams = server.sessions().statistics().streams;
            (streams == 0, streams)
        })
        .await;
        demo.release.notify_one();
        settle("ended", || (demo.log.has("wait gone"), demo.log.lines())).await;
        assert!(demo.log.has("wait released") && !demo.log.has("wait cancelled"));
        // The priming event of the first request of a session is number 0 of stream 1: 0 was the handshake.
        let mut again = Raw::connect(server.address()).await;
        let resume = format!("Last-Event-ID: 0/1\r\n{}", of_session(Some(&session)));
        again.send("GET", &resume, "").await;
        let answer = again.answer().await;
        assert!(answer.body.contains("waited"), "{}", answer.body);
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn resumed_stream_goes_on_where_it_was_left() {
    alone("resumed_stream_goes_on_where_it_was_left", |census| async move {
        let demo = Demo::default();
        let server = serve(&census, &demo, brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.begin(&session, &FLOOD.replace("flood", "count")).await;
        let mut last = String::new();
        for number in 0..3 {
            let event = within(client.event()).await.unwrap();
            assert!(event.contains(&format!("number {number}\"")), "{event}");
            last = event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
        }
        client.reset();
        settle("stream gone", || {
            let streams = server.sessions().statistics().streams;
            (streams == 0, streams)
        })
        .await;
        demo.release.notify_one();
        let mut again = Raw::connect(server.address()).await;
        let resume = format!("Last-Event-ID: {last}\r\n{}", of_session(Some(&session)));
        again.send("GET", &resume, "").await;
        assert_eq!(again.head().await.unwrap().0, 200);
        for number in 3..10 {
            let event = within(again.event()).await.unwrap();
            assert!(event.contains(&format!("number {number}\"")), "{event}");
        }
        assert!(within(again.event()).await.unwrap().contains("counted"));
        assert_eq!(within(again.event()).await, Err(Over::Ended));
        // What was never sent on a stream of this session cannot be resumed.
        let mut wrong = Raw::connect(server.address()).await;
        let resume = format!("Last-Event-ID: 3/77\r\n{}", of_session(Some(&session)));
        wrong.send("GET", &resume, "").await;
        assert_eq!(wrong.answer().await.body, "");
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn modern_disconnect_cancels_the_request() {
    alone("modern_disconnect_cancels_the_request", |census| async move {
        let demo = Demo::default();
        let server = serve(&census, &demo, brisk()).await;
        for (tool, gone) in [("wait", "wait gone"), ("stubborn", "stubborn gone")] {
            let mut client = Raw::connect(server.address()).await;
            client.send("POST", &modern_headers(tool), &modern_call(1, tool)).await;
            settle("begun", || (demo.log.has(&format!("{tool} began")), demo.log.lines())).await;
            client.reset();
            settle("cancelled", || (demo.log.has(gone), demo.log.lines())).await;
        }
        assert!(demo.log.has("wait cancelled"));
        assert_eq!(server.sessions().statistics().created, 0, "no session in this era");
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn modern_streams_have_rows_and_shutdown_ends_them_whether_read_or_not() {
    alone(
        "modern_streams_have_rows_and_shutdown_ends_them_whether_read_or_not",
        |census| async move {
            let demo = Demo::default();
            let settings = Settings { close_wait: Duration::from_millis(300), ..brisk() };
            let server = serve(&census, &demo, settings).await;
            let flood =
                modern_call(1, "flood").replace("\"_meta\":{", "\"_meta\":{\"progressToken\":7,");
            let mut clients = Vec::new();
            for _ in 0..2 {
                let mut client = Raw::connect(server.address()).await;
                client.send("POST", &modern_headers("flood"), &flood).await;
                assert_eq!(client.head().await.unwrap().0, 200);
                clients.push(client);
            }
            let streams = census.rows().iter().filter(|row| row.kind == Kind::Stream).count();
            assert_eq!((streams, server.sessions().statistics().streams), (2, 2), "{census}");
            // One is read, the other is full and stays so.
            let mut reads = clients.pop().unwrap();
            let reading = tokio::spawn(async move { reads.gone().await });
            let closed = within(server.close()).await;
            assert_eq!(closed.sessions.streams_cut, 1, "{closed}");
            assert_eq!(closed.sessions.handlers_left, 0, "{closed}");
            let gone = demo.log.lines().iter().filter(|line| *line == "flood gone").count();
            assert_eq!(gone, 2);
            assert_eq!(within(reading).await.unwrap(), Over::Ended);
            assert_eq!(within(clients[0].gone()).await, Over::Reset);
        },
    );
}

#[test]
fn shutdown_with_a_stalled_reader_is_bounded_and_tells_what_it_cut() {
    alone("shutdown_with_a_stalled_reader_is_bounded_and_tells_what_it_cut", |census| async move {
        let demo = Demo::default();
        let settings = Settings {
            // Long enough for the answer to be given; it is the reader that is late.
            drain_wait: Duration::from_secs(10),
            close_wait: Duration::from_millis(300),
            ..brisk()
        };
        let server = serve(&census, &demo, settings).await;
        let mut good = Raw::connect(server.address()).await;
        let listening = good.handshake().await;
        good.listen(&listening).await;
        let mut stalled = Raw::connect(server.address()).await;
        let session = stalled.handshake().await;
        stalled.send("POST", &of_session(Some(&session)), &call(1, "big")).await;
        settle("begun", || (demo.log.has("big began"), demo.log.lines())).await;
        let closed = within(server.close()).await;
        let cut: Vec<_> = closed
            .sessions
            .removals
            .iter()
            .filter(|removal| removal.streams_cut > 0)
            .map(|removal| removal.session.to_string())
            .collect();
        let forced: Vec<_> = closed
            .listener
            .forced
            .iter()
            .flat_map(|forced| &forced.sessions)
            .map(ToString::to_string)
            .collect();
        assert!(cut == [session.clone()] || forced == [session], "{closed}");
        assert!(!closed.is_complete());
        assert_eq!(within(good.gone()).await, Over::Ended, "a good client sees a good end");
        assert_eq!(within(stalled.gone()).await, Over::Reset);
    });
}

#[test]
fn half_closed_client_leaves_nothing() {
    alone("half_closed_client_leaves_nothing", |census| async move {
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.listen(&session).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(within(client.gone()).await, Over::Ended);
        settle("no connections", || (server.connections().open == 0, server.connections())).await;
        assert!(server.close().await.is_complete());
    });
}

#[test]
fn keep_alive_comments_come_and_need_no_task() {
    alone("keep_alive_comments_come_and_need_no_task", |census| async move {
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let server = serve(&census, &Demo::default(), brisk()).await;
        let mut client = Raw::connect(server.address()).await;
        let session = client.handshake().await;
        client.listen(&session).await;
        let mut seen = String::new();
        while seen.lines().filter(|line| line.starts_with(':')).count() < 3 {
            let mut bytes = [0; 256];
            let n = within(tokio::io::AsyncReadExt::read(&mut client.stream, &mut bytes))
                .await
                .unwrap();
            assert!(n > 0, "{seen}");
            seen.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
        }
        // Sweeper, acceptor, the connection, and rmcp's two of the session; the stream is none.
        settle("five tasks", || (tasks() == before + 5, tasks() - before)).await;
        assert!(server.close().await.is_complete());
    });
}
