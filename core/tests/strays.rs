//! Helpers that left their server's group, with and without the sweep by cookie.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use scupper_core::{
    census::Census,
    process::{Command, ProcessId},
    stdio::{Settings, StdioHandle, StdioServer},
};
use support::*;

fn swept(server: StdioServer) -> StdioServer {
    server.with_settings(Settings { sweep_cookie: true, ..brisk() })
}

/// Living processes with this command line.
fn alive(command: &str) -> Vec<ProcessId> {
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let process = ProcessId::of(pid).ok()?;
            let text = std::fs::read(entry.path().join("cmdline")).ok()?;
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            (text.trim_end() == command && process.is_alive()).then_some(process)
        })
        .collect()
}

/// Waits until the helper is there and in a group of its own.
async fn has_left(command: &str, count: usize) {
    settle("helpers that left", || (alive(command).len() == count, alive(command))).await;
}

fn strays(handle: &StdioHandle) -> Vec<String> {
    let swept = handle.outcome().expect("it has ended").swept;
    swept.into_iter().filter(|m| m.outside_group).map(|m| m.command).collect()
}

#[tokio::test]
async fn a_helper_that_left_is_ended_by_a_close_that_looks_for_it() {
    let census = Census::new();
    let server = swept(responder("setsid sleep 4951 & setsid sleep 4951 &", ""));
    let client = within(server.connect((), &census)).await.unwrap();
    has_left("sleep 4951", 2).await;
    let handle = client.handle().clone();
    let teardown = within(client.close()).await;
    assert_eq!(alive("sleep 4951"), []);
    assert_eq!(strays(&handle), ["sleep 4951"; 2]);
    assert!(teardown.is_complete() && !teardown.was_forced(), "{teardown}");
    assert!(teardown.to_string().contains("had left its group and was killed"), "{teardown}");
    assert_empty(&census);
}

/// The counter-test: it is the option that does it.
#[tokio::test]
async fn a_helper_that_left_lives_on_when_nobody_asked() {
    let census = Census::new();
    let client = within(responder("setsid sleep 4952 &", "").connect((), &census)).await.unwrap();
    has_left("sleep 4952", 1).await;
    let teardown = within(client.close()).await;
    let left = alive("sleep 4952");
    for process in &left {
        kill_process(Pid::from_raw(process.pid).unwrap(), Signal::KILL).unwrap();
    }
    assert_eq!(left.len(), 1);
    assert!(teardown.swept.is_empty(), "{teardown}");
}

#[tokio::test]
async fn a_drop_a_kill_and_a_cancelled_close_look_too() {
    let census = Census::new();
    for way in ["drop", "kill", "cancel"] {
        let server = swept(responder("trap '' TERM; setsid sleep 4953 &", "sleep 4953"));
        let (transport, handle) = spawn(&server, &census);
        has_left("sleep 4953", 1).await;
        match way {
            "drop" => drop(transport),
            "kill" => drop((handle.kill(), transport)),
            _ => {
                cancelled_after(1, handle.close()).await.unwrap_err();
                drop(transport);
            }
        }
        assert_eq!(alive("sleep 4953"), [], "{way}");
        assert_eq!(strays(&handle), ["sleep 4953"], "{way}");
        assert!(handle.outcome().unwrap().is_complete(), "{way}");
    }
    settle("rows", || (census.is_empty(), census.to_string())).await;
}

#[tokio::test]
async fn a_daemon_that_forks_while_it_is_looked_for_is_ended() {
    let census = Census::new();
    // Forked twice, without stdio, deaf to SIGTERM, and starting sessions as fast as it can.
    let daemon = "trap '' TERM HUP; while :; do setsid sleep 4954 & sleep 0.01; done";
    let script = format!("(setsid sh -c \"{daemon}\" <&- >&- 2>&- &)");
    let server = swept(responder(&script, ""));
    let (transport, handle) = spawn(&server, &census);
    settle("some", || (alive("sleep 4954").len() > 5, alive("sleep 4954"))).await;
    let teardown = within(handle.close()).await;
    drop(transport);
    assert_eq!(alive("sleep 4954"), []);
    assert!(strays(&handle).len() > 5, "{teardown}");
    assert!(teardown.is_complete(), "{teardown}");
    settle("rows", || (census.is_empty(), census.to_string())).await;
}

#[tokio::test]
async fn one_server_s_sweep_spares_the_helpers_of_another() {
    let census = Census::new();
    let first = swept(responder("setsid sleep 4955 &", ""));
    let second = swept(responder("setsid sleep 4956 &", ""));
    let first = within(first.connect((), &census)).await.unwrap();
    let second = within(second.connect((), &census)).await.unwrap();
    has_left("sleep 4955", 1).await;
    has_left("sleep 4956", 1).await;
    let _ = within(first.close()).await;
    assert_eq!((alive("sleep 4955").len(), alive("sleep 4956").len()), (0, 1));
    let _ = within(second.close()).await;
    assert_eq!(alive("sleep 4956"), []);
    assert_empty(&census);
}

#[tokio::test]
async fn a_cookie_is_there_only_when_asked_for_and_keeps_what_a_host_above_wrote() {
    let census = Census::new();
    let show = r#"echo "cookie ${SCUPPER_COOKIE-none}" >&2; exec sleep 4957"#;
    let plain = || Command::new("sh").args(["-c", show]).env_remove("SCUPPER_COOKIE");
    let nested = plain().env("SCUPPER_COOKIE", "0123");
    for (server, start, length) in [
        (StdioServer::new(plain()), "cookie none", 11),
        (swept(StdioServer::new(plain())), "cookie ", 7 + 32),
        (StdioServer::new(nested.clone()), "cookie 0123", 11),
        (swept(StdioServer::new(nested)), "cookie 0123:", 12 + 32),
    ] {
        let (_transport, handle) = spawn(&server, &census);
        settle(start, || {
            let tail = handle.stderr_tail();
            let line = tail.lines.first().map_or("", String::as_str);
            (line.starts_with(start) && line.len() == length, tail)
        })
        .await;
        let _ = handle.kill();
    }
}
