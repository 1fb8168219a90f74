//! Servers that fail to start, die, fall silent or deaf: noticed, told, cleaned up, started again.

mod support;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rmcp::{
    ClientHandler, RoleClient,
    model::{GetPromptRequestParams, ReadResourceRequestParams},
    service::NotificationContext,
};
use scupper_core::{
    host::{
        EndReason, Era, Host, HostError, OnDuplicate, Restart, ServerSpec, ServerState, Settings,
    },
    process::Command,
    stdio,
};
use support::{hosted::*, *};

#[tokio::test]
async fn a_server_that_dies_fails_its_calls_at_once_and_says_why() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    let hanging = tokio::spawn({
        let host = host.clone();
        async move { host.call_tool("alpha", tool("hang")).await }
    });
    settle("hanging", || {
        let tail = host.stderr_tail("alpha").unwrap();
        (tail.lines.contains(&"hanging".to_owned()), tail)
    })
    .await;
    let asked = Instant::now();
    let error = within(host.call_tool("alpha", tool("die"))).await.unwrap_err();
    let other = within(hanging).await.unwrap().unwrap_err();
    assert!(asked.elapsed() < LONG / 2, "far below the time-out of a call");
    for error in [error, other] {
        assert!(matches!(error, HostError::Died { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("calling a tool of server `alpha`: the server died: "), "{text}");
        assert!(text.ends_with("its stderr ends with: the tool made it die"), "{text}");
    }
    until(&host, "alpha", |state| matches!(state, ServerState::Dead { .. })).await;
    assert!(host.tools().is_empty() && host.prompts().is_empty());
    // Only its name and the task that keeps it are left.
    settle("two rows", || (host.census().len() == 2, host.census().to_string())).await;
    let error = within(host.call_tool("alpha", tool("echo"))).await.unwrap_err();
    assert!(error.to_string().contains("cannot be used: it is dead: "), "{error}");

    let end = within(host.remove("alpha")).await.unwrap();
    assert!(end.died.is_some(), "{end}");
    assert_empty(host.census());
    assert_eq!(host.statistics().died, 1);
    assert_eq!(host.census().dropped_without_close(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told_so_and_stays() {
    let host = Host::new(Settings { call_wait: Duration::from_millis(100), ..Settings::default() });
    add(&host, "alpha", hosted("", "")).await;
    let error = within(host.call_tool("alpha", tool("hang"))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "calling a tool of server `alpha`: no answer within 100ms (`Settings::call_wait`)"
    );
    assert!(call(&host, "alpha", "echo").await.starts_with("pid"));
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn a_failed_send_closes() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    let (deaf, _) = within(async {
        tokio::join!(host.call_tool("alpha", tool("deaf")), async {
            settle("deaf", || {
                let tail = host.stderr_tail("alpha");
                let is_deaf = tail.as_ref().is_ok_and(|tail| tail.lines.contains(&"deaf".into()));
                (is_deaf, format!("{tail:?}"))
            })
            .await;
            host.call_tool("alpha", tool("echo")).await.unwrap_err()
        })
    })
    .await;
    assert!(matches!(deaf, Err(HostError::Died { .. })), "{deaf:?}");
    until(&host, "alpha", |state| matches!(state, ServerState::Dead { .. })).await;
    within(host.remove("alpha")).await.unwrap();
    assert_empty(host.census());
}

#[tokio::test]
async fn a_server_that_reads_too_slowly_is_closed_when_a_send_fails() {
    let host = host();
    let settings = stdio::Settings { stdin_backlog_limit_bytes: 200_000, ..brisk() };
    let deaf_after = HOSTED.replace("echo hanging >&2", "echo hanging >&2; exec sleep 1000");
    add(&host, "alpha", scripted(&deaf_after, settings)).await;
    let hanging = tokio::spawn({
        let host = host.clone();
        async move { host.call_tool("alpha", tool("hang")).await }
    });
    settle("hanging", || {
        let tail = host.stderr_tail("alpha").unwrap();
        (tail.lines.contains(&"hanging".to_owned()), tail)
    })
    .await;
    let big = serde_json::json!({"text": "x".repeat(180_000)});
    let big = tool("echo").with_arguments(big.as_object().unwrap().clone());
    let (one, two) = within(async {
        tokio::join!(host.call_tool("alpha", big.clone()), host.call_tool("alpha", big))
    })
    .await;
    for error in [one.unwrap_err(), two.unwrap_err(), within(hanging).await.unwrap().unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("a message could not be sent") && text.contains("limit"), "{text}");
    }
    within(host.remove("alpha")).await.unwrap();
    assert_empty(host.census());
}

#[tokio::test]
async fn servers_that_do_not_get_ready_are_errors_with_a_cause_and_leave_the_name_free() {
    let host = host();
    let hasty = stdio::Settings { connect_wait: Duration::from_millis(200), ..brisk() };
    let cases: [(ServerSpec, &str); 4] = [
        (ServerSpec::stdio(Command::new("no-such-program")), "no executable `no-such-program`"),
        (script("echo 'no key' >&2; exit 3"), "exit code 3; its stderr ends with: no key"),
        (scripted("cat >/dev/null", hasty), "no handshake within 200ms"),
        (
            script(&HOSTED.replace(
                "*'\"method\":\"tools/list\"'*)",
                "*'\"method\":\"tools/list\"'*) exit 4;;\n*nothing*)",
            )),
            "the server died: the",
        ),
    ];
    for (spec, said) in cases {
        let error = within(host.add("alpha", spec, OnDuplicate::Refuse)).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_empty(host.census());
        assert!(host.servers().is_empty());
    }
    let statistics = host.statistics();
    assert_eq!((statistics.created, statistics.failed), (4, 4));
    add(&host, "alpha", hosted("", "")).await;
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn a_server_that_dies_of_the_probe_is_opened_once_more_without() {
    let host = host();
    let dies = HOSTED.replace(
        "case \"$line\" in",
        "case \"$line\" in *'\"method\":\"server/discover\"'*) exit 9 ;;",
    );
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("starts");
    let script_of = |after: &str| script(&format!("echo . >>{}; {after}", log.display()));
    let starts = || std::fs::read_to_string(&log).unwrap().lines().count();

    add(&host, "alpha", script_of(&dies)).await;
    assert!(call(&host, "alpha", "echo").await.starts_with("pid"));
    assert_eq!(starts(), 2);
    // Once, not for ever.
    within(host.add("beta", script_of("read -r line; exit 9"), OnDuplicate::Refuse))
        .await
        .unwrap_err();
    assert_eq!(starts(), 4);
    // And not where nobody asked.
    let plain = script_of("read -r line; exit 9").with_era(Era::Initialize);
    within(host.add("gamma", plain, OnDuplicate::Refuse)).await.unwrap_err();
    assert_eq!(starts(), 5);
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn a_dead_server_is_started_again_with_its_lists_up_to_a_cap() {
    let restart =
        Restart { attempts: 2, first_pause: Duration::from_millis(1), ..Restart::default() };
    let host = Host::new(Settings { restart: Some(restart), ..Settings::default() });
    add(&host, "alpha", hosted("", "")).await;
    for died in 1..=2 {
        let before = host.server("alpha").unwrap().process;
        within(host.call_tool("alpha", tool("die"))).await.unwrap_err();
        settle("again", || {
            let view = host.server("alpha").unwrap();
            (view.state == ServerState::Ready && view.process != before, format!("{view:?}"))
        })
        .await;
        assert_eq!(host.tools().len(), 1);
        assert!(call(&host, "alpha", "echo").await.starts_with("pid"));
        assert_eq!(host.statistics().restarted, died);
    }
    within(host.call_tool("alpha", tool("die"))).await.unwrap_err();
    until(&host, "alpha", |state| matches!(state, ServerState::Dead { .. })).await;
    assert_eq!(host.statistics().died, 3);
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn a_server_that_is_waiting_for_its_restart_can_be_removed() {
    let restart =
        Restart { first_pause: Duration::MAX, longest_pause: Duration::MAX, ..Restart::default() };
    let host = host();
    add(&host, "alpha", hosted("", "").with_restart(Some(restart))).await;
    within(host.call_tool("alpha", tool("die"))).await.unwrap_err();
    until(&host, "alpha", |state| matches!(state, ServerState::Restarting { attempt: 1, .. }))
        .await;
    assert!(within(host.health()).await.dropped.is_empty(), "it will be started again");
    let end = within(host.remove("alpha")).await.unwrap();
    assert_eq!(end.reason, EndReason::Removed);
    assert_empty(host.census());
}

#[tokio::test]
async fn health_removes_the_dead_and_tells_which() {
    let host = host();
    for name in ["alpha", "beta", "gamma"] {
        add(&host, name, hosted("", "")).await;
    }
    let dead = host.server("beta").unwrap().process.unwrap();
    let pid = rustix::process::Pid::from_raw(dead.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    settle("dead", || (!dead.is_alive(), ())).await;

    let health = within(host.health()).await;

    let names: Vec<_> = health.servers.iter().map(|view| &*view.name).collect();
    assert_eq!(names, ["alpha", "gamma"]);
    assert_eq!(health.dropped.len(), 1);
    assert_eq!(
        (&*health.dropped[0].server, health.dropped[0].reason),
        ("beta", EndReason::Unhealthy)
    );
    assert!(health.dropped[0].died.is_some());
    assert_eq!(host.statistics().stale, 1);
    assert!(within(host.health()).await.dropped.is_empty());
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

/// Hears everything; dropped with the last connection that has it.
struct Listener(#[expect(dead_code, reason = "it is its end that counts")] Arc<()>);

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        // At work when the connection ends.
        std::future::pending().await
    }
}

#[tokio::test]
async fn nothing_that_was_kept_of_a_server_outlives_it() {
    let host = host();
    let token = Arc::new(());
    let alive = Arc::downgrade(&token);
    add(&host, "alpha", hosted("", "").with_handler(Listener(token))).await;
    assert_eq!(call(&host, "alpha", "grow").await, "grown");
    settle("the new tool", || {
        let tools = host.tools();
        (tools.len() == 2, format!("{tools:?}"))
    })
    .await;
    let params = ReadResourceRequestParams::new("file:///a");
    within(host.read_resource("alpha", params)).await.unwrap();
    within(host.get_prompt("alpha", GetPromptRequestParams::new("p"))).await.unwrap();
    let catalog: Weak<_> = Arc::downgrade(&host.server("alpha").unwrap().catalog);
    assert!(catalog.upgrade().is_some() && alive.upgrade().is_some());

    within(host.remove("alpha")).await.unwrap();

    assert!(catalog.upgrade().is_none(), "the lists");
    assert!(alive.upgrade().is_none(), "the handler, and all that rmcp's service holds");
    assert_empty(host.census());
    drop(host);
}
