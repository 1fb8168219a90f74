//! The same of an HTTP server: its client goes wrong after every byte of what it sends and of what it
//! reads, heads and framing too.
//!
//! Another client must be let in after it, and the server must end upon SIGTERM as ever.

use super::super::http::{N1, X3};
use super::{Direction, FOLDER, Fault, Lane, Point, STALL};
use crate::lifecycle::step::{
    Action, Condition, Era, EraChoice, HandshakePoint, Lifecycle, Signal, Step, Stream, Whom,
};

/// The client that comes after the one that went wrong.
const OTHER: &str = "other";

/// The rule about the end of a client.
fn rule(era: Era) -> &'static str {
    match era {
        Era::Legacy => X3,
        Era::Modern => N1,
    }
}

fn begin(cut: Option<Action>, call: &Step) -> Vec<Step> {
    let start = Action::Start { options: std::collections::BTreeMap::new() };
    let handshake = Action::Handshake { until: HandshakePoint::Ready };
    let before = [start, Action::Open].into_iter().chain(cut).chain([handshake]);
    before.map(Step::new).chain([call.clone()]).collect()
}

/// The clean life that is counted.
pub fn measured(call: &Step, era: Era) -> Lifecycle {
    let mut steps = begin(None, call);
    steps.push(Step::new(Action::Close));
    Lifecycle {
        id: format!("{FOLDER}/counted"),
        why: "A clean life, of which every byte is counted.".into(),
        rule: Some(rule(era).to_owned()),
        era: EraChoice::Auto,
        steps,
    }
}

/// The life of an HTTP server whose client goes wrong here. `call` is the first call, which is waited
/// for.
pub fn lifecycle(point: &Point, call: &Step, era: Era) -> Lifecycle {
    let stream = match point.lane.direction {
        Direction::ToServer | Direction::FromClient => Stream::Requests,
        Direction::FromServer | Direction::ToClient => Stream::Responses,
    };
    let mut steps = begin(Some(Action::Cut { stream, bytes: point.byte }), call);
    steps.extend(ends(&point.lane));
    Lifecycle {
        id: point.id(),
        why: point.why(),
        rule: Some(rule(era).to_owned()),
        era: EraChoice::Auto,
        steps,
    }
}

/// The steps by which the client goes wrong.
fn ends(lane: &Lane) -> Vec<Step> {
    let all = |actions: Vec<Action>| actions.into_iter().map(Step::new).collect::<Vec<Step>>();
    let pause = || Action::Pause { time: STALL };
    let half_close = || Action::HalfClose { stream: Stream::Requests };
    let kill = || Action::Kill { whom: Whom::Client };
    let term = |whom| Action::Signal { signal: Signal::Term, whom };
    let gone = || Action::WaitFor { condition: Condition::Gone };
    // The signal is sent as soon as the client has gone, and not after the server has seen it.
    let at_once = |first: Action, then: Action| Action::Concurrently {
        branches: vec![vec![Step::new(first)], vec![Step::new(then)]],
    };
    if lane.twice {
        return match lane.fault {
            Fault::Dies => all(vec![at_once(kill(), term(Whom::Group)), gone()]),
            Fault::Closes | Fault::Resets => {
                all(vec![at_once(Action::Drop, term(Whom::Server)), gone()])
            }
            // It is still there when the server has ended.
            Fault::Stalls => all(vec![Action::Silence, pause(), term(Whom::Server), gone()]),
            Fault::HalfCloses => {
                all(vec![half_close(), kill()]).into_iter().chain(next()).collect()
            }
        };
    }
    let alone = match lane.fault {
        Fault::Dies => vec![kill()],
        Fault::Closes => vec![Action::Drop],
        // The server may answer, or close its end too. The client reads what comes, and goes.
        Fault::HalfCloses => vec![half_close(), pause(), Action::Drop],
        Fault::Resets => vec![Action::Reset],
        Fault::Stalls => vec![Action::Silence, pause(), Action::Drop],
    };
    all(alone).into_iter().chain(next()).collect()
}

/// Another client is let in.
fn next() -> [Step; 2] {
    [Action::Open, Action::Drop].map(|action| Step::new(action).on(OTHER))
}
