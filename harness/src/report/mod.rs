//! Reporters: events and verdicts in, text and files out. Only these modules print.
//!
//! Start with [`event`], all that a reporter ever sees; then [`human`], [`ndjson`] and [`json`]. What other
//! machines read is made of the latter: [`junit`], [`sarif`], [`gitlab`], [`github`]; and so is [`html`], a
//! page for people. A credential passes none of them: [`redact`](redact()) guesses what looks like one,
//! [`Secrets`] knows some.

pub mod campaign;
pub mod event;

pub mod github;
pub mod gitlab;
pub mod html;
pub mod human;
pub mod json;
pub mod junit;
pub mod ndjson;
pub mod progress;
pub mod sarif;

mod block;
mod ending;
mod ends;
mod group;
mod problem;
mod redact;
mod secrets;
mod servers;
mod sweep;
mod tell;
mod text;
mod xml;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod schema;

pub use group::outcome;
pub use redact::{REDACTED, redact};
pub use secrets::{Secrets, names_secret};
