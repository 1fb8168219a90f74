//! Faults of launchers such as `npx` or `sh -c`, and of gateways: they die of a signal and leave the
//! server, keep the end of stdin from it, or leave it when their client has gone.

use std::{
    io::{self, BufRead, BufReader, Write},
    ops::ControlFlow::Break,
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{
    helper::{end, linger, ourselves},
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

/// Relays between its client and a server of its own, and exits when the client has gone: it ends
/// that server's stdin, and does not look whether the server minds. The twin ends the server itself
/// and waits for it.
pub(super) struct Gateway {
    fixed: bool,
    inner: String,
}

impl Gateway {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self { fixed: settings.fixed(), inner: inner(settings)? }))
    }
}

impl Fault for Gateway {
    fn on_start(&mut self, out: &Output) -> io::Result<Flow> {
        let backend = Arc::new(Mutex::new(None));
        if self.fixed {
            ends_upon_signals(&backend)?;
        }
        let mut server = ourselves()?;
        server.arg(&self.inner).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Held meanwhile, so that a signal finds either no server or this one.
        let mut held = lock(&backend);
        let mut server = server.spawn()?;
        let mut servers_stdin = server.stdin.take().expect("stdin was asked for as a pipe");
        let servers_stdout = server.stdout.take().expect("stdout was asked for as a pipe");
        *held = Some(server);
        drop(held);
        let out = out.clone();
        let relay = move || {
            let mut reader = BufReader::new(servers_stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                if out.write(&line).is_err() {
                    return;
                }
                line.clear();
            }
        };
        thread::Builder::new().name("copy stdout".into()).spawn(relay)?;
        // A server that is gone takes no more, which is an end like that of the client.
        let _ = copy_stdin(&mut servers_stdin);
        drop(servers_stdin);
        if self.fixed {
            lock(&backend).take().map(end).transpose()?;
        }
        Ok(Break(0))
    }
}

/// From now on ends this server upon SIGTERM and SIGINT, and then does what they do to whoever takes
/// no notice of them.
fn ends_upon_signals(server: &Arc<Mutex<Option<Child>>>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let server = Arc::clone(server);
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            let mut server = lock(&server);
            // One that is gone already needs no end.
            let _ = server.take().map(end);
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

/// Every change is one step, so that a holder that panicked leaves it right.
fn lock(server: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
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
