//! A process that survived its connection: what it is, and why it still lives.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use super::connection::Due;
use super::finding::{command, counted};
use super::server::Played;
use crate::cell::contain;
use crate::ledger::blame::{Blamed, Ending, Role, Scene};
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{FdKind, Identity, Kind, ProcessFacts, ProcessId};
use crate::ledger::verdict::{Finding, Holder};
use crate::probe::holder::{self, Holders};
use crate::probe::signal::{Reaction, reaction};

/// Lines of evidence for what lives with a survivor.
const LINES: usize = 3;
/// How long the search for the other end of a helper's stdin may take.
const HOLDERS_BUDGET: Duration = Duration::from_secs(1);

/// A process that survived its connection.
pub fn of_survivor(
    blamed: &Blamed,
    scene: &Scene<'_>,
    due: &Due,
    patience: Duration,
    pipes: &[u64; 3],
    writers: &Holders,
) -> Finding {
    let ledger = scene.ledger;
    let identity = Identity::Process(blamed.process);
    let birth_step = ledger.birth(&identity).unwrap_or(&due.step).clone();
    let what = format!(
        "{} pid {} ({})",
        match blamed.role {
            Role::Server => "the server,",
            Role::Stage => "a stage of the server's pipeline,",
            Role::Launcher => "the launcher,",
            Role::Helper => "a helper process,",
            Role::Backend => "a backend of the server,",
        },
        blamed.process.pid,
        command(ledger, blamed.process)
    );
    let later = patience.as_secs_f64();
    let mut evidence = vec![match scene.survivors.get(&blamed.process) {
        Some(facts) => {
            format!("still alive {later:.1} s later: {}", mood(scene, blamed.process, facts))
        }
        None => format!("still alive {later:.1} s later"),
    }];
    evidence.extend(why(scene, blamed, due));
    if is_helper(blamed.role) {
        evidence.extend(streams_line(scene, blamed.process, pipes));
    }
    for id in blamed.below.iter().take(LINES) {
        evidence.push(format!("with it: pid {} ({})", id.pid, command(ledger, *id)));
    }
    if let Some(more @ 1..) = blamed.below.len().checked_sub(LINES) {
        evidence
            .push(format!("with it: {}", counted(more as u64, "more process", "more processes")));
    }
    let stdin_matters = matches!(blamed.role, Role::Server | Role::Stage)
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

fn is_helper(role: Role) -> bool {
    matches!(role, Role::Helper | Role::Backend)
}

/// Whom a server was seen to speak with as a gateway does: a figure, and of the first look a note.
pub fn tell_backends(ledger: &Ledger, first_look: bool, played: &mut Played) {
    let backends = ledger.backends().all(|id| ledger.parent(id));
    if backends.is_empty() {
        return;
    }
    played.figures.insert("backends".into(), backends.len() as f64);
    if !first_look {
        return;
    }
    let mut commands: Vec<String> = Vec::new();
    for id in &backends {
        let command = command(ledger, *id);
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    let more = commands.len().saturating_sub(LINES);
    commands.truncate(LINES);
    commands.extend((more > 0).then(|| format!("{more} more")));
    let number = counted(backends.len() as u64, "process", "processes");
    played.notes.push(format!(
        "the server spoke with {number} of its own through stdin and stdout, as a gateway does: {}",
        commands.join(", ")
    ));
}

/// What a process does, and where it stands.
fn mood(scene: &Scene<'_>, id: ProcessId, facts: &ProcessFacts) -> String {
    let mut words = vec![match facts.state {
        'R' => "running".to_owned(),
        'S' | 'I' => "sleeping".to_owned(),
        'D' => "in a wait that no signal ends (state D)".to_owned(),
        'T' => "stopped by a signal (state T)".to_owned(),
        't' => "stopped by a debugger (state t)".to_owned(),
        other => format!("state {other}"),
    }];
    if facts.parent == contain::own_pid() {
        words.push("its parent gone".to_owned());
    } else if scene.survivors.keys().any(|id| id.pid == facts.parent) {
        words.push(format!("child of pid {}", facts.parent));
    }
    let root = scene.roles.root.filter(|root| root.pid == facts.group);
    words.extend(match root {
        // A leader of its group, as every process is that the client starts.
        Some(root) if root == id => None,
        Some(_) if scene.roles.launchers.is_empty() => {
            Some("in the server's process group".to_owned())
        }
        Some(_) => Some("in its launcher's process group".to_owned()),
        None if facts.session == id.pid => Some("in a session of its own (setsid)".to_owned()),
        None => Some(format!("in another process group, {}", facts.group)),
    });
    words.join(", ")
}

/// Why it still lives: what its stdin is, where it waits for that, and what it does with SIGTERM.
fn why(scene: &Scene<'_>, blamed: &Blamed, due: &Due) -> Option<String> {
    let id = blamed.process;
    let (name, signal) = match due.ending {
        Ending::Signalled("SIGINT") => ("SIGINT", Signal::INT),
        Ending::Signalled("SIGHUP") => ("SIGHUP", Signal::HUP),
        _ => ("SIGTERM", Signal::TERM),
    };
    let was_sent = scene.roles.root == Some(id) && matches!(due.ending, Ending::Signalled(_));
    let reaction = reaction(id, signal).map(|reaction| match (reaction, was_sent) {
        (Reaction::Ignored, _) => format!("it ignores {name}"),
        (Reaction::Blocked, _) => format!("it blocks {name}"),
        (Reaction::Caught, true) => format!("it has a handler for {name}, which did not end it"),
        (Reaction::Caught, false) => format!("it has a handler for {name}"),
        (Reaction::Default, true) => format!("{name} is at its default action"),
        (Reaction::Default, false) if matches!(due.ending, Ending::Signalled(_)) => {
            format!("{name} would end it, and did not reach it")
        }
        (Reaction::Default, false) => format!("{name} would end it"),
    });
    // That of a server is told where the blame is.
    let stdin = is_helper(blamed.role).then(|| stdin_words(scene, id));
    let words: Vec<String> = stdin.into_iter().chain(reaction).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// Whether its stdin will ever tell a process to go.
fn stdin_words(scene: &Scene<'_>, id: ProcessId) -> String {
    let mut things = scene.ledger.last().things.keys();
    let stdin =
        things.find(|thing| matches!(thing, Identity::Fd { owner, number: 0, .. } if *owner == id));
    let Some(stdin @ Identity::Fd { kind, target, .. }) = stdin else {
        return "its stdin is closed".to_owned();
    };
    if !matches!(kind, FdKind::Pipe | FdKind::Socket) {
        return match target.as_str() {
            "/dev/null" => "its stdin is /dev/null, which never tells it to go".to_owned(),
            other => format!("its stdin is {other}"),
        };
    }
    let found = holder::holders(stdin, HOLDERS_BUDGET);
    let is_writer = |one: &&Holder| one.holds.contains("write") || one.holds.contains("other end");
    match found.holders.iter().find(is_writer) {
        Some(one) if one.pid == id.pid => "its stdin is kept open by itself".to_owned(),
        Some(one) => format!("its stdin is kept open by pid {} ({})", one.pid, one.command),
        None if found.unread > 0 => {
            format!("its stdin has ended, as far as could be seen ({} not read)", found.unread)
        }
        None => "its stdin has ended".to_owned(),
    }
}

/// The server's streams to the client that a helper has kept.
fn streams_line(scene: &Scene<'_>, id: ProcessId, pipes: &[u64; 3]) -> Option<String> {
    let things = &scene.ledger.last().things;
    let has = |pipe: u64| {
        things.keys().any(|thing| {
            matches!(thing, Identity::Fd { owner, kind: FdKind::Pipe, inode, .. }
                if *owner == id && *inode == pipe)
        })
    };
    match (has(pipes[1]), has(pipes[2])) {
        (false, false) => None,
        (true, false) => Some("has the server's stdout: the client never sees it end".into()),
        (false, true) => Some("has the server's stderr: the client never sees it end".into()),
        (true, true) => {
            Some("has the server's stdout and stderr: the client never sees them end".into())
        }
    }
}

/// Who can write to a server's stdin.
pub struct Writers {
    /// Processes that are not ours.
    pub others: Holders,
    /// Pids of our own.
    pub ours: Vec<i32>,
}

impl Writers {
    /// Of the pipe with this inode.
    pub fn of(stdin: u64, ours: &BTreeSet<i32>) -> Self {
        let mut found = holder::pipe_ends(stdin);
        found.holders.retain(|holder| holder.holds.contains("write"));
        let (own, holders) = found.holders.into_iter().partition(|one| ours.contains(&one.pid));
        let own: Vec<Holder> = own;
        let ours = own.iter().map(|one| one.pid).collect();
        Self { others: Holders { holders, unread: found.unread }, ours }
    }
}

/// Who can write to the stdin of a server that is not the pipe which the client made: a launcher
/// may have made another and pass on what it reads.
pub fn writers_to_inner_stdin(server: ProcessId, client_made: u64, ledger: &Ledger) -> Holders {
    let is_inner = |thing: &&Identity| match thing {
        Identity::Fd { owner, number: 0, kind, inode, .. } => {
            *owner == server
                && matches!(kind, FdKind::Pipe | FdKind::Socket)
                && *inode != client_made
        }
        _ => false,
    };
    let stdin = ledger.last().things.keys().find(is_inner);
    let mut found = stdin.map(|stdin| holder::holders(stdin, HOLDERS_BUDGET)).unwrap_or_default();
    found.holders.retain(|one| one.holds.contains("write") || one.holds.contains("other end"));
    found
}
