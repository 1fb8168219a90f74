//! A child in a session of its own, for which no runtime is needed.

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
    },
};

use super::{Exit, ProcessId, above_stdio, os, sweep::Stat};

/// How long a killed one may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(1);

/// What to start as the leader of a session.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) program: &'a Path,
    /// `argv`, the program's own name first.
    pub(crate) arguments: Vec<OsString>,
    /// All of its environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// What it has as descriptor 0; 1 and 2 lead to /dev/null, and there are no others.
    pub(crate) stdin: BorrowedFd<'a>,
}

impl Session<'_> {
    /// Starts it in the root directory, with every signal blocked that can be.
    ///
    /// # Errors
    /// A string with a NUL byte, or what the kernel reports.
    pub(crate) fn spawn(&self) -> io::Result<SessionLeader> {
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let null = above_stdio(null)?;
        let arguments =
            self.arguments.iter().map(|text| c_string(text)).collect::<io::Result<Vec<_>>>()?;
        let environment = self
            .environment
            .iter()
            .map(|(name, value)| {
                let mut pair = name.clone();
                pair.push("=");
                pair.push(value);
                c_string(&pair)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let pid = os::spawn(&os::Birth {
            path: &c_string(self.program.as_os_str())?,
            arguments: &arguments,
            environment: &environment,
            directory: Some(c"/"),
            stdio: [self.stdin, null.as_fd(), null.as_fd()],
            leads: os::Leads::Session,
        })?;
        SessionLeader::adopt(pid)
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::from)
}

/// The child. Dropped unreaped, it is killed, awaited for at most a second, and reaped.
#[derive(Debug)]
pub(crate) struct SessionLeader {
    id: ProcessId,
    pidfd: OwnedFd,
    reaped: bool,
}

impl SessionLeader {
    fn adopt(pid: Pid) -> io::Result<Self> {
        let watch = || {
            let start_time_ticks = Stat::read(pid)?.start_time_ticks;
            Ok((ProcessId::new(pid, start_time_ticks), pidfd_open(pid, PidfdFlags::empty())?))
        };
        watch().map(|(id, pidfd)| Self { id, pidfd, reaped: false }).inspect_err(|_| {
            // Our own unreaped child: its number cannot be a stranger's.
            rustix::process::kill_process(pid, Signal::KILL).ok();
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).ok();
        })
    }

    pub(crate) fn id(&self) -> ProcessId {
        self.id
    }

    /// Readable once it has exited.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits by blocking; `None` if it still runs then.
    ///
    /// # Errors
    /// What `waitid(2)` reports, save that somebody else took the status: [`Exit::Unknown`].
    pub(crate) fn reap_within(&mut self, wait: Duration) -> io::Result<Option<Exit>> {
        wait_readable(self.pidfd.as_fd(), wait)?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let exit = match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => Exit::of(&status),
            Ok(None) => return Ok(None),
            Err(Errno::CHILD) => Exit::Unknown,
            Err(error) => return Err(error.into()),
        };
        self.reaped = true;
        Ok(Some(exit))
    }

    /// SIGKILL, then waits for a second at most.
    ///
    /// # Errors
    /// As [`reap_within`](Self::reap_within).
    pub(crate) fn kill(&mut self) -> io::Result<Option<Exit>> {
        // Gone already is what is wanted.
        pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
        self.reap_within(KILL_WAIT)
    }
}

impl Drop for SessionLeader {
    fn drop(&mut self) {
        if !self.reaped && !matches!(self.kill(), Ok(Some(_))) {
            tracing::error!(process = %self.id, "a killed process did not end within a second");
        }
    }
}

/// Blocks until there is something to read, or an end; false if the time ran out before.
///
/// # Errors
/// What `poll(2)` reports, save an interruption.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, wait: Duration) -> io::Result<bool> {
    wait_for(fd, PollFlags::IN, wait)
}

/// Blocks until one of the events is there; false if the time ran out before.
///
/// # Errors
/// What `poll(2)` reports, save an interruption.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, events: PollFlags, wait: Duration) -> io::Result<bool> {
    let began = Instant::now();
    loop {
        let left = wait.saturating_sub(began.elapsed());
        // A wait that no Timespec can hold is as good as none.
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::from_borrowed_fd(fd, events)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
