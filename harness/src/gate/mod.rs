//! What a run's verdicts mean for the one who waits for its exit code. Pure.

pub mod baseline;
pub mod calendar;
pub mod campaign;
pub mod compare;
pub mod demands;
pub mod exit;
pub mod expectation;
pub mod threshold;
