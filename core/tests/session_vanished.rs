//! A peer that is gone without a FIN: no packet comes from it any more, not even an acknowledgement.
//!
//! The test runs itself in a network namespace of its own, where the loopback interface is its to take
//! down; that needs no privilege where the host allows user namespaces. Where it does not, the test
//! says so and judges the nearest thing: a peer that never reads nor writes again.

#[path = "support/alone.rs"]
mod alone;
#[path = "support/demo.rs"]
mod demo;
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use alone::alone;
use demo::{Demo, brisk, serve_with};
use raw::{Raw, call};
use scupper_core::session::{Cause, ListenerSettings, Settings};
use support::settle;

const NAME: &str = "peers_that_vanish_without_a_word_leave_nothing";
const IN_NAMESPACE: &str = "SCUPPER_TEST_IN_NAMESPACE";

fn loopback(state: &str) -> bool {
    let status = Command::new("ip").args(["link", "set", "lo", state]).status();
    status.is_ok_and(|status| status.success())
}

fn can_have_a_namespace() -> bool {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn peers_that_vanish_without_a_word_leave_nothing() {
    let inside = std::env::var_os(IN_NAMESPACE).is_some();
    if !inside && can_have_a_namespace() {
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net"])
            .arg(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
            .env(IN_NAMESPACE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    if inside {
        assert!(loopback("up"), "the namespace is ours");
    } else {
        eprintln!("no user namespaces or no `ip` here: peers fall silent instead of vanishing");
    }
    alone(NAME, |census| async move {
        // Where packets really vanish, nothing but TCP is there to find out.
        let limit = Duration::from_secs(if inside { 3600 } else { 2 });
        let settings = Settings { idle_limit: limit, ..brisk() };
        let listener = ListenerSettings {
            silent_peer_limit: Duration::from_secs(3),
            header_read_limit: limit,
            idle_limit: limit,
            ..ListenerSettings::default()
        };
        let server = serve_with(&census, &Demo::default(), settings, listener).await;
        let mut peers = Vec::new();
        for place in 0..12 {
            let mut peer = Raw::connect(server.address()).await;
            let session = peer.handshake().await;
            match place % 3 {
                // With keep-alive comments under way.
                0 => peer.listen(&session).await,
                // Between two requests, with nothing to send.
                1 => {}
                // Half a request sent.
                _ => peer.write(&call(1, "echo")[..20]).await,
            }
            peers.push(peer);
        }
        if inside {
            assert!(loopback("down"), "the namespace is ours");
        }
        settle("no socket of the peers", || (server.connections().open == 0, census.to_string()))
            .await;
        if inside {
            // A client whose network comes back finds its session; the idle sweep is the limit.
            assert_eq!(server.sessions().statistics().active, 12);
        } else {
            settle("no session of the peers", || {
                let removed = server.sessions().statistics().removed;
                (removed.get(&Cause::Idle) == Some(&12), removed)
            })
            .await;
        }
        drop(peers);
        assert!(server.close().await.is_complete());
    });
}
