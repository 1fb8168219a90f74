//! One server in the guard's book, from before its start to after its end.

use std::{fmt, os::fd::BorrowedFd, sync::Arc};

use super::{GuardError, handle::Link};
use crate::process::{Cookie, ProcessId};

/// Dropped, the server is struck off the guard's book: it is gone, or was never there.
pub(crate) struct Ward {
    link: Arc<Link>,
    cookie: Cookie,
    kept: bool,
}

impl Ward {
    pub(super) fn new(link: Arc<Link>, cookie: Cookie) -> Self {
        Self { link, cookie, kept: false }
    }

    /// Hands the guard the pidfd of the leader. By the settings of the guard, one that cannot be
    /// told is an error or a warning.
    pub(crate) fn born(&self, leader: ProcessId, pidfd: BorrowedFd<'_>) -> Result<(), GuardError> {
        let told = self.link.born(self.cookie, leader, pidfd);
        told.or_else(|error| self.link.excuse(error))
    }

    /// The server could not be ended: the guard shall try when the host is gone.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // A guard that is closed or dead has no book.
        if let Err(error) = self.link.strike(self.cookie) {
            tracing::debug!(%error, "the guard was not told that a server is gone");
        }
    }
}

impl fmt::Debug for Ward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ward({}, guard {})", self.cookie, self.link.process)
    }
}
