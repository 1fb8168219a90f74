//! The question for the era of a server, and what a handle tells and does beside a close.

mod support;

use std::time::Duration;

use rmcp::{model::ProtocolVersion, service::ClientLifecycleMode};
use scupper_core::{
    census::Census,
    stdio::{ConnectError, EndCause, Rung, Settings, StdioServer},
};
use support::*;

const INITIALIZED: &str = r#"echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"sh","version":"0"}}}'"#;

fn auto() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::LATEST],
        legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
    }
}

/// A server that does this with `server/discover` and that with `initialize`.
fn server(on_discover: &str, on_initialize: &str) -> StdioServer {
    let script = format!(
        r#"while read -r line; do
  id=${{line#*\"id\":}}; id=${{id%%[,\}}]*}}
  case "$line" in
    *'"method":"server/discover"'*) {on_discover} ;;
    *'"method":"initialize"'*) {on_initialize} ;;
  esac
done"#
    );
    sh(&script).with_settings(Settings { probe_wait: Duration::from_millis(100), ..brisk() })
}

#[tokio::test]
async fn silence_is_taken_for_the_older_protocol_after_the_wait_of_the_settings() {
    let census = Census::new();
    let server = server(":", INITIALIZED);
    let client = within(server.connect_with((), auto(), &census)).await.unwrap();
    assert_eq!(client.peer_info().unwrap().protocol_version, ProtocolVersion::V_2025_06_18);
    assert!(within(client.close()).await.is_complete());
    assert_empty(&census);
}

#[tokio::test]
async fn a_late_answer_is_not_mistaken_for_the_next_one() {
    let census = Census::new();
    let late = format!(
        r#"echo '{{"jsonrpc":"2.0","id":'"$asked"',"error":{{"code":-32601,"message":"late"}}}}'; {INITIALIZED}"#
    );
    let server = server("asked=$id", &late);
    let client = within(server.connect_with((), auto(), &census)).await.unwrap();
    assert!(within(client.close()).await.is_complete());
    assert_empty(&census);
}

#[tokio::test]
async fn whoever_asks_for_the_newer_protocol_alone_waits_for_it() {
    let census = Census::new();
    let settings = Settings {
        connect_wait: Duration::from_millis(300),
        probe_wait: Duration::from_millis(10),
        ..brisk()
    };
    let server = server(":", INITIALIZED).with_settings(settings);
    let discover =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::LATEST] };
    let error = within(server.connect_with((), discover, &census)).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    assert_empty(&census);
}

#[tokio::test]
async fn a_hurried_close_grants_no_grace() {
    let census = Census::new();
    let patient = Settings { first_grace: Duration::MAX, second_grace: Duration::MAX, ..brisk() };
    let (transport, handle) = spawn(&sh("exec sleep 1000").with_settings(patient), &census);
    let closing = tokio::spawn({
        let handle = handle.clone();
        async move { handle.close().await }
    });
    assert_eq!(within(handle.ended()).await, EndCause::Closed);
    assert!(handle.is_alive());

    handle.hurry();

    let teardown = within(closing).await.unwrap();
    assert!(teardown.was_forced() && teardown.at(Rung::Terminated).is_none(), "{teardown}");
    drop(transport);
    assert_empty(&census);
}

#[tokio::test]
async fn a_close_ends_a_handshake_that_is_under_way() {
    let census = Census::new();
    let (transport, handle) = spawn(&sh("cat >/dev/null; exit 5"), &census);
    let connecting = transport.connect((), ClientLifecycleMode::Initialize);
    let (teardown, connected) = within(async { tokio::join!(handle.close(), connecting) }).await;
    assert!(!teardown.was_forced(), "{teardown}");
    let ConnectError::Handshake { ended, .. } = connected.unwrap_err() else {
        panic!("it did not connect");
    };
    assert_eq!(ended.teardown.exit, teardown.exit);
    assert_empty(&census);
}
