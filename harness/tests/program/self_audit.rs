//! The tool that finds leaks has none: processes, files, descriptors and threads of its own; and it
//! judges alike on every ground that it may have to stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Ended, Run, at_once, wait_for};
use harness::ledger::verdict::{CaseReport, Tier};

const WEAKER: (&str, &str) = ("SCUPPER_CONTAIN", "subreaper");
/// On both grounds at once some 70 lives share the host, so that one may take seconds to come to its end.
const QUICK: [&str; 4] = ["--jobs", "12", "--leak-timeout", "6s"];

/// A clean subject, one that must be killed in most of its lives, and one that leaves helpers out
/// of reach; on either ground. The verdicts are compared, too: they must not depend on the ground.
#[test]
fn run_leaves_nothing_and_judges_alike_on_either_ground() {
    // The helper from the start: one started by a call in flight may or may not be there in time.
    let fakes: [&[&str]; 3] = [&["plain"], &["ignores-eof"], &["helper-setsid", "at=start"]];
    let grounds: [&[(&str, &str)]; 2] = [&[], &[WEAKER]];
    let runs: Vec<_> =
        fakes.iter().flat_map(|fake| grounds.map(|environment| (fake, environment))).collect();
    let ended = at_once(6, &runs, |(fake, environment)| {
        let ended = Run::fake(&QUICK, fake, environment).end();
        // At once, not in a while: whoever ended last has waited for everything below it.
        let left = ended.left();
        (verdicts(&ended), left)
    });
    for ((fake, _), (_, left)) in runs.iter().zip(&ended) {
        assert_eq!(left, &(vec![], vec![]), "left by a run on {fake:?}");
    }
    for (fake, pair) in fakes.iter().zip(ended.chunks(2)) {
        let unlike = unlike(&pair[0].0, &pair[1].0);
        assert!(unlike.is_empty(), "{fake:?} is judged unlike on the two grounds:\n{unlike}");
        // They speak both eras, so that the battery is whole.
        assert_eq!(pair[0].0.len(), harness::plan::whole_battery().len(), "{fake:?}");
    }
    let weaker = Run::fake(&["--only", "clean-close"], &["plain"], &[WEAKER]).end();
    let tiers: Vec<Tier> = weaker.report().cases.iter().map(|case| case.tier).collect();
    assert_eq!(tiers, [Tier::Subreaper], "the weaker ground was not stood on");
}

/// What a case came to.
struct Outcome {
    /// Verdict and findings, without anything that names a process.
    words: String,
    /// What else the report says of it, for whoever reads why this test failed.
    why: String,
}

fn verdicts(ended: &Ended) -> BTreeMap<String, Outcome> {
    let of_case = |case: &CaseReport| {
        let mut words = case.verdict.to_string();
        for one in &case.findings {
            // The birth step is left out: who is seen first after which step may be a race.
            let _ = write!(words, ", {} of the {} at {}", one.kind, one.culprit, one.due_step);
        }
        let evidence: Vec<&String> = case.findings.iter().flat_map(|one| &one.evidence).collect();
        let failure = case.failure.as_ref().map(|failure| &failure.message);
        let why = format!("{failure:?} {:?} {:?} {evidence:?}", case.unreadable, case.notes);
        Outcome { words, why }
    };
    ended.report().cases.iter().map(|case| (case.id.clone(), of_case(case))).collect()
}

/// The cases alone that the two grounds tell apart: the whole would bury them.
fn unlike(strongest: &BTreeMap<String, Outcome>, weaker: &BTreeMap<String, Outcome>) -> String {
    let mut text = String::new();
    let ids: BTreeSet<&String> = strongest.keys().chain(weaker.keys()).collect();
    for id in ids {
        let pair = [strongest.get(id), weaker.get(id)];
        let [first, second] = pair.map(|one| one.map(|one| one.words.as_str()));
        if first != second {
            for (ground, one) in ["strongest", "weaker"].iter().zip(pair) {
                let (words, why) = one.map_or(("no such case", ""), |one| (&one.words, &one.why));
                let _ = writeln!(text, "{id}, {ground}: {words}; {why}");
            }
        }
    }
    text
}

/// Cases of the long run below.
const CASES: usize = 64;

/// What the runner itself has at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Had {
    descriptors: usize,
    threads: usize,
    zombies: usize,
}

/// A leak of one descriptor, thread or zombie with each case would make the last quarter of a long
/// run have some 48 more than the first; a run that leaks none has as many at its busiest.
#[test]
fn runner_does_not_grow_with_its_cases() {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    for number in 0..CASES {
        let text = "why = \"A life among many.\"\n\n[subject]\nfake = \"plain\"\n\n\
                    [[step]]\ndo = \"open\"\n\n[[step]]\ndo = \"handshake\"\n\n\
                    [[step]]\ndo = \"close\"\n\n[expect]\nverdict = \"clean\"\n";
        fs::write(folder.path().join(format!("life-{number:02}.toml")), text).expect("a file");
    }
    let path = folder.path().to_str().expect("a UTF-8 path");
    let mut run = Run::start(&["run", "--jobs", "3", path], &[]);
    let quarter = CASES / 4;
    let (mut first, mut last) = (Had::default(), Had::default());
    let mut samples = [0, 0];
    let bound = Instant::now() + Duration::from_secs(120);
    let ended = wait_for(bound, || {
        let done = run.stdout().matches("clean    ").count();
        if let Some(had) = had(run.pid()) {
            let (most, samples) = match done {
                done if done < quarter => (&mut first, &mut samples[0]),
                done if done >= CASES - quarter => (&mut last, &mut samples[1]),
                _ => return (!run.runs()).then_some(()),
            };
            *most = most.most(had);
            *samples += 1;
        }
        (!run.runs()).then_some(())
    });
    ended.expect("the run ends");
    let ended = run.end();
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    println!("in the first quarter {first:?}, in the last {last:?}, samples {samples:?}");
    assert!(samples.iter().all(|count| *count >= 10), "too few looks: {samples:?}");
    let slack = Had { descriptors: 6, threads: 3, zombies: 3 };
    let most = first.plus(slack);
    assert_eq!(last.most(most), most, "the runner grew from {first:?} to {last:?}");
    assert_eq!(ended.left(), (vec![], vec![]));
}

/// Everything of a living process; none when it is gone or a zombie.
fn had(pid: i32) -> Option<Had> {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).ok().map(Iterator::count);
    // Each thread has its own; that of a thread that has ended goes to another.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let children = threads.flat_map(|thread| fs::read_to_string(thread.path().join("children")));
    let children: Vec<String> = children.collect();
    let dead = |child: &&str| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    let zombies = children.iter().flat_map(|of| of.split_whitespace()).filter(dead).count();
    let descriptors = count("fd")?;
    (descriptors > 0).then_some(Had { descriptors, threads: count("task")?, zombies })
}

impl Had {
    fn most(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            zombies: self.zombies.max(other.zombies),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors + other.descriptors,
            threads: self.threads + other.threads,
            zombies: self.zombies + other.zombies,
        }
    }
}
