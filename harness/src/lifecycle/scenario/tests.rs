mod bad_files;
mod bounds;
mod flow;
mod good_files;

use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::prelude::*;
use serde_json::json;

use super::{
    Expectation, FakeSpec, Mistake, Part, Place, Scenario, ScenarioError, Subject, check, limits,
    parse, render, strategy, words::STEPS,
};
use crate::{
    ledger::{
        trend,
        verdict::{Class, Verdict},
    },
    lifecycle::{
        client::http,
        step::{Action, HandshakePoint, Lifecycle, Payload, Signal, Step, Stream, Whom},
    },
    peer::fake,
};

const GOOD: &str = include_str!("../../../../fuzz/seeds/scenario/every-step.toml");
const HOST: &str = include_str!("../../../../fuzz/seeds/scenario/host.toml");
const SERVICE: &str = include_str!("../../../../fuzz/seeds/scenario/service.toml");
const CLIENT: &str = include_str!("../../../../fuzz/seeds/scenario/client.toml");
const CLIENT_HTTP: &str = include_str!("../../../../fuzz/seeds/scenario/client-http.toml");
const HTTP: &str = include_str!("../../../../fuzz/seeds/scenario/http.toml");

fn reported(error: &ScenarioError) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::none()).with_width(100);
    let mut page = String::new();
    for one in error.each() {
        let gap = if page.is_empty() { "" } else { "\n" };
        page.push_str(gap);
        handler.render_report(&mut page, &one).unwrap();
    }
    page.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What a person sees who wrote this file.
fn message(text: &str) -> String {
    reported(&parse("scenarios/stdio/bad.toml", text).unwrap_err())
}

/// A good file around these steps.
fn around(steps: &str) -> String {
    format!(
        "why = \"A test.\"\n\n[subject]\nfake = \"echo\"\n\n{steps}\n\n[expect]\nverdict = \"clean\"\n"
    )
}

fn steps_of(steps: &str) -> Vec<Step> {
    parse("x.toml", &around(steps)).unwrap().lifecycle.steps
}

fn mistakes_of(steps: &str) -> Vec<Mistake> {
    match parse("x.toml", &around(steps)) {
        Ok(_) => Vec::new(),
        Err(error) => error.mistakes().to_vec(),
    }
}

fn scenario_of(steps: Vec<Step>) -> Scenario {
    Scenario {
        lifecycle: Lifecycle {
            id: "a/b".into(),
            why: "A test.".into(),
            rule: None,
            era: Default::default(),
            steps,
        },
        subject: Subject::Command(vec!["true".into()]),
        expect: Expectation { verdict: Verdict::Clean, findings: Vec::new() },
    }
}

/// Steps that are one line each: `do`, then `key=value` with TOML values.
fn list(steps: &[&str]) -> String {
    let step = |step: &&str| {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let keys = rest.split_whitespace().collect::<Vec<_>>().join("\n");
        format!("[[step]]\ndo = \"{verb}\"\n{keys}\n")
    };
    steps.iter().map(step).collect()
}

#[test]
fn an_error_without_its_source_still_names_the_line() {
    let error = parse("a/b.toml", &around(&list(&["open", "clse", "kil"]))).unwrap_err();
    assert_eq!(error.to_string(), "a/b.toml:10: there is no step `clse` (and 1 more mistake)");
}

#[test]
fn a_place_reads_as_a_way_down() {
    let place = Place(vec![
        Part::Key("step"),
        Part::Index(2),
        Part::Key("branch"),
        Part::Index(0),
        Part::Key("tool"),
    ]);
    assert_eq!(place.to_string(), "step 3, branch 1, tool");
}

#[test]
fn the_page_of_the_grammar_names_every_step_and_key() {
    let page = include_str!("../../../../scenarios/README.md");
    for (verb, keys) in STEPS {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{verb}` |")));
        let row = row.unwrap_or_else(|| panic!("no row for {verb}"));
        for key in *keys {
            assert!(row.contains(&format!("`{key}")), "the row of {verb} lacks {key}");
        }
    }
}

#[test]
fn the_page_of_the_grammar_names_all_that_an_http_server_does_to_a_client() {
    let page = include_str!("../../../../scenarios/README.md");
    let rows = page.split_once("In `[script.service]`").expect("a part of its own").1;
    for key in ["fault", "at", "era"] {
        assert!(rows.contains(&format!("| `{key}` |")), "no row for {key}");
    }
    for fault in http::Fault::ALL.iter().filter(|fault| **fault != http::Fault::None) {
        assert!(rows.contains(&format!("`\"{fault}\"`")), "{fault} is not told of");
    }
}

#[test]
fn every_example_on_the_page_of_the_grammar_is_a_scenario() {
    let page = include_str!("../../../../scenarios/README.md");
    let examples = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole: Vec<String> = examples
        .filter(|example| example.contains("do = ") || example.contains("[script"))
        .map(|example| match example.contains("[expect]") {
            true => example.to_owned(),
            false => around(example),
        })
        .collect();
    assert_eq!(whole.len(), 8);
    for example in whole {
        if let Err(error) = parse("scenarios/README.md", &example) {
            panic!("{}", reported(&error));
        }
    }
    let fake = |line: &str| Some(line.split_once("fake = \"")?.1.split_once('"')?.0.to_owned());
    for line in page.lines().filter(|line| !line.contains("NAME")) {
        let Some(name) = fake(line) else { continue };
        let mut spec = FakeSpec { name, ..FakeSpec::default() };
        if let Some((_, options)) = line.split_once("options = { ") {
            let (key, value) = options.split_once(" = \"").unwrap();
            let value = value.split_once('"').unwrap().0;
            spec.options.insert(key.to_owned(), value.to_owned());
        }
        assert_eq!(fake::check(&spec), Ok(()), "{line}");
    }
}

proptest! {
    #[test]
    fn rendered_and_read_again_it_is_the_same(scenario in strategy::scenario()) {
        let text = render(&scenario);
        let again = parse("other.toml", &text);
        prop_assert!(again.is_ok(), "{}\n{text}", reported(&again.unwrap_err()));
        let again = again.unwrap();
        prop_assert_eq!(&again, &scenario);
        prop_assert_eq!(render(&again), text);
    }

    #[test]
    fn so_is_one_of_a_client_over_http(scenario in strategy::client_over_http()) {
        prop_assert_eq!(check(&scenario), Vec::new());
        let text = render(&scenario);
        let again = parse("other.toml", &text);
        prop_assert!(again.is_ok(), "{}\n{text}", reported(&again.unwrap_err()));
        prop_assert_eq!(again.unwrap(), scenario);
    }

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC*") {
        survives(&text)?;
    }

    #[test]
    fn a_good_file_with_some_bytes_changed_is_read_without_panic(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..12usize, "[\\[\\]{}\"'=.,a-z0-9\n -]{0,6}"),
            1..6,
        ),
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, removed, inserted) in edits {
            let start = at.index(text.len());
            let end = (start + removed).min(text.len());
            text.splice(start..end, inserted.chars());
        }
        survives(&String::from_iter(text))?;
    }

    #[test]
    fn a_good_file_with_lines_moved_is_read_without_panic(
        moves in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8,
        ),
    ) {
        let mut lines: Vec<&str> = GOOD.lines().collect();
        for (from, to) in moves {
            let line = lines.remove(from.index(lines.len()));
            lines.insert(to.index(lines.len() + 1), line);
        }
        survives(&lines.join("\n"))?;
    }
}

/// Either a scenario that round-trips, or an error that can be shown.
fn survives(text: &str) -> Result<(), TestCaseError> {
    match parse("scenarios/x.toml", text) {
        Ok(scenario) => {
            let again = parse("y.toml", &render(&scenario));
            prop_assert_eq!(again.ok(), Some(scenario));
        }
        Err(error) => prop_assert!(!reported(&error).is_empty()),
    }
    Ok(())
}

#[test]
fn signals_and_streams_are_spelt_as_everywhere() {
    let steps = steps_of(&list(&[
        "open",
        "signal signal=\"HUP\" whom=\"group\"",
        "half-close stream=\"stderr\"",
    ]));
    assert_eq!(steps[1].action, Action::Signal { signal: Signal::Hup, whom: Whom::Group });
    assert_eq!(steps[2].action, Action::HalfClose { stream: Stream::Stderr });
}
