//! The same again and again, and what grows with it.

use std::time::Duration;

use super::Play;
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::step::Step;

impl Play<'_> {
    pub(super) fn repeat(
        &mut self,
        times: u32,
        steps: &[Step],
        _within: Option<Duration>,
        at: &StepRef,
    ) -> Result<(), Box<Failure>> {
        let above = format!("{}.", at.place);
        for cycle in 1..=times {
            self.play_all(steps, &above, Some(cycle))?;
        }
        self.played.cycles = times.saturating_sub(1);
        Ok(())
    }
}
