//! The list of fake clients.

use std::{io, time::Duration};

use crate::lifecycle::{client::ROUNDS, scenario::FakeSpec};

/// How long a server may take to start: as long as hosts give it.
const START: Duration = Duration::from_secs(30);

/// A fake client, as `scupper list fake-clients` shows it.
#[derive(Debug)]
pub struct FakeClientInfo {
    /// As in `scupper fake-client NAME`.
    pub name: &'static str,
    /// What it does wrong, in a line.
    pub about: &'static str,
    /// Its fault; with `--fixed` it has none, and stays as long.
    fault: Fault,
    stays: bool,
}

/// Why a fake client was not run.
#[derive(Debug, thiserror::Error)]
pub enum FakeClientError {
    /// There is none of this name.
    #[error("no fake client is called `{0}`; `scupper list fake-clients` names them")]
    UnknownName(String),
    /// It has no such option.
    #[error(
        "fake clients have no option `{0}`; they have stays=true|false, grace=MILLISECONDS, \
         start=MILLISECONDS and rounds=NUMBER|lines"
    )]
    UnknownOption(String),
    /// Its server could not be started.
    #[error("could not start the server: {0}")]
    Server(#[from] io::Error),
}

/// What is wrong with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It ends stdin, waits once, and leaves the server to itself.
    GivesUp,
    /// It never waits for the exit of what it has ended.
    NeverReaps,
    /// It starts its server through a shell, and signals the shell alone.
    KillsWrapper,
    /// It waits for the server's exit and keeps its stdin open.
    ForgetsStdin,
    /// What it starts next has the write end of the server's stdin.
    LeaksStdin,
    /// It keeps the read end of its server's stdout when it has ended the server.
    KeepsStdout,
    /// It keeps a thread of each server that it has ended.
    KeepsThread,
    /// It keeps a process of its own for each server that it has ended, as long as it lives.
    KeepsWorker,
    /// It keeps some memory of every round.
    KeepsMemory,
    /// A second signal ends it at once, in the middle of ending its servers.
    Hurries,
    /// It does not mind the end of a server's stdout, and waits for the answer.
    WaitsOn,
    /// It leaves the process that makes a message for a server when that server is dead.
    ForgetsWorker,
    /// It leaks the write end and never reaps the first server, and gives up on the second.
    All,
}

/// How a client deals with one of its servers.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    /// Waits to be told to end.
    pub(super) stays: bool,
    /// Does all of its work so many times, or once for each line on its stdin.
    pub(super) rounds: Rounds,
    /// Ends its servers before that, and not after.
    pub(super) ends_first: bool,
    /// How long a server may take to start, as far as the host gives it the time.
    pub(super) start: Duration,
    /// How long each rung of the ladder waits.
    pub(super) grace: Duration,
    /// Leaves a server to itself that has not exited after the first of them.
    pub(super) gives_up: bool,
    /// Waits for the exit of what it has ended.
    pub(super) reaps: bool,
    /// Starts the server through a shell.
    pub(super) through_shell: bool,
    /// Starts the server in a process group, and signals and sweeps that.
    pub(super) by_group: bool,
    /// Ends the server's stdin first.
    pub(super) ends_stdin: bool,
    /// Lets what it starts next have the write end of the server's stdin.
    pub(super) hands_stdin_on: bool,
    /// Keeps the read end of the server's stdout after its end.
    pub(super) keeps_stdout: bool,
    /// Keeps a thread that it has started for the server.
    pub(super) keeps_thread: bool,
    /// Keeps a process that it has started for the server, until it ends itself.
    pub(super) keeps_worker: bool,
    /// Keeps some memory of every round.
    pub(super) keeps_memory: bool,
    /// Exits at once when a signal comes a second time.
    pub(super) hurries: bool,
    /// Waits for an answer also when the server's stdout has ended.
    pub(super) waits_on: bool,
    /// Ends the process that makes a message for a server also when that server is dead.
    pub(super) ends_worker: bool,
}

/// How often a client does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounds {
    /// So many times.
    Number(u32),
    /// Once for each line on its stdin.
    Lines,
}

/// Every fake client.
#[rustfmt::skip]
pub const FAKE_CLIENTS: &[FakeClientInfo] = &[
    FakeClientInfo { name: "plain", about: "has no fault: ends its server by the whole ladder, reaps it and exits", fault: Fault::None, stays: false },
    FakeClientInfo { name: "host", about: "has no fault, and stays with its servers until its stdin ends or SIGTERM comes", fault: Fault::None, stays: true },
    FakeClientInfo { name: "gives-up", about: "ends its server's stdin, waits a moment, and exits without it", fault: Fault::GivesUp, stays: false },
    FakeClientInfo { name: "never-reaps", about: "ends its server, never waits for it, and lives on", fault: Fault::NeverReaps, stays: true },
    FakeClientInfo { name: "kills-wrapper", about: "starts its server through a shell and signals the shell alone", fault: Fault::KillsWrapper, stays: false },
    FakeClientInfo { name: "forgets-stdin", about: "waits for its server's exit and never ends its stdin, so that both stay", fault: Fault::ForgetsStdin, stays: true },
    FakeClientInfo { name: "leaks-stdin", about: "lets its second server have the write end of the first one's stdin", fault: Fault::LeaksStdin, stays: false },
    FakeClientInfo { name: "keeps-stdout", about: "keeps the read end of each server's stdout, one with every round", fault: Fault::KeepsStdout, stays: false },
    FakeClientInfo { name: "keeps-thread", about: "keeps a thread of each server that it has ended, one with every round", fault: Fault::KeepsThread, stays: false },
    FakeClientInfo { name: "keeps-worker", about: "keeps a process of its own for each server that it has ended, one with every round, and ends them with itself", fault: Fault::KeepsWorker, stays: false },
    FakeClientInfo { name: "keeps-memory", about: "keeps 64 KiB of memory with every round", fault: Fault::KeepsMemory, stays: false },
    FakeClientInfo { name: "hurries", about: "exits at once upon a second signal, without the server that it is ending", fault: Fault::Hurries, stays: true },
    FakeClientInfo { name: "waits-on", about: "does not mind that its server is dead, and waits for the answer", fault: Fault::WaitsOn, stays: false },
    FakeClientInfo { name: "forgets-worker", about: "starts a process that makes the message its server asked for, and leaves it when that server dies", fault: Fault::ForgetsWorker, stays: false },
    FakeClientInfo { name: "canary", about: "leaks every kind with two servers: the write end of one's stdin, a zombie, and a server", fault: Fault::All, stays: true },
];

/// How this client deals with each of its servers; the last one stands for all that follow.
pub(super) fn build(spec: &FakeSpec) -> Result<Vec<Habits>, FakeClientError> {
    let info = FAKE_CLIENTS.iter().find(|info| info.name == spec.name);
    let info = info.ok_or_else(|| FakeClientError::UnknownName(spec.name.clone()))?;
    let mut stays = info.stays;
    let mut grace = Duration::from_millis(300);
    let mut start = START;
    let mut rounds = Rounds::Number(1);
    for (key, value) in &spec.options {
        let unknown = || FakeClientError::UnknownOption(format!("{key}={value}"));
        match key.as_str() {
            "stays" => stays = value.parse().map_err(|_| unknown())?,
            "grace" => grace = Duration::from_millis(value.parse().map_err(|_| unknown())?),
            "start" => start = Duration::from_millis(value.parse().map_err(|_| unknown())?),
            "rounds" if value == "lines" => rounds = Rounds::Lines,
            // As a scenario says it, where the number is not known yet.
            "rounds" if value == ROUNDS => {}
            "rounds" => rounds = Rounds::Number(value.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        }
    }
    let fault = if spec.fixed { Fault::None } else { info.fault };
    let through_shell = info.fault == Fault::KillsWrapper;
    let good = Habits {
        stays,
        rounds,
        // What it has left is seen while it lives on.
        ends_first: matches!(fault, Fault::NeverReaps | Fault::All),
        start,
        grace,
        gives_up: false,
        reaps: true,
        through_shell,
        by_group: through_shell,
        ends_stdin: true,
        hands_stdin_on: false,
        keeps_stdout: false,
        keeps_thread: false,
        keeps_worker: false,
        keeps_memory: false,
        hurries: false,
        waits_on: false,
        ends_worker: true,
    };
    Ok(match fault {
        Fault::None => match info.fault {
            // The twin ends both servers at once, and has nothing to stay for.
            Fault::All => vec![Habits { stays: false, ..good }],
            _ => vec![good],
        },
        Fault::NeverReaps => vec![Habits { reaps: false, ..good }],
        Fault::GivesUp => vec![Habits { gives_up: true, ..good }],
        Fault::KillsWrapper => vec![Habits { by_group: false, ..good }],
        Fault::ForgetsStdin => vec![Habits { ends_stdin: false, ..good }],
        Fault::KeepsStdout => vec![Habits { keeps_stdout: true, ..good }],
        Fault::KeepsThread => vec![Habits { keeps_thread: true, ..good }],
        Fault::KeepsWorker => vec![Habits { keeps_worker: true, ..good }],
        Fault::KeepsMemory => vec![Habits { keeps_memory: true, ..good }],
        Fault::Hurries => vec![Habits { hurries: true, ..good }],
        Fault::WaitsOn => vec![Habits { waits_on: true, ..good }],
        Fault::ForgetsWorker => vec![Habits { ends_worker: false, ..good }],
        Fault::LeaksStdin => vec![Habits { hands_stdin_on: true, ..good }],
        Fault::All => vec![
            Habits { hands_stdin_on: true, reaps: false, ..good.clone() },
            Habits { gives_up: true, ..good },
        ],
    })
}
