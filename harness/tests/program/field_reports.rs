//! The five field reports: what leaks there is caught, for the right reason, and the core lives the
//! same lifecycles clean.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::Run;
use harness::ledger::snapshot::Kind::{self, Cursor, Entry, Fd, Process, Session, Task, Zombie};
use harness::ledger::verdict::{CaseReport, Culprit, Verdict};

/// The whole folder in one run, as the documentation says it.
#[test]
fn five_reports_are_caught_and_the_core_is_clean_in_their_lifecycles() {
    let cases = run("scenarios/seeds");
    let verdict = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
    assert_eq!((cases.len(), verdict(Verdict::Leak), verdict(Verdict::Clean)), (10, 5, 5));
    for case in &cases {
        assert!(case.met, "{}: {:#?}", case.id, case.unmet);
        let leaks = !case.id.ends_with("-core");
        assert_eq!(case.verdict == Verdict::Leak, leaks, "{}", case.id);
        if !leaks {
            assert!(case.failure.is_none() && case.unreadable.is_empty(), "{}", case.id);
        }
    }
    for (id, culprit, kinds) in CAUGHT {
        let case = cases.iter().find(|case| case.id == *id).expect(id);
        let found: BTreeSet<Kind> = case.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(found, kinds.iter().copied().collect(), "{id}");
        for finding in &case.findings {
            assert_eq!(finding.culprit, *culprit, "{id}: {finding:#?}");
        }
    }
    for (id, kind, birth, due, count) in COUNTED {
        let case = cases.iter().find(|case| case.id == *id).expect(id);
        let found = case.findings.iter().find(|finding| {
            (finding.kind, &*finding.birth_step.name, &*finding.due_step.name)
                == (*kind, *birth, *due)
        });
        let count_found = found.map(|finding| finding.count);
        assert_eq!(count_found, Some(*count), "{id}: {kind} born at {birth}, due at {due}");
    }
}

/// Which kinds leak, and whose fault it is.
const CAUGHT: &[(&str, Culprit, &[Kind])] = &[
    ("seeds/1-chat-client", Culprit::Client, &[Process, Zombie, Fd, Task, Session, Entry]),
    ("seeds/2-sse-ping", Culprit::Server, &[Fd, Task, Session]),
    ("seeds/3-cursors", Culprit::Server, &[Session, Cursor]),
    ("seeds/4-cross-task", Culprit::Client, &[Process, Zombie, Fd, Task, Entry]),
    ("seeds/5-multiplexer", Culprit::Client, &[Process, Zombie, Fd, Entry]),
];

/// What is counted in the reports themselves.
const COUNTED: &[(&str, Kind, &str, &str, usize)] = &[
    // Three pipes of each of five servers that failed, and the five that died.
    ("seeds/5-multiplexer", Fd, "add exits-before-initialize", "add exits-before-initialize", 15),
    ("seeds/5-multiplexer", Fd, "add never-answers", "add never-answers", 15),
    ("seeds/5-multiplexer", Fd, "add plain", "wait-for gone", 15),
    ("seeds/5-multiplexer", Zombie, "add plain", "wait-for gone", 5),
    // Five cursors of session one, and three of each other.
    ("seeds/3-cursors", Cursor, "list-all tools/list", "delete", 5),
    ("seeds/3-cursors", Cursor, "list-all tools/list", "wait-for gone", 3),
    ("seeds/3-cursors", Session, "handshake", "delete", 1),
    ("seeds/1-chat-client", Session, "add plain over http", "shutdown", 1),
    ("seeds/1-chat-client", Process, "add plain", "remove", 1),
    ("seeds/4-cross-task", Task, "add plain", "remove", 1),
    ("seeds/2-sse-ping", Task, "start", "shutdown", 2),
];

/// With Redis, the cursors of all three stores are found; without, the case says that they were not.
#[test]
fn cursors_are_read_from_every_store_there_is() {
    let [case] = &run("scenarios/seeds/3-cursors.toml")[..] else { panic!("one case") };
    let stores: BTreeSet<String> = case
        .findings
        .iter()
        .filter(|finding| finding.kind == Cursor)
        .flat_map(|finding| &finding.evidence)
        .filter_map(|line| Some(line.split_once(" in ")?.1.split(' ').next()?.to_owned()))
        .collect();
    let without_redis = case.notes.iter().any(|note| note.contains("redis-server"));
    let known: &[&str] = match without_redis {
        true => &["memory", "sqlite"],
        false => &["memory", "redis", "sqlite"],
    };
    assert_eq!(stores, known.iter().map(|&store| store.to_owned()).collect());
}

/// The switch works both ways: a stand-in is not clean, and the core has none of what it leaks.
#[test]
fn a_pair_exchanged_is_red_both_ways() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/seeds");
    let text = |name: &str| std::fs::read_to_string(root.join(name)).expect(name);
    let folder = tempfile::tempdir().expect("a directory");
    let (leaky, ours) = ("host = \"cross-task\"", "host = \"core\"");
    let exchanged = [
        ("leaky.toml", text("4-cross-task-core.toml").replace(ours, leaky)),
        ("ours.toml", text("4-cross-task.toml").replace(leaky, ours)),
    ];
    for (name, text) in &exchanged {
        std::fs::write(folder.path().join(name), text).expect("a scenario");
    }
    let (code, cases) = judge(&[folder.path()]);
    assert_eq!(code, 1);
    let case = |id: &str| cases.iter().find(|case| case.id == id).expect(id);
    assert_eq!((case("leaky").verdict, case("leaky").met), (Verdict::Leak, false));
    assert_eq!((case("ours").verdict, case("ours").met), (Verdict::Clean, false));
    assert!(case("ours").findings.is_empty());
}

/// Every lifecycle that fits on the core: everything it opens is gone when it should be.
#[test]
fn the_core_leaves_nothing_in_any_lifecycle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let folders = ["host", "http", "session", "cursor", "task"].map(|folder| root.join(folder));
    let folders: Vec<&Path> = folders.iter().map(AsRef::as_ref).collect();
    let (code, cases) = judge(&folders);
    let unmet: Vec<_> = cases.iter().filter(|case| !case.met).collect();
    assert!(unmet.is_empty() && code == 0, "{unmet:#?}");
    for case in &cases {
        assert_eq!(case.verdict, Verdict::Clean, "{}", case.id);
        assert!(case.failure.is_none() && case.unreadable.is_empty(), "{}", case.id);
    }
    assert!(cases.len() >= 30, "{} lifecycles", cases.len());
}

/// What a step leaves while something else goes on is certain only when the host ends: found it is.
#[test]
fn what_is_left_while_another_server_is_added_is_found_with_the_host() {
    let cases = run("scenarios/stand-in/left-beside-another.toml");
    let findings = cases.iter().flat_map(|case| &case.findings);
    let found = findings.filter(|finding| finding.birth_step.name == "add plain");
    let found: BTreeSet<(Kind, &str)> =
        found.map(|finding| (finding.kind, &*finding.due_step.name)).collect();
    assert_eq!(found, [Zombie, Fd, Entry].map(|kind| (kind, "shutdown")).into());
}

/// Runs scenarios of this repository that are as expected.
fn run(path: &str) -> Vec<CaseReport> {
    let (code, cases) = judge(&[&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)]);
    let unmet: Vec<_> = cases.iter().map(|case| (&case.id, &case.unmet)).collect();
    assert_eq!(code, 0, "{unmet:#?}");
    cases
}

/// Runs scenarios, and gives back the exit code and what was judged.
fn judge(paths: &[&Path]) -> (i32, Vec<CaseReport>) {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.installed/redis");
    let known = std::env::var("PATH").unwrap_or_default();
    let programs = format!("{}:{known}", installed.display());
    let paths = paths.iter().map(|path| path.to_str().expect("a path in UTF-8"));
    let words: Vec<&str> =
        ["run", "--json", "{home}/report.json"].into_iter().chain(paths).collect();
    let ended = Run::start(&words, &[("PATH", &programs)]).end();
    assert_eq!(ended.left(), (vec![], vec![]), "left behind by the run itself");
    (ended.code, ended.report().cases)
}
