//! One open stream of events, as rmcp turns it into a response body.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use futures::Stream;
use rmcp::transport::common::server_side_http::ServerSseMessage;

use super::{outbox::Seat, record::Session, sweep::is_question};
use crate::census::Row;

/// The reading end of a stream. Dropped when its response has been sent or its socket is gone, and
/// with it go its row and its place in the session.
#[derive(Debug)]
pub(super) struct EventStream {
    session: Arc<Session>,
    seat: Seat,
    _row: Option<Row>,
}

impl EventStream {
    pub(super) fn new(session: Arc<Session>, seat: Seat, row: Option<Row>) -> Self {
        session.streams_changed();
        if let Some(shared) = session.shared.upgrade() {
            shared.counters.streams.fetch_add(1, Relaxed);
        }
        Self { session, seat, _row: row }
    }
}

impl Stream for EventStream {
    type Item = ServerSseMessage;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.session.outbox.poll(self.seat, cx);
        // A question to a silent client must not pass for a sign of its life.
        if let Poll::Ready(Some(message)) = &polled
            && !is_question(message)
        {
            self.session.used(false);
        }
        polled
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        sabotaged!(StreamKept => {
            std::mem::forget(self._row.take());
            std::mem::forget(Arc::clone(&self.session));
        });
        self.session.outbox.leave(self.seat);
        self.session.streams_changed();
        if let Some(shared) = self.session.shared.upgrade() {
            shared.counters.streams.fetch_sub(1, Relaxed);
        }
    }
}
