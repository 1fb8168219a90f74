//! The same again and again: what grows with every round is a leak.

use std::time::Duration;

use super::{
    Action, Knowledge, Lifecycle, N9, Step, close, handshake, lifecycle, list, open, step,
};
use crate::lifecycle::scenario::limits;

/// Lives for each cycle that the user asked for.
const LIVES: u32 = 5;
/// Longest time that life after life may take.
const RECONNECT_TIME: Duration = Duration::from_secs(30);
/// Longest time that calling tools again and again may take.
const CHURN_TIME: Duration = Duration::from_secs(30);

const C4: &str = "2026-07-28 cancellation C4";

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    vec![reconnect(known), cancel_churn(known), churn(known)]
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
    let mut calls: Vec<Step> = known.calls.iter().map(|call| call.step(true)).collect();
    calls.push(list(true));
    lifecycle(
        "stdio/churn",
        "The same calls again and again in one life: descriptors, threads, children, zombies and \
         files must not grow with them.",
        N9,
        vec![open(), handshake(), repeat(known.cycles, CHURN_TIME, calls), close()],
    )
}

/// The answer to the list shows that the cancellation before it was read.
fn cancel_churn(known: &Knowledge) -> Lifecycle {
    let round = vec![known.busy(), step(Action::Cancel), list(true)];
    lifecycle(
        "stdio/cancel-churn",
        "One request after the other is cancelled in one life: what a cancelled one leaves behind \
         grows.",
        C4,
        vec![open(), handshake(), repeat(known.cycles, CHURN_TIME, round), close()],
    )
}

/// So many rounds after the warm-up.
fn repeat(rounds: u32, within: Duration, steps: Vec<Step>) -> Step {
    let times = rounds.saturating_add(1).min(limits::TIMES);
    Step { within: Some(within), ..step(Action::Repeat { times, steps }) }
}
