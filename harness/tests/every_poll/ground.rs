//! What has to be as before: processes, descriptors, threads, tasks and files of the cell by
//! identity, and the rows of the census.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use harness::ledger::snapshot::{Facts, Identity, Kind, Snapshot};
use harness::probe::task::{TaskTable, alive_count};
use harness::probe::{Root, Scanner, Sight};
use harness::settle::load_per_core;
use scupper_core::census::Census;
use tokio::runtime::{Builder, Runtime};

use crate::fault::Progress;

/// How long one look waits for two equal scans.
const LOOK: Duration = Duration::from_secs(1);
/// The first pause between two looks, and the longest.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Something that should not be there, or should be and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// As `scupper list probes` has it; `census` for a row, `lost` for what is gone.
    pub(crate) kind: String,
    pub(crate) what: String,
}

impl Left {
    pub(crate) fn new(kind: impl Into<String>, what: impl Into<String>) -> Self {
        Self { kind: kind.into(), what: what.into() }
    }
}

/// What was there at one moment.
pub(crate) struct Before {
    things: BTreeMap<Identity, Facts>,
    rows: usize,
}

/// A runtime with a table of its tasks.
pub(crate) struct Ground {
    pub(crate) runtime: Runtime,
    tasks: TaskTable,
    /// Who hears of each poll of a task.
    hearer: Hearer,
}

type Hearer = Arc<Mutex<Option<Arc<Progress>>>>;

impl Ground {
    pub(crate) fn new() -> Self {
        Self::on(Builder::new_current_thread())
    }

    /// With two threads for its tasks beside that of its root.
    pub(crate) fn with_workers() -> Self {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2);
        Self::on(builder)
    }

    fn on(mut builder: Builder) -> Self {
        let tasks = TaskTable::new();
        // A thread for blocking work is the runtime's, and soon gone. After each poll of a task the
        // root of the runtime has its turn.
        builder.enable_all().thread_keep_alive(Duration::from_millis(1)).event_interval(1);
        tasks.install(&mut builder);
        let hearer = Hearer::default();
        #[cfg(tokio_unstable)]
        {
            let hearer = Arc::clone(&hearer);
            builder.on_after_task_poll(move |_| {
                let hearer = hearer.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(progress) = hearer.as_ref() {
                    progress.turn();
                }
            });
        }
        Self { runtime: builder.build().expect("a runtime"), tasks, hearer }
    }

    /// From now on this one hears of each poll of a task; none, nobody.
    pub(crate) fn tell(&self, progress: Option<&Arc<Progress>>) {
        *self.hearer.lock().unwrap_or_else(PoisonError::into_inner) = progress.cloned();
    }

    /// Lets its tasks work.
    fn work(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// The table outlives the runtime, which should have ended all of it.
    pub(crate) fn into_parts(self) -> (Runtime, TaskTable) {
        (self.runtime, self.tasks)
    }
}

/// Looks at the cell.
pub(crate) struct Eye {
    scanner: Scanner,
    sight: Sight,
}

impl Eye {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let kinds = [Kind::Fd, Kind::Thread, Kind::Process, Kind::Zombie, Kind::File];
        let sight = Sight {
            root: Root::Itself,
            ours: BTreeSet::new(),
            temp_dir: Some(folder),
            kinds: kinds.into_iter().collect(),
        };
        Self { scanner: Scanner::new(), sight }
    }

    pub(crate) fn before(&mut self, ground: &Ground, census: &Census) -> Before {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            ground.work(Duration::from_millis(1));
            let snapshot = self.look(ground);
            if snapshot.stable && snapshot.unreadable.is_empty() {
                return Before { things: snapshot.things, rows: census.len() };
            }
            assert!(Instant::now() < deadline, "no stable look: {:?}", snapshot.unreadable);
        }
    }

    fn look(&mut self, ground: &Ground) -> Snapshot {
        let mut snapshot = self.scanner.snapshot(&self.sight, LOOK);
        // The descriptors and threads of children are theirs; the children are seen themselves.
        let own = i32::try_from(std::process::id()).expect("a pid");
        snapshot.things.retain(|identity, _| {
            matches!(identity, Identity::Process(_))
                || identity.owner().is_none_or(|owner| owner.pid == own)
        });
        snapshot.things.extend(ground.tasks.to_things().unwrap_or_default());
        snapshot
    }

    /// What differs from before, once it has had the time to go: looks again and again, letting the
    /// runtime work in between, until nothing differs or the patience is over.
    pub(crate) fn left(
        &mut self,
        ground: &Ground,
        census: &Census,
        before: &Before,
        patience: Duration,
    ) -> Vec<Left> {
        let deadline = Instant::now() + patience.mul_f64(load_per_core().clamp(1.0, 4.0));
        let mut pause = FIRST_PAUSE;
        loop {
            ground.work(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            let late = Instant::now() >= deadline;
            // The cheap looks first: a scan of /proc shows nothing new before these are quiet.
            let is_quiet = census.len() == before.rows
                && ground.tasks.alive().is_none_or(|alive| {
                    let known = |id| before.things.contains_key(&Identity::Task { id });
                    alive.iter().all(|task| known(task.id))
                });
            if !is_quiet && !late {
                continue;
            }
            let left = self.difference(ground, census, before);
            if left.is_empty() || late {
                return left;
            }
        }
    }

    fn difference(&mut self, ground: &Ground, census: &Census, before: &Before) -> Vec<Left> {
        let now = self.look(ground);
        let mut left: Vec<Left> = Vec::new();
        for (identity, facts) in &now.things {
            if !before.things.contains_key(identity) {
                let kind = Snapshot::kind_of(identity, facts).to_string();
                left.push(Left::new(kind, format!("{identity:?} {facts:?}")));
            }
        }
        for (identity, facts) in &before.things {
            if !now.things.contains_key(identity) {
                let kind = Snapshot::kind_of(identity, facts);
                left.push(Left::new("lost", format!("{kind} {identity:?} {facts:?}")));
            }
        }
        if ground.tasks.alive().is_none() && alive_count(ground.runtime.handle()) > 0 {
            left.push(Left::new("task", "counted, not named: built without tokio_unstable"));
        }
        if census.len() != before.rows {
            left.push(Left::new("census", format!("{} rows before; now {census}", before.rows)));
        }
        for unreadable in &now.unreadable {
            left.push(Left::new("unreadable", format!("{unreadable:?}")));
        }
        if !now.stable {
            left.push(Left::new("unreadable", "no two scans in a row agreed"));
        }
        left
    }
}
