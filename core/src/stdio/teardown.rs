//! How a server ended: why, by which rungs, in what time, and what it left behind.

use std::{fmt, sync::Arc, time::Duration};

use crate::process::{Exit, Member, ProcessId};

/// Why a connection ended: the first cause counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndCause {
    /// The owner closed it.
    Closed,
    /// The owner asked for SIGKILL at once.
    Killed,
    /// The server exited by itself.
    ServerExited,
    /// The stdout of the server ended: it closed it, or it is exiting.
    StdoutEnded,
    /// The server closed its stdin: a write found a broken pipe.
    BrokenPipe,
    /// The server sent a line longer than the limit, in bytes.
    LineTooLong(usize),
    /// Reading or writing failed in another way; the details are traced.
    PipeError,
    /// The transport was dropped and nobody had closed it.
    DroppedWithoutClose,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndCause::Closed => f.write_str("closed"),
            EndCause::Killed => f.write_str("killed on request"),
            EndCause::ServerExited => f.write_str("the server exited"),
            EndCause::StdoutEnded => f.write_str("the stdout of the server ended"),
            EndCause::BrokenPipe => f.write_str("the server closed its stdin"),
            EndCause::LineTooLong(limit) => {
                write!(f, "the server sent a line of more than {limit} bytes")
            }
            EndCause::PipeError => f.write_str("a pipe failed"),
            EndCause::DroppedWithoutClose => f.write_str("dropped without close"),
        }
    }
}

/// One thing the ladder did or saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The host's end of stdin was closed.
    StdinClosed,
    /// SIGTERM went to the group.
    Terminated,
    /// SIGKILL went to the group because the leader overstayed, or because nobody may wait.
    Killed,
    /// The leader was seen to have exited.
    Exited,
    /// Nobody was left in the group, nor of its strays where they are looked for.
    Swept,
    /// The leader's status was taken: it is gone from the process table. Before [`Swept`](Self::Swept)
    /// where the kernel can name a group without its leader (Linux 6.9), after it elsewhere.
    Reaped,
    /// Something would not end and was left behind; [`Teardown::problems`] names it.
    GaveUp,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rung::StdinClosed => "stdin closed",
            Rung::Terminated => "SIGTERM",
            Rung::Killed => "SIGKILL",
            Rung::Exited => "exited",
            Rung::Swept => "swept",
            Rung::Reaped => "reaped",
            Rung::GaveUp => "gave up",
        })
    }
}

/// How a server ended.
#[derive(Clone, Debug)]
#[must_use = "it tells whether the server had to be killed and what it left behind"]
pub struct Teardown {
    /// The server's name.
    pub name: Arc<str>,
    /// Its process.
    pub process: ProcessId,
    /// Why the connection ended.
    pub cause: EndCause,
    /// Each rung with its time since the end began, in order.
    pub rungs: Vec<(Rung, Duration)>,
    /// How the leader ended; `None` if it could not be ended.
    pub exit: Option<Exit>,
    /// Who else was in the group when it was killed or swept, helpers the server left behind; and
    /// with [`Settings::sweep_cookie`](super::Settings::sweep_cookie) those that had left the group, marked so.
    pub swept: Vec<Member>,
    /// Steps that failed; the others were done all the same.
    pub problems: Vec<String>,
    /// From the beginning of the end to the last rung.
    pub took: Duration,
}

impl Teardown {
    /// When `rung` was reached, since the end began.
    pub fn at(&self, rung: Rung) -> Option<Duration> {
        self.rungs.iter().find(|(reached, _)| *reached == rung).map(|(_, at)| *at)
    }

    /// Did the leader have to be killed?
    pub fn was_forced(&self) -> bool {
        self.at(Rung::Killed).is_some()
    }

    /// Is the leader reaped and its group empty, as far as could be seen?
    pub fn is_complete(&self) -> bool {
        self.exit.is_some() && self.problems.is_empty()
    }
}

impl fmt::Display for Teardown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server `{}` ({}), {}:", self.name, self.process, self.cause)?;
        for (rung, at) in &self.rungs {
            write!(f, " {rung} {:.1} ms,", at.as_secs_f64() * 1000.0)?;
        }
        match self.exit {
            Some(exit) => write!(f, " {exit}")?,
            None => write!(f, " still there")?,
        }
        for member in &self.swept {
            let how = match member.outside_group {
                true => "had left its group and was killed",
                false => "left in its group and killed",
            };
            write!(f, "\n  {how}: {member}")?;
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}
