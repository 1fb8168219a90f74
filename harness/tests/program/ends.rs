//! What is said of ends that were not as they should be: nothing is told that was not seen.

use std::fs;

use crate::support::{Ended, Run, SCUPPER};
use harness::ledger::verdict::{CaseReport, Class, Verdict};
use harness::report::json::Report;

/// Plays one scenario, given as text.
fn scenario(text: &str, options: &[&str]) -> (Ended, Report) {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("scenario.toml");
    fs::write(&file, text).expect("a scenario");
    let path = file.to_str().expect("a UTF-8 path");
    let words = [&["run", "--json", "{home}/report.json"], options, &[path]].concat();
    let ended = Run::start(&words, &[]).end();
    let report = ended.report();
    (ended, report)
}

/// Steps by what they do, and more where there is more to say.
fn steps(all: &[&str]) -> String {
    all.iter().map(|step| format!("[[step]]\n{step}\n\n")).collect()
}

fn only(report: &Report) -> &CaseReport {
    assert_eq!(report.cases.len(), 1, "{report:#?}");
    &report.cases[0]
}

#[test]
fn what_had_to_be_killed_has_neither_exited_nor_drained() {
    let ended = Run::fake(
        &["--only", "stdio/clean-close", "--leak-timeout", "500ms"],
        &["ignores-eof"],
        &[],
    )
    .end();
    let report = ended.report();
    let case = only(&report);
    assert_eq!(case.verdict, Verdict::Leak);
    assert!(!case.figures.contains_key("exit_after_due_ms"), "{:?}", case.figures);
    assert!(!case.figures.contains_key("drained_after_due_ms"), "{:?}", case.figures);
    assert_eq!(report.subject.expect("it answered").exit_ms, None);
    assert!(!ended.stdout.contains("exits "), "{}", ended.stdout);
}

#[test]
fn what_survives_says_why_it_still_lives() {
    let told = |fake: &[&str], case: &str| {
        let options = ["--only", case, "--leak-timeout", "500ms"];
        let report = Run::fake(&options, fake, &[]).end().report();
        let [finding] = only(&report).findings.as_slice() else { panic!("{report:#?}") };
        finding.evidence.join("\n")
    };
    let helper = told(&["helper-setsid"], "stdio/eof-call-in-flight");
    assert!(helper.contains("in a session of its own (setsid)"), "{helper}");
    assert!(helper.contains("its stdin is /dev/null"), "{helper}");
    assert!(helper.contains("SIGTERM would end it"), "{helper}");
    let deaf = told(&["ignores-eof-and-term"], "stdio/sigterm-idle");
    assert!(deaf.contains("it has a handler for SIGTERM, which did not end it"), "{deaf}");
}

#[test]
fn a_crash_before_the_end_of_stdin_is_not_told_as_one_at_its_end() {
    let ended = Run::fake(&["--only", "stdio/clean-close"], &["crash-at-byte"], &[]).end();
    let report = ended.report();
    let case = only(&report);
    assert_eq!(case.verdict, Verdict::Failed);
    assert!(!case.figures.contains_key("exit_after_due_ms"), "{:?}", case.figures);
    assert_eq!(case.notes, [] as [String; 0]);
}

#[test]
fn a_bad_exit_at_the_end_of_stdin_is_a_note_with_the_last_words() {
    let script = format!("{SCUPPER} fake plain; echo 'EOFError: no more input' >&2; exit 1");
    let ended = Run::server(&["--only", "clean-close"], &["sh", "-c", &script], &[]).end();
    let report = ended.report();
    let case = only(&report);
    assert_eq!((ended.code, case.verdict), (0, Verdict::Clean), "{}", ended.stdout);
    let said = "at the end of its stdin the server exited with code 1, which is no leak; last on its \
                stderr: EOFError: no more input";
    assert_eq!(case.notes, [said]);
}

#[test]
fn a_signal_that_reaches_nobody_blames_nobody() {
    let text = format!(
        "why = \"A server that is gone when the signal comes.\"\n\
         [subject]\ncommand = [\"sh\", \"-c\", \"exit 3\"]\n\n{}[expect]\nverdict = \"clean\"\n",
        steps(&[
            "do = \"open\"",
            "do = \"wait-for\"\ncondition = \"exited\"",
            "do = \"signal\"\nsignal = \"TERM\"\nwhom = \"server\""
        ])
    );
    let (ended, report) = scenario(&text, &[]);
    let case = only(&report);
    assert_eq!((ended.code, case.verdict), (0, Verdict::Clean), "{}", ended.stdout);
    let said = "step 3, signal TERM server: the server had exited before TERM";
    assert_eq!(case.notes, [said]);
    assert!(!case.figures.contains_key("exit_after_due_ms"), "{:?}", case.figures);
}

#[test]
fn growth_that_the_time_limit_cut_short_is_advisory() {
    let text = format!(
        "why = \"Too few cycles to tell a pool from a leak.\"\n\
         [subject]\nfake = \"fd-per-call\"\n\n{}[expect]\nverdict = \"clean\"\n",
        steps(&[
            "do = \"open\"",
            "do = \"handshake\"",
            "do = \"repeat\"\ntimes = 1000\nwithin = \"1ms\"\n[[step.step]]\ndo = \"call\"\ntool = \"echo\"",
            "do = \"close\"",
        ])
    );
    let (ended, report) = scenario(&text, &["--leak-timeout", "500ms"]);
    let case = only(&report);
    assert_eq!((ended.code, case.verdict), (0, Verdict::Clean), "{}", ended.stdout);
    let [finding] = case.findings.as_slice() else { panic!("{:#?}", case.findings) };
    assert_eq!((finding.class, finding.count), (Class::Advisory, 5));
    let why = finding.evidence.last().expect("there is evidence");
    assert!(why.contains("the time limit left 5 cycles"), "{why}");
}

#[test]
fn a_client_process_that_was_stopped_blames_nobody() {
    let text = format!(
        "why = \"Our own client is stopped, so that stdin never ends.\"\n\
         [subject]\nfake = \"plain\"\n\n{}[expect]\nverdict = \"unknown\"\n",
        steps(&[
            "do = \"open\"",
            "do = \"handshake\"",
            "do = \"signal\"\nsignal = \"STOP\"\nwhom = \"client\"",
            "do = \"close\"",
        ])
    );
    let (ended, report) = scenario(&text, &["--leak-timeout", "500ms"]);
    let case = only(&report);
    assert_eq!(case.verdict, Verdict::Unknown, "{}", ended.stdout);
    assert_eq!(case.findings, []);
    let said = |words: &str| case.unreadable.iter().any(|one| one.contains(words));
    assert!(said("still has the write end"), "{case:#?}");
}

#[test]
fn a_client_process_that_takes_no_commands_is_not_waited_for_for_ever() {
    let much = "x".repeat(100_000);
    let text = format!(
        "why = \"Our own client is stopped, and its pipe is full.\"\n\
         [subject]\nfake = \"plain\"\n\n{}[expect]\nverdict = \"unknown\"\n",
        steps(&[
            "do = \"open\"",
            "do = \"handshake\"",
            "do = \"signal\"\nsignal = \"STOP\"\nwhom = \"client\"",
            &format!("do = \"send\"\ntext = \"{much}\""),
            "do = \"request\"\nmethod = \"tools/list\"",
        ])
    );
    let (ended, report) = scenario(&text, &["--leak-timeout", "500ms"]);
    let case = only(&report);
    assert_eq!(case.verdict, Verdict::Unknown, "{}", ended.stdout);
    assert_eq!((case.failure.as_ref(), case.findings.len()), (None, 0));
    assert!(
        case.unreadable.iter().any(|one| one.contains("took no command for 10 s")),
        "{case:#?}"
    );
}

#[test]
fn a_line_too_long_to_be_read_is_told_by_its_length() {
    let options = ["--only", "stdio/clean-close", "--start-timeout", "5s"];
    let ended = Run::fake(&options, &["endless-line"], &[]).end();
    let report = ended.report();
    let failure = only(&report).failure.as_ref().expect("there is no answer");
    let said = "scupper reads no message longer than 8 MiB";
    assert!(failure.message.contains(said), "{}", failure.message);
}

#[test]
fn a_crash_at_the_end_of_stdin_is_no_leak_and_is_told_with_its_number() {
    let text = format!(
        "why = \"A server that aborts when its stdin ends.\"\n\
         [subject]\ncommand = [\"sh\", \"-c\", \"cat >/dev/null; kill -ABRT $$\"]\n\n{}\
         [expect]\nverdict = \"clean\"\n",
        steps(&[
            "do = \"repeat\"\ntimes = 3\n[[step.step]]\ndo = \"open\"\n[[step.step]]\ndo = \"close\""
        ])
    );
    let (ended, report) = scenario(&text, &[]);
    let case = only(&report);
    assert_eq!((ended.code, case.verdict), (0, Verdict::Clean), "{}", ended.stdout);
    let [crash] = case.crashes.as_slice() else { panic!("{case:#?}") };
    assert_eq!((crash.signal.as_str(), crash.lives), ("SIGABRT", 3));
    assert!(ended.stdout.contains("crashed at its end: SIGABRT in 3 lives"), "{}", ended.stdout);
}

#[test]
fn a_server_that_turns_the_handshake_down_with_any_code_may_speak_the_other_era() {
    let server = "read -r line; echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-7,\"message\":\"no\"}}'";
    let told = |server: &str| {
        let options = ["--only", "stdio/clean-close", "--start-timeout", "2s"];
        let report = Run::server(&options, &["sh", "-c", server], &[]).end().report();
        let failure = only(&report).failure.clone().expect("it is no server");
        (failure.refused, failure.message)
    };
    let (refused, message) = told(server);
    assert!(refused && message.contains("server/discover"), "{message}");
    // That a text speaks of it is no answer.
    let (refused, message) = told("read -r line; echo 'try --era'; cat >/dev/null");
    assert!(!refused && message.contains("initialize"), "{message}");
}
