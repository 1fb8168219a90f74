//! Shell servers and bounded waits, shared by the test binaries.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it, so an expectation would fail in some"
)]

#[path = "hosted.rs"]
pub(crate) mod hosted;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};
use scupper_core::{
    census::Census,
    process::Command,
    stdio::{Settings, StdioHandle, StdioServer, StdioTransport},
};

/// A whole MCP server in shell: answers `initialize`, `tools/list` and `ping`, ends at end of stdin.
pub(crate) const RESPONDER: &str = r#"
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"method":"initialize"'*)
      echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"0"}}}' ;;
    *'"method":"tools/list"'*)
      echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[]}}' ;;
    *'"method":"prompts/list"'*) exit 7 ;;
  esac
done
"#;

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Graces short enough for a test and long enough to be told apart.
pub(crate) fn brisk() -> Settings {
    Settings {
        first_grace: Duration::from_millis(300),
        second_grace: Duration::from_millis(300),
        ..Settings::default()
    }
}

pub(crate) fn sh(script: &str) -> StdioServer {
    StdioServer::new(Command::new("sh").arg("-c").arg(script)).with_settings(brisk())
}

/// The responder, with lines that run before it and lines that run after its loop.
pub(crate) fn responder(before: &str, after: &str) -> StdioServer {
    sh(&format!("{before}\n{RESPONDER}\n{after}"))
}

pub(crate) type Client = RunningService<RoleClient, ()>;

#[track_caller]
pub(crate) fn spawn(server: &StdioServer, census: &Census) -> (StdioTransport, StdioHandle) {
    server.spawn(census).expect("spawned")
}

pub(crate) async fn connect(server: &StdioServer, census: &Census) -> (Client, StdioHandle) {
    let (transport, handle) = spawn(server, census);
    let client = within(().serve(transport)).await.expect("handshake");
    (client, handle)
}

/// Awaits, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("done within 20 s")
}

/// Polls until the condition holds; the message tells what was last seen.
#[track_caller]
pub(crate) fn eventually<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> (bool, T)) {
    let deadline = Instant::now() + LONG;
    loop {
        let (holds, seen) = look();
        if holds {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: last seen {seen:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// As [`eventually`], letting the runtime work in between.
pub(crate) async fn settle<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> (bool, T)) {
    let deadline = Instant::now() + LONG;
    loop {
        let (holds, seen) = look();
        if holds {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: last seen {seen:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until the server has written this line to its stderr.
pub(crate) async fn said(handle: &StdioHandle, line: &str) {
    settle(line, || {
        let tail = handle.stderr_tail();
        (tail.lines.iter().any(|l| l == line), tail)
    })
    .await;
}

/// Waits until so many helpers of the group have become `sleep`: before, they are still the shell.
pub(crate) async fn helpers_sleep(handle: &StdioHandle, count: usize) {
    settle("helpers asleep", || {
        let members = group_members(handle.process().pid);
        let asleep = members.iter().filter(|stat| stat.contains("(sleep)")).count();
        (asleep == count, members)
    })
    .await;
}

#[track_caller]
pub(crate) fn assert_empty(census: &Census) {
    assert!(census.is_empty(), "{census}");
}

/// Nothing of the group is alive, and nothing of it is a zombie of this process. Zombies of PID 1 are
/// dead, and PID 1's to reap.
#[track_caller]
pub(crate) fn assert_group_gone(handle: &StdioHandle) {
    let own = std::process::id().to_string();
    let left: Vec<String> = group_members(handle.process().pid)
        .into_iter()
        .filter(|stat| {
            let mut fields = stat[stat.rfind(')').expect("a name") + 2..].split(' ');
            fields.next() != Some("Z") || fields.next() == Some(&own)
        })
        .collect();
    assert!(left.is_empty(), "left in the group: {left:?}");
}

/// Every process of the group, the dead ones too, straight from /proc.
pub(crate) fn group_members(group: i32) -> Vec<String> {
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let stat = std::fs::read_to_string(path.join("stat")).ok()?;
            let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
            (fields[2].parse() == Ok(group)).then_some(stat)
        })
        .collect()
}

/// A future that is dropped after so many polls; `Err` then.
pub(crate) async fn cancelled_after<F: Future>(polls: usize, future: F) -> Result<F::Output, ()> {
    let mut future = Box::pin(future);
    let mut seen = 0;
    std::future::poll_fn(|cx| {
        if seen == polls {
            return std::task::Poll::Ready(Err(()));
        }
        seen += 1;
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}
