//! Reporters: events and verdicts in, text and files out. Only these modules print.
//!
//! Start with [`event`], all that a reporter ever sees; then [`human`] and [`json`]. A credential
//! passes none of them: [`redact`](redact()).

pub mod event;
pub mod human;
pub mod json;

mod block;
mod ending;
mod group;
mod redact;
mod tell;
mod text;

#[cfg(test)]
pub(crate) mod samples;

pub use redact::{REDACTED, redact};
