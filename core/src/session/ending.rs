//! The end of a session, step by step.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Cause, Cut, Removal,
    record::Session,
    registry::{Shared, age, lock},
};
use crate::{cleanup::CleanupReport, scope::TaskError};

/// Ends one session. However this is dropped, the session leaves the registry with it.
pub(super) struct Ending {
    shared: Arc<Shared>,
    session: Arc<Session>,
    cause: Cause,
    began: Instant,
    lived: Duration,
    service_ended: bool,
    streams_cut: usize,
    cleanup: CleanupReport,
}

impl Ending {
    pub(super) fn new(shared: Arc<Shared>, session: Arc<Session>, cause: Cause) -> Self {
        let lived = age(&session);
        Self {
            shared,
            session,
            cause,
            began: Instant::now(),
            lived,
            service_ended: false,
            streams_cut: 0,
            cleanup: CleanupReport::default(),
        }
    }

    /// First the service, which may still have answers to give; then the streams, which carry them;
    /// then their sockets; then what the owner has to clean up.
    pub(super) async fn run(mut self) -> Result<(), TaskError> {
        let wait = self.shared.settings.close_wait;
        self.session.closing.cancel();
        self.service_ended = timeout(wait, self.session.service_gone.cancelled()).await.is_ok();
        self.session.outbox.end();
        self.wait_for_readers(wait).await;
        self.let_go();
        let plan = lock(&self.session.plan).take();
        sabotaged!(CleanupForgotten => {
            std::mem::forget(plan);
            return Ok(());
        });
        if let Some(mut plan) = plan {
            self.cleanup = plan.run().await;
        }
        Ok(())
    }

    async fn wait_for_readers(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        loop {
            let moved = self.session.outbox.moved.notified();
            if self.session.outbox.readers() == 0 || timeout_at(deadline, moved).await.is_err() {
                return;
            }
        }
    }

    /// Cuts the streams that did not end, and asks the connections to end that served no other
    /// session.
    fn let_go(&mut self) {
        for connection in self.session.outbox.cut_all() {
            self.streams_cut += 1;
            self.session.count_cut();
            if let Some(connection) = connection {
                connection.cut(Cut::SessionEnded);
            }
        }
        for connection in self.session.take_connections() {
            connection.forget(&self.session.id);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.session.closing.cancel();
        self.session.outbox.end();
        self.let_go();
        self.session.finish_end();
        let removal = self.shared.forget(Removal {
            session: Arc::clone(&self.session.id),
            cause: self.cause,
            lived: self.lived,
            took: Instant::now().saturating_duration_since(self.began),
            service_ended: self.service_ended,
            streams_cut: self.streams_cut,
            cleanup: std::mem::take(&mut self.cleanup),
        });
        self.session.removal.send_replace(Some(removal));
    }
}
