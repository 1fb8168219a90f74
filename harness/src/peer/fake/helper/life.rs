//! What a helper does: it takes its place, says so, and stays. Its whole life is its start.

use std::{
    fs::File,
    io,
    ops::ControlFlow::Break,
    os::fd::AsFd,
    process::{Child, Command, Stdio},
};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{
    super::{
        options::{FakeError, Settings},
        server::{Fault, Flow, Output},
    },
    LIFE, READY, UNTIL, await_ready, begin, linger, ourselves,
};

/// What [`Helper`] can be told: key, default, what it sets.
pub(in crate::peer::fake) const HELPER_OPTIONS: &[(&str, &str, &str)] = &[
    ("setsid", "false", "moves to a session of its own first: true or false"),
    ("forks", "false", "starts the helper proper and leaves, so that this is an orphan"),
    ("until", "killed", "stays until `killed`, until `stdin-ends`, or only until `started`"),
    ("stdout", "null", "once it is ready, its stdout is `null`, or what its `stderr` was"),
    ("tree", "1", "so many processes in all: it starts two more, they start two more each"),
];

/// The helper itself.
pub(in crate::peer::fake) struct Helper {
    setsid: bool,
    forks: bool,
    until: &'static str,
    takes_stderr: bool,
    tree: u32,
}

impl Helper {
    pub(in crate::peer::fake) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        let yes_or_no = "true or false";
        Ok(Box::new(Self {
            setsid: settings.parsed("setsid", yes_or_no)?,
            forks: settings.parsed("forks", yes_or_no)?,
            until: UNTIL[settings.one_of("until", &UNTIL)?],
            takes_stderr: settings.one_of("stdout", &["null", "stderr"])? == 1,
            tree: settings.parsed("tree", "a whole number")?,
        }))
    }

    /// Another one that stays as long as this.
    fn another(&self) -> io::Result<Command> {
        let mut helper = ourselves()?;
        helper.args(["helper", &format!("until={}", self.until)]).stderr(Stdio::null());
        Ok(helper)
    }

    /// The rest of the tree, in two branches that grow at the same time.
    fn branch(&self) -> io::Result<Vec<Child>> {
        let rest = self.tree.saturating_sub(1);
        let halves = [rest / 2, rest - rest / 2].into_iter().filter(|share| *share > 0);
        let mut children = halves
            .map(|share| begin(self.another()?.arg(format!("tree={share}"))))
            .collect::<io::Result<Vec<_>>>()?;
        children.iter_mut().try_for_each(await_ready)?;
        Ok(children)
    }
}

impl Fault for Helper {
    fn on_start(&mut self, out: &Output) -> io::Result<Flow> {
        if self.setsid {
            rustix::process::setsid()?;
        }
        if self.forks {
            await_ready(&mut begin(&mut self.another()?)?)?;
            out.write(READY)?;
            return Ok(Break(0));
        }
        let children = self.branch()?;
        out.write(READY)?;
        // The server reads to the end of this pipe; a helper that kept it would hold it up.
        let null = File::options().write(true).open("/dev/null")?;
        if self.takes_stderr {
            rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
            rustix::stdio::dup2_stderr(null)?;
        } else {
            rustix::stdio::dup2_stdout(null)?;
        }
        match self.until {
            "killed" => linger(),
            "stdin-ends" => wait_for_end_of_stdin()?,
            _ => {}
        }
        for mut child in children {
            child.wait()?;
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
