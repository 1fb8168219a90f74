//! A scope of tasks: the only place of this crate that spawns.
//!
//! A scope is a cancellation token and a tracker. [`TaskScope::close`] cancels, waits, aborts what
//! overstays, and returns how every task ended: cancelled is not finished. A scope that is dropped
//! cancels and aborts, and waits for nothing.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::census::{Census, Kind, Row};

/// How many endings a scope keeps for [`TaskScope::close`]; the oldest go first.
const KEPT_OUTCOMES: usize = 1024;
/// How long an aborted task gets to notice. One that blocks its thread never does.
pub(crate) const ABORT_WAIT: Duration = Duration::from_millis(100);

/// What a task may fail with.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// How a task ended.
#[derive(Debug)]
pub enum Ending {
    /// It returned `Ok` before anybody asked it to stop.
    Finished,
    /// It returned `Ok` after the scope was cancelled.
    Cancelled,
    /// It returned an error.
    Failed(TaskError),
    /// It panicked, with this message.
    Panicked(String),
    /// It was dropped before its end: aborted, or its runtime went away.
    Aborted,
    /// It did not end in the time [`TaskScope::close`] was given, nor when aborted: it blocks.
    TimedOut,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Finished => f.write_str("finished"),
            Ending::Cancelled => f.write_str("cancelled"),
            Ending::Failed(error) => write!(f, "failed: {error}"),
            Ending::Panicked(message) => write!(f, "panicked: {message}"),
            Ending::Aborted => f.write_str("aborted"),
            Ending::TimedOut => f.write_str("timed out"),
        }
    }
}

/// How one task of a scope ended.
#[derive(Debug)]
pub struct TaskOutcome {
    /// The task's name.
    pub name: Arc<str>,
    /// The line that spawned it.
    pub spawned_at: &'static Location<'static>,
    /// Its end.
    pub ending: Ending,
}

/// Why a task could not be spawned, or did not get ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// The scope no longer takes tasks.
    #[error("spawning task `{task}`: scope `{scope}` is closed")]
    Closed {
        /// The scope.
        scope: Arc<str>,
        /// The task that was refused.
        task: Arc<str>,
    },
    /// No tokio runtime to spawn on.
    #[error("spawning task `{task}` needs a running tokio runtime; call it from async code")]
    NoRuntime {
        /// The task that was refused.
        task: Arc<str>,
    },
    /// The task ended before it said that it was ready.
    #[error("task `{task}` ended before it was ready: {why}")]
    NotReady {
        /// The task.
        task: Arc<str>,
        /// How it ended, in words.
        why: String,
        /// What it failed with, where it failed.
        #[source]
        source: Option<TaskError>,
    },
}

/// Told by a task once it is ready; see [`TaskScope::start`].
#[derive(Debug)]
pub struct Ready(oneshot::Sender<()>);

impl Ready {
    /// The task is ready. Nobody listening any more is no error.
    pub fn signal(self) {
        self.0.send(()).ok();
    }
}

/// A set of tasks that end together.
#[derive(Debug)]
pub struct TaskScope {
    name: Arc<str>,
    token: CancellationToken,
    tracker: TaskTracker,
    census: Census,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Debug, Default)]
struct Ledger {
    next_number: u64,
    running: BTreeMap<u64, Running>,
    ended: VecDeque<TaskOutcome>,
}

#[derive(Debug)]
struct Running {
    name: Arc<str>,
    spawned_at: &'static Location<'static>,
    /// Absent between the entry and the spawn.
    abort: Option<AbortHandle>,
}

impl TaskScope {
    /// An empty scope; its tasks have rows in `census`.
    pub fn new(name: impl Into<Arc<str>>, census: &Census) -> Self {
        Self::under(&CancellationToken::new(), name, census)
    }

    /// An empty scope that is also cancelled when `parent` is.
    pub fn under(parent: &CancellationToken, name: impl Into<Arc<str>>, census: &Census) -> Self {
        Self {
            name: name.into(),
            token: parent.child_token(),
            tracker: TaskTracker::new(),
            census: census.clone(),
            ledger: Arc::default(),
        }
    }

    /// Cancelled when the scope closes. A task watches a clone of it and then ends.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Have all tasks ended?
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Spawns a task.
    ///
    /// # Errors
    /// [`ScopeError::Closed`] once the scope has been cancelled, [`ScopeError::NoRuntime`] outside a
    /// runtime.
    #[track_caller]
    pub fn spawn<F>(&self, name: impl Into<Arc<str>>, task: F) -> Result<(), ScopeError>
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.launch(name.into(), Location::caller(), None, task)
    }

    /// Spawns a task that says when it is ready, and hands its readiness to the caller. Dropping the
    /// returned future stops the waiting, not the task.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), at once; and from the returned future [`ScopeError::NotReady`] with
    /// the task's own error, when it ended before it was ready.
    #[track_caller]
    pub fn start<Name, Make, F>(
        &self,
        name: Name,
        make: Make,
    ) -> Result<impl Future<Output = Result<(), ScopeError>> + Send + use<Name, Make, F>, ScopeError>
    where
        Name: Into<Arc<str>>,
        Make: FnOnce(Ready) -> F,
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let name = name.into();
        let task = Arc::clone(&name);
        let (ready, mut is_ready) = oneshot::channel();
        let (report, ended) = oneshot::channel();
        self.launch(name, Location::caller(), Some(report), make(Ready(ready)))?;
        Ok(async move {
            let ending = tokio::select! {
                biased;
                Ok(()) = &mut is_ready => return Ok(()),
                ending = ended => ending.unwrap_or(Ending::Aborted),
            };
            if is_ready.try_recv().is_ok() {
                return Ok(());
            }
            let why = ending.to_string();
            let source = match ending {
                Ending::Failed(error) => Some(error),
                _ => None,
            };
            Err(ScopeError::NotReady { task, why, source })
        })
    }

    /// Asks every task to end, and takes no new ones.
    pub fn cancel(&self) {
        self.token.cancel();
        self.tracker.close();
    }

    /// Cancels, waits up to `patience` for all tasks, aborts the rest, and tells how each task ended
    /// since the last close, the latest 1024 of them. A failure that was handed to the waiter of
    /// [`start`](Self::start) is told here without its source.
    pub async fn close(&self, patience: Duration) -> Vec<TaskOutcome> {
        self.cancel();
        let deadline = Instant::now() + patience;
        if timeout_at(deadline, self.tracker.wait()).await.is_err() {
            self.abort_all();
            timeout_at(Instant::now() + ABORT_WAIT, self.tracker.wait()).await.ok();
        }
        let mut ledger = lock(&self.ledger);
        let mut outcomes: Vec<TaskOutcome> = ledger.ended.drain(..).collect();
        outcomes.extend(ledger.running.values().map(|running| TaskOutcome {
            name: Arc::clone(&running.name),
            spawned_at: running.spawned_at,
            ending: Ending::TimedOut,
        }));
        outcomes
    }

    fn abort_all(&self) {
        sabotaged!(NothingAborted => return);
        let handles: Vec<AbortHandle> = lock(&self.ledger)
            .running
            .values()
            .filter_map(|running| running.abort.clone())
            .collect();
        for handle in handles {
            handle.abort();
        }
    }

    #[track_caller]
    fn launch<F>(
        &self,
        name: Arc<str>,
        spawned_at: &'static Location<'static>,
        report: Option<oneshot::Sender<Ending>>,
        task: F,
    ) -> Result<(), ScopeError>
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        if self.token.is_cancelled() {
            return Err(ScopeError::Closed { scope: Arc::clone(&self.name), task: name });
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Err(ScopeError::NoRuntime { task: name });
        };
        let number = {
            let mut ledger = lock(&self.ledger);
            let number = ledger.next_number;
            ledger.next_number += 1;
            let running = Running { name: Arc::clone(&name), spawned_at, abort: None };
            ledger.running.insert(number, running);
            number
        };
        let record = Record {
            ledger: Arc::clone(&self.ledger),
            number,
            ending: Ending::Aborted,
            report,
            _row: self.census.enter(Kind::Task, name, format!("in {}", self.name), spawned_at),
        };
        let token = self.token.clone();
        let handle = self.tracker.spawn_on(
            async move {
                let mut record = record;
                record.ending = run(task, &token).await;
            },
            &runtime,
        );
        if let Some(running) = lock(&self.ledger).running.get_mut(&number) {
            running.abort = Some(handle.abort_handle());
        }
        Ok(())
    }
}

impl Drop for TaskScope {
    fn drop(&mut self) {
        self.cancel();
        self.abort_all();
    }
}

async fn run<F>(task: F, token: &CancellationToken) -> Ending
where
    F: Future<Output = Result<(), TaskError>>,
{
    match catch_panic(task).await {
        Ok(Ok(())) if token.is_cancelled() => Ending::Cancelled,
        Ok(Ok(())) => Ending::Finished,
        Ok(Err(error)) => Ending::Failed(error),
        Err(message) => Ending::Panicked(message),
    }
}

/// The outcome of a future, or the message of its panic.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(message_of(&*panic))),
    })
    .await
}

pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Lives inside the task, so that its drop is the one removal path, whatever ended the task.
struct Record {
    ledger: Arc<Mutex<Ledger>>,
    number: u64,
    ending: Ending,
    report: Option<oneshot::Sender<Ending>>,
    _row: Row,
}

impl Drop for Record {
    fn drop(&mut self) {
        let ending = std::mem::replace(&mut self.ending, Ending::Aborted);
        let mut ledger = lock(&self.ledger);
        let Some(running) = ledger.running.remove(&self.number) else {
            return;
        };
        tracing::debug!(task = %running.name, %ending, "task ended");
        let kept = match self.report.take() {
            Some(report) => share(ending, report),
            None => ending,
        };
        if ledger.ended.len() == KEPT_OUTCOMES {
            ledger.ended.pop_front();
        }
        ledger.ended.push_back(TaskOutcome {
            name: running.name,
            spawned_at: running.spawned_at,
            ending: kept,
        });
    }
}

/// Gives the original to the waiter and keeps a copy in words; keeps the original if nobody waits.
fn share(ending: Ending, waiter: oneshot::Sender<Ending>) -> Ending {
    let copy = match &ending {
        Ending::Finished => Ending::Finished,
        Ending::Cancelled => Ending::Cancelled,
        Ending::Failed(error) => Ending::Failed(error.to_string().into()),
        Ending::Panicked(message) => Ending::Panicked(message.clone()),
        Ending::Aborted => Ending::Aborted,
        Ending::TimedOut => Ending::TimedOut,
    };
    match waiter.send(ending) {
        Ok(()) => copy,
        Err(original) => original,
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
