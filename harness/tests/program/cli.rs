//! The command line as a contract: exit codes, where output goes, and what is said of bad input.

use std::fs;

use crate::support::{Ended, Run, SCUPPER, at_once};
use harness::ledger::verdict::Verdict;
use serde_json::Value;

/// A command line that is refused before any work, and words of the refusal.
#[rustfmt::skip]
const USAGE: &[(&[&str], &[&str])] = &[
    (&[], &["Usage: scupper"]),
    (&["sever"], &["unrecognized subcommand 'sever'", "server"]),
    (&["server"], &["which server?", "scupper server -- npx -y PACKAGE", "--config .mcp.json"]),
    (&["server", "--", ], &["which server?", "COMMAND"]),
    (&["server", "--only", "churm", "--", "true"], &["called churm; did you mean `churn`?"]),
    (&["server", "--lek-timeout", "3s", "--", "true"], &["unexpected argument '--lek-timeout'", "--leak-timeout"]),
    (&["server", "--probe", "fds", "--", "true"], &["--probe fds", "process, zombie, fd, thread, task, session, cursor, entry, file, memory"]),
    (&["server", "--only", "stdio/nothing", "--", "true"], &["stdio/nothing", "scupper list lifecycles"]),
    (&["server", "--skip", "stdio/nothing", "--", "true"], &["stdio/nothing", "scupper list lifecycles"]),
    (&["server", "--call", "echo={\"text\":", "--", "true"], &["--call echo", "no JSON", "--call 'echo={"]),
    (&["server", "--call", "echo=[1]", "--", "true"], &["--call echo", "JSON object"]),
    (&["server", "--leak-timeout", "5", "--", "true"], &["\"5\" is no duration", "500ms, 2s or 1m"]),
    (&["server", "--leak-timeout", "2h", "--", "true"], &["between 0 and 1h"]),
    (&["server", "--start-timeout", "soon", "--", "true"], &["\"soon\" is no duration"]),
    (&["server", "--cycles", "0", "--", "true"], &["0 is not in 5..=10000"]),
    (&["server", "--jobs", "0", "--", "true"], &["0 is not in 1..=256"]),
    (&["server", "--seed", "-1", "--", "true"], &["-1"]),
    (&["server", "--era", "2024-11-05", "--", "true"], &["known: auto, 2025-11-25, 2026-07-28"]),
    (&["server", "--color", "sometimes", "--", "true"], &["auto, always, never"]),
    (&["server", "--json", "{home}/no/such/folder/report.json", "--", "true"], &["--json", "/no/such/folder/report.json", "cannot write there"]),
    (&["server", "--junit", "{home}/no/such/folder/report.xml", "--", "true"], &["--junit", "cannot write there"]),
    (&["server", "--json", "{home}/report", "--sarif", "{home}/report", "--", "true"], &["--sarif", "--json goes there as well"]),
    (&["server", "--baseline", "{home}/missing.toml", "--", "true"], &["--baseline", "missing.toml", "--update-baseline --reason"]),
    (&["server", "--baseline", "{home}/new.toml", "--update-baseline", "--", "true"], &["why is it accepted?", "--reason 'TEXT'"]),
    (&["server", "--update-baseline", "--reason", "x", "--", "true"], &["--baseline <FILE>"]),
    (&["server", "--threshold", "teardown<5", "--", "true"], &["teardown<5", "teardown.p95<500ms"]),
    (&["server", "--against", "{home}/missing.json", "--", "true"], &["missing.json", "reading it"]),
    (&["campaign", "--seeds", "0..1", "--threshold", "start.max<1s"], &["--threshold is no option of a campaign", "scupper gate"]),
    (&["server", "--events", "{home}/no/such/folder/events", "--", "true"], &["--events", "cannot write there"]),
    (&["init", "{home}"], &["no server was found", "package.json: there is none", "scupper server -- COMMAND"]),
    (&["init", "{home}/missing"], &["missing: there is no such folder"]),
    (&["completions", "cmd"], &["bash", "zsh", "fish"]),
    (&["gate"], &["required", "REPORT"]),
    (&["gate", "{home}/missing.json"], &["missing.json", "reading it"]),
    (&["run", "{home}/missing.toml"], &["missing.toml", "no such file or folder"]),
    (&["replay"], &["required", "CASE.toml"]),
    (&["replay", "{home}/missing.toml"], &["missing.toml"]),
    (&["list", "everything"], &["lifecycles, fakes, subjects, fake-clients, probes, rules"]),
    (&["fake"], &["required", "NAME"]),
    (&["fake", "ignores-eoff"], &["no fake is called `ignores-eoff`", "did you mean `ignores-eof`?"]),
    (&["fake", "plain", "--fixed"], &["has no clean twin"]),
    (&["fake", "slow-exit", "ms=soon"], &["`ms`", "a number of milliseconds", "`soon`"]),
    (&["fake", "slow-exit", "ms"], &["KEY=VALUE"]),
];

#[test]
fn usage_errors_exit_2_say_why_on_stderr_and_nothing_on_stdout() {
    let wrong = at_once(4, USAGE, |(words, said)| {
        let ended = Run::start(words, &[]).end();
        let fits = ended.code == 2
            && ended.stdout.is_empty()
            && said.iter().all(|word| ended.stderr.contains(word));
        let (processes, files) = ended.left();
        let clean = processes.is_empty() && files.is_empty();
        (!fits || !clean).then(|| format!("{words:?}, expected {said:?}: {}", in_full(&ended)))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} deviations:\n{}", wrong.len(), wrong.join("\n"));
}

/// The way from a leak to a green run and back: every form is written though a case is red, a finding
/// is accepted with a reason, the same run is green then, and a run without the leak red again.
#[test]
fn a_leak_is_accepted_with_a_reason_and_its_entry_goes_stale() {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, junit, sarif) = (path("report.json"), path("report.xml"), path("report.sarif"));
    let html = path("report.html");
    let (gitlab, baseline, summary) = (path("gl.json"), path("baseline.toml"), path("summary.md"));
    let server = ["server", "--only", "stdio/clean-close", "--leak-timeout", "1s", "--no-progress"];
    let fake = ["--", SCUPPER, "fake", "ignores-eof"];
    let outputs = ["--json", &json, "--junit", &junit, "--sarif", &sarif, "--gitlab", &gitlab];
    let outputs = [&outputs[..], &["--html", &html]].concat();
    let words = [&server[..], &outputs, &["--github"], &fake].concat();
    let ended = Run::start(&words, &[("GITHUB_STEP_SUMMARY", &summary)]).end();
    assert_eq!(ended.code, 1, "{}", in_full(&ended));
    assert!(ended.stdout.contains("\n::error title=scupper leak.process::"), "{}", ended.stdout);
    // What the subject has written is no command.
    let held =
        ended.stdout.strip_prefix("::stop-commands::").and_then(|rest| rest.split_once('\n'));
    let (token, rest) = held.expect("commands are held first");
    assert!(rest.contains(&format!("\n::{token}::\n::error ")), "{}", ended.stdout);
    let text = |path: &str| fs::read_to_string(path).expect("a report was written");
    assert!(text(&html).contains("<strong>Leak</strong>"), "{}", text(&html));
    assert!(text(&junit).contains("<failure type=\"leak.process\""), "{}", text(&junit));
    assert!(text(&summary).contains("exit code 1"), "{}", text(&summary));
    let log: Value = serde_json::from_str(&text(&sarif)).expect("SARIF is JSON");
    let found = &log["runs"][0]["results"][0]["partialFingerprints"]["scupper/v1"];
    let issues: Value = serde_json::from_str(&text(&gitlab)).expect("code quality is JSON");
    assert_eq!(&issues[0]["fingerprint"], found);

    let gate = |more: &[&str]| Run::start(&[&["gate", &json], more].concat(), &[]).end();
    let update = ["--baseline", &baseline, "--update-baseline", "--reason", "upstream #12"];
    let updated = gate(&update);
    assert_eq!(updated.code, 0, "{}", in_full(&updated));
    let entries = text(&baseline);
    assert!(entries.contains("reason = \"upstream #12\""), "{entries}");
    assert!(!updated.stdout.contains("nothing to accept"), "{}", in_full(&updated));
    let again = gate(&update).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(again.contains("; nothing to accept: every finding that counts is listed"), "{again}");
    let known = gate(&["--baseline", &baseline, "--threshold", "start.max<60s"]);
    assert_eq!(known.code, 0, "{}", in_full(&known));
    assert!(known.stdout.contains("exit 0: nothing leaked but 1 finding that the baseline knows"));
    let said = known.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("accepted: process of the server in stdio/clean-close: "), "{said}");
    assert!(said.contains("because: upstream #12"), "{said}");
    let slow = gate(&["--baseline", &baseline, "--threshold", "start.max<0ms"]);
    assert_eq!(slow.code, 1, "{}", in_full(&slow));
    let held = format!("scupper server --baseline {baseline} --threshold 'start.max<0ms' --only ");
    assert!(slow.stdout.contains(&format!("\nrepeat: {held}")), "{}", in_full(&slow));

    let against = ["--baseline", &baseline];
    let fixed = ["--", SCUPPER, "fake", "ignores-eof", "--fixed"];
    // The same finding with other pids in one run, none in the other.
    let runs = [fake.to_vec(), fixed.to_vec()];
    let ended =
        at_once(2, &runs, |fake| Run::start(&[&server[..], &against, fake].concat(), &[]).end());
    assert_eq!(ended[0].code, 0, "{}", in_full(&ended[0]));
    assert_eq!(ended[1].code, 1, "{}", in_full(&ended[1]));
    assert!(ended[1].stdout.contains("stale, it is gone: process of the server"));
    // The case alone is green: the run that is to be repeated is held against the same.
    let repeat =
        format!("\nrepeat: scupper server --baseline {baseline} --only stdio/clean-close ");
    assert!(ended[1].stdout.contains(&repeat), "{}", ended[1].stdout);
}

/// Subjects that are no MCP servers, and words of what is said of them.
#[rustfmt::skip]
const NO_SERVERS: &[(&[&str], &[&str])] = &[
    (&["/no/such/command"], &["could not start /no/such/command", "No such file", "is it installed, spelled right and on PATH?"]),
    (&["no-such-command-anywhere"], &["could not start no-such-command-anywhere", "on PATH?"]),
    (&["/"], &["could not start /", "is it executable?"]),
    (&[""], &["could not start"]),
    (&["true"], &["exited with code 0 before it answered initialize", "is something missing that it needs"]),
    (&["sh", "-c", "echo 'cannot open database' >&2; exit 7"], &["exited with code 7", "stderr: cannot open database"]),
    (&["sh", "-c", "kill -SEGV $$"], &["was ended by SIGSEGV before it answered initialize"]),
    (&["sh", "-c", "echo 'Server ready'; cat > /dev/null"], &["1 line of other text", "stdout: Server ready", "is this an MCP server"]),
    (&["sh", "-c", "cat > /dev/null"], &["no answer to initialize in time", "is this an MCP server"]),
    (&["sh", "-c", "exec 1>&-; cat > /dev/null"], &["closed its stdout before it answered initialize"]),
    // It does not even read its stdin, and has to be killed.
    (&["sleep", "1000"], &["no answer to initialize in time", "is this an MCP server"]),
    (&["cat"], &["was answered with an error"]),
    (&[SCUPPER, "fake", "wrong-era", "era=2025-11-25"], &["server/discover was answered with an error", "--era"]),
];

#[test]
fn what_is_no_server_exits_3_with_its_last_words_and_a_guess() {
    let wrong = at_once(6, NO_SERVERS, |(command, said)| {
        let mut options = vec!["--start-timeout", "1s", "--leak-timeout", "1s"];
        if command.contains(&"wrong-era") {
            options.extend(["--era", "2026-07-28"]);
        }
        let ended = Run::server(&options, command, &[]).end();
        let report = ended.report();
        let failures = report.cases.iter().filter_map(|case| case.failure.as_ref());
        let told: Vec<String> = failures
            .map(|failure| format!("{}\n{}", failure.message, failure.output.join("\n")))
            .collect();
        let told = told.join("\n");
        let fits = ended.code == 3
            && report.exit_code == 3
            && report.cases.len() == 1
            && report.cases[0].verdict == Verdict::Failed
            && ended.stderr.is_empty()
            && said.iter().all(|word| told.contains(word))
            && ended.stdout.contains("\nexit 3: the subject");
        let (processes, files) = ended.left();
        let clean = processes.is_empty() && files.is_empty();
        (!fits || !clean).then(|| format!("{command:?}, expected {said:?}: {}", in_full(&ended)))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} deviations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn broken_scenario_exits_2_and_names_the_line() {
    let run = with_files(
        &["run", "{home}"],
        &[("bad.toml", "why = \"x\"\n\n[subject]\nfakee = \"plain\"\n")],
    );
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", in_full(&run));
    assert!(run.stderr.contains("bad.toml:4"), "{}", run.stderr);
    assert!(run.stderr.contains("fakee"), "{}", run.stderr);
}

/// What a file says of its subject that no fake can be, and words of what is said of it.
#[rustfmt::skip]
const NO_FAKES: &[(&str, &[&str])] = &[
    ("fake = \"ignores-eoff\"", &["x.toml:4: no fake is called `ignores-eoff`", "did you mean `ignores-eof`?"]),
    ("core = \"ignores-eoff\"", &["x.toml:4: no fake is called `ignores-eoff`", "did you mean `ignores-eof`?"]),
    ("fake = \"plain\"\nfixed = true", &["x.toml:5: fake `plain` has no clean twin", "leave out `fixed`"]),
    ("fake = \"plain\"\noptions = { delay-ms = \"50\" }", &["x.toml:5: fake `plain` has no option `delay-ms`", "leave out `options`"]),
    ("fake = \"slow-exit\"\noptions = { m = \"50\" }", &["x.toml:5: fake `slow-exit` has no option `m`", "options = { ms = \"1500\" }"]),
    ("fake = \"slow-exit\"\noptions = { ms = \"soon\" }", &["x.toml:5: option `ms` of fake `slow-exit` cannot be \"soon\"", "a number of milliseconds", "ms = \"1500\""]),
    ("fake = \"wrapper\"\noptions = { inner = \"plane\" }", &["x.toml:5: option `inner` of fake `wrapper`"]),
];

/// Found by the server that is started, it would look like a failure of that server, and a file that
/// expects one would even be met.
#[test]
fn fake_that_does_not_exist_is_a_mistake_in_the_file() {
    let wrong = at_once(4, NO_FAKES, |(subject, said)| {
        let text = scenario("failed", "").replace("fake = \"ignores-eof\"", subject);
        let ended = with_files(&["run", "{home}/x.toml"], &[("x.toml", &text)]);
        let fits = ended.code == 2
            && ended.stdout.is_empty()
            && said.iter().all(|word| unwrapped(&ended.stderr).contains(word));
        (!fits).then(|| format!("{subject}, expected {said:?}: {}", in_full(&ended)))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} deviations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rule_that_does_not_exist_is_a_mistake_in_the_file() {
    let text = format!("rule = \"2026-07-28 stdio N99\"\n{}", scenario("clean", ""));
    let ended = with_files(&["run", "{home}/x.toml"], &[("x.toml", &text)]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{}", in_full(&ended));
    for said in ["x.toml:1: there is no rule \"2026-07-28 stdio N99\"", "did you mean \"2026-"] {
        assert!(unwrapped(&ended.stderr).contains(said), "{}", ended.stderr);
    }
}

#[test]
fn two_files_of_a_run_have_two_ids() {
    let text = format!("id = \"a/b\"\n{}", scenario("clean", ""));
    let ended = with_files(&["run", "{home}"], &[("one.toml", text.as_str()), ("two.toml", &text)]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{}", in_full(&ended));
    assert!(ended.stderr.contains("two.toml: its id is `a/b`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("one.toml; give one of them"), "{}", ended.stderr);
}

#[test]
fn file_that_is_not_utf8_is_told_where() {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let path = folder.path().join("x.toml");
    fs::write(&path, b"id = \"a\"\nwhy = \"caf\xe9\"\n").expect("a file of the test");
    let ended = Run::start(&["run", path.to_str().expect("a UTF-8 path")], &[]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{}", in_full(&ended));
    assert!(ended.stderr.contains("x.toml:2:11: byte 0xE9 is not UTF-8"), "{}", ended.stderr);
}

#[test]
fn folder_without_scenarios_exits_3() {
    let ended = with_files(&["run", "{home}"], &[("notes.txt", "nothing to judge here")]);
    assert_eq!(ended.code, 3, "{}", in_full(&ended));
    assert!(ended.stderr.contains("no scenario file"), "{}", ended.stderr);
}

#[test]
fn expected_leak_exits_0_and_an_unexpected_one_exits_1() {
    let good = scenario("leak", "\n[[expect.finding]]\nkind = \"process\"\nculprit = \"server\"\n");
    let bad = scenario("clean", "");
    let options = ["run", "--leak-timeout", "1s"];
    let met = with_files(&[&options[..], &["{home}/met.toml"]].concat(), &[("met.toml", &good)]);
    assert_eq!(met.code, 0, "{}", in_full(&met));
    let unmet = with_files(&[&options[..], &["{home}/no.toml"]].concat(), &[("no.toml", &bad)]);
    assert_eq!(unmet.code, 1, "{}", in_full(&unmet));
    assert!(unmet.stdout.contains("expected verdict clean, got leak"), "{}", unmet.stdout);
}

#[test]
fn lists_have_a_line_for_each_and_doctor_exits_0() {
    let holds: &[(&[&str], &[&str])] = &[
        (&["list"], &["stdio/clean-close  ", "stdio/churn  "]),
        (&["list", "lifecycles"], &["stdio/clean-close  ", "stdio/stdin-held  "]),
        (&["list", "fakes"], &["ignores-eof  ", "fd-swap  ", "canary  "]),
        (
            &["list", "probes"],
            &["process  ", "zombie  ", "fd  ", "thread  ", "task  ", "file  ", "memory  "],
        ),
        (&["list", "rules"], &["2026-07-28 stdio N9  "]),
        (&["doctor"], &["containment  ", "pidfd  ", "child subreaper  "]),
    ];
    for (words, begins) in holds {
        let ended = Run::start(words, &[]).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{words:?}: {}", in_full(&ended));
        for begin in *begins {
            let lines = ended.stdout.lines().filter(|line| line.starts_with(begin)).count();
            assert_eq!(lines, 1, "{words:?} has {lines} lines that begin with {begin:?}");
        }
    }
}

#[test]
fn report_has_its_version_and_every_field_of_the_contract() {
    let ended = Run::fake(&["--jobs", "12", "--leak-timeout", "1s"], &["ignores-eof"], &[]).end();
    let report: Value = serde_json::from_str(&ended.file("report.json")).expect("a report is JSON");
    assert_eq!(report["schema"], "scupper.report/1");
    assert_eq!(report["exit_code"], 1);
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 31);
    for case in cases {
        for field in [
            "id",
            "lifecycle",
            "subject",
            "era",
            "verdict",
            "tier",
            "cycles",
            "expected",
            "met",
            "steps",
            "findings",
            "failure",
            "repeat",
        ] {
            assert!(case.get(field).is_some(), "{}: there is no {field}", case["id"]);
        }
        assert!(case["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{case}");
    }
    let findings: Vec<&Value> =
        cases.iter().filter_map(|case| case["findings"].as_array()).flatten().collect();
    assert!(!findings.is_empty());
    for finding in findings {
        for field in [
            "class",
            "kind",
            "identities",
            "birth_step",
            "due_step",
            "culprit",
            "rule",
            "site",
            "holders",
            "evidence",
        ] {
            assert!(finding.get(field).is_some(), "there is no {field} in {finding}");
        }
    }
}

#[test]
fn only_what_is_asked_for_is_judged() {
    let only = ["--only", "sigterm-idle", "--only", "stdio/churn", "--skip", "churn"];
    let ended = Run::fake(&only, &["plain"], &[]).end();
    let judged: Vec<String> = ended.report().cases.into_iter().map(|case| case.id).collect();
    assert_eq!((ended.code, judged), (0, vec!["stdio/sigterm-idle".to_owned()]));
}

/// A server that stays is no finding of a run that judges descriptors, and neither is a run that
/// could have seen nothing green.
#[test]
fn events_come_one_a_line_as_they_happen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.ndjson");
    let words = ["server", "--only", "stdio/clean-close", "--events"];
    let command = ["--", SCUPPER, "fake", "plain"];
    let path_word = path.display().to_string();
    let words: Vec<&str> = words.into_iter().chain([path_word.as_str()]).chain(command).collect();

    let ended = Run::start(&words, &[]).end();

    assert_eq!(ended.code, 0, "{}", in_full(&ended));
    let text = fs::read_to_string(&path).expect("the events");
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    let [first, .., last] = names.as_slice() else { panic!("{text}") };
    assert_eq!((*first, *last), ("run-started", "run-ended"));
    assert!(names.contains(&"case-ended") && names.contains(&"canary-ended"), "{names:?}");
    assert_eq!(events[names.len() - 1]["totals"]["clean"], 1, "{text}");
    assert!(events.is_sorted_by_key(|event| event["at_ms"].as_u64()), "{text}");
}

#[test]
fn only_kinds_that_are_asked_for_are_found() {
    let only = ["--only", "reconnect", "--only", "churn", "--cycles", "6"];
    let options = [&only[..], &["--leak-timeout", "1s", "--probe"]].concat();
    let rows: &[(&str, &str, i32, &[&str])] = &[
        ("fd", "ignores-eof", 0, &[]),
        ("fd", "fd-swap", 1, &["fd"]),
        ("process,thread", "ignores-eof", 1, &["process"]),
        ("thread", "thread-per-call", 1, &["thread"]),
        ("zombie", "fd-swap", 0, &[]),
    ];
    let wrong = at_once(7, rows, |(kinds, fake, code, found)| {
        let ended = Run::fake(&[&options[..], &[kinds]].concat(), &[fake], &[]).end();
        let report = ended.report();
        let mut seen: Vec<&str> = report
            .cases
            .iter()
            .flat_map(|case| &case.findings)
            .map(|finding| finding.kind.as_str())
            .collect();
        seen.dedup();
        let fits = ended.code == *code && seen == *found;
        (!fits).then(|| format!("--probe {kinds} on {fake}: found {seen:?}, {}", in_full(&ended)))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Tasks are those of our own runtimes and memory is a trend: a run of these alone could only be
/// green.
#[test]
fn kinds_that_can_find_nothing_in_a_server_are_refused() {
    for kinds in ["task", "memory", "task,memory"] {
        let ended = Run::fake(&["--probe", kinds], &["plain"], &[]).end();
        assert_eq!(ended.code, 2, "--probe {kinds}: {}", in_full(&ended));
    }
}

/// `--probe process` alone: who is the launcher is told by descriptors, which are looked at anyhow.
#[test]
fn blame_is_the_same_whatever_is_judged() {
    let options = ["--jobs", "12", "--leak-timeout", "1s", "--only", "sigterm-idle"];
    let culprits = [&[][..], &["--probe", "process"]].map(|probe| {
        let ended = Run::fake(&[&options[..], probe].concat(), &["wrapper"], &[]).end();
        let findings = ended.report().cases.into_iter().flat_map(|case| case.findings);
        findings.map(|finding| finding.culprit.to_string()).collect::<Vec<_>>()
    });
    assert_eq!(culprits, [["launcher"], ["launcher"]]);
}

#[test]
fn output_that_is_no_terminal_has_no_colours_unless_asked_for() {
    let options = ["--only", "clean-close", "--leak-timeout", "1s"];
    let piped = Run::fake(&options, &["ignores-eof"], &[]).end();
    assert!(!piped.stdout.contains('\x1b'), "{}", piped.stdout);
    assert_eq!(piped.stderr, "", "progress is for terminals");
    let asked = [&options[..], &["--color", "always"]].concat();
    let coloured = Run::fake(&asked, &["ignores-eof"], &[]).end();
    assert!(coloured.stdout.contains('\x1b'), "{}", coloured.stdout);
}

fn scenario(verdict: &str, findings: &str) -> String {
    let step = |verb: &str| format!("[[step]]\ndo = \"{verb}\"\n\n");
    let steps = [step("open"), step("handshake"), step("close")].concat();
    let subject = "[subject]\nfake = \"ignores-eof\"\n\n";
    format!("why = \"A test.\"\n\n{subject}{steps}[expect]\nverdict = \"{verdict}\"\n{findings}")
}

/// A run of the program beside these files; [`HOME`](crate::support::HOME) is where they are.
fn with_files(words: &[&str], files: &[(&str, &str)]) -> Ended {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file of the test");
    }
    let path = folder.path().to_str().expect("a UTF-8 path");
    let words: Vec<String> =
        words.iter().map(|word| word.replace(crate::support::HOME, path)).collect();
    Run::start(&words.iter().map(String::as_str).collect::<Vec<_>>(), &[]).end()
}

/// A message as one line, however wide the lines are that it was told in.
fn unwrapped(message: &str) -> String {
    message.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

fn in_full(ended: &Ended) -> String {
    format!("exit code {}, left {:?}\n{}{}", ended.code, ended.left(), ended.stdout, ended.stderr)
}
