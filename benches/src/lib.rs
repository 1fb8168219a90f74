//! Criterion benchmarks. `cargo bench -p benches` runs them; nothing gates on what they say. What
//! criterion does not keep is in a [file of figures](figures).
//!
//! - `benches/teardown.rs`: how long a close takes, by rungs, and what it leaves, beside the SDKs and
//!   the floor.
//! - `benches/close.rs`: the ends that are no close: drop, cancelled close, runtime gone, host killed.
//! - `benches/sessions.rs`: sessions over HTTP beside rmcp's, the sweep of idle ones, cursors.
//! - `benches/probe.rs`: what a look at a process costs, beside the floor, the procfs crate, psutil and lsof.
//! - `benches/churn.rs`: cases, cycles and lifecycles a second.

pub mod effort;
pub mod figures;
pub mod mark;
