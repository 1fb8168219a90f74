//! Processes that fakes start: our own binary again, as the internal fake `helper`, so that a
//! leaked one has a telling command line and depends on nothing installed. `life` is what such a
//! process does.

mod life;

use std::{
    io::{self, PipeReader, PipeWriter, Read},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub(super) use self::life::{HELPER_OPTIONS, Helper};

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

/// How a helper is tied to the server that starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// It lives in the server's session and process group.
    Group,
    /// It lives in a session of its own, out of reach of signals to the server's group.
    OwnSession,
    /// As daemons start: in a session of its own, and the process between it and the server is
    /// gone.
    DoubleFork,
    /// It lives in the server's process group, and its stdout is the server's.
    Stdout,
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
#[derive(Clone, Copy)]
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
/// group right after cannot catch it half-way. It shares none of the server's three streams, but
/// for [`Tie::Stdout`].
pub(super) fn spawn(tie: Tie, until: Until) -> io::Result<Child> {
    let mut helper = helper_until(until)?;
    match tie {
        Tie::Group => &mut helper,
        Tie::OwnSession => helper.arg("setsid=true"),
        Tie::DoubleFork => helper.args(["setsid=true", "forks=true"]),
        // Its own stdout is where it says that it is ready; it takes over this one then.
        Tie::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            helper.arg("stdout=stderr").stderr(stdout)
        }
    };
    let mut child = begin(&mut helper)?;
    await_ready(&mut child)?;
    if tie == Tie::DoubleFork {
        // The one between; the helper itself is nobody's child any more.
        child.wait()?;
    }
    Ok(child)
}

/// Starts a helper in a session of its own that has this as its stdin, and stays.
pub(super) fn spawn_with(stdin: OwnedFd) -> io::Result<Child> {
    let mut child = begin(helper_until(Until::Killed)?.arg("setsid=true").stdin(stdin))?;
    await_ready(&mut child)?;
    Ok(child)
}

/// Starts a helper that starts helpers which start helpers, so many in all, and returns when all
/// of them stand.
pub(super) fn spawn_tree(until: Until, processes: u32) -> io::Result<Child> {
    let mut child = begin(helper_until(until)?.arg(format!("tree={processes}")))?;
    await_ready(&mut child)?;
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

fn helper_until(until: Until) -> io::Result<Command> {
    let (until, stdin) = match until {
        Until::Killed => (UNTIL[0], Stdio::null()),
        Until::ServerEnds(lifeline) => (UNTIL[1], lifeline.reader.try_clone()?.into()),
        Until::Started => (UNTIL[2], Stdio::null()),
    };
    let mut helper = ourselves()?;
    helper.args(["helper", &format!("until={until}")]).stdin(stdin).stderr(Stdio::null());
    Ok(helper)
}

fn begin(helper: &mut Command) -> io::Result<Child> {
    helper.stdout(Stdio::piped()).spawn()
}

/// Waits until a helper says that it is where it should be. One that is not is ended.
fn await_ready(child: &mut Child) -> io::Result<()> {
    let mut said = Vec::new();
    let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
    stdout.take(READY.len() as u64 + 1).read_to_end(&mut said)?;
    if said != READY {
        child.kill()?;
        let status = child.wait()?;
        return Err(io::Error::other(format!("helper ended before it was ready: {status}")));
    }
    Ok(())
}
