//! The command line: arguments parsed into orders, one file per subcommand.
//!
//! - [`arguments`]: what may be given, and its meaning; [`common`]: what all that judge share.
//! - [`server`]: `scupper server`, of a command or of a file of servers.
//! - [`http`]: `scupper server --http`.
//! - [`headers`]: the headers that it is given, and what of them may be shown.
//! - [`client`]: `scupper client`.
//! - [`config`]: what such a file says.
//! - [`run`]: `scupper run` and `scupper replay`.
//! - `files`: the scenario files of such a run.
//! - [`campaign`]: `scupper campaign` and `scupper merge`.
//! - [`session`]: what both share: runner, canary, reporters, exit code.
//! - [`canary`]: the run's own proof.
//! - [`gate`]: `scupper gate`, and the same at the end of a run.
//! - [`outputs`]: reports as files.
//! - [`init`]: `scupper init`.
//! - [`keep`]: what `--keep` writes.
//! - [`sweep`]: `--torture`, the byte sweep.
//! - [`pages`]: `scupper completions` and `scupper man`.
//! - [`show`]: `scupper list` and `scupper doctor`.

pub mod arguments;
pub mod campaign;
pub mod canary;
pub mod client;
pub mod common;
pub mod config;
mod files;
pub mod gate;
pub mod headers;
pub mod http;
pub mod init;
pub mod keep;
pub mod outputs;
pub mod pages;
pub mod run;
pub mod server;
pub mod session;
pub mod show;
pub mod sweep;

/// Name of the reference server among the fakes.
pub const REFERENCE: &str = "reference";

/// What a subcommand comes to: an exit code, or a message for the user with one.
pub type Ended = Result<u8, Refusal>;

/// Why nothing was run.
#[derive(Debug)]
pub struct Refusal {
    /// What to say, on stderr.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl Refusal {
    /// The user asked for something that cannot be: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: crate::report::event::codes::USAGE }
    }

    /// Something of ours went wrong: exit code 4.
    pub fn ours(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: crate::report::event::codes::INVALID }
    }
}
