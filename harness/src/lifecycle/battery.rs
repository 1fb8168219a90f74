//! The built-in lifecycles for any stdio server: the moments at which a life can end.

use std::time::Duration;

use serde_json::{Value, json};

use super::step::{
    Action, EraChoice, HandshakePoint, Lifecycle, Payload, Signal, Step, Stream, Whom,
};

/// A call that may be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Name of the tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
}

/// What the battery is made for.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// Calls that may be made again and again.
    pub calls: Vec<Call>,
    /// The call to have in flight when the end comes; a list of tools where none may be made.
    pub in_flight: Option<Call>,
    /// Cycles of reconnecting and of calling, the warm-up not counted.
    pub cycles: u32,
}

/// Id of the lifecycle that is played first, alone, and from which the rest is learned.
pub const FIRST_LOOK: &str = "stdio/clean-close";
/// Bytes of the first request after which stdin ends in `stdio/eof-mid-initialize`: inside the name
/// of the method, in either era.
const MID_INITIALIZE: usize = 40;
/// Longest time that life after life may take.
const RECONNECT_TIME: Duration = Duration::from_secs(40);
/// Longest time that calling tools again and again may take.
const CHURN_TIME: Duration = Duration::from_secs(30);

const N9: &str = "2026-07-28 stdio N9";
const N8: &str = "2026-07-28 stdio N8";

/// The lifecycle that is played first: the whole of a good life.
pub fn first_look() -> Lifecycle {
    lifecycle(
        FIRST_LOOK,
        "A whole good life: handshake, one request, end of stdin. Everything must be gone after it.",
        N9,
        vec![open(), handshake(), list(true), step(Action::Close)],
    )
}

/// All lifecycles, in the order in which they are played.
pub fn stdio(known: &Knowledge) -> Vec<Lifecycle> {
    let busy = || match &known.in_flight {
        Some(call) => step(Action::Call {
            tool: call.tool.clone(),
            arguments: call.arguments.clone(),
            wait: false,
        }),
        None => list(false),
    };
    let mut all = vec![
        first_look(),
        // The longest first: the others fill its time.
        reconnect(known),
        lifecycle(
            "stdio/eof-before-initialize",
            "A host that changes its mind: stdin ends before the first message.",
            N9,
            vec![open(), end_stdin()],
        ),
        lifecycle(
            "stdio/eof-mid-initialize",
            "A host that dies while it writes: stdin ends inside the first request.",
            N9,
            vec![
                open(),
                step(Action::Send { payload: Payload::Handshake, upto: Some(MID_INITIALIZE) }),
                end_stdin(),
            ],
        ),
        lifecycle(
            "stdio/eof-call-in-flight",
            "Stdin ends while a request is being worked on.",
            N9,
            vec![open(), handshake(), busy(), end_stdin()],
        ),
        lifecycle(
            "stdio/client-killed",
            "The host is killed: the kernel closes its pipes and nobody says goodbye.",
            N9,
            vec![open(), handshake(), step(Action::Kill { whom: Whom::Client })],
        ),
        lifecycle(
            "stdio/sigterm-idle",
            "SIGTERM to the one pid that the host started, as SDKs send it; stdin stays open.",
            N8,
            vec![open(), handshake(), sigterm()],
        ),
        lifecycle(
            "stdio/sigterm-busy",
            "SIGTERM while a request is being worked on.",
            N8,
            vec![open(), handshake(), busy(), sigterm()],
        ),
        lifecycle(
            "stdio/stdin-held",
            "The host dies while another process still has the write end of the server's stdin: \
             the end comes late, and then it must be obeyed.",
            N9,
            vec![
                open(),
                handshake(),
                step(Action::HoldStdin),
                step(Action::Kill { whom: Whom::Client }),
                step(Action::ReleaseStdin),
            ],
        ),
    ];
    all.push(churn(known));
    all
}

fn reconnect(known: &Knowledge) -> Lifecycle {
    let mut repeat = step(Action::Repeat {
        times: known.cycles + 1,
        steps: vec![open(), handshake(), step(Action::Close)],
    });
    repeat.within = Some(RECONNECT_TIME);
    lifecycle(
        "stdio/reconnect",
        "Life after life in one place: nothing may pile up from one to the next.",
        N9,
        vec![repeat],
    )
}

/// One call of each tool as the warm-up, then so many more: what grows with every cycle is a leak.
/// Where no tool may be called, lists are asked for.
fn churn(known: &Knowledge) -> Lifecycle {
    let mut calls: Vec<Step> = known
        .calls
        .iter()
        .map(|call| {
            step(Action::Call {
                tool: call.tool.clone(),
                arguments: call.arguments.clone(),
                wait: true,
            })
        })
        .collect();
    if calls.is_empty() {
        calls.push(list(true));
    }
    let mut repeat = step(Action::Repeat { times: known.cycles + 1, steps: calls });
    repeat.within = Some(CHURN_TIME);
    lifecycle(
        "stdio/churn",
        "The same calls again and again in one life: descriptors, threads, children, zombies and \
         files must not grow with them.",
        N9,
        vec![open(), handshake(), repeat, step(Action::Close)],
    )
}

/// The lifecycle of the canary: every kind of leak in one life.
pub fn canary() -> Lifecycle {
    let call = Call { tool: "echo".into(), arguments: json!({ "text": "canary" }) };
    let known = Knowledge { calls: vec![call], in_flight: None, cycles: 6 };
    Lifecycle { id: "canary".into(), ..churn(&known) }
}

fn lifecycle(id: &str, why: &str, rule: &str, steps: Vec<Step>) -> Lifecycle {
    Lifecycle {
        id: id.to_owned(),
        why: why.to_owned(),
        rule: Some(rule.to_owned()),
        era: EraChoice::Auto,
        steps,
    }
}

fn step(action: Action) -> Step {
    Step::new(action)
}

fn open() -> Step {
    step(Action::Open)
}

fn handshake() -> Step {
    step(Action::Handshake { until: HandshakePoint::Ready })
}

fn list(wait: bool) -> Step {
    step(Action::Request { method: "tools/list".into(), params: Value::Null, wait })
}

fn end_stdin() -> Step {
    step(Action::HalfClose { stream: Stream::Stdin })
}

fn sigterm() -> Step {
    step(Action::Signal { signal: Signal::Term, whom: Whom::Server })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lifecycle_survives_the_way_through_a_file() {
        use super::super::scenario::{Expectation, Scenario, Subject, parse, render};
        use crate::ledger::verdict::Verdict;
        let call = Call { tool: "echo".into(), arguments: json!({ "text": "hello" }) };
        let known = Knowledge { calls: vec![call.clone()], in_flight: Some(call), cycles: 20 };
        for lifecycle in stdio(&known) {
            let scenario = Scenario {
                lifecycle,
                subject: Subject::Command(vec!["server".into()]),
                expect: Expectation { verdict: Verdict::Clean, findings: vec![] },
            };
            let text = render(&scenario);
            assert_eq!(parse("kept.toml", &text).ok().as_ref(), Some(&scenario), "{text}");
        }
    }

    #[test]
    fn ids_are_unique_and_the_first_look_comes_first() {
        let all = stdio(&Knowledge { cycles: 20, ..Knowledge::default() });
        let ids: std::collections::BTreeSet<&str> =
            all.iter().map(|lifecycle| lifecycle.id.as_str()).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(all[0].id, FIRST_LOOK);
    }
}
