//! Futures that are dropped before their end.

use std::{future::poll_fn, pin::pin, task::Poll};

/// Polls a future so many times, at its own wakes, and drops it then; all the way without a number.
pub(crate) async fn partly<F: Future>(polls: Option<u8>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if let Some(left) = &mut left {
            if *left == 0 {
                return Poll::Ready(None);
            }
            *left -= 1;
        }
        let polled = future.as_mut().poll(cx).map(Some);
        if polled.is_pending() && left == Some(0) { Poll::Ready(None) } else { polled }
    })
    .await
}
