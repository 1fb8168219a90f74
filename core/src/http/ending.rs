//! The end of a connection: patient and on the spot, whoever brings it about.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use http::HeaderMap;

use super::{
    EndCause, HttpTeardown, SessionEnd,
    connection::{Connection, lock},
};
use crate::{
    census::{DroppedWithoutClose, Kind},
    lifecycle::{Event, State},
    scope::Ending,
};

#[derive(Default)]
pub(super) struct End {
    pub(super) cause: Option<EndCause>,
    pub(super) began_at: Option<Instant>,
    pub(super) streams: usize,
    pub(super) sockets: usize,
    pub(super) failure: Option<Arc<str>>,
    /// What came of the DELETE, once it has been tried.
    pub(super) session: Option<SessionEnd>,
    pub(super) outcome: Option<Arc<HttpTeardown>>,
}

impl Connection {
    /// Begins the end: no more messages, rmcp's worker told to go. Never waits.
    pub(super) fn end(&self, event: Event, cause: EndCause) {
        {
            let mut state = lock(&self.state);
            match state.on(event) {
                Ok(next) => *state = next,
                Err(illegal) => tracing::trace!(parent: &self.span, %illegal, "nothing to end"),
            }
        }
        {
            let mut end = lock(&self.end);
            if end.cause.is_none() {
                end.cause = Some(cause);
                end.began_at = Some(Instant::now());
                end.streams = self.streams.load(Ordering::Relaxed);
                end.sockets = self.sockets.count();
            }
        }
        self.ended.cancel();
        let worker = lock(&self.worker).take();
        drop(worker);
        self.show(State::Closing);
    }

    /// Ends streams, session, sockets and tasks, in this order. Dropping the future early ends what
    /// is left at that moment, unless another closer is at work.
    pub(super) async fn close(&self) -> HttpTeardown {
        let mut closer = Closer::new(self);
        self.end(Event::CloseRequested, EndCause::Closed);
        let _turn = self.turn.lock().await;
        if let Some(outcome) = self.outcome() {
            closer.finish();
            return outcome;
        }
        let patience = self.settings.close_wait;
        let mut problems = Vec::new();
        tokio::select! {
            () = self.vacated.cancelled() => {}
            () = self.cut.cancelled() => {}
            () = tokio::time::sleep(patience) => {}
        }
        let session = self.delete_sessions().await;
        lock(&self.end).session = Some(session.clone());
        self.shut();
        if tokio::time::timeout(patience, self.vacated.cancelled()).await.is_err() {
            problems.push(format!("rmcp's worker did not end within {patience:?}"));
        }
        for task in self.scope.close(patience).await {
            match task.ending {
                Ending::TimedOut | Ending::Panicked(_) => {
                    problems.push(format!("task `{}`: {}", task.name, task.ending));
                }
                _ => {}
            }
        }
        closer.finish();
        self.finish(session, problems)
    }

    /// Ends everything at this moment, sockets first. Needs no runtime; spawns nothing. Tasks that
    /// have been told to end are gone as soon as their runtime comes to them.
    pub(super) fn end_now(&self, cause: EndCause) -> HttpTeardown {
        self.cut.cancel();
        self.end(Event::CloseRequested, cause);
        self.shut();
        let tried = lock(&self.end).session.clone();
        let session = tried.unwrap_or_else(|| match lock(&self.sessions).is_empty() {
            true => SessionEnd::NotNeeded,
            false => SessionEnd::NotSent,
        });
        self.finish(session, Vec::new())
    }

    /// The owner is gone. If nobody closed the connection, this is the close.
    pub(super) fn owner_dropped(&self) {
        let closed = lock(&self.end).outcome.is_some();
        if closed || self.closers.load(Ordering::SeqCst) > 0 {
            return;
        }
        self.census.record_drop(DroppedWithoutClose {
            kind: Kind::Connection,
            name: Arc::clone(&self.name),
            opened_at: self.opened_at,
        });
        tracing::warn!(parent: &self.span, opened_at = %self.opened_at, "dropped without close");
        // Its outcome stays readable through the handle.
        let _ = self.end_now(EndCause::DroppedWithoutClose);
    }

    /// Waits for the end, whoever brings it about.
    pub(super) async fn closed(&self) -> HttpTeardown {
        loop {
            self.torn.cancelled().await;
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
        }
    }

    /// Closes pool and sockets and tells their tasks to end. Safe to call twice.
    fn shut(&self) {
        self.cut.cancel();
        let pool = lock(&self.pool).take();
        self.sockets.shut();
        drop(pool);
        self.scope.cancel();
    }

    /// Clears what is secret, gives the rows back and lets everybody know. The first one's account
    /// is the one that is told.
    fn finish(&self, session: SessionEnd, problems: Vec<String>) -> HttpTeardown {
        lock(&self.sessions).seal();
        *lock(&self.headers) = HeaderMap::new();
        lock(&self.resumes).clear();
        lock(&self.row).take();
        let outcome = {
            let mut end = lock(&self.end);
            let End { cause, began_at, streams, sockets, .. } = *end;
            let failure = end.failure.take().filter(|_| cause == Some(EndCause::Lost));
            Arc::clone(end.outcome.get_or_insert_with(|| {
                Arc::new(HttpTeardown {
                    name: Arc::clone(&self.name),
                    cause: cause.unwrap_or(EndCause::Closed),
                    failure,
                    session,
                    sockets,
                    streams,
                    took: began_at.map(|began_at| began_at.elapsed()).unwrap_or_default(),
                    problems,
                })
            }))
        };
        let first = {
            let mut state = lock(&self.state);
            let next = state.on(Event::TornDown);
            if let Ok(next) = next {
                *state = next;
            }
            next.is_ok()
        };
        self.torn.cancel();
        if first {
            match &*outcome {
                t if !t.is_complete() => {
                    tracing::warn!(parent: &self.span, "teardown incomplete: {t}");
                }
                t => tracing::info!(parent: &self.span, "server closed: {t}"),
            }
        }
        (*outcome).clone()
    }
}

/// Counts one who sees to the end; the last one to be dropped unfinished brings it about.
pub(super) struct Closer<'a> {
    connection: &'a Connection,
    finished: bool,
}

impl<'a> Closer<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        connection.closers.fetch_add(1, Ordering::SeqCst);
        Self { connection, finished: false }
    }

    /// Its work is done, or somebody else's now.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Closer<'_> {
    fn drop(&mut self) {
        let last = self.connection.closers.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && !self.finished {
            tracing::debug!(parent: self.connection.span(), "close was cancelled");
            let _ = self.connection.end_now(EndCause::Closed);
        }
    }
}
