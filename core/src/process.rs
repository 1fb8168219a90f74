//! Child processes as group leaders: spawned, named, signalled, awaited, swept and reaped.
//!
//! Two rules hold everywhere. A process is named by pid and start time, because pids are reused.
//! And a group is signalled by its number only while its leader is unreaped: a zombie keeps the number,
//! so no stranger is hit. Once the leader is reaped, the group is known by the leader's pidfd, which
//! stands for it and for no later one; where the kernel cannot do that (before Linux 6.9), the leader
//! is reaped last.

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

/// A child process and the group it leads. Only [`reap`](Self::reap) ends it; dropped before that, the
/// group is killed, awaited for at most a second, and its leader reaped.
#[derive(Debug)]
pub struct ProcessGroup {
    pid: Pid,
    id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    /// What it and its helpers carry in their environment, if anything.
    cookie: Option<Cookie>,
    /// Its entry with the guard process, as long as something of the group may be alive.
    ward: Option<Ward>,
    leader: Leader,
    #[cfg(test)]
    before_linux_6_9: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    /// Alive, or a zombie: the number is the group's.
    Unreaped,
    /// Its status was taken before the group was known to be empty: only the pidfd names the group now.
    ReapedFirst(Exit),
    /// Nothing is left to do.
    Over,
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
            Ok((id, pidfd)) => Ok(Self {
                pid,
                id,
                pidfd,
                cookie,
                ward: None,
                leader: Leader::Unreaped,
                #[cfg(test)]
                before_linux_6_9: false,
            }),
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
        if sabotaged!(LeaderSignalledAlone) {
            return Ok(pidfd_send_signal(self.pidfd.as_fd(), signal).or_else(nobody_is_fine)?);
        }
        if matches!(self.leader, Leader::ReapedFirst(_)) {
            return Ok(
                os::signal_led_group(self.pidfd.as_fd(), Some(signal)).or_else(nobody_is_fine)?
            );
        }
        if self.number_is_a_strangers() {
            return Ok(());
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
        if self.is_empty() || self.number_is_a_strangers() {
            return Ok(Vec::new());
        }
        let members = sweep::living_members(self.pid)?;
        // A group that has no member now may have had none before the list was made, and its number
        // another owner. One that has a member has kept its number.
        Ok(if self.is_empty() { Vec::new() } else { members })
    }

    /// Is it certain that the group has no member any more, neither alive nor dead? What is empty
    /// stays empty: a group without members cannot be joined. Asked of the kernel in one call, once
    /// the leader has been [reaped first](Self::reap_first); until then its own zombie is a member.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.leader, Leader::ReapedFirst(_))
            && os::signal_led_group(self.pidfd.as_fd(), None) == Err(Errno::SRCH)
    }

    /// Takes the exit status of a leader that has exited although members may be alive, who can still
    /// be signalled and listed afterwards; [`reap`](Self::reap) ends it. `None` while the leader runs,
    /// and where the kernel cannot name a group by pidfd: then nothing is done.
    ///
    /// # Errors
    /// What `waitid(2)` reports.
    pub(crate) fn reap_first(&mut self) -> io::Result<Option<Exit>> {
        if let Leader::ReapedFirst(exit) = self.leader {
            return Ok(Some(exit));
        }
        // The leader is still a member, so that any error means that this cannot be asked here:
        // before Linux 6.9, under a filter of system calls, or of a server with rights above ours.
        #[cfg(test)]
        if self.before_linux_6_9 {
            return Ok(None);
        }
        if os::signal_led_group(self.pidfd.as_fd(), None).is_err() {
            return Ok(None);
        }
        let exit = self.take_status()?;
        if let Some(exit) = exit {
            self.leader = Leader::ReapedFirst(exit);
        }
        Ok(exit)
    }

    /// Takes the exit status of a leader that has exited; `None` while it runs.
    ///
    /// # Errors
    /// What `waitid(2)` reports.
    pub fn reap(&mut self) -> io::Result<Option<Exit>> {
        let exit = match self.leader {
            Leader::ReapedFirst(exit) => Some(exit),
            Leader::Unreaped | Leader::Over => self.take_status()?,
        };
        if exit.is_some() {
            sabotaged!(PidfdKept => crate::sabotage::keep_copy(self.pidfd.get_ref()));
            self.leader = Leader::Over;
            self.ward = None;
        }
        Ok(exit)
    }

    fn take_status(&self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => Ok(status.as_ref().map(Exit::of)),
            Err(Errno::CHILD) => Ok(Some(Exit::Unknown)),
            Err(error) => Err(error.into()),
        }
    }

    /// As if the kernel could not name a group by the pidfd of its leader.
    #[cfg(test)]
    pub(crate) fn pretend_before_linux_6_9(&mut self) {
        self.before_linux_6_9 = true;
    }

    /// Gives up on a leader that will not end: `Drop` then does nothing. The guard keeps it.
    pub(crate) fn disown(mut self) {
        self.leader = Leader::Over;
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
        if self.leader == Leader::Over {
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
    Ok(os::signal_led_group(leader, Some(signal))?)
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
