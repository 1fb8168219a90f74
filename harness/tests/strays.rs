//! What is left at the end and belongs to no connection is unknown, never clean. Alone in its
//! binary: the test process stands in for the cell, which reaps every child.

use std::collections::BTreeSet;
use std::process::Command;

use harness::cell::protocol::{CaseOrder, Launch, Patience, SubjectOrder};
use harness::ledger::snapshot::Kind;
use harness::lifecycle::step::{Era, EraChoice, Lifecycle};
use harness::probe::Root;
use harness::subject::server::Play;

#[test]
fn a_process_that_belongs_to_no_connection_is_unknown() {
    let mut stray = Command::new("sleep").arg("1000").spawn().expect("sleep starts");
    let order = CaseOrder {
        id: "strays".into(),
        lifecycle: Lifecycle {
            id: "strays".into(),
            why: "Nothing is done, and something is there.".into(),
            rule: None,
            era: EraChoice::Auto,
            steps: Vec::new(),
        },
        subject: SubjectOrder::Server(Launch::plain(&["server".to_owned()])),
        subject_words: "server".into(),
        era: Era::Legacy,
        first_look: false,
        launchers: None,
        kinds: BTreeSet::from([Kind::Process]),
        patience: Patience::fixed(100),
        start_timeout_ms: 1_000,
        for_any_server: false,
        repeat: String::new(),
        sweep: None,
    };
    let mut tell = |_| {};
    let root = Root::Descendants(std::process::id().cast_signed());
    let played = Play::new(&order, root, &mut tell).run();
    stray.kill().expect("it is our child");
    stray.wait().expect("it is our child");
    let said = format!("to which connection pid {} (sleep) belonged", stray.id());
    assert!(played.unreadable.iter().any(|one| one.starts_with(&said)), "{played:#?}");
    assert!(played.findings.is_empty() && played.failure.is_none(), "{played:#?}");
}
