//! The byte sweep: what only it finds, and that its parts are the whole.

use crate::support::{Ended, Run, SCUPPER};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{CaseReport, Culprit, Swept, Verdict};
use harness::lifecycle::step::Era;
use harness::lifecycle::sweep::Fault;
use harness::peer::wire;

/// Where the messages of a client end: initialize, initialized, and a call of echo as the fakes have it.
fn ends() -> [u64; 2] {
    let first = wire::line(&wire::first_request(Era::Legacy, 1)).len() as u64;
    let ready =
        wire::notification(Era::Legacy, "notifications/initialized", serde_json::Value::Null);
    [first, first + wire::line(&ready).len() as u64]
}

/// A helper is left where stdin ends just before a newline, and nowhere else. No lifecycle of the battery
/// cuts there; the sweep names these bytes.
#[test]
fn a_leak_between_a_message_and_its_newline_is_named_by_its_bytes() {
    let [first, second] = ends();
    let options = [
        "--torture",
        "--only",
        "sweep/half-closes/to-server",
        "--era",
        "2025-11-25",
        "--leak-timeout",
        "1s",
    ];
    let ended = Run::fake(&options, &["leaks-mid-message"], &[]).end();
    let report = ended.report();
    assert_eq!(ended.code, 1, "{}", in_full(&ended));
    let last = report.cases.iter().filter_map(|case| case.swept).map(|swept| swept.last).max();
    let last = last.expect("there are ranges");
    let told: Vec<(u64, u64, Verdict)> = report.cases.iter().map(range).collect();
    let clean = |first, last| (first, last, Verdict::Clean);
    let leak = |byte| (byte, byte, Verdict::Leak);
    let expected = [
        clean(0, first - 2),
        leak(first - 1),
        clean(first, second - 2),
        leak(second - 1),
        clean(second, last - 2),
        leak(last - 1),
        clean(last, last),
    ];
    assert_eq!(told, expected, "{}", in_full(&ended));
    for case in report.cases.iter().filter(|case| case.verdict == Verdict::Leak) {
        let [finding] = case.findings.as_slice() else { panic!("{}", in_full(&ended)) };
        let found = (finding.culprit, finding.due_step.name.as_str());
        assert_eq!(found, (Culprit::Server, "half-close stdin"), "{}", in_full(&ended));
        assert!(case.repeat.contains(&format!("--torture --only {}", case.id)), "{}", case.repeat);
    }
    let line = format!(
        "half-closes, to the server: bytes 0..={}: clean; {}: leak process",
        first - 2,
        first - 1
    );
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&line), "{}", in_full(&ended));
}

/// A point by its own name, and its twin.
#[test]
fn one_point_is_repeated_by_its_id() {
    let byte = ends()[0] - 1;
    let point = format!("sweep/dies/to-server/{byte}");
    let run = |fake: &[&str]| {
        let options =
            ["--torture", "--only", &point, "--era", "2025-11-25", "--leak-timeout", "1s"];
        Run::fake(&options, fake, &[]).end()
    };
    let leaky = run(&["leaks-mid-message"]);
    let told: Vec<_> = leaky.report().cases.iter().map(range).collect();
    assert_eq!((leaky.code, told), (1, vec![(byte, byte, Verdict::Leak)]), "{}", in_full(&leaky));
    let twin = run(&["leaks-mid-message", "--fixed"]);
    let told: Vec<_> = twin.report().cases.iter().map(range).collect();
    assert_eq!((twin.code, told), (0, vec![(byte, byte, Verdict::Clean)]), "{}", in_full(&twin));
}

/// Every lane is clean, and each point is played in exactly one of the parts.
#[test]
fn a_clean_server_is_clean_in_every_lane_and_shards_are_the_whole() {
    let part = |extent: &[&str]| {
        let ended =
            Run::fake(&[&["--torture", "--shallow", "1"], extent].concat(), &["plain"], &[]).end();
        assert_eq!(ended.code, 0, "{}", in_full(&ended));
        let ranges = ended.report().cases;
        assert!(ranges.iter().all(|case| case.met && case.swept.is_some()), "{}", in_full(&ended));
        ranges.into_iter().filter_map(|case| case.swept).collect::<Vec<_>>()
    };
    let whole = part(&[]);
    assert_eq!(whole.len(), 20, "a range for each fault, direction and second fault: {whole:#?}");
    assert!(whole.iter().all(|swept| swept.reached && swept.lives == swept.judged), "{whole:#?}");
    let closes = ["--only", "sweep/closes"];
    let mut parts = part(&[&["--shard", "1/2"], &closes[..]].concat());
    parts.extend(part(&[&["--shard", "2/2"], &closes[..]].concat()));
    let is_closes = |swept: &&Swept| swept.lane.fault == Fault::Closes && !swept.lane.twice;
    for lane in whole.iter().filter(is_closes) {
        let of_lane: Vec<_> = parts.iter().filter(|swept| swept.lane == lane.lane).collect();
        assert_eq!(of_lane.iter().map(|swept| swept.lives).sum::<usize>(), lane.lives);
        let ends = (of_lane.first().map(|one| one.first), of_lane.last().map(|one| one.last));
        assert_eq!(ends, (Some(lane.first), Some(lane.last)));
    }
}

/// A server that closes its streams cannot see the end of its stdin: a client has to go on to SIGTERM.
#[test]
fn a_client_whose_server_goes_wrong_after_a_byte_is_judged_too() {
    let run = |twin: &[&str]| {
        let options =
            ["client", "--json", "{home}/report.json", "--torture", "--leak-timeout", "2s"];
        let only = ["--only", "sweep/closes/to-client/1,sweep/half-closes/to-client/1"];
        let client = ["--", SCUPPER, "fake-client", "gives-up", "--config", "{config}"];
        let ended = Run::start(&[&options[..], &only, &client, twin].concat(), &[]).end();
        let told: Vec<_> = ended.report().cases.iter().map(range).collect();
        (ended, told)
    };
    let (leaky, told) = run(&[]);
    let expected = [(1, 1, Verdict::Leak), (1, 1, Verdict::Clean)];
    assert_eq!((leaky.code, &told[..]), (1, &expected[..]), "{}", in_full(&leaky));
    let report = leaky.report();
    let finding = report.cases[0].findings.first().expect("a leak has findings");
    assert_eq!(finding.culprit, Culprit::Client, "{}", in_full(&leaky));
    assert!(report.cases.iter().all(|case| case.swept.is_some_and(|swept| swept.reached)));
    let (twin, told) = run(&["--fixed"]);
    assert!(told.iter().all(|(.., verdict)| *verdict == Verdict::Clean), "{}", in_full(&twin));
    assert_eq!((twin.code, told.len()), (0, 2), "{}", in_full(&twin));
}

/// A client over HTTP leaves a process where the connection is closed between the head of an answer and
/// the end of its body. Of the first answer, the sample plays the bytes to both sides of both.
#[test]
fn a_client_over_http_whose_server_goes_wrong_after_a_byte_is_judged_too() {
    // The next answer with a body is beyond.
    let only = "sweep/closes/to-client/0..=300";
    let run = |twin: &[&str]| {
        let options = ["client", "--json", "{home}/report.json", "--torture", "--shallow", "1"];
        let more = ["--only", only, "--leak-timeout", "2s", "--"];
        let client = [SCUPPER, "fake-client", "leaves-helper-mid-answer", "--url", "{url}"];
        let ended = Run::start(&[&options[..], &more, &client, twin].concat(), &[]).end();
        let told: Vec<_> = ended.report().cases.iter().map(range).collect();
        (ended, told)
    };
    let (leaky, told) = run(&[]);
    let [(0, head, Verdict::Clean), (first, last, Verdict::Leak), (body, _, Verdict::Clean)] =
        told[..]
    else {
        panic!("{}", in_full(&leaky))
    };
    assert_eq!((leaky.code, first, body), (1, head + 1, last + 1), "{}", in_full(&leaky));
    // The sample has three bytes about each end, and what is between the two is taken to be alike.
    assert!(last - first > 100, "{}", in_full(&leaky));
    let report = leaky.report();
    let [finding] = report.cases[1].findings.as_slice() else { panic!("{}", in_full(&leaky)) };
    let found = (finding.kind, finding.culprit, finding.due_step.name.as_str());
    assert_eq!(found, (Kind::Process, Culprit::Client, "client exits"), "{}", in_full(&leaky));
    let repeat = format!("--torture --only sweep/closes/to-client/{first}");
    assert!(report.cases[1].repeat.contains(&repeat), "{}", report.cases[1].repeat);
    assert!(report.cases.iter().all(|case| case.swept.is_some_and(|swept| swept.reached)));
    let (twin, told) = run(&["--fixed"]);
    let is_clean = matches!(told[..], [(0, _, Verdict::Clean)]);
    assert!(is_clean && twin.code == 0, "{}", in_full(&twin));
}

#[test]
fn what_is_no_part_of_a_sweep_is_refused() {
    for (options, said) in [
        (&["--shallow", "3"][..], "--torture"),
        (&["--torture", "--shard", "3/2"], "no part of a whole"),
        (&["--torture", "--only", "stdio/churn"], "nothing in it is called stdio/churn"),
    ] {
        let ended = Run::fake(options, &["plain"], &[]).end();
        assert_eq!(ended.code, 2, "{}", in_full(&ended));
        assert!(ended.stderr.contains(said), "{}", in_full(&ended));
    }
    let kept = ["client", "--torture", "--keep", "{home}/kept", "--", SCUPPER, "{url}"];
    let ended = Run::start(&kept, &[]).end();
    assert_eq!(ended.code, 2, "{}", in_full(&ended));
    assert!(ended.stderr.contains("--keep with --torture"), "{}", in_full(&ended));
    let options = ["--torture", "--only", "sweep/dies/to-server/100000"];
    let beyond = Run::fake(&options, &["plain"], &[]).end();
    assert_eq!(beyond.code, 3, "{}", in_full(&beyond));
    assert!(beyond.stdout.contains("bytes go to the server"), "{}", in_full(&beyond));
}

fn range(case: &CaseReport) -> (u64, u64, Verdict) {
    let swept = case.swept.expect("a range of the sweep");
    (swept.first, swept.last, case.verdict)
}

/// The futures of the core's steps are dropped at their polls. What came of each is told, and the parts
/// are the whole.
#[test]
fn the_futures_of_the_core_are_dropped_at_every_poll() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/stdio/core");
    let files = ["close", "call-in-flight"].map(|name| format!("{folder}/{name}.toml"));
    let run = |options: &[&str]| {
        let words = [&["run", "--torture", "--json", "{home}/report.json"], options];
        let paths: Vec<&str> = files.iter().map(String::as_str).collect();
        Run::start(&[&words.concat()[..], &paths].concat(), &[]).end()
    };
    let whole = run(&[]);
    assert_eq!(whole.code, 0, "{}", in_full(&whole));
    let cut = |ended: &Ended| -> Vec<(String, String)> {
        let cases = ended.report().cases;
        let notes = cases.iter().map(|case| {
            let note = case.notes.iter().find(|note| note.contains("dropped at its polls"));
            let note = note.unwrap_or_else(|| panic!("{}", in_full(ended)));
            assert!(case.figures["polls_cut"] >= 4.0, "{}", in_full(ended));
            (case.id.clone(), note.clone())
        });
        notes.collect()
    };
    let of_whole = cut(&whole);
    assert_eq!(of_whole.len(), 2, "{}", in_full(&whole));
    for (_, note) in &of_whole {
        for step in ["handshake: polls 0..=", "close: polls 0"] {
            assert!(note.contains(step), "{note}");
        }
        assert!(!note.contains("leak") && !note.contains("failed"), "{note}");
    }
    let parts = ["1/2", "2/2"].map(|part| run(&["--shallow", "2", "--shard", part]));
    let ids = parts.iter().flat_map(|part| {
        assert_eq!(part.code, 0, "{}", in_full(part));
        cut(part).into_iter().map(|(id, _)| id)
    });
    let ids: std::collections::BTreeSet<String> = ids.collect();
    assert_eq!(ids, of_whole.into_iter().map(|(id, _)| id).collect());

    let fake = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/stdio/ignores-eof.toml");
    let none = Run::start(&["run", "--torture", fake], &[]).end();
    assert_eq!(none.code, 2, "{}", in_full(&none));
    assert!(none.stderr.contains("have the core as their subject"), "{}", none.stderr);
}

fn in_full(ended: &Ended) -> String {
    format!("exit code {}, left {:?}\n{}{}", ended.code, ended.left(), ended.stdout, ended.stderr)
}
