//! The HTTP client against servers that misbehave: each is a clear error and a bounded end.

#[path = "support/rude.rs"]
mod rude;
mod support;

use std::{
    io::Write,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rmcp::{
    ServiceError,
    model::{CallToolRequestParams, ProtocolVersion},
    service::ClientLifecycleMode,
};
use rude::{Exchange, Rude};
use scupper_core::{
    census::Census,
    http::{
        EndCause, HttpClient, HttpConnectError, HttpServer, HttpServerError, HttpSettings,
        HttpTeardown, SessionEnd,
    },
};
use serde_json::json;
use support::{assert_empty, settle, within};

fn settings() -> HttpSettings {
    HttpSettings {
        answer_wait: Duration::from_secs(10),
        delete_wait: Duration::from_secs(10),
        reconnect_wait: Duration::from_millis(5),
        ..HttpSettings::default()
    }
}

fn server(url: &str) -> HttpServer {
    HttpServer::new(url).expect("a URL").named("rude").with_settings(settings())
}

async fn connect(server: &HttpServer, census: &Census) -> HttpClient<()> {
    within(server.connect((), census)).await.expect("connected")
}

/// Why there is no connection.
async fn refusal(server: &HttpServer, census: &Census) -> (String, HttpTeardown) {
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

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Closes, and sees that nothing is left.
async fn close(client: HttpClient<()>, census: &Census) -> HttpTeardown {
    let teardown = within(client.close()).await;
    assert_empty(census);
    assert!(teardown.problems.is_empty(), "{teardown}");
    settle("tasks", || (tasks() == 0, tasks())).await;
    teardown
}

async fn call(client: &HttpClient<()>) -> Result<(), String> {
    match within(client.call_tool(CallToolRequestParams::new("any"))).await {
        Ok(_) => Ok(()),
        Err(ServiceError::TransportSend(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[track_caller]
fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no `{wanted}` in: {text}");
    }
}

#[test]
fn what_is_no_address_of_a_server_is_refused_with_a_reason() {
    for (url, wanted) in [
        ("", "is no URL"),
        ("/mcp", "no host"),
        ("127.0.0.1:8000", "no scheme"),
        ("http://", "is no URL"),
        ("ftp://127.0.0.1/mcp?key=hunter2", "`ftp` is not spoken"),
        ("http://user:hunter2@127.0.0.1/mcp", "take it out"),
        ("http://us er:hunter2@127.0.0.1/mcp", "is no URL"),
    ] {
        let error = HttpServer::new(url).expect_err(url).to_string();
        assert_says(&error, &[wanted]);
        assert!(!error.contains("hunter2"), "{error}");
    }
    #[cfg(not(feature = "tls"))]
    assert_says(&HttpServer::new("https://127.0.0.1").unwrap_err().to_string(), &["`tls`"]);
    let server = HttpServer::new("http://[::1]:8000/mcp?key=hunter2").unwrap();
    assert_eq!(server.url(), "http://[::1]:8000/mcp?…");
    for (name, value) in
        [("host", "elsewhere"), ("mcp-session-id", "1"), ("a b", "c"), ("x", "line\nline")]
    {
        let error = server.clone().with_header(name, value).expect_err(name);
        assert!(matches!(error, HttpServerError::Header { .. }), "{error}");
    }
    let server = server.with_bearer_token("hunter2").unwrap().with_header("x-key", "k3y").unwrap();
    let shown = format!("{server:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("k3y"), "{shown}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let census = Census::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    drop(listener);
    let (error, ended) = refusal(&server(&url), &census).await;
    assert_says(&error, &["rude", &url, "refused", "is the server running"]);
    assert_eq!(ended.session, SessionEnd::NotNeeded);
}

#[tokio::test]
async fn a_name_without_address_is_named() {
    let census = Census::new();
    let (error, _) = refusal(&server("http://no-such-host.invalid/mcp"), &census).await;
    assert_says(&error, &["looking up `no-such-host.invalid`"]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_waited_for_no_longer_than_the_setting() {
    let census = Census::new();
    let peer = Rude::start(Exchange::hang);
    for (settings, wanted) in [
        (
            HttpSettings { connect_wait: Duration::from_millis(50), ..settings() },
            "`HttpSettings::connect_wait`",
        ),
        (
            HttpSettings { answer_wait: Duration::from_millis(50), ..settings() },
            "`HttpSettings::answer_wait`",
        ),
    ] {
        let server = server(&peer.url()).with_settings(settings);
        let (error, ended) = refusal(&server, &census).await;
        assert_says(&error, &["50ms", wanted]);
        assert!(ended.is_complete(), "{ended}");
    }
}

#[tokio::test]
async fn each_status_is_explained() {
    for (status, headers, wanted) in [
        ("307 Temporary Redirect", "location: http://elsewhere/mcp\r\n", "http://elsewhere/mcp"),
        ("400 Bad Request", "", "does not take this request"),
        ("401 Unauthorized", "www-authenticate: Bearer\r\n", "with_bearer_token"),
        ("401 Unauthorized", "", "with_bearer_token"),
        ("403 Forbidden", "", "does not let this client in"),
        ("404 Not Found", "", "no endpoint at this path"),
        ("405 Method Not Allowed", "", "no POST at this path"),
        ("429 Too Many Requests", "retry-after: 30\r\n", "come back after 30"),
        ("500 Internal Server Error", "", "its own log"),
        ("503 Service Unavailable", "", "its own log"),
    ] {
        let census = Census::new();
        let peer = Rude::start(move |exchange| exchange.status(status, headers));
        let (error, ended) = refusal(&server(&peer.url()), &census).await;
        assert_says(&error, &["rude", "POST", &peer.url(), status, wanted]);
        assert_eq!(ended.session, SessionEnd::NotNeeded);
    }
}

#[tokio::test]
async fn a_status_within_the_session_fails_the_call_and_not_the_connection() {
    for status in ["401 Unauthorized", "403 Forbidden", "405 Method Not Allowed", "500 Oh No"] {
        let census = Census::new();
        let peer = Rude::start(move |exchange| match exchange.rpc() {
            "tools/call" => exchange.status(status, ""),
            _ => exchange.behave("s1"),
        });
        let client = connect(&server(&peer.url()), &census).await;
        assert_says(&call(&client).await.unwrap_err(), &["rude", &status[..3]]);
        within(client.list_all_tools()).await.expect("the connection lives");
        assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
    }
}

#[tokio::test]
async fn any_status_to_the_stream_leaves_the_rest_working() {
    for status in ["401 No", "403 No", "404 No", "405 No", "500 No", "200 OK", "204 No Content"] {
        let census = Census::new();
        let peer = Rude::start(move |exchange| match &*exchange.method {
            "GET" => exchange.status(status, ""),
            _ => exchange.behave("s1"),
        });
        let client = connect(&server(&peer.url()), &census).await;
        settle("the stream asked for", || (peer.asked("GET") > 0, peer.log())).await;
        within(client.list_all_tools()).await.expect(status);
        assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
    }
}

#[tokio::test]
async fn the_answer_to_the_delete_is_told() {
    for (status, wanted) in [
        ("200 OK", Some(SessionEnd::Deleted)),
        ("204 No Content", Some(SessionEnd::Deleted)),
        ("404 Not Found", Some(SessionEnd::Deleted)),
        ("405 Method Not Allowed", Some(SessionEnd::Refused)),
        ("401 Unauthorized", None),
        ("403 Forbidden", None),
        ("500 Internal Server Error", None),
    ] {
        let census = Census::new();
        let peer = Rude::start(move |exchange| match &*exchange.method {
            "DELETE" => exchange.status(status, ""),
            _ => exchange.behave("s1"),
        });
        let client = connect(&server(&peer.url()), &census).await;
        let teardown = close(client, &census).await;
        match wanted {
            Some(wanted) => assert_eq!(teardown.session, wanted),
            None => assert!(matches!(teardown.session, SessionEnd::Failed(_)), "{teardown}"),
        }
        assert_eq!(teardown.is_complete(), teardown.session.is_settled());
        assert_eq!(peer.asked("DELETE"), 1, "{:?}", peer.log());
    }
}

#[tokio::test]
async fn a_delete_that_is_not_answered_holds_up_nothing() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match &*exchange.method {
        "DELETE" => exchange.hang(),
        _ => exchange.behave("s1"),
    });
    let settings = HttpSettings { delete_wait: Duration::from_millis(50), ..settings() };
    let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
    let teardown = close(client, &census).await;
    assert_eq!(teardown.session, SessionEnd::TimedOut);
    assert!(!teardown.is_complete());
}

#[tokio::test]
async fn a_server_that_is_gone_at_the_end_holds_up_nothing() {
    let census = Census::new();
    let peer = Rude::start(|exchange| exchange.behave("s1"));
    let client = connect(&server(&peer.url()), &census).await;
    drop(peer);
    let teardown = close(client, &census).await;
    assert!(matches!(teardown.session, SessionEnd::Unreachable(_)), "{teardown}");
}

#[tokio::test]
async fn the_delete_carries_session_token_and_revision() {
    let census = Census::new();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let peer = Rude::start({
        let seen = Arc::clone(&seen);
        move |exchange| {
            if exchange.method == "DELETE" {
                *seen.lock().unwrap() = Some(exchange.headers.clone());
            }
            exchange.behave("s1")
        }
    });
    let server = server(&peer.url()).with_bearer_token("t0ken").unwrap();
    let client = connect(&server, &census).await;
    close(client, &census).await;
    let seen = seen.lock().unwrap().take().expect("a DELETE");
    assert_eq!(seen["mcp-session-id"], "s1");
    assert_eq!(seen["authorization"], "Bearer t0ken");
    assert_eq!(seen["mcp-protocol-version"], "2025-11-25");
}

/// rmcp's worker gives up here and forgets the session.
#[tokio::test]
async fn a_session_whose_handshake_failed_after_all_is_deleted() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match exchange.rpc() {
        "notifications/initialized" => exchange.status("500 Internal Server Error", ""),
        _ => exchange.behave("s1"),
    });
    let server = server(&peer.url());
    match within(server.connect((), &census)).await {
        Ok(client) => {
            // rmcp does not wait for this notification.
            assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
        }
        Err(HttpConnectError::Handshake { ended, .. }) => {
            assert_eq!(ended.session, SessionEnd::Deleted);
        }
        Err(other) => panic!("{other}"),
    }
    assert_eq!(peer.asked("DELETE"), 1, "{:?}", peer.log());
    assert_empty(&census);
}

#[tokio::test]
async fn a_session_without_an_answer_is_deleted() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match exchange.rpc() {
        "initialize" => {
            exchange.send(
                "HTTP/1.1 200 OK\r\nmcp-session-id: s1\r\ncontent-type: text/event-stream\r\n\r\n",
            )?;
            exchange.hang()
        }
        _ => exchange.behave("s1"),
    });
    let settings = HttpSettings { connect_wait: Duration::from_millis(200), ..settings() };
    let (_, ended) = refusal(&server(&peer.url()).with_settings(settings), &census).await;
    assert_eq!(ended.session, SessionEnd::Deleted);
}

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

fn flood(exchange: &mut Exchange, drop: &str) -> std::io::Result<()> {
    let wave = drop.repeat(4096);
    loop {
        exchange.socket.write_all(wave.as_bytes())?;
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
async fn a_forgotten_session_is_replaced_by_a_new_one_once_a_request() {
    let census = Census::new();
    let sessions = Arc::new(AtomicUsize::new(0));
    let peer = Rude::start({
        let sessions = Arc::clone(&sessions);
        move |exchange| {
            if exchange.rpc() == "initialize" {
                let number = sessions.fetch_add(1, SeqCst) + 1;
                return exchange.behave(&format!("s{number}"));
            }
            // The first session is forgotten at its first use, and so is every one for this tool.
            match (exchange.rpc(), &*exchange.headers["mcp-session-id"]) {
                ("tools/list", "s1") | ("tools/call", _) => exchange.status("404 Not Found", ""),
                _ => exchange.behave("unused"),
            }
        }
    });
    let client = connect(&server(&peer.url()), &census).await;
    assert_eq!(client.handle().session_id().as_deref(), Some("s1"));
    within(client.list_all_tools()).await.expect("in the new session");
    assert_eq!(client.handle().session_id().as_deref(), Some("s2"));
    let held = || census.rows().iter().filter(|row| row.kind.to_string() == "session").count();
    assert_eq!(held(), 1, "{census}");
    call(&client).await.expect_err("no session will do");
    assert_eq!(sessions.load(SeqCst), 3, "one more session for it, and no more");
    assert!(held() <= 1, "{census}");
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

#[tokio::test]
async fn what_is_not_mcp_is_shown() {
    for (content_type, body, wanted) in [
        ("text/html", "<h1>hello</h1>", "text/html"),
        ("application/json", "{\"hello\": 1}", "hello"),
    ] {
        let census = Census::new();
        let peer = Rude::start(move |exchange| {
            exchange.begin(content_type)?;
            exchange.send(body)?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        });
        let (error, _) = refusal(&server(&peer.url()), &census).await;
        assert_says(&error, &["not MCP", wanted]);
    }
}

#[tokio::test]
async fn what_the_server_says_against_the_handshake_is_told() {
    let census = Census::new();
    let peer = Rude::start(|exchange| {
        let error = json!({ "code": -32602, "message": "not on a Saturday" });
        let body = json!({ "jsonrpc": "2.0", "id": exchange.body["id"], "error": error });
        exchange.json("mcp-session-id: s1\r\n", &body)
    });
    let (error, ended) = refusal(&server(&peer.url()), &census).await;
    assert_says(&error, &["rude", "not on a Saturday"]);
    assert_eq!(ended.session, SessionEnd::Deleted);
}

/// A server of an earlier revision, in five voices.
#[tokio::test]
async fn a_probe_that_is_refused_falls_back_to_the_older_handshake() {
    for answer in ["text", "error", "misaddressed", "silence", "silent stream"] {
        let census = Census::new();
        let peer = Rude::start(move |exchange| match (exchange.rpc(), answer) {
            ("server/discover", "text") => exchange.status("400 Bad Request", ""),
            ("server/discover", "silence") => exchange.hang(),
            ("server/discover", "silent stream") => {
                exchange.begin("text/event-stream")?;
                exchange.hang()
            }
            ("server/discover", _) => {
                let id = match answer {
                    "error" => exchange.body["id"].clone(),
                    _ => json!("server-error"),
                };
                let error = json!({ "code": -32601, "message": "what?" });
                let body = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
                let length = body.len();
                exchange.send(&format!(
                    "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: \
                     {length}\r\n\r\n{body}"
                ))
            }
            _ => exchange.behave("s1"),
        });
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: None,
        };
        let settings = HttpSettings { probe_wait: Duration::from_millis(100), ..settings() };
        let server = server(&peer.url()).with_settings(settings);
        let client = within(server.connect_with((), lifecycle, &census)).await.expect(answer);
        assert_eq!(client.handle().session_id().as_deref(), Some("s1"));
        within(client.list_all_tools()).await.expect(answer);
        assert_eq!(close(client, &census).await.session, SessionEnd::Deleted);
        assert_eq!(peer.asked("POST initialize"), 1, "{:?}", peer.log());
    }
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

#[tokio::test]
async fn a_kill_cuts_a_close_short() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match &*exchange.method {
        "DELETE" => exchange.hang(),
        _ => exchange.behave("s1"),
    });
    let settings = HttpSettings { delete_wait: Duration::from_secs(3600), ..settings() };
    let client = connect(&server(&peer.url()).with_settings(settings), &census).await;
    let handle = client.handle().clone();
    let (closed, killed) = within(async {
        tokio::join!(client.close(), async {
            settle("the DELETE", || (peer.asked("DELETE") == 1, peer.log())).await;
            handle.kill()
        })
    })
    .await;
    assert_eq!(closed.to_string(), killed.to_string());
    assert_eq!((closed.session, handle.sockets()), (SessionEnd::NotSent, 0));
    settle("tasks", || (tasks() == 0, tasks())).await;
    assert_empty(&census);
}

#[tokio::test]
async fn a_hurried_close_does_not_wait_for_the_server() {
    let census = Census::new();
    let peer = Rude::start(|exchange| match &*exchange.method {
        "DELETE" => exchange.hang(),
        _ => exchange.behave("s1"),
    });
    let settings = HttpSettings { delete_wait: Duration::from_secs(3600), ..settings() };
    let server = server(&peer.url()).with_settings(settings);
    let client = connect(&server, &census).await;
    let handle = client.handle().clone();
    let (closed, ()) = within(async {
        tokio::join!(client.close(), async {
            settle("the DELETE", || (peer.asked("DELETE") == 1, peer.log())).await;
            handle.hurry();
        })
    })
    .await;
    assert_eq!(closed.session, SessionEnd::TimedOut);
    assert_eq!(within(handle.ended()).await, EndCause::Closed);
    assert_empty(&census);
    // Hurried before it began, it does not even ask.
    let client = connect(&server, &census).await;
    client.handle().hurry();
    assert_eq!(close(client, &census).await.session, SessionEnd::NotSent);
    assert_eq!(peer.asked("DELETE"), 1, "{:?}", peer.log());
}

#[tokio::test]
async fn a_close_during_the_handshake_ends_it() {
    let census = Census::new();
    let peer = Rude::start(Exchange::hang);
    let (transport, handle) = server(&peer.url()).transport(&census).unwrap();
    let (connected, teardown) = within(async {
        tokio::join!(transport.connect((), ClientLifecycleMode::Initialize), async {
            settle("the question", || (peer.asked("POST initialize") == 1, peer.log())).await;
            handle.close().await
        })
    })
    .await;
    connected.expect_err("closed");
    assert_eq!((teardown.cause, &teardown.session), (EndCause::Closed, &SessionEnd::NotNeeded));
    assert!(teardown.is_complete(), "{teardown}");
    assert_empty(&census);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_server_without_tls_is_named() {
    let census = Census::new();
    let peer = Rude::start(|_| Ok(()));
    let url = peer.url().replace("http://", "https://");
    let (error, _) = refusal(&server(&url), &census).await;
    assert_says(&error, &["the TLS handshake with 127.0.0.1"]);
}
