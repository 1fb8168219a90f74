//! Servers of a host: added, called, removed, shut down.

mod support;

use scupper_core::host::{EndReason, HostError, OnDuplicate, ServerState};
use support::{hosted::*, *};

#[tokio::test]
async fn a_server_is_added_called_and_removed() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    assert_eq!(host.server("alpha").unwrap().state, ServerState::Ready);
    let pid = host.server("alpha").unwrap().process.unwrap().pid;
    assert_eq!(call(&host, "alpha", "echo").await, format!("pid {pid}"));

    let end = within(host.remove("alpha")).await.unwrap();

    assert_eq!(end.reason, EndReason::Removed);
    assert!(end.is_clean(), "{end}");
    assert_empty(host.census());
    assert!(within(host.remove("alpha")).await.is_none());
    let error = within(host.call_tool("alpha", tool("echo"))).await.unwrap_err();
    assert_eq!(error.to_string(), "no server `alpha` in this host; it has none");
    assert_eq!(host.census().dropped_without_close(), 0);
}

#[tokio::test]
async fn the_lists_of_all_servers_are_the_lists_of_the_host() {
    let host = host();
    add(&host, "alpha", hosted("", "")).await;
    add(&host, "beta", hosted("", "")).await;
    let names = |list: Vec<String>| list.join(" ");
    let tools = host.tools().into_iter().map(|(server, tool)| format!("{server}:{}", tool.name));
    assert_eq!(names(tools.collect()), "alpha:echo beta:echo");
    assert_eq!(host.resources()[0].1.uri, "file:///a");
    assert_eq!(host.resource_templates()[1].1.name, "x");
    assert_eq!(host.prompts()[0].1.name, "p");
    assert_eq!(host.servers_with_tool("echo").len(), 2);

    within(host.remove("alpha")).await.unwrap();

    assert_eq!(host.tools().len(), 1);
    assert_eq!(*host.servers_with_tool("echo")[0], *"beta");
    assert_eq!(call(&host, "beta", "echo").await.split(' ').next(), Some("pid"));
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn a_shutdown_closes_everything_and_tells_how() {
    let host = host();
    for name in ["alpha", "beta", "gamma"] {
        add(&host, name, hosted("", "")).await;
    }
    let shutdown = within(host.shutdown(ENOUGH)).await;

    assert_empty(host.census());
    let names: Vec<_> = shutdown.servers.iter().map(|end| &*end.server).collect();
    assert_eq!(names, ["alpha", "beta", "gamma"]);
    assert!(shutdown.servers.iter().all(|end| end.is_clean()), "{shutdown}");
    assert!(shutdown.overran.is_empty() && shutdown.left.is_empty(), "{shutdown}");
    let error = within(host.add("delta", hosted("", ""), OnDuplicate::Refuse)).await.unwrap_err();
    assert!(matches!(error, HostError::Closed { .. }), "{error}");
    let error = within(host.call_tool("alpha", tool("echo"))).await.unwrap_err();
    assert!(matches!(error, HostError::Closed { .. }), "{error}");
    assert_eq!(host.statistics().removed, 3);
}
