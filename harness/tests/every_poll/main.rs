//! Drop at every poll: each async operation of the core is cut off at each of its polls, in several ways,
//! and the kernel is asked what is left.
//!
//! A plain run cuts a sample that holds the first and the last poll of each operation in each way;
//! `ci/every-poll` cuts all. The table goes to the output of the test (`--nocapture`).
//!
//! In reading order: `fault` (the future that is cut off), `operation` (what one is), `operations`
//! (all of them), `ground` (what should be as before), `cell` (the process that does it), `driver`
//! (the processes, and what their words mean), `leaky` (operations that must be caught).

mod cell;
mod driver;
mod fault;
mod ground;
mod leaky;
mod operation;
mod operations;

use std::time::Duration;

use driver::{Patience, Plan, Row};
use fault::Fault;

/// `all`: every poll. A number: another sample than that of seed 0.
const HOW_MUCH: &str = "SCUPPER_EVERY_POLL";
/// Only operations whose name contains this.
const ONLY: &str = "SCUPPER_EVERY_POLL_ONLY";

/// What a cell is; without an order in the environment there is nothing to do.
#[test]
fn cell() {
    cell::run_if_asked();
}

#[test]
fn no_operation_of_the_core_leaves_anything_at_any_poll() {
    let plan = match std::env::var(HOW_MUCH).as_deref() {
        Ok("all") => Plan::All,
        Ok(seed) => Plan::Sample { seed: seed.parse().expect("`all`, or a seed") },
        Err(_) => Plan::Sample { seed: 0 },
    };
    let only = std::env::var(ONLY).unwrap_or_default();
    let names: Vec<&str> = operations::ALL.iter().map(|operation| operation.name).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| name.contains(&only)).collect();
    assert!(!names.is_empty(), "no operation has {only:?} in its name");
    let rows = driver::cut_all(&names, plan, Patience::LONG);
    println!("{}", driver::table(&rows));
    for row in &rows {
        assert_eq!(row.broken, None, "{} did not come about", row.name);
        assert!(row.struck() > 0, "{} was never cut", row.name);
    }
    let leaks: Vec<String> = rows.iter().flat_map(Row::leaks).collect();
    assert!(leaks.is_empty(), "left behind:\n{}", leaks.join("\n"));
}

/// Each leaves one thing of one kind, at one poll and in every way that can leave it; the twin does
/// the same and leaves nothing.
#[test]
fn what_leaks_is_caught_with_its_poll_its_way_and_its_kind() {
    let (twin, leaky) = leaky::ALL.split_first().expect("some");
    let mut rows = driver::cut_all(&[twin.name], Plan::All, Patience::LONG);
    let names: Vec<&str> = leaky.iter().map(|operation| operation.name).collect();
    // What is left here is left for ever: there is nothing to be patient for.
    let short = Patience { among_many: Duration::from_millis(100), alone: None };
    rows.extend(driver::cut_all(&names, Plan::All, short));
    println!("{}", driver::table(&rows));
    // A dropped runtime ends its tasks.
    let keeps_tasks = |fault: &Fault| !fault.is_of_the_runtime();
    let (all, none) = (Fault::all(), Vec::new());
    let of_tasks: Vec<Fault> = Fault::all().into_iter().filter(keeps_tasks).collect();
    let panic = vec![Fault::Panic];
    let expected = [
        ("leaky: clean twin", &none, ""),
        ("leaky: forgets a child", &all, "process"),
        ("leaky: forgets a zombie", &all, "zombie"),
        ("leaky: keeps a descriptor", &all, "fd"),
        ("leaky: leaves a file", &all, "file"),
        ("leaky: keeps a row", &all, "census"),
        ("leaky: starts a thread", &all, "thread"),
        ("leaky: detaches a task", &of_tasks, "task"),
        ("leaky: only when it unwinds", &panic, "fd"),
    ];
    for (row, (name, faults, kind)) in rows.iter().zip(expected) {
        assert_eq!((row.name.as_str(), &row.broken), (name, &None));
        let places = faults.iter().map(|fault| format!("{} at 2: {kind}", fault.word()));
        assert_eq!(row.places(), places.collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(rows.len(), expected.len());
}

/// What is found among many is done again alone, and counts when it is found there, too.
#[test]
fn a_finding_is_done_again_alone() {
    let names = ["leaky: only when it unwinds", "leaky: only after others"];
    let quick = Duration::from_millis(100);
    let patience = Patience { among_many: quick, alone: Some(quick) };
    let rows = driver::cut_all(&names, Plan::All, patience);
    println!("{}", driver::table(&rows));
    assert_eq!(rows[0].places(), ["panic at 2: fd"]);
    assert_eq!(rows[1].places(), [""; 0]);
    assert_eq!(rows[1].once.len(), 1, "{:?}", rows[1].once);
}
