//! What piles up inside a life, and from one life to the next, on servers that are shell scripts
//! around a good one.

use crate::support::{Ended, Run, SCUPPER};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Class, Culprit, Finding, Verdict};

/// What leaks on purpose need not be waited for as long as by default.
const IMPATIENT: [&str; 2] = ["--leak-timeout", "2s"];

/// Judges one lifecycle on a good server behind this script, in which `$0` starts that server.
fn judge(lifecycle: &str, options: &[&str], script: &str) -> Ended {
    let script = script.replace("$0", &format!("'{SCUPPER}' fake plain"));
    let options = [&["--only", lifecycle], options].concat();
    Run::server(&options, &["sh", "-c", &script], &[]).end()
}

/// The only finding of a run that must be red.
fn only_finding(ended: &Ended) -> Finding {
    let findings: Vec<Finding> =
        ended.report().cases.into_iter().flat_map(|case| case.findings).collect();
    assert_eq!((ended.code, findings.len()), (1, 1), "{}\n{findings:#?}", ended.stdout);
    findings.into_iter().next().expect("there is one")
}

fn assert_clean(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
}

/// A file comes 0.2 s after each call was read, when its answer is out.
#[test]
fn what_comes_after_the_answers_is_a_leak() {
    let script = r#"
        while IFS= read -r line; do
            printf '%s\n' "$line"
            case $line in *tools/call*) (sleep 0.2; mktemp) > /dev/null & esac
        done | $0"#;
    let found = only_finding(&judge("stdio/churn", &IMPATIENT, script));
    assert_eq!((found.class, found.kind), (Class::Leak, Kind::File), "{found:#?}");
    assert!(found.count >= 80, "{found:#?}");
}

/// A pool of 30 files, of which each call makes one until it is full.
#[test]
fn a_pool_that_takes_more_than_a_round_to_fill_is_clean() {
    let script = r#"
        n=0
        while IFS= read -r line; do
            case $line in *tools/call*)
                [ $n -ge 30 ] || : > "$TMPDIR/slot-$n"
                n=$((n + 1))
            esac
            printf '%s\n' "$line"
        done | $0"#;
    let ended = judge("stdio/churn", &[], script);
    assert_clean(&ended);
    let report = ended.report();
    let cycles = report.cases.iter().map(|case| case.cycles).max();
    assert_eq!(cycles, Some(60), "the third round shows that it is full");
}

#[test]
fn a_lock_that_keeps_the_next_life_from_starting_is_a_leak() {
    let script = r#"
        set -C
        : > "$TMPDIR/lock" || exit 1
        exec $0"#;
    let ended = judge("stdio/reconnect", &IMPATIENT, script);
    let found = only_finding(&ended);
    assert_eq!((found.class, found.kind), (Class::Leak, Kind::File), "{found:#?}");
    assert_eq!(found.culprit, Culprit::Server);
    assert!(found.birth_step.cycle == Some(1) && found.due_step.cycle == Some(1), "{found:#?}");
    assert_eq!(found.due_step.name, "close");
    assert!(found.evidence.contains(&"lock".to_owned()), "{found:#?}");
    let report = ended.report();
    let [case] = report.cases.as_slice() else { panic!("{:#?}", report.cases) };
    assert_eq!(case.verdict, Verdict::Leak);
    assert!(case.failure.is_some(), "the failure stands beside the leak");
}

#[test]
fn a_file_that_hinders_nobody_is_clean() {
    assert_clean(&judge("stdio/reconnect", &[], ": > \"$TMPDIR/cache\"; exec $0"));
}

/// The fourth start fails, once, whatever is in TMPDIR.
#[test]
fn a_start_that_fails_once_is_not_blamed_on_a_file() {
    let starts = tempfile::NamedTempFile::new().expect("a file");
    let script = format!(
        r#"
        echo >> '{starts}'
        : > "$TMPDIR/cache"
        [ $(wc -l < '{starts}') -ne 5 ] || exit 1
        exec $0"#,
        starts = starts.path().display()
    );
    let ended = judge("stdio/reconnect", &[], &script);
    let report = ended.report();
    let [case] = report.cases.as_slice() else { panic!("{:#?}", report.cases) };
    assert_eq!((case.verdict, case.findings.len()), (Verdict::Failed, 0), "{}", ended.stdout);
}

/// A launcher dies of SIGTERM and leaves its server, which waits for the end of its stdin.
#[test]
fn what_survived_sigterm_is_told_to_end_with_its_stdin() {
    let options = [&["--only", "stdio/sigterm-idle"][..], &IMPATIENT].concat();
    let found = only_finding(&Run::fake(&options, &["wrapper"], &[]).end());
    let told =
        |line: &&String| line.starts_with("ended") && line.ends_with("stdin was closed, too");
    assert_eq!(found.evidence.iter().filter(told).count(), 1, "{found:#?}");
}
