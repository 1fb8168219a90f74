//! `scupper client` on clients of other languages, on the SDKs that ci/setup installs. Without them
//! these tests print that they were skipped and pass, unless SCUPPER_REQUIRE_REAL_SERVERS is set.

mod support;

use std::path::{Path, PathBuf};

use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Class, Culprit, Verdict};
use harness::report::json::Report;
use support::Run;

/// The moments that tell SDKs apart, and the whole ladder.
const ONLY: &str = "clean-close,ignores-eof-and-term,helper-in-session,dies-mid-initialize,\
                    dies-in-call,sigterm-busy,sigkill-starting";

/// How a client is told of its server over stdio.
const STDIO: &[&str] = &["{command}", "{args}"];

/// Over HTTP: a good server, and some that are not.
const HTTP: &str = "client-http/clean-close,client-http/redirect,client-http/session-lost,\
                    client-http/ends-streams,client-http/sigterm-busy";

fn ci() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci")
}

/// Judges a small client, which has to end with this code; none where its SDK is not installed.
fn judge(
    interpreter: &Path,
    sdk: &str,
    client: &str,
    only: &str,
    peer: &[&str],
    code: i32,
) -> Option<Report> {
    let sdk = ci().join(".installed").join(sdk);
    if !sdk.exists() {
        let said = "real clients are not installed; run ci/setup";
        let is_required = std::env::var_os("SCUPPER_REQUIRE_REAL_SERVERS").is_some();
        assert!(!is_required, "{said}; missing: {}", sdk.display());
        println!("skipped: {said}");
        return None;
    }
    let client = ci().join("subjects").join(client);
    let words = ["client", "--json", "{home}/report.json", "--only", only, "--leak-timeout", "6s"];
    // An interpreter may start slowly on a busy host, which is not what is judged.
    let words = [&words[..], &["--start-timeout", "120s", "--"]].concat();
    let command = [interpreter, &client].map(|path| path.to_str().expect("a UTF-8 path"));
    let ended = Run::start(&[&words[..], &command, peer].concat(), &[]).end();
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
    let (processes, files) = ended.left();
    assert!(processes.is_empty() && files.is_empty(), "left {processes:?} and {files:?}");
    Some(ended.report())
}

/// What both SDKs do: the whole ladder, and no more than the ladder.
fn ends_its_servers_and_leaves_their_helpers(report: &Report) {
    assert_eq!(report.cases.len(), ONLY.split(',').count(), "{:?}", report.notes);
    let case = |id: &str| {
        let found = report.cases.iter().find(|case| case.id == id);
        found.unwrap_or_else(|| panic!("{id} was not played"))
    };
    for case in &report.cases {
        assert_eq!(case.verdict, Verdict::Clean, "{}: {:#?}", case.id, case.findings);
    }
    let ladder = case("client/ignores-eof-and-term");
    let is_whole = |note: &String| {
        let rungs = note.strip_prefix("the client's ladder: end of stdin, SIGTERM ");
        rungs.is_some_and(|rest| rest.contains(", SIGKILL "))
    };
    assert!(ladder.notes.iter().any(is_whole), "{:?}", ladder.notes);
    let [finding] = case("client/helper-in-session").findings.as_slice() else {
        panic!("{:#?}", case("client/helper-in-session").findings)
    };
    assert_eq!((finding.class, finding.culprit), (Class::Advisory, Culprit::Server));
}

/// Over HTTP nothing stays but what a signal kept from being ended.
fn ends_its_sessions(report: &Report) {
    assert_eq!(report.cases.len(), HTTP.split(',').count(), "{:?}", report.notes);
    for case in &report.cases {
        assert_eq!(case.verdict, Verdict::Clean, "{}: {:#?}", case.id, case.findings);
        let is_signalled = case.id == "client-http/sigterm-busy";
        let found = case.findings.iter().map(|one| (one.class, one.kind));
        let expected = is_signalled.then_some((Class::Advisory, Kind::Session));
        assert!(found.eq(expected), "{}: {:#?}", case.id, case.findings);
    }
}

/// The official SDK for Python, and where ci/setup puts it.
fn python(only: &str, peer: &[&str]) -> Option<Report> {
    let interpreter = ci().join(".installed/venv/bin/python");
    judge(&interpreter, "venv/bin/python", "client.py", only, peer, 0)
}

/// The same for TypeScript.
fn typescript(only: &str, peer: &[&str], code: i32) -> Option<Report> {
    let sdk = "npm/node_modules/@modelcontextprotocol/sdk/package.json";
    judge(Path::new("node"), sdk, "client.mjs", only, peer, code)
}

#[test]
fn a_client_on_the_python_sdk() {
    if let Some(report) = python(ONLY, STDIO) {
        ends_its_servers_and_leaves_their_helpers(&report);
    }
}

#[test]
fn a_client_on_the_typescript_sdk() {
    if let Some(report) = typescript(ONLY, STDIO, 0) {
        ends_its_servers_and_leaves_their_helpers(&report);
    }
}

#[test]
fn a_client_on_the_python_sdk_over_http() {
    if let Some(report) = python(HTTP, &["{url}"]) {
        ends_its_sessions(&report);
    }
}

#[test]
fn a_client_on_the_typescript_sdk_over_http() {
    if let Some(report) = typescript(HTTP, &["{url}"], 0) {
        ends_its_sessions(&report);
    }
}

/// Its `close()` alone sends no DELETE: whoever calls no more leaves a session.
#[test]
fn a_client_on_the_typescript_sdk_that_only_closes_leaves_its_session() {
    let only = "client-http/clean-close";
    let Some(report) = typescript(only, &["--no-delete", "{url}"], 1) else { return };
    let [case] = report.cases.as_slice() else { panic!("{:#?}", report.cases) };
    let [leak] = case.findings.as_slice() else { panic!("{:#?}", case.findings) };
    assert_eq!((leak.class, leak.kind), (Class::Leak, Kind::Session));
    assert_eq!(leak.culprit, Culprit::Client);
    assert_eq!(leak.birth_step.name, "client sends initialize");
    assert_eq!(leak.due_step.name, "client exits");
}
