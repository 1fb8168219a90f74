//! Adding, removing and shutting down a host at the same time: each pair of them is well defined.

mod support;

use std::{sync::Arc, time::Duration};

use scupper_core::{
    host::{EndReason, Host, HostError, HostEvent, OnDuplicate, ServerState, Settings, What},
    stdio::{self, Rung},
};
use support::{hosted::*, *};
use tokio::sync::broadcast::Receiver;

/// A server that says nothing until its stdin ends.
const SILENT: &str = "echo up >&2; cat >/dev/null";
/// One that can only be killed.
const STUBBORN: &str = "trap '' TERM; echo up >&2; while :; do sleep 1000; done";

/// Everything that was told of a server until now.
fn told(events: &mut Receiver<HostEvent>, server: &str) -> Vec<What> {
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if *event.server == *server {
            told.push(event.what);
        }
    }
    told
}

/// Waits until the server's process is there, so that it is connecting for sure.
async fn is_up(host: &Host, server: &str) {
    settle("a process", || {
        let view = host.server(server);
        (view.as_ref().is_ok_and(|view| view.process.is_some()), format!("{view:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_removal_unregisters_then_cancels_then_waits() {
    let host = host();
    let mut events = host.events();
    add(&host, "alpha", hosted("", "")).await;
    within(host.remove("alpha")).await.unwrap();
    let told = told(&mut events, "alpha");
    assert!(
        matches!(
            &told[..],
            [
                What::Added,
                What::Ready,
                What::Unregistered,
                What::Cancelled { reason: EndReason::Removed },
                What::Ended(_)
            ]
        ),
        "{told:?}"
    );
}

#[tokio::test]
async fn while_a_server_is_being_removed_nothing_of_it_is_offered() {
    let host = host();
    // It stays until the file is gone.
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("stay");
    std::fs::write(&flag, "").unwrap();
    let stay = format!("while [ -e {} ]; do sleep 0.01; done", flag.display());
    let patient = stdio::Settings { first_grace: Duration::MAX, ..brisk() };
    add(&host, "alpha", scripted(&format!("{HOSTED}\n{stay}"), patient)).await;
    add(&host, "beta", hosted("", "")).await;
    let removing = tokio::spawn({
        let host = host.clone();
        async move { host.remove("alpha").await }
    });
    until(&host, "alpha", |state| *state == ServerState::Closing).await;

    assert_eq!(host.tools().len(), 1);
    assert!(host.server("alpha").unwrap().catalog.prompts.is_empty());
    let error = within(host.call_tool("alpha", tool("echo"))).await.unwrap_err();
    assert_eq!(error.to_string(), "server `alpha` cannot be used: it is closing");
    let error = within(host.add("alpha", hosted("", ""), OnDuplicate::Refuse)).await.unwrap_err();
    assert!(matches!(error, HostError::Duplicate { state: ServerState::Closing, .. }), "{error}");
    assert!(call(&host, "beta", "echo").await.starts_with("pid"));

    let second = tokio::spawn({
        let host = host.clone();
        async move { host.remove("alpha").await }
    });
    std::fs::remove_file(&flag).unwrap();
    let first = within(removing).await.unwrap().unwrap();
    let second = within(second).await.unwrap();
    assert!(second.is_none_or(|second| Arc::ptr_eq(&first, &second)));
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn a_duplicate_is_refused_by_name() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    let before = call(&host, "alpha", "echo").await;
    let error = within(host.add("alpha", hosted("", ""), OnDuplicate::Refuse)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is a server `alpha` already (ready); remove it, choose another name, or add with \
         `OnDuplicate::Replace`"
    );
    assert_eq!(call(&host, "alpha", "echo").await, before);
    assert_eq!(host.statistics().refused, 1);
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn a_replacement_is_opened_after_the_old_one_is_gone() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    let old = host.server("alpha").unwrap().process.unwrap();
    let mut events = host.events();

    let added = within(host.add("alpha", hosted("", ""), OnDuplicate::Replace)).await.unwrap();

    assert_eq!(added.replaced.unwrap().reason, EndReason::Replaced);
    assert!(!old.exists());
    let told = told(&mut events, "alpha");
    let ended = told.iter().position(|what| matches!(what, What::Ended(_)));
    let opened = told.iter().position(|what| matches!(what, What::Added));
    assert!(ended < opened, "{told:?}");
    assert_ne!(call(&host, "alpha", "echo").await, format!("pid {}", old.pid));
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_replace_at_once_leave_one() {
    let host = host();
    let adding: Vec<_> = (0..8)
        .map(|_| tokio::spawn(host.add("alpha", hosted("", ""), OnDuplicate::Replace)))
        .collect();
    let mut added = 0;
    for one in adding {
        match within(one).await.unwrap() {
            Ok(_) => added += 1,
            Err(HostError::Ended { reason: EndReason::Replaced, .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(added >= 1);
    assert_eq!(host.servers().len(), 1);
    assert!(call(&host, "alpha", "echo").await.starts_with("pid"));
    assert_eq!(within(host.shutdown(ENOUGH)).await.servers.len(), 1);
    assert_empty(host.census());
}

#[tokio::test]
async fn a_removal_during_a_connect_ends_the_connect() {
    let host = host();
    let adding = tokio::spawn(host.add("alpha", script(SILENT), OnDuplicate::Refuse));
    is_up(&host, "alpha").await;

    let end = within(host.remove("alpha")).await.unwrap();

    assert_eq!(end.reason, EndReason::Removed);
    assert!(end.is_clean(), "it had the time to end: {end}");
    let error = within(adding).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "connecting of server `alpha`: it ended before, because it was removed"
    );
    assert_empty(host.census());
}

#[tokio::test]
async fn a_shutdown_during_a_connect_ends_the_connect() {
    let host = host();
    let adding = tokio::spawn(host.add("alpha", script(SILENT), OnDuplicate::Refuse));
    is_up(&host, "alpha").await;

    let shutdown = within(host.shutdown(ENOUGH)).await;

    assert_eq!(shutdown.servers.len(), 1);
    assert_eq!(shutdown.servers[0].reason, EndReason::Shutdown);
    let error = within(adding).await.unwrap().unwrap_err();
    assert!(matches!(error, HostError::Ended { reason: EndReason::Shutdown, .. }), "{error}");
    assert_empty(host.census());
}

#[tokio::test]
async fn adding_that_is_cancelled_at_any_poll_leaves_nothing() {
    let host = host();
    let mut polls = 0;
    loop {
        let adding = host.add("alpha", hosted("", ""), OnDuplicate::Refuse);
        let added = cancelled_after(polls, adding).await.is_ok();
        if added {
            break;
        }
        settle("gone", || (host.servers().is_empty(), host.census().to_string())).await;
        settle("empty", || (host.census().is_empty(), host.census().to_string())).await;
        polls += 1;
    }
    assert!(polls > 1, "{polls} polls were enough");
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
    assert_eq!(host.census().dropped_without_close(), 0);
}

#[tokio::test]
async fn adding_that_is_cancelled_removes_the_server_again() {
    let host = host();
    let mut events = host.events();
    let adding = tokio::spawn(host.add("alpha", script(SILENT), OnDuplicate::Refuse));
    is_up(&host, "alpha").await;
    adding.abort();
    settle("empty", || (host.census().is_empty(), host.census().to_string())).await;
    let told = told(&mut events, "alpha");
    let Some(What::Ended(end)) = told.last() else {
        panic!("{told:?}");
    };
    assert_eq!(end.reason, EndReason::AddCancelled);
    assert!(end.is_clean(), "{end}");
    assert_eq!(host.statistics().failed, 1);
}

#[tokio::test]
async fn a_removal_whose_caller_goes_away_goes_on() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    cancelled_after(1, host.remove("alpha")).await.unwrap_err();
    settle("empty", || (host.census().is_empty(), host.census().to_string())).await;
    assert_eq!(host.statistics().removed, 1);
}

#[tokio::test]
async fn a_second_shutdown_waits_for_the_first_and_tells_the_same() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    add(&host, "beta", scripted(STUBBORN_AFTER, brisk())).await;
    let (first, removed, second) = within(async {
        tokio::join!(host.shutdown(ENOUGH), host.remove("beta"), host.shutdown(ENOUGH))
    })
    .await;
    assert!(Arc::ptr_eq(&first, &second));
    let beta = removed.unwrap();
    assert_eq!(beta.reason, EndReason::Shutdown);
    assert!(first.servers.iter().any(|end| Arc::ptr_eq(end, &beta)));
    assert!(Arc::ptr_eq(&first, &within(host.shutdown(Duration::ZERO)).await));
    assert_empty(host.census());
}

const STUBBORN_AFTER: &str = r#"trap '' TERM
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"method":"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"sh","version":"0"}}}' ;;
    *'"id":'*) echo '{"jsonrpc":"2.0","id":'"$id"',"error":{"code":-32601,"message":"unknown"}}' ;;
  esac
done
while :; do sleep 1000; done"#;

#[tokio::test]
async fn a_shutdown_that_overruns_its_deadline_kills_and_says_so() {
    let host = host();
    let patient = stdio::Settings { first_grace: Duration::MAX, ..brisk() };
    add(&host, "alpha", hosted("", "")).await;
    add(&host, "stubborn", scripted(STUBBORN_AFTER, patient)).await;
    let silent = scripted(STUBBORN, patient);
    let adding = tokio::spawn(host.add("connecting", silent, OnDuplicate::Refuse));
    is_up(&host, "connecting").await;

    let shutdown = within(host.shutdown(Duration::from_millis(300))).await;

    assert_eq!(shutdown.overran.join(" "), "connecting stubborn", "{shutdown}");
    assert!(shutdown.left.is_empty());
    for end in &shutdown.servers {
        let Some(scupper_core::host::ConnectionEnd::Stdio(teardown)) = &end.connection else {
            panic!("{end}");
        };
        assert!(teardown.is_complete(), "{end}");
        assert_eq!(teardown.was_forced(), *end.server != *"alpha", "{end}");
        assert!(teardown.at(Rung::Terminated).is_none(), "{end}");
    }
    assert!(
        shutdown.to_string().contains("past its deadline, so not waited for: connecting, stubborn")
    );
    within(adding).await.unwrap().unwrap_err();
    assert_empty(host.census());
}

#[tokio::test]
async fn a_shutdown_whose_caller_goes_away_is_taken_over() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    cancelled_after(1, host.shutdown(ENOUGH)).await.unwrap_err();
    assert!(host.is_closed());
    let shutdown = within(host.shutdown(ENOUGH)).await;
    assert_eq!(shutdown.servers.len(), 1);
    assert!(shutdown.servers[0].is_clean(), "{shutdown}");
    assert_empty(host.census());
}

#[tokio::test]
async fn two_hosts_know_nothing_of_each_other() {
    let (one, two) = (host(), host());
    add(&one, "alpha", hosted("", "")).await;
    add(&two, "alpha", hosted("", "")).await;
    within(one.shutdown(ENOUGH)).await;
    assert_empty(one.census());
    assert!(call(&two, "alpha", "echo").await.starts_with("pid"));
    assert_eq!(two.statistics().removed, 0);
    within(two.shutdown(ENOUGH)).await;
    assert_empty(two.census());
}

#[tokio::test]
async fn there_may_be_so_many_servers_and_no_more() {
    let host = Host::new(Settings { server_limit: 1, ..Settings::default() });
    add(&host, "alpha", hosted("", "")).await;
    let error = within(host.add("beta", hosted("", ""), OnDuplicate::Replace)).await.unwrap_err();
    assert!(matches!(error, HostError::TooMany { limit: 1, .. }), "{error}");
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[test]
fn outside_a_runtime_adding_is_an_error_and_leaves_nothing() {
    let host = host();
    let mut adding = std::pin::pin!(host.add("alpha", hosted("", ""), OnDuplicate::Refuse));
    let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(added) = adding.as_mut().poll(&mut nobody) else {
        panic!("it waits for nothing");
    };
    assert!(matches!(added, Err(HostError::Task { .. })), "{added:?}");
    assert_empty(host.census());
    assert!(host.servers().is_empty());
}
