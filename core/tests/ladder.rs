//! The shutdown ladder, rung by rung, on real processes.

mod support;

use std::time::{Duration, Instant};

use scupper_core::{
    census::Census,
    lifecycle::State,
    process::Exit,
    stdio::{EndCause, Rung},
};
use support::*;

const SLACK: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_well_behaved_server_is_closed_by_end_of_stdin_and_reaped() {
    let census = Census::new();
    let (client, handle) = connect(&responder("", ""), &census).await;
    assert_eq!(handle.state(), State::Active);
    assert!(within(client.list_all_tools()).await.unwrap().is_empty());
    assert_eq!(census.len(), 3, "{census}");

    let teardown = within(handle.close()).await;

    let rungs: Vec<Rung> = teardown.rungs.iter().map(|(rung, _)| *rung).collect();
    let (first, last) = rungs.split_at(2);
    assert_eq!(first, [Rung::StdinClosed, Rung::Exited], "{teardown}");
    // Which of the two comes first is a matter of the kernel.
    let both = [[Rung::Reaped, Rung::Swept], [Rung::Swept, Rung::Reaped]];
    assert!(both.iter().any(|order| last == order), "{teardown}");
    assert_eq!(teardown.exit, Some(Exit::Code(0)));
    assert_eq!(teardown.cause, EndCause::Closed);
    assert!(teardown.is_complete() && !teardown.was_forced() && teardown.swept.is_empty());
    assert_eq!(handle.state(), State::Closed);
    assert!(!handle.process().exists(), "reaped");
    assert_group_gone(&handle);
    assert_empty(&census);
    within(client.waiting()).await.unwrap();
    assert_eq!(census.dropped_without_close(), 0);
}

#[tokio::test]
async fn a_server_that_ignores_end_of_stdin_gets_sigterm_after_exactly_the_first_grace() {
    let census = Census::new();
    let (transport, handle) = spawn(&sh("exec sleep 1000"), &census);

    let teardown = within(handle.close()).await;

    let term = teardown.at(Rung::Terminated).expect("SIGTERM");
    let grace = brisk().first_grace;
    assert!(term >= grace && term < grace + SLACK, "{teardown}");
    assert_eq!(teardown.exit, Some(Exit::Signal(15)));
    assert!(!teardown.was_forced());
    assert_group_gone(&handle);
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_too_is_killed_after_the_second_grace() {
    let census = Census::new();
    let script = r#"trap "" TERM; echo armed >&2; while :; do read x || sleep 1; done"#;
    let (transport, handle) = spawn(&sh(script), &census);
    said(&handle, "armed").await;

    let teardown = within(handle.close()).await;

    let (term, kill) = (teardown.at(Rung::Terminated).unwrap(), teardown.at(Rung::Killed).unwrap());
    let grace = brisk().second_grace;
    assert!(kill - term >= grace && kill - term < grace + SLACK, "{teardown}");
    assert_eq!(teardown.exit, Some(Exit::Signal(9)));
    assert!(teardown.was_forced() && teardown.is_complete());
    assert_group_gone(&handle);
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn a_helper_left_after_a_graceful_exit_is_swept_and_named() {
    let census = Census::new();
    // The helper holds all three pipes and ignores the signal that most would send.
    let before = r#"(trap "" TERM; exec sleep 4711) &"#;
    let (client, handle) = connect(&responder(before, ""), &census).await;
    helpers_sleep(&handle, 1).await;

    let teardown = within(handle.close()).await;

    assert_eq!(teardown.exit, Some(Exit::Code(0)), "{teardown}");
    assert!(!teardown.was_forced());
    let swept: Vec<&str> = teardown.swept.iter().map(|m| &*m.command).collect();
    assert_eq!(swept, ["sleep 4711"]);
    settle("helper gone", || (!teardown.swept[0].process.is_alive(), ())).await;
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn a_whole_tree_of_helpers_is_swept() {
    let census = Census::new();
    let before = "for i in 1 2 3 4 5; do (sleep 4712 & sleep 4712 & wait) & done";
    let (client, handle) = connect(&responder(before, ""), &census).await;
    helpers_sleep(&handle, 10).await;

    let teardown = within(handle.close()).await;

    assert_eq!(teardown.swept.len(), 15, "{teardown}");
    assert!(teardown.is_complete());
    assert!(teardown.swept.iter().all(|m| !m.process.is_alive()));
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
}

#[tokio::test]
async fn a_server_that_stops_reading_does_not_block_close() {
    let census = Census::new();
    let (mut transport, handle) = spawn(&sh("exec sleep 1000"), &census);
    let mut sends = Vec::new();
    for _ in 0..2 {
        sends.push(tokio::spawn(send(&mut transport, &"x".repeat(200_000))));
    }
    let stuck = tokio::time::timeout(Duration::from_millis(100), &mut sends[0]).await;
    assert!(stuck.is_err(), "the pipe is full, so the send waits");

    let teardown = within(handle.close()).await;

    assert!(teardown.at(Rung::StdinClosed).unwrap() < SLACK);
    assert!(teardown.is_complete(), "{teardown}");
    for send in sends {
        let error = within(send).await.unwrap().expect_err("cut off");
        assert!(error.to_string().contains("has ended"), "{error}");
    }
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn rmcp_close_and_handle_close_tell_the_same_and_the_second_is_idle() {
    let census = Census::new();
    let (mut client, handle) = connect(&responder("", "sleep 0.1; exit 3"), &census).await;
    let other = handle.clone();

    let (quit, first, second) =
        within(async { tokio::join!(client.close(), handle.close(), other.close()) }).await;
    quit.unwrap();
    let third = within(handle.close()).await;

    assert_eq!(first.exit, Some(Exit::Code(3)), "{first}");
    assert_eq!(first.rungs, second.rungs);
    assert_eq!(first.rungs, third.rungs);
    assert_eq!(within(handle.closed()).await.rungs, first.rungs);
    assert_eq!(handle.outcome().unwrap().rungs, first.rungs);
    assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 0);
}

#[tokio::test]
async fn closes_from_several_threads_tell_the_same() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let closers = runtime.spawn(async {
        let census = Census::new();
        let (transport, handle) = spawn(&sh("exec sleep 1000"), &census);
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.close().await.rungs })
            })
            .collect();
        let mut rungs = Vec::new();
        for task in tasks {
            rungs.push(task.await.unwrap());
        }
        drop(transport);
        assert_empty(&census);
        rungs
    });
    let rungs = within(closers).await.unwrap();
    assert!(rungs.iter().all(|r| *r == rungs[0]), "{rungs:?}");
    runtime.shutdown_background();
}

#[tokio::test]
async fn kill_does_not_wait_for_the_graces() {
    let census = Census::new();
    let (transport, handle) = spawn(&sh("exec sleep 1000"), &census);
    let asked = Instant::now();
    let teardown = handle.kill();
    assert!(asked.elapsed() < SLACK);
    assert_eq!(teardown.cause, EndCause::Killed);
    assert_eq!(teardown.exit, Some(Exit::Signal(9)));
    drop(transport);
    settle("attendant gone", || (census.is_empty(), census.to_string())).await;
    assert_eq!(census.dropped_without_close(), 0);
}

#[tokio::test]
async fn a_stopped_server_is_ended_too() {
    let census = Census::new();
    let (transport, handle) = spawn(&sh("kill -STOP $$; exec sleep 1000"), &census);
    let teardown = within(handle.close()).await;
    assert!(teardown.was_forced() && teardown.is_complete(), "{teardown}");
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn goodbyes_that_fill_the_pipes_do_not_keep_a_server_from_leaving() {
    let census = Census::new();
    let after = r#"i=0; while [ $i -lt 3000 ]; do echo "goodbye, and thanks for all the messages that I could read $i"; echo "logged $i" >&2; i=$((i+1)); done; exit 5"#;
    let mut settings = brisk();
    settings.first_grace = LONG;
    let server = responder("", after).with_settings(settings);
    let (client, handle) = connect(&server, &census).await;

    let teardown = within(handle.close()).await;

    assert_eq!(teardown.exit, Some(Exit::Code(5)), "{teardown}");
    let tail = handle.stderr_tail();
    assert_eq!(tail.lines.last().unwrap(), "logged 2999");
    within(client.waiting()).await.unwrap();
    assert_empty(&census);
}

fn send(
    transport: &mut scupper_core::stdio::StdioTransport,
    text: &str,
) -> impl Future<Output = Result<(), scupper_core::stdio::StdioError>> + Send + 'static {
    rmcp::transport::Transport::send(transport, message(text))
}

fn message(text: &str) -> rmcp::model::ClientJsonRpcMessage {
    let line = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": text}
    });
    serde_json::from_value(line).expect("a message")
}
