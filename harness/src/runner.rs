//! The loop: cases into cells, at most so many at once; what cells tell into events.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cell::contain;
use crate::cell::host::{Cell, Lifeline, strongest_tier};
use crate::cell::protocol::{CellEvent, Learned};
use crate::ledger::verdict::{CaseReport, Tier};
use crate::plan::{Case, order};

/// How often an interrupt is looked for while cells work.
const INTERRUPT_LOOK: Duration = Duration::from_millis(50);
/// Longest time that ending what a lost cell has left may take.
const DRAIN_BOUND: Duration = Duration::from_secs(10);

/// Runs cases.
pub struct Runner {
    /// Strength of containment of every cell.
    pub tier: Tier,
    jobs: usize,
    home: tempfile::TempDir,
    started: AtomicUsize,
    interrupted: Arc<AtomicBool>,
}

/// What came of one case.
#[derive(Debug)]
pub enum Outcome {
    /// Each of its many lives was looked at.
    Screened,
    /// It was judged.
    Judged(Box<CaseReport>, Option<Box<Learned>>),
    /// The client did not come to the moment that it is about, and this is how.
    NotApplicable(String),
    /// It was not, for this cause.
    NotJudged(String),
}

/// News of a run, by the index of the case.
#[derive(Debug)]
pub enum News {
    /// The case has its cell.
    Started(usize),
    /// Of the many lives of a case, one was looked at.
    Screened(Box<CaseReport>),
    /// The case is done with.
    Ended(usize, Outcome),
}

impl Runner {
    /// A runner for at most so many cases at once. `interrupted` may be set by a signal at any time.
    pub fn new(jobs: usize, interrupted: Arc<AtomicBool>) -> io::Result<Self> {
        // Should a sentinel and its cell die together, what they leave comes here.
        rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(
            std::process::id().cast_signed(),
        ))?;
        Ok(Self {
            tier: strongest_tier(),
            jobs: jobs.max(1),
            home: tempfile::Builder::new().prefix("scupper-").tempdir()?,
            started: AtomicUsize::new(0),
            interrupted,
        })
    }

    /// How many cases it judges at once.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// Whether the user interrupted the run.
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Judges all cases, the longest first, and tells of each as it comes.
    pub fn run_all(&self, cases: &[Case], each: impl FnMut(News)) {
        self.run_at_once(self.jobs, cases, each);
    }

    /// The same, with another number of cases at once.
    pub fn run_at_once(&self, jobs: usize, cases: &[Case], mut each: impl FnMut(News)) {
        let queue: Mutex<VecDeque<usize>> = Mutex::new(order::beginnings(cases).into());
        let lifelines: Mutex<Vec<Lifeline>> = Mutex::new(Vec::new());
        let (sender, told) = channel();
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, cases.len().max(1)) {
                let sender = sender.clone();
                scope.spawn(|| self.work(cases, &queue, &lifelines, sender));
            }
            drop(sender);
            loop {
                match told.recv_timeout(INTERRUPT_LOOK) {
                    Ok(news) => each(news),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if self.interrupted() {
                    // Every cell ends with its lifeline, and all below with it.
                    lock(&lifelines).drain(..).for_each(|lifeline| lifeline.end());
                }
            }
        });
    }

    fn work(
        &self,
        cases: &[Case],
        queue: &Mutex<VecDeque<usize>>,
        lifelines: &Mutex<Vec<Lifeline>>,
        sender: Sender<News>,
    ) {
        loop {
            let Some(index) = lock(queue).pop_front() else { return };
            if self.interrupted() {
                let outcome = Outcome::NotJudged("interrupted".into());
                let _ = sender.send(News::Ended(index, outcome));
                continue;
            }
            let _ = sender.send(News::Started(index));
            let outcome = self
                .run_case(&cases[index], lifelines, &sender)
                .unwrap_or_else(|error| Outcome::NotJudged(format!("the cell failed: {error}")));
            let _ = sender.send(News::Ended(index, outcome));
        }
    }

    fn run_case(
        &self,
        case: &Case,
        lifelines: &Mutex<Vec<Lifeline>>,
        sender: &Sender<News>,
    ) -> io::Result<Outcome> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let directory: PathBuf = self.home.path().join(format!("case-{number}"));
        std::fs::create_dir(&directory)?;
        let mut cell = Cell::start(self.tier, &directory, first_pid(number), &case.order)?;
        lock(lifelines).push(cell.lifeline());
        let mut report = None;
        let mut learned = None;
        let mut broken = None;
        let mut not_applicable = None;
        let mut screened = 0;
        while let Some(event) = cell.event()? {
            match event {
                CellEvent::Judged(judged) => report = Some(judged),
                CellEvent::Screened(life) => {
                    screened += 1;
                    let _ = sender.send(News::Screened(life));
                }
                CellEvent::Learned(facts) => learned = Some(facts),
                CellEvent::NotApplicable { why } => not_applicable = Some(why),
                CellEvent::Broken { cause } => broken = Some(cause),
                CellEvent::SubjectStarted { .. } => {}
            }
        }
        drop(cell);
        lock(lifelines).retain(|lifeline| !lifeline.ended());
        Ok(match (report, broken) {
            (_, Some(cause)) => Outcome::NotJudged(cause),
            (Some(report), None) => Outcome::Judged(report, learned),
            (None, None) if case.lives() > 0 && screened == case.lives() => Outcome::Screened,
            (None, None) if not_applicable.is_some() => {
                Outcome::NotApplicable(not_applicable.unwrap_or_default())
            }
            (None, None) if self.interrupted() => Outcome::NotJudged("interrupted".into()),
            (None, None) => Outcome::NotJudged("the cell died before it told a verdict".into()),
        })
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // No cell is left by now. What is, outlived a sentinel and its cell that died together.
        contain::drain(DRAIN_BOUND);
    }
}

/// Where the pids of a case begin: apart from those of its neighbours, so that a pid written to a
/// file in one case is nobody's in the next. Below the smallest common pid_max, 32768.
fn first_pid(case: usize) -> u32 {
    let start = u64::from(std::process::id()) + 400 * case as u64;
    (1_000 + start % 28_000) as u32
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
