//! Reporters: events and verdicts in, text and files out. Only these modules print.

pub mod event;
