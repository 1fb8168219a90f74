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
