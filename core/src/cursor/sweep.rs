//! What is done again and again until the store has forgotten what nobody may read any more.

use std::sync::Arc;

use tokio::time::sleep;

use super::{CloseReport, CursorError, StoreError, shared::Shared};

/// What one sweep did; see [`Cursors::sweep`](super::Cursors::sweep).
#[derive(Debug, Default)]
pub struct SweepReport {
    /// Cursors removed because their time was over, or because they were never confirmed.
    pub expired: usize,
    /// Ended sessions that had waited and whose payloads are gone now.
    pub caught_up: usize,
    /// Payloads that processes which are gone had left in the store.
    pub left_behind: usize,
    /// What the store failed with. The sweep stopped there, and the rest waits for the next one.
    pub failure: Option<CursorError>,
}

impl Shared {
    pub(super) async fn sweep_for_ever(&self) {
        loop {
            sleep(self.settings.sweep_interval).await;
            let report = self.sweep().await;
            if let Some(error) = &report.failure {
                tracing::warn!(%error, "cursor sweep; the next one tries again");
            }
        }
    }

    pub(super) async fn sweep(&self) -> SweepReport {
        let _one = self.sweeping.lock().await;
        let mut report = SweepReport::default();
        let result = self.sweep_into(&mut report).await;
        report.failure = result.err();
        report
    }

    /// Sessions whose turn is taken are left to whoever has it.
    async fn sweep_into(&self, report: &mut SweepReport) -> Result<(), CursorError> {
        if self.registry().check_open().is_err() {
            return Ok(());
        }
        let ended = self.registry().all_ended();
        for number in ended {
            let turn = self.registry().ended(number).map(|ended| Arc::clone(&ended.turn));
            if turn.is_some_and(|turn| turn.try_lock().is_ok()) {
                self.remove_ended(number).await?;
                report.caught_up += 1;
            }
        }
        let with_dead = self.registry().with_dead();
        for (session, owner, turn) in with_dead {
            let Ok(_turn) = turn.try_lock_owned() else {
                continue;
            };
            let dead = self.registry().dead(&session, owner);
            self.ask("removing expired cursors", || self.store.remove(owner, &dead)).await?;
            self.registry().forget(&session, owner, &dead);
            report.expired += dead.len();
        }
        report.left_behind =
            self.ask("removing what is left behind", || self.store.sweep()).await?;
        Ok(())
    }

    /// Removes the payloads of an ended session; when that does not succeed, or is dropped, they wait
    /// for the sweep.
    pub(super) async fn remove_ended(&self, number: u64) -> Result<usize, CursorError> {
        let mut attempt = Attempt { shared: self, number, succeeded: false };
        let Some((session, cursors)) =
            self.registry().ended(number).map(|ended| (Arc::clone(&ended.session), ended.cursors))
        else {
            return Ok(0);
        };
        match self.remove_owner_of(number).await {
            Ok(removed) => {
                attempt.succeeded = true;
                Ok(removed)
            }
            Err(source) => Err(CursorError::LeftToSweep { session, cursors, source }),
        }
    }

    async fn remove_owner_of(&self, number: u64) -> Result<usize, StoreError> {
        let ended = self.registry().ended(number).map(|e| (e.owner, Arc::clone(&e.turn)));
        let Some((owner, turn)) = ended else {
            return Ok(0);
        };
        let _turn = self.take(&turn).await?;
        self.ask_store(|| self.store.remove_owner(owner)).await
    }

    /// For the close: every ended session, until the store fails.
    pub(super) async fn empty(&self, report: &mut CloseReport) {
        let _one = self.sweeping.lock().await;
        let ended = self.registry().all_ended();
        for number in ended {
            match self.remove_ended(number).await {
                Ok(removed) => report.removed += removed,
                Err(error) => {
                    report.failure = Some(error);
                    return;
                }
            }
        }
    }
}

/// Ends in one of two ways, also when it is dropped.
struct Attempt<'a> {
    shared: &'a Shared,
    number: u64,
    succeeded: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut registry = self.shared.registry();
        if self.succeeded {
            registry.settle(self.number);
        } else {
            registry.postpone(self.number, self.shared.settings.remembered_sessions);
        }
    }
}
