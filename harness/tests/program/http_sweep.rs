//! The byte sweep of HTTP servers: what only it finds, by its bytes, and that a clean server is clean in
//! every lane.

use crate::support::{Ended, Run, SCUPPER};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{CaseReport, Culprit, Verdict};
use harness::lifecycle::step::Era;
use harness::lifecycle::sweep::{Lane, Side};
use harness::peer::wire;

const URL: &str = "http://127.0.0.1:{port}/mcp";
/// What leaks on purpose need not be waited for as long as by default.
const IMPATIENT: [&str; 2] = ["--leak-timeout", "2s"];

/// Sweeps a fake over HTTP.
fn sweep(options: &[&str], fake: &[&str]) -> Ended {
    let options = [&["--http", URL, "--torture", "--era", "2025-11-25"], options].concat();
    let command = [&[SCUPPER, "fake"], fake, &["--http", "{port}"]].concat();
    Run::server(&options, &command, &[]).end()
}

/// A helper is left where the client goes between the head of a request and its body. No lifecycle of the
/// battery cuts there; the sweep names these bytes, and each is kept as a file that finds it again.
#[test]
fn a_leak_between_a_head_and_its_body_is_named_by_its_bytes() {
    let lane = "sweep/closes/to-server";
    let options = ["--shallow", "1", "--only", lane, "--keep", "{home}/kept"];
    let ended = sweep(&[&options[..], &IMPATIENT].concat(), &["leaks-mid-request"]);
    assert_eq!(ended.code, 1, "{}", in_full(&ended));
    let report = ended.report();
    let told: Vec<(u64, u64, Verdict)> = report.cases.iter().map(range).collect();
    // The sample holds the end of each head and of each body, with a byte to either side.
    let leaks: Vec<u64> =
        told.iter().filter(|(.., verdict)| *verdict == Verdict::Leak).map(|one| one.0).collect();
    assert_eq!((leaks.len(), told.len()), (3, 7), "{}", in_full(&ended));
    let [first, second, third] = leaks[..] else { panic!("{}", in_full(&ended)) };
    let last = told[6].1;
    let clean = |first, last| (first, last, Verdict::Clean);
    let leak = |byte| (byte, byte, Verdict::Leak);
    let expected = [
        clean(0, first - 1),
        leak(first),
        clean(first + 1, second - 1),
        leak(second),
        clean(second + 1, third - 1),
        leak(third),
        clean(third + 1, last),
    ];
    assert_eq!(told, expected, "{}", in_full(&ended));
    // The body of initialize, of which the sample plays the last byte too.
    let body = wire::first_request(Era::Legacy, 1).to_string().len() as u64;
    assert!(second > first + body, "{told:?}");
    for case in report.cases.iter().filter(|case| case.verdict == Verdict::Leak) {
        let [finding] = case.findings.as_slice() else { panic!("{}", in_full(&ended)) };
        // When the server came to see its client go, and so the step in which the helper was born, is a race.
        let found = (finding.kind, finding.culprit, finding.due_step.name.as_str());
        let expected = (Kind::Process, Culprit::Server, "end of the lifecycle");
        assert_eq!(found, expected, "{}", in_full(&ended));
        assert!(case.repeat.contains(&format!("--torture --only {}", case.id)), "{}", case.repeat);
    }
    let text = ended.file(&format!("kept/{lane}/{first}.toml"));
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("kept.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("a UTF-8 path");
    let replayed = Run::start(&[&["replay"], &IMPATIENT[..], &[path]].concat(), &[]).end();
    assert_eq!(replayed.code, 1, "{}", in_full(&replayed));
}

/// Three bytes of each lane: in a head, in a body, and in what comes after the handshake's answer.
#[test]
fn a_clean_server_is_clean_in_every_lane() {
    let lanes = Lane::all(Side::HttpServer);
    let points =
        lanes.iter().flat_map(|lane| [9, 250, 420].map(|at| format!("{}/{at}", lane.id())));
    let only = points.collect::<Vec<_>>().join(",");
    let ended = sweep(&["--only", &only], &["leaks-mid-request", "--fixed"]);
    assert_eq!(ended.code, 0, "{}", in_full(&ended));
    let swept: Vec<_> = ended.report().cases.iter().filter_map(|case| case.swept).collect();
    assert_eq!(swept.len(), lanes.len(), "a range for each lane: {swept:#?}");
    assert!(swept.iter().all(|range| range.reached && range.lives == 3), "{swept:#?}");
    assert!(ended.stdout.contains("54 lives"), "{}", in_full(&ended));
}

#[test]
fn what_is_no_part_of_a_sweep_is_refused() {
    let wrong = sweep(&["--only", "http/clean-close"], &["plain"]);
    assert_eq!(wrong.code, 2, "{}", in_full(&wrong));
    assert!(
        wrong.stderr.contains("nothing in it is called http/clean-close"),
        "{}",
        in_full(&wrong)
    );
    let beyond = sweep(&["--only", "sweep/dies/to-server/100000"], &["plain"]);
    assert_eq!(beyond.code, 3, "{}", in_full(&beyond));
    assert!(beyond.stdout.contains("bytes go to the server"), "{}", in_full(&beyond));
    let pair = ["--http", "http://127.0.0.1:{port}/sse", "--torture"];
    let command = [SCUPPER, "fake", "plain", "--http", "{port}", "transport=sse"];
    let pair = Run::server(&pair, &command, &[]).end();
    assert_eq!(pair.code, 3, "{}", in_full(&pair));
    assert!(pair.stdout.contains("over two connections at once"), "{}", in_full(&pair));
}

fn range(case: &CaseReport) -> (u64, u64, Verdict) {
    let swept = case.swept.expect("a range of the sweep");
    (swept.first, swept.last, case.verdict)
}

fn in_full(ended: &Ended) -> String {
    format!("exit code {}, left {:?}\n{}{}", ended.code, ended.left(), ended.stdout, ended.stderr)
}
