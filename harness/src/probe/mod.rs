//! Probes: each reads one kind of resource; what cannot be read is a value of its own.
//!
//! Start at [`Scanner::snapshot`]. In reading order: `read` (bounded reads of /proc), `process`,
//! `fd`, `thread`, `memory` and `file` fill a [`Snapshot`]; `socket`, `holder` and `signal` say more
//! of a finding; `inherited` tells what a child was not to have; `task` keeps the table of our own
//! runtimes, `store` reads cursors from outside; `host` tests what this host can prove.
//!
//! # What is gone, what could not be read
//!
//! A process or descriptor that vanishes while it is looked at (ENOENT, ESRCH) is absent: a
//! later scan agrees or does not. A refusal (EACCES, EPERM) is an [`Unreadable`], unless the
//! process turned out to be a zombie in the meantime: a zombie has no descriptors, threads or
//! memory, and the kernel refuses access to them.
//!
//! # One look is no snapshot
//!
//! /proc/PID/fd is read entry by entry, and a process that moves a descriptor about can be seen
//! without it. [`Scanner::snapshot`] therefore wants two consecutive scans that agree, and a scan
//! in which the number of descriptors listed is the number that the kernel counts in one go (the
//! size of the directory, Linux 6.2), before and after. A thread that waits in accept(2) holds a
//! number that names nothing, so the kernel's count stays above the list for good: twenty scans in
//! a row that agree, each short by the same number, do as well.
//!
//! # Cost
//!
//! `cargo bench -p benches --bench probe` measures it beside the floor, which is getdents, and readlinkat
//! and fstatat of each descriptor. A descriptor is looked at with a readlink, and of a pipe the permissions
//! of the link, of a file a stat; only eventfds and pidfds need fdinfo, which costs more than the two. That
//! comes to about the floor, and to some 5 microseconds a descriptor on a busy host with 2 cores. To find the
//! processes below a subreaper takes one stat for every process in /proc; in a pid namespace /proc is
//! short. A stable snapshot is two scans and a wait of 0.2 ms.
//!
//! The scanner keeps no descriptor open between looks, so a process that looks at itself does not
//! find the scanner. Two scanners at work in two threads of one process do see each other.

pub mod fd;
pub mod file;
pub mod holder;
pub mod host;
#[cfg(feature = "core")]
pub mod inherited;
pub mod memory;
pub mod process;
mod read;
pub mod signal;
pub mod socket;
#[cfg(feature = "core")]
pub mod store;
#[cfg(feature = "core")]
pub mod task;
pub mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::ledger::snapshot::{
    Facts, Identity, Kind, ProcessFacts, ProcessId, Snapshot, Unreadable,
};
use process::Selected;
use read::Buffers;

/// The first wait between two scans; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_micros(200);
/// The longest wait between two scans.
const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// So many scans in a row have to agree where the kernel counts more descriptors than it lists. One that
/// moves about is missed by one scan in a few, and not by all of these.
const SCANS_WHERE_SHORT: u32 = 20;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Which processes.
    pub root: Root,
    /// Pids of the harness itself. They are not reported, nor is anything of theirs; what
    /// descends from them is.
    pub ours: BTreeSet<i32>,
    /// The case's TMPDIR, for [`Kind::File`].
    pub temp_dir: Option<PathBuf>,
    /// Kinds to look for. [`Kind::Task`] is not the scanner's: see `task`.
    pub kinds: BTreeSet<Kind>,
}

/// Which processes belong to a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// Every process visible in /proc: the cell lives in a pid namespace.
    Namespace,
    /// Descendants of this pid, which is a child subreaper; itself not.
    Descendants(i32),
    /// This process itself and its descendants: core judged in process.
    Itself,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// /proc or a part of it that everything rests on.
    #[error("could not read {path}")]
    Read {
        /// What was read.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Where the descendants went is not known.
    #[error("pid {0}, whose descendants were to be looked at, is gone")]
    RootGone(i32),
    /// Processes that exist and cannot be looked at.
    #[error("{} ({}){}", .0.what, .0.cause, more(*.1))]
    Hidden(Unreadable, usize),
}

impl ProbeError {
    fn read(path: &str, errno: Errno) -> Self {
        ProbeError::Read { path: path.to_owned(), source: errno.into() }
    }
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" and {others} more") }
}

/// Looks at processes and what they hold. Reuses its buffers; holds no descriptor between looks.
#[derive(Debug)]
pub struct Scanner {
    buffers: Buffers,
    known: fd::Known,
    hidden: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner; finds out whether /proc hides processes of others from it.
    pub fn new() -> Self {
        Scanner {
            buffers: Buffers::default(),
            known: fd::Known::default(),
            hidden: host::proc_hides(),
        }
    }

    /// The processes alone, zombies too, whatever `sight.kinds` says.
    ///
    /// # Errors
    /// /proc cannot be read, the root is gone, or some process of the case exists and cannot be
    /// looked at.
    pub fn processes(
        &mut self,
        sight: &Sight,
    ) -> Result<BTreeMap<ProcessId, ProcessFacts>, ProbeError> {
        let Selected { rows, mut unreadable, .. } =
            process::select(sight.root, &sight.ours, self.hidden, &mut self.buffers)?;
        if !unreadable.is_empty() {
            let first = unreadable.swap_remove(0);
            return Err(ProbeError::Hidden(first, unreadable.len()));
        }
        Ok(rows
            .into_iter()
            .filter_map(|stat| {
                let facts = process::facts(&stat, &mut self.buffers)?;
                Some((stat.id(), facts))
            })
            .collect())
    }

    /// One pass over all kinds. `stable` is false: nothing rests on one pass alone.
    pub fn scan(&mut self, sight: &Sight) -> Snapshot {
        self.pass(sight).0
    }

    /// Scans until two consecutive scans agree (`stable`) or the budget is used up (the last scan,
    /// not `stable`). At least two scans, whatever the budget. Does not stop the target.
    pub fn snapshot(&mut self, sight: &Sight, budget: Duration) -> Snapshot {
        let start = Instant::now();
        let mut wait = FIRST_WAIT;
        let (mut last, mut last_pass) = self.pass(sight);
        let mut agreeing = 1;
        loop {
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            let (mut next, pass) = self.pass(sight);
            let agrees = !pass.moved && last_pass == pass && agree(&last, &next);
            agreeing = if agrees { agreeing + 1 } else { 1 };
            if agreeing >= if pass.short.is_empty() { 2 } else { SCANS_WHERE_SHORT } {
                next.stable = true;
                return next;
            }
            if start.elapsed() + wait >= budget {
                return next;
            }
            (last, last_pass) = (next, pass);
        }
    }

    /// One pass, and what is known of its worth.
    fn pass(&mut self, sight: &Sight) -> (Snapshot, Pass) {
        let mut snapshot = Snapshot::default();
        let mut pass = Pass::default();
        match process::select(sight.root, &sight.ours, self.hidden, &mut self.buffers) {
            Ok(selected) => {
                self.known.pidfds.keep_only_seen();
                snapshot.unreadable = selected.unreadable;
                for stat in &selected.rows {
                    let is_self = stat.pid == selected.own_pid;
                    match self.look_at(stat, is_self, &sight.kinds, &mut snapshot) {
                        fd::Look::Whole => {}
                        fd::Look::Short(number) => drop(pass.short.insert(stat.id(), number)),
                        fd::Look::Moved => pass.moved = true,
                    }
                }
            }
            Err(error) => snapshot.unreadable.push(Unreadable {
                what: "the process table".to_owned(),
                kind: Kind::Process,
                cause: with_source(&error),
            }),
        }
        if let (Some(root), true) = (&sight.temp_dir, sight.kinds.contains(&Kind::File)) {
            file::walk(root, file::Bounds::default(), &mut snapshot);
        }
        (snapshot, pass)
    }

    /// Everything of one process.
    fn look_at(
        &mut self,
        stat: &process::Stat,
        is_self: bool,
        kinds: &BTreeSet<Kind>,
        snapshot: &mut Snapshot,
    ) -> fd::Look {
        let own_kind = if stat.is_zombie() { Kind::Zombie } else { Kind::Process };
        let Ok(dir) = read::process_dir(stat.pid) else { return fd::Look::Whole };
        if kinds.contains(&own_kind) {
            let Some(facts) = process::facts_in(&dir, stat, &mut self.buffers) else {
                return fd::Look::Whole;
            };
            snapshot.things.insert(Identity::Process(stat.id()), Facts::Process(facts));
        }
        if stat.is_zombie() {
            return fd::Look::Whole;
        }
        let mut refused = Vec::new();
        let mut look = fd::Look::Whole;
        let things = &mut snapshot.things;
        if kinds.contains(&Kind::Fd) {
            match fd::scan(&dir, stat, is_self, &mut self.buffers, &mut self.known, things) {
                Ok(of_descriptors) => look = of_descriptors,
                Err(errno) => refused.push(("descriptors", Kind::Fd, errno)),
            }
        }
        if kinds.contains(&Kind::Thread)
            && let Err(errno) = thread::scan(&dir, stat, &mut self.buffers, things)
        {
            refused.push(("threads", Kind::Thread, errno));
        }
        if kinds.contains(&Kind::Memory) {
            match memory::read(&dir, &mut self.buffers) {
                Ok(memory) => {
                    snapshot.memory.insert(stat.id(), memory);
                }
                Err(errno) => refused.push(("memory", Kind::Memory, errno)),
            }
        }
        refused.retain(|(_, _, errno)| !read::is_gone(*errno));
        if refused.is_empty() || process::has_ended(&dir, &mut self.buffers) {
            return look;
        }
        for (noun, kind, errno) in refused {
            snapshot.unreadable.push(Unreadable {
                what: format!("{noun} of pid {} ({})", stat.pid, stat.name),
                kind,
                cause: std::io::Error::from(errno).to_string(),
            });
        }
        look
    }
}

/// What one pass is worth, as far as a single pass can tell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pass {
    /// Something moved under it.
    moved: bool,
    /// Processes of which fewer descriptors are listed than the kernel counts, and how many fewer.
    short: BTreeMap<ProcessId, usize>,
}

/// The same things, living or dead alike, and the same gaps. Facts may differ: a process runs or
/// sleeps, a file grows. Not so those of a descriptor: its link and its permissions are two reads, and
/// its number may be given to another between them.
fn agree(one: &Snapshot, other: &Snapshot) -> bool {
    let same = |((identity, facts), (its_identity, its_facts)): (
        (&Identity, &Facts),
        (&Identity, &Facts),
    )| {
        identity == its_identity
            && match (facts, its_facts) {
                (Facts::Fd { .. }, _) => facts == its_facts,
                _ => Snapshot::kind_of(identity, facts) == Snapshot::kind_of(identity, its_facts),
            }
    };
    one.things.len() == other.things.len()
        && one.unreadable == other.unreadable
        && one.things.iter().zip(&other.things).all(same)
}

fn with_source(error: &ProbeError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::snapshot::FdKind;

    fn snapshot_of(state: char, pid: i32) -> Snapshot {
        let facts = ProcessFacts {
            parent: 1,
            group: pid,
            session: pid,
            state,
            name: "sleep".to_owned(),
            command: Vec::new(),
            cookie: None,
        };
        let id = ProcessId { pid, start_time: 7 };
        let mut snapshot = Snapshot::default();
        snapshot.things.insert(Identity::Process(id), Facts::Process(facts));
        snapshot
    }

    #[test]
    fn scans_agree_on_identities_and_not_on_moods() {
        assert!(agree(&snapshot_of('R', 4), &snapshot_of('S', 4)));
        assert!(!agree(&snapshot_of('S', 4), &snapshot_of('Z', 4)));
        assert!(!agree(&snapshot_of('S', 4), &snapshot_of('S', 5)));
    }

    #[test]
    fn an_end_of_a_pipe_that_was_another_in_mid_look_is_a_disagreement() {
        let end = |write_end| {
            let identity = Identity::Fd {
                owner: ProcessId { pid: 4, start_time: 7 },
                number: 5,
                kind: FdKind::Pipe,
                target: "pipe:[9]".to_owned(),
                device: 1,
                inode: 9,
                extra: String::new(),
            };
            let things = [(identity, Facts::Fd { write_end })].into();
            Snapshot { things, ..Snapshot::default() }
        };
        assert!(agree(&end(true), &end(true)));
        assert!(!agree(&end(true), &end(false)));
    }

    #[test]
    fn a_new_gap_is_a_disagreement() {
        let mut gap = snapshot_of('S', 4);
        gap.unreadable.push(Unreadable {
            what: "descriptors of pid 4 (sleep)".to_owned(),
            kind: Kind::Fd,
            cause: "permission denied".to_owned(),
        });
        assert!(!agree(&snapshot_of('S', 4), &gap));
    }
}
