use std::sync::{Arc, Mutex};

use super::*;
use crate::ledger::fingerprint::Fingerprint;
use crate::ledger::sdk::Sdk;
use crate::ledger::verdict::LAST_ON_STDERR;
use crate::report::samples;

fn shown(width: usize, color: bool, events: &[Event]) -> String {
    let mut human = Human::new(Vec::new(), HumanOptions { color, width, progress: None });
    for event in events {
        human.on(event).expect("a vector takes everything");
    }
    String::from_utf8(human.into_inner()).expect("only text is written")
}

#[test]
fn what_mends_it_stands_below_the_help_of_a_known_sdk() {
    let mut case = samples::cases().remove(1);
    case.findings[0].what = "the server, pid 4711 (node dist/index.js)".into();
    let told = |case: &CaseReport| {
        finding_block(Page { width: 80, color: false }, &[(case, &case.findings[0])])
    };
    let plain = told(&case);
    case.sdk = Some(Sdk::Typescript);
    let mended = told(&case);
    let added: Vec<&str> = mended.lines().filter(|line| !plain.contains(*line)).collect();
    insta::assert_snapshot!(added.join("\n"), @r#"
    = mend: with the TypeScript SDK:
            process.stdin.on("close", async () => {
              await server.close();
              process.exit(0); // a timer, a socket or a child would keep Node alive
            });
    "#);
}

#[test]
fn a_run_with_every_verdict() {
    let summary = samples::summary(samples::cases(), codes::LEAK);
    let events = samples::events(Some(samples::subject()), summary);
    insta::assert_snapshot!(shown(100, false, &events));
}

#[test]
fn a_subject_that_does_not_start() {
    let case = |id| CaseReport {
        failure: Some(samples::not_started()),
        era: None,
        ..samples::case(id, Verdict::Failed)
    };
    let cases = vec![case("stdio/clean-close"), case("stdio/drop")];
    let summary = samples::summary(cases, codes::NOT_JUDGED);
    insta::assert_snapshot!(shown(80, false, &samples::events(None, summary)));
}

/// What it left stands below the reason why nothing was judged, and is not counted as a verdict.
#[test]
fn what_never_started_goes_before_what_it_left() {
    let mut finding = samples::process_finding();
    finding.due_step = samples::step("end", "end of the lifecycle");
    let case = CaseReport {
        failure: Some(samples::not_started()),
        findings: vec![finding],
        ..samples::case("stdio/clean-close", Verdict::Failed)
    };
    let summary = samples::summary(vec![case], codes::NOT_JUDGED);
    let text = shown(100, false, &samples::events(None, summary));
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(place("failed[not started]: ") < place("leak[process]: "), "{text}");
    assert!(text.contains("; due at the end of the lifecycle\n"), "{text}");
    assert!(text.contains(": 1 failed\nexit 3: the subject did not start, "), "{text}");
}

#[test]
fn a_note_names_its_cases_and_is_of_one_server() {
    let case = |server: &str, n: usize, note: &str| CaseReport {
        id: format!("{server}stdio/churn-{n}"),
        notes: vec![note.to_owned()],
        ..samples::case(&format!("stdio/churn-{n}"), Verdict::Clean)
    };
    let told = |cases| shown(120, false, &[Event::RunEnded(samples::summary(cases, 0))]);
    let exited = |n: usize| format!("it exited with code 1{LAST_ON_STDERR}Error: try {n:x}");
    let text = told((0..11).map(|n| case("", n, &exited(n))).collect());
    assert!(text.contains("note: it exited with code 1; last on its stderr: Error: try 0 ("));
    assert!(text.contains("stdio/churn-7 and 3 more)\n"), "{text}");
    assert_eq!(text.matches("note: ").count(), 1, "{text}");
    let text = told(vec![case("a/", 1, "x"), case("b/", 1, "x"), case("b/", 2, "x")]);
    assert!(text.contains("note: a: x (stdio/churn-1)\n"), "{text}");
    assert!(text.contains("note: b: x (stdio/churn-1, stdio/churn-2)\n"), "{text}");
}

#[test]
fn the_page_is_as_wide_as_the_terminal_or_as_columns_says() {
    assert_eq!(page_width(Some(80), Some("110")), 80);
    assert_eq!(page_width(Some(0), Some("110")), 110);
    assert_eq!(page_width(None, Some("200")), 120);
    assert_eq!(page_width(None, Some("wide")), 100);
    assert_eq!(page_width(None, None), 100);
}

#[test]
fn a_first_look_that_nobody_asked_for_is_shown_and_not_counted() {
    let look = samples::case("stdio/clean-close", Verdict::Clean);
    let text = shown(100, false, &[Event::Looked(Box::new(look))]);
    assert!(text.starts_with("look     stdio/clean-close "), "{text}");
    assert!(text.ends_with("  the first look, not counted\n"), "{text}");
}

#[test]
fn an_exit_that_was_not_seen_has_no_figure() {
    let subject = |exit_ms| SubjectInfo { exit_ms, ..samples::subject() };
    assert!(introduction(&subject(None), "end of stdin").contains("does not exit at end of stdin"));
    let said = introduction(&subject(Some(0)), "SIGTERM");
    assert!(said.contains("exits under 1 ms after SIGTERM"), "{said}");
}

#[test]
fn many_of_one_sort_are_one_line_and_one_block() {
    let mut case = samples::case("stdio/churn", Verdict::Leak);
    case.findings = vec![samples::process_finding(); 30];
    case.findings.extend(samples::cases().remove(3).findings);
    let cases: Vec<CaseReport> =
        (0..50).map(|n| CaseReport { id: format!("stdio/churn-{n}"), ..case.clone() }).collect();
    let text = shown(100, false, &[Event::RunEnded(samples::summary(cases, codes::LEAK))]);
    assert!(text.contains("   | and 29 more like it in this case\n"), "{text}");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("stdio/churn-39, stdio/churn-40 and 9 more = "), "{text}");
    let lines = case_lines(Page { width: 100, color: false }, &case);
    assert!(lines[0].ends_with("30 processes, 19 descriptors, advisory: memory"), "{lines:?}");
}

#[test]
fn a_run_whose_canary_failed() {
    let mut summary =
        samples::summary(vec![samples::case("stdio/clean-close", Verdict::Clean)], codes::INVALID);
    summary.canary = Some(CanaryReport {
        missed: vec!["fd".into()],
        instead: vec!["leak[fd] of the server, born at step 2, open, due at step 4, close".into()],
        false_alarms: vec!["process 99 (sleep 1)".into()],
        ..samples::canary()
    });
    insta::assert_snapshot!(shown(80, false, &samples::events(None, summary)));
}

#[test]
fn scenarios_tell_only_what_was_not_expected() {
    let expected = |mut case: CaseReport, expected, met| {
        (case.expected, case.met) = (Some(expected), met);
        case
    };
    let mut cases = samples::cases();
    cases.truncate(2);
    let leak = expected(cases.remove(1), Verdict::Leak, true);
    let mut clean = expected(cases.remove(0), Verdict::Leak, false);
    clean.unmet = vec![
        "no finding of kind process with culprit server".into(),
        "found and not expected: a descriptor\n[[expect.finding]]\nkind = \"fd\"".into(),
    ];
    let summary = samples::summary(vec![leak, clean], codes::LEAK);
    insta::assert_snapshot!(shown(80, false, &samples::events(None, summary)));
}

#[test]
fn no_line_but_a_command_is_wider_than_the_page() {
    let summary = samples::summary(samples::cases(), codes::LEAK);
    let events = samples::events(Some(samples::subject()), summary);
    for width in [60, 80, 100, 120] {
        for line in shown(width, false, &events).lines() {
            let is_fine = line.chars().count() <= width || line.contains("= repeat: ");
            assert!(is_fine, "wider than {width}: {line}");
        }
    }
}

#[test]
fn colours_change_no_letter() {
    let summary = samples::summary(samples::cases(), codes::LEAK);
    let events = samples::events(Some(samples::subject()), summary);
    let colored = shown(100, true, &events);
    assert!(colored.contains('\u{1b}'));
    assert_eq!(anstream::adapter::strip_str(&colored).to_string(), shown(100, false, &events));
}

#[test]
fn nothing_of_the_subject_steers_the_terminal_or_floods_it() {
    let hostile = format!("\u{1b}]0;owned\u{7}{}", "x".repeat(5_000));
    let mut case = samples::case(&hostile, Verdict::Leak);
    let mut finding = samples::process_finding();
    for text in [&mut finding.what, &mut finding.blame, &mut finding.hurts, &mut finding.remedy] {
        text.clone_from(&hostile);
    }
    finding.evidence = vec![hostile.clone(); 100];
    finding.holders = vec![finding.holders[0].clone(); 100];
    finding.holders[0].command.clone_from(&hostile);
    finding.site = Some(hostile.clone());
    case.findings = vec![finding];
    case.failure = Some(samples::not_started());
    case.unreadable = vec![hostile.clone(); 100];
    case.notes = vec![hostile.clone()];
    let mut summary = samples::summary(vec![case], codes::LEAK);
    summary.not_judged = vec![(hostile.clone(), hostile.clone())];
    let text = shown(80, false, &samples::events(Some(samples::subject()), summary));
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    assert!(text.len() < 20_000, "{} bytes", text.len());
}

#[test]
fn a_thousand_faults_are_cut_and_counted() {
    let cases: Vec<CaseReport> = (0..1000)
        .map(|n: u32| {
            let mut finding = samples::process_finding();
            let letters = n.to_string().replace(|c: char| c.is_ascii_digit(), "x");
            finding.what = format!("process 1 ({letters}{})", "y".repeat(n as usize % 50));
            CaseReport {
                findings: vec![finding],
                ..samples::case(&format!("stdio/{n}"), Verdict::Leak)
            }
        })
        .collect();
    let events = [Event::RunEnded(samples::summary(cases, codes::LEAK))];
    let text = shown(80, false, &events);
    assert!(text.contains("more faults; a JSON report has them all"), "{text}");
    assert!(text.lines().count() < 600);
}

/// A status line that can be read back.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_status_line_is_gone_before_a_result_is_written() {
    let terminal = Shared::default();
    let progress = Some(Box::new(terminal.clone()) as Box<dyn Write + Send>);
    let mut human =
        Human::new(terminal.clone(), HumanOptions { color: false, width: 80, progress });
    let case = samples::case("stdio/clean-close", Verdict::Clean);
    human.on(&Event::RunStarted(samples::info(2))).expect("it is written");
    human.on(&Event::CaseStarted { id: case.id.clone() }).expect("it is written");
    human.on(&Event::CaseEnded(Box::new(case))).expect("it is written");
    let written = String::from_utf8(terminal.0.lock().expect("unpoisoned").clone());
    let written = written.expect("only text is written");
    assert!(written.contains("0 of 2 judged, now stdio/clean-close\r\x1b[2Kclean"), "{written:?}");
}

#[test]
fn the_time_left_is_told_once_there_is_something_to_tell_it_by() {
    let after = |seconds, judged, planned| estimate(Duration::from_secs(seconds), judged, planned);
    assert_eq!(after(4, 2, 20), None);
    assert_eq!(after(4, 4, 20).as_deref(), Some("16 s left"));
    assert_eq!(after(60, 4, 20).as_deref(), Some("4 min left"));
    assert_eq!(after(4, 20, 20), None);
    assert_eq!(after(4, 4, 0), None, "nobody knows how many");
}

#[test]
fn a_case_whose_leaks_are_known_has_a_line_with_the_reason_and_no_row_among_the_ends() {
    let cases = samples::cases();
    let known = cases[1].findings.iter();
    let known =
        known.map(|one| (Fingerprint::of(&cases[1], one).hash(), "upstream #12".into())).collect();
    let (against, told) = (vec![], vec![]);
    let gated = Gated { known, accepted: 1, against, told, exit_code_before: codes::LEAK };
    let ended = Event::RunEnded(samples::summary(cases, codes::LEAK));
    let text = shown(100, false, &[Event::Gated(gated), ended]);
    let (_, ends) = text.split_once("slowest rung\n").expect("the table of ends");
    assert!(ends.contains(" stdio/close-during-call "), "{ends}");
    assert!(!ends.contains(" stdio/half-close "), "{ends}");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("gate  ")).collect();
    let said =
        ["1 finding known, and accepted by the baseline", "accepted: process of the server in"];
    assert!(lines.iter().zip(said).all(|(line, said)| line.contains(said)), "{lines:?}");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains("; because: upstream #12"), "{text}");
}
