//! The admin API over TCP: each endpoint, and each refusal.

#[path = "support/asking.rs"]
mod asking;
#[path = "support/demo.rs"]
mod demo;
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::sync::Arc;

use asking::*;
use scupper_core::{
    admin::{Admin, Figure, MoreFigures, Settings, figures_of_server},
    host::{Host, ServerState},
};
use serde_json::{Value, json};
use support::{assert_empty, hosted, within};

async fn end(admin: Admin, host: &Host) {
    let closed = within(admin.close()).await;
    assert!(closed.is_complete(), "{closed}");
    within(host.shutdown(hosted::ENOUGH)).await;
    assert_empty(host.census());
    assert_eq!(host.census().dropped_without_close(), 0, "{:?}", host.census().drops());
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|one| one["name"].as_str().expect("a name"))
        .collect()
}

#[tokio::test]
async fn servers_are_added_listed_and_removed() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    assert!(at.ip().is_loopback());
    assert_eq!(get(at, "/mcp/servers").await.json()["servers"], json!([]));

    let added = post(at, &server("alpha")).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.json()["server"]["state"], "ready");
    assert_eq!(added.json()["server"]["tools"], 1);
    let pid = host.server("alpha").unwrap().process.unwrap().pid;
    let listed = get(at, "/mcp/servers").await.json();
    assert_eq!(listed["servers"][0]["process"]["pid"], pid);

    let removed = remove(at, "alpha").await;
    assert_eq!(removed.status, 200);
    let end_of_alpha = removed.json()["removed"].take();
    assert_eq!(end_of_alpha["name"], "alpha");
    assert_eq!(
        (&end_of_alpha["clean"], &end_of_alpha["connection"]["forced"]),
        (&json!(true), &json!(false))
    );
    let rungs = end_of_alpha["connection"]["rungs"].as_array().unwrap();
    let rungs: Vec<_> = rungs.iter().map(|rung| rung["rung"].as_str().unwrap()).collect();
    assert_eq!(rungs.first(), Some(&"stdin closed"));
    assert!(rungs.contains(&"swept") && rungs.contains(&"reaped"), "{rungs:?}");
    let again = remove(at, "alpha").await;
    assert_eq!(again.status, 404);
    assert!(again.trouble().contains("`alpha`"));
    end(admin, &host).await;
}

#[tokio::test]
async fn a_removal_tells_what_was_swept_and_what_was_forced() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    let before = "sleep 1000 >/dev/null 2>&1 </dev/null &";
    post(at, &shell("helper", &format!("{before}\n{}", hosted::HOSTED))).await;
    let removed = remove(at, "helper").await.json();
    let connection = &removed["removed"]["connection"];
    let swept = connection["swept"].as_array().unwrap();
    assert_eq!(swept.len(), 1, "{removed}");
    assert_eq!(connection["complete"], true);
    let text = get(at, "/metrics").await.body;
    assert_eq!(metric(&text, "scupper_processes_swept_total"), 1.0);
    assert_eq!(metric(&text, "scupper_connections_forced_total"), 0.0);
    end(admin, &host).await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_or_replaced() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    assert_eq!(post(at, &server("alpha")).await.status, 201);
    let first = host.server("alpha").unwrap().process.unwrap();

    let refused = post(at, &server("alpha")).await;
    assert_eq!(refused.status, 409);
    assert!(refused.trouble().contains("there is a server `alpha` already"));
    assert_eq!(host.server("alpha").unwrap().process, Some(first));

    let mut entry = server("alpha");
    entry["on_duplicate"] = "replace".into();
    let replaced = post(at, &entry).await;
    assert_eq!(replaced.status, 201);
    assert_eq!(replaced.json()["replaced"]["connection"]["process"]["pid"], first.pid);
    assert!(!first.exists());
    assert_eq!(get(at, "/mcp/servers").await.json()["servers"].as_array().unwrap().len(), 1);
    end(admin, &host).await;
}

#[tokio::test]
async fn a_server_that_does_not_start_is_an_error_with_a_cause() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    let missing = post(at, &json!({ "name": "a", "command": "no-such-program-of-ours" })).await;
    assert_eq!(missing.status, 422);
    assert!(missing.trouble().contains("no executable `no-such-program-of-ours`"));
    let mute = post(at, &shell("b", "echo my key is missing >&2; exit 3")).await;
    assert_eq!(mute.status, 502);
    let said = mute.trouble();
    assert!(said.contains("exit code 3") && said.contains("my key is missing"), "{said}");
    let nowhere = json!({ "name": "c", "command": "sh", "cwd": "/no/such/directory" });
    assert_eq!(post(at, &nowhere).await.status, 422);
    assert_eq!(get(at, "/mcp/servers").await.json()["servers"], json!([]));
    end(admin, &host).await;
}

#[tokio::test]
async fn the_dead_are_dropped_by_health_and_counted_as_stale() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    post(at, &server("alpha")).await;
    post(at, &server("beta")).await;
    let all_well = get(at, "/mcp/health").await.json();
    assert_eq!(
        (&all_well["healthy"], names(&all_well["servers"])),
        (&json!(true), vec!["alpha", "beta"])
    );

    within(host.call_tool("alpha", hosted::tool("die"))).await.unwrap_err();
    hosted::until(&host, "alpha", |state| matches!(state, ServerState::Dead { .. })).await;
    let dead = get(at, "/mcp/servers").await.json();
    assert_eq!(dead["servers"][0]["state"], "dead");

    let health = get(at, "/mcp/health").await.json();
    assert_eq!(health["healthy"], false);
    assert_eq!(names(&health["dropped"]), ["alpha"]);
    assert!(health["dropped"][0]["died"].as_str().unwrap().contains("the tool made it die"));
    assert_eq!(names(&health["servers"]), ["beta"]);
    assert_eq!(get(at, "/mcp/health").await.json()["healthy"], true);
    let text = get(at, "/metrics").await.body;
    assert_eq!(metric(&text, "scupper_servers_stale_total"), 1.0);
    assert_eq!(metric(&text, "scupper_servers_died_total"), 1.0);
    assert_eq!(metric(&text, "scupper_servers{state=\"ready\"}"), 1.0);
    end(admin, &host).await;
}

#[tokio::test]
async fn the_census_tells_who_is_alive_and_where_it_came_from() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    post(at, &server("alpha")).await;
    let census = get(at, "/mcp/census").await.json();
    let rows = census["rows"].as_array().unwrap();
    assert_eq!(census["alive"], rows.len());
    let of =
        |kind: &str, name: &str| rows.iter().any(|row| row["kind"] == kind && row["name"] == name);
    assert!(
        of("server", "alpha") && of("process", "alpha") && of("socket", "admin API"),
        "{census}"
    );
    assert!(rows.iter().all(|row| row["opened_at"].as_str().unwrap().contains(".rs:")));
    assert_eq!(census["dropped_without_close"]["count"], 0);
    assert_eq!(census["figures"]["scupper_servers"]["ready"], 1);
    assert_eq!(census["figures"]["scupper_connections"]["active"], 1);
    assert_eq!(census["figures"]["scupper_servers_created"], 1);
    end(admin, &host).await;
}

#[tokio::test]
async fn the_metrics_are_openmetrics_and_count_right() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    post(at, &server("alpha")).await;
    post(at, &server("beta")).await;
    post(at, &server("beta")).await;
    remove(at, "alpha").await;
    let answer = get(at, "/metrics").await;
    assert!(answer.head.contains("content-type: application/openmetrics-text"), "{answer:?}");
    let text = answer.body;
    assert_well_formed(&text);
    for (sample, value) in [
        ("scupper_servers{state=\"ready\"}", 1.0),
        ("scupper_servers{state=\"dead\"}", 0.0),
        ("scupper_servers_created_total", 2.0),
        ("scupper_servers_refused_total", 1.0),
        ("scupper_servers_removed_total", 1.0),
        ("scupper_servers_failed_total", 0.0),
        ("scupper_servers_restarted_total", 0.0),
        ("scupper_connections{state=\"active\"}", 1.0),
        ("scupper_connections{state=\"connecting\"}", 0.0),
        ("scupper_connections_closed_total", 1.0),
        ("scupper_alive{kind=\"server\"}", 1.0),
        ("scupper_alive{kind=\"process\"}", 1.0),
        ("scupper_dropped_without_close_total", 0.0),
        ("scupper_teardown_seconds_count", 1.0),
        ("scupper_teardown_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("scupper_admin_answered_total", 4.0),
        ("scupper_admin_connections", 1.0),
    ] {
        assert_eq!(metric(&text, sample), value, "{sample} in\n{text}");
    }
    assert!(metric(&text, "process_open_fds") > 3.0);
    assert!(metric(&text, "process_max_fds") >= metric(&text, "process_open_fds"));
    assert!(metric(&text, "scupper_children") >= 1.0);
    assert!(metric(&text, "scupper_tasks") >= 2.0);
    assert!(metric(&text, "scupper_runtime_tasks") >= 2.0);
    end(admin, &host).await;
}

/// Every sample belongs to the family above it, which has a type and stands once; `# EOF` is last.
fn assert_well_formed(text: &str) {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let (mut family, mut kind) = ("", "");
    let mut families = std::collections::BTreeSet::new();
    let mut samples = std::collections::BTreeSet::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').expect("help").0;
            assert!(families.insert(family), "{family} stands twice");
            kind = "";
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (of, is) = rest.split_once(' ').expect("a type");
            assert_eq!(of, family);
            kind = is;
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(sample), "{sample} stands twice");
            let suffix =
                sample.split('{').next().and_then(|name| name.strip_prefix(family)).expect(line);
            match kind {
                "gauge" => assert_eq!(suffix, ""),
                "counter" => assert_eq!(suffix, "_total"),
                "histogram" => assert!(["_sum", "_count", "_bucket"].contains(&suffix), "{line}"),
                kind => panic!("{family} has type {kind:?}"),
            }
        }
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    for path in ["/mcp/servers", "/mcp/health", "/mcp/census", "/metrics", "/", "/nothing"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let refused = exchange(at, &request).await.unwrap();
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.head.contains("www-authenticate: bearer"), "{refused:?}");
        refused.trouble();
    }
    let wrong = "POST /mcp/servers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdeX\r\nContent-Length: 30\r\n\r\n{\"name\":\"a\",\"command\":\"false\"}";
    let refused = exchange(at, wrong).await.unwrap();
    assert_eq!(refused.status, 401);
    assert!(!refused.body.contains(TOKEN));
    assert_eq!(host.statistics().created, 0);
    end(admin, &host).await;
}

#[tokio::test]
async fn another_host_is_refused_even_with_the_token() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    let with = |host: &str| request("GET", "/metrics", "").replace("127.0.0.1", host);
    let refused = exchange(at, &with("evil.example")).await.unwrap();
    assert_eq!(refused.status, 403);
    assert!(refused.trouble().contains("`evil.example`"));
    let port = at.port();
    assert_eq!(exchange(at, &with(&format!("localhost:{port}"))).await.unwrap().status, 200);
    let nameless = request("GET", "/metrics", "").replace("Host: 127.0.0.1\r\n", "");
    assert_eq!(exchange(at, &nameless).await.unwrap().status, 403);
    end(admin, &host).await;
}

#[tokio::test]
async fn unknown_paths_and_methods_and_bodies_are_told_what_there_is() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    assert_eq!(get(at, "/mcp/nothing").await.status, 404);
    assert!(get(at, "/mcp/nothing").await.body.contains("/mcp/census"));
    let method = ask(at, "PUT", "/mcp/servers", "").await;
    assert_eq!(method.status, 405);
    assert!(method.trouble().contains("PUT"));
    let method = ask(at, "GET", "/mcp/servers/alpha", "").await;
    assert_eq!(method.status, 405);
    let broken = ask(at, "POST", "/mcp/servers", "{\"name\":").await;
    assert_eq!(broken.status, 400);
    broken.trouble();
    let whole_file =
        ask(at, "POST", "/mcp/servers", r#"{"mcpServers":{"a":{"command":"x"}}}"#).await;
    assert_eq!(whole_file.status, 422);
    whole_file.trouble();
    assert_eq!(host.statistics().created, 0);
    end(admin, &host).await;
}

#[tokio::test]
async fn the_admin_does_not_keep_its_host_and_ends_with_it() {
    let host = hosted::host();
    let census = host.census().clone();
    let admin = start(&host);
    let at = admin.address();
    post(at, &server("alpha")).await;
    let process = host.server("alpha").unwrap().process.unwrap();
    drop(host);
    assert!(!process.is_alive());
    support::settle("everything gone", || (census.is_empty(), census.clone())).await;
    assert!(tokio::net::TcpStream::connect(at).await.is_err());
    drop(admin);
    let drops: Vec<_> = census.drops().into_iter().map(|drop| drop.name.to_string()).collect();
    assert_eq!(drops, ["alpha"]);
}

#[tokio::test]
async fn a_host_that_is_shut_down_takes_its_admin_along() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    within(host.shutdown(hosted::ENOUGH)).await;
    support::settle("everything gone", || (host.census().is_empty(), host.census().clone())).await;
    assert!(tokio::net::TcpStream::connect(at).await.is_err());
    let closed = within(admin.close()).await;
    assert!(closed.is_complete(), "{closed}");
    assert_eq!(host.census().dropped_without_close(), 0);
}

#[tokio::test]
async fn secrets_are_told_to_nobody() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    let secret = "sk-live-3141592653";
    let with_secret = |name: &str, script: &str| {
        let mut entry = shell(name, script);
        entry["env"] = json!({ "API_KEY": secret });
        entry
    };
    let hide = |answer: Answer| {
        assert!(!answer.body.contains(secret) && !answer.head.contains(secret), "{answer:?}");
        answer
    };
    let failed = post(at, &with_secret("a", "echo \"$API_KEY is no key\" >&2; exit 1")).await;
    assert!(hide(failed).trouble().contains("[env API_KEY] is no key"));

    let dying = hosted::HOSTED.replace("the tool made it die", "'\"$API_KEY\"' is no key");
    assert_eq!(hide(post(at, &with_secret("b", &dying)).await).status, 201);
    within(host.call_tool("b", hosted::tool("die"))).await.unwrap_err();
    hosted::until(&host, "b", |state| matches!(state, ServerState::Dead { .. })).await;
    let why = host.server("b").unwrap().state.to_string();
    assert!(why.contains(secret), "the server says it itself: {why}");
    for path in ["/mcp/servers", "/mcp/census", "/metrics"] {
        hide(get(at, path).await);
    }
    let listed = get(at, "/mcp/servers").await.body;
    assert!(listed.contains("[env API_KEY]"), "{listed}");
    let health = hide(get(at, "/mcp/health").await);
    assert!(health.body.contains("[env API_KEY]"), "{health:?}");

    assert_eq!(post(at, &with_secret("c", hosted::HOSTED)).await.status, 201);
    hide(post(at, &with_secret("c", hosted::HOSTED)).await);
    hide(remove(at, "c").await);
    end(admin, &host).await;
}

#[tokio::test]
async fn figures_of_the_program_stand_beside_those_of_the_host() {
    let host = hosted::host();
    let own = || {
        vec![
            Figure::counter("own_things", "Things").of(7),
            Figure::gauge("own_rooms", "Rooms").by("colour", [("red", 1), ("blue", 2)]),
            Figure::gauge("no name", "Spoils the rest").of(1),
            Figure::gauge("scupper_servers", "There already").of(99),
        ]
    };
    let figures: Vec<MoreFigures> = vec![Arc::new(own)];
    let admin = Admin::start(&host, Settings { figures, ..settings() }).expect("started");
    let at = admin.address();
    let text = get(at, "/metrics").await.body;
    assert_well_formed(&text);
    assert_eq!(metric(&text, "own_things_total"), 7.0);
    assert_eq!(metric(&text, "own_rooms{colour=\"blue\"}"), 2.0);
    assert_eq!(metric(&text, "scupper_servers{state=\"ready\"}"), 0.0);
    let figures = get(at, "/mcp/census").await.json()["figures"].take();
    assert_eq!(figures["own_rooms"], json!({ "red": 1, "blue": 2 }));
    assert_eq!(figures["scupper_servers"]["ready"], 0);
    end(admin, &host).await;
}

#[tokio::test]
async fn http_sessions_are_counted_by_state_and_by_what_ended_them() {
    let host = hosted::host();
    let server = demo::serve(host.census(), &demo::Demo::default(), demo::brisk()).await;
    let figures = vec![figures_of_server(&server)];
    let admin = Admin::start(&host, Settings { figures, ..settings() }).expect("started");
    let at = admin.address();
    let mut client = raw::Raw::connect(server.address()).await;
    let session = client.handshake().await;
    let text = get(at, "/metrics").await.body;
    assert_well_formed(&text);
    for (sample, value) in [
        ("scupper_sessions{state=\"connecting\"}", 0.0),
        ("scupper_sessions{state=\"active\"}", 1.0),
        ("scupper_sessions_created_total", 1.0),
        ("scupper_listener_connections", 1.0),
        ("scupper_alive{kind=\"session\"}", 1.0),
    ] {
        assert_eq!(metric(&text, sample), value, "{sample} in\n{text}");
    }
    let listed = get(at, "/mcp/census").await.json();
    assert!(listed["rows"].as_array().unwrap().iter().any(|row| row["kind"] == "session"));

    assert_eq!(client.delete(&session).await.status, 202);
    let text = get(at, "/metrics").await.body;
    for (sample, value) in [
        ("scupper_sessions{state=\"active\"}", 0.0),
        ("scupper_sessions_removed_total{cause=\"deleted by its client\"}", 1.0),
        ("scupper_sessions_removed_total{cause=\"idle\"}", 0.0),
        ("scupper_sessions_swept_total", 0.0),
        ("scupper_sessions_stale_total", 0.0),
        ("scupper_sessions_refused_total", 0.0),
        ("scupper_sessions_cut_total", 0.0),
        ("scupper_listener_cut_total{why=\"idle\"}", 0.0),
    ] {
        assert_eq!(metric(&text, sample), value, "{sample} in\n{text}");
    }
    let figures = get(at, "/mcp/census").await.json()["figures"].take();
    assert_eq!(figures["scupper_sessions_removed"]["deleted by its client"], 1);
    assert!(within(server.close()).await.is_complete());
    end(admin, &host).await;
}

#[tokio::test]
async fn servers_at_a_url_are_added_and_removed_and_their_headers_hidden() {
    let host = hosted::host();
    let server = demo::serve(host.census(), &demo::Demo::default(), demo::brisk()).await;
    let admin = start(&host);
    let at = admin.address();
    let secret = "sk-live-3141592653";
    let headers = json!({ "X-Key": secret });
    let entry = |url: String| json!({ "name": "far", "url": url, "headers": headers });

    let added = post(at, &entry(format!("http://{}/mcp", server.address()))).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.json()["server"]["process"], Value::Null);
    let census = get(at, "/mcp/census").await;
    assert!(!census.body.contains(secret));
    assert_eq!(census.json()["figures"]["scupper_connections"]["active"], 1);
    let removed = remove(at, "far").await.json();
    let connection = &removed["removed"]["connection"];
    // Spoken to in the newer protocol, which has no sessions.
    assert_eq!(connection["kind"], "http");
    assert_eq!(connection["session"], "no session to end");
    assert_eq!(connection["complete"], true, "{removed}");

    let nobody =
        post(at, &entry(format!("http://{}/nothing?key={secret}", server.address()))).await;
    assert_eq!(nobody.status, 502, "{nobody:?}");
    assert!(!nobody.body.contains(secret), "{nobody:?}");
    nobody.trouble();
    let no_url = post(at, &entry(format!("no://url?key={secret}"))).await;
    assert_eq!(no_url.status, 422);
    assert!(!no_url.body.contains(secret), "{no_url:?}");
    assert!(within(server.close()).await.is_complete());
    end(admin, &host).await;
}
