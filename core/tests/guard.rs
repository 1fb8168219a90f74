//! The guard as the host sees it: start, what it holds, loss, close. What it does when the host dies
//! stands in `guard_deaths`.

mod support;

use std::{collections::BTreeMap, fs, time::Duration};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, getsid, kill_process},
};
use scupper_core::{
    census::{Census, Kind},
    guard::{Guard, GuardError, GuardProgram, GuardSettings, WhenLost, run_if_asked},
    process::{Command, Exit, ProcessId, SpawnError},
};
use support::*;

fn settings() -> GuardSettings {
    GuardSettings::new(GuardProgram::At(env!("CARGO_BIN_EXE_scupper_guard").into()))
}

#[track_caller]
fn start(census: &Census) -> Guard {
    Guard::start(settings(), census).expect("a guard")
}

fn signal(process: ProcessId, signal: Signal) {
    kill_process(Pid::from_raw(process.pid).expect("a pid"), signal).expect("sent");
}

/// The descriptors of a process and what they lead to, those that ended in between left out.
fn descriptors(process: ProcessId) -> BTreeMap<i32, String> {
    fs::read_dir(format!("/proc/{}/fd", process.pid))
        .expect("its descriptors")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            Some((entry.file_name().to_str()?.parse().ok()?, target))
        })
        .collect()
}

fn pidfds(process: ProcessId) -> usize {
    descriptors(process).values().filter(|target| target.contains("pidfd")).count()
}

#[test]
fn a_guard_starts_and_closes_without_a_runtime() {
    let census = Census::new();
    let guard = start(&census);
    let line = line!() - 1;
    let process = guard.process();
    assert!(guard.is_alive());
    let rows = census.rows();
    assert_eq!((rows.len(), rows[0].kind), (1, Kind::Guard), "{census}");
    assert_eq!(rows[0].opened_at.line(), line);
    let handle = guard.handle().clone();

    let end = guard.close();

    assert_eq!(
        (end.exit, end.forced, end.left_unguarded),
        (Some(Exit::Code(0)), false, 0),
        "{end}"
    );
    assert!(!process.exists(), "reaped");
    assert!(!handle.is_alive());
    assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 0);
}

#[test]
fn a_dropped_guard_is_ended_and_recorded() {
    let census = Census::new();
    let guard = start(&census);
    let process = guard.process();
    drop(guard);
    assert!(!process.exists(), "reaped");
    assert_empty(&census);
    assert_eq!(census.drops()[0].kind, Kind::Guard);
}

#[tokio::test]
async fn a_guard_has_a_session_and_nothing_of_the_host() {
    // A host that forgot CLOEXEC.
    let _careless = pipe_with(PipeFlags::empty()).expect("a pipe");
    let census = Census::new();
    let guard = start(&census);
    let process = guard.process();

    eventually("its own pidfd and socket, and /dev/null", || {
        let open = descriptors(process);
        let expected = open.len() == 5
            && (0..3).all(|number| open.get(&number).is_some_and(|to| to == "/dev/null"))
            && open.values().any(|to| to.starts_with("socket:"))
            && pidfds(process) == 1;
        (expected, open)
    });
    let pid = Pid::from_raw(process.pid).expect("a pid");
    assert_eq!(getsid(Some(pid)).expect("its session"), pid);
    let environ = fs::read(format!("/proc/{}/environ", process.pid)).expect("its environment");
    assert!(!String::from_utf8_lossy(&environ).contains("CARGO"), "{environ:?}");
    let threads = fs::read_dir(format!("/proc/{}/task", process.pid)).expect("its threads");
    assert_eq!(threads.count(), 1);

    for ignored in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::PIPE] {
        signal(process, ignored);
    }
    // Told after the signals came: had one ended it, this would fail.
    let server = responder("", "").guarded_by(&guard);
    let client = within(server.connect((), &census)).await.expect("connected");
    let _ = within(client.close()).await;
    assert_eq!(guard.close().exit, Some(Exit::Code(0)));
    assert_empty(&census);
}

#[tokio::test]
async fn servers_have_nothing_of_the_guard_and_it_forgets_them_when_they_are_gone() {
    let census = Census::new();
    let guard = start(&census);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let server = responder("", "").guarded_by(&guard);
        let client = within(server.connect((), &census)).await.expect("connected");
        let open = descriptors(client.handle().process());
        assert!(open.values().all(|target| target.starts_with("pipe:")), "{open:?}");
        clients.push(client);
    }
    eventually("the host's pidfd and three", || {
        (pidfds(guard.process()) == 4, descriptors(guard.process()))
    });
    for client in clients {
        let _ = within(client.close()).await;
    }
    // Killed, dropped and never started ones too.
    let (transport, handle) = spawn(&sh("sleep 4901").guarded_by(&guard), &census);
    let _ = handle.kill();
    drop(transport);
    drop(Command::new("sleep").arg("4902").guarded_by(&guard).spawn().expect("spawned"));
    Command::new("/dev/null").guarded_by(&guard).spawn().unwrap_err();
    eventually("the host's pidfd", || (pidfds(guard.process()) == 1, descriptors(guard.process())));
    let end = guard.close();
    assert_eq!(end.left_unguarded, 0, "{end}");
    settle("rows", || (census.is_empty(), census.to_string())).await;
}

#[tokio::test]
async fn a_killed_guard_is_noticed_and_can_be_replaced() {
    let census = Census::new();
    let guard = start(&census);
    let server = responder("", "");
    let client = within(server.clone().guarded_by(&guard).connect((), &census)).await.unwrap();

    signal(guard.process(), Signal::KILL);
    within(guard.ended()).await.expect("noticed");

    assert!(!guard.is_alive());
    let error = server.clone().guarded_by(&guard).spawn(&census).unwrap_err();
    assert!(
        matches!(&error, SpawnError::Unguarded { source: GuardError::Gone { .. }, .. }),
        "{error:?}"
    );
    let second = start(&census);
    let other = within(server.guarded_by(&second).connect((), &census)).await.unwrap();
    for client in [client, other] {
        assert!(within(client.list_all_tools()).await.is_ok(), "the servers live on");
        assert!(within(client.close()).await.is_complete());
    }
    let end = guard.close();
    assert_eq!((end.exit, end.forced), (Some(Exit::Signal(9)), false), "{end}");
    assert_eq!(second.close().exit, Some(Exit::Code(0)));
    assert_empty(&census);
}

#[tokio::test]
async fn a_server_may_go_unguarded_where_the_settings_say_so() {
    let census = Census::new();
    let settings = GuardSettings { when_lost: WhenLost::GoUnguarded, ..settings() };
    let guard = Guard::start(settings, &census).expect("a guard");
    signal(guard.process(), Signal::KILL);
    within(guard.ended()).await.expect("noticed");
    let server = responder("", "").guarded_by(&guard);
    let client = within(server.connect((), &census)).await.expect("connected");
    assert!(within(client.close()).await.is_complete());
    assert_eq!(guard.close().exit, Some(Exit::Signal(9)));
    assert_empty(&census);
}

#[tokio::test]
async fn a_closed_guard_takes_no_more_servers_and_tells_whom_it_leaves() {
    let census = Census::new();
    let guard = start(&census);
    let server = responder("", "").guarded_by(&guard);
    let client = within(server.connect((), &census)).await.expect("connected");
    let end = guard.close();
    assert_eq!(end.left_unguarded, 1, "{end}");
    let error = server.spawn(&census).unwrap_err();
    assert!(
        matches!(&error, SpawnError::Unguarded { source: GuardError::Closed { .. }, .. }),
        "{error:?}"
    );
    assert!(within(client.close()).await.is_complete());
    assert_empty(&census);
}

#[tokio::test]
async fn a_stopped_guard_delays_one_start_refuses_the_next_and_is_closed_by_force() {
    let census = Census::new();
    let wait = Duration::from_millis(50);
    let settings = GuardSettings { send_wait: wait, close_wait: wait, ..settings() };
    let guard = Guard::start(settings, &census).expect("a guard");
    signal(guard.process(), Signal::STOP);
    let command = Command::new("true").guarded_by(&guard);
    // As many as the socket holds start; what refuses then is the wait that ran out.
    let mut refusals = Vec::new();
    for _ in 0..5000 {
        if let Err(error) = command.spawn() {
            refusals.push(error);
        }
        if refusals.len() == 3 {
            break;
        }
    }
    assert_eq!(refusals.len(), 3);
    for error in refusals {
        assert!(
            matches!(&error, SpawnError::Unguarded { source: GuardError::Slow { .. }, .. }),
            "{error:?}"
        );
    }
    let process = guard.process();
    let end = guard.close();
    assert_eq!((end.exit, end.forced), (Some(Exit::Signal(9)), true), "{end}");
    assert!(!process.exists());
    assert_empty(&census);
}

#[test]
fn a_program_that_is_no_guard_is_named_and_ended() {
    let census = Census::new();
    let attempt = |program, start_wait| {
        let settings = GuardSettings { start_wait, ..GuardSettings::new(program) };
        Guard::start(settings, &census).expect_err("no guard")
    };
    // It takes no notice of its arguments and goes about its own business.
    let directory = tempfile::tempdir().expect("a directory");
    let busy = directory.path().join("busy");
    // Written by another process: a descriptor of ours that a test beside this one forks along would
    // make its start fail.
    let write = r#"printf '#!/bin/sh\nexec sleep 4911\n' > "$1" && chmod +x "$1""#;
    let written =
        std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&busy).status().unwrap();
    assert!(written.success());
    let short = Duration::from_millis(200);
    let error = attempt(GuardProgram::At(busy), short);
    assert!(matches!(error, GuardError::NoAnswer { exit: None, .. }), "{error}");
    assert!(error.to_string().contains("said nothing within 200ms"), "{error}");
    let error = attempt(GuardProgram::At("/bin/true".into()), LONG);
    assert!(matches!(error, GuardError::NoAnswer { exit: Some(Exit::Code(0)), .. }), "{error}");
    assert!(error.to_string().contains("first line of its main"), "{error}");
    let error = attempt(GuardProgram::At("/nowhere/guard".into()), LONG);
    assert!(matches!(error, GuardError::Starting { .. }), "{error}");
    // The line is here, but not in the first place of this binary's main, which is libtest's.
    let error = attempt(GuardProgram::Own(run_if_asked()), LONG);
    assert!(matches!(error, GuardError::NoAnswer { exit: Some(_), .. }), "{error}");
    assert_empty(&census);
}
