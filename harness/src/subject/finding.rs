//! What was seen, in the words of a finding or a failure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::connection::{Due, NoAnswer};
use crate::ledger::blame::{Blamed, Ending, Role, Roles, Scene};
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{Facts, FdKind, Identity, Kind, ProcessId};
use crate::ledger::trend::{Growth, Pattern, Rounds};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::lifecycle::step::Era;
use crate::peer::link::Heard;
use crate::probe::holder::{self, Holders};

/// Longest command line in a sentence, in characters.
const COMMAND: usize = 80;
/// Lines of evidence for one kind of thing.
const LINES: usize = 6;

/// A process that survived its connection.
pub fn of_survivor(
    blamed: &Blamed,
    scene: &Scene<'_>,
    due: &Due,
    patience: Duration,
    writers: &Holders,
) -> Finding {
    let ledger = scene.ledger;
    let identity = Identity::Process(blamed.process);
    let birth_step = ledger.birth(&identity).unwrap_or(&due.step).clone();
    let what = format!(
        "{} pid {} ({})",
        match blamed.role {
            Role::Server => "the server,",
            Role::Launcher => "the launcher,",
            Role::Helper => "a helper process,",
        },
        blamed.process.pid,
        command(ledger, blamed.process)
    );
    let its = if blamed.role == Role::Helper { "its server's" } else { "its" };
    let end = match &due.ending {
        Ending::StdinClosed => format!("the end of {its} stdin"),
        Ending::ClientKilled => format!("the death of {its} client"),
        Ending::Signalled(signal) => (*signal).to_owned(),
        Ending::ServerKilled => "SIGKILL".to_owned(),
        Ending::ExitedItself => "the exit of its server".to_owned(),
    };
    let mut evidence = vec![format!("outlived {end} by {:.1} s", patience.as_secs_f64())];
    evidence.extend(process_line(scene, blamed.process));
    for id in blamed.below.iter().take(LINES) {
        evidence.push(format!("below it: pid {} ({})", id.pid, command(ledger, *id)));
    }
    if blamed.below.len() > LINES {
        evidence.push(format!("below it: {} more", blamed.below.len() - LINES));
    }
    let stdin_matters = blamed.role == Role::Server
        && matches!(due.ending, Ending::StdinClosed | Ending::ClientKilled);
    Finding {
        class: blamed.class,
        kind: Kind::Process,
        what,
        identities: vec![identity],
        count: 1,
        birth_step,
        due_step: due.step.clone(),
        culprit: blamed.culprit,
        blame: blamed.blame.clone(),
        rule: blamed.rule.map(str::to_owned),
        hurts: blamed.hurts.clone(),
        site: None,
        holders: if stdin_matters { writers.holders.clone() } else { Vec::new() },
        holders_unread: if stdin_matters { writers.unread } else { 0 },
        evidence,
        remedy: blamed.remedy.clone(),
    }
}

fn process_line(scene: &Scene<'_>, id: ProcessId) -> Option<String> {
    let facts = scene.survivors.get(&id)?;
    let things = &scene.ledger.last().things;
    let owned = |wanted: fn(&Identity) -> bool| {
        things.keys().filter(|thing| wanted(thing) && thing.owner() == Some(id)).count()
    };
    let fds = owned(|thing| matches!(thing, Identity::Fd { .. }));
    let threads = owned(|thing| matches!(thing, Identity::Thread { .. })) + 1;
    let parent = match scene.ledger.parent(id).filter(|parent| parent.pid == facts.parent) {
        Some(parent) => format!("child of pid {}", parent.pid),
        None if facts.parent == crate::cell::contain::own_pid() => {
            "an orphan, adopted by the cell".to_owned()
        }
        None => format!("child of pid {}", facts.parent),
    };
    let apart = if facts.session == id.pid { ", leads a session of its own" } else { "" };
    Some(format!(
        "state {}, {parent}, group {}{apart}, {fds} descriptors, {threads} threads",
        facts.state, facts.group
    ))
}

/// Things that grew with the cycles of a repeat.
pub fn of_growth(
    growth: &Growth,
    repeat: &StepRef,
    rounds: Rounds,
    patience: Duration,
    ledger: &Ledger,
    roles: &Roles,
) -> Finding {
    let count = growth.identities.len();
    let owner = growth.identities.first().and_then(Identity::owner);
    let by_launcher = owner.is_some_and(|owner| {
        let mut line = std::iter::once(owner).chain(ledger.ancestors(owner));
        growth.kind != Kind::Process
            && growth.kind != Kind::Zombie
            && line.next().is_some_and(|id| roles.launchers.contains(&id))
    });
    let culprit = if by_launcher { Culprit::Launcher } else { Culprit::Server };
    let mut evidence = vec![format!(
        "{count} born in {} and alive {:.1} s later: what a cache or a pool holds stops growing",
        cycles_of(&growth.pattern, rounds),
        patience.as_secs_f64()
    )];
    if growth.late > 0 {
        evidence.push(format!(
            "{} of them came after the last answer of a round: something goes on after a call",
            growth.late
        ));
    }
    for identity in growth.identities.iter().take(LINES) {
        let step = ledger.birth(identity).map(|step| format!("  since {step}"));
        evidence.push(format!("{}{}", thing(identity, ledger), step.unwrap_or_default()));
    }
    if count > LINES {
        evidence.push(format!("and {} more", count - LINES));
    }
    let held = growth.identities.first().filter(|identity| {
        matches!(identity, Identity::Fd { kind: FdKind::Pipe | FdKind::Socket, .. })
    });
    let held = held.map(|identity| holder::holders(identity, Duration::from_secs(1)));
    let (hurts, remedy) = words_of(growth.kind);
    let blame = match owner {
        Some(owner) if matches!(growth.kind, Kind::Process | Kind::Zombie) => {
            let parent = ledger.parent(owner).map(|parent| {
                format!("pid {} ({}) made each of them", parent.pid, command(ledger, parent))
            });
            parent.unwrap_or_else(|| "they came to be below the server".into())
        }
        Some(owner) => {
            format!(
                "pid {} ({}) made each of them and keeps them",
                owner.pid,
                command(ledger, owner)
            )
        }
        None => "nothing but the server worked in this directory".to_owned(),
    };
    Finding {
        class: Class::Leak,
        kind: growth.kind,
        what: format!("{count} {}, {}", plural(growth), pace(&growth.pattern, rounds)),
        identities: growth.identities.iter().take(Finding::IDENTITIES).cloned().collect(),
        count,
        birth_step: growth.step.clone(),
        due_step: StepRef { cycle: None, ..repeat.clone() },
        culprit,
        blame,
        rule: None,
        hurts: hurts.to_owned(),
        site: None,
        holders_unread: held.as_ref().map_or(0, |held| held.unread),
        holders: held.map(|held| held.holders).unwrap_or_default(),
        evidence,
        remedy: remedy.to_owned(),
    }
}

/// How fast it grows.
fn pace(pattern: &Pattern, rounds: Rounds) -> String {
    match pattern {
        Pattern::EveryCycle => "one more with every cycle".to_owned(),
        Pattern::EveryRound(_) => format!("some more with every {} cycles", rounds.length),
    }
}

/// The cycles in which it grew.
fn cycles_of(pattern: &Pattern, rounds: Rounds) -> String {
    let judged = rounds.cycles;
    match pattern {
        Pattern::EveryCycle => format!("{judged} of {judged} cycles after a warm-up"),
        Pattern::EveryRound(born) => {
            let born: Vec<String> = born.iter().map(usize::to_string).collect();
            let (number, length) = (born.len(), rounds.length);
            format!("{number} rounds of {length} cycles after a warm-up ({})", born.join(", "))
        }
    }
}

fn plural(growth: &Growth) -> String {
    let kinds: BTreeSet<FdKind> = growth
        .identities
        .iter()
        .filter_map(|identity| match identity {
            Identity::Fd { kind, .. } => Some(*kind),
            _ => None,
        })
        .collect();
    let of = match kinds.iter().collect::<Vec<_>>().as_slice() {
        [FdKind::File] => " on files",
        [FdKind::Pipe] => " on pipes",
        [FdKind::Socket] => " on sockets",
        [FdKind::Eventfd] => " on eventfds",
        [FdKind::Epoll] => " on epoll instances",
        [FdKind::Timerfd] => " on timers",
        [FdKind::Inotify] => " on inotify instances",
        [FdKind::Pidfd] => " on processes",
        [FdKind::Memfd] => " on memory files",
        _ => "",
    };
    match growth.kind {
        Kind::Process => "processes".into(),
        Kind::Zombie => "zombies".into(),
        Kind::Fd => format!("descriptors{of}"),
        Kind::Thread => "threads".into(),
        Kind::Task => "tasks".into(),
        Kind::File => "temporary files".into(),
        Kind::Memory => "KiB of memory".into(),
    }
}

fn words_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Process => (
            "a server that lives for days collects processes until the host has no room for more",
            "end and wait for each child process when the call that needed it is done",
        ),
        Kind::Zombie => (
            "each dead child keeps its entry in the process table until the server ends",
            "wait for each child process (waitpid, Child::wait, an exit listener)",
        ),
        Kind::Fd => (
            "a server that lives on ends with \"too many open files\"",
            "close what a call opens when the call is done, on its error paths too",
        ),
        Kind::Thread => (
            "each thread keeps its stack, and the host's limit on threads comes nearer",
            "let threads end with the call that started them, or use a pool with a bound",
        ),
        Kind::Task => {
            ("a task that nobody joins keeps what it holds", "join or abort tasks where they end")
        }
        Kind::File => (
            "the temporary directory fills up over many calls or lives",
            "remove temporary files when the call that made them is done, or when the server ends",
        ),
        Kind::Memory => ("the server grows without bound", "look for what each call keeps"),
    }
}

/// A thing in words.
pub(super) fn thing(identity: &Identity, ledger: &Ledger) -> String {
    match identity {
        Identity::Process(id) => format!("pid {} ({})", id.pid, command(ledger, *id)),
        Identity::Fd { owner, number, target, extra, .. } => {
            let extra = if extra.is_empty() { String::new() } else { format!(" ({extra})") };
            format!("fd {number} of pid {}: {target}{extra}", owner.pid)
        }
        Identity::Thread { owner, tid, .. } => format!("thread {tid} of pid {}", owner.pid),
        Identity::Task { id } => format!("task {id}"),
        Identity::File { path, .. } => path.clone(),
    }
}

fn command(ledger: &Ledger, id: ProcessId) -> String {
    let words = ledger.command(id).unwrap_or_default().join(" ");
    if !words.is_empty() {
        let end = if words.chars().nth(COMMAND).is_some() { "…" } else { "" };
        return words.chars().take(COMMAND).collect::<String>() + end;
    }
    // A zombie has no command line any more, only its name.
    match ledger.last().things.get(&Identity::Process(id)) {
        Some(Facts::Process(facts)) => facts.name.clone(),
        _ => "command unknown".into(),
    }
}

/// Who else can write to a server's stdin, our own processes not counted.
pub fn writers(stdin: u64, ours: &BTreeSet<i32>) -> Holders {
    let mut found = holder::pipe_ends(stdin);
    found.holders.retain(|holder| !ours.contains(&holder.pid) && holder.holds.contains("write"));
    found
}

/// Why a command could not be started.
pub fn not_started(words: &str, cause: &str) -> String {
    let guess = if cause.contains("os error 2") || cause.contains("No such file") {
        "; is it installed, spelled right and on PATH?"
    } else if cause.contains("os error 13") || cause.contains("ermission denied") {
        "; is it executable?"
    } else {
        ""
    };
    format!("could not start {words}: {cause}{guess}")
}

/// A value of the server's in a sentence: its beginning.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut cut: String = text.chars().take(500).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// Why a handshake did not come about.
pub fn no_handshake(
    era: Era,
    answer: &Result<Result<Value, Value>, NoAnswer>,
    heard: &Heard,
) -> String {
    let request = match era {
        Era::Legacy => "initialize",
        Era::Modern => "server/discover",
    };
    let noise = heard.noise_lines;
    match answer {
        Ok(Ok(_)) => format!(
            "stdout carried {noise} line(s) that are no messages before the answer to {request}: a \
             banner or a log line belongs on stderr, for stdout holds MCP messages and nothing else"
        ),
        Ok(Err(error)) => format!(
            "{request} was answered with an error: {}; if the server speaks another era, say \
             so with --era",
            short(error)
        ),
        Err(NoAnswer::Exited(code, signal)) => format!(
            "the server {} before it answered {request}; is something missing that it needs, such \
             as an argument, a file or a variable?",
            exit_words(*code, *signal)
        ),
        Err(NoAnswer::StdoutEnded) => {
            format!("the server closed its stdout before it answered {request}, and stays")
        }
        Err(NoAnswer::Late) if noise > 0 => format!(
            "no answer to {request} came, but {noise} line(s) of other text did: is this an MCP \
             server that speaks over stdio?"
        ),
        Err(NoAnswer::Late) => format!(
            "no answer to {request} in time and nothing else on stdout: is this an MCP server that \
             speaks over stdio, and does it need an argument for that?"
        ),
        Err(NoAnswer::ClientGone) => "the client process is gone".to_owned(),
    }
}

/// Why an answer to the first request of a handshake is none.
pub fn no_introduction(era: Era, result: &Value) -> String {
    let (request, missing) = match era {
        Era::Legacy => ("initialize", "no protocolVersion"),
        Era::Modern => ("server/discover", "not 2026-07-28 among its supportedVersions"),
    };
    format!(
        "the answer to {request} names {missing}: {}; is this an MCP server, and does it speak \
         another era (--era)?",
        short(result)
    )
}

/// Why a request stayed without an answer.
pub fn no_answer(what: &str, cause: &NoAnswer, heard: &Heard) -> String {
    match cause {
        NoAnswer::Late => format!("{what} was not answered in time"),
        NoAnswer::Exited(code, signal) => {
            format!("the server {} while {what} was to be answered", exit_words(*code, *signal))
        }
        NoAnswer::StdoutEnded => {
            format!("the server closed its stdout instead of answering {what}")
        }
        NoAnswer::ClientGone => match &heard.write_failed {
            Some(cause) => format!("{what} could not be sent: {cause}"),
            None => format!("the client process is gone, so {what} has no answer"),
        },
    }
}

/// How a process ended, in words.
pub fn exit_words(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of what a server wrote that is no message.
pub fn last_output(heard: &Heard) -> Vec<String> {
    let stderr = heard.stderr.iter().map(|line| format!("stderr: {line}"));
    let noise = heard.noise.iter().map(|line| format!("stdout: {line}"));
    let mut lines: Vec<String> = noise.chain(stderr).collect();
    let surplus = lines.len().saturating_sub(12);
    lines.drain(..surplus);
    lines
}
