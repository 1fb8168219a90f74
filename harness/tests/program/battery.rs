//! The built-in lifecycles: each is played to its end, and what a server may do is no failure.

use std::collections::BTreeMap;

use crate::support::{Ended, Run, SCUPPER};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Culprit, Verdict};

/// Each lifecycle ends with something that a server has to obey. This one obeys nothing, so each
/// has to catch it, by a step that brings the end.
#[test]
fn every_lifecycle_catches_a_server_that_nothing_ends() {
    let script = format!("trap '' INT TERM; exec {SCUPPER} fake ignores-eof");
    let options = ["--jobs", "12", "--leak-timeout", "1s", "--cycles", "5"];
    let ended = Run::server(&options, &["sh", "-c", &script], &[]).end();
    let report = ended.report();
    assert_eq!(ended.code, 1, "{}", in_full(&ended));
    let mut due = BTreeMap::new();
    for case in &report.cases {
        // It dies of the first write that nobody can read, which is an end like any other.
        let dies = case.id == "stdio/stdout-closed";
        let must = if dies { Verdict::Clean } else { Verdict::Leak };
        assert_eq!((case.verdict, &case.failure), (must, &None), "{}", in_full(&ended));
        if dies {
            continue;
        }
        for finding in &case.findings {
            let found = (finding.kind, finding.culprit);
            assert_eq!(found, (Kind::Process, Culprit::Server), "{}: {finding:?}", case.id);
        }
        let last = case.findings.last().expect("a leak has findings");
        due.insert(case.id.trim_start_matches("stdio/"), last.due_step.name.as_str());
    }
    let ends = due.iter().map(|(id, step)| format!("{id}: {step}")).collect::<Vec<_>>();
    insta::assert_snapshot!(ends.join("\n"));
}

/// What is for servers of both eras is left out for others, and its case speaks the other era.
#[test]
fn lifecycles_of_two_eras_are_for_servers_that_speak_them() {
    let only = ["--only", "discover-first", "--only", "both-eras"];
    let both = Run::fake(&only, &["plain"], &[]).end();
    let eras: Vec<_> = both.report().cases.into_iter().map(|case| (case.id, case.era)).collect();
    let expected = [("stdio/both-eras", "2026-07-28"), ("stdio/discover-first", "2025-11-25")]
        .map(|(id, era)| (id.to_owned(), Some(era.to_owned())));
    assert_eq!((both.code, eras), (0, expected.to_vec()), "{}", in_full(&both));
    let one = Run::fake(&only, &["wrong-era", "era=2025-11-25"], &[]).end();
    let ids: Vec<String> = one.report().cases.into_iter().map(|case| case.id).collect();
    assert_eq!((one.code, ids), (0, vec!["stdio/discover-first".to_owned()]));
    assert!(one.stdout.contains("stdio/both-eras left out"), "{}", one.stdout);
}

/// A server whose list has three pages, or no end, and that writes down which cursors it is sent.
fn pages(last: &str) -> String {
    r#"while read -r line; do
      id=${line#*\"id\":}; id=${id%%[,\}]*}
      case $line in *'"cursor"'*) cursor=${line#*'"cursor":"'}; echo "${cursor%%\"*}" >> HEARD;; esac
      case $line in
        *'"method":"initialize"'*) answer='"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"pages","version":"1"}}';;
        *'"cursor":"two"'*) answer='"result":{"tools":[],"nextCursor":"three"}';;
        *'"cursor":"three"'*) answer='"result":{"tools":[]LAST}';;
        *'"cursor"'*) answer='"error":{"code":-32602,"message":"unknown cursor"}';;
        *'"method":"tools/list"'*) answer='"result":{"tools":[],"nextCursor":"two"}';;
        *) continue;;
      esac
      echo "{\"jsonrpc\":\"2.0\",\"id\":$id,$answer}"
    done"#
    .replace("HEARD", &format!("{}/heard", crate::support::HOME))
    .replace("LAST", last)
}

#[test]
fn cursors_are_followed_to_the_end_and_one_is_taken_to_the_next_life() {
    let options = ["--only", "pagination", "--era", "2025-11-25"];
    let ended = Run::server(&options, &["sh", "-c", &pages("")], &[]).end();
    let report = ended.report();
    assert_eq!((ended.code, report.cases.len()), (0, 1), "{}", in_full(&ended));
    assert_eq!(report.cases[0].notes, [""; 0]);
    let heard = ended.file("heard");
    // The first look follows them, too, to know all tools.
    let heard: Vec<&str> = heard.lines().collect();
    let expected = ["two", "three", "two", "three", "scupper-unknown-cursor", "three"];
    assert_eq!(heard, expected);
}

#[test]
fn a_list_without_end_is_cut_off_and_a_note_says_so() {
    let options = ["--only", "pagination", "--only", "clean-close", "--era", "2025-11-25"];
    let endless = pages(r#","nextCursor":"three""#);
    let ended = Run::server(&options, &["sh", "-c", &endless], &[]).end();
    let report = ended.report();
    assert_eq!((ended.code, report.cases.len()), (0, 2), "{}", in_full(&ended));
    for (case, said) in report.cases.iter().zip(["more than 20 pages", "stopped after 100 pages"]) {
        assert!(case.notes.iter().any(|note| note.contains(said)), "{}: {:?}", case.id, case.notes);
    }
}

#[test]
fn calls_that_come_to_nothing_are_told() {
    let options = ["--only", "churn", "--cycles", "5"];
    let run = |calls: &[&str]| Run::fake(&[&options[..], calls].concat(), &["plain"], &[]).end();
    let misspelt = run(&["--call", "ecoh"]);
    // What was to be judged cannot be, and nobody waits for the rest.
    assert_eq!(misspelt.code, 3, "{}", in_full(&misspelt));
    let said = misspelt.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = "the server lists no tool `ecoh` (did you mean `echo`?); it lists echo, sleep";
    assert!(said.contains(&format!("not judged, {why} (--call ecoh)")), "{said}");
    assert!(said.contains(&format!("exit 3: --call ecoh: {why}")), "{said}");
    assert_eq!(misspelt.report().cases.len(), 0, "{said}");
    let refused = run(&["--call", "sleep={\"ms\":\"x\"}", "--call", "echo"]);
    let notes = refused.report().cases.remove(0).notes.join("\n");
    assert!(notes.contains("every call was answered with an error"), "{notes}");
}

/// A server that takes a lock has not leaked because a second one cannot start beside it.
#[test]
fn a_server_that_can_run_only_once_at_a_time_is_clean_and_a_note_says_so() {
    let script = format!(
        "exec 9> \"$TMPDIR/lock\"; flock -n 9 || {{ echo 'another one is running' >&2; exit 1; }}; \
         exec {SCUPPER} fake slow-exit"
    );
    let only = ["--only", "ten-at-once", "--only", "restart-while-draining"];
    let ended = Run::server(&only, &["sh", "-c", &script], &[]).end();
    let report = ended.report();
    assert_eq!((ended.code, report.cases.len()), (0, 2), "{}", in_full(&ended));
    for case in &report.cases {
        let told = case.notes.iter().any(|note| {
            note.contains("did not start beside") && note.contains("another one is running")
        });
        assert!(told, "{}: {:?}", case.id, case.notes);
    }
}

fn in_full(ended: &Ended) -> String {
    format!("exit code {}, left {:?}\n{}{}", ended.code, ended.left(), ended.stdout, ended.stderr)
}
