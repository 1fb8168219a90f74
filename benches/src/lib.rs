//! Criterion benchmarks. `cargo bench -p benches` runs them; nothing gates on what they say. What
//! criterion does not keep is in a [file of figures](figures).
//!
//! - `benches/teardown.rs`: how long the core takes to close a connection, beside the floor.
//! - `benches/probe.rs`: what a look at a process costs, beside the floor, the procfs crate, psutil and lsof.
//! - `benches/churn.rs`: cases, cycles and lifecycles a second.

pub mod effort;
pub mod figures;
pub mod mark;
