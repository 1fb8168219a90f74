//! Every misbehaving client over HTTP is caught for the right reason, and its clean twin is not.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{Ended, Run, SCUPPER, at_once};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{Class, Culprit, Finding, Verdict};
use harness::peer::fake_client::http::HTTP_FAKE_CLIENTS;

/// Runs at once. They mostly wait.
const AT_ONCE: usize = 4;
/// All cases of a run at once, so that their waits fall together.
const ALL_CASES: [&str; 2] = ["--jobs", "12"];
/// For leaky fakes: what leaks on purpose need not be waited for as long as by default.
const IMPATIENT: [&str; 2] = ["--leak-timeout", "3s"];
/// For clean ones: as by default, but not scaled by load.
const PATIENT: [&str; 2] = ["--leak-timeout", "6s"];

/// A fake client and what must come of it.
struct Row {
    fake: &'static str,
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
    /// The rule that it breaks, if one.
    rule: Option<&'static str>,
}

/// The contract. All of these are the client's doing.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { fake: "plain", options: &[], must: None },
    Row { fake: "host", options: &[], must: None },
    Row { fake: "forgets-delete", options: &[], must: Some(Caught {
        by: "client-http/clean-close", kind: Kind::Session, birth: "step 2, client sends initialize", due: "step 4, client exits",
        what: "a session that the client did not end", saying: "the client began it, ended well and sent no DELETE for it", rule: Some("2025-11-25 http H13") }) },
    Row { fake: "keeps-stream", options: &[], must: Some(Caught {
        by: "client-http/clean-close", kind: Kind::Fd, birth: "step 3, client opens a stream", due: "step 5, client at rest",
        what: "a stream of a session that the client has ended", saying: " -> 127.0.0.1:", rule: None }) },
    Row { fake: "reconnects-without-end", options: &[], must: Some(Caught {
        by: "client-http/ends-streams", kind: Kind::Fd, birth: "step 3, client opens a stream", due: "step 11, client keeps reconnecting",
        what: "a stream of events that the client opened ", saying: "`retry: 1000`", rule: Some("2025-11-25 http H6") }) },
    Row { fake: "keeps-old-session", options: &[], must: Some(Caught {
        by: "client-http/session-lost", kind: Kind::Session, birth: "step 2, client sends initialize", due: "step 4, client goes on with a dead session",
        what: "a dead session", saying: " requests named it after the server had answered 404", rule: Some("2025-11-25 http H12") }) },
    Row { fake: "hangs-on-open-stream", options: &[], must: Some(Caught {
        by: "client-http/stream-stays-open", kind: Kind::Process, birth: "step 1, start client", due: "step 6, SIGTERM to client",
        what: "the client, pid ", saying: " streams of events are still open", rule: None }) },
    // What grows in a client shows where it lives on.
    Row { fake: "leaks-socket", options: &["--rounds-arg", "rounds={rounds}"], must: Some(Caught {
        by: "client-http/rounds", kind: Kind::Fd, birth: "step 2.1, client connects (cycle 2)", due: "step 2, repeat 20",
        what: "20 descriptors of the client's, one more with every round", saying: " since step 2.1, client connects (cycle 2)", rule: None }) },
];

/// The first look.
const FIRST: &str = "client-http/clean-close";
/// The canary rides along with each run; the other is found by the byte sweep alone (sweep.rs).
const ELSEWHERE: &[&str] = &["canary", "leaves-helper-mid-answer"];

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

#[test]
fn sessions_can_be_judged_alone() {
    for (twin, code) in [(&[][..], 1), (&["--fixed"], 0)] {
        let client = [&[SCUPPER, "fake-client", "forgets-delete", "--url", "{url}"], twin].concat();
        let ended = judge(&["--probe", "session", "--only", FIRST], &client);
        assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn every_fake_client_is_in_the_table() {
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.fake).chain(ELSEWHERE.to_vec()).collect();
    let listed: BTreeSet<&str> = HTTP_FAKE_CLIENTS.iter().map(|fake| fake.name).collect();
    assert_eq!(listed, rows);
}

/// Runs a fake or its twin, and gives back what is not as it must be.
fn play(row: &Row, fixed: bool) -> Vec<String> {
    let twin: &[&str] = if fixed { &["--fixed"] } else { &[] };
    let must = row.must.as_ref().filter(|_| !fixed);
    let patience = if must.is_some() { IMPATIENT } else { PATIENT };
    let options = [&ALL_CASES, &patience, row.options].concat();
    let client = [&[SCUPPER, "fake-client", row.fake, "--url", "{url}"], twin].concat();
    let ended = judge(&options, &client);
    let report = ended.report();
    let mut wrong = Vec::new();
    let code = i32::from(must.is_some());
    if ended.code != code {
        wrong.push(format!("exit code {} instead of {code}\n{}", ended.code, ended.stdout));
    }
    for case in &report.cases {
        let (leaks, advisories): (Vec<&Finding>, Vec<&Finding>) =
            case.findings.iter().partition(|finding| finding.class == Class::Leak);
        // Who dies of a signal leaves its session, and who never ends it leaves it upon an error, too.
        let is_signalled = ["client-http/sigterm-", "client-http/sigint-"]
            .iter()
            .any(|moment| case.id.starts_with(moment));
        let forgets = must.is_some_and(|must| must.by == FIRST && must.kind == Kind::Session);
        let is_session = |finding: &&Finding| finding.kind == Kind::Session;
        let in_order = advisories.iter().all(|one| (is_signalled || forgets) && is_session(one));
        if !in_order || (must.is_none() && !leaks.is_empty()) {
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
                    && finding.rule.as_deref() == must.rule
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
    let fake = format!("exec {SCUPPER} fake-client plain");
    let by_variable = format!("{fake} --url $SCUPPER_URL");
    let by_file = format!("{fake} --config $SCUPPER_CONFIG");
    let ways: [&[&str]; 4] = [
        &["sh", "-c", &by_variable],
        &["sh", "-c", &by_file],
        &[SCUPPER, "fake-client", "plain", "--config={config}"],
        &[SCUPPER, "fake-client", "plain", "--url={url}"],
    ];
    let only = ["--only", "client-http/clean-close,client-http/sigkill-busy"];
    for (way, ended) in ways.iter().zip(at_once(AT_ONCE, &ways, |way| judge(&only, way))) {
        assert_eq!(ended.code, 0, "{way:?}\n{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.report().cases.len(), 2, "{way:?}\n{}", ended.stdout);
    }
}

/// In it, and at its server: by its own words, and by its stdin.
#[test]
fn what_grows_with_a_client_that_lives_on_is_its_own() {
    let client =
        |words: &[&'static str]| [&[SCUPPER, "fake-client"], words, &["--url", "{url}"]].concat();
    let ways: [(&[&str], Vec<&str>, Option<Kind>); 3] = [
        (&[], client(&["forgets-delete", "rounds={rounds}"]), Some(Kind::Session)),
        (&["--long-lived"], client(&["leaks-socket", "rounds=lines"]), Some(Kind::Fd)),
        (&["--long-lived"], client(&["leaks-socket", "--fixed", "rounds=lines"]), None),
    ];
    let ended = at_once(AT_ONCE, &ways, |(options, client, _)| {
        let only = ["--only", "client-http/rounds", "--leak-timeout", "3s"];
        judge(&[options, &only[..]].concat(), client)
    });
    for ((_, client, grows), ended) in ways.iter().zip(ended) {
        let code = i32::from(grows.is_some());
        assert_eq!(ended.code, code, "{client:?}\n{}{}", ended.stdout, ended.stderr);
        let report = ended.report();
        let [case] = report.cases.as_slice() else { panic!("{client:?}\n{}", ended.stdout) };
        let found: Vec<Kind> = case.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(found, grows.iter().copied().collect::<Vec<_>>(), "{client:?}");
        let whole = |finding: &Finding| (finding.culprit, finding.count) == (Culprit::Client, 20);
        assert!(case.findings.iter().all(whole), "{client:?}: {:#?}", case.findings);
    }
}

#[test]
fn a_client_that_asks_nothing_is_not_judged() {
    let ended = judge(&["--only", "client-http"], &["true"]);
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    let report = ended.report();
    let failure = report.cases[0].failure.as_ref().expect("it is told");
    assert!(failure.not_started && failure.message.contains("{url}"), "{failure:?}");
}

/// A host that is told to end when it already waits for the answer to its DELETE.
#[test]
fn a_client_is_struck_while_it_ends_its_session() {
    let only = ["--only", "client-http/sigkill-closing,client-http/stdin-ends-closing"];
    let ended = judge(&only, &[SCUPPER, "fake-client", "host", "--url", "{url}"]);
    assert_eq!(ended.code, 0, "{}", ended.stdout);
    let report = ended.report();
    assert_eq!(report.cases.len(), 2, "{:?}\n{}", report.notes, ended.stdout);
    let steps: Vec<&str> = report.cases[0].steps.iter().map(|one| one.step.name.as_str()).collect();
    let struck = ["client ends its session", "SIGKILL to client", "client is killed"];
    assert!(steps.ends_with(&struck), "{steps:?}");
}

/// Also what is counted by how much the client asks in a good life, which is looked at anew.
#[test]
fn a_kept_case_is_found_again_until_the_leak_is_mended() {
    let ways = [("forgets-delete", "clean-close"), ("keeps-old-session", "session-lost")];
    at_once(AT_ONCE, &ways, |(fake, lifecycle)| {
        let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a folder");
        let place = folder.path().to_str().expect("a UTF-8 path");
        let (script, kept) = (format!("{place}/my client"), format!("{place}/kept"));
        let write = |twin: &str| {
            let words = format!("exec {SCUPPER} fake-client {fake} {twin} --url \"$1\"\n");
            fs::write(&script, words).expect("a client");
        };
        write("");
        let only = format!("client-http/{lifecycle}");
        let options = ["--only", &only, "--keep", &kept, "--leak-timeout", "3s"];
        let found = judge(&options, &["sh", &script, "{url}"]);
        assert_eq!(found.code, 1, "{}{}", found.stdout, found.stderr);
        let replay = |patience: [&str; 2]| {
            let file = format!("{kept}/{only}.toml");
            let words = [&["replay", "--json", "{home}/report.json"], &patience[..], &[&file]];
            Run::start(&words.concat(), &[]).end()
        };
        let again = replay(IMPATIENT);
        assert_eq!(again.code, 1, "{}{}", again.stdout, again.stderr);
        let [first, again] = [found, again].map(|ended| {
            let report = ended.report();
            let [case] = report.cases.as_slice() else { panic!("{}", ended.stdout) };
            let told = case.findings.iter().map(|one| {
                // Their numbers may differ: a stream is opened beside the requests.
                let steps = (one.birth_step.name.clone(), one.due_step.name.clone());
                (one.kind, one.culprit, one.rule.clone(), steps)
            });
            (case.id.clone(), case.verdict, told.collect::<Vec<_>>())
        });
        assert_eq!(first, again);
        assert_eq!((first.1, first.2.len()), (Verdict::Leak, 1), "{first:?}");
        write("--fixed");
        let mended = replay(PATIENT);
        assert_eq!(mended.code, 0, "{}{}", mended.stdout, mended.stderr);
    });
}
