//! What a run's verdicts mean for the one who waits for its exit code. Pure.

pub mod campaign;
pub mod exit;
pub mod expectation;
