//! Child processes as group leaders: spawned, named, signalled, awaited, swept and reaped.
//!
//! Two rules hold everywhere. A process is named by pid and start time, because pids are reused.
//! And a leader stays unreaped until its group is empty: as long as it is a zombie, its number can
//! belong to nobody else, so a signal to the group cannot hit a stranger.

mod command;
mod cookie;
mod os;
mod session;
mod strays;
mod sweep;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group,
        pidfd_open, pidfd_send_signal, waitid,
    },
};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::guard::{GuardError, Ward};

pub use command::{Command, SpawnError, Spawned};
pub use sweep::Member;

pub(crate) use command::{Marked, above_stdio};
pub(crate) use cookie::{Cookie, carriers};
pub(crate) use session::{Session, SessionLeader, wait_for, wait_readable};
pub(crate) use strays::Strays;
pub(crate) use sweep::living_in;

/// How long [`ProcessGroup`]'s own `Drop` waits for a killed leader.
const DROP_WAIT: Duration = Duration::from_secs(1);

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time_ticks: u64,
}

impl ProcessId {
    pub(crate) fn new(pid: Pid, start_time_ticks: u64) -> Self {
        Self { pid: pid.as_raw_nonzero().get(), start_time_ticks }
    }

    /// The process that has the number `pid` now.
    ///
    /// # Errors
    /// When there is none, or /proc hides it.
    pub fn of(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "pid 0 names no process"))?;
        Ok(Self::new(pid, sweep::Stat::read(pid)?.start_time_ticks))
    }

    /// Does it still exist, be it as a zombie?
    pub fn exists(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }

    /// SIGKILL to this process and to no later one with its number. One that is gone is no error.
    pub(crate) fn kill(self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            opened => opened?,
        };
        // Compared after the pidfd is held: from here on it stands for whom the number named.
        if self.exists() {
            pidfd_send_signal(&pidfd, Signal::KILL).or_else(nobody_is_fine)?;
        }
        Ok(())
    }

    /// Is it running, that is, not yet a zombie?
    pub fn is_alive(self) -> bool {
        Pid::from_raw(self.pid)
            .and_then(|pid| sweep::Stat::read(pid).ok())
            .is_some_and(|stat| stat.start_time_ticks == self.start_time_ticks && !stat.is_dead())
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}@{}", self.pid, self.start_time_ticks)
    }
}

/// How a process ended (`waitid(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It is gone, but its status went to somebody else: another part of the host waits for every
    /// child, or ignores SIGCHLD.
    Unknown,
}

impl Exit {
    fn of(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::Unknown => f.write_str("unknown status"),
        }
    }
}

/// A child process and the group it leads. The leader is reaped by [`reap`](Self::reap) and by
/// nothing else; dropped unreaped, the group is killed, awaited for at most a second, and reaped.
#[derive(Debug)]
pub struct ProcessGroup {
    pid: Pid,
    id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    /// What it and its helpers carry in their environment, if anything.
    cookie: Option<Cookie>,
    /// Its entry with the guard process, as long as something of the group may be alive.
    ward: Option<Ward>,
    reaped: bool,
}

impl ProcessGroup {
    fn adopt(pid: Pid, cookie: Option<Cookie>) -> io::Result<Self> {
        let watch = || {
            let start_time_ticks = sweep::Stat::read(pid)?.start_time_ticks;
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            let pidfd = os::watch(pidfd)?;
            Ok((ProcessId::new(pid, start_time_ticks), pidfd))
        };
        match watch() {
            Ok((id, pidfd)) => Ok(Self { pid, id, pidfd, cookie, ward: None, reaped: false }),
            Err(error) => {
                // Nobody else knows of the child yet; SIGKILL cannot be refused, so this is short.
                kill_process_group(pid, Signal::KILL).ok();
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).ok();
                Err(error)
            }
        }
    }

    /// Lets the guard process know the group; it forgets it once the group is empty and reaped.
    fn guarded_by(&mut self, ward: Ward) -> Result<(), GuardError> {
        // Kept whether or not the guard could be told: it still has to be told of the end.
        self.ward.insert(ward).born(self.id, self.pidfd.get_ref().as_fd())
    }

    /// What it and its helpers carry in their environment, if anything.
    pub(crate) fn cookie(&self) -> Option<Cookie> {
        self.cookie
    }

    /// The leader.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Has the leader exited? It stays a zombie until reaped.
    ///
    /// # Errors
    /// What `waitid(2)` reports, save that somebody else took the status: that counts as exited.
    pub fn has_exited(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => Ok(status.is_some()),
            Err(Errno::CHILD) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Ready once the leader has exited. One waiter at a time: the last waker given is the one woken.
    ///
    /// # Errors
    /// When the runtime that watches the pidfd has been shut down.
    pub fn poll_exited(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.pidfd.poll_read_ready(cx))?;
        guard.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// Signals every member of the group, the leader too if it moved to another one.
    ///
    /// # Errors
    /// What `kill(2)` reports, save that nobody was left to signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.number_is_a_strangers() {
            return Ok(());
        }
        if sabotaged!(LeaderSignalledAlone) {
            return Ok(pidfd_send_signal(self.pidfd.as_fd(), signal).or_else(nobody_is_fine)?);
        }
        if !self.has_exited()? && os::group_of(self.pid).ok() != Some(self.id.pid) {
            pidfd_send_signal(self.pidfd.as_fd(), signal).or_else(nobody_is_fine)?;
        }
        kill_process_group(self.pid, signal).or_else(nobody_is_fine)?;
        Ok(())
    }

    /// The living members besides the leader. Dead ones that this process adopted are reaped.
    ///
    /// # Errors
    /// When /proc cannot be listed.
    pub fn members(&self) -> io::Result<Vec<Member>> {
        if self.number_is_a_strangers() {
            return Ok(Vec::new());
        }
        sweep::living_members(self.pid)
    }

    /// Takes the exit status of a leader that has exited; `None` while it runs.
    ///
    /// # Errors
    /// What `waitid(2)` reports.
    pub fn reap(&mut self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let exit = match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => Exit::of(&status),
            Ok(None) => return Ok(None),
            Err(Errno::CHILD) => Exit::Unknown,
            Err(error) => return Err(error.into()),
        };
        sabotaged!(PidfdKept => crate::sabotage::keep_copy(self.pidfd.get_ref()));
        self.reaped = true;
        self.ward = None;
        Ok(Some(exit))
    }

    /// Gives up on a leader that will not end: `Drop` then does nothing. The guard keeps it.
    pub(crate) fn disown(mut self) {
        self.reaped = true;
        if let Some(ward) = self.ward.take() {
            ward.keep();
        }
    }

    /// Only where another part of the host reaped the leader can its number have a new owner. While
    /// a member lives the kernel does not hand the number out, so a new owner means an empty group.
    fn number_is_a_strangers(&self) -> bool {
        sweep::Stat::read(self.pid)
            .is_ok_and(|stat| stat.start_time_ticks != self.id.start_time_ticks)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let deadline = Instant::now() + DROP_WAIT;
        while Instant::now() < deadline {
            self.signal(Signal::KILL).ok();
            let alone = self.members().is_ok_and(|members| members.is_empty());
            if alone && matches!(self.reap(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        tracing::error!(process = %self.id, "a killed process group did not end within a second");
        if let Some(ward) = self.ward.take() {
            ward.keep();
        }
    }
}

/// Signals exactly the group that the process of this pidfd leads or led, also once it is reaped.
///
/// # Errors
/// `EINVAL` before Linux 6.9, `ESRCH` where the group is empty.
pub(crate) fn signal_led_group(leader: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    os::signal_led_group(leader, signal)
}

/// Registers a pidfd with the current tokio runtime.
///
/// # Errors
/// What `epoll_ctl(2)` reports.
pub(crate) fn watch_pidfd(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    os::watch(pidfd)
}

fn nobody_is_fine(error: Errno) -> Result<(), Errno> {
    match error {
        Errno::SRCH => Ok(()),
        error => Err(error),
    }
}
