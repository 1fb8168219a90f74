//! The other side, always ours: byte-exact, and able to misbehave.

pub mod fake;
