//! Mistakes that can be switched on one by one, each at the place where somebody could really have made
//! it: what the harness is measured by (`ci/recall`).
//!
//! Only with the feature `sabotage`, which is never on by default and never in a release. The variable
//! `SCUPPER_SABOTAGE` names the mutant of a process; without it, or with another name, nothing changes.

use std::{
    os::fd::AsFd,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// Names the mutant.
pub const VARIABLE: &str = "SCUPPER_SABOTAGE";

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $mutant:ident = $name:literal,)+) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $what])+ $mutant,)+
        }

        impl Mutant {
            /// All of them, in the order of the modules they sit in.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant,)+];

            /// Its name in the variable and in the table of recall.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $name,)+
                }
            }

            /// The mistake, in words.
            pub fn what(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => concat!($($what),+).trim_ascii(),)+
                }
            }
        }
    };
}

mutants! {
    // Processes and their pipes.
    /// The write end of a server's stdin is kept when its connection ends.
    StdinNotClosed = "stdin-not-closed",
    /// The read end of a server's stdout is kept.
    StdoutKept = "stdout-kept",
    /// The read end of a server's stderr is kept.
    StderrKept = "stderr-kept",
    /// A second descriptor of a server's stdin is made for a log, and kept.
    DupKept = "dup-kept",
    /// Pipes are made without CLOEXEC, and a child keeps whatever is open.
    PipesInherited = "pipes-inherited",
    /// One connection in a hundred keeps a descriptor.
    OneInHundred = "one-in-hundred",
    /// A connection that ends in the middle of a line keeps the line's reader.
    HalfLineKept = "half-line-kept",
    /// What is left of a group when its leader has exited is not killed.
    GroupNotSwept = "group-not-swept",
    /// The leader is reaped before anybody looks at its group, which then has no number any more.
    ReapedBeforeSweep = "reaped-before-sweep",
    /// Signals go to the leader alone.
    LeaderSignalledAlone = "leader-signalled-alone",
    /// The last rung of the ladder is missing.
    NoSigkill = "no-sigkill",
    /// A server that has exited is not waited for.
    NotReaped = "not-reaped",
    /// Only a server that had to be killed is not waited for.
    KilledNotReaped = "killed-not-reaped",
    /// The pidfd of a server outlives it.
    PidfdKept = "pidfd-kept",
    /// Helpers outside the group are looked for, and left.
    StraysLeft = "strays-left",
    /// A close that is cancelled half way leaves it at that.
    CancelledCloseLeft = "cancelled-close-left",
    /// A transport that is dropped leaves its server.
    DropLeaves = "drop-leaves",
    /// A server whose handshake fails or takes too long is left to itself.
    FailedHandshakeKept = "failed-handshake-kept",
    /// The census goes on naming a connection that has ended.
    ConnectionRowKept = "connection-row-kept",
    /// The census forgets a server that still runs.
    ProcessRowGone = "process-row-gone",

    // Tasks.
    /// A task of a connection is spawned outside of its scope, and never told to end.
    TaskDetached = "task-detached",
    /// A ticker of a connection ticks on.
    TickerKept = "ticker-kept",
    /// A thread of the blocking pool waits for something that never comes.
    BlockingThreadStuck = "blocking-thread-stuck",
    /// A scope that closes does not abort what overstays.
    NothingAborted = "nothing-aborted",

    // The host.
    /// A server that is removed stays in the host's book.
    RemovedServerKept = "removed-server-kept",
    /// A server that is replaced is not ended.
    ReplacedNotEnded = "replaced-not-ended",
    /// A shutdown overlooks the last server of many.
    ShutdownForgetsLast = "shutdown-forgets-last",
    /// Two shutdowns at once: the second keeps what the first waits for.
    ShutdownsRace = "shutdowns-race",
    /// A host that is dropped ends nothing.
    HostDropLeaves = "host-drop-leaves",
    /// A watcher of the roots outlives its server.
    RootsWatcherKept = "roots-watcher-kept",
    /// A server that is removed while it connects goes on connecting.
    CancelledConnectKept = "cancelled-connect-kept",
    /// A server that died keeps its place with its last connection.
    DeadLinkKept = "dead-link-kept",

    // The client side of HTTP.
    /// No DELETE is sent.
    DeleteNotSent = "delete-not-sent",
    /// A socket of the pool outlives its connection.
    PooledSocketKept = "pooled-socket-kept",
    /// The tasks of hyper go on after the end.
    HttpTasksKept = "http-tasks-kept",
    /// The session of a server is remembered after its end.
    HeldSessionKept = "held-session-kept",

    // Sessions of the server side of HTTP.
    /// A session goes by DELETE alone, and never for being idle.
    IdleSessionKept = "idle-session-kept",
    /// A session whose handshake was never finished stays.
    HalfHandshakeKept = "half-handshake-kept",
    /// DELETE is answered, and the session stays.
    DeletedSessionKept = "deleted-session-kept",
    /// A session whose handler panicked stays.
    PanickedSessionKept = "panicked-session-kept",
    /// The sweeper outlives its sessions.
    SweeperKept = "sweeper-kept",
    /// A stream of events outlives its client.
    StreamKept = "stream-kept",
    /// The listener's socket is kept.
    ListenerKept = "listener-kept",
    /// A connection that was accepted is kept.
    AcceptedKept = "accepted-kept",
    /// A cancelled handler may go on for as long as it likes.
    HandlerRunsOn = "handler-runs-on",
    /// What a session has to clean up is forgotten.
    CleanupForgotten = "cleanup-forgotten",

    // Cursors.
    /// Cursors outlive their session.
    CursorsKeptOnEnd = "cursors-kept-on-end",
    /// Cursors outlive their time.
    CursorsKeptOnExpiry = "cursors-kept-on-expiry",
    /// The store in memory keeps what it is told to remove.
    MemoryStoreKeeps = "memory-store-keeps",
    /// The store in SQLite keeps what it is told to remove.
    SqliteStoreKeeps = "sqlite-store-keeps",
    /// The thread of SQLite is never told to end.
    SqliteThreadKept = "sqlite-thread-kept",
    /// A file beside the SQLite file is left.
    TempFileKept = "temp-file-kept",
    /// The sweep of cursors goes on after the close.
    CursorSweepKept = "cursor-sweep-kept",

    // Guard and admin API.
    /// The guard process is not ended with its handle.
    GuardKept = "guard-kept",
    /// The socket to the guard is kept.
    GuardSocketKept = "guard-socket-kept",
    /// The admin API's listener is kept.
    AdminListenerKept = "admin-listener-kept",
}

static CHOSEN: LazyLock<Option<Mutant>> = LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
});

/// Whether this mistake is made in this process.
pub(crate) fn is_on(mutant: Mutant) -> bool {
    *CHOSEN == Some(mutant)
}

/// Every hundredth time, from the fortieth on.
pub(crate) fn is_one_in_hundred() -> bool {
    static TIMES: AtomicU32 = AtomicU32::new(0);
    is_on(Mutant::OneInHundred) && TIMES.fetch_add(1, Relaxed) % 100 == 40
}

/// Keeps a descriptor of what this one names.
pub(crate) fn keep_copy(of: impl AsFd) {
    if let Ok(copy) = rustix::io::fcntl_dupfd_cloexec(of, 3) {
        std::mem::forget(copy);
    }
}

/// A task that wakes up again and again, and never ends.
pub(crate) fn tick_for_ever() {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async {
            let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
            loop {
                ticks.tick().await;
            }
        });
    }
}

/// A thread of the blocking pool, for as long as the process lives.
pub(crate) fn block_a_thread() {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(|| {
            loop {
                std::thread::park();
            }
        });
    }
}

/// A task that nobody waits for holds this for ever.
pub(crate) fn hold_in_a_task(what: impl Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let _what = what;
            std::future::pending::<()>().await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_words_are_there() {
        let names: BTreeSet<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        assert!(names.len() >= 50, "{}", names.len());
        assert!(Mutant::ALL.iter().all(|mutant| mutant.what().ends_with('.')));
    }

    #[test]
    fn none_is_on_unless_it_is_named() {
        assert!(!Mutant::ALL.iter().any(|mutant| is_on(*mutant)));
    }
}
