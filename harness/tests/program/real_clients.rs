//! `scupper client` on clients of other languages, on the SDKs that ci/setup installs. Without them
//! these tests print that they were skipped and pass, unless SCUPPER_REQUIRE_REAL_SERVERS is set.

use std::path::{Path, PathBuf};

use crate::support::{Ended, Run};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Class, Culprit, Verdict};

/// The moments that tell SDKs apart, and the whole ladder.
const ONLY: &str = "clean-close,ignores-eof-and-term,helper-in-session,dies-mid-initialize,\
                    dies-in-call,sigterm-busy,sigkill-starting";

/// The same over HTTP.
const ONLY_HTTP: &str = "client-http/clean-close,client-http/redirect,client-http/session-lost,\
                         client-http/ends-streams,client-http/stream-stays-open,\
                         client-http/resets-call,client-http/sigterm-busy,\
                         client-http/sigkill-closing";
const PYTHON: &str = ".installed/venv/bin/python";
const PYTHON_SDK: &str = "venv/bin/python";
const NODE_SDK: &str = "npm/node_modules/@modelcontextprotocol/sdk/package.json";

fn ci() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci")
}

/// Judges a small client; none where its SDK is not installed.
fn judge(sdk: &str, only: &str, client: &[&str]) -> Option<Ended> {
    let sdk = ci().join(".installed").join(sdk);
    if !sdk.exists() {
        let said = "real clients are not installed; run ci/setup";
        let is_required = std::env::var_os("SCUPPER_REQUIRE_REAL_SERVERS").is_some();
        assert!(!is_required, "{said}; missing: {}", sdk.display());
        println!("skipped: {said}");
        return None;
    }
    let words = ["client", "--json", "{home}/report.json", "--only", only, "--leak-timeout", "6s"];
    // An interpreter may start slowly on a busy host, which is not what is judged.
    let words = [&words[..], &["--start-timeout", "120s", "--"]].concat();
    let ended = Run::start(&[&words[..], client].concat(), &[]).end();
    let (processes, files) = ended.left();
    assert!(processes.is_empty() && files.is_empty(), "left {processes:?} and {files:?}");
    Some(ended)
}

/// A path below `ci`.
fn path(below: &str) -> String {
    ci().join(below).to_str().expect("a UTF-8 path").to_owned()
}

/// What both SDKs do: the whole ladder, and no more than the ladder.
fn ends_its_servers_and_leaves_their_helpers(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let report = ended.report();
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

/// What every SDK does over HTTP: it ends its session where it can, follows a redirect or gives up,
/// and waits before it opens a stream again.
fn ends_its_sessions(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let report = ended.report();
    assert_eq!(report.cases.len(), ONLY_HTTP.split(',').count(), "{:?}", report.notes);
    for case in &report.cases {
        assert_eq!(case.verdict, Verdict::Clean, "{}: {:#?}", case.id, case.findings);
    }
    let first = &report.cases[0];
    assert_eq!(first.figures.get("sessions_begun"), Some(&1.0), "{:?}", first.figures);
    assert_eq!(first.figures.get("sessions_left"), Some(&0.0), "{:?}", first.figures);
}

#[test]
fn a_client_on_the_python_sdk() {
    let client = [path(PYTHON), path("subjects/client.py")];
    if let Some(ended) = judge(PYTHON_SDK, ONLY, &[&client[0], &client[1], "{command}", "{args}"]) {
        ends_its_servers_and_leaves_their_helpers(&ended);
    }
}

#[test]
fn a_client_on_the_typescript_sdk() {
    let client = path("subjects/client.mjs");
    if let Some(ended) = judge(NODE_SDK, ONLY, &["node", &client, "{command}", "{args}"]) {
        ends_its_servers_and_leaves_their_helpers(&ended);
    }
}

#[test]
fn a_client_on_the_python_sdk_over_http() {
    let client = [path(PYTHON), path("subjects/client.py")];
    if let Some(ended) = judge(PYTHON_SDK, ONLY_HTTP, &[&client[0], &client[1], "{url}"]) {
        ends_its_sessions(&ended);
    }
}

/// And the same client where it leaves out the call that the SDK has for it.
#[test]
fn a_client_on_the_typescript_sdk_over_http() {
    let client = path("subjects/client.mjs");
    if let Some(ended) = judge(NODE_SDK, ONLY_HTTP, &["node", &client, "{url}"]) {
        ends_its_sessions(&ended);
    }
    let only = "client-http/clean-close";
    if let Some(ended) = judge(NODE_SDK, only, &["node", &client, "--no-delete", "{url}"]) {
        assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
        let report = ended.report();
        let [finding] = report.cases[0].findings.as_slice() else { panic!("{:#?}", report.cases) };
        assert_eq!((finding.kind, finding.culprit), (Kind::Session, Culprit::Client));
    }
}
