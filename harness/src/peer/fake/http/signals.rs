//! SIGTERM and SIGINT as something to poll.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The signals that ask a server to end, in the order in which they come.
pub(super) struct Signals(UnixStream);

impl Signals {
    /// Takes both signals from now on.
    pub(super) fn take() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGTERM, writer.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, writer)?;
        Ok(Self(reader))
    }

    /// Takes one that has come, if one has.
    pub(super) fn next(&self) -> bool {
        matches!(Read::read(&mut &self.0, &mut [0; 1]), Ok(1))
    }

    /// Waits until one comes, but no longer than this; tells whether one did, and takes it.
    pub(super) fn within(&self, time: Duration) -> io::Result<bool> {
        let time = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&time)))?;
        Ok(self.next())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
