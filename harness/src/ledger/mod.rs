//! What was born and what died between snapshots, step by step, and whose fault it is. Pure: no
//! clock, no I/O; everything comes in as arguments.
//!
//! - [`snapshot`]: what all probes saw at one instant.
//! - [`diff`]: born, died, changed, by identity; the birth step of everything alive.
//! - [`history`]: who lived when, to be drawn.
//! - [`trend`]: growth that does not saturate, over repeated steps.
//! - [`rise`]: memory that does not level off, likewise; [`rank`]: the slope and the test for it.
//! - [`backend`]: whom a server speaks with as a gateway does.
//! - [`blame`]: whose duty the end of a surviving process was.
//! - [`abandoned`]: the same for what a judged client has left.
//! - [`rules`]: texts of the specification's rules.
//! - [`verdict`]: findings and verdicts.
//! - [`standing`]: what a case means for whoever gates on it.
//! - [`sdk`]: with which SDK a subject was written, and the lines that mend a leak there.
//! - [`fingerprint`]: what makes a finding the same one in another run.

pub mod abandoned;
pub mod backend;
pub mod blame;
#[cfg(test)]
mod chance;
pub mod diff;
pub mod fingerprint;
pub mod history;
pub mod rank;
pub mod rise;
pub mod rules;
pub mod sdk;
pub mod snapshot;
pub mod standing;
pub mod trend;
pub mod verdict;
