//! Faults of a server that starts processes and does not end, or does not reap them.

use std::{io, ops::ControlFlow::Continue, process::Child};

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{
    helper::{self, Lifeline, Session, Until},
    options::{FakeError, Settings},
    server::{Fault, Flow, Output},
    sleep::Sleeps,
};

/// Starts one helper, which outlives the server. The twin's helper ends with the server, however
/// that ends, and is reaped when it ends at the end of stdin.
pub(super) struct LeavesHelper {
    fixed: bool,
    session: Session,
    at_start: bool,
    helper: Option<(Child, Option<Lifeline>)>,
}

impl LeavesHelper {
    pub(super) fn new(fixed: bool, session: Session) -> Self {
        Self { fixed, session, at_start: false, helper: None }
    }

    pub(super) fn build(
        settings: &Settings,
        session: Session,
    ) -> Result<Box<dyn Fault>, FakeError> {
        let at_start = settings.one_of("at", &["start", "call"])? == 0;
        Ok(Box::new(Self { at_start, ..Self::new(settings.fixed(), session) }))
    }

    fn ensure_helper(&mut self) -> io::Result<()> {
        if self.helper.is_none() {
            let lifeline = self.fixed.then(Lifeline::new).transpose()?;
            let until = lifeline.as_ref().map_or(Until::Killed, Until::ServerEnds);
            self.helper = Some((helper::spawn(self.session, until)?, lifeline));
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
        let child = helper::spawn(Session::Servers, Until::ServerEnds(lifeline))?;
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
        let mut child = helper::spawn(Session::Servers, Until::Started)?;
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
