//! Processes that fakes start: our own binary again, as the internal fake `helper`, so that a
//! leaked one has a telling command line and depends on nothing installed.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read},
    ops::ControlFlow::Break,
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{
    options::{FakeError, Settings},
    server::{Fault, Flow, Output},
};

/// The longest anything stays that is meant to stay for ever. Far longer than any case lasts, and
/// short enough that nothing remains on a developer's machine when a case forgets it.
const LIFE: Duration = Duration::from_secs(600);

/// What a helper writes to its stdout once it is where it should be.
const READY: &[u8] = b"ready\n";

/// Stays for the rest of [`LIFE`], where the fault is to stay.
pub(super) fn linger() {
    let end = Instant::now() + LIFE;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Which session a helper lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// One of its own, out of reach of signals to the server's group.
    Own,
    /// The server's, and its process group.
    Servers,
}

/// A pipe whose ends only the server holds. Helpers get a copy of its reading end as stdin, which
/// ends when the server does, in whatever way that happens.
pub(super) struct Lifeline {
    reader: PipeReader,
    _writer: PipeWriter,
}

impl Lifeline {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { reader, _writer: writer })
    }
}

/// When a helper ends.
pub(super) enum Until<'a> {
    /// When somebody kills it, or at last after [`LIFE`].
    Killed,
    /// When the server ends.
    ServerEnds(&'a Lifeline),
    /// At once.
    Started,
}

/// [`Until`] as the helper's option spells it, in the same order.
const UNTIL: [&str; 3] = ["killed", "stdin-ends", "started"];

/// Starts a helper and returns when it is where it should be, so that a signal to the server's
/// group right after cannot catch it half-way. It shares none of the server's three streams.
pub(super) fn spawn(session: Session, until: Until) -> io::Result<Child> {
    let (until, stdin) = match until {
        Until::Killed => (UNTIL[0], Stdio::null()),
        Until::ServerEnds(lifeline) => (UNTIL[1], lifeline.reader.try_clone()?.into()),
        Until::Started => (UNTIL[2], Stdio::null()),
    };
    let mut child = ourselves()?
        .arg("helper")
        .arg(format!("setsid={}", session == Session::Own))
        .arg(format!("until={until}"))
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = Vec::new();
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    stdout.take(READY.len() as u64 + 1).read_to_end(&mut said)?;
    if said != READY {
        let status = end(child)?;
        return Err(io::Error::other(format!("helper ended before it was ready: {status}")));
    }
    Ok(child)
}

/// Ends a helper and waits for it. Killing one that is dead but not reaped does nothing.
pub(super) fn end(mut child: Child) -> io::Result<std::process::ExitStatus> {
    child.kill()?;
    child.wait()
}

/// `scupper fake`, to be completed.
pub(super) fn ourselves() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("fake");
    Ok(command)
}

/// The helper itself; its whole life is its start.
pub(super) struct Helper {
    setsid: bool,
    until: &'static str,
}

impl Helper {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self {
            setsid: settings.parsed("setsid", "true or false")?,
            until: UNTIL[settings.one_of("until", &UNTIL)?],
        }))
    }
}

impl Fault for Helper {
    fn on_start(&mut self, out: &Output) -> io::Result<Flow> {
        if self.setsid {
            rustix::process::setsid()?;
        }
        out.write(READY)?;
        // The server reads to the end of this pipe; a helper that kept it would hold it up.
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        match self.until {
            "killed" => linger(),
            "stdin-ends" => wait_for_end_of_stdin()?,
            _ => {}
        }
        Ok(Break(0))
    }
}

/// Waits for the end of stdin, into which nobody writes, but no longer than [`LIFE`].
fn wait_for_end_of_stdin() -> io::Result<()> {
    let stdin = io::stdin();
    let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
    let life = Timespec { tv_sec: LIFE.as_secs() as i64, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&life)))?;
    Ok(())
}
