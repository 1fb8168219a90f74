//! Fuzz bodies: ordinary functions that panic on what must not be. A target in `fuzz_targets/` feeds
//! one with libFuzzer's bytes; `tests/replay.rs` feeds it with the seeds on stable. From the root of
//! the repository, after `ci/setup fuzz`:
//!
//! ```text
//! cargo fuzz run lifecycle                                 until it finds something, or ^C
//! ci/fuzz 60                                               every target for a minute
//! cargo run -p scupper-fuzz --bin lifecycle -- FILE…       the same bytes without a fuzzer
//! ```
//!
//! `ci/fuzz` gives each target what makes it find more: dictionaries, lengths, and for `lifecycle` the
//! options in `fuzz/lifecycle.options`.
//!
//! - `lifecycle`: generated lifecycles of a host and a service, against a model of what is alive.
//! - `connection`: connections of a server from birth to end, with a peer that may stop at any byte.
//! - `scenario`: the parser of scenario files.
//! - `wire`: the parsers of what comes over pipes and sockets, whatever the pieces it comes in.
//! - `cursor`: the core's cursors over a store that fails, against a model.
//! - `session`: the core's HTTP sessions under operations in any order, with paused time.
//! - `canary`: fails on purpose, which proves that a failure is found.

mod bounded;
mod canary;
mod connection;
mod cursor;
mod lifecycle;
mod partly;
mod scenario;
mod session;
mod steps;
mod target;
mod wire;

pub use steps::mutate as change_steps;
pub use target::{Reach, Share, TARGETS, Target};

/// Fails on purpose.
pub const CANARY: Target = Target {
    name: "canary",
    body: canary::canary,
    active: "get past the first word",
    floor_percent: 0.0,
};
/// Connections of a server from birth to end.
pub const CONNECTION: Target = Target {
    name: "connection",
    body: connection::connection,
    active: "had a call answered",
    floor_percent: 1.0,
};
/// Cursors over a store that fails.
pub const CURSOR: Target = Target {
    name: "cursor",
    body: cursor::cursor,
    active: "read a cursor that was put",
    floor_percent: 2.0,
};
/// Lifecycles of a host and a service.
pub const LIFECYCLE: Target = Target {
    name: "lifecycle",
    body: lifecycle::lifecycle,
    active: "had a server ready or a session active",
    floor_percent: 20.0,
};
/// The parser of scenario files. Nearly every change of a byte is a mistake: of 130,000 inputs fewer than
/// one in a thousand were accepted, so that no share is a floor; but the seeds are, so that none means
/// that the door is closed.
pub const SCENARIO: Target = Target {
    name: "scenario",
    body: scenario::scenario,
    active: "are accepted",
    floor_percent: 0.0,
};
/// Sessions of a server.
pub const SESSION: Target = Target {
    name: "session",
    body: session::session,
    active: "have a session or a stream",
    floor_percent: 20.0,
};
/// What comes over pipes and sockets.
pub const WIRE: Target =
    Target { name: "wire", body: wire::wire, active: "hold a message", floor_percent: 0.5 };
