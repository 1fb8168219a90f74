//! What a run's verdicts mean for the one who waits for its exit code. Pure.

pub mod calendar;
pub mod campaign;
pub mod exit;
pub mod expectation;
