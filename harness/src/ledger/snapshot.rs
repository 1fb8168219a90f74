//! What all probes saw at one instant, keyed by identity. Pure data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A process for ever: the pid may be given out again, the pair may not (proc_pid_stat(5), field 22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessId {
    /// Process id as the cell sees it.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

/// Kinds of things that leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A living process.
    Process,
    /// A dead process that its parent never reaped.
    Zombie,
    /// A file descriptor.
    Fd,
    /// A thread.
    Thread,
    /// A tokio task of our own runtimes.
    Task,
    /// A session of Streamable HTTP that whoever keeps it did not end.
    Session,
    /// Pagination state of a session, in memory or in a store.
    Cursor,
    /// An entry of a registry or a cache: a server's, its tools', its messages'.
    Entry,
    /// A file in the case's TMPDIR.
    File,
    /// Memory, a trend only.
    Memory,
}

spelled! {
    Kind { Process = "process", Zombie = "zombie", Fd = "fd", Thread = "thread", Task = "task", Session = "session", Cursor = "cursor", Entry = "entry", File = "file", Memory = "memory" }
}

/// What a descriptor refers to, by the form of its link in /proc/PID/fd (proc_pid_fd(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FdKind {
    /// A file, directory or device by path.
    File,
    /// `pipe:[inode]`, or a FIFO.
    Pipe,
    /// `socket:[inode]`.
    Socket,
    /// `anon_inode:[eventfd]`.
    Eventfd,
    /// `anon_inode:[eventpoll]`.
    Epoll,
    /// `anon_inode:[timerfd]`.
    Timerfd,
    /// `anon_inode:[signalfd]`.
    Signalfd,
    /// `anon_inode:inotify`.
    Inotify,
    /// `anon_inode:[pidfd]`, or a pidfs inode.
    Pidfd,
    /// `/memfd:NAME (deleted)`.
    Memfd,
    /// Any other anonymous inode.
    Other,
}

/// Identity of one thing. Equal identities are the same thing; counts are never compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// A process, living or zombie.
    Process(ProcessId),
    /// A descriptor of a process.
    Fd {
        /// Whose.
        owner: ProcessId,
        /// Its number.
        number: i32,
        /// What it refers to.
        kind: FdKind,
        /// Link target, such as `pipe:[4711]` or a path.
        target: String,
        /// `st_dev` of what it refers to.
        device: u64,
        /// `st_ino` of what it refers to; the same for all of one anonymous kind.
        inode: u64,
        /// What fdinfo adds to tell anonymous ones apart: `eventfd-id: 7`, `Pid: 12`; else empty.
        extra: String,
    },
    /// A thread of a process, the leader not counted.
    Thread {
        /// Whose.
        owner: ProcessId,
        /// Thread id.
        tid: i32,
        /// Start time in clock ticks since boot.
        start_time: u64,
    },
    /// A task of one of our own tokio runtimes.
    Task {
        /// tokio's id, never given out again in one process.
        id: u64,
    },
    /// A session of Streamable HTTP.
    Session {
        /// Who keeps it, such as `server files` or `service main`.
        keeper: String,
        /// Its id.
        id: String,
    },
    /// Pagination state of a session.
    Cursor {
        /// Where it is kept: `memory of service main`, a database.
        store: String,
        /// Its id there.
        id: String,
    },
    /// An entry of a registry or a cache.
    Entry {
        /// Which, such as `tools of host main`.
        registry: String,
        /// Its key there.
        key: String,
    },
    /// A file left below the case's TMPDIR.
    File {
        /// Path relative to that TMPDIR.
        path: String,
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
    },
}

impl Identity {
    /// The process it belongs to, where it belongs to one.
    pub fn owner(&self) -> Option<ProcessId> {
        match self {
            Identity::Process(id) => Some(*id),
            Identity::Fd { owner, .. } | Identity::Thread { owner, .. } => Some(*owner),
            Identity::Task { .. }
            | Identity::Session { .. }
            | Identity::Cursor { .. }
            | Identity::Entry { .. }
            | Identity::File { .. } => None,
        }
    }
}

/// What is known of a thing beside its identity; it may change while the thing stays the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Facts {
    /// Of a process.
    Process(ProcessFacts),
    /// Of a descriptor.
    Fd {
        /// It is the write end of a pipe, or a FIFO open for writing.
        write_end: bool,
    },
    /// Of a thread.
    Thread {
        /// Name of the thread.
        name: String,
    },
    /// Of a task.
    Task {
        /// `file:line` that spawned it, where known.
        spawned_at: Option<String>,
    },
    /// Of a session, a cursor or an entry.
    Kept {
        /// What its keeper says of it, such as `active` or `100 KiB of session 4711`.
        words: String,
        /// `file:line` that opened it, where known.
        opened_at: Option<String>,
    },
    /// Of a file.
    File {
        /// Size in bytes.
        size: u64,
    },
}

/// What is known of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Parent pid now.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// State letter of proc_pid_stat(5): R, S, D, T, Z, …
    pub state: char,
    /// Short name of the executable, at most 15 bytes.
    pub name: String,
    /// Command line; empty for a zombie or where it could not be read.
    pub command: Vec<String>,
    /// The connection whose cookie its environment carries, where it could be read.
    pub cookie: Option<String>,
}

impl ProcessFacts {
    /// Dead and unreaped.
    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }
}

/// Memory of one process, in KiB. A trend only; no single difference is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Resident set.
    pub rss_kib: u64,
    /// Proportional share of the resident set, where smaps_rollup could be read.
    pub pss_kib: Option<u64>,
    /// What the process has for itself: anonymous and shared memory, in RAM or swapped, without what
    /// it has marked as free; where smaps_rollup could be read.
    pub private_kib: Option<u64>,
}

/// What tells how a process takes and gives back memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runtime {
    /// File name of the program that runs, without its folder; empty where it could not be read.
    pub program: String,
    /// Address space that it has mapped or reserved.
    pub address_space_kib: u64,
}

/// Something that could not be looked at. Never the same as nothing there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// What was to be read, such as `descriptors of pid 12 (node)`.
    pub what: String,
    /// Which kind of thing stays unknown.
    pub kind: Kind,
    /// The cause, such as `permission denied (os error 13)`.
    pub cause: String,
}

/// What all probes saw at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Everything seen.
    pub things: BTreeMap<Identity, Facts>,
    /// Memory by process.
    pub memory: BTreeMap<ProcessId, Memory>,
    /// What could not be looked at.
    pub unreadable: Vec<Unreadable>,
    /// Two consecutive scans agreed. A torn snapshot shows births, but nothing rests on it alone.
    pub stable: bool,
}

impl Snapshot {
    /// The kind of a thing in this snapshot; a process may be living here and a zombie in the next.
    pub fn kind_of(identity: &Identity, facts: &Facts) -> Kind {
        match (identity, facts) {
            (Identity::Process(_), Facts::Process(facts)) if facts.is_zombie() => Kind::Zombie,
            (Identity::Process(_), _) => Kind::Process,
            (Identity::Fd { .. }, _) => Kind::Fd,
            (Identity::Thread { .. }, _) => Kind::Thread,
            (Identity::Task { .. }, _) => Kind::Task,
            (Identity::Session { .. }, _) => Kind::Session,
            (Identity::Cursor { .. }, _) => Kind::Cursor,
            (Identity::Entry { .. }, _) => Kind::Entry,
            (Identity::File { .. }, _) => Kind::File,
        }
    }

    /// All processes, zombies too.
    pub fn processes(&self) -> impl Iterator<Item = (ProcessId, &ProcessFacts)> {
        self.things.iter().filter_map(|(identity, facts)| match (identity, facts) {
            (Identity::Process(id), Facts::Process(facts)) => Some((*id, facts)),
            _ => None,
        })
    }
}
