//! What was born and what died between snapshots, step by step, and whose fault it is. Pure: no
//! clock, no I/O; everything comes in as arguments.

pub mod rules;
pub mod snapshot;
pub mod verdict;
