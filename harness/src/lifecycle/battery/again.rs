//! The same again and again, or several at once: what grows with every round is a leak, and what one
//! life leaves is in the way of the next.

use std::time::Duration;

use super::{
    Action, Knowledge, Lifecycle, N9, Step, close, end_stdin, handshake, lifecycle, list, open,
    step,
};
use crate::lifecycle::scenario::limits;
use crate::lifecycle::step::Condition;

/// Lives at once.
const TOGETHER: usize = 10;
/// Lives for each cycle that the user asked for.
const LIVES: u32 = 5;
/// Longest time that life after life may take.
const RECONNECT_TIME: Duration = Duration::from_secs(30);
/// Longest time that calling tools again and again may take, unless the user asked for many cycles: then
/// so long for each, up to a bound that leaves a case time for its end.
const CHURN_TIME: Duration = Duration::from_secs(30);
const CYCLE_TIME: Duration = Duration::from_millis(1_500);
const LONGEST_CHURN: Duration = Duration::from_secs(20 * 60);

const C4: &str = "2026-07-28 cancellation C4";

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    vec![
        reconnect(known),
        cancel_churn(known),
        churn(known),
        ten_at_once(),
        restart_while_draining(known),
    ]
}

fn ten_at_once() -> Lifecycle {
    let life = |name: String| [open(), handshake(), list(true)].map(|step| step.on(&name)).to_vec();
    let branches = (1..=TOGETHER).map(|number| life(format!("c{number}"))).collect();
    lifecycle(
        "stdio/ten-at-once",
        "A host with ten windows: ten servers start at once, and end at once.",
        N9,
        vec![step(Action::Concurrently { branches }), step(Action::Shutdown)],
    )
}

fn restart_while_draining(known: &Knowledge) -> Lifecycle {
    let old = [open(), handshake(), known.busy(), end_stdin()].map(|step| step.on("old"));
    let new = [open(), handshake(), list(true), close()].map(|step| step.on("new"));
    let gone = step(Action::WaitFor { condition: Condition::Gone }).on("old");
    lifecycle(
        "stdio/restart-while-draining",
        "A host that restarts its server: the new one lives while the old one still works on a \
         request, and both must end.",
        N9,
        old.into_iter().chain(new).chain([gone]).collect(),
    )
}

fn reconnect(known: &Knowledge) -> Lifecycle {
    let life = vec![open(), handshake(), known.brief(), close()];
    lifecycle(
        "stdio/reconnect",
        "Life after life in one place, each with a call: nothing may pile up from one to the next.",
        N9,
        vec![repeat(known.cycles.saturating_mul(LIVES), RECONNECT_TIME, life)],
    )
}

/// One call of each tool and one list as the warm-up, then so many more. Where no tool may be
/// called, it is only lists.
pub(super) fn churn(known: &Knowledge) -> Lifecycle {
    lifecycle(
        "stdio/churn",
        "The same calls again and again in one life: descriptors, threads, children, zombies and \
         files must not grow with them.",
        N9,
        vec![open(), handshake(), times_of(known.cycles, round(known)), close()],
    )
}

/// The answer to the list shows that the cancellation before it was read.
fn cancel_churn(known: &Knowledge) -> Lifecycle {
    lifecycle(
        "stdio/cancel-churn",
        "One request after the other is cancelled in one life: what a cancelled one leaves behind \
         grows.",
        C4,
        vec![open(), handshake(), times_of(known.cycles, cancel_round(known)), close()],
    )
}

/// One call of each tool and a list.
pub(super) fn round(known: &Knowledge) -> Vec<Step> {
    let calls = known.calls.iter().map(|call| call.step(true));
    calls.chain([list(true)]).collect()
}

/// A request that is cancelled, and a list.
pub(super) fn cancel_round(known: &Knowledge) -> Vec<Step> {
    vec![known.busy(), step(Action::Cancel), list(true)]
}

/// So many cycles of this in one life, after the warm-up.
pub(super) fn times_of(cycles: u32, steps: Vec<Step>) -> Step {
    repeat(cycles, churn_time(cycles), steps)
}

fn churn_time(cycles: u32) -> Duration {
    CYCLE_TIME.saturating_mul(cycles).clamp(CHURN_TIME, LONGEST_CHURN)
}

/// So many rounds after the warm-up.
fn repeat(rounds: u32, within: Duration, steps: Vec<Step>) -> Step {
    let times = rounds.saturating_add(1).min(limits::TIMES);
    Step { within: Some(within), ..step(Action::Repeat { times, steps }) }
}
