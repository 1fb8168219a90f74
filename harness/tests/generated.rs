//! Generated lifecycles on our core in memory: a model beside it must agree after every step.
//!
//! `PROPTEST_CASES=200000 cargo test -p harness --release --test generated` plays more of the random
//! ones; `SCUPPER_SEED=N` plays the same random ones again, and `SCUPPER_LIFECYCLE=CODE` the one
//! lifecycle that a failure has printed.
#![cfg(feature = "core")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use harness::lifecycle::generate::{Generated, LONGEST, lifecycle_of, of_seed};
use harness::lifecycle::shrink::shrink;
use harness::subject::generated::{Disagreement, Leak, Stats, run, run_with};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Seeds that are always played.
const FIXED: u64 = 2000;
/// Random ones, unless `PROPTEST_CASES` says otherwise. Few, because each run has others.
const RANDOM: u32 = 100;
/// How many lifecycles the search for the shortest failing one plays at most.
const TRIES: usize = 5000;

/// One at a time: descriptors are those of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Past the test runner, which keeps what passing tests print to itself.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn shortest(found: &Disagreement, leak: Leak) -> Box<Disagreement> {
    let shrunk = shrink(&found.lifecycle, TRIES, |tried| run_with(tried, leak).is_err());
    run_with(&shrunk, leak).expect_err("it failed when it was last played")
}

fn fail(found: &Disagreement) -> ! {
    let found = shortest(found, Leak::Nothing);
    let code = found.lifecycle.code();
    panic!(
        "{found}\nagain: SCUPPER_LIFECYCLE={code} cargo test -p harness --test generated -- \
         one_lifecycle"
    );
}

#[test]
fn one_lifecycle_that_is_asked_for() {
    let _alone = alone();
    let code: Option<String> = setting("SCUPPER_LIFECYCLE");
    let lifecycle = match &code {
        Some(code) => Generated::parse(code).expect("SCUPPER_LIFECYCLE is what a failure printed"),
        None => of_seed(0),
    };
    if let Err(found) = run(&lifecycle) {
        panic!("{found}");
    }
}

#[test]
fn model_and_core_agree_on_fixed_seeds() {
    let _alone = alone();
    let before = descriptors();
    let mut stats = Stats::default();
    for seed in 0..FIXED {
        match run(&of_seed(seed)) {
            Ok(played) => stats += played,
            Err(found) => fail(&found),
        }
    }
    assert_eq!(descriptors(), before, "descriptors that were there before and after");
    assert!(
        stats.active > FIXED,
        "too few of the lifecycles come as far as a connection: {stats:?}"
    );
    tell(&format!("generated lifecycles: seeds 0..{FIXED}, {}", words(stats)));
}

#[test]
fn model_and_core_agree_on_random_lifecycles() {
    let _alone = alone();
    let before = descriptors();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed: u64 = setting("SCUPPER_SEED").unwrap_or(now.as_nanos() as u64);
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = setting("PROPTEST_CASES").unwrap_or(RANDOM);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &key);
    let stats = Mutex::new(Stats::default());
    let steps = vec(any::<[u8; 4]>(), 0..LONGEST);
    tell(&format!("generated lifecycles: {cases} random ones of SCUPPER_SEED={seed}"));
    let played = TestRunner::new_with_rng(config, rng).run(&steps, |codes| {
        match run(&lifecycle_of(&codes.concat())) {
            Ok(played) => *stats.lock().expect("no other thread") += played,
            Err(found) => {
                return Err(proptest::test_runner::TestCaseError::fail(found.to_string()));
            }
        }
        Ok(())
    });
    match played {
        Ok(()) => {}
        Err(TestError::Fail(_, codes)) => {
            fail(&run(&lifecycle_of(&codes.concat())).expect_err("it failed before"))
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    assert_eq!(descriptors(), before, "descriptors that were there before and after");
    let stats = stats.into_inner().expect("no other thread");
    tell(&format!("generated lifecycles: random ones of SCUPPER_SEED={seed}, {}", words(stats)));
}

fn words(stats: Stats) -> String {
    let Stats { lifecycles, steps, comparisons, active, reached } = stats;
    format!(
        "{lifecycles} played, {reached} with something in use, {steps} steps, {comparisons} looks, \
         {active} got active"
    )
}

/// Each mistake is found, for what it is and at its step, and the lifecycle that shows it is short.
#[test]
fn a_core_that_leaks_is_caught_and_the_lifecycle_shrinks() {
    let _alone = alone();
    let told: BTreeMap<&str, (Leak, &[&str])> = BTreeMap::from([
        (
            "a connection",
            (Leak::Connection, &["connection `server 0`", "expects none", "has 1"][..]),
        ),
        (
            "a task",
            (
                Leak::Task,
                &[
                    "after the end of everything",
                    "task ",
                    "stage.rs:",
                    "the census does not have it",
                ],
            ),
        ),
        ("a cursor", (Leak::Cursor, &["cursor `session 0`", "expects none", "has 1", "stage.rs:"])),
        ("a server", (Leak::Server, &["server `server 0`", "expects 1", "has 0", "call a tool"])),
        ("a panic", (Leak::Panic, &["after the end of everything", "a task panicked"])),
    ]);
    for (what, (leak, expected)) in told {
        let found = (0..FIXED).find_map(|seed| run_with(&of_seed(seed), leak).err());
        let found = found.unwrap_or_else(|| panic!("{what} was not found"));
        let found = shortest(&found, leak);
        let words = found.to_string();
        assert!(found.lifecycle.steps.len() <= 6, "{what}: {words}");
        for part in expected {
            assert!(words.contains(part), "{what}: no `{part}` in:\n{words}");
        }
        run(&found.lifecycle).unwrap_or_else(|wrong| panic!("{what}, left out: {wrong}"));
    }
}

/// The descriptors of this process and what they are.
fn descriptors() -> BTreeSet<(PathBuf, PathBuf)> {
    let folder = std::fs::read_dir("/proc/self/fd").expect("our own descriptors");
    let own = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        // That of the folder itself is gone by the time it is read.
        let target = std::fs::read_link(&path).ok()?;
        (!target.ends_with("fd")).then_some((path, target))
    };
    folder.filter_map(own).collect()
}
