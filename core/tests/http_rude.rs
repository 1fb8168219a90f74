//! The HTTP client against servers that refuse, fall silent or go away: each is a clear error and a
//! bounded end.

#[path = "support/rude.rs"]
mod rude;
#[path = "support/rude_client.rs"]
mod rude_client;
mod support;

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rmcp::{model::ProtocolVersion, service::ClientLifecycleMode};
use rude::{Exchange, Rude};
use rude_client::{assert_says, call, close, connect, refusal, server, settings, tasks};
use scupper_core::{
    census::Census,
    http::{EndCause, HttpConnectError, HttpServer, HttpServerError, HttpSettings, SessionEnd},
};
use serde_json::json;
use support::{assert_empty, settle, within};

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
