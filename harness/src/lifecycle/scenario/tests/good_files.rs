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
    for text in [HOST, SERVICE, CLIENT, CLIENT_HTTP, HTTP] {
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
