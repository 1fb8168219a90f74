//! The shutdown ladder as a machine that never waits.
//!
//! [`Ladder::step`] does what is due now and says what to wait for. Who waits is somebody else's
//! business: a close does it with timers, a drop by blocking, several closers at once; all step the
//! same machine, so all end the same way and a cancelled one can be taken over by the next.
//!
//! End of stdin, first grace, SIGTERM to the group, second grace, SIGKILL to the group; then, once
//! the leader is a zombie, however it got there, it is reaped and the rest of its group is swept, and
//! with a cookie what had left it too. In this order because a group without its leader's zombie can
//! be asked in one call whether anybody is left in it, which spares two passes over /proc. Before
//! Linux 6.9 it cannot be named without its leader: there the leader is reaped last, so that the
//! number of the group stays ours as long as it is signalled.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{EndCause, Rung, Settings, Teardown};
use crate::{
    census::Row,
    process::{Member, ProcessGroup, Strays},
};

/// The first wait between two looks at a group that is dying; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// May a step grant the server its graces?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Patient,
    /// SIGKILL at once.
    Now,
}

/// What to wait for before the next step.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// The exit of the leader, or this instant.
    ExitOr(Instant),
    /// This long.
    Pause(Duration),
    Done(Arc<Teardown>),
}

#[derive(Debug)]
pub(super) struct Ladder {
    /// Absent once it is empty and its leader reaped; then no signal can be sent any more.
    group: Option<ProcessGroup>,
    row: Option<Row>,
    settings: Settings,
    began: Option<Instant>,
    terminated: Option<Instant>,
    killed: Option<Instant>,
    sweep: Option<Sweep>,
    /// Filled as the rungs are climbed; handed out when done.
    so_far: Teardown,
    outcome: Option<Arc<Teardown>>,
}

#[derive(Debug)]
struct Sweep {
    began: Instant,
    /// Consecutive looks that found nobody.
    quiet: u8,
    pause: Duration,
    strays: Strays,
}

impl Sweep {
    fn new(now: Instant) -> Self {
        Self { began: now, quiet: 0, pause: FIRST_PAUSE, strays: Strays::default() }
    }
}

impl Ladder {
    pub(super) fn new(name: Arc<str>, group: ProcessGroup, row: Row, settings: Settings) -> Self {
        let so_far = Teardown {
            name,
            process: group.id(),
            cause: EndCause::Closed,
            rungs: Vec::new(),
            exit: None,
            swept: Vec::new(),
            problems: Vec::new(),
            took: Duration::ZERO,
        };
        let row = Some(row).filter(|_| !sabotaged!(ProcessRowGone));
        Self {
            group: Some(group),
            row,
            settings,
            began: None,
            terminated: None,
            killed: None,
            sweep: None,
            so_far,
            outcome: None,
        }
    }

    /// The end begins: stdin has just been closed. Only the first call counts.
    pub(super) fn begin(&mut self, cause: EndCause, now: Instant) {
        if self.began.is_some() {
            return;
        }
        self.began = Some(now);
        self.so_far.cause = cause;
        self.reached(Rung::StdinClosed, now);
        self.show("closing");
    }

    pub(super) fn outcome(&self) -> Option<&Arc<Teardown>> {
        self.outcome.as_ref()
    }

    /// Why the connection ended, once it has.
    pub(super) fn cause(&self) -> Option<EndCause> {
        self.began.map(|_| self.so_far.cause)
    }

    /// Has the leader exited, or is it unknown because the kernel would not say?
    pub(super) fn has_exited(&self) -> bool {
        match &self.group {
            Some(group) => group.has_exited().unwrap_or(false),
            None => true,
        }
    }

    pub(super) fn poll_exited(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &self.group {
            Some(group) => group.poll_exited(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Lets the census tell that the leader is a zombie, until somebody closes.
    pub(super) fn show_exit(&self) {
        if self.began.is_none() {
            self.show("exited, not closed");
        }
    }

    /// Does what is due at `now`. [`begin`](Self::begin) comes first.
    pub(super) fn step(&mut self, now: Instant, pace: Pace) -> Next {
        if let Some(outcome) = &self.outcome {
            return Next::Done(Arc::clone(outcome));
        }
        let Some(group) = &self.group else {
            return self.finish(now);
        };
        match group.has_exited() {
            Ok(true) => self.step_after_exit(now),
            Ok(false) => self.step_before_exit(now, pace),
            Err(error) => {
                self.problem(format!("asking whether the leader has exited: {error}"));
                self.give_up(now)
            }
        }
    }

    /// Ends the ladder although something is still alive: the last word of a bounded wait.
    pub(super) fn give_up(&mut self, now: Instant) -> Next {
        if let Some(outcome) = &self.outcome {
            return Next::Done(Arc::clone(outcome));
        }
        self.reached(Rung::GaveUp, now);
        if self.so_far.problems.is_empty() {
            self.problem("the time to wait for the killed group ran out".to_owned());
        }
        // Dropping the group would block once more; a leader that cannot be reaped now is left to
        // the host's end, and its row stays in the census.
        if let Some(mut group) = self.group.take() {
            match group.reap() {
                Ok(Some(exit)) => self.so_far.exit = Some(exit),
                _ => {
                    group.disown();
                    if let Some(row) = self.row.take() {
                        row.abandon(format!("{} will not end", self.so_far.process));
                    }
                }
            }
        }
        self.finish(now)
    }

    fn step_before_exit(&mut self, now: Instant, pace: Pace) -> Next {
        let began = self.began.unwrap_or(now);
        if let Some(killed) = self.killed {
            let until = after(killed, self.settings.kill_wait);
            if now < until {
                return Next::ExitOr(until);
            }
            self.problem(format!(
                "the leader did not die within {:?} of SIGKILL; uninterruptible I/O is the usual cause",
                self.settings.kill_wait
            ));
            return self.give_up(now);
        }
        let term_due = after(began, self.settings.first_grace);
        let kill_due =
            self.terminated.map(|terminated| after(terminated, self.settings.second_grace));
        match kill_due {
            _ if pace == Pace::Now => self.kill(now),
            Some(due) if now >= due && sabotaged!(NoSigkill) => self.leave(now),
            Some(due) if now >= due => self.kill(now),
            Some(due) => Next::ExitOr(due),
            None if now >= term_due => {
                self.terminated = Some(now);
                self.reached(Rung::Terminated, now);
                self.show("closing: SIGTERM sent");
                self.signal(Signal::TERM);
                Next::ExitOr(after(now, self.settings.second_grace))
            }
            None => Next::ExitOr(term_due),
        }
    }

    fn kill(&mut self, now: Instant) -> Next {
        // Looked up before, because afterwards they are dying and it is chance who is still seen.
        if let Some(Ok(members)) = self.group.as_ref().map(ProcessGroup::members) {
            self.note(&members);
        }
        self.killed = Some(now);
        self.reached(Rung::Killed, now);
        self.show("closing: SIGKILL sent");
        self.signal(Signal::KILL);
        Next::ExitOr(after(now, self.settings.kill_wait))
    }

    fn step_after_exit(&mut self, now: Instant) -> Next {
        if sabotaged!(ReapedBeforeSweep) {
            return self.reap(now);
        }
        let (mut sweep, now) = match self.sweep.take() {
            Some(sweep) => (sweep, now),
            None => {
                self.reached(Rung::Exited, now);
                self.show("closing: sweeping the group");
                let now = self.reap_first(now);
                (Sweep::new(now), now)
            }
        };
        let next = self.sweep_with(&mut sweep, now);
        self.sweep = Some(sweep);
        next
    }

    /// Where the kernel allows it. Where it fails, [`reap`](Self::reap) comes last and tells why.
    fn reap_first(&mut self, now: Instant) -> Instant {
        if self.forgets_to_reap() {
            return now;
        }
        let reaping = Instant::now();
        let reaped = self.group.as_mut().map(ProcessGroup::reap_first);
        let now = now + reaping.elapsed();
        if let Some(Ok(Some(exit))) = reaped {
            self.so_far.exit = Some(exit);
            self.reached(Rung::Reaped, now);
        }
        now
    }

    fn sweep_with(&mut self, sweep: &mut Sweep, entered: Instant) -> Next {
        let looking = Instant::now();
        loop {
            let left = self.look(&mut sweep.strays);
            // A look at every process there is takes most of a quiet sweep's time.
            let now = entered + looking.elapsed();
            let left = match left {
                Ok(left) => left,
                Err(error) => {
                    self.problem(format!(
                        "listing /proc to find what is left of the group: {error}"
                    ));
                    self.signal(Signal::KILL);
                    return self.reap(now);
                }
            };
            self.note(&left);
            sabotaged!(GroupNotSwept => return self.reap(now));
            if left.is_empty() {
                sweep.quiet += 1;
                if sweep.quiet == 2 || self.is_certainly_empty() {
                    self.reached(Rung::Swept, now);
                    return self.reap(now);
                }
                // A member born between two entries of one listing is hit by this, and seen in the
                // next look.
                self.signal(Signal::KILL);
                continue;
            }
            sweep.quiet = 0;
            let pause = sweep.pause;
            sweep.pause = (pause * 2).min(LONGEST_PAUSE);
            let overdue = now >= after(sweep.began, self.settings.kill_wait);
            self.signal(Signal::KILL);
            if sabotaged!(StraysLeft) {
                return self.reap(now);
            }
            for (member, error) in sweep.strays.kill() {
                self.problem(format!("killing {member}, which had left the group: {error}"));
            }
            if overdue {
                for member in left {
                    let place = if member.outside_group { "outside" } else { "in" };
                    self.problem(format!("still {place} the group after SIGKILL: {member}"));
                }
                return self.reap(now);
            }
            return Next::Pause(pause);
        }
    }

    /// Is no second look needed? Who had left the group is known by looking only.
    fn is_certainly_empty(&self) -> bool {
        !self.settings.sweep_cookie && self.group.as_ref().is_some_and(ProcessGroup::is_empty)
    }

    /// Who is left in the group; once nobody is, who had left it and carries its cookie.
    fn look(&self, strays: &mut Strays) -> std::io::Result<Vec<Member>> {
        let Some(group) = &self.group else {
            return Ok(Vec::new());
        };
        let members = group.members()?;
        match group.cookie() {
            Some(cookie) if members.is_empty() && self.settings.sweep_cookie => {
                strays.look(&[cookie]).map(<[Member]>::to_vec)
            }
            _ => Ok(members),
        }
    }

    fn reap(&mut self, now: Instant) -> Next {
        if self.forgets_to_reap() {
            return self.leave(now);
        }
        let reaping = Instant::now();
        let reaped = self.group.as_mut().map(ProcessGroup::reap);
        let now = now + reaping.elapsed();
        match reaped {
            Some(Ok(Some(exit))) => {
                self.so_far.exit = Some(exit);
                if self.so_far.at(Rung::Reaped).is_none() {
                    self.reached(Rung::Reaped, now);
                }
                self.group = None;
                self.finish(now)
            }
            Some(Ok(None)) | None => {
                self.problem("the leader's exit was seen, but its status is not there".to_owned());
                self.give_up(now)
            }
            Some(Err(error)) => {
                self.problem(format!("reaping the leader: {error}"));
                self.give_up(now)
            }
        }
    }

    /// Only as a mutant.
    fn forgets_to_reap(&self) -> bool {
        if sabotaged!(KilledNotReaped) {
            return self.killed.is_some();
        }
        sabotaged!(NotReaped)
    }

    /// The mistake of some mutants: nobody looks after the leader any more.
    fn leave(&mut self, now: Instant) -> Next {
        if let Some(group) = self.group.take() {
            group.disown();
        }
        self.finish(now)
    }

    fn finish(&mut self, now: Instant) -> Next {
        self.so_far.took = self.since_began(now);
        self.row = None;
        let outcome = Arc::new(self.so_far.clone());
        self.outcome = Some(Arc::clone(&outcome));
        Next::Done(outcome)
    }

    fn note(&mut self, members: &[Member]) {
        for member in members {
            if !self.so_far.swept.iter().any(|known| known.process == member.process) {
                self.so_far.swept.push(member.clone());
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(Err(error)) = self.group.as_ref().map(|group| group.signal(signal)) {
            self.problem(format!("sending signal {} to the group: {error}", signal.as_raw()));
        }
    }

    fn reached(&mut self, rung: Rung, now: Instant) {
        let at = self.since_began(now);
        self.so_far.rungs.push((rung, at));
    }

    fn problem(&mut self, problem: String) {
        if !self.so_far.problems.contains(&problem) {
            self.so_far.problems.push(problem);
        }
    }

    fn since_began(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    fn show(&self, state: &str) {
        if let Some(row) = &self.row {
            row.set_state(format!("{} {state}", self.so_far.process));
        }
    }
}

/// A wait may be `Duration::MAX`, which no instant can be moved by; a century is as good.
pub(super) fn after(start: Instant, wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    start + wait.min(CENTURY)
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::{census::Census, census::Kind, process::Command, process::ProcessId};

    /// Both orders of the last two rungs: as the kernel allows here, and as before Linux 6.9.
    const ORDERS: [(bool, [Rung; 4]); 2] = [
        (false, [Rung::StdinClosed, Rung::Exited, Rung::Reaped, Rung::Swept]),
        (true, [Rung::StdinClosed, Rung::Exited, Rung::Swept, Rung::Reaped]),
    ];

    /// The end of a shell that runs `script` and whose stdin is closed.
    async fn end_of(script: &str, before_linux_6_9: bool) -> Arc<Teardown> {
        let census = Census::new();
        let mut spawned = Command::new("sh").args(["-c", script]).spawn().expect("a shell");
        if before_linux_6_9 {
            spawned.group.pretend_before_linux_6_9();
        }
        let name: Arc<str> = Arc::from("shell");
        let row = census.enter(Kind::Process, Arc::clone(&name), String::new(), Location::caller());
        let mut ladder = Ladder::new(name, spawned.group, row, Settings::default());
        drop(spawned.stdin);
        ladder.begin(EndCause::Closed, Instant::now());
        let teardown = loop {
            match ladder.step(Instant::now(), Pace::Patient) {
                Next::Done(teardown) => break teardown,
                Next::Pause(pause) => tokio::time::sleep(pause).await,
                Next::ExitOr(until) => {
                    let exit = std::future::poll_fn(|cx| ladder.poll_exited(cx));
                    tokio::time::timeout_at(until.into(), exit).await.ok();
                }
            }
        };
        assert!(census.is_empty(), "{census}");
        teardown
    }

    fn rungs(teardown: &Teardown) -> Vec<Rung> {
        teardown.rungs.iter().map(|(rung, _)| *rung).collect()
    }

    fn group_is_empty(leader: ProcessId) -> bool {
        let leader = rustix::process::Pid::from_raw(leader.pid).expect("a pid");
        rustix::process::test_kill_process_group(leader) == Err(rustix::io::Errno::SRCH)
    }

    #[tokio::test]
    async fn a_server_alone_is_reaped_first_where_the_kernel_can_ask_its_group() {
        for (before_linux_6_9, expected) in ORDERS {
            let teardown = end_of("read line", before_linux_6_9).await;
            assert_eq!(rungs(&teardown), expected, "{teardown}");
            assert!(teardown.is_complete() && teardown.swept.is_empty(), "{teardown}");
            assert!(!teardown.process.exists() && group_is_empty(teardown.process));
        }
    }

    #[tokio::test]
    async fn helpers_are_swept_and_named_after_the_leader_was_reaped_as_before() {
        let script =
            "sleep 1000 </dev/null >/dev/null 2>&1 & sleep 1001 </dev/null >/dev/null 2>&1 &";
        for (before_linux_6_9, expected) in ORDERS {
            let teardown = end_of(script, before_linux_6_9).await;
            assert_eq!(rungs(&teardown), expected, "{teardown}");
            // One of them may not be its program yet, and still have the shell's name.
            assert_eq!(teardown.swept.len(), 2, "{teardown}");
            assert!(teardown.swept.iter().all(|member| member.command.contains("sleep 100")));
            assert!(teardown.is_complete(), "{teardown}");
            assert!(teardown.swept.iter().all(|member| !member.process.is_alive()));
        }
    }

    #[tokio::test]
    async fn a_group_that_was_reaped_first_and_dropped_is_killed_all_the_same() {
        let mut spawned = Command::new("sh")
            .args(["-c", "sleep 1000 </dev/null >/dev/null 2>&1 &"])
            .spawn()
            .expect("a shell");
        let leader = spawned.group.id();
        let exit = std::future::poll_fn(|cx| spawned.group.poll_exited(cx));
        let waited = tokio::time::timeout(Duration::from_secs(30), exit).await;
        waited.expect("a shell with nothing to wait for ends").expect("the runtime is there");
        assert!(spawned.group.reap_first().expect("reaped").is_some());
        assert!(!leader.exists() && !spawned.group.is_empty());
        let helpers = spawned.group.members().expect("/proc");
        assert_eq!(helpers.len(), 1, "{helpers:?}");
        drop(spawned);
        assert!(!helpers[0].process.is_alive());
    }
}
