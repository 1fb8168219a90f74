//! What is known about the HTTP request that is being answered, passed beside rmcp's own arguments.
//!
//! rmcp's `SessionManager` sees neither the connection of a request nor can it choose the status of
//! a refusal. Its futures are awaited inside the service call, so a task-local carries both.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use super::connection::Connection;

tokio::task_local! {
    static REQUEST: Notes;
}

/// What goes down with a request and comes back from it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    connection: Option<Arc<Connection>>,
    refusal: RefCell<Option<Refusal>>,
    opened_stream: Cell<bool>,
}

/// How a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 503, with Retry-After.
    Busy(String),
    /// 404.
    Unknown(String),
    /// 400.
    BadRequest(String),
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) refusal: Option<Refusal>,
    /// A stream was opened that has a row in the census.
    pub(super) opened_stream: bool,
}

/// Runs the future of one request with its notes.
pub(super) async fn with_notes<F: Future>(
    connection: Option<Arc<Connection>>,
    future: F,
) -> (F::Output, Outcome) {
    let notes = Notes { connection, ..Notes::default() };
    REQUEST
        .scope(notes, async move {
            let output = future.await;
            let outcome = REQUEST.with(|notes| Outcome {
                refusal: notes.refusal.take(),
                opened_stream: notes.opened_stream.get(),
            });
            (output, outcome)
        })
        .await
}

/// The connection of the request that is being answered, where a listener of ours accepted it.
pub(super) fn connection() -> Option<Arc<Connection>> {
    REQUEST.try_with(|notes| notes.connection.clone()).ok().flatten()
}

/// Decides how the request will be answered. Outside a request, nobody listens.
pub(super) fn refuse(refusal: Refusal) {
    REQUEST.try_with(|notes| notes.refusal.replace(Some(refusal))).ok();
}

/// The answer will be a stream that has a row in the census.
pub(super) fn mark_stream() {
    REQUEST.try_with(|notes| notes.opened_stream.set(true)).ok();
}
