//! Waits and limits, with their defaults.

use std::time::Duration;

/// Waits and limits of one stdio connection. Make one with [`Default`] and change what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long [`connect`](super::StdioServer::connect) waits for the handshake. Default 30 s.
    pub connect_wait: Duration,
    /// How long the answer to `server/discover` may take before the server counts as one that does
    /// not know the request, and gets `initialize`. Only with `ClientLifecycleMode::Auto`, and part
    /// of `connect_wait`. Default 5 s; rmcp alone waits 10 s.
    pub probe_wait: Duration,
    /// From the end of stdin to SIGTERM. Default 2 s.
    pub first_grace: Duration,
    /// From SIGTERM to SIGKILL. Default 2 s.
    pub second_grace: Duration,
    /// How long a killed process may take to be gone, and again a killed helper, before it is given
    /// up and reported. Default 5 s; longer than an instant only under uninterruptible I/O.
    pub kill_wait: Duration,
    /// How long a drop may block for a killed server to be gone. Default 1 s.
    pub drop_wait: Duration,
    /// Also ends helpers that left the group (`setsid(2)`): the server's environment gets a cookie,
    /// `SCUPPER_COOKIE`, and once the group is empty the end looks through `/proc` for living
    /// processes that carry it, kills them, and looks again until two consecutive looks find none,
    /// within [`kill_wait`](Self::kill_wait). A drop does the same within
    /// [`drop_wait`](Self::drop_wait).
    ///
    /// Each look is one pass over `/proc/PID/environ`, ten to twenty microseconds a process of the
    /// machine, and an end takes two. Only processes of our own user can be read, and one that cleared or overwrote its environment is
    /// not found; nor is one that forks and exits faster than two passes. Default off.
    pub sweep_cookie: bool,
    /// The longest line accepted from stdout, in bytes. A longer one ends the connection. Default
    /// 16 MiB, as rmcp's own transports.
    pub stdout_line_limit_bytes: usize,
    /// How many bytes may wait for a server that is slow to read its stdin; beyond, a send fails.
    /// Default 64 MiB.
    pub stdin_backlog_limit_bytes: usize,
    /// How many lines of stderr are kept, the latest ones. Default 256.
    pub stderr_lines: usize,
    /// How much of each is kept, in bytes. Default 4096.
    pub stderr_line_limit_bytes: usize,
}

impl Settings {
    /// How long a close may take at most, if every rung of the ladder is needed.
    pub fn longest_end(&self) -> Duration {
        let graces = self.first_grace.saturating_add(self.second_grace);
        graces.saturating_add(self.kill_wait).saturating_add(self.kill_wait)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_wait: Duration::from_secs(30),
            probe_wait: Duration::from_secs(5),
            first_grace: Duration::from_secs(2),
            second_grace: Duration::from_secs(2),
            kill_wait: Duration::from_secs(5),
            drop_wait: Duration::from_secs(1),
            sweep_cookie: false,
            stdout_line_limit_bytes: 16 * 1024 * 1024,
            stdin_backlog_limit_bytes: 64 * 1024 * 1024,
            stderr_lines: 256,
            stderr_line_limit_bytes: 4096,
        }
    }
}
