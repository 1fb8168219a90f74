//! Criterion benchmarks. `cargo bench -p benches` runs them; nothing gates on what they say.
//!
//! - `benches/teardown.rs`: how long the core takes to close a connection, beside the floor.
