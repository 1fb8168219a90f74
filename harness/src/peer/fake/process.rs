//! Faults of a server that starts processes and does not end, or does not reap them.

use std::{io, ops::ControlFlow::Continue, process::Child};

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{
    helper::{self, Lifeline, Tie, Until},
    options::{FakeError, Settings},
    server::{Fault, Flow, Output},
    sleep::Sleeps,
};

/// Starts one helper, which outlives the server. The twin's helper ends with the server, however
/// that ends, and is reaped when it ends at the end of stdin.
pub(super) struct LeavesHelper {
    fixed: bool,
    tie: Tie,
    at_start: bool,
    helper: Option<(Child, Option<Lifeline>)>,
}

impl LeavesHelper {
    pub(super) fn new(fixed: bool, tie: Tie) -> Self {
        // One that does it right does not hand its stdout on.
        let tie = if fixed && tie == Tie::Stdout { Tie::Group } else { tie };
        Self { fixed, tie, at_start: false, helper: None }
    }

    pub(super) fn build(settings: &Settings, tie: Tie) -> Result<Box<dyn Fault>, FakeError> {
        let at_start = settings.one_of("at", &["start", "call"])? == 0;
        Ok(Box::new(Self { at_start, ..Self::new(settings.fixed(), tie) }))
    }

    fn ensure_helper(&mut self) -> io::Result<()> {
        if self.helper.is_none() {
            let lifeline = self.fixed.then(Lifeline::new).transpose()?;
            let until = lifeline.as_ref().map_or(Until::Killed, Until::ServerEnds);
            self.helper = Some((helper::spawn(self.tie, until)?, lifeline));
        }
        Ok(())
    }
}

impl Fault for LeavesHelper {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        if self.at_start {
            self.ensure_helper()?;
        }
        Ok(Continue(()))
    }

    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
        self.ensure_helper()
    }

    fn on_eof(&mut self, _sleeps: &Sleeps) -> u8 {
        match self.helper.take() {
            Some((child, Some(_))) => u8::from(helper::end(child).is_err()),
            _ => 0,
        }
    }
}

/// Starts a helper for a message whose newline never came, and leaves it. Whoever cuts it anywhere else
/// sees a server without fault.
pub(super) struct LeaksMidMessage;

impl Fault for LeaksMidMessage {
    fn on_half_line(&mut self, line: &[u8]) -> io::Result<()> {
        if serde_json::from_slice::<serde_json::Value>(line).is_ok() {
            helper::spawn(Tie::OwnSession, Until::Killed)?;
        }
        Ok(())
    }
}

/// Starts a child at each call that stays until the server ends, so that it is seen only while the
/// server lives. The twin ends and reaps it.
pub(super) struct ChildPerCall {
    fixed: bool,
    /// One for all of them, so that no descriptors grow along with the children.
    lifeline: Option<Lifeline>,
}

impl ChildPerCall {
    pub(super) fn new(fixed: bool) -> Self {
        Self { fixed, lifeline: None }
    }
}

impl Fault for ChildPerCall {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        self.lifeline = Some(Lifeline::new()?);
        Ok(Continue(()))
    }

    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
        let lifeline = self.lifeline.as_ref().expect("a server starts before it is called");
        let child = helper::spawn(Tie::Group, Until::ServerEnds(lifeline))?;
        if self.fixed {
            helper::end(child)?;
        }
        Ok(())
    }
}

/// Starts a child at each call that ends at once, and never waits for it. The twin does.
pub(super) struct Zombie {
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for Zombie {
    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
        let mut child = helper::spawn(Tie::Group, Until::Started)?;
        if self.fixed {
            child.wait()?;
        } else {
            // Dead, seen to be dead, and left: the standard library does not reap on drop.
            let pid = WaitId::Pid(Pid::from_child(&child));
            let look_only = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            rustix::io::retry_on_intr(|| rustix::process::waitid(pid.clone(), look_only))?;
        }
        Ok(())
    }
}

/// Starts, at its first call, a process which starts processes that do the same, up to so many, and
/// all of them stay. The twin's end before it answers, each parent having waited for its own.
pub(super) struct ForksWithoutEnd {
    fixed: bool,
    processes: u32,
    done: bool,
}

impl ForksWithoutEnd {
    /// Most processes that it may be told to start: a slip of the keyboard must not take a host
    /// down.
    const MOST: u32 = 1000;

    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        let wanted = "a number of processes from 1 to 1000";
        let processes = settings.parsed("cap", wanted)?;
        if !(1..=Self::MOST).contains(&processes) {
            return Err(settings.bad_value("cap", wanted));
        }
        Ok(Box::new(Self { fixed: settings.fixed(), processes, done: false }))
    }
}

impl Fault for ForksWithoutEnd {
    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        if !self.fixed {
            helper::spawn_tree(Until::Killed, self.processes)?;
            return Ok(());
        }
        let lifeline = Lifeline::new()?;
        let mut tree = helper::spawn_tree(Until::ServerEnds(&lifeline), self.processes)?;
        drop(lifeline);
        tree.wait()?;
        Ok(())
    }
}
