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
    lifecycle::step::{Action, HandshakePoint, Lifecycle, Payload, Signal, Step, Stream, Whom},
    peer::fake,
};

const GOOD: &str = include_str!("../../../../fuzz/seeds/scenario/every-step.toml");
const HOST: &str = include_str!("../../../../fuzz/seeds/scenario/host.toml");
const SERVICE: &str = include_str!("../../../../fuzz/seeds/scenario/service.toml");
const CLIENT: &str = include_str!("../../../../fuzz/seeds/scenario/client.toml");
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

mod good_files {
    use super::*;

    #[test]
    fn every_step_is_read() {
        let scenario = parse("scenarios/seeds/every-step.toml", GOOD).unwrap();
        assert_eq!(scenario.lifecycle.id, "seeds/every-step");
        let seeds = [GOOD, HOST, SERVICE, HTTP].concat();
        for (verb, _) in STEPS {
            assert!(seeds.contains(&format!("do = \"{verb}\"")), "{verb} is missing in the seed");
        }
    }

    #[test]
    fn hosts_services_and_clients_round_trip() {
        for text in [HOST, SERVICE, CLIENT, HTTP] {
            let scenario = parse("scenarios/x.toml", text).unwrap_or_else(|error| {
                panic!("{}", reported(&error));
            });
            let again = parse("y.toml", &render(&scenario)).unwrap();
            assert_eq!(again, scenario);
        }
    }

    #[test]
    fn a_name_with_a_dot_is_of_another_host() {
        assert_eq!(super::super::keeper("files"), "main");
        assert_eq!(super::super::keeper("b.files"), "b");
        assert_eq!(super::super::keeper("b.files.more"), "b");
    }

    #[test]
    fn defaults_are_the_usual() {
        let steps = steps_of(&list(&["open", "handshake", "call tool=\"echo\""]));
        let expected = [
            Action::Open,
            Action::Handshake { until: HandshakePoint::Ready },
            Action::Call { tool: "echo".into(), arguments: json!({}), wait: true },
        ];
        assert_eq!(steps, expected.map(Step::new));
    }

    #[test]
    fn json_says_what_toml_cannot() {
        let steps = steps_of(&list(&[
            "open",
            r#"request method="x" params='{"a":[null,18446744073709551615]}'"#,
        ]));
        let Action::Request { params, .. } = &steps[1].action else { panic!() };
        assert_eq!(*params, json!({"a": [null, u64::MAX]}));
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in [("500ms", 500), ("2s", 2_000), ("10m", 600_000)] {
            let steps = steps_of(&list(&[&format!("open within=\"{text}\"")]));
            assert_eq!(steps[0].within, Some(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn the_id_is_the_path_below_scenarios() {
        let id = |path| parse(path, &around(&list(&["open"]))).unwrap().lifecycle.id;
        assert_eq!(id("scenarios/stdio/clean-close.toml"), "stdio/clean-close");
        assert_eq!(id("/a/scenarios/b/../scenarios/x.toml"), "x");
        assert_eq!(id("my-scenarios/x.toml"), "x");
        assert_eq!(id("../tmp/odd name.toml"), "odd-name");
        assert_eq!(id(""), "scenario");
        assert_eq!(id("scenarios/../../x"), "x");
    }

    #[test]
    fn findings_are_leaks_where_no_class_is_named() {
        let text = around(&list(&["open"])).replace("\"clean\"", "\"leak\"")
            + "[[expect.finding]]\nkind = \"fd\"\ndue-step = \"open\"\n";
        let expect = parse("x.toml", &text).unwrap().expect;
        assert_eq!(expect.findings[0].class, Class::Leak);
        assert_eq!(expect.findings[0].due_step.as_deref(), Some("open"));
    }

    #[test]
    fn rendered_they_are_pleasant_to_read() {
        let steps = vec![
            Step::new(Action::Open),
            Step::new(Action::Send {
                payload: Payload::Text("{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n".into()),
                upto: Some(12),
            }),
            Step::new(Action::Repeat {
                times: 3,
                steps: vec![Step::new(Action::Concurrently {
                    branches: vec![
                        vec![Step::new(Action::Call {
                            tool: "echo".into(),
                            arguments: json!({"text": "hi", "deep": {"a b": [1, 2.5]}}),
                            wait: false,
                        })],
                        vec![Step::new(Action::Cancel)],
                    ],
                })],
            }),
            Step { within: Some(Duration::from_secs(90)), ..Step::new(Action::Close) },
        ];
        insta::assert_snapshot!(render(&scenario_of(steps)));
    }
}

/// Each snapshot is a page that somebody reads whose file was turned down.
mod bad_files {
    use super::*;

    /// A client, and what may be wrong with it.
    fn client(subject: &str, script: &str, expect: &str) -> String {
        message(&format!(
            "why = \"A test.\"\n\n[subject]\n{subject}\n\n{script}\n\n[expect]\n{expect}\n"
        ))
    }

    #[test]
    fn keys_of_a_client_that_do_not_fit() {
        insta::assert_snapshot!(client(
            "client = [\"host\"]\nfixed = true\nlong-lived = true\nrounds-arg = [\"{rounds}\"]",
            "[script]\nattack = \"SIGTERM\"\n\n[[script.server]]\nfake = \"plain\"\ninstead = \
             \"dies\"\n\n[[step]]\ndo = \"open\"",
            "verdict = \"clean\"",
        ));
    }

    #[test]
    fn a_client_that_cannot_do_what_it_is_given() {
        let servers = "[[script.server]]\nfake = \"plain\"\n\n".repeat(2);
        insta::assert_snapshot!(client(
            "client = [\"client\", \"{server}\"]",
            &format!("[script]\nattack = \"SIGINT\"\nmoment = \"busy\"\nrounds = 4\n\n{servers}"),
            "verdict = \"leak\"\n\n[[expect.finding]]\nkind = \"file\"\nbirth-step = \"client start\"",
        ));
    }

    #[test]
    fn a_script_of_a_server() {
        insta::assert_snapshot!(message(&around(
            "[script]\nrounds = 3\n\n[[step]]\ndo = \"open\""
        )));
    }

    #[test]
    fn nothing_in_it() {
        insta::assert_snapshot!(message(""));
    }

    #[test]
    fn not_toml() {
        insta::assert_snapshot!(message("why = A server\n"));
    }

    #[test]
    fn a_key_twice() {
        let text = around(&list(&["open", "call tool=\"a\" tool=\"b\""]));
        insta::assert_snapshot!(message(&text));
    }

    #[test]
    fn the_line_of_the_first_is_in_the_same_table() {
        let said = |text: &str| {
            let mistake = parse("x.toml", text).unwrap_err().mistakes()[0].clone();
            format!("{}: {}", mistake.message, mistake.label)
        };
        let table = around(&list(&["open"])) + "\n[subject]\nfake = \"plain\"\n";
        assert_eq!(said(&table), "`subject` is there twice: first in line 3");
        assert_eq!(
            said("a = 1\n[x]\nb = 1\n[y]\nb = 2\nb = 3\n"),
            "`b` is there twice: first in line 5"
        );
        assert_eq!(said("x = { a = 1, a = 2 }"), "`a` is there twice: a second time");
    }

    #[test]
    fn null() {
        insta::assert_snapshot!(message(&around(&list(&["open", "send text=null"]))));
    }

    #[test]
    fn branches_that_are_steps() {
        insta::assert_snapshot!(message(&around(
            "[[step]]\ndo = \"open\"\n[[step]]\ndo = \"concurrently\"\n[[step.branch]]\ndo = \"call\"\n\
             tool = \"echo\"\n[[step.branch]]\ndo = \"cancel\"",
        )));
    }

    #[test]
    fn unknown_step() {
        insta::assert_snapshot!(message(&around(&list(&["open", "halfclose stream=\"stdin\""]))));
    }

    #[test]
    fn misspelt_keys() {
        insta::assert_snapshot!(message(&around(
            "[[step]]\ndo = \"open\"\nconection = \"b\"\nwhy = \"here?\"\n\n[[steps]]\ndo = \"close\"",
        )));
    }

    #[test]
    fn steps_inside_the_wrong_step() {
        insta::assert_snapshot!(message(&around(
            "[[step]]\ndo = \"open\"\n[[step.step]]\ndo = \"close\"",
        )));
    }

    #[test]
    fn wrong_types() {
        insta::assert_snapshot!(message(&around(&list(&[
            "open within=5",
            "call tool=3 wait=\"no\"",
            "repeat times=\"often\"",
        ]))));
    }

    #[test]
    fn missing_keys() {
        insta::assert_snapshot!(message(&around(&list(&["open", "call", "kill", "send"]))));
    }

    #[test]
    fn two_of_one() {
        insta::assert_snapshot!(message(&around(&list(&[
            "open",
            "send text=\"x\" payload=\"handshake\"",
        ]))));
    }

    #[test]
    fn unknown_word() {
        insta::assert_snapshot!(message(&around(&list(&["open", "half-close stream=\"stdinn\""]))));
    }

    #[test]
    fn bad_duration() {
        insta::assert_snapshot!(message(&around(&list(&["open within=\"5sec\""]))));
    }

    #[test]
    fn out_of_bounds() {
        insta::assert_snapshot!(message(&around(&format!(
            "{}[[step.step]]\ndo = \"open\"\n",
            list(&["open within=\"11m\"", "close", "repeat times=0"]),
        ))));
    }

    #[test]
    fn connection_not_open() {
        insta::assert_snapshot!(message(&around(&list(&[
            "open",
            "handshake connection=\"b\"",
            "call connection=\"b\" tool=\"echo\"",
        ]))));
    }

    #[test]
    fn steps_after_the_end() {
        insta::assert_snapshot!(message(&around(&list(&["open", "close", "call tool=\"echo\""]))));
    }

    #[test]
    fn leak_without_findings() {
        let text = around(&list(&["open"])).replace("\"clean\"", "\"leak\"");
        insta::assert_snapshot!(message(&text));
    }

    #[test]
    fn clean_with_a_leak() {
        let text = around(&list(&["open"])) + "[[expect.finding]]\nkind = \"process\"\n";
        insta::assert_snapshot!(message(&text));
    }

    /// A file that expects one finding with these keys of a server that is called thirty times.
    fn expecting(keys: &str, times: u32) -> String {
        let steps = list(&["open", "handshake", &format!("repeat times={times}")])
            + "[[step.step]]\ndo = \"call\"\ntool = \"echo\"\n";
        around(&steps).replace("\"clean\"", "\"leak\"")
            + &format!("[[expect.finding]]\nkind = \"fd\"\n{keys}\n")
    }

    #[test]
    fn steps_that_are_not_there() {
        insta::assert_snapshot!(message(&expecting(
            "birth-step = \"call ecko\"\ndue-step = \"repeat 30\"",
            20,
        )));
    }

    #[test]
    fn steps_of_reports_are_there() {
        let keys = [
            "birth-step = \"call echo\"\ndue-step = \"repeat 20\"",
            "birth-step = \"before the first step\"",
            "due-step = \"end of the lifecycle\"",
        ];
        for keys in keys {
            assert!(parse("x.toml", &expecting(keys, 20)).is_ok(), "{keys}");
        }
        let wrong = parse("x.toml", &expecting("birth-step = \"Open\"", 20)).unwrap_err();
        let help = wrong.mistakes()[0].help.clone().unwrap();
        assert!(help.starts_with("did you mean `open`?"), "{help}");
    }

    #[test]
    fn growth_in_too_few_repetitions() {
        insta::assert_snapshot!(message(&expecting("due-step = \"repeat 4\"", 4)));
        assert_eq!(limits::GROWTH, trend::LEAST_CYCLES + 1);
        let enough = expecting("due-step = \"repeat 6\"", limits::GROWTH);
        assert!(parse("x.toml", &enough).is_ok());
    }

    #[test]
    fn tasks_of_a_server() {
        let text = expecting("", 20).replace("\"fd\"", "\"task\"");
        insta::assert_snapshot!(message(&text));
        assert!(parse("x.toml", &text.replace("fake =", "core =")).is_ok());
    }

    #[test]
    fn cursors_of_a_stdio_server() {
        insta::assert_snapshot!(message(&expecting("", 20).replace("\"fd\"", "\"cursor\"")));
    }

    #[test]
    fn a_host_that_there_is_not() {
        let text = HOST.replace("host = \"core\"", "host = \"multiplexor\"");
        insta::assert_snapshot!(message(&text));
    }

    #[test]
    fn options_of_a_service_that_there_are_not() {
        let text = SERVICE
            .replace("idle = \"300ms\", max-sessions = \"3\"", "idel = \"1s\", sweep = \"3\"");
        insta::assert_snapshot!(message(&text));
    }

    #[test]
    fn steps_of_another_sort_of_subject() {
        let text = HOST.replace("do = \"health\"", "do = \"listen\"");
        insta::assert_snapshot!(message(&text));
        let text = SERVICE.replacen("do = \"listen\"", "do = \"health\"", 1);
        assert!(message(&text).contains("`health` is no step of a service"), "{text}");
        assert!(message(&around(&list(&["open", "reset"]))).contains("`reset` is no step of"));
        assert!(message(&around(&list(&["open", "close fails=true"]))).contains("`fails` is for"));
    }

    #[test]
    fn a_host_that_is_not_up() {
        insta::assert_snapshot!(message(&HOST.replacen(
            "do = \"start\"\nconnection = \"b\"\n",
            "do = \"start\"\nconnection = \"c\"\n",
            1
        )));
    }

    #[test]
    fn a_client_that_is_not_open() {
        insta::assert_snapshot!(message(&SERVICE.replace(
            "do = \"open\"\nconnection = \"b.one\"",
            "do = \"open\"\nconnection = \"b.two\""
        )));
    }

    #[test]
    fn upto_beyond_the_text() {
        insta::assert_snapshot!(message(&around(&list(&["open", "send text=\"abc\" upto=4"]))));
        for (upto, mistakes) in [(0, 1), (1, 0), (3, 0), (4, 1)] {
            let steps = list(&["open", &format!("send text=\"abc\" upto={upto}")]);
            assert_eq!(mistakes_of(&steps).len(), mistakes, "{upto}");
        }
        assert_eq!(mistakes_of(&list(&["open", "send payload=\"handshake\" upto=0"])).len(), 1);
    }

    #[test]
    fn no_subject_that_makes_sense() {
        let text =
            around(&list(&["open"])).replace("fake = \"echo\"", "command = []\nfixed = true");
        insta::assert_snapshot!(message(&text));
    }
}

mod flow {
    use super::*;

    fn accepts(steps: &[&str]) {
        assert_eq!(mistakes_of(&list(steps)), []);
    }

    fn rejects(steps: &[&str], message: &str) {
        let mistakes = mistakes_of(&list(steps));
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(mistakes[0].message.contains(message), "{mistakes:#?}");
    }

    #[test]
    fn an_ended_connection_can_be_waited_for_and_opened_again() {
        accepts(&["open", "drop", "wait-for condition=\"gone\"", "open", "close"]);
        accepts(&["open", "kill whom=\"client\"", "kill whom=\"group\"", "shutdown", "open"]);
    }

    #[test]
    fn a_connection_that_may_have_ended_can_do_anything() {
        accepts(&["open", "kill whom=\"server\"", "call tool=\"x\"", "open"]);
        accepts(&["open", "half-close stream=\"stdin\"", "open"]);
    }

    #[test]
    fn an_ended_connection_does_nothing_more() {
        rejects(&["open", "drop", "read what=\"end\""], "has ended");
        rejects(&["open", "shutdown", "close"], "has ended");
        rejects(&["open", "signal signal=\"KILL\" whom=\"client\"", "cancel"], "has ended");
    }

    #[test]
    fn an_open_connection_is_not_opened_again() {
        rejects(&["open", "handshake", "open"], "is open already");
        accepts(&["open", "open connection=\"b\""]);
    }

    #[test]
    fn a_second_round_meets_what_the_first_left() {
        let repeated = |times: u32| {
            format!("[[step]]\ndo = \"repeat\"\ntimes = {times}\n[[step.step]]\ndo = \"open\"\n")
        };
        assert_eq!(mistakes_of(&repeated(1)), []);
        assert!(mistakes_of(&repeated(2))[0].message.contains("is open already"));
        assert_eq!(mistakes_of(&(repeated(2) + "[[step.step]]\ndo = \"close\"\n")), []);
    }

    #[test]
    fn branches_get_the_benefit_of_the_doubt() {
        let step = Step::new;
        let both = |first: Vec<Step>, second: Vec<Step>, after: Vec<Step>| {
            let mut steps = vec![step(Action::Concurrently { branches: vec![first, second] })];
            steps.extend(after);
            check(&scenario_of(steps))
        };
        let open = || step(Action::Open);
        let cancel = || step(Action::Cancel);
        assert_eq!(both(vec![open()], vec![cancel()], vec![cancel()]), []);
        assert_eq!(both(vec![open()], vec![cancel().on("b")], vec![]).len(), 1);
        let ended = both(vec![open(), step(Action::Drop)], vec![open().on("b")], vec![cancel()]);
        assert!(ended[0].message.contains("has ended"), "{ended:?}");
    }

    #[test]
    fn only_what_is_held_is_released() {
        rejects(&["open", "release-stdin"], "nobody holds");
        accepts(&["open", "hold-stdin", "drop", "release-stdin"]);
    }

    #[test]
    fn nothing_is_killed_or_shut_down_before_it_is_open() {
        rejects(&["kill whom=\"server\""], "is not open here");
        rejects(&["shutdown"], "nothing is open here");
    }

    #[test]
    fn a_step_of_no_connection_names_none() {
        rejects(&["open", "shutdown connection=\"b\""], "not about one connection");
    }
}

mod bounds {
    use super::*;

    fn nested(levels: usize) -> Vec<Step> {
        (1..levels).fold(vec![Step::new(Action::Open)], |steps, _| {
            vec![Step::new(Action::Repeat { times: 1, steps })]
        })
    }

    #[test]
    fn depth() {
        assert_eq!(check(&scenario_of(nested(limits::DEPTH))), []);
        let problems = check(&scenario_of(nested(limits::DEPTH + 1)));
        assert!(problems[0].message.contains("nested too deep"), "{problems:?}");
    }

    #[test]
    fn the_deepest_scenario_round_trips() {
        let scenario = scenario_of(nested(limits::DEPTH));
        assert_eq!(parse("x.toml", &render(&scenario)).unwrap(), scenario);
    }

    #[test]
    fn count() {
        let mut steps = vec![Step::new(Action::Open); 1];
        steps.resize(limits::STEPS, Step::new(Action::Cancel));
        assert_eq!(check(&scenario_of(steps.clone())), []);
        steps.push(Step::new(Action::Cancel));
        assert!(check(&scenario_of(steps))[0].message.contains("too many"));
    }

    #[test]
    fn the_longest_scenario_round_trips() {
        let mut steps = vec![Step::new(Action::Open)];
        steps.resize(limits::STEPS, Step::new(Action::Cancel));
        let scenario = scenario_of(steps);
        assert_eq!(parse("x.toml", &render(&scenario)).unwrap(), scenario);
    }

    #[test]
    fn branches() {
        let branches = vec![vec![Step::new(Action::Cancel)]; limits::BRANCHES + 1];
        let steps = vec![Step::new(Action::Open), Step::new(Action::Concurrently { branches })];
        assert!(check(&scenario_of(steps))[0].message.contains("branches are too many"));
    }

    #[test]
    fn repetitions_multiply() {
        let repeat = |steps| vec![Step::new(Action::Repeat { times: limits::TIMES, steps })];
        let steps = repeat(repeat(vec![Step::new(Action::Open), Step::new(Action::Close)]));
        assert!(check(&scenario_of(steps))[0].message.contains("would be played"));
    }

    #[test]
    fn file() {
        let text = around(&list(&["open"])) + &"#".repeat(limits::FILE);
        let error = parse("x.toml", &text).unwrap_err();
        assert!(error.to_string().starts_with("x.toml:1: the file has "), "{error}");
    }

    #[test]
    fn values() {
        let deep = (0..limits::VALUE_DEPTH).fold(json!(1), |value, _| json!({ "a": value }));
        let call = Action::Call { tool: "x".into(), arguments: deep, wait: true };
        let problems = check(&scenario_of(vec![Step::new(Action::Open), Step::new(call)]));
        assert!(problems[0].message.contains("nested too deep"));
    }

    #[test]
    fn dotted_keys_as_deep_as_toml_allows_do_no_harm() {
        let dotted = vec!["a"; 79].join(".");
        let inline = (0..60).fold("1".to_owned(), |value, _| format!("{{ {dotted} = {value} }}"));
        let text = around(&format!(
            "[[step]]\ndo = \"open\"\n[[step]]\ndo = \"call\"\ntool = \"x\"\narguments = {inline}\n"
        ));
        let error = parse("x.toml", &text).unwrap_err();
        assert_eq!(error.mistakes()[0].message, "the file is nested too deep");
    }

    #[test]
    fn dots_in_texts_and_comments_are_no_levels() {
        let dots = ".".repeat(200);
        let texts = [
            format!("\"\\\"{dots}\""),
            format!("'{dots}'"),
            format!("\"\"\"\n\"{dots}\"\"\""),
            format!("'''{dots}''' # {dots}"),
        ];
        for text in texts {
            let steps =
                format!("[[step]]\ndo = \"open\"\n[[step]]\ndo = \"send\"\ntext = {text}\n");
            assert_eq!(mistakes_of(&steps), []);
        }
    }
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
fn every_example_on_the_page_of_the_grammar_is_a_scenario() {
    let page = include_str!("../../../../scenarios/README.md");
    let examples = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let whole: Vec<String> = examples
        .filter(|example| example.contains("do = "))
        .map(|example| match example.contains("[expect]") {
            true => example.to_owned(),
            false => around(example),
        })
        .collect();
    assert_eq!(whole.len(), 6);
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
