//! Requests that are given up.

use super::{
    Action, C4, Era, H7, Knowledge, Lifecycle, N16, Step, call_step, close, handshake, lifecycle,
    list, open, repeat, start, step,
};
use crate::lifecycle::endpoint::Wire;

pub(super) fn all(known: &Knowledge) -> Vec<Lifecycle> {
    let begun = || [start(), open(), handshake()].into_iter();
    let abandon = || step(Action::Abandon);
    let (rule, why) = match known.era {
        Era::Legacy => (
            H7,
            "A client hangs up while its request is being worked on. In this era that is no \
             cancellation: the work goes on, and must be over when it is done.",
        ),
        Era::Modern => (
            N16,
            "A client hangs up while its request is being worked on. In this era that cancels it: the \
             work must stop.",
        ),
    };
    // Waited for, a call shows what its work looks like, and that no other is given up before it began.
    let whole = || known.in_flight.as_ref().map(|call| call_step(call, true));
    let churn = |first: Option<Step>, request: Step, how: Vec<Step>| -> Vec<Step> {
        let round: Vec<Step> = [request].into_iter().chain(how).collect();
        let end = if known.wire == Wire::Sse { step(Action::Drop) } else { close() };
        begun().chain(first).chain([repeat(known.cycles, round), end]).collect()
    };
    let mut all = vec![
        lifecycle(
            "http/request-abandoned",
            why,
            rule,
            begun().chain(whole()).chain([known.busy(), abandon(), list(true), close()]).collect(),
        ),
        lifecycle(
            "http/abandon-churn",
            "One request after the other is given up by hanging up, in one session: what they leave \
             behind grows.",
            rule,
            // Where hanging up is no cancellation, long calls would only pile up as they should.
            churn(
                None,
                if known.era == Era::Modern { known.busy() } else { known.brief(false) },
                vec![abandon(), list(true)],
            ),
        ),
    ];
    if known.era == Era::Legacy {
        all.push(lifecycle(
            "http/cancel",
            "One request after the other is cancelled while it is being worked on, in one session: what \
             a cancelled one leaves behind grows.",
            C4,
            // The list before it shows that the request has come.
            churn(whole(), known.busy(), vec![list(true), step(Action::Cancel), list(true), abandon()]),
        ));
    }
    all
}
