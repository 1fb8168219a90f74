//! The HTTP client and answers that break, flood, fall silent or come in pieces.

#[path = "support/rude.rs"]
mod rude;
#[path = "support/rude_client.rs"]
mod rude_client;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rude::{Exchange, Rude};
use rude_client::{assert_says, call, close, connect, flood, server, settings};
use scupper_core::{
    census::Census,
    http::{HttpSettings, SessionEnd},
};
use serde_json::json;
use support::{settle, within};

#[tokio::test]
async fn a_stream_that_breaks_within_an_answer_fails_the_call() {
    let census = Census::new();
    for cut in ["", "data: {\"jsonrpc\":", ": still here\n\n"] {
        let peer = Rude::start(move |exchange| match exchange.rpc() {
            "tools/call" => {
                exchange.begin("text/event-stream")?;
                exchange.send(cut)?;
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            _ => exchange.behave("s1"),
        });
        let client = connect(&server(&peer.url()), &census).await;
        let error = call(&client).await.unwrap_err();
        assert_says(&error.to_lowercase(), &["closed"]);
        within(client.list_all_tools()).await.expect("the connection lives");
        assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_fails_the_call() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match exchange.rpc() {
        "tools/call" => {
            exchange.send(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
            )?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        _ => exchange.behave("s1"),
    });
    let client = connect(&server(&peer.url()), &census).await;
    assert_says(&call(&client).await.unwrap_err(), &["closed the connection within its answer"]);
    close(client, &census).await;
}

#[tokio::test]
async fn what_is_endless_is_cut_off_at_its_limit() {
    type Flood = fn(&mut Exchange) -> std::io::Result<()>;
    let settings = HttpSettings {
        response_limit_bytes: 100_000,
        event_limit_bytes: 100_000,
        header_limit_bytes: 8192,
        ..settings()
    };
    let floods: [(Flood, &str); 5] = [
        (
            |exchange| {
                exchange.begin("text/event-stream")?;
                exchange.send("data: ")?;
                flood(exchange, "x")
            },
            "`HttpSettings::event_limit_bytes`",
        ),
        (
            |exchange| {
                exchange.begin("text/event-stream")?;
                flood(exchange, "data: and on\n")
            },
            "`HttpSettings::event_limit_bytes`",
        ),
        (
            |exchange| {
                exchange.begin("application/json")?;
                flood(exchange, " ")
            },
            "`HttpSettings::response_limit_bytes`",
        ),
        (
            |exchange| {
                exchange.send(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \
                     99999999999\r\n\r\n",
                )?;
                exchange.hang()
            },
            "`HttpSettings::response_limit_bytes`",
        ),
        (
            |exchange| {
                exchange.send("HTTP/1.1 200 OK\r\nx-endless: ")?;
                flood(exchange, "x")
            },
            "`HttpSettings::header_limit_bytes`",
        ),
    ];
    for (flood, wanted) in floods {
        let census = Census::new();
        let peer = Rude::start(move |exchange| match exchange.rpc() {
            "tools/call" => flood(exchange),
            _ => exchange.behave("s1"),
        });
        let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
        assert_says(&call(&client).await.unwrap_err(), &["larger than", wanted]);
        within(client.list_all_tools()).await.expect("the connection lives");
        assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
    }
}

#[tokio::test]
async fn an_answer_that_goes_silent_or_on_for_ever_has_an_end() {
    type Drag = fn(&mut Exchange) -> std::io::Result<()>;
    let short = Duration::from_millis(100);
    let drags: [(Drag, HttpSettings, &str); 3] = [
        (
            |exchange| {
                exchange.begin("text/event-stream")?;
                exchange.hang()
            },
            HttpSettings { answer_wait: short, ..settings() },
            "`HttpSettings::answer_wait`",
        ),
        (
            |exchange| {
                exchange.begin("application/json")?;
                exchange.hang()
            },
            HttpSettings { answer_wait: short, ..settings() },
            "`HttpSettings::answer_wait`",
        ),
        (
            |exchange| {
                exchange.begin("text/event-stream")?;
                let log = json!({
                    "jsonrpc": "2.0",
                    "method": "notifications/message",
                    "params": { "level": "info", "data": "still at it" },
                });
                flood(exchange, &format!("data: {log}\n\n"))
            },
            HttpSettings { request_wait: short, ..settings() },
            "`HttpSettings::request_wait`",
        ),
    ];
    for (drag, settings, wanted) in drags {
        let census = Census::new();
        let peer = Rude::start(move |exchange| match exchange.rpc() {
            "tools/call" => drag(exchange),
            _ => exchange.behave("s1"),
        });
        let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
        assert_says(&call(&client).await.unwrap_err(), &["100ms", wanted]);
        assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
    }
}

#[tokio::test]
async fn a_close_does_not_wait_for_an_answer_or_a_stream() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match (&*exchange.method, exchange.rpc()) {
        ("GET", _) | (_, "tools/call") => {
            exchange.begin("text/event-stream")?;
            exchange.hang()
        }
        _ => exchange.behave("s1"),
    });
    let client = connect(&server(&peer.url()), &census).await;
    let handle = client.handle().clone();
    let (answer, teardown) = within(async {
        tokio::join!(call(&client), async {
            settle("both streams", || (peer.log().len() == 4, peer.log())).await;
            settle("both in the census", || {
                let rows = census.rows();
                let streams = rows.iter().filter(|row| row.kind.to_string() == "stream").count();
                (streams == 2, census.to_string())
            })
            .await;
            handle.close().await
        })
    })
    .await;
    answer.expect_err("the call fails");
    assert_eq!((teardown.streams, &teardown.session), (2, &SessionEnd::Deleted), "{teardown}");
    assert!(teardown.is_complete(), "{teardown}");
    close(client, &census).await;
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_is_given_up() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match &*exchange.method {
        "GET" => {
            exchange.begin("text/event-stream")?;
            if !exchange.headers.contains_key("last-event-id") {
                exchange.send("id: 1\nretry: 0\ndata:\n\n")?;
            }
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        _ => exchange.behave("s1"),
    });
    let settings = HttpSettings { stream_reconnects: 3, ..settings() };
    let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
    settle("the stream given up", || {
        let rows = census.rows();
        let open = rows.iter().any(|row| row.kind.to_string() == "stream");
        (peer.asked("GET") == 4 && !open, peer.log())
    })
    .await;
    within(client.list_all_tools()).await.expect("the connection lives");
    assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
    assert_eq!(peer.asked("GET"), 4, "{:?}", peer.log());
}

#[tokio::test]
async fn an_answer_whose_stream_broke_comes_on_the_next_one() {
    let census = Census::new();
    let call_id = Arc::new(std::sync::Mutex::new(json!(null)));
    let peer = Rude::start(move |exchange| {
        if exchange.rpc() == "tools/call" {
            *call_id.lock().unwrap() = exchange.body["id"].clone();
            exchange.begin("text/event-stream")?;
            exchange.send("id: part-1\nretry: 0\ndata:\n\n")?;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        if exchange.headers.get("last-event-id").is_some_and(|id| id == "part-1") {
            let result = json!({ "content": [] });
            let answer =
                json!({ "jsonrpc": "2.0", "id": *call_id.lock().unwrap(), "result": result });
            exchange.begin("text/event-stream")?;
            exchange.send(&format!("id: part-2\ndata: {answer}\n\n"))?;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        exchange.behave("s1")
    });
    let client = connect(&server(&peer.url()), &census).await;
    call(&client).await.expect("the answer");
    close(client, &census).await;
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_the_setting_allows() {
    let census = Census::new();
    let (come, now, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let most = Arc::new(most);
    let peer = Rude::start({
        let most = Arc::clone(&most);
        move |exchange| match exchange.rpc() {
            "tools/call" => {
                // Each waits for its other half, so two at once are not only allowed but seen.
                let whole_pairs = come.fetch_add(1, SeqCst) / 2 + 1;
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                exchange.begin("text/event-stream")?;
                while come.load(SeqCst) < whole_pairs * 2 {
                    std::thread::yield_now();
                }
                let answer = exchange.result(json!({ "content": [] }));
                now.fetch_sub(1, SeqCst);
                exchange.send(&format!("data: {answer}\n\n"))?;
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            _ => exchange.behave("s1"),
        }
    });
    let settings = HttpSettings { max_requests: 2, ..settings() };
    let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
    let calls = (0..12).map(|_| call(&client));
    for answer in within(futures::future::join_all(calls)).await {
        answer.expect("an answer");
    }
    assert_eq!(most.load(SeqCst), 2, "at once");
    close(client, &census).await;
}

/// SEP-1699: a server may let go of the stream and ask to be called again, as often as it likes.
#[tokio::test]
async fn an_answer_that_is_polled_for_comes_in_the_end() {
    let census = Census::new();
    let polls = AtomicUsize::new(0);
    let call_id = std::sync::Mutex::new(json!(null));
    let peer = Rude::start(move |exchange| {
        let resumed =
            exchange.headers.get("last-event-id").is_some_and(|id| id.starts_with("call-"));
        if exchange.rpc() == "tools/call" {
            *call_id.lock().unwrap() = exchange.body["id"].clone();
        } else if !resumed {
            return exchange.behave("s1");
        }
        let poll = polls.fetch_add(1, SeqCst);
        exchange.begin("text/event-stream")?;
        exchange.send(&format!("id: call-{poll}\nretry: 0\ndata:\n\n"))?;
        if poll == 4 {
            let result = json!({ "content": [] });
            let id = call_id.lock().unwrap().clone();
            let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
            exchange.send(&format!("data: {answer}\n\n"))?;
        }
        Err(std::io::ErrorKind::ConnectionReset.into())
    });
    let settings = HttpSettings { stream_reconnects: 1, max_requests: 1, ..settings() };
    let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
    call(&client).await.expect("the answer");
    close(client, &census).await;
}

#[tokio::test]
async fn a_stream_with_an_event_that_is_too_large_is_not_opened_again() {
    let census = Census::new();
    let cut = Arc::new(AtomicUsize::new(0));
    let peer = Rude::start({
        let cut = Arc::clone(&cut);
        move |exchange| match &*exchange.method {
            "GET" => {
                exchange.begin("text/event-stream")?;
                exchange.send("id: 1\nretry: 0\ndata: ")?;
                let ended = flood(exchange, "x");
                cut.fetch_add(1, SeqCst);
                ended
            }
            _ => exchange.behave("s1"),
        }
    });
    let settings = HttpSettings { event_limit_bytes: 100_000, ..settings() };
    let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
    settle("the stream cut", || (cut.load(SeqCst) == 1, peer.log())).await;
    // It would be opened again at once.
    within(client.list_all_tools()).await.expect("the connection lives");
    assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
    assert_eq!(peer.asked("GET"), 1, "{:?}", peer.log());
}
