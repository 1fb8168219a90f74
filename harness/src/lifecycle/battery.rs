//! The built-in lifecycles for any stdio server: the moments at which a life can end.
//!
//! Each is about what drains. A server that answers oddly is no failure: only a step that waits for
//! an answer that any right server gives may fail.
//!
//! - `again`: the same again and again, or several at once.
//! - `ending`: stdin ends, the client dies, signals come.
//! - `generated`: all of these in any order, of a generated lifecycle.
//! - `streams`: a client that does not read, or no longer.
//! - `words`: what a client may say, and when.

mod again;
mod ending;
mod generated;
mod streams;
mod words;

use serde_json::{Value, json};

use super::step::{Action, Era, EraChoice, HandshakePoint, Lifecycle, Signal, Step, Stream, Whom};
pub use generated::on_a_server;

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
    /// Cycles of calling, the warm-up not counted.
    pub cycles: u32,
    /// The era that the server speaks beside the one of the battery.
    pub other_era: Option<Era>,
    /// What became of `server/discover` before `initialize`, where that was answered after it.
    pub discover: Option<Discover>,
}

/// What a server of the older era makes of `server/discover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discover {
    /// It answers, mostly with an error.
    Answered,
    /// It says nothing.
    Ignored,
}

impl Knowledge {
    /// A server that can do all that some lifecycle asks for, so that the battery is whole.
    pub fn of_any(cycles: u32) -> Self {
        Self {
            cycles,
            other_era: Some(Era::Modern),
            discover: Some(Discover::Answered),
            ..Self::default()
        }
    }

    /// A request that lasts, if the server has one, and that nobody waits for.
    fn busy(&self) -> Step {
        match &self.in_flight {
            Some(call) => call.step(false),
            None => list(false),
        }
    }

    /// Requests that are waited for, so that the server has worked before its end comes. The one
    /// that is to be in flight is not among them, if there is another: it may be a long one.
    fn served(&self) -> Vec<Step> {
        let other = |call: &&Call| Some(*call) != self.in_flight.as_ref();
        let calls: Vec<&Call> = match self.calls.iter().filter(other).take(SERVED).collect() {
            others if self.calls.iter().any(|call| other(&call)) => others,
            _ => self.calls.iter().take(SERVED).collect(),
        };
        match calls.as_slice() {
            [] => vec![list(true)],
            calls => calls.iter().map(|call| call.step(true)).collect(),
        }
    }

    /// A request that is over soon, if the server has one, and that is waited for.
    fn brief(&self) -> Step {
        let other = self.calls.iter().find(|call| Some(*call) != self.in_flight.as_ref());
        other.or(self.calls.first()).map_or_else(|| list(true), |call| call.step(true))
    }
}

impl Call {
    fn step(&self, wait: bool) -> Step {
        step(Action::Call { tool: self.tool.clone(), arguments: self.arguments.clone(), wait })
    }
}

/// Bytes of the first request after which stdin ends in `stdio/eof-mid-initialize`: inside the name
/// of the method, in either era.
const MID_INITIALIZE: usize = 40;
/// Most calls that a server has served before it is ended by a signal, or its client is killed.
const SERVED: usize = 8;
/// Id of the lifecycle that is played first, alone, and from which the rest is learned.
pub const FIRST_LOOK: &str = "stdio/clean-close";

const N8: &str = "2026-07-28 stdio N8";
const N9: &str = "2026-07-28 stdio N9";

/// The lifecycle that is played first: the whole of a good life.
pub fn first_look() -> Lifecycle {
    lifecycle(
        FIRST_LOOK,
        "A whole good life: handshake, one request, end of stdin. Everything must be gone after it.",
        N9,
        vec![open(), handshake(), list(true), close()],
    )
}

/// All lifecycles, in the order in which they are played.
pub fn stdio(known: &Knowledge) -> Vec<Lifecycle> {
    let mut all = vec![first_look()];
    // The longest first: the others fill its time.
    all.extend(again::all(known));
    all.extend(ending::all(known));
    all.extend(streams::all(known));
    all.extend(words::all(known));
    all
}

/// The lifecycle of the canary: every kind of leak in one life.
pub fn canary() -> Lifecycle {
    let call = Call { tool: "echo".into(), arguments: json!({ "text": "canary" }) };
    let known = Knowledge { calls: vec![call], cycles: 6, ..Knowledge::default() };
    Lifecycle { id: "canary".into(), ..again::churn(&known) }
}

/// That of the canary of memory: one call, after the warm-up so many times more.
pub fn memory_canary(cycles: u32) -> Lifecycle {
    let call = Call { tool: "echo".into(), arguments: json!({ "text": "canary" }) };
    let again = Action::Repeat { times: cycles + 1, steps: vec![call.step(true)] };
    Lifecycle { steps: vec![open(), handshake(), step(again), close()], ..canary() }
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

fn close() -> Step {
    step(Action::Close)
}

fn end_stdin() -> Step {
    half_close(Stream::Stdin)
}

fn half_close(stream: Stream) -> Step {
    step(Action::HalfClose { stream })
}

fn signal(signal: Signal, whom: Whom) -> Step {
    step(Action::Signal { signal, whom })
}

fn kill_client() -> Step {
    step(Action::Kill { whom: Whom::Client })
}

/// Several steps at once.
fn at_once(steps: impl IntoIterator<Item = Step>) -> Step {
    step(Action::Concurrently { branches: steps.into_iter().map(|one| vec![one]).collect() })
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Expectation, Scenario, Subject, parse, render};
    use super::*;
    use crate::ledger::{rules, verdict::Verdict};

    fn whole() -> Vec<Lifecycle> {
        let call = Call { tool: "echo".into(), arguments: json!({ "text": "hello" }) };
        let any = Knowledge::of_any(20);
        stdio(&Knowledge { calls: vec![call.clone()], in_flight: Some(call), ..any })
    }

    #[test]
    fn every_lifecycle_survives_the_way_through_a_file() {
        for lifecycle in whole() {
            let scenario = Scenario {
                lifecycle,
                subject: Subject::Command(vec!["server".into()]),
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
    fn ids_are_unique_and_the_first_look_comes_first() {
        let all = whole();
        let ids: std::collections::BTreeSet<&str> =
            all.iter().map(|lifecycle| lifecycle.id.as_str()).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(all[0].id, FIRST_LOOK);
    }

    #[test]
    fn every_lifecycle_rests_on_a_rule_that_exists() {
        for lifecycle in whole() {
            let rule = lifecycle.rule.as_deref().expect("each names one");
            assert!(rules::rule(rule).is_some(), "{}: there is no rule {rule}", lifecycle.id);
        }
    }

    #[test]
    fn every_why_is_a_sentence() {
        for lifecycle in whole() {
            let why = &lifecycle.why;
            assert!(why.ends_with('.') && !why.contains("  "), "{}: {why}", lifecycle.id);
        }
    }

    #[test]
    fn what_a_server_does_not_speak_is_left_out() {
        let ids: Vec<String> = stdio(&Knowledge { cycles: 20, ..Knowledge::default() })
            .into_iter()
            .map(|lifecycle| lifecycle.id)
            .collect();
        assert_eq!(ids.len(), whole().len() - 2);
        for id in ["stdio/both-eras", "stdio/discover-first"] {
            assert!(!ids.iter().any(|known| known == id), "{id}");
        }
    }

    /// Without calls that may be made, lists take their place.
    #[test]
    fn no_tool_is_called_that_nobody_allowed() {
        let all = stdio(&Knowledge::of_any(20));
        assert_eq!(all.len(), whole().len());
        let text = format!("{all:?}");
        assert!(!text.contains("Call {"), "{text}");
    }
}
