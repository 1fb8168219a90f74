//! Who is judged.
//!
//! - [`server`]: a lifecycle played on any stdio server: steps in order, a look after each.
//! - [`steps`]: the effect of each step.
//! - [`waits`]: what each step waits for.
//! - [`calls`]: which tools are called again and again, and what came of it.
//! - [`pages`]: lists by pages, and the cursor that is remembered.
//! - [`growth`]: the same steps again and again, and what grows with them.
//! - [`memory`]: what a server weighs after each cycle, and whether it rises.
//! - [`drain`]: waiting until a connection has drained, and judging what has not.
//! - [`second_signal`]: whether the server or its launcher did not obey a signal.
//! - [`second_chance`]: what survived a signal, once its stdin has ended as well.
//! - [`lives`]: what one life leaves to the next.
//! - [`elsewhere`]: commands that start a server where no look reaches.
//! - [`learn`]: what the first look asks a server about itself.
//! - [`connection`]: one client process and the server behind it.
//! - [`roles`]: which process is the server and which are launchers.
//! - [`client`]: a lifecycle played on any client or host, whose servers are ours.
//! - [`http`]: a lifecycle played on any HTTP server, with clients of ours.
//! - [`output`]: the last lines that a process has written.
//! - `children` (feature `core`): what a host's own children inherited, and whether its books list them.
//! - `core` (feature `core`): a lifecycle played with our own core as the client.
//! - `embedded` (feature `core`): hosts and services played inside the cell: our core's, and what
//!   stands in for software with known leaks.
//! - `generated` (feature `core`): generated lifecycles played on our core in memory, beside a model.
//! - [`survivor`]: a process that survived its connection, and why it still lives.
//! - [`finding`]: what was seen, in the words of a finding or a failure.

pub mod calls;
#[cfg(feature = "core")]
mod children;
pub mod client;
pub mod connection;
#[cfg(feature = "core")]
pub mod core;
pub mod drain;
pub mod elsewhere;
#[cfg(feature = "core")]
pub mod embedded;
pub mod finding;
#[cfg(feature = "core")]
pub mod generated;
pub mod growth;
pub mod http;
pub mod learn;
pub mod lives;
pub mod memory;
pub mod output;
pub mod pages;
pub mod roles;
pub mod second_chance;
pub mod second_signal;
pub mod server;
pub mod steps;
pub mod survivor;
pub mod waits;
