//! Every misbehaving client is caught for the right reason, and its clean twin is not.

use std::collections::BTreeSet;

use crate::support::{Ended, Run, SCUPPER, at_once};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Class, Culprit, Finding, Verdict};
use harness::peer::fake_client::FAKE_CLIENTS;

/// Runs at once. They mostly wait.
const AT_ONCE: usize = 4;
/// All cases of a run at once, so that their waits fall together.
const ALL_CASES: [&str; 2] = ["--jobs", "12"];
/// For leaky fakes: what leaks on purpose need not be waited for as long as by default.
const IMPATIENT: [&str; 2] = ["--leak-timeout", "3s"];
/// For clean ones: as by default, but not scaled by load, for a client that stays is at rest for as
/// long in every case.
const PATIENT: [&str; 2] = ["--leak-timeout", "6s"];
/// A client that is told of one server by its arguments.
const BY_WORDS: &[&str] = &["--", "{command}", "{args}"];
/// A client that is told of its servers by a file.
const BY_FILE: &[&str] = &["--config", "{config}"];

/// A fake client and what must come of it.
struct Row {
    fake: &'static str,
    /// How it is told of its servers.
    told: &'static [&'static str],
    /// Options of the run.
    options: &'static [&'static str],
    must: Option<Caught>,
}

/// What one lifecycle must say of a leak, and every other leak of the run with it.
struct Caught {
    by: &'static str,
    kind: Kind,
    birth: &'static str,
    due: &'static str,
    /// Beginning of the words in which the thing is named.
    what: &'static str,
    /// Part of the evidence or the blame.
    saying: &'static str,
}

/// The contract. All of these are the client's doing.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { fake: "plain", told: BY_WORDS, options: &[], must: None },
    Row { fake: "host", told: BY_FILE, options: &[], must: None },
    Row { fake: "gives-up", told: BY_WORDS, options: &[], must: Some(Caught {
        by: "client/ignores-eof", kind: Kind::Process, birth: "step 2, client starts server", due: "step 4, client exits",
        what: "the server, pid ", saying: "what reached it: end of stdin" }) },
    Row { fake: "never-reaps", told: BY_WORDS, options: &[], must: Some(Caught {
        by: "client/clean-close", kind: Kind::Zombie, birth: "step 2, client starts server", due: "step 4, client at rest",
        what: "a dead server that the client has not reaped", saying: "(fake plain), child of pid " }) },
    Row { fake: "kills-wrapper", told: BY_WORDS, options: &[], must: Some(Caught {
        by: "client/ignores-eof", kind: Kind::Process, birth: "step 2, client starts server", due: "step 4, client exits",
        what: "the server, pid ", saying: "the process between them, pid " }) },
    Row { fake: "forgets-stdin", told: BY_WORDS, options: &[], must: Some(Caught {
        by: "client/sigterm-idle", kind: Kind::Process, birth: "step 1, start client", due: "step 4, SIGTERM to client",
        what: "the client, pid ", saying: "the stdin of one server is still open" }) },
    Row { fake: "leaks-stdin", told: BY_FILE, options: &[], must: Some(Caught {
        by: "client/two-servers", kind: Kind::Fd, birth: "step 4, client starts server 2", due: "step 4, client starts server 2",
        what: "a descriptor of the client's in server 2", saying: "is the write end of pipe:" }) },
    Row { fake: "hurries", told: &["grace=1500", "--", "{command}", "{args}"], options: &[], must: Some(Caught {
        by: "client/sigint-closing", kind: Kind::Process, birth: "step 2, client starts server", due: "step 6, client exits",
        what: "the server, pid ", saying: "it saw the end of its stdin" }) },
    Row { fake: "forgets-worker", told: BY_WORDS, options: &[], must: Some(Caught {
        by: "client/sampling-then-dies", kind: Kind::Process, birth: "step 4, client exits", due: "step 4, client exits",
        what: "a process of the client's own, pid ", saying: "the client started it and exited without it" }) },
    // What grows in a client shows where it lives on.
    Row { fake: "keeps-stdout", told: BY_FILE, options: &["--rounds-arg", "rounds={rounds}"], must: Some(Caught {
        by: "client/rounds", kind: Kind::Fd, birth: "step 2.1, client starts server (cycle 2)", due: "step 2, repeat 20",
        what: "20 descriptors of the client's, one more with every round", saying: " since step 2.1, client starts server (cycle 2)" }) },
];

/// The canary rides along with each run; what only waits is no leak, memory is an advisory, and the
/// others show over rounds alone. These have tests of their own.
const ELSEWHERE: &[&str] = &["canary", "waits-on", "keeps-memory", "keeps-thread", "keeps-worker"];

/// Runs `scupper client` on a command of our own program.
fn judge(options: &[&str], client: &[&str]) -> Ended {
    let words = [&["client", "--json", "{home}/report.json"], options, &["--"], client].concat();
    Run::start(&words, &[]).end()
}

#[test]
fn every_fake_client_is_caught_for_the_right_reason_and_its_twin_is_clean() {
    let runs: Vec<(&Row, bool)> = TABLE
        .iter()
        .flat_map(|row| [false, true].map(|fixed| (row, fixed)))
        .filter(|(row, fixed)| row.must.is_some() || !fixed)
        .collect();
    let wrong: Vec<String> = at_once(AT_ONCE, &runs, |(row, fixed)| play(row, *fixed)).concat();
    assert!(wrong.is_empty(), "{} deviations:\n{}", wrong.len(), wrong.join("\n"));
}

/// It is weighed once a round, and a hundred rounds are the fewest that tell.
#[test]
fn memory_that_rises_with_the_rounds_is_an_advisory_unless_it_is_to_count() {
    let runs: [(i32, usize, &[&str], &[&str]); 3] = [
        (0, 1, &[], &[]),
        (1, 1, &["--strict-memory"], &[]),
        (0, 0, &["--strict-memory"], &["--fixed"]),
    ];
    at_once(AT_ONCE, &runs, |(code, findings, strict, twin)| {
        let options =
            ["--only", "client/rounds", "--cycles", "100", "--rounds-arg", "rounds={rounds}"];
        let fake = [&[SCUPPER, "fake-client", "keeps-memory"], *twin, BY_FILE].concat();
        let ended = judge(&[&options[..], strict].concat(), &fake);
        let report = ended.report();
        let [case] = report.cases.as_slice() else { panic!("{:#?}", report.cases) };
        assert_eq!((ended.code, case.findings.len()), (*code, *findings), "{}", ended.stdout);
        assert!(case.figures.contains_key("memory_bound_kib_per_cycle"), "{:?}", case.figures);
        for found in &case.findings {
            assert_eq!((found.class, found.kind), (Class::Advisory, Kind::Memory), "{found:#?}");
            assert_eq!(found.culprit, Culprit::Client);
            assert_eq!(found.what, "the client's memory grows by 64 KiB a cycle");
        }
    });
}

#[test]
fn every_fake_client_is_in_the_table() {
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.fake).chain(ELSEWHERE.to_vec()).collect();
    let listed: BTreeSet<&str> = FAKE_CLIENTS.iter().map(|fake| fake.name).collect();
    assert_eq!(listed, rows);
}

/// Runs a fake or its twin, and gives back what is not as it must be.
fn play(row: &Row, fixed: bool) -> Vec<String> {
    let twin: &[&str] = if fixed { &["--fixed"] } else { &[] };
    let must = row.must.as_ref().filter(|_| !fixed);
    let patience = if must.is_some() { IMPATIENT } else { PATIENT };
    let options = [&ALL_CASES, &patience, row.options].concat();
    let client = [&[SCUPPER, "fake-client", row.fake], twin, row.told].concat();
    let ended = judge(&options, &client);
    let report = ended.report();
    let mut wrong = Vec::new();
    let code = i32::from(must.is_some());
    if ended.code != code {
        wrong.push(format!("exit code {} instead of {code}\n{}", ended.code, ended.stdout));
    }
    for case in &report.cases {
        let leaks: Vec<&Finding> =
            case.findings.iter().filter(|finding| finding.class == Class::Leak).collect();
        // What a server leaves that exits well is its own, and so is that it stays when its client dies.
        let advisories = case.findings.len() - leaks.len();
        let may_advise = case.id.starts_with("client/helper-") || case.id.ends_with("-closing");
        if must.is_none() && (!leaks.is_empty() || (advisories > 0 && !may_advise)) {
            wrong.push(format!("{}: {:#?}", case.id, case.findings));
        }
        if let Some(must) = must {
            let alike = |finding: &&&Finding| {
                (finding.kind, finding.culprit) == (must.kind, Culprit::Client)
            };
            if leaks.iter().filter(alike).count() != leaks.len() {
                wrong.push(format!("{} says besides: {:#?}", case.id, case.findings));
            }
        }
        if case.verdict != if leaks.is_empty() { Verdict::Clean } else { Verdict::Leak } {
            wrong.push(format!("{} is {}: {:?}", case.id, case.verdict, case.failure));
        }
    }
    if let Some(must) = must {
        let case = report.cases.iter().find(|case| case.lifecycle == must.by);
        match case.map(|case| case.findings.as_slice()) {
            Some([finding]) => {
                let mut said = finding.evidence.iter().chain([&finding.blame]);
                let as_it_must = finding.birth_step.to_string() == must.birth
                    && finding.due_step.to_string() == must.due
                    && finding.what.starts_with(must.what)
                    && said.any(|line| line.contains(must.saying));
                if !as_it_must {
                    wrong.push(format!("{} says: {finding:#?}", must.by));
                }
            }
            other => wrong.push(format!("{} has not one finding: {other:#?}", must.by)),
        }
    }
    let (processes, files) = ended.left();
    if !processes.is_empty() || !files.is_empty() {
        wrong.push(format!("left {processes:?} and {files:?}"));
    }
    wrong.iter().map(|wrong| format!("{}{}: {wrong}", row.fake, twin.concat())).collect()
}

#[test]
fn a_client_is_told_of_its_server_in_every_way() {
    let by_server = format!("exec {SCUPPER} fake-client plain -- {{server}}");
    let by_variables =
        format!("exec {SCUPPER} fake-client plain -- $SCUPPER_COMMAND $SCUPPER_ARGS");
    let by_variable = format!("exec {SCUPPER} fake-client plain --config $SCUPPER_CONFIG");
    let ways: [&[&str]; 5] = [
        &["sh", "-c", &by_server],
        &["sh", "-c", &by_variables],
        &["sh", "-c", &by_variable],
        // What a client's environment holds need not reach its servers.
        &["env", "-i", SCUPPER, "fake-client", "plain", "--", "{command}", "{args}"],
        &[SCUPPER, "fake-client", "plain", "--config={config}"],
    ];
    for (way, ended) in ways
        .iter()
        .zip(at_once(AT_ONCE, &ways, |way| judge(&["--only", "clean-close,sigkill-busy"], way)))
    {
        assert_eq!(ended.code, 0, "{way:?}\n{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.report().cases.len(), 2, "{way:?}\n{}", ended.stdout);
    }
}

/// In every way to tell it of rounds: its own words, its stdin, and words that come after it.
#[test]
fn what_grows_in_a_client_that_lives_on_is_its_own() {
    let client = |words: &[&'static str]| {
        [&[SCUPPER, "fake-client"], words, &["--config", "{config}"]].concat()
    };
    let told = ["--rounds-arg", "rounds={rounds}"];
    let ways: [(&[&str], Vec<&str>, Option<Kind>); 7] = [
        (&[], client(&["keeps-stdout", "rounds={rounds}"]), Some(Kind::Fd)),
        (&["--long-lived"], client(&["keeps-stdout", "rounds=lines"]), Some(Kind::Fd)),
        (&["--long-lived"], client(&["keeps-stdout", "--fixed", "rounds=lines"]), None),
        (&told, client(&["plain"]), None),
        (&told, client(&["keeps-thread"]), Some(Kind::Thread)),
        (&told, client(&["keeps-worker"]), Some(Kind::Process)),
        (&told, client(&["never-reaps", "stays=false"]), Some(Kind::Zombie)),
    ];
    let ended = at_once(AT_ONCE, &ways, |(options, client, _)| {
        let only = ["--only", "client/rounds,clean-close", "--leak-timeout", "3s"];
        judge(&[*options, &only[..]].concat(), client)
    });
    for ((_, client, kind), ended) in ways.iter().zip(ended) {
        let code = i32::from(kind.is_some());
        assert_eq!(ended.code, code, "{client:?}\n{}{}", ended.stdout, ended.stderr);
        let report = ended.report();
        assert_eq!(report.cases.len(), 2, "{client:?}\n{}", ended.stdout);
        let findings: Vec<&Finding> = report.cases.iter().flat_map(|case| &case.findings).collect();
        assert_eq!(findings.len(), code as usize, "{client:?}: {findings:#?}");
        for found in findings {
            let said = (Some(found.kind), found.culprit, found.due_step.name.as_str());
            assert_eq!(said, (*kind, Culprit::Client, "repeat 20"), "{client:?}: {found:#?}");
        }
    }
}

/// Of the last server it has enough before what grew has had its time, behind a launcher too.
#[test]
fn a_client_that_leaves_before_it_was_looked_at_for_long_enough_is_not_known() {
    let words = format!(
        "{SCUPPER} fake-client keeps-stdout start=2000 rounds={{rounds}} --config {{config}}; sleep 1"
    );
    let ways: [&[&str]; 2] = [
        &[
            SCUPPER,
            "fake-client",
            "keeps-stdout",
            "start=2000",
            "rounds={rounds}",
            "--config",
            "{config}",
        ],
        &["sh", "-c", &words],
    ];
    let ended = at_once(AT_ONCE, &ways, |client| {
        judge(&["--only", "client/rounds", "--leak-timeout", "8s"], client)
    });
    for (client, ended) in ways.iter().zip(ended) {
        assert_eq!(ended.code, 3, "{client:?}\n{}{}", ended.stdout, ended.stderr);
        let report = ended.report();
        let [case] = report.cases.as_slice() else { panic!("{:#?}", report.cases) };
        assert_eq!((case.verdict, case.findings.len()), (Verdict::Unknown, 0), "{case:#?}");
        let [unknown] = case.unreadable.as_slice() else { panic!("{:#?}", case.unreadable) };
        assert!(unknown.contains("whether it keeps 20 descriptors of the client's"), "{unknown}");
    }
}

#[test]
fn a_client_that_waits_for_the_dead_is_told_of_and_its_twin_does_not() {
    for (twin, findings) in [(&[][..], 1), (&["--fixed"], 0)] {
        let client = [&[SCUPPER, "fake-client", "waits-on"], twin, BY_WORDS].concat();
        let ended = judge(&["--only", "dies-in-call,clean-close", "--leak-timeout", "3s"], &client);
        assert_eq!(ended.code, 0, "{}", ended.stdout);
        let report = ended.report();
        let found: Vec<&Finding> = report.cases.iter().flat_map(|case| &case.findings).collect();
        assert_eq!(found.len(), findings, "{found:#?}");
        for finding in found {
            assert_eq!((finding.class, finding.culprit), (Class::Advisory, Culprit::Client));
            let said = (finding.kind, finding.birth_step.to_string(), finding.due_step.to_string());
            let steps = ("step 1, start client", "step 4, client at rest");
            assert_eq!(said, (Kind::Process, steps.0.into(), steps.1.into()));
            let what = "the client, which waits for a server that is dead, pid ";
            assert!(finding.what.starts_with(what), "{finding:#?}");
        }
    }
}

#[test]
fn a_client_at_rest_is_told_which_pipes_it_keeps() {
    for (twin, kept) in [(&[][..], 1.0), (&["--fixed"], 0.0)] {
        let client =
            [&[SCUPPER, "fake-client", "keeps-stdout"], twin, &["stays=true"], BY_WORDS].concat();
        let ended = judge(&["--only", "dies-in-call", "--leak-timeout", "3s"], &client);
        let report = ended.report();
        let [case] = report.cases.as_slice() else { panic!("{}", ended.stdout) };
        assert_eq!(
            case.figures.get("pipes_kept").copied().unwrap_or(0.0),
            kept,
            "{:?}",
            case.notes
        );
        let note = |note: &String| note.contains("the stdout of the server, pid ");
        assert_eq!(case.notes.iter().any(note), kept > 0.0, "{:?}", case.notes);
    }
}

#[test]
fn a_client_that_starts_no_server_is_not_judged() {
    let ended = judge(&[], &["true"]);
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    let report = ended.report();
    let failure = report.cases[0].failure.as_ref().expect("it is told");
    assert!(failure.not_started && failure.message.contains("{config}"), "{failure:?}");
}

/// A busy host starts one as slowly.
#[test]
fn a_server_that_takes_its_time_to_start_is_waited_for() {
    let late =
        format!("exec {SCUPPER} fake-client plain -- sh -c 'sleep 2; exec \"$@\"' sh \"$@\"");
    let ended =
        judge(&["--only", "clean-close"], &["sh", "-c", &late, "sh", "{command}", "{args}"]);
    assert_eq!(ended.code, 0, "{}", ended.stdout);
}

#[test]
fn what_lives_instead_of_a_server_is_told() {
    let options = ["--start-timeout", "2s", "--leak-timeout", "1s"];
    let client = ["sh", "-c", "sleep 1000 & exec sleep 1001", "sh", "{command}", "{args}"];
    let ended = judge(&options, &client);
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    let report = ended.report();
    let failure = report.cases[0].failure.as_ref().expect("it is told");
    let said = "the client started no server within 2 s; it lives, in state ";
    assert!(failure.message.starts_with(said), "{failure:?}");
    assert!(failure.message.contains(" (sleep 1000); nothing came to scupper"), "{failure:?}");
}

#[test]
fn a_moment_that_a_client_never_comes_to_is_left_out_and_is_no_leak() {
    // It speaks once, and never with both servers.
    let client = [SCUPPER, "fake-client", "gives-up", "--", "{command}", "{args}"];
    let hidden = format!(
        "exec {} # {{config}}",
        client[..3].join(" ") + " -- $SCUPPER_COMMAND $SCUPPER_ARGS"
    );
    let ended = judge(&["--only", "two-servers,clean-close"], &["sh", "-c", &hidden]);
    assert_eq!(ended.code, 0, "{}", ended.stdout);
    let report = ended.report();
    assert_eq!(report.cases.len(), 1, "{}", ended.stdout);
    let left_out = "client/two-servers left out: the client did not start both servers";
    assert!(report.notes.iter().any(|note| note == left_out), "{:?}", report.notes);
}

#[test]
fn what_a_client_leaves_of_its_own_is_its_own() {
    let script = format!("sleep 1000 & exec {SCUPPER} fake-client plain -- \"$@\"");
    let client = ["sh", "-c", &script, "sh", "{command}", "{args}"];
    let ended = judge(&["--only", "clean-close", "--leak-timeout", "1s"], &client);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    let report = ended.report();
    let [finding] = report.cases[0].findings.as_slice() else { panic!("{:#?}", report.cases) };
    assert_eq!((finding.kind, finding.culprit), (Kind::Process, Culprit::Client));
    assert!(finding.what.contains("of the client's own"), "{finding:#?}");
    assert!(finding.what.contains("(sleep 1000)"), "{finding:#?}");
}

#[test]
fn a_launcher_that_leaves_the_client_is_to_blame_for_it() {
    let script = format!("{SCUPPER} fake-client host -- \"$@\"; true");
    let client = ["sh", "-c", &script, "sh", "{command}", "{args}"];
    let options = ["--only", "sigterm-idle,sigkill-idle", "--leak-timeout", "2s"];
    let ended = judge(&options, &client);
    let report = ended.report();
    let found = |id: &str| {
        let case = report.cases.iter().find(|case| case.id == id).expect("it was played");
        let [finding] = case.findings.as_slice() else { panic!("{:#?}", case.findings) };
        assert_eq!(finding.culprit, Culprit::Launcher, "{finding:#?}");
        assert!(finding.what.starts_with("the client behind its launcher"), "{finding:#?}");
        finding.class
    };
    assert_eq!(found("client/sigterm-idle"), Class::Leak);
    // By SIGKILL it could do nothing more.
    assert_eq!(found("client/sigkill-idle"), Class::Advisory);
}

#[test]
fn a_kept_case_is_red_until_the_client_is_mended() {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let place = folder.path().to_str().expect("a UTF-8 path");
    let (script, kept) = (format!("{place}/my client"), format!("{place}/kept"));
    let write = |twin: &str| {
        let words = format!("exec {SCUPPER} fake-client gives-up {twin} -- \"$@\"\n");
        std::fs::write(&script, words).expect("a client");
    };
    write("");
    let options = ["--only", "ignores-eof,clean-close", "--leak-timeout", "1s", "--keep", &kept];
    let found = judge(&options, &["sh", &script, "{command}", "{args}"]);
    assert_eq!(found.code, 1, "{}{}", found.stdout, found.stderr);
    let case = format!("{kept}/client/ignores-eof.toml");
    let replay = || {
        let words = ["replay", "--json", "{home}/report.json", "--leak-timeout", "1s", &case];
        Run::start(&words, &[]).end()
    };
    let red = replay();
    write("--fixed");
    let green = replay();
    assert_eq!((red.code, green.code), (1, 0), "{}{}", red.stdout, green.stdout);
    let report = red.report();
    let [case] = report.cases.as_slice() else { panic!("{:#?}", report.cases) };
    let [finding] = case.findings.as_slice() else { panic!("{:#?}", case.findings) };
    let said = (finding.kind, finding.culprit, finding.due_step.name.as_str());
    assert_eq!(said, (Kind::Process, Culprit::Client, "client exits"));
}

#[test]
fn a_scenario_whose_moment_never_comes_was_not_judged() {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let file = folder.path().join("idle.toml");
    let text = "why = \"A client that is never idle.\"\n[subject]\nfake-client = \"plain\"\n\
                [script]\nattack = \"SIGTERM\"\nmoment = \"idle\"\n[[script.server]]\n\
                fake = \"plain\"\n[expect]\nverdict = \"clean\"\n";
    std::fs::write(&file, text).expect("a scenario");
    let ended = Run::start(&["run", file.to_str().expect("a UTF-8 path")], &[]).end();
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    assert!(ended.stdout.contains("the client was never idle"), "{}", ended.stdout);
}

#[test]
fn what_cannot_be_judged_is_refused_with_a_word() {
    for (words, said) in [
        (&["client"][..], "{command} {args}"),
        (
            &["client", "--only", "clean-close,client-http", "--", "client", "{config}"],
            "in two runs",
        ),
        (
            &["client", "--torture", "--keep", "{home}/kept", "--", "client", "{url}"],
            "no scenario file",
        ),
        (&["client", "--rounds-arg", "--rounds", "--", "client"], "no word of it says how many"),
        (&["client", "--probe", "thread", "--", "client"], "zombies and descriptors are judged"),
        (
            &["client", "--probe", "session", "--", "client", "{args}"],
            "judged in clients over HTTP",
        ),
        (&["client", "--only", "client/churn", "--", "client"], "no lifecycle is called"),
    ] {
        let ended = Run::start(words, &[]).end();
        assert_eq!(ended.code, 2, "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{words:?}: {}", ended.stderr);
    }
}
