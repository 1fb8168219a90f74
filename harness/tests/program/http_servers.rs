//! `scupper server --http`: servers without fault are clean, what cannot be judged says why and what to
//! pass, sessions have the time that they are given, and no credential is shown.

use crate::support::{Ended, Run, SCUPPER, at_once};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Class, Culprit, Verdict};

const URL: &str = "http://127.0.0.1:{port}/mcp";
/// Runs at once. They mostly wait.
const AT_ONCE: usize = 3;
/// A start that cannot come about is not waited for as long as by default.
const SHORT_START: [&str; 2] = ["--start-timeout", "3s"];

/// Judges a fake over HTTP.
fn judge(options: &[&str], fake: &[&str], environment: &[(&str, &str)]) -> Ended {
    let options = [&["--http", URL], options].concat();
    let command = [&[SCUPPER, "fake"], &fake[..1], &["--http", "{port}"], &fake[1..]].concat();
    Run::server(&options, &command, environment).end()
}

#[test]
fn servers_without_fault_are_clean_in_every_era_and_both_ways() {
    // Lifecycles of every sort; the whole battery is for `ci/field-report`.
    let some = "clean-close,reconnect,client-killed,reset,half-open,stream-unread,unfinished-body,\
                sigterm-open-streams,two-signals,restart";
    let rows: &[(&[&str], &[&str], &str)] = &[
        (&["plain"], &[], "2025-11-25"),
        (&["plain"], &["--era", "2026-07-28"], "2026-07-28"),
        #[cfg(feature = "core")]
        (&["reference"], &[], "2025-11-25"),
    ];
    let ended = at_once(AT_ONCE, rows, |(fake, options, _)| {
        judge(&[&["--only", some, "--cycles", "6", "--jobs", "4"], *options].concat(), fake, &[])
    });
    for ((fake, _, era), ended) in rows.iter().zip(ended) {
        let report = ended.report();
        assert_eq!(ended.code, 0, "{fake:?}\n{}\n{}", ended.stdout, ended.stderr);
        assert_eq!(report.cases.len(), 10, "{fake:?}\n{}", ended.stdout);
        for case in &report.cases {
            // One whose clients never came to a handshake has none.
            assert_eq!(case.era.as_deref().unwrap_or(era), *era, "{fake:?}: {}", case.id);
            assert_eq!(case.verdict, Verdict::Clean, "{fake:?}: {}", case.id);
        }
    }
}

#[test]
fn the_older_pair_of_http_and_sse_is_found_out_and_judged() {
    let options =
        ["--http", "http://127.0.0.1:{port}/sse", "--only", "clean-close,reconnect,restart"];
    let command = [SCUPPER, "fake", "plain", "--http", "{port}", "transport=sse"];
    let options = [&options[..], &["--cycles", "6"]].concat();
    let ended = Run::server(&options, &command, &[]).end();
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(ended.report().cases.len(), 3);
}

#[test]
fn what_cannot_be_judged_says_why_and_what_to_pass() {
    let rows = [
        ("never-listens", "none of its processes listens on any port"),
        ("listens-elsewhere", "but the command listens elsewhere: 127.0.0.1:"),
        ("answers-500", "answered 500 to POST server/discover, POST initialize and GET"),
        ("speaks-tls", "Does it want TLS?"),
        ("needs-token", "--header 'Authorization: Bearer $TOKEN'"),
        ("not-found", "answered 404"),
    ];
    let ended = at_once(AT_ONCE, &rows, |(fake, _)| judge(&SHORT_START, &[fake], &[]));
    for ((fake, says), ended) in rows.iter().zip(ended) {
        assert_eq!(ended.code, 3, "{fake}: {}\n{}", ended.stdout, ended.stderr);
        let report = ended.report();
        let [case] = &report.cases[..] else { panic!("{fake}: {}", ended.stdout) };
        let failure = case.failure.as_ref().expect("a failure");
        assert!(failure.not_started && failure.message.contains(says), "{fake}: {failure:?}");
        assert_eq!(ended.left().0, [], "{fake}");
    }
}

#[test]
fn a_port_that_is_in_use_is_told_by_name() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let url = format!("http://127.0.0.1:{port}/mcp");
    let command = [SCUPPER, "fake", "plain", "--http", &port.to_string()];
    let ended = Run::server(&["--http", &url], &command, &[]).end();
    assert_eq!(ended.code, 3, "{}\n{}", ended.stdout, ended.stderr);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains(&format!("port {port}")), "{said}");
}

#[test]
fn a_credential_is_sent_and_shown_nowhere() {
    let secret = "s3same-0pen";
    let options = ["--header", "Authorization: Bearer $MCP_TOKEN", "--only", "clean-close,restart"];
    let token = format!("token={secret}");
    let ended = judge(
        &[&options[..], &["--keep", "{home}/kept"]].concat(),
        &["needs-token", &token],
        &[("MCP_TOKEN", secret)],
    );
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let report = ended.report();
    for case in &report.cases {
        assert!(
            case.repeat.contains("--header 'Authorization: Bearer $MCP_TOKEN'"),
            "{}",
            case.repeat
        );
    }
    let missing = judge(&options, &["needs-token"], &[]);
    assert_eq!(missing.code, 2, "{}", missing.stdout);
    assert!(missing.stderr.contains("the variable MCP_TOKEN is not set"), "{}", missing.stderr);
}

#[test]
fn abandoned_sessions_have_the_time_that_they_are_given() {
    let options = ["--session-ttl", "2s", "--only", "http/abandoned", "--cycles", "5"];
    let rows: [&[&str]; 2] = [&["forgets-abandoned"], &["forgets-abandoned", "--fixed"]];
    let ended = at_once(2, &rows, |fake| judge(&options, fake, &[]));
    let report = ended[0].report();
    let [case] = &report.cases[..] else { panic!("{}", ended[0].stdout) };
    let found = case.findings.iter().find(|finding| finding.kind == Kind::Session);
    let found = found.unwrap_or_else(|| panic!("no session:\n{}", ended[0].stdout));
    assert_eq!((found.class, found.culprit), (Class::Leak, Culprit::Server));
    assert_eq!(found.due_step.name, "drop");
    assert_eq!((ended[0].code, ended[1].code), (1, 0), "{}", ended[1].stdout);
}

#[test]
fn a_finding_is_kept_as_a_file_and_its_replay_finds_it_again() {
    let only = ["--only", "clean-close", "--leak-timeout", "2s", "--keep", "{home}/kept"];
    let ended = judge(&only, &["keeps-deleted-sessions"], &[]);
    assert_eq!(ended.code, 1, "{}\n{}", ended.stdout, ended.stderr);
    let text = ended.file("kept/http/clean-close.toml");
    assert!(text.contains("url = \"http://127.0.0.1:{port}/mcp\""), "{text}");
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("kept.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("a UTF-8 path");
    let replayed = Run::start(&["replay", "--leak-timeout", "2s", path], &[]).end();
    assert_eq!(replayed.code, 1, "{}\n{}", replayed.stdout, replayed.stderr);
    assert!(replayed.stdout.contains("ended by DELETE"), "{}", replayed.stdout);
}
