//! The host's side of the socket, shared by whoever starts servers.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    GuardError, Ward, WhenLost,
    wire::{self, Message},
};
use crate::process::{Cookie, ProcessId, SessionLeader, wait_readable, watch_pidfd};

/// A hold on the guard, for starting servers with. Clones share it, and dropping them ends nothing.
#[derive(Clone)]
pub struct GuardHandle {
    pub(super) link: Arc<Link>,
}

pub(super) struct Link {
    pub(super) process: ProcessId,
    pub(super) send_wait: Duration,
    pub(super) when_lost: WhenLost,
    /// Absent once closed.
    pub(super) line: Mutex<Option<Line>>,
}

pub(super) struct Line {
    pub(super) socket: OwnedFd,
    pub(super) leader: SessionLeader,
    /// How many servers it has been told of and not been told the end of.
    pub(super) wards: usize,
    /// It was waited for in vain the last time: not again, until it has read something.
    pub(super) slow: bool,
}

impl GuardHandle {
    /// The guard's process.
    pub fn process(&self) -> ProcessId {
        self.link.process
    }

    /// Is it there, neither closed nor dead?
    pub fn is_alive(&self) -> bool {
        self.link.lock().as_ref().is_some_and(|line| {
            wait_readable(line.leader.pidfd(), Duration::ZERO).is_ok_and(|exited| !exited)
        })
    }

    /// Waits until the guard is gone, closed or killed. Inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub async fn ended(&self) -> io::Result<()> {
        let pidfd = match &*self.link.lock() {
            Some(line) => line.leader.pidfd().try_clone_to_owned()?,
            None => return Ok(()),
        };
        watch_pidfd(pidfd)?.readable().await?.retain_ready();
        Ok(())
    }

    /// Tells the guard that a child with this cookie is about to be. `None` where it may run
    /// unguarded and does.
    pub(crate) fn announce(&self, cookie: Cookie) -> Result<Option<Ward>, GuardError> {
        match self.link.announce(cookie) {
            Ok(()) => Ok(Some(Ward::new(Arc::clone(&self.link), cookie))),
            Err(error) => self.link.excuse(error).map(|()| None),
        }
    }
}

impl fmt::Debug for GuardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardHandle({})", self.process())
    }
}

impl Link {
    /// That a server is about to be. Waits for room, for a bounded time.
    fn announce(&self, cookie: Cookie) -> Result<(), GuardError> {
        self.tell(&Message::Announced(cookie), None, self.send_wait, |wards| wards + 1)
    }

    /// That it is there. Waits for room, for a bounded time.
    pub(super) fn born(
        &self,
        cookie: Cookie,
        leader: ProcessId,
        pidfd: BorrowedFd<'_>,
    ) -> Result<(), GuardError> {
        self.tell(&Message::Born { cookie, leader }, Some(pidfd), self.send_wait, |wards| wards)
    }

    /// That it is gone. Never waits, because ends must not: what stays in the book of a guard that
    /// does not read is a pidfd and a cookie of nobody, and harms nobody.
    pub(super) fn strike(&self, cookie: Cookie) -> Result<(), GuardError> {
        self.tell(&Message::Struck(cookie), None, Duration::ZERO, |wards| wards.saturating_sub(1))
    }

    fn tell(
        &self,
        message: &Message,
        fd: Option<BorrowedFd<'_>>,
        wait: Duration,
        wards: impl Fn(usize) -> usize,
    ) -> Result<(), GuardError> {
        let guard = self.process;
        let mut line = self.lock();
        let line = line.as_mut().ok_or(GuardError::Closed { guard })?;
        let waited = if line.slow { Duration::ZERO } else { wait };
        let sent = wire::send(line.socket.as_fd(), message, fd, waited);
        line.slow = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::TimedOut);
        sent.map_err(|source| match source.kind() {
            _ if wire::is_gone(&source) => GuardError::Gone { guard },
            io::ErrorKind::TimedOut => GuardError::Slow { guard, waited: self.send_wait },
            _ => GuardError::Telling { guard, source },
        })?;
        line.wards = wards(line.wards);
        Ok(())
    }

    /// By the settings, a guard that cannot be told is an error or a warning.
    pub(super) fn excuse(&self, error: GuardError) -> Result<(), GuardError> {
        match self.when_lost {
            WhenLost::Refuse => Err(error),
            WhenLost::GoUnguarded => {
                tracing::warn!(%error, "a server runs unguarded");
                Ok(())
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
