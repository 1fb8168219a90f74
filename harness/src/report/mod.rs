//! Reporters: events and verdicts in, text and files out. Only these modules print.
//!
//! Start with [`event`], all that a reporter ever sees; then [`human`] and [`json`]. A credential
//! passes none of them: [`redact`](redact()) guesses what looks like one, [`Secrets`] knows some.

pub mod campaign;
pub mod event;
pub mod human;
pub mod json;

mod block;
mod ending;
mod group;
mod redact;
mod secrets;
mod servers;
mod sweep;
mod tell;
mod text;

#[cfg(test)]
pub(crate) mod samples;

pub use group::outcome;
pub use redact::{REDACTED, redact};
pub use secrets::{Secrets, names_secret};
