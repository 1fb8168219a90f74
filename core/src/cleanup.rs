//! The end of a session as a list of named steps, each isolated, bounded and reported.
//!
//! A [`CleanupPlan`] is filled while a session lives and run when it ends. Its steps run in the order
//! in which they were added; one that fails, panics or hangs is reported and the rest still run.
//! [`run`](CleanupPlan::run) has no error: whatever became of the steps, the owner removes the session
//! afterwards, so that no failing step can make a zombie of it.
//!
//! The plan stays with its owner and `run` can be resumed: when the future of `run` is dropped, the
//! steps that have ended stay ended, the one that was running is kept where it was, with its deadline,
//! and the next `run` goes on from there. A plan that is dropped with steps left says so in a trace and,
//! after [`recorded_in`](CleanupPlan::recorded_in), in the census.
//!
//! ```
//! use std::time::Duration;
//! use scupper_core::cleanup::CleanupPlan;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let scratch = std::env::temp_dir().join("a-directory-that-is-not-there");
//! let mut plan = CleanupPlan::new()
//!     .step("browser context", Duration::from_secs(2), || async { Ok(()) })
//!     .step("scratch directory", Duration::from_secs(1), || async move {
//!         Ok(std::fs::remove_dir(scratch)?)
//!     })
//!     .step("lock", Duration::from_secs(1), || async { panic!("poisoned") });
//! let report = plan.run().await;
//! // Here the session is removed, whatever the report says.
//! assert!(!report.is_complete());
//! assert_eq!(report.unfinished().count(), 2, "{report}");
//! # }
//! ```

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    census::{Census, DroppedWithoutClose, Kind},
    scope::{TaskError, catch_panic},
};

/// No wait is without a bound: longer limits count as this one.
const LONGEST_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How a step of a cleanup ended.
#[derive(Debug)]
pub enum StepEnding {
    /// It returned `Ok`.
    Ended,
    /// It returned an error.
    Failed(TaskError),
    /// It panicked, with this message.
    Panicked(String),
    /// It had not ended when its limit, or that of the whole plan, was over; it was dropped.
    TimedOut,
}

impl fmt::Display for StepEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepEnding::Ended => f.write_str("ended"),
            StepEnding::Failed(error) => write!(f, "failed: {error}"),
            StepEnding::Panicked(message) => write!(f, "panicked: {message}"),
            StepEnding::TimedOut => f.write_str("timed out"),
        }
    }
}

/// How one step went.
#[derive(Debug)]
pub struct StepOutcome {
    /// The name it was given.
    pub name: Arc<str>,
    /// How it ended.
    pub ending: StepEnding,
    /// From its start to its end, pauses between two runs of the plan included.
    pub took: Duration,
}

/// How every step of a plan went, in the order of the plan.
#[derive(Debug, Default)]
#[must_use = "it tells which steps failed"]
pub struct CleanupReport {
    /// One outcome for each step.
    pub steps: Vec<StepOutcome>,
}

impl CleanupReport {
    /// Did every step end by itself and without an error? True of a plan without steps.
    pub fn is_complete(&self) -> bool {
        self.unfinished().next().is_none()
    }

    /// The steps that failed, panicked or timed out.
    pub fn unfinished(&self) -> impl Iterator<Item = &StepOutcome> {
        self.steps.iter().filter(|step| !matches!(step.ending, StepEnding::Ended))
    }
}

impl fmt::Display for CleanupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.steps.len() - self.unfinished().count();
        write!(f, "{ended} of {} steps ended", self.steps.len())?;
        for step in &self.steps {
            write!(f, "\n{:<24} {:>6} ms  {}", step.name, step.took.as_millis(), step.ending)?;
        }
        Ok(())
    }
}

/// The work of a step, begun.
pub type StepWork = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;

/// What is to be done when a session ends.
#[must_use = "a plan that is not run cleans nothing up"]
pub struct CleanupPlan {
    /// The front one may have begun.
    steps: VecDeque<Step>,
    ended: Vec<StepOutcome>,
    total: Duration,
    /// Set by the first run.
    deadline: Option<Instant>,
    owner: Option<Owner>,
}

struct Step {
    name: Arc<str>,
    limit: Duration,
    stage: Stage,
}

enum Stage {
    Waiting(Box<dyn FnOnce() -> StepWork + Send>),
    Running {
        work: StepWork,
        began: Instant,
    },
    /// Its beginning panicked.
    Gone,
}

struct Owner {
    census: Census,
    kind: Kind,
    name: Arc<str>,
    opened_at: &'static Location<'static>,
}

impl Default for CleanupPlan {
    fn default() -> Self {
        Self::new()
    }
}

impl CleanupPlan {
    /// A plan without steps, bounded by the sum of their limits.
    pub fn new() -> Self {
        Self {
            steps: VecDeque::new(),
            ended: Vec::new(),
            total: LONGEST_LIMIT,
            deadline: None,
            owner: None,
        }
    }

    /// Adds a step at the end; see [`add`](Self::add).
    pub fn step<F>(
        mut self,
        name: impl Into<Arc<str>>,
        limit: Duration,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.add(name, limit, make);
        self
    }

    /// Adds a step at the end, for instance when the session opens something new. The step has
    /// `limit` from its own start, at most a day, and is dropped after that. A step that blocks its
    /// thread cannot be bounded: give blocking work to `tokio::task::spawn_blocking`, and wait here.
    pub fn add<F>(
        &mut self,
        name: impl Into<Arc<str>>,
        limit: Duration,
        make: impl FnOnce() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.steps.push_back(Step {
            name: name.into(),
            limit: limit.min(LONGEST_LIMIT),
            stage: Stage::Waiting(Box::new(move || Box::pin(make()))),
        });
    }

    /// Bounds the whole plan, from the start of its first run; the default is a day. After that every
    /// step that is left is polled once, so that those that need not wait still do their work.
    pub fn within(mut self, total: Duration) -> Self {
        self.total = total.min(LONGEST_LIMIT);
        self
    }

    /// Whose plan this is. Dropped with steps left, it is recorded in `census` as a `kind` of this
    /// name that was dropped without close.
    #[track_caller]
    pub fn recorded_in(mut self, census: &Census, kind: Kind, name: impl Into<Arc<str>>) -> Self {
        self.owner = Some(Owner {
            census: census.clone(),
            kind,
            name: name.into(),
            opened_at: Location::caller(),
        });
        self
    }

    /// The names of the steps that have not ended, in order.
    pub fn remaining(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| &*step.name)
    }

    /// Runs the steps that have not ended, and tells of all of them how they ended; each is told
    /// once, so that a further run reports nothing. Can be dropped at any time and called again.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    pub async fn run(&mut self) -> CleanupReport {
        let total = self.total;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + total);
        while let Some(step) = self.steps.front_mut() {
            let outcome = step.run(deadline).await;
            tracing::debug!(step = %outcome.name, ending = %outcome.ending, "cleanup step");
            self.ended.push(outcome);
            // What a step leaves behind may panic in its drop, and that is no end of the plan either.
            let step = self.steps.pop_front();
            catch_unwind(AssertUnwindSafe(|| drop(step))).ok();
        }
        self.deadline = None;
        CleanupReport { steps: std::mem::take(&mut self.ended) }
    }
}

impl Step {
    async fn run(&mut self, plan_deadline: Instant) -> StepOutcome {
        let began = match &self.stage {
            Stage::Running { began, .. } => *began,
            _ => Instant::now(),
        };
        let deadline = plan_deadline.min(began + self.limit);
        let stage = &mut self.stage;
        let work = catch_panic(std::future::poll_fn(|cx| {
            stage.begin(began).map_or(Poll::Ready(Ok(())), |work| work.as_mut().poll(cx))
        }));
        // The timeout polls the work first, also when the deadline is over.
        let ending = match timeout_at(deadline, work).await {
            Ok(Ok(Ok(()))) => StepEnding::Ended,
            Ok(Ok(Err(error))) => StepEnding::Failed(error),
            Ok(Err(message)) => StepEnding::Panicked(message),
            Err(_) => StepEnding::TimedOut,
        };
        StepOutcome { name: Arc::clone(&self.name), ending, took: began.elapsed() }
    }
}

impl Stage {
    /// The work, begun if it had not been.
    fn begin(&mut self, began: Instant) -> Option<&mut StepWork> {
        if matches!(self, Stage::Waiting(_))
            && let Stage::Waiting(make) = std::mem::replace(self, Stage::Gone)
        {
            *self = Stage::Running { work: make(), began };
        }
        match self {
            Stage::Running { work, .. } => Some(work),
            _ => None,
        }
    }
}

impl Drop for CleanupPlan {
    fn drop(&mut self) {
        if self.steps.is_empty() {
            return;
        }
        let lost = self.remaining().collect::<Vec<_>>().join(", ");
        tracing::warn!(steps = %lost, "a cleanup plan was dropped before these steps had ended");
        if let Some(Owner { census, kind, name, opened_at }) = self.owner.take() {
            census.record_drop(DroppedWithoutClose { kind, name, opened_at });
        }
    }
}

impl fmt::Debug for CleanupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CleanupPlan")
            .field("remaining", &self.remaining().collect::<Vec<_>>())
            .field("ended", &self.ended)
            .finish()
    }
}
