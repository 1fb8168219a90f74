//! The fault of launchers such as `npx` or `sh -c`: they die of a signal and leave the server.

use std::{
    io,
    ops::ControlFlow::Break,
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Command, ExitStatus},
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal},
};
use signal_hook::consts::SIGTERM;

use super::{
    helper::ourselves,
    options::{FakeError, Settings},
    registry,
    server::{Fault, Flow, Output},
};

/// Starts the real server on its own three streams and waits for it. SIGTERM ends the launcher
/// alone; the twin passes it on and still waits.
pub(super) struct Wrapper {
    fixed: bool,
    inner: String,
}

impl Wrapper {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        let inner = settings.text("inner");
        if registry::find(inner).is_none() {
            return Err(settings.bad_value("inner", "the name of a fake"));
        }
        Ok(Box::new(Self { fixed: settings.fixed(), inner: inner.to_owned() }))
    }
}

impl Fault for Wrapper {
    /// The whole life: a launcher reads and writes nothing itself.
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        let mut server = ourselves()?;
        server.arg(&self.inner);
        let status = if self.fixed { forward(server)? } else { server.status()? };
        Ok(Break(exit_code(status)))
    }
}

/// Runs a server, passes every SIGTERM on to it, and waits for its end.
fn forward(mut server: Command) -> io::Result<ExitStatus> {
    // Before the server starts, so that no signal falls in between.
    let (terms, handler_end) = UnixStream::pair()?;
    terms.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGTERM, handler_end)?;
    let mut server = server.spawn()?;
    let pidfd = rustix::process::pidfd_open(Pid::from_child(&server), PidfdFlags::empty())?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(terms.as_fd(), PollFlags::IN),
        ];
        // Every SIGTERM interrupts the poll too; it is readable at the next.
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
        let (ended, asked) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if ended {
            return server.wait();
        }
        if asked {
            io::Read::read(&mut &terms, &mut [0; 64])?;
            rustix::process::pidfd_send_signal(&pidfd, Signal::TERM)?;
        }
    }
}

/// As shells put it: 128 and the signal for a process that died of one.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
