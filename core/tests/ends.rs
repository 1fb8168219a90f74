//! Every other way to end: drop, cancel, runtime, panic. Looks at the whole process, so the tests of
//! this binary take turns.

mod support;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rmcp::ServiceExt;
use scupper_core::{
    census::Census,
    process::Exit,
    stdio::{EndCause, Settings, StdioServer},
};
use support::*;
use tokio::runtime::{Builder, Runtime};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Descriptor numbers and what they lead to; the one of the look itself left out.
fn descriptors() -> BTreeMap<i32, String> {
    std::fs::read_dir("/proc/self/fd")
        .expect("/proc/self/fd")
        .filter_map(|entry| {
            let entry = entry.expect("an entry");
            let target = std::fs::read_link(entry.path()).ok()?;
            let target = target.to_string_lossy().into_owned();
            let own_look = target.ends_with("/fd");
            let number = entry.file_name().to_str()?.parse().ok()?;
            (!own_look).then_some((number, target))
        })
        .collect()
}

/// Every child of this process, zombies included.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            let mut fields = stat[stat.rfind(')')? + 2..].split(' ');
            (fields.nth(1) == Some(&own)).then_some(stat)
        })
        .collect()
}

/// No process and no descriptor more than before, at this very moment.
#[track_caller]
fn assert_nothing_left(before: &BTreeMap<i32, String>, what: &str) {
    assert_eq!(children(), [""; 0], "{what}");
    assert_eq!(&descriptors(), before, "{what}");
}

fn stubborn() -> StdioServer {
    sh(r#"trap "" TERM; sleep 4720 & while :; do read x || sleep 1; done"#)
}

fn hasty() -> Settings {
    Settings {
        first_grace: Duration::from_millis(15),
        second_grace: Duration::from_millis(15),
        ..Settings::default()
    }
}

#[test]
fn a_dropped_transport_leaves_nothing() {
    let _turn = turn();
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let (transport, handle) = spawn(&stubborn(), &census);
        drop(transport);
        assert_nothing_left(&before, "dropped");
        assert_group_gone(&handle);
        let teardown = handle.outcome().expect("it has ended");
        assert_eq!(teardown.cause, EndCause::DroppedWithoutClose);
        assert!(teardown.is_complete(), "{teardown}");
        assert_eq!(census.dropped_without_close(), 1);
        assert!(census.drops()[0].opened_at.file().ends_with("ends.rs"));
        settle("rows", || (census.is_empty(), census.to_string())).await;
        // A close after the drop tells the same.
        assert_eq!(within(handle.close()).await.rungs, teardown.rungs);
    });
}

#[test]
fn a_dropped_client_leaves_nothing() {
    let _turn = turn();
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let client = within(responder("sleep 4721 &", "").connect((), &census)).await.unwrap();
        drop(client);
        assert_nothing_left(&before, "dropped");
        assert_eq!(census.dropped_without_close(), 1);
        settle("rows", || (census.is_empty(), census.to_string())).await;
    });
}

#[test]
fn a_transport_dropped_after_its_runtime_leaves_nothing() {
    let _turn = turn();
    let before = descriptors();
    let census = Census::new();
    let runtime = runtime();
    let (transport, handle) = runtime.block_on(async { spawn(&stubborn(), &census) });
    drop(runtime);
    assert!(handle.is_alive(), "the owner lives, so does the server");
    drop(transport);
    assert!(handle.outcome().unwrap().is_complete());
    drop(handle);
    assert_nothing_left(&before, "dropped without a runtime");
    assert_empty(&census);
}

#[test]
fn a_dropped_runtime_leaves_nothing_of_the_connections_it_served() {
    let _turn = turn();
    for threads in [0, 2] {
        let before = descriptors();
        let census = Census::new();
        let runtime = match threads {
            0 => runtime(),
            _ => Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap(),
        };
        let (client, handle) = runtime
            .block_on(async { connect(&responder("sleep 4722 &", "sleep 4722"), &census).await });
        drop(runtime);
        assert_group_gone(&handle);
        drop((client, handle));
        assert_nothing_left(&before, "runtime dropped");
        assert_empty(&census);
    }
}

#[test]
fn a_runtime_dropped_in_the_middle_of_a_close_leaves_nothing() {
    let _turn = turn();
    let before = descriptors();
    let census = Census::new();
    let runtime = runtime();
    let handle = runtime.block_on(async {
        let (transport, handle) = spawn(&stubborn(), &census);
        let closing = handle.clone();
        tokio::spawn(async move {
            let _transport = transport;
            closing.close().await
        });
        while handle.state().is_open() {
            tokio::task::yield_now().await;
        }
        handle
    });
    drop(runtime);
    assert!(handle.outcome().expect("ended").was_forced());
    drop(handle);
    assert_nothing_left(&before, "runtime dropped");
    assert_empty(&census);
}

#[test]
fn a_server_can_be_closed_from_another_runtime_when_its_own_is_gone() {
    let _turn = turn();
    let before = descriptors();
    let census = Census::new();
    let first = runtime();
    let (transport, handle) = first.block_on(async { spawn(&responder("", "exit 2"), &census) });
    drop(first);
    let second = runtime();
    let teardown = second.block_on(async { within(handle.close()).await });
    assert_eq!(teardown.exit, Some(Exit::Code(2)), "{teardown}");
    drop((transport, handle, second));
    assert_nothing_left(&before, "closed elsewhere");
    assert_empty(&census);
}

#[test]
fn an_unwinding_panic_leaves_nothing() {
    let _turn = turn();
    let before = descriptors();
    let census = Census::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let runtime = runtime();
        runtime.block_on(async {
            let _kept = spawn(&stubborn(), &census);
            panic!("in the middle");
        });
    }));
    panicked.unwrap_err();
    assert_nothing_left(&before, "panicked");
    assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 1);
}

#[test]
fn a_connect_cancelled_at_any_poll_leaves_nothing() {
    let _turn = turn();
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        for (name, server) in
            [("responder", responder("sleep 4723 &", "")), ("raw", responder("", ""))]
        {
            let census = Census::new();
            let mut polls = 0;
            loop {
                let what = format!("{name}, cancelled after {polls} polls");
                let connected = match name {
                    "raw" => {
                        let (transport, handle) = spawn(&server, &census);
                        cancelled_after(polls, ().serve(transport))
                            .await
                            .map(|client| (client.unwrap(), handle))
                            .map(|pair| {
                                drop(pair.0);
                                pair.1
                            })
                    }
                    _ => cancelled_after(polls, server.connect((), &census)).await.map(|client| {
                        let client = client.unwrap();
                        client.handle().clone()
                    }),
                };
                if let Ok(handle) = connected {
                    let _ = within(handle.close()).await;
                    settle("rmcp's task", || (census.is_empty(), census.to_string())).await;
                    assert_nothing_left(&before, &what);
                    break;
                }
                assert_nothing_left(&before, &what);
                settle(&what, || (census.is_empty(), census.to_string())).await;
                polls += 1;
            }
            assert!(polls >= 3, "{name}: only {polls} polls");
        }
    });
}

#[test]
fn a_close_cancelled_at_any_poll_leaves_nothing() {
    let _turn = turn();
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let servers = [
            ("graceful", responder("", "")),
            ("helper", responder("sleep 4724 &", "")),
            ("ignores stdin", sh("exec sleep 4724").with_settings(hasty())),
            ("ignores all", stubborn().with_settings(hasty())),
        ];
        for (name, server) in servers {
            let census = Census::new();
            for polls in 1.. {
                let what = format!("{name}, cancelled after {polls} polls");
                let (transport, handle) = spawn(&server, &census);
                let closed = cancelled_after(polls, handle.close()).await;
                assert_nothing_left(&before, &what);
                assert!(handle.outcome().expect("ended").is_complete(), "{what}");
                drop(transport);
                settle(&what, || (census.is_empty(), census.to_string())).await;
                if closed.is_ok() {
                    break;
                }
            }
            assert_eq!(census.dropped_without_close(), 0);
        }
    });
}

#[test]
fn a_client_close_cancelled_at_any_poll_leaves_nothing() {
    let _turn = turn();
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        for polls in 0.. {
            let what = format!("cancelled after {polls} polls");
            let client = within(responder("", "").connect((), &census)).await.unwrap();
            let closed = cancelled_after(polls, client.close()).await;
            assert_nothing_left(&before, &what);
            settle(&what, || (census.is_empty(), census.to_string())).await;
            if closed.is_ok() {
                break;
            }
        }
    });
}

#[test]
fn a_cancelled_close_leaves_the_ladder_to_another_closer() {
    let _turn = turn();
    runtime().block_on(async {
        let census = Census::new();
        let (transport, handle) = spawn(&sh("exec sleep 4725"), &census);
        let patient = handle.clone();
        let patient = tokio::spawn(async move { patient.close().await });
        tokio::task::yield_now().await;
        cancelled_after(2, handle.close()).await.unwrap_err();
        let teardown = within(patient).await.unwrap();
        assert!(!teardown.was_forced(), "{teardown}");
        drop(transport);
        assert_empty(&census);
    });
}

#[test]
fn a_hundred_connections_leave_nothing() {
    let _turn = turn();
    let runtime = runtime();
    let before = descriptors();
    runtime.block_on(async {
        let census = Census::new();
        let server = responder("", "");
        for _ in 0..100 {
            let client = within(server.connect((), &census)).await.unwrap();
            let _ = within(client.close()).await;
            assert_nothing_left(&before, "closed");
            assert_empty(&census);
        }
    });
}

#[test]
fn stray_descriptors_of_the_host_do_not_reach_the_server() {
    let _turn = turn();
    let stray = std::fs::File::open("/proc/self/status").unwrap();
    rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
    let high = rustix::io::fcntl_dupfd_cloexec(&stray, 200).unwrap();
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
    runtime().block_on(async {
        let census = Census::new();
        let (transport, handle) =
            spawn(&sh("exec >&2; ls /proc/$$/fd; echo listed; exit 0"), &census);
        said(&handle, "listed").await;
        assert_eq!(handle.stderr_tail().lines, ["0", "1", "2", "listed"]);
        let _ = within(handle.close()).await;
        drop(transport);
        assert_empty(&census);
    });
    drop((stray, high));
}

#[test]
fn a_quiet_close_costs_little_more_than_the_servers_own_exit() {
    let _turn = turn();
    runtime().block_on(async {
        let census = Census::new();
        let mut fastest = Duration::MAX;
        for _ in 0..20 {
            let (client, handle) = connect(&responder("", ""), &census).await;
            let asked = Instant::now();
            let _ = within(handle.close()).await;
            fastest = fastest.min(asked.elapsed());
            within(client.waiting()).await.unwrap();
        }
        println!("fastest close: {fastest:?}");
        assert!(fastest < Duration::from_millis(20), "{fastest:?}");
    });
}
