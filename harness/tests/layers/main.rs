//! Who may import whom: the module tree against one explicit table.
//!
//! The flow of the program goes from lifecycles to reports, and what is pure stays pure. Both are
//! read off the paths in the source: `use` lines, and paths written in full. Tests and doc comments
//! are left out. An edge that is not in the table fails with file and line, and so does a row of the
//! table that nothing uses any more.

mod source;

use std::collections::BTreeSet;
use std::fs;

use source::{Source, below, sources};

/// Where from, where to (with all below), and why that is in order.
type Edge = (&'static str, &'static str, &'static str);

/// The whole of what modules of this crate may use of one another, beside themselves.
#[rustfmt::skip]
const EDGES: &[Edge] = &[
    ("main", "cli", "parses, and runs one subcommand"),
    ("main", "cell", "cells, sentinels and clients are this very program"),
    ("main", "peer::fake", "`scupper fake` is a peer and no run"),
    ("main", "peer::fake_client", "`scupper fake-client` likewise"),
    ("main", "peer::reference", "`scupper fake reference` likewise"),
    ("main", "lifecycle::scenario", "data: which fake, and how"),

    ("cli", "report", "passes events on, and asks for a report"),
    ("cli", "gate", "the exit code, and expectations of scenario files"),
    ("cli", "spelled", "data: counted things"),
    ("cli", "runner", "judges cases"),
    ("cli", "plan", "makes cases"),
    ("cli", "lifecycle", "reads scenarios, and names lifecycles"),
    ("cli", "ledger", "data: kinds, verdicts, rules"),
    ("cli", "subject::generated", "plays generated lifecycles, which need no cell"),
    ("cli", "cell::protocol", "data: what the first look learned"),
    ("cli", "cell::host", "`scupper doctor` tells the tier"),
    ("cli", "cell::CELL_COOKIE", "the name of a variable"),
    ("cli", "cell::CONNECTION_COOKIE", "the name of a variable"),
    ("cli", "probe::host", "`scupper doctor` tells the abilities"),
    ("cli", "probe::socket", "who listens on a port, before anything is started"),
    ("cli", "probe::holder", "and which process that is"),
    ("cli", "peer::fake", "`scupper list fakes`"),
    ("cli", "peer::fake_client", "`scupper list fake-clients`"),

    ("runner", "plan", "data: a case"),
    ("runner", "cell", "each case has its cell"),
    ("runner", "ledger", "data: reports of cases"),

    ("plan", "cell::protocol", "data: a case is the order that a cell is given"),
    ("plan", "lifecycle", "a case is a lifecycle on a subject"),
    ("plan", "ledger", "data: kinds"),
    ("plan", "spelled", "data: words of a command line"),

    ("cell", "subject", "a cell plays a lifecycle on its subject"),
    ("cell", "peer::client", "a client process is this very program"),
    ("cell", "peer::http", "and so is the process of HTTP clients"),
    ("cell", "peer::fake::watched", "a server that a judged client starts is this very program"),
    ("cell", "peer::fake::service", "and the HTTP server of a judged client"),
    ("cell", "probe", "data: whom to look at"),
    ("cell", "lifecycle::step", "data: the order holds a lifecycle"),
    ("cell", "lifecycle::sweep", "data: what a counted run has shown"),
    ("cell", "lifecycle::client", "data: the order holds the script of a client"),
    ("cell", "lifecycle::endpoint", "data: which way over HTTP"),
    ("cell", "ledger", "data: reports, tiers, identities of processes"),

    ("subject", "peer", "the other side of the connection"),
    ("subject", "probe", "looks after every step"),
    ("subject", "settle", "waits until quiet"),
    ("subject", "ledger", "records what was seen, and judges it"),
    ("subject", "lifecycle::step", "data: what to do"),
    ("subject", "lifecycle::sweep", "data: what a counted run has shown"),
    ("subject", "lifecycle::client", "data: what to do to a client"),
    ("subject", "lifecycle::endpoint", "data: where an HTTP server is reached"),
    ("subject", "lifecycle::http", "data: the name of a lifecycle"),
    ("subject", "spelled", "data: words of a command line, and counted things"),
    ("subject", "cell::protocol", "data: the order, and what was learned"),
    ("subject", "cell::contain", "processes by pidfd"),
    ("subject", "cell::CONNECTION_COOKIE", "the name of a variable"),

    ("settle", "ledger::snapshot", "data: identities of processes"),

    ("peer", "lifecycle", "data: steps, streams, which fake"),
    ("subject", "lifecycle::embedded", "data: names and options of hosts and services"),
    ("subject", "lifecycle::generate", "data: generated lifecycles"),
    ("subject", "lifecycle::model", "compares what it says with the census"),
    ("subject", "lifecycle::scenario", "data: whose step it is, and durations as files have them"),
    ("subject", "cell::HTTP_CLIENTS", "the name of a hidden mode"),
    ("subject", "cell::STORE", "the name of a hidden mode"),

    ("peer", "cell::CLIENT", "the name of a hidden mode"),
    ("peer", "cell::PEER", "the name of a hidden mode"),
    ("peer", "cell::HTTP_PEER", "the name of a hidden mode"),
    ("peer", "cell::HOLD", "the name of a hidden mode"),

    ("probe", "ledger::snapshot", "data: what a probe sees"),
    ("probe", "ledger::verdict::Holder", "data: who holds a leaked thing"),

    ("ledger", "lifecycle::step", "data: eras"),
    ("ledger", "lifecycle::sweep", "data: the lane of a range of bytes"),
    ("ledger", "lifecycle::client", "data: the rule that a client is judged by"),
    ("lifecycle", "ledger::snapshot", "data: an expectation names a kind"),
    ("lifecycle", "ledger::verdict", "data: an expectation names class, culprit and verdict"),

    ("report", "spelled", "data: counted things"),
    ("report", "lifecycle::sweep", "data: the lane of a range of bytes"),
    ("report", "ledger", "data: cases, findings, verdicts"),

    ("gate", "spelled", "data: counted things"),
    ("gate", "ledger", "data: cases, findings, verdicts"),
    ("gate", "lifecycle::scenario", "data: expectations"),
    ("gate", "report::event", "data: exit codes, and what became of the canary"),
    ("gate", "report::json", "data: the report of an earlier run"),
];

/// Modules that decide and do not act: no clock, no file, no process, no runtime.
const PURE: &[&str] = &["lifecycle", "plan", "ledger", "gate"];
/// Of the standard library and of other crates, what pure modules do not touch.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
];
/// All of other crates that pure modules may use: forms of data, and messages about them.
const PURE_CRATES: &[&str] = &["serde", "serde_json", "toml", "thiserror", "miette", "schemars"];

/// Crates that only a few files or folders see, so that a build without them stays possible.
const KEPT_APART: &[(&str, &[&str])] = &[
    ("scupper_core", &["subject/core/", "subject/embedded/ours/", "subject/generated/"]),
    (
        "rmcp",
        &["subject/core/", "subject/embedded/ours/", "subject/generated/", "peer/reference.rs"],
    ),
    (
        "tokio",
        &[
            "subject/core/",
            "subject/embedded/",
            "subject/generated/",
            "peer/reference.rs",
            "probe/task.rs",
        ],
    ),
    ("rusqlite", &["probe/store.rs", "subject/embedded/leaky/"]),
];

/// Who writes to the streams of the process, by file or folder, and what.
#[rustfmt::skip]
const WRITERS: &[(&str, &str)] = &[
    ("report/", "events, for people"),
    ("cli/show.rs", "`list` and `doctor` are no runs"),
    ("cli/init/", "`init` is no run"),
    ("cli/pages.rs", "nor is `completions`"),
    ("cli/session.rs", "opens the stream that it hands to the reporter"),
    ("cli/gate.rs", "likewise"),
    ("main.rs", "refusals, on stderr"),
    ("cell/sentinel.rs", "protocol: one line to the runner"),
    ("cell/judge.rs", "protocol: lines to the runner"),
    ("peer/client.rs", "protocol: lines to the cell"),
    ("peer/outbox.rs", "protocol: lines to the cell"),
    ("probe/store.rs", "protocol: lines to the cell"),
    ("peer/http/clients.rs", "protocol: lines to the cell"),
    ("peer/reference.rs", "a server: its streams are its work"),
    ("peer/fake/", "a fake is a server: its streams are its work"),
];

#[test]
fn every_import_is_in_the_table() {
    let mut unused: BTreeSet<usize> = (0..EDGES.len()).collect();
    let mut wrong = Vec::new();
    for file in sources() {
        for used in file.paths() {
            let Some(inner) = used.path.strip_prefix("crate::") else { continue };
            let target = inner.split("::").next().unwrap_or_default();
            if target == file.layer() || !file.crate_has(target) {
                continue;
            }
            let row =
                EDGES.iter().position(|(from, to, _)| *from == file.layer() && below(inner, to));
            match row {
                Some(row) => drop(unused.remove(&row)),
                None => wrong.push(format!("{}: {} uses {inner}", used.at, file.layer())),
            }
        }
    }
    wrong.extend(unused.into_iter().map(|row| {
        let (from, to, _) = EDGES[row];
        format!("the table: {from} does not use {to} any more")
    }));
    assert!(wrong.is_empty(), "edges against the table of tests/layers:\n{}", wrong.join("\n"));
}

#[test]
fn pure_modules_touch_nothing() {
    let crates = dependencies();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in sources().iter().filter(|file| PURE.contains(&file.layer())) {
        seen.insert(file.layer().to_owned());
        for used in file.paths() {
            let head = used.path.split("::").next().unwrap_or_default();
            let of_another_crate = crates.contains(head) && !PURE_CRATES.contains(&head);
            if of_another_crate || EFFECTS.iter().any(|effect| below(&used.path, effect)) {
                wrong.push(format!("{}: {}", used.at, used.path));
            }
        }
    }
    assert_eq!(seen.len(), PURE.len(), "pure modules that exist: {seen:?}");
    assert!(wrong.is_empty(), "pure modules reach out:\n{}", wrong.join("\n"));
}

#[test]
fn core_and_its_crates_are_seen_by_few() {
    let mut wrong = Vec::new();
    for file in sources() {
        for used in file.paths() {
            let head = used.path.split("::").next().unwrap_or_default();
            let kept = KEPT_APART.iter().find(|(name, _)| *name == head);
            let is_one = |place: &&str| file.name.starts_with(place);
            if kept.is_some_and(|(_, places)| !places.iter().any(is_one)) {
                wrong.push(format!("{}: {}", used.at, used.path));
            }
        }
    }
    assert!(wrong.is_empty(), "crates that are kept apart:\n{}", wrong.join("\n"));
}

#[test]
fn only_reports_and_protocols_write_to_the_streams() {
    let mut wrong = Vec::new();
    let mut unused: BTreeSet<&str> = WRITERS.iter().map(|(who, _)| *who).collect();
    for file in sources() {
        let writer = WRITERS.iter().find(|(who, _)| file.name.starts_with(who));
        for (at, word) in file.writes() {
            match writer {
                Some((who, _)) => drop(unused.remove(who)),
                None => wrong.push(format!("{at}: {word}")),
            }
        }
    }
    wrong.extend(unused.iter().map(|who| format!("the table: {who} writes nothing any more")));
    assert!(wrong.is_empty(), "who writes to stdout or stderr:\n{}", wrong.join("\n"));
}

/// The reader itself: what it must see, and what it must leave out.
#[test]
fn paths_are_read_from_groups_from_super_and_from_code() {
    let text = r##"
        //! [`crate::doc`]
        use crate::{a::{b, c as d}, e};
        use super::sibling::Thing;
        pub use std::{fs, io::{self, Write}};
        /* crate::comment /* nested */ */
        fn f<'a>(x: &'a str) -> char { tokio::spawn("crate::text"); r#"crate::raw"#; '"' }
        fn g() { println!("{}", super::super::up()); '\''; }
        mod inner { use super::super::outer; }
        #[cfg(test)]
        mod tests { use super::super::forbidden; fn t() { eprintln!("{{"); } }
        fn h() { crate::after(); let stdout = 1; std::io::stdout(); }
    "##;
    let file = Source::new("peer/fake/wire.rs", text, ["peer"]);
    let paths: Vec<String> = file.paths().into_iter().map(|used| used.path).collect();
    let expected = [
        "crate::a::b",
        "crate::a::c",
        "crate::e",
        "crate::peer::fake::sibling::Thing",
        "std::fs",
        "std::io",
        "std::io::Write",
        "tokio::spawn",
        "crate::peer::up",
        "crate::peer::fake::outer",
        "crate::after",
        "std::io::stdout",
    ];
    assert_eq!(paths, expected);
    let writes = [8, 12].map(|line| format!("src/peer/fake/wire.rs:{line}"));
    let expected = writes.into_iter().zip(["println".to_owned(), "stdout".to_owned()]);
    assert_eq!(file.writes(), expected.collect::<Vec<_>>());
}

/// Names of the crates that this one depends on.
fn dependencies() -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let manifest: toml::Table = text.expect("our manifest").parse().expect("a manifest is TOML");
    let names = ["dependencies", "dev-dependencies"].into_iter().flat_map(|table| {
        manifest[table].as_table().expect("a table").keys().map(|name| name.replace('-', "_"))
    });
    names.collect()
}
