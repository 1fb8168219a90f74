//! A future that is cut off after so many polls, in one of several ways.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::operation::Work;

/// How an operation is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Its future is dropped right after a poll.
    Drop,
    /// Its future is dropped when it is woken for the next one: what it waited for has come.
    Late,
    /// Its task is aborted.
    Abort,
    /// Its runtime is dropped, with everything that lives on it.
    Runtime,
    /// The same, but not after a poll of its own: after so many polls of all tasks of the runtime,
    /// those that the core works with included. Where tokio tells of them (`tokio_unstable`).
    AnyTask,
    /// The same as [`Runtime`](Self::Runtime), of a runtime with two workers: another thread may be
    /// at work in that moment.
    Workers,
    /// Whoever polls it panics, and it is dropped while the stack unwinds.
    Panic,
}

impl Fault {
    /// All that this build can do.
    pub(crate) fn all() -> Vec<Self> {
        let all = [
            Self::Drop,
            Self::Late,
            Self::Abort,
            Self::Runtime,
            Self::AnyTask,
            Self::Workers,
            Self::Panic,
        ];
        all.into_iter().filter(|one| *one != Self::AnyTask || cfg!(tokio_unstable)).collect()
    }

    /// The runtime is dropped.
    pub(crate) fn is_of_the_runtime(self) -> bool {
        matches!(self, Self::Runtime | Self::AnyTask | Self::Workers)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Late => "late drop",
            Self::Abort => "abort",
            Self::Runtime => "runtime",
            Self::AnyTask => "runtime, any task",
            Self::Workers => "runtime of workers",
            Self::Panic => "panic",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::all().into_iter().find(|fault| fault.word() == word)
    }
}

/// What a panic of ours carries.
pub(crate) struct Planned;

/// What is known of a future under way.
#[derive(Default)]
pub(crate) struct Progress {
    /// How often it was polled.
    pub(crate) polls: AtomicUsize,
    /// How often any task was polled since it began, and after how many the runtime is to go.
    pub(crate) turns: AtomicUsize,
    pub(crate) last_turn: Option<usize>,
    /// The runtime is to be dropped now.
    pub(crate) struck: Notify,
    /// Its own task.
    pub(crate) task: OnceLock<AbortHandle>,
}

impl Progress {
    /// A task of the runtime was polled.
    #[cfg_attr(not(tokio_unstable), expect(dead_code, reason = "tokio tells of no poll"))]
    pub(crate) fn turn(&self) {
        let turns = self.turns.fetch_add(1, Ordering::SeqCst) + 1;
        if self.last_turn == Some(turns) {
            self.struck.notify_one();
        }
    }
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// It was done before the fault struck.
    Done(Result<(), String>),
    /// It was cut off.
    Cut,
}

/// The future, cut off after `after` polls if there is a fault.
pub(crate) struct Cut {
    pub(crate) work: Option<Work>,
    pub(crate) fault: Option<(Fault, usize)>,
    pub(crate) progress: Arc<Progress>,
}

impl Cut {
    fn strike(&mut self, fault: Fault) -> Poll<Went> {
        match fault {
            Fault::Drop | Fault::Late => {
                self.work = None;
                Poll::Ready(Went::Cut)
            }
            Fault::Abort => {
                if let Some(task) = self.progress.task.get() {
                    task.abort();
                }
                Poll::Pending
            }
            Fault::Runtime | Fault::AnyTask | Fault::Workers => {
                self.progress.struck.notify_one();
                Poll::Pending
            }
            Fault::Panic => std::panic::panic_any(Planned),
        }
    }
}

impl Future for Cut {
    type Output = Went;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Went> {
        let this = self.get_mut();
        let polls = this.progress.polls.load(Ordering::SeqCst);
        if let Some((fault, after)) = this.fault
            && polls == after
            // Until the runtime is gone, others of its threads may come by.
            && (after == 0 || fault == Fault::Late || fault.is_of_the_runtime())
        {
            return this.strike(fault);
        }
        let Some(work) = this.work.as_mut() else { return Poll::Ready(Went::Cut) };
        this.progress.polls.store(polls + 1, Ordering::SeqCst);
        match work.as_mut().poll(context) {
            Poll::Ready(result) => {
                this.work = None;
                Poll::Ready(Went::Done(result))
            }
            Poll::Pending => match this.fault {
                Some((fault, after)) if polls + 1 == after && fault != Fault::Late => {
                    this.strike(fault)
                }
                _ => Poll::Pending,
            },
        }
    }
}
