//! Servers that run where no look reaches come to Unknown and never to clean. No container is needed
//! for that: the client in front of it is played by a shell of that name.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Ended, Run, SCUPPER, at_once};
use harness::ledger::verdict::Verdict;

/// A run of `scupper server --config` on one command, in a folder where `docker run` and its kin are
/// shells that play the file `run`: a clean server, or a leaky one.
fn judged(command: &[&str], fake: &str) -> Ended {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let place = folder.path().to_str().expect("a UTF-8 path");
    for name in ["docker", "podman", "ssh", "systemd-run", "flatpak-spawn", "wsl"] {
        symlink("/bin/sh", folder.path().join(name)).expect("a client");
    }
    // The client stays above what it shows, as the real ones do.
    fs::write(folder.path().join("run"), format!("{SCUPPER} fake {fake}; exit\n")).expect("a file");
    let path = std::env::var("PATH").unwrap_or_default();
    let servers = serde_json::json!({ "mcpServers": { "a": {
        "command": command[0], "args": command[1..], "cwd": place,
        "env": { "PATH": format!("{place}:{path}") },
    } } });
    let file = folder.path().join("servers.json");
    fs::write(&file, servers.to_string()).expect("a file of servers");
    let file = file.to_str().expect("a UTF-8 path");
    let words = ["server", "--json", "{home}/report.json", "--config", file];
    let only = ["--only", "clean-close", "--only", "client-killed", "--leak-timeout", "1s"];
    Run::start(&[&words[..], &only].concat(), &[]).end()
}

/// A command, and words of what is said of it.
type Client = (&'static [&'static str], &'static str);

const IN_DOCKER: &str = "in a container that its daemon started (docker)";

const CLIENTS: &[Client] = &[
    (&["docker", "run", "-i", "--rm", "image"], IN_DOCKER),
    (&["podman", "run", "-i", "image"], "in a container (podman)"),
    (&["ssh", "run"], "on another host (ssh)"),
    (&["systemd-run", "run"], "below systemd (systemd-run)"),
    (&["flatpak-spawn", "run"], "below the host's session service (flatpak-spawn)"),
    (&["wsl", "run"], "in another system (wsl)"),
    // Started by what is started.
    (&["sh", "-c", "docker run -i image; true"], IN_DOCKER),
    (&["env", "A=1", "docker", "run", "image"], IN_DOCKER),
];

#[test]
fn a_server_in_a_container_is_unknown_and_why_is_said() {
    at_once(4, CLIENTS, |(command, said)| {
        let ended = judged(command, "plain");
        let report = ended.report();
        let in_full = || format!("{command:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 3, "{}", in_full());
        assert_eq!(report.cases.len(), 2, "{}", in_full());
        for case in &report.cases {
            assert_eq!(case.verdict, Verdict::Unknown, "{}", in_full());
            for said in [said, &"judge the command that runs inside instead"] {
                let told = case.unreadable.iter().any(|text| text.contains(said));
                assert!(told, "{said:?} is not in {:?}", case.unreadable);
            }
        }
    });
}

/// What the client in front of a container leaves is seen, and told beside.
#[test]
fn a_leak_on_this_side_is_still_a_leak() {
    let ended = judged(&["docker", "run", "-i", "image"], "ignores-eof");
    assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
}
