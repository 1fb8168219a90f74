//! The runtime that a host or a service runs on, the looks at it, and what should be gone by now.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::seam::Books;
use crate::cell::contain;
use crate::cell::protocol::CaseOrder;
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{Facts, FdKind, Identity, Kind, Snapshot, Unreadable};
use crate::ledger::verdict::{Class, Culprit, Failure, Finding, StepRef, StepTiming};
use crate::lifecycle::scenario::keeper;
use crate::probe::task::{TaskTable, alive_count};
use crate::probe::{Root, Scanner, Sight};
use crate::settle::load_per_core;
use crate::spelled::count;
use crate::subject::children::Children;
use crate::subject::finding;
use crate::subject::server::{Played, millis};

/// What a census says of the handler of a request.
const HANDLER: &str = "handler";
/// In the names of the files of a database.
const DATABASE: &str = ".sqlite";
/// How long a look waits for two equal scans.
const LOOK: Duration = Duration::from_secs(1);
/// How long tasks, descriptors and processes may take to be released once the subject says that it
/// is done: tokio wakes a joiner before it lets go of the task.
const RELEASE: Duration = Duration::from_secs(2);
/// The same where an end of the same sort has left something before.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a step may have things born and die before the next one comes.
const QUIET: Duration = Duration::from_millis(300);
/// First and longest pause between two looks at what is due.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// Looks at the bound until one of them is stable.
const FIRM_LOOKS: usize = 5;

/// Something that goes on beside the steps, and for which connection.
struct Beside {
    connection: String,
    doing: Pin<Box<dyn Future<Output = ()>>>,
}

/// Whose a thing is. What goes on beside the steps depends on other processes, which a busy host may
/// hold up for any time: what it opens may be born in any step until it has ended.
#[derive(Debug, Clone)]
struct Origin {
    /// In a step of this connection it was born.
    connection: String,
    /// Other connections that something went on for in that step.
    beside: BTreeSet<String>,
}

/// What is due.
pub(super) struct Due<'d> {
    /// By which step.
    pub(super) at: &'d StepRef,
    /// Whose.
    pub(super) whose: Whose<'d>,
    /// Which sorts of it.
    pub(super) sorts: Sorts,
    /// How long it may take; what the subject promises at once, where absent.
    pub(super) patience: Option<Duration>,
}

/// Whose things.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose<'d> {
    /// Born in this very step, whose connection it is.
    Step(&'d str),
    /// Born in this step, which came before.
    Born(&'d StepRef),
    /// Born in steps of this connection.
    Connection(&'d str),
    /// Born in steps of this host or service, or of its connections.
    Keeper(&'d str),
    /// Everything.
    All,
}

/// Which sorts of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sorts {
    /// Every sort.
    All,
    /// Sessions and cursors: the client has said that it is done.
    Kept,
    /// Sockets: the other end is closed.
    Sockets,
    /// Cursors: their time is over.
    Cursors,
    /// Handlers, as a census lists them: their request is cancelled.
    Handlers,
}

/// Who is judged, in the words of a finding.
pub(super) struct Blamed {
    /// Whose fault it is.
    pub(super) culprit: Culprit,
    /// Such as `the host`.
    pub(super) words: &'static str,
    /// What to change.
    pub(super) remedy: &'static str,
}

/// Where a host or a service is played.
pub(super) struct Stage<'a> {
    pub(super) order: &'a CaseOrder,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) played: Played,
    pub(super) begun: Instant,
    pub(super) books: Vec<Box<dyn Books>>,
    blamed: Blamed,
    tasks: TaskTable,
    scanner: Scanner,
    own: Sight,
    below: Sight,
    ledger: Ledger,
    baseline: BTreeSet<Identity>,
    /// Whose a thing is that was born after the beginning.
    origins: BTreeMap<Identity, Origin>,
    children: Children,
    beside: Vec<Beside>,
    /// The connections that something went on for when the step began.
    went_on: BTreeSet<String>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(order: &'a CaseOrder, blamed: Blamed) -> io::Result<Self> {
        let tasks = TaskTable::new();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all();
        tasks.install(&mut builder);
        let me = contain::own_pid();
        let sentinel = rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
        let sight = |root, ours, kinds: &[Kind]| Sight {
            root,
            ours,
            temp_dir: None,
            kinds: kinds.iter().copied().collect(),
        };
        Ok(Self {
            order,
            runtime: builder.build()?,
            played: Played::default(),
            begun: Instant::now(),
            books: Vec::new(),
            blamed,
            tasks,
            scanner: Scanner::new(),
            own: sight(Root::Itself, BTreeSet::new(), &[Kind::Fd, Kind::Thread]),
            below: sight(
                Root::Descendants(sentinel),
                BTreeSet::from([me]),
                &[Kind::Process, Kind::Zombie],
            ),
            ledger: Ledger::default(),
            baseline: BTreeSet::new(),
            origins: BTreeMap::new(),
            children: Children::default(),
            beside: Vec::new(),
            went_on: BTreeSet::new(),
        })
    }

    /// A process of the harness: a peer.
    pub(super) fn not_judged(&mut self, pid: i32) {
        self.below.ours.insert(pid);
    }

    /// Judges what is left in TMPDIR, a database apart: that is there to stay. For subjects that start
    /// no servers, which have files of their own.
    pub(super) fn look_at_files(&mut self) {
        self.own.temp_dir = std::env::var_os("TMPDIR").map(Into::into);
        self.own.kinds.insert(Kind::File);
    }

    /// What is there now is not judged.
    pub(super) fn take_baseline(&mut self) {
        let before =
            StepRef { place: "0".into(), name: "before the first step".into(), cycle: None };
        self.settle(RELEASE, |stage| {
            stage.look(&before, "");
            stage.ledger.last().stable
        });
        self.baseline = self.ledger.last().things.keys().cloned().collect();
    }

    /// Does something, and whatever goes on beside it.
    pub(super) fn drive<T>(&mut self, main: impl Future<Output = T>) -> T {
        let beside = &mut self.beside;
        self.runtime.block_on(async {
            let mut main = pin!(main);
            std::future::poll_fn(|cx| {
                beside.retain_mut(|one| one.doing.as_mut().poll(cx).is_pending());
                main.as_mut().poll(cx)
            })
            .await
        })
    }

    /// The same, bounded.
    pub(super) fn drive_within<T>(
        &mut self,
        within: Duration,
        main: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        self.drive(async {
            tokio::time::timeout(within, main)
                .await
                .unwrap_or_else(|_| Err(format!("not done after {} s", within.as_secs_f32())))
        })
    }

    /// Has something go on for a connection while later steps are played.
    pub(super) fn begin_beside(
        &mut self,
        connection: &str,
        doing: Pin<Box<dyn Future<Output = ()>>>,
    ) {
        self.beside.push(Beside { connection: connection.to_owned(), doing });
        // It has to be on its way before the next step.
        self.drive(tokio::task::yield_now());
    }

    /// Waits for everything that goes on beside the steps; false where the time was not enough.
    pub(super) fn finish_beside(&mut self, within: Duration) -> bool {
        let beside = &mut self.beside;
        self.runtime.block_on(async {
            let all = std::future::poll_fn(|cx| {
                beside.retain_mut(|one| one.doing.as_mut().poll(cx).is_pending());
                if beside.is_empty() { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::time::timeout(within, all).await.is_ok()
        })
    }

    /// Lets go of what goes on beside the steps for a host or a service: whoever waited is gone too.
    pub(super) fn drop_beside(&mut self, name: &str) {
        let guard = self.runtime.enter();
        self.beside.retain(|one| keeper(&one.connection) != name);
        drop(guard);
    }

    /// Looks at everything after a step of a connection.
    pub(super) fn look(&mut self, at: &StepRef, connection: &str) {
        // What is done elsewhere needs the runtime to be driven to be noticed.
        self.drive(tokio::task::yield_now());
        let mut snapshot = self.scanner.snapshot(&self.own, LOOK);
        let below = self.scanner.snapshot(&self.below, LOOK);
        let me = contain::own_pid();
        // The walk of our own process shows its descendants, too; whole they are in the other.
        snapshot.things.retain(|identity, _| {
            !matches!(identity, Identity::Process(_))
                && !matches!(identity, Identity::File { path, .. } if path.contains(DATABASE))
                && identity.owner().is_none_or(|owner| owner.pid == me)
        });
        snapshot.things.extend(below.things.into_iter().filter(|(_, facts)| match facts {
            // An orphan's body that waits for another process is not for the subject to reap.
            Facts::Process(facts) => !facts.is_zombie() || facts.parent == me,
            _ => true,
        }));
        snapshot.stable &= below.stable;
        snapshot.unreadable.extend(below.unreadable);
        match self.tasks.to_things() {
            Ok(tasks) => snapshot.things.extend(tasks),
            Err(unreadable) => snapshot.unreadable.push(unreadable),
        }
        for books in &self.books {
            snapshot.things.extend(books.kept());
        }
        for unreadable in &snapshot.unreadable {
            self.played.note_unreadable(self.order, unreadable, alive_count(self.runtime.handle()));
        }
        let change = self.ledger.record(at, snapshot);
        let origin = self.origin(connection);
        for identity in change.born {
            self.origins.insert(identity, origin.clone());
        }
        self.look_at_children(at);
    }

    /// Whose a thing is that is born in a step of a connection.
    fn origin(&self, connection: &str) -> Origin {
        let going_on = self.beside.iter().map(|one| &one.connection);
        let others = going_on.chain(&self.went_on).filter(|other| *other != connection);
        Origin { connection: connection.to_owned(), beside: others.cloned().collect() }
    }

    /// What is wrong with a child needs no end to be wrong.
    fn look_at_children(&mut self, at: &StepRef) {
        let lists = self.books.iter().filter_map(|books| books.children());
        let listed = lists.reduce(|all, more| all.union(&more).copied().collect());
        let me = contain::own_pid();
        match self.children.look(me, self.ledger.last(), listed.as_ref()) {
            Ok(wrong) => {
                let step = StepRef { cycle: None, ..at.clone() };
                for (kind, identity) in wrong {
                    if self.order.kinds.contains(&kind) {
                        self.found(kind, step.clone(), &step, &[identity]);
                    }
                }
            }
            Err(unseen) => drop(self.played.unreadable.insert(unseen)),
        }
    }

    /// What was seen. A thread of the runtime that is stuck was seen, and is left behind.
    pub(super) fn end(mut self) -> Played {
        self.played.lives.take_in(self.ledger.lives(&self.played.findings));
        self.runtime.shutdown_timeout(RELEASE);
        self.played
    }

    /// Looks after a step until nothing is born or dies any more, so that what a step sets off is not
    /// taken for the next step's.
    pub(super) fn look_around(&mut self, at: &StepRef, connection: &str) {
        let deadline = Instant::now() + QUIET;
        let mut before = Vec::new();
        loop {
            self.look(at, connection);
            let now: Vec<Identity> = self.ledger.last().things.keys().cloned().collect();
            if now == before || Instant::now() >= deadline {
                break;
            }
            before = now;
            self.drive(async { tokio::time::sleep(PAUSES[0]).await });
        }
        self.went_on = self.beside.iter().map(|one| one.connection.clone()).collect();
    }

    /// Everything alive that was born in steps of a connection and is a process.
    pub(super) fn processes_of(&self, connection: &str) -> Vec<crate::ledger::snapshot::ProcessId> {
        let me = contain::own_pid();
        let born =
            |identity: &Identity| self.origins.get(identity).map(|one| one.connection.as_str());
        self.ledger
            .last()
            .processes()
            .filter(|(id, facts)| {
                facts.parent == me
                    && !facts.is_zombie()
                    && born(&Identity::Process(*id)) == Some(connection)
            })
            .map(|(id, _)| id)
            .collect()
    }

    /// Waits until what is due has gone, and makes findings of what has not. Each is found once.
    pub(super) fn judge(&mut self, due: &Due<'_>) {
        let mut found = self.played.findings.iter();
        let known = found.any(|one| one.due_step.name == due.at.name);
        let patience = match due.patience {
            Some(patience) => patience,
            // What is left by one end is not waited for as long at the next of the same sort.
            None if known => AGAIN,
            None => RELEASE.mul_f64(load_per_core().clamp(1.0, 4.0)),
        };
        let quiet = self.settle(patience, |stage| {
            stage.look(due.at, due.whose.connection());
            stage.ledger.last().stable && stage.left(due).is_empty()
        });
        if quiet {
            return;
        }
        for _ in 0..FIRM_LOOKS {
            if self.ledger.last().stable {
                break;
            }
            self.look(due.at, due.whose.connection());
        }
        if !self.ledger.last().stable && !known {
            let unseen = "no two scans in a row agreed, so what is left is not certain".to_owned();
            self.played.unreadable.insert(unseen);
        }
        let mut groups: BTreeMap<(Kind, StepRef), Vec<Identity>> = BTreeMap::new();
        for identity in self.left(due) {
            let facts = &self.ledger.last().things[&identity];
            let kind = Snapshot::kind_of(&identity, facts);
            let birth = self.ledger.birth(&identity).unwrap_or(due.at);
            let birth = StepRef { cycle: None, ..birth.clone() };
            self.baseline.insert(identity.clone());
            if self.order.kinds.contains(&kind) {
                groups.entry((kind, birth)).or_default().push(identity);
            }
        }
        for ((kind, birth), identities) in groups {
            self.found(kind, birth, &StepRef { cycle: None, ..due.at.clone() }, &identities);
        }
    }

    /// What is due and still there.
    fn left(&self, due: &Due<'_>) -> Vec<Identity> {
        let wanted = |identity: &Identity, facts: &Facts| {
            let origin = self.origins.get(identity);
            let whose = match due.whose {
                Whose::All => true,
                Whose::Step(name) => {
                    self.ledger.birth(identity) == Some(due.at)
                        && origin.is_some_and(|origin| origin.is_surely(name))
                }
                Whose::Born(step) => self.ledger.birth(identity) == Some(step),
                Whose::Keeper(name) => origin.is_some_and(|origin| origin.is_kept_by(name)),
                Whose::Connection(name) => origin.is_some_and(|origin| origin.is_surely(name)),
            };
            whose && due.sorts.holds(identity, facts)
        };
        let things = self.ledger.last().things.iter();
        let new = things.filter(|(identity, facts)| {
            !self.baseline.contains(identity) && wanted(identity, facts)
        });
        new.map(|(identity, _)| identity.clone()).collect()
    }

    fn found(&mut self, kind: Kind, birth: StepRef, due: &StepRef, identities: &[Identity]) {
        let things = &self.ledger.last().things;
        let site = identities.iter().find_map(|identity| match things.get(identity) {
            Some(Facts::Task { spawned_at: site } | Facts::Kept { opened_at: site, .. }) => {
                site.clone()
            }
            _ => None,
        });
        let mut evidence: Vec<String> = Vec::new();
        for identity in identities.iter().take(Finding::IDENTITIES) {
            let words = match things.get(identity) {
                Some(Facts::Kept { words, .. }) if !words.is_empty() => format!(" ({words})"),
                Some(Facts::Task { spawned_at: Some(site) }) => format!(" (spawned at {site})"),
                _ => String::new(),
            };
            let beside = match self.origins.get(identity) {
                Some(origin) if !origin.beside.is_empty() => {
                    let others: Vec<&str> = origin.beside.iter().map(String::as_str).collect();
                    format!(" (or of what went on beside that step, for {})", others.join(", "))
                }
                _ => String::new(),
            };
            evidence.push(finding::thing(identity, &self.ledger) + &words + &beside);
        }
        let known = self
            .played
            .findings
            .iter_mut()
            .find(|one| (one.kind, &one.birth_step, &one.due_step) == (kind, &birth, due));
        if let Some(known) = known {
            known.count += identities.len();
            known.what = what(known.count, kind, self.blamed.words);
            let room = Finding::IDENTITIES.saturating_sub(known.identities.len());
            known.identities.extend(identities.iter().take(room).cloned());
            known.evidence.extend(evidence.into_iter().take(room));
            return;
        }
        let (hurts, _) = finding::words_of(kind);
        let blame = format!("nothing but {} worked in this process", self.blamed.words);
        self.played.findings.push(Finding {
            class: Class::Leak,
            kind,
            what: what(identities.len(), kind, self.blamed.words),
            identities: identities.iter().take(Finding::IDENTITIES).cloned().collect(),
            count: identities.len(),
            birth_step: birth,
            due_step: due.clone(),
            culprit: self.blamed.culprit,
            blame,
            rule: None,
            hurts: hurts.to_owned(),
            site,
            holders: Vec::new(),
            holders_unread: 0,
            evidence,
            remedy: self.blamed.remedy.to_owned(),
        });
    }

    /// Looks again and again, the runtime driven in between; false at the bound.
    fn settle(&mut self, patience: Duration, mut quiet: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let [mut pause, longest] = PAUSES;
        let mut quiet_before = false;
        loop {
            let now_quiet = quiet(self);
            if now_quiet && quiet_before {
                return true;
            }
            quiet_before = now_quiet;
            if !now_quiet && Instant::now() >= deadline {
                return false;
            }
            self.drive(async { tokio::time::sleep(pause).await });
            pause = (pause * 2).min(longest);
        }
    }

    /// A step went wrong: the first counts.
    pub(super) fn failed(&mut self, at: &StepRef, message: String) {
        if self.played.failure.is_none() {
            self.played.failure = Some(Failure {
                step: at.clone(),
                message,
                output: Vec::new(),
                not_started: false,
                refused: false,
            });
        }
    }

    pub(super) fn time(&mut self, at: &StepRef, began: Instant) {
        let took_ms = millis(began.elapsed());
        match self.played.steps.iter_mut().find(|timing| timing.step.place == at.place) {
            Some(timing) => timing.took_ms += took_ms,
            None => self.played.steps.push(StepTiming {
                step: StepRef { cycle: None, ..at.clone() },
                at_ms: millis(began.saturating_duration_since(self.begun)),
                took_ms,
            }),
        }
    }
}

impl<'d> Whose<'d> {
    /// To whom things belong that are born while they are waited for.
    fn connection(self) -> &'d str {
        match self {
            Whose::Step(name) | Whose::Connection(name) | Whose::Keeper(name) => name,
            Whose::Born(_) | Whose::All => "",
        }
    }
}

impl Origin {
    /// It is of this connection and cannot be of another one.
    fn is_surely(&self, connection: &str) -> bool {
        self.connection == connection && self.beside.is_empty()
    }

    /// It is of this host or service, or of a connection of it.
    fn is_kept_by(&self, name: &str) -> bool {
        let is_of = |connection: &str| connection == name || keeper(connection) == name;
        !self.connection.is_empty()
            && is_of(&self.connection)
            && self.beside.iter().all(|other| is_of(other))
    }
}

impl Sorts {
    fn holds(self, identity: &Identity, facts: &Facts) -> bool {
        match self {
            Sorts::All => true,
            Sorts::Kept => matches!(identity, Identity::Session { .. } | Identity::Cursor { .. }),
            Sorts::Cursors => matches!(identity, Identity::Cursor { .. }),
            Sorts::Handlers => matches!(facts, Facts::Kept { words, .. } if words == HANDLER),
            Sorts::Sockets => matches!(identity, Identity::Fd { kind: FdKind::Socket, .. }),
        }
    }
}

impl Played {
    /// Notes what could not be looked at.
    pub(super) fn note_unreadable(&mut self, order: &CaseOrder, one: &Unreadable, tasks: usize) {
        if one.kind == Kind::Task {
            // Without tokio_unstable tasks are counted and not named.
            let note = format!("tasks were counted, not named: {}", one.cause);
            if tasks > 0 && !self.notes.contains(&note) {
                self.notes.push(note);
            }
        } else if order.kinds.contains(&one.kind) {
            self.unreadable.insert(format!("{}: {}", one.what, one.cause));
        }
    }
}

fn what(number: usize, kind: Kind, words: &str) -> String {
    format!("{} of {words}", count(number, kind.as_str()))
}
