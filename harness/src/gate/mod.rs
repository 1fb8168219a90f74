//! What a run's verdicts mean for the one who waits for its exit code. Pure.
//!
//! - [`exit`]: from verdicts to the exit code; [`expectation`]: what a scenario file expects.
//! - [`demands`]: what a report is held against beside that: a [`baseline`], a [`threshold`], an older
//!   report ([`compare`]).
//! - [`campaign`]: a finding of a campaign as a case.
//! - [`calendar`]: days and moments.

pub mod baseline;
pub mod calendar;
pub mod campaign;
pub mod compare;
pub mod demands;
pub mod exit;
pub mod expectation;
pub mod threshold;
