//! Where the guard's program is, and its waits.

use std::{path::PathBuf, time::Duration};

use super::Entrance;

/// What a guard is started with. Make one with [`new`](Self::new) and change what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// The executable.
    pub program: GuardProgram,
    /// From the death of the host to SIGKILL, for servers that end when their stdin does. Default
    /// 500 ms.
    pub grace: Duration,
    /// How long the guard goes on killing and looking before it gives up. Default 10 s; longer than
    /// an instant only under uninterruptible I/O.
    pub kill_wait: Duration,
    /// When the host has died, also ends helpers that left the groups of the servers that ran then,
    /// by the cookie in their environment. Costs the guard one pass over `/proc/PID/environ` a look.
    /// Default off.
    pub sweep_cookie: bool,
    /// How long [`Guard::start`](super::Guard::start) waits for the guard to answer. Default 5 s.
    pub start_wait: Duration,
    /// How long the start of a server may wait for a guard that does not read. Default 1 s; a
    /// message costs microseconds as long as the guard runs.
    pub send_wait: Duration,
    /// How long [`Guard::close`](super::Guard::close) waits before it kills the guard. Default 1 s.
    pub close_wait: Duration,
    /// What becomes of the start of a server when the guard cannot be told of it. Default: refused.
    pub when_lost: WhenLost,
}

impl GuardSettings {
    /// The defaults, with this executable.
    pub fn new(program: GuardProgram) -> Self {
        Self {
            program,
            grace: Duration::from_millis(500),
            kill_wait: Duration::from_secs(10),
            sweep_cookie: false,
            start_wait: Duration::from_secs(5),
            send_wait: Duration::from_secs(1),
            close_wait: Duration::from_secs(1),
            when_lost: WhenLost::default(),
        }
    }
}

/// The executable of a guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardProgram {
    /// The host's own, by `/proc/self/exe`. The entrance proves that its main has the line.
    Own(Entrance),
    /// This one, which calls [`run_if_asked`](super::run_if_asked) first: `scupper_guard` of this
    /// crate, or the host's own launcher. A relative path starts at the host's directory.
    At(PathBuf),
}

/// What to do when the guard is dead, closed, or does not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenLost {
    /// The server is not started: [`SpawnError::Unguarded`](crate::process::SpawnError::Unguarded).
    #[default]
    Refuse,
    /// The server is started unguarded, and a warning traced.
    GoUnguarded,
}
