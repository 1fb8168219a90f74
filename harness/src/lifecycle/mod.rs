//! Lifecycles as data: the steps and the places they come from. Pure.
//!
//! - [`step`]: the words.
//! - [`scenario`]: a lifecycle in a file, with subject and expectation.
//! - [`embedded`]: the names of hosts and services that are played inside the cell.
//! - [`battery`]: the built-in lifecycles for any stdio server.
//! - [`http`]: those for any HTTP server.
//! - [`endpoint`]: where such a server is reached.
//! - [`client`]: those for any client or host.
//! - [`sweep`]: a peer that goes wrong after every byte.
//! - [`generate`]: lifecycles made of bytes, or of a seed.
//! - [`model`]: what must exist after each step of one.
//! - [`shrink`]: the shortest that still fails.

pub mod battery;
pub mod client;
pub mod embedded;
pub mod endpoint;
pub mod generate;
pub mod http;
pub mod model;
pub mod scenario;
pub mod shrink;
pub mod step;
pub mod sweep;
