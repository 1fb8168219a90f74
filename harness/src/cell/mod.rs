//! The cell: one supervising process per case, so that blame is right when cases run at once.
//!
//! ```text
//! runner ── sentinel ── cell ── client ── server ── helpers
//!           (pid 1)            (scupper)  (judged)
//! ```
//!
//! The sentinel stands between runner and cell for one reason: something must be left to clean up
//! whichever of the two dies. Where the host allows it is the first process of a pid namespace, and
//! then the kernel ends everything below when it goes; else it is a child subreaper and ends
//! everything by hand. It holds no other duty, so that there is little in it to go wrong.
//!
//! - [`protocol`]: what runner and cell tell each other.
//! - [`isolate`]: descriptors closed, namespaces entered; the crate's only unsafe code.
//! - [`contain`]: processes by pidfd, and ending all that is below.
//! - [`sentinel`]: the process that outlives either neighbour.
//! - [`host`]: the runner's end: starts a sentinel and reads what its cell tells.
//! - [`judge`]: the cell's own work: play the lifecycle, look, judge.

pub mod contain;
pub mod host;
pub mod isolate;
pub mod judge;
pub mod protocol;
pub mod sentinel;

/// Hidden first argument: be a sentinel.
pub const SENTINEL: &str = "__sentinel";
/// Hidden first argument: be a cell.
pub const CELL: &str = "__cell";
/// Hidden first argument: be a client process.
pub const CLIENT: &str = "__client";
/// Hidden first argument: be the HTTP clients of a service.
pub const HTTP_CLIENTS: &str = "__http-clients";
/// Hidden first argument: read stores of cursors.
pub const STORE: &str = "__store";
/// Hidden first argument: be a server that a judged client starts.
pub const PEER: &str = "__peer";
/// Hidden first argument: be the HTTP server of a judged client.
pub const HTTP_PEER: &str = "__http-peer";
/// Hidden first argument: hold whatever was inherited until killed.
pub const HOLD: &str = "__hold";

/// Variable that every process of a case carries; it names the cell.
pub const CELL_COOKIE: &str = "SCUPPER_CELL";
/// Variable that every process of a connection carries; it names the connection.
pub const CONNECTION_COOKIE: &str = "SCUPPER_CONNECTION";

/// Runs a hidden mode, if the arguments ask for one. Returns its exit code.
pub fn hidden_mode(arguments: &[String]) -> Option<std::io::Result<u8>> {
    #[cfg(feature = "core")]
    crate::subject::embedded::guard_if_asked();
    let (mode, rest) = arguments.split_first()?;
    match mode.as_str() {
        SENTINEL => Some(sentinel::run(rest)),
        CELL => Some(judge::run()),
        CLIENT => Some(crate::peer::client::run()),
        HTTP_CLIENTS => Some(crate::peer::http::clients::run()),
        #[cfg(feature = "core")]
        STORE => Some(crate::probe::store::serve()),
        PEER => Some(crate::peer::fake::watched::run(rest)),
        HTTP_PEER => Some(crate::peer::fake::service::run(rest)),
        HOLD => loop {
            std::thread::park();
        },
        _ => None,
    }
}
