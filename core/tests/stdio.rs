//! The transport between open and close: messages, limits, errors, deaths.

mod support;

use std::time::{Duration, Instant};

use rmcp::{model::ClientJsonRpcMessage, transport::Transport};
use scupper_core::{
    census::Census,
    lifecycle::State,
    process::{Command, Exit, SpawnError},
    stdio::{ConnectError, EndCause, Rung, Settings, StdioError, StdioServer},
};
use support::*;

#[tokio::test]
async fn a_client_connects_calls_and_closes() {
    let census = Census::new();
    let client = within(responder("", "").connect((), &census)).await.unwrap();
    let server = client.peer_info().unwrap().server_info.clone().unwrap();
    assert_eq!(server.name, "sh");
    assert!(within(client.list_all_tools()).await.unwrap().is_empty());
    let teardown = within(client.close()).await;
    assert_eq!(teardown.exit, Some(Exit::Code(0)), "{teardown}");
    assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 0);
}

#[tokio::test]
async fn the_census_names_the_line_that_opened_a_server() {
    let census = Census::new();
    let server = responder("", "").named("alpha");
    let client = within(server.connect((), &census)).await.unwrap();
    let line = line!() - 1;
    for row in census.rows() {
        let at = row.opened_at;
        let in_core = at.file().ends_with("connection.rs");
        assert!(in_core || (at.file().ends_with("stdio.rs") && at.line() == line), "{census}");
    }
    assert!(census.to_string().contains("alpha"), "{census}");
    let _ = within(client.close()).await;
    assert_empty(&census);
}

#[tokio::test]
async fn a_broken_pipe_ends_the_connection_at_once() {
    let census = Census::new();
    let (mut transport, handle) = spawn(&sh("exec 0<&-; echo deaf >&2; exec sleep 1000"), &census);
    said(&handle, "deaf").await;

    let error = within(transport.send(message("x"))).await.unwrap_err();

    assert!(matches!(error, StdioError::BrokenPipe { .. }), "{error}");
    assert!(within(transport.receive()).await.is_none());
    assert_eq!(handle.state(), State::Closing);
    let error = within(transport.send(message("x"))).await.unwrap_err();
    assert!(
        error.to_string().ends_with("the connection has ended (the server closed its stdin)"),
        "{error}"
    );
    within(transport.close()).await.unwrap();
    assert_eq!(handle.outcome().unwrap().cause, EndCause::BrokenPipe);
    assert_empty(&census);
}

#[tokio::test]
async fn a_server_that_closes_its_stdout_ends_the_connection_at_once() {
    let census = Census::new();
    let (mut transport, handle) = spawn(&sh("exec 1>&-; exec sleep 1000"), &census);
    assert!(within(transport.receive()).await.is_none());
    assert!(handle.is_alive());
    assert_eq!(handle.state(), State::Closing);
    within(transport.close()).await.unwrap();
    assert_eq!(handle.outcome().unwrap().cause, EndCause::StdoutEnded);
    assert_empty(&census);
}

#[tokio::test]
async fn the_longest_waits_do_not_overflow() {
    let census = Census::new();
    let patient = Settings {
        connect_wait: Duration::MAX,
        first_grace: Duration::MAX,
        second_grace: Duration::MAX,
        kill_wait: Duration::MAX,
        drop_wait: Duration::MAX,
        ..Settings::default()
    };
    let server = responder("", "").with_settings(patient);
    let client = within(server.connect((), &census)).await.unwrap();
    let teardown = within(client.close()).await;
    assert!(teardown.is_complete(), "{teardown}");
    let (transport, handle) = spawn(&sh("exec sleep 1000").with_settings(patient), &census);
    drop(transport);
    assert!(handle.outcome().unwrap().is_complete());
}

#[tokio::test]
async fn a_drop_that_may_not_wait_kills_all_the_same_and_says_so() {
    let census = Census::new();
    let settings = Settings { drop_wait: Duration::ZERO, ..brisk() };
    let (transport, handle) = spawn(&sh("exec sleep 1000").with_settings(settings), &census);
    drop(transport);
    let teardown = handle.outcome().unwrap();
    assert!(teardown.at(Rung::Killed).is_some() && teardown.at(Rung::GaveUp).is_some());
    assert!(!teardown.is_complete() && !teardown.problems.is_empty());
    settle("killed", || (!handle.process().is_alive(), ())).await;
}

#[tokio::test]
async fn the_death_of_the_server_fails_a_call_at_once() {
    let census = Census::new();
    let (client, handle) = connect(&responder("", ""), &census).await;
    let asked = Instant::now();
    within(client.list_all_prompts()).await.expect_err("the server exits on this");
    assert!(asked.elapsed() < Duration::from_secs(1));
    let teardown = within(handle.closed()).await;
    assert_eq!(teardown.exit, Some(Exit::Code(7)), "{teardown}");
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn the_death_of_the_server_is_seen_although_a_helper_holds_its_pipes() {
    let census = Census::new();
    let (client, handle) = connect(&responder("sleep 4713 &", ""), &census).await;
    helpers_sleep(&handle, 1).await;
    let asked = Instant::now();
    within(client.list_all_prompts()).await.expect_err("the server exits on this");
    assert!(asked.elapsed() < Duration::from_secs(1));
    let teardown = within(handle.closed()).await;
    assert_eq!(teardown.cause, EndCause::ServerExited, "{teardown}");
    assert_eq!(teardown.swept[0].command, "sleep 4713");
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn answers_written_before_death_are_delivered() {
    let census = Census::new();
    let script = r#"sleep 4714 & echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'; exit 0"#;
    let (mut transport, handle) = spawn(&sh(script), &census);
    settle("exit", || (!handle.is_alive(), ())).await;
    assert!(within(transport.receive()).await.is_some());
    assert!(within(transport.receive()).await.is_none());
    within(transport.close()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn sending_to_a_dead_server_says_so() {
    let census = Census::new();
    // The helper keeps the read end of stdin open, so that no broken pipe tells.
    let (mut transport, handle) = spawn(&sh("exec 3<&0; sleep 4715 <&3 & exit 0"), &census);
    settle("exit", || (!handle.is_alive(), ())).await;
    let error = within(transport.send(message("x"))).await.unwrap_err();
    assert!(matches!(error, StdioError::ServerExited { .. }), "{error}");
    let teardown = within(handle.close()).await;
    assert!(teardown.is_complete(), "{teardown}");
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn use_after_close_is_an_error() {
    let census = Census::new();
    let (mut transport, handle) = spawn(&responder("", ""), &census);
    let _ = within(handle.close()).await;
    let error = within(transport.send(message("x"))).await.unwrap_err();
    let StdioError::Ended { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(source.state, State::Closed);
    assert!(within(transport.receive()).await.is_none());
    within(transport.close()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn a_flood_of_stderr_is_drained_and_bounded() {
    let census = Census::new();
    let before = "i=0; while [ $i -lt 20000 ]; do echo \"$i ........................................\" >&2; i=$((i+1)); done";
    let settings = Settings { stderr_lines: 10, stderr_line_limit_bytes: 8, ..brisk() };
    let server = responder(before, "").with_settings(settings);
    let (client, handle) = connect(&server, &census).await;
    settle("all read", || {
        let tail = handle.stderr_tail();
        (tail.dropped_lines == 19_990, tail)
    })
    .await;
    let tail = handle.stderr_tail();
    assert_eq!(tail.lines.len(), 10);
    assert_eq!(tail.lines[9], "19999 ..…");
    let _ = within(handle.close()).await;
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn an_endless_line_ends_the_connection() {
    let census = Census::new();
    let settings = Settings { stdout_line_limit_bytes: 100_000, ..brisk() };
    let server = sh("exec tr '\\0' 'x' </dev/zero").with_settings(settings);
    let (mut transport, handle) = spawn(&server, &census);
    assert!(within(transport.receive()).await.is_none());
    within(transport.close()).await.unwrap();
    let teardown = handle.outcome().unwrap();
    assert_eq!(teardown.cause, EndCause::LineTooLong(100_000));
    assert!(teardown.to_string().contains("a line of more than 100000 bytes"));
    assert_empty(&census);
}

#[tokio::test]
async fn lines_that_are_no_message_are_skipped_and_counted() {
    let census = Census::new();
    let before = r#"echo "Welcome to sh"; echo; echo '[1,'; echo '{"foo":1}'; printf '\377\376\n'"#;
    let (client, handle) = connect(&responder(before, ""), &census).await;
    assert_eq!(handle.skipped_lines(), 4);
    assert!(within(client.list_all_tools()).await.unwrap().is_empty());
    let _ = within(handle.close()).await;
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn a_backlog_has_a_limit() {
    let census = Census::new();
    let settings = Settings { stdin_backlog_limit_bytes: 300_000, ..brisk() };
    let (mut transport, handle) = spawn(&sh("exec sleep 1000").with_settings(settings), &census);
    let text = "x".repeat(200_000);
    let first = tokio::spawn(transport.send(message(&text)));
    let error = within(transport.send(message(&text))).await.unwrap_err();
    assert!(error.to_string().contains("does not read its stdin (limit 300000"), "{error}");
    let _ = within(handle.close()).await;
    within(first).await.unwrap().unwrap_err();
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn a_cancelled_send_tears_no_line() {
    let census = Census::new();
    // Starts to read late, and then echoes the length of each line.
    let script = "read -r go </dev/null; while [ ! -e \"$GO\" ]; do sleep 0.01; done; while read -r line; do echo ${#line} >&2; done";
    let go = std::env::temp_dir().join(format!("scupper-core-go-{}", std::process::id()));
    let command = Command::new("sh").arg("-c").arg(script).env("GO", &go);
    let (mut transport, handle) = spawn(&StdioServer::new(command), &census);
    let long = message(&"x".repeat(150_000));
    let length = serde_json::to_string(&long).unwrap().len().to_string();
    let cut = tokio::time::timeout(Duration::from_millis(50), transport.send(long)).await;
    assert!(cut.is_err(), "the pipe is full, so the send was cut in the middle");
    std::fs::write(&go, "").unwrap();
    within(transport.send(message("y"))).await.unwrap();
    said(&handle, &length).await;
    let teardown = within(handle.close()).await;
    std::fs::remove_file(&go).unwrap();
    assert!(!teardown.was_forced(), "{teardown}");
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn a_missing_command_says_where_it_was_looked_for() {
    let census = Census::new();
    let command = Command::new("no-such-server").env("PATH", "/usr/bin:/opt/none");
    let error = StdioServer::new(command).spawn(&census).unwrap_err();
    assert_eq!(error.to_string(), "no executable `no-such-server`; looked in /usr/bin, /opt/none");
    assert_empty(&census);
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_is_an_error_at_once() {
    let census = Census::new();
    for path in ["/", "/no/such/file"] {
        let error = StdioServer::new(Command::new(path)).spawn(&census).unwrap_err();
        assert!(matches!(error, SpawnError::Refused { .. }), "{error}");
        assert_eq!(error.to_string(), format!("starting `{path}`: executing it"));
    }
    let error = StdioServer::new(Command::new("sh").arg("a\0b")).spawn(&census).unwrap_err();
    assert_eq!(error.to_string(), "starting `sh`: an argument holds a NUL byte");
    assert_empty(&census);
}

#[test]
fn outside_a_runtime_spawning_is_an_error() {
    let census = Census::new();
    let error = sh("exit 0").spawn(&census).unwrap_err();
    assert!(matches!(error, SpawnError::NoRuntime { .. }), "{error}");
    assert_empty(&census);
}

#[tokio::test]
async fn environment_and_directory_reach_the_server() {
    let census = Census::new();
    let command = Command::new("sh")
        .args(["-c", "echo \"$ONE|$HOME|${TWO-unset}|$(pwd)\" >&2; exit 0"])
        .env("ONE", "1")
        .env("TWO", "2")
        .env_remove("TWO")
        .env("HOME", "/nowhere")
        .current_dir("/usr");
    let (transport, handle) = spawn(&StdioServer::new(command), &census);
    said(&handle, "1|/nowhere|unset|/usr").await;
    let _ = within(handle.close()).await;
    drop(transport);

    let command = Command::new("/usr/bin/env").env("ONLY", "this").env_clear();
    let (transport, handle) = spawn(&StdioServer::new(command), &census);
    let mut transport = transport;
    assert!(within(transport.receive()).await.is_none());
    assert_eq!(handle.skipped_lines(), 1, "one variable, one line");
    let _ = within(handle.close()).await;
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn a_server_that_refuses_the_handshake_is_closed_not_killed() {
    let census = Census::new();
    let server = sh("read -r line; echo 'no licence' >&2; exit 4");
    let error = within(server.connect((), &census)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.ends_with("the server ended with exit code 4; its stderr ends with: no licence"),
        "{text}"
    );
    assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 0);
}

#[tokio::test]
async fn a_server_that_never_answers_is_closed_after_the_wait() {
    let census = Census::new();
    let settings = Settings { connect_wait: Duration::from_millis(100), ..brisk() };
    let server = sh("while read -r line; do :; done; exit 6").with_settings(settings);
    let error = within(server.connect((), &census)).await.unwrap_err();
    let ConnectError::TimedOut { ended, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(ended.teardown.exit, Some(Exit::Code(6)), "{error}");
    assert_empty(&census);
}

#[tokio::test]
async fn a_status_taken_by_another_waiter_is_unknown_and_nothing_is_left() {
    let census = Census::new();
    let (transport, handle) = spawn(&sh("sleep 4716 & exit 9"), &census);
    let pid = rustix::process::Pid::from_raw(handle.process().pid).unwrap();
    helpers_sleep(&handle, 1).await;
    let stolen = rustix::process::waitid(
        rustix::process::WaitId::Pid(pid),
        rustix::process::WaitIdOptions::EXITED,
    );
    assert_eq!(stolen.unwrap().unwrap().exit_status(), Some(9));
    let teardown = within(handle.close()).await;
    assert_eq!(teardown.exit, Some(Exit::Unknown), "{teardown}");
    assert_eq!(teardown.swept[0].command, "sleep 4716");
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn closing_many_takes_as_long_as_the_slowest() {
    let census = Census::new();
    let servers: Vec<_> = (0..8).map(|_| spawn(&sh("exec sleep 1000"), &census)).collect();
    let began = Instant::now();
    let closes: Vec<_> = servers
        .iter()
        .map(|(_, handle)| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.close().await })
        })
        .collect();
    for close in closes {
        let teardown = within(close).await.unwrap();
        assert!(teardown.at(Rung::Terminated).is_some());
    }
    assert!(began.elapsed() < 3 * brisk().first_grace, "{:?}", began.elapsed());
    drop(servers);
    assert_empty(&census);
}

fn message(text: &str) -> ClientJsonRpcMessage {
    let line = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": text}
    });
    serde_json::from_value(line).expect("a message")
}
