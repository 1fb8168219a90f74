//! Why there is no guard.

use std::{io, time::Duration};

use crate::process::{Exit, ProcessId};

/// Why a guard could not be started, or could not be told of a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// The kernel refused.
    #[error("starting the guard: {doing}")]
    Starting {
        /// Which step it was.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What was started is no guard. It has been killed.
    #[error(
        "`{program}` did not become a guard: {}; the first line of its main has to be \
         `scupper_core::guard::run_if_asked()`, or name the program `scupper_guard` by \
         `GuardProgram::At`",
        show_silence(*.waited, *.exit)
    )]
    NoAnswer {
        /// What was started.
        program: String,
        /// How long it was waited for.
        waited: Duration,
        /// How it ended by itself, if it did.
        exit: Option<Exit>,
    },
    /// The guard's program was built from another version of this crate.
    #[error(
        "the guard `{program}` speaks version {theirs} of the protocol and the host {ours}; build \
         both from the same scupper-core"
    )]
    OtherVersion {
        /// What was started.
        program: String,
        /// The host's version.
        ours: u32,
        /// The guard's.
        theirs: u32,
    },
    /// The guard has died. A new one can be started.
    #[error("the guard ({guard}) is gone; start another one with `Guard::start`")]
    Gone {
        /// The guard.
        guard: ProcessId,
    },
    /// The guard lives but does not read, because it is stopped or starved.
    #[error(
        "the guard ({guard}) has read nothing for {waited:?} (`GuardSettings::send_wait`); is it stopped?"
    )]
    Slow {
        /// The guard.
        guard: ProcessId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The guard has been closed.
    #[error("the guard ({guard}) has been closed; close the servers first")]
    Closed {
        /// The guard.
        guard: ProcessId,
    },
    /// The kernel refused.
    #[error("telling the guard ({guard}) of a server")]
    Telling {
        /// The guard.
        guard: ProcessId,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn show_silence(waited: Duration, exit: Option<Exit>) -> String {
    match exit {
        Some(exit) => format!("it ended with {exit} and said nothing"),
        None => format!("it said nothing within {waited:?} and was killed"),
    }
}
