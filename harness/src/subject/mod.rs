//! Who is judged.
//!
//! - [`server`]: a lifecycle played on any stdio server: steps in order, a look after each.
//! - [`steps`]: the effect of each step.
//! - [`waits`]: what each step waits for.
//! - [`pages`]: lists by pages, and the cursor that is remembered.
//! - [`drain`]: waiting until a connection has drained, and judging what has not.
//! - [`elsewhere`]: commands that start a server where no look reaches.
//! - [`learn`]: what the first look asks a server about itself.
//! - [`connection`]: one client process and the server behind it.
//! - [`roles`]: which process is the server and which are launchers.
//! - `core` (feature `core`): a lifecycle played with our own core as the client.
//! - [`finding`]: what was seen, in the words of a finding or a failure.

pub mod connection;
#[cfg(feature = "core")]
pub mod core;
pub mod drain;
pub mod elsewhere;
pub mod finding;
pub mod learn;
pub mod pages;
pub mod roles;
pub mod server;
pub mod steps;
pub mod waits;
