//! `scupper client` on clients of other languages, on the SDKs that ci/setup installs. Without them
//! these tests print that they were skipped and pass, unless SCUPPER_REQUIRE_REAL_SERVERS is set.

mod support;

use std::path::{Path, PathBuf};

use harness::ledger::verdict::{Class, Culprit, Verdict};
use harness::report::json::Report;
use support::Run;

/// The moments that tell SDKs apart, and the whole ladder.
const ONLY: &str = "clean-close,ignores-eof-and-term,helper-in-session,dies-mid-initialize,\
                    dies-in-call,sigterm-busy,sigkill-starting";

fn ci() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci")
}

/// Judges a small client; none where its SDK is not installed.
fn judge(interpreter: &Path, sdk: &str, client: &str) -> Option<Report> {
    let sdk = ci().join(".installed").join(sdk);
    if !sdk.exists() {
        let said = "real clients are not installed; run ci/setup";
        let is_required = std::env::var_os("SCUPPER_REQUIRE_REAL_SERVERS").is_some();
        assert!(!is_required, "{said}; missing: {}", sdk.display());
        println!("skipped: {said}");
        return None;
    }
    let client = ci().join("subjects").join(client);
    let words = ["client", "--json", "{home}/report.json", "--only", ONLY, "--leak-timeout", "6s"];
    let command = [interpreter, &client].map(|path| path.to_str().expect("a UTF-8 path"));
    let rest = ["--", command[0], command[1], "{command}", "{args}"];
    let ended = Run::start(&[&words[..], &rest].concat(), &[]).end();
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
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

#[test]
fn a_client_on_the_python_sdk() {
    let python = ci().join(".installed/venv/bin/python");
    if let Some(report) = judge(&python, "venv/bin/python", "client.py") {
        ends_its_servers_and_leaves_their_helpers(&report);
    }
}

#[test]
fn a_client_on_the_typescript_sdk() {
    let sdk = "npm/node_modules/@modelcontextprotocol/sdk/package.json";
    if let Some(report) = judge(Path::new("node"), sdk, "client.mjs") {
        ends_its_servers_and_leaves_their_helpers(&report);
    }
}
