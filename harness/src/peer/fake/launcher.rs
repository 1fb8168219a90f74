//! Faults of launchers such as `npx` or `sh -c`: they die of a signal and leave the server, or keep
//! the end of stdin from it.

use std::{
    io::{self, Write},
    ops::ControlFlow::Break,
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Command, ExitStatus, Stdio},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal},
};
use signal_hook::consts::SIGTERM;

use super::{
    helper::{linger, ourselves},
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
        Ok(Box::new(Self { fixed: settings.fixed(), inner: inner(settings)? }))
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

/// Starts the real server on a pipe of its own, into which it copies what the client writes. When
/// the client ends stdin, the launcher keeps that pipe open and waits for the server, which waits
/// for its end. The twin closes it.
pub(super) struct HoldsStdin {
    fixed: bool,
    inner: String,
}

impl HoldsStdin {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self { fixed: settings.fixed(), inner: inner(settings)? }))
    }
}

impl Fault for HoldsStdin {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        let mut server = ourselves()?.arg(&self.inner).stdin(Stdio::piped()).spawn()?;
        let mut servers_stdin = server.stdin.take().expect("stdin was asked for as a pipe");
        let fixed = self.fixed;
        let copy = move || {
            // A server that is gone takes no more; the launcher then ends as well.
            let copied = copy_stdin(&mut servers_stdin);
            if copied.is_ok() && !fixed {
                linger();
            }
        };
        thread::Builder::new().name("copy stdin".into()).spawn(copy)?;
        Ok(Break(exit_code(server.wait()?)))
    }
}

/// Copies stdin up to its end. The descriptor itself is read: the server below every fault has the
/// standard library's lock on it.
fn copy_stdin(to: &mut impl Write) -> io::Result<()> {
    let mut chunk = [0; 8192];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut chunk))? {
            0 => return Ok(()),
            count => to.write_all(&chunk[..count])?,
        }
    }
}

/// The name of the fake that a launcher starts.
fn inner(settings: &Settings) -> Result<String, FakeError> {
    let inner = settings.text("inner");
    match registry::find(inner) {
        Some(_) => Ok(inner.to_owned()),
        None => Err(settings.bad_value("inner", "the name of a fake")),
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
