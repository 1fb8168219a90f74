//! The table of tasks of our own tokio runtimes, with the line that spawned each.
//!
//! Tasks can be named only when tokio is built with `--cfg tokio_unstable` (Runtime::Builder's
//! task hooks). Without it they are counted, see [`alive_count`], and [`TaskTable::alive`] is none,
//! never an empty list.
//!
//! What neither sees: the root future of `block_on`, `spawn_blocking`, and tasks of a `LocalSet`.
//! A task is released a little after its `JoinHandle` returns, so a look wants to be repeated until
//! it is quiet. Dropping a runtime ends all its tasks: look before that.

use std::fmt;

use crate::ledger::snapshot::{Facts, Identity, Kind, Unreadable};

/// A task that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTask {
    /// tokio's id.
    pub id: u64,
    /// `file:line` that spawned it.
    pub spawned_at: Option<String>,
}

/// `task 12, spawned at src/host.rs:34`
impl fmt::Display for LiveTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        self.spawned_at.iter().try_for_each(|site| write!(f, ", spawned at {site}"))
    }
}

/// The tasks of every runtime that it was installed on.
#[derive(Debug, Clone, Default)]
pub struct TaskTable {
    #[cfg(tokio_unstable)]
    live: std::sync::Arc<std::sync::Mutex<hooks::Live>>,
}

impl TaskTable {
    /// Tasks can be named in this build.
    pub const NAMES_TASKS: bool = cfg!(tokio_unstable);

    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hooks the table into a runtime to be built. tokio keeps one hook of each sort per runtime:
    /// the last one set.
    pub fn install(&self, builder: &mut tokio::runtime::Builder) {
        #[cfg(tokio_unstable)]
        hooks::install(&self.live, builder);
        #[cfg(not(tokio_unstable))]
        let _ = builder;
    }

    /// The tasks that live, in order of id; none where this build cannot name them.
    pub fn alive(&self) -> Option<Vec<LiveTask>> {
        #[cfg(tokio_unstable)]
        return Some(hooks::lock(&self.live).tasks());
        #[cfg(not(tokio_unstable))]
        None
    }

    /// The tasks that live, for a snapshot.
    ///
    /// # Errors
    /// This build cannot name tasks.
    pub fn to_things(&self) -> Result<Vec<(Identity, Facts)>, Unreadable> {
        let tasks = self.alive().ok_or_else(|| Unreadable {
            what: "tasks of our own runtimes".to_owned(),
            kind: Kind::Task,
            cause: "built without --cfg tokio_unstable, which counts tasks and does not name them"
                .to_owned(),
        })?;
        let thing = |task: LiveTask| {
            (Identity::Task { id: task.id }, Facts::Task { spawned_at: task.spawned_at })
        };
        Ok(tasks.into_iter().map(thing).collect())
    }
}

/// How many tasks of a runtime live. Works in every build; a swap keeps the count.
pub fn alive_count(runtime: &tokio::runtime::Handle) -> usize {
    runtime.metrics().num_alive_tasks()
}

#[cfg(tokio_unstable)]
mod hooks {
    use std::collections::{BTreeMap, VecDeque};
    use std::panic::Location;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use super::LiveTask;

    /// How many ends without a beginning are remembered. A task that is spawned on a runtime that
    /// has shut down ends within its own spawn, before its beginning is told; everything else that
    /// ends without a beginning is `spawn_blocking`, whose beginning is never told.
    const ENDED_EARLY: usize = 1024;

    #[derive(Debug, Default)]
    pub(super) struct Live {
        tasks: BTreeMap<u64, &'static Location<'static>>,
        ended_early: VecDeque<u64>,
    }

    impl Live {
        pub(super) fn begin(&mut self, id: u64, spawned_at: &'static Location<'static>) {
            match self.ended_early.iter().position(|&ended| ended == id) {
                Some(at) => drop(self.ended_early.remove(at)),
                None => drop(self.tasks.insert(id, spawned_at)),
            }
        }

        pub(super) fn end(&mut self, id: u64) {
            if self.tasks.remove(&id).is_some() {
                return;
            }
            if self.ended_early.len() == ENDED_EARLY {
                self.ended_early.pop_front();
            }
            self.ended_early.push_back(id);
        }

        pub(super) fn tasks(&self) -> Vec<LiveTask> {
            let task = |(&id, location): (&u64, &&'static Location<'static>)| LiveTask {
                id,
                spawned_at: Some(format!("{}:{}", location.file(), location.line())),
            };
            self.tasks.iter().map(task).collect()
        }
    }

    pub(super) fn install(live: &Arc<Mutex<Live>>, builder: &mut tokio::runtime::Builder) {
        let (spawned, ended) = (Arc::clone(live), Arc::clone(live));
        builder
            .on_task_spawn(move |meta| {
                if let Some(id) = number(meta.id()) {
                    lock(&spawned).begin(id, meta.spawned_at());
                }
            })
            .on_task_terminate(move |meta| {
                if let Some(id) = number(meta.id()) {
                    lock(&ended).end(id);
                }
            });
    }

    /// A table whose holder panicked is still right: every change is one step.
    pub(super) fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
        live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// tokio shows the number of an id in no other way.
    fn number(id: tokio::task::Id) -> Option<u64> {
        id.to_string().parse().ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_end_before_its_beginning_leaves_nothing() {
            let mut live = Live::default();
            live.end(7);
            live.begin(7, Location::caller());
            assert_eq!(live.tasks(), []);
            live.begin(8, Location::caller());
            assert_eq!(live.tasks().len(), 1);
            live.end(8);
            assert_eq!(live.tasks(), []);
        }

        #[test]
        fn ends_without_a_beginning_are_forgotten_in_time() {
            let mut live = Live::default();
            for id in 0..3 * ENDED_EARLY as u64 {
                live.end(id);
            }
            assert_eq!(live.ended_early.len(), ENDED_EARLY);
        }
    }
}

#[cfg(all(test, tokio_unstable))]
mod tests {
    use super::*;

    fn runtime(table: &TaskTable) -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        table.install(&mut builder);
        builder.build().expect("a runtime")
    }

    #[test]
    fn a_forgotten_task_is_named_with_the_line_that_spawned_it() {
        let table = TaskTable::new();
        let runtime = runtime(&table);
        let (line, forgotten) = (line!(), runtime.spawn(std::future::pending::<()>()));
        let alive = table.alive().expect("named");
        assert_eq!(alive.len(), 1);
        assert_eq!(alive[0].spawned_at, Some(format!("{}:{line}", file!())));
        assert_eq!(alive_count(runtime.handle()), 1);
        assert_eq!(
            table.to_things().expect("named")[0].0,
            Identity::Task { id: forgotten.id().to_string().parse().expect("a number") }
        );
        forgotten.abort();
        runtime.block_on(forgotten).expect_err("aborted");
        assert_eq!(table.alive(), Some(Vec::new()));
        assert_eq!(alive_count(runtime.handle()), 0);
    }

    #[test]
    fn blocking_tasks_and_spawns_after_shutdown_leave_no_phantom() {
        let table = TaskTable::new();
        let runtime = runtime(&table);
        let handle = runtime.handle().clone();
        runtime.block_on(async {
            tokio::task::spawn_blocking(|| ()).await.expect("ended");
        });
        drop(runtime);
        drop(handle.spawn(std::future::pending::<()>()));
        assert_eq!(table.alive(), Some(Vec::new()));
    }
}
