//! What others made reads what we write: the schema and a reader of JUnit files, the schema and the validator
//! of SARIF, the schema of our own JSON by another validator than that of the unit tests.
//!
//! `ci/setup formats` installs them. Without them this prints that it was skipped and passes, unless
//! SCUPPER_REQUIRE_REAL_SERVERS is set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Run, SCUPPER, at_once};

/// Python with what reads the reports; none where it is not installed and need not be.
fn installed() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.installed/formats/bin/python");
    if python.exists() {
        return Some(python);
    }
    let said = "what reads the reports is not installed; run ci/setup formats";
    let is_required = std::env::var_os("SCUPPER_REQUIRE_REAL_SERVERS").is_some();
    assert!(!is_required, "{said}; missing: {}", python.display());
    println!("skipped: {said}");
    None
}

/// The reports of a run, each in a file of this folder; with the exit code that it must have.
fn written(folder: &Path, words: &[&str], after: &[&str], code: i32) {
    fs::create_dir_all(folder).expect("a folder");
    let path = |name: &str| folder.join(name).to_str().expect("a UTF-8 path").to_owned();
    let (json, xml) = (path("report.json"), path("report.xml"));
    let (sarif, gitlab) = (path("report.sarif"), path("gitlab.json"));
    let outputs = ["--json", &json, "--junit", &xml, "--sarif", &sarif, "--gitlab", &gitlab];
    let ended = Run::start(&[words, &outputs, after].concat(), &[]).end();
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
}

/// So that the folder's name tells the run in what is said of it.
fn every_sort_of_run(home: &Path) -> Vec<PathBuf> {
    let servers = home.join("servers.json");
    let of = |fake: &str| format!(r#"{{"command": "{SCUPPER}", "args": ["fake", "{fake}"]}}"#);
    let (clean, leaky) = (of("reference"), of("ignores-eof"));
    let remote = r#"{"url": "https://mcp.example/"}"#;
    let file = format!(r#"{{"mcpServers": {{"one": {clean}, "two": {leaky}, "far": {remote}}}}}"#);
    fs::write(&servers, file).expect("a file");
    let servers = servers.to_str().expect("a UTF-8 path");
    let quick = ["--leak-timeout", "2s", "--only", "stdio/clean-close,stdio/churn"];
    let server = [&["server"], &quick[..]].concat();
    let fake = |name: &'static str| ["--", SCUPPER, "fake", name];
    let runs: &[(&str, &[&str], &[&str], i32)] = &[
        ("clean", &server, &fake("reference"), 0),
        ("leaks", &server, &fake("zombie"), 1),
        ("not-started", &server, &fake("exits-before-initialize"), 3),
        ("servers", &[&server[..], &["--config", servers]].concat(), &[], 1),
        (
            "client",
            &["client", "--only", "client/clean-close"],
            &["--", SCUPPER, "fake-client", "never-reaps", "--config", "{config}"],
            1,
        ),
    ];
    at_once(runs.len(), runs, |(name, words, after, code)| {
        let folder = home.join(name);
        written(&folder, words, after, *code);
        folder
    })
}

#[test]
fn what_others_made_reads_every_report() {
    let Some(python) = installed() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let folders = every_sort_of_run(home.path());
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/formats/check.py");
    let read = |folders: &[PathBuf]| {
        let output = Command::new(&python).arg("-B").arg(&check).args(folders).output();
        let output = output.expect("python runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told + &complained)
    };
    let (code, told) = read(&folders);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.matches(": 0 wrong\n").count(), folders.len(), "{told}");

    // What is not as it should be is told, of each format.
    let leaks = &folders[1];
    let spoil = |name: &str, from: &str, to: &str| {
        let path = leaks.join(name);
        let text = fs::read_to_string(&path).expect("a report");
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(&path, text.replacen(from, to, 1)).expect("a file");
    };
    spoil("report.json", "\"verdict\": \"leak\"", "\"verdict\": \"bad\"");
    spoil("report.xml", "<testcase ", "<testcase colour=\"red\" ");
    spoil("report.sarif", "\"ruleIndex\": ", "\"ruleIndex\": 99");
    spoil("gitlab.json", "\"critical\"", "\"fatal\"");
    let (code, told) = read(&folders[1..2]);
    assert_eq!(code, Some(1), "{told}");
    for name in ["report.json", "report.xml", "report.sarif", "gitlab.json"] {
        assert!(told.contains(&format!("leaks: {name}: ")), "nothing of {name} in: {told}");
    }
}
