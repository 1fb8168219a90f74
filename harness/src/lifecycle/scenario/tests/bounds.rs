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
        let steps = format!("[[step]]\ndo = \"open\"\n[[step]]\ndo = \"send\"\ntext = {text}\n");
        assert_eq!(mistakes_of(&steps), []);
    }
}
