//! The built-in lifecycles for any HTTP server: the moments at which a session, a stream, a request or
//! the server itself can end.
//!
//! The server is started by the first step and lives through the lifecycle; at its end it is ended as a
//! supervisor ends it. What stays inside a living server is judged by growth, what stays after it
//! exactly.
//!
//! - `sessions`: how a session ends, well or not, and what grows with it.
//! - `streams`: clients that do not read, or that write slowly.
//! - `requests`: requests that are given up.
//! - `shutdown`: how the server ends, and begins again.

mod requests;
mod sessions;
mod shutdown;
mod streams;

use std::time::Duration;

use serde_json::{Value, json};

use super::battery::Call;
use super::endpoint::Wire;
use super::step::{
    Action, Condition, Era, EraChoice, HandshakePoint, Lifecycle, Payload, Signal, Step, Stream,
    Whom,
};

/// Id of the lifecycle that is played first, alone, and from which the rest is learned.
pub const FIRST_LOOK: &str = "http/clean-close";

/// Id of the lifecycle whose sessions are asked how long they live, where nobody said how long they may.
pub const ABANDONED: &str = "http/abandoned";

/// Longest time for all cycles of a lifecycle.
const CYCLES_TIME: Duration = Duration::from_secs(30);

const H7: &str = "2025-11-25 http H7";
const H12: &str = "2025-11-25 http H12";
const H13: &str = "2025-11-25 http H13";
pub(super) const X3: &str = "2025-11-25 lifecycle X3";
const C4: &str = "2025-11-25 cancellation C4";
pub(super) const N1: &str = "2026-07-28 basic N1";
const N16: &str = "2026-07-28 http N16";
const S1: &str = "2026-07-28 subscriptions S1";

/// What the battery is made for.
#[derive(Debug, Clone)]
pub struct Knowledge {
    /// The era that is spoken.
    pub era: Era,
    /// Which of the two ways over HTTP.
    pub wire: Wire,
    /// It gives out session ids.
    pub sessions: bool,
    /// It has a stream of events: for those who GET, or in the newer era for those who subscribe.
    pub listens: bool,
    /// Its events have ids.
    pub resumes: bool,
    /// It starts processes for sessions or requests, of which no host has room for hundreds.
    pub heavy: bool,
    /// Calls that may be made again and again.
    pub calls: Vec<Call>,
    /// The call to have in flight when the end comes; a list of tools where none may be made.
    pub in_flight: Option<Call>,
    /// Cycles, the warm-up not counted.
    pub cycles: u32,
}

impl Knowledge {
    /// A server that can do all that some lifecycle asks for.
    pub fn of_any(cycles: u32) -> Self {
        Self {
            era: Era::Legacy,
            wire: Wire::Streamable,
            sessions: true,
            listens: true,
            resumes: true,
            heavy: false,
            calls: Vec::new(),
            in_flight: None,
            cycles,
        }
    }

    /// A request that lasts, if the server has one, and that nobody waits for.
    fn busy(&self) -> Step {
        match &self.in_flight {
            Some(call) => call_step(call, false),
            None => list(false),
        }
    }

    /// A request that is over soon, if the server has one.
    fn brief(&self, wait: bool) -> Step {
        let other = self.calls.iter().find(|call| Some(*call) != self.in_flight.as_ref());
        other.or(self.calls.first()).map_or_else(|| list(wait), |call| call_step(call, wait))
    }

    /// The step that opens a stream of events, where there is one to open.
    fn stream(&self) -> Vec<Step> {
        let listens = self.listens && self.wire == Wire::Streamable;
        listens.then(|| step(Action::Listen)).into_iter().collect()
    }

    /// Whether sessions outlive their connections.
    fn has_sessions(&self) -> bool {
        self.sessions && self.wire == Wire::Streamable && self.era == Era::Legacy
    }

    /// The rule about streams that a client leaves.
    fn left_stream_rule(&self) -> &'static str {
        match self.era {
            Era::Legacy => X3,
            Era::Modern => N16,
        }
    }

    /// The rule about a server that ends while its streams are open.
    fn open_stream_rule(&self) -> &'static str {
        match self.era {
            Era::Modern if self.listens => S1,
            _ => self.end_rule(),
        }
    }

    /// The rule about the end of a client.
    fn end_rule(&self) -> &'static str {
        match self.era {
            Era::Legacy => X3,
            Era::Modern => N1,
        }
    }
}

/// The lifecycle that is played first: a whole good life.
pub fn first_look() -> Lifecycle {
    lifecycle(
        FIRST_LOOK,
        "A whole good life: a session is opened, used and ended by DELETE, then the server is sent \
         SIGTERM. Everything must be gone after it.",
        H13,
        vec![
            start(),
            open(),
            handshake(),
            list(true),
            step(Action::Listen),
            close(),
            signal(Signal::Term, Whom::Server),
        ],
    )
}

/// All lifecycles, in the order in which they are played.
pub fn http(known: &Knowledge) -> Vec<Lifecycle> {
    let mut all = vec![first_look()];
    // The longest first: the others fill its time.
    all.extend(sessions::all(known));
    all.extend(requests::all(known));
    all.extend(streams::all(known));
    all.extend(shutdown::all(known));
    all
}

/// The lifecycle of the canary: every kind of leak in one life.
pub fn canary() -> Lifecycle {
    let call = Call { tool: "echo".into(), arguments: json!({ "text": "canary" }) };
    let cycle = vec![open(), handshake(), call_step(&call, true), close()];
    lifecycle("canary", "Every kind of leak in one life.", H13, vec![start(), repeat(6, cycle)])
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

fn start() -> Step {
    step(Action::Start { options: std::collections::BTreeMap::new() })
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

fn call_step(call: &Call, wait: bool) -> Step {
    step(Action::Call { tool: call.tool.clone(), arguments: call.arguments.clone(), wait })
}

fn close() -> Step {
    step(Action::Close)
}

fn signal(signal: Signal, whom: Whom) -> Step {
    step(Action::Signal { signal, whom })
}

fn gone() -> Step {
    step(Action::WaitFor { condition: Condition::Gone })
}

fn stall() -> Step {
    step(Action::Stall { stream: Stream::Events })
}

/// So many rounds after the warm-up.
fn repeat(rounds: u32, steps: Vec<Step>) -> Step {
    let times = rounds.saturating_add(1).min(super::scenario::limits::TIMES);
    Step { within: Some(CYCLES_TIME), ..step(Action::Repeat { times, steps }) }
}

/// The body of a message that any server knows.
fn body(known: &Knowledge) -> Payload {
    match known.era {
        // The first request of a handshake would begin a session that nobody ends.
        Era::Legacy => Payload::Text(PING.to_owned()),
        Era::Modern => Payload::Handshake,
    }
}

const PING: &str = r#"{"jsonrpc":"2.0","id":900001,"method":"ping"}"#;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::scenario::{
        Expectation, HttpServer, HttpStart, Scenario, Subject, parse, render,
    };
    use super::*;
    use crate::ledger::{rules, verdict::Verdict};

    fn every_server() -> Vec<Knowledge> {
        let call = Call { tool: "echo".into(), arguments: json!({ "text": "hello" }) };
        let any = Knowledge::of_any(20);
        let mut all = vec![any.clone()];
        all.push(Knowledge { calls: vec![call.clone()], in_flight: Some(call), ..any.clone() });
        all.push(Knowledge { era: Era::Modern, sessions: false, listens: false, ..any.clone() });
        all.push(Knowledge { era: Era::Modern, sessions: false, ..any.clone() });
        all.push(Knowledge { wire: Wire::Sse, sessions: false, listens: false, ..any.clone() });
        all.push(Knowledge { sessions: false, listens: false, resumes: false, ..any });
        all
    }

    #[test]
    fn every_lifecycle_survives_the_way_through_a_file() {
        for lifecycle in every_server().iter().flat_map(http) {
            let scenario = Scenario {
                lifecycle,
                subject: Subject::Http(HttpServer {
                    start: HttpStart::Command(vec!["server".into()]),
                    url: "http://127.0.0.1:{port}/mcp".into(),
                    session_ttl: Some(Duration::from_secs(2)),
                    headers: vec!["Authorization: Bearer $TOKEN".into()],
                }),
                expect: Expectation { verdict: Verdict::Clean, findings: vec![] },
            };
            let text = render(&scenario);
            match parse("kept.toml", &text) {
                Ok(read) => assert_eq!(read, scenario, "{text}"),
                Err(error) => panic!("{error:?}\n{text}"),
            }
        }
    }

    #[test]
    fn ids_are_unique_and_each_has_a_sentence_and_a_rule_that_exists() {
        for known in every_server() {
            let all = http(&known);
            let ids: BTreeSet<&str> = all.iter().map(|one| one.id.as_str()).collect();
            assert_eq!(ids.len(), all.len());
            assert_eq!(all[0].id, FIRST_LOOK);
            for Lifecycle { id, why, rule, .. } in &all {
                assert!(why.ends_with('.') && !why.contains("  "), "{id}: {why}");
                let rule = rule.as_deref().expect("each names one");
                assert!(rules::rule(rule).is_some(), "{id}: there is no rule {rule}");
            }
        }
    }

    #[test]
    fn what_a_server_does_not_have_is_left_out() {
        let ids = |known: &Knowledge| -> BTreeSet<String> {
            http(known).into_iter().map(|lifecycle| lifecycle.id).collect()
        };
        let all = every_server();
        let whole = ids(&all[0]);
        for known in &all[2..] {
            let some = ids(known);
            assert!(some.is_subset(&whole), "{:?}", some.difference(&whole));
            assert!(!some.contains("http/abandoned") && !some.contains("http/resume"), "{some:?}");
            assert_eq!(some.contains("http/stream-lost"), known.listens, "{some:?}");
        }
    }

    #[test]
    fn streams_that_clients_leave_are_played_in_both_eras() {
        let listens = |steps: &[Step]| {
            fn count(steps: &[Step]) -> usize {
                let of = |step: &Step| match &step.action {
                    Action::Listen => 1,
                    Action::Repeat { steps, .. } => count(steps),
                    _ => 0,
                };
                steps.iter().map(of).sum()
            }
            count(steps)
        };
        for era in [Era::Legacy, Era::Modern] {
            let known = Knowledge { era, sessions: era == Era::Legacy, ..Knowledge::of_any(20) };
            let all = http(&known);
            for (id, streams) in [
                ("http/client-killed", 1),
                ("http/reset", 1),
                ("http/half-open", 1),
                ("http/stream-unread", 1),
                ("http/stream-lost", 2),
                ("http/many-streams", 5),
                ("http/sigterm-open-streams", 1),
                ("http/sigterm-stalled-reader", 1),
                ("http/sigint-open-streams", 1),
                ("http/two-signals", 1),
                ("http/restart", 1),
            ] {
                let one = all.iter().find(|one| one.id == id).unwrap_or_else(|| panic!("{id}"));
                assert_eq!(listens(&one.steps), streams, "{id} of {}", era.revision());
            }
        }
    }
}
