//! A scope closes its host however it ends; a host that nobody closed is caught and recorded.

mod support;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use scupper_core::{
    census::{Census, Kind},
    host::{Host, HostError, OnDuplicate, Settings},
    process::ProcessId,
};
use support::{hosted::*, *};

fn with(census: &Census) -> Settings {
    Settings { census: census.clone(), ..Settings::default() }
}

/// Adds two servers and hands out their processes.
async fn filled(host: &Host) -> Vec<ProcessId> {
    add(host, "alpha", hosted("", "")).await;
    add(host, "beta", hosted("", "")).await;
    host.servers().iter().map(|view| view.process.expect("a process")).collect()
}

#[track_caller]
fn assert_gone(processes: &[ProcessId]) {
    assert!(processes.len() == 2 && processes.iter().all(|process| !process.exists()));
}

#[tokio::test]
async fn a_scope_closes_on_return_and_on_error() {
    let census = Census::new();
    let (result, shutdown) = within(Host::scope(with(&census), |host| async move {
        let processes = filled(&host).await;
        host.call_tool("nobody", tool("echo")).await.map(|_| ()).map_err(|error| (error, processes))
    }))
    .await;
    let (error, processes) = result.unwrap_err();
    assert!(matches!(error, HostError::NoSuchServer { .. }), "{error}");
    assert_gone(&processes);
    assert!(shutdown.servers.iter().all(|end| end.is_clean()), "{shutdown}");
    assert_empty(&census);
    assert_eq!(census.dropped_without_close(), 0);
}

#[tokio::test]
async fn a_scope_closes_on_panic() {
    let census = Census::new();
    let processes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&processes);
    let scope = Host::scope(with(&census), move |host| async move {
        *noted.lock().unwrap() = filled(&host).await;
        panic!("in the middle of it");
    });
    let panicked = within(tokio::spawn({
        let census = census.clone();
        let mut scope = Box::pin(scope);
        // The panic goes on after the close, so it is caught here.
        std::future::poll_fn(move |cx| {
            match std::panic::catch_unwind(AssertUnwindSafe(|| scope.as_mut().poll(cx))) {
                Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
                Ok(std::task::Poll::Ready(((), _))) => std::task::Poll::Ready(None),
                Err(panic) => {
                    std::task::Poll::Ready(Some((panic_text(&*panic), census.to_string())))
                }
            }
        })
    }))
    .await
    .unwrap();
    let (text, census_then) = panicked.expect("a panic");
    assert_eq!((&*text, &*census_then), ("in the middle of it", "nothing is alive"));
    assert_gone(&processes.lock().unwrap());
    assert_eq!(census.dropped_without_close(), 0);
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic.downcast_ref::<&str>().expect("a text").to_string()
}

#[tokio::test]
async fn a_scope_that_is_cancelled_at_any_poll_leaves_nothing() {
    let census = Census::new();
    let mut polls = 0;
    loop {
        let scope = Host::scope(with(&census), |host| async move {
            add(&host, "alpha", hosted("", "")).await;
            call(&host, "alpha", "echo").await
        });
        if cancelled_after(polls, scope).await.is_ok() {
            break;
        }
        // Dropped, so every process is gone now; the tasks follow as soon as the runtime works.
        assert!(!census.rows().iter().any(|row| row.kind == Kind::Process), "{census}");
        settle("empty", || (census.is_empty(), census.to_string())).await;
        polls += 1;
    }
    assert!(polls > 2, "{polls} polls were enough");
    assert_empty(&census);
    assert!(census.drops().iter().all(|drop| drop.kind == Kind::Server), "{:?}", census.drops());
    assert!(census.dropped_without_close() > 0);
}

#[tokio::test]
async fn a_clone_that_outlives_its_scope_is_closed() {
    let census = Census::new();
    let (host, _) = within(Host::scope(with(&census), |host| async move { host })).await;
    let error = within(host.add("alpha", hosted("", ""), OnDuplicate::Refuse)).await.unwrap_err();
    assert_eq!(error.to_string(), "the host is closed; make another one to add servers");
}

#[tokio::test]
async fn a_host_that_nobody_closed_is_closed_by_its_drop_and_recorded() {
    let census = Census::new();
    let host = Host::new(with(&census));
    let processes = filled(&host).await;
    let copy = host.clone();
    drop(host);
    assert!(processes.iter().all(|process| process.is_alive()), "a clone is the same host");

    drop(copy);

    assert_gone(&processes);
    let drops = census.drops();
    let names: Vec<_> = drops.iter().map(|drop| (drop.kind, &*drop.name)).collect();
    assert_eq!(names, [(Kind::Server, "alpha"), (Kind::Server, "beta")]);
    assert!(drops[0].opened_at.file().ends_with("hosted.rs"), "{drops:?}");
    settle("empty", || (census.is_empty(), census.to_string())).await;
    assert_eq!(census.dropped_without_close(), 2);
}

#[tokio::test]
async fn a_host_dropped_while_it_connects_is_closed_too() {
    let census = Census::new();
    let host = Host::new(with(&census));
    let adding = tokio::spawn(host.add("alpha", script("exec sleep 1000"), OnDuplicate::Refuse));
    settle("a process", || {
        let view = host.server("alpha");
        (view.as_ref().is_ok_and(|view| view.process.is_some()), format!("{view:?}"))
    })
    .await;
    let process = host.server("alpha").unwrap().process.unwrap();
    adding.abort();
    adding.await.unwrap_err();
    drop(host);
    assert!(!process.exists(), "no grace for a host that is gone");
    settle("empty", || (census.is_empty(), census.to_string())).await;
}

#[test]
fn a_runtime_that_is_dropped_takes_its_servers_along() {
    let census = Census::new();
    let host = Host::new(with(&census));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let processes = runtime.block_on(filled(&host));
    drop(runtime);
    assert_gone(&processes);
    assert_empty(&census);
    assert!(host.servers().is_empty());
    assert_eq!(host.statistics().dropped, 2);

    // The host is as good as new in another one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        add(&host, "alpha", hosted("", "")).await;
        assert!(call(&host, "alpha", "echo").await.starts_with("pid"));
        assert_eq!(within(host.shutdown(Duration::from_secs(10))).await.servers.len(), 1);
        assert_empty(&census);
    });
}
