//! Streams that belong to no session: each carries one request of 2026-07-28.

use std::{
    collections::BTreeMap,
    panic::Location,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    Cut,
    connection::Connection,
    registry::{Shared, lock},
};
use crate::census::{Kind, Row};

/// The open ones, with the connections that carry them.
#[derive(Debug, Default)]
pub(super) struct LooseStreams {
    open: Mutex<Open>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next_number: u64,
    streams: BTreeMap<u64, Option<Arc<Connection>>>,
}

impl LooseStreams {
    /// Waits for all to end, which they do by themselves where their clients read; cuts the others,
    /// and tells how many.
    pub(super) async fn end(&self, deadline: Instant) -> usize {
        loop {
            let ended = self.ended.notified();
            if lock(&self.open).streams.is_empty() {
                return 0;
            }
            if timeout_at(deadline, ended).await.is_err() {
                break;
            }
        }
        let stuck: Vec<_> = lock(&self.open).streams.values().cloned().collect();
        for connection in stuck.iter().flatten() {
            connection.cut(Cut::Shutdown);
        }
        stuck.len()
    }
}

/// The place of one of them, in the census too; dropped with its body.
pub(super) struct LooseStream {
    shared: Arc<Shared>,
    number: u64,
    _row: Row,
}

impl LooseStream {
    #[track_caller]
    pub(super) fn new(shared: &Arc<Shared>, connection: Option<Arc<Connection>>) -> Self {
        let mut open = lock(&shared.loose.open);
        let number = open.next_number;
        open.next_number += 1;
        open.streams.insert(number, connection);
        drop(open);
        shared.counters.streams.fetch_add(1, Relaxed);
        let row = shared.census.enter(
            Kind::Stream,
            "request without session",
            "open",
            Location::caller(),
        );
        Self { shared: Arc::clone(shared), number, _row: row }
    }
}

impl Drop for LooseStream {
    fn drop(&mut self) {
        lock(&self.shared.loose.open).streams.remove(&self.number);
        self.shared.counters.streams.fetch_sub(1, Relaxed);
        self.shared.loose.ended.notify_waiters();
    }
}
