//! The whole program, from outside: as a user starts it, against fakes, real servers and itself. One binary,
//! because most of these tests wait most of the time, and the tests of one binary wait together.
//!
//! - [`cli`]: the command line; [`ends`]: how a run may end, and that nothing is left then; [`bounded`]: what a
//!   hostile server may fill.
//! - [`battery`], [`fakes`], [`growth`], [`sweep`]: stdio servers. [`http_servers`], [`http_fakes`],
//!   [`http_sweep`]: servers over HTTP. [`clients`], [`clients_http`]: clients.
//! - [`real_servers`], [`real_clients`]: those that `ci/setup` installs. [`servers_file`]: several in one file.
//! - [`containment`], [`ordinary_user`], [`out_of_sight`]: what a host allows and a user may see.
//! - [`field_reports`], [`replay`], [`campaign`]: lifecycles from files and from seeds.
//! - [`formats`], [`examples`]: what other machines read and start. [`self_audit`]: scupper judged by scupper.

#[path = "../support/mod.rs"]
mod support;

mod battery;
mod bounded;
#[cfg(feature = "core")]
mod campaign;
mod cli;
mod clients;
mod clients_http;
mod containment;
mod ends;
#[cfg(feature = "core")]
mod examples;
mod fakes;
mod field_reports;
mod formats;
mod growth;
mod http_fakes;
mod http_servers;
mod http_sweep;
mod ordinary_user;
mod out_of_sight;
mod real_clients;
mod real_servers;
mod replay;
mod self_audit;
mod servers_file;
mod sweep;
