//! Whose duty the end of a surviving process was (design: rules of judgement, 6).

use std::collections::{BTreeMap, BTreeSet};

use super::diff::Ledger;
use super::snapshot::{ProcessFacts, ProcessId};
use super::verdict::{Class, Culprit, Holder};
use crate::lifecycle::client::rule;
use crate::lifecycle::step::Era;

/// Who is who on one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles {
    /// The process that the client started.
    pub root: Option<ProcessId>,
    /// The process that answers; the root unless launchers stand between.
    pub server: Option<ProcessId>,
    /// Processes from the root down to the server, outermost first.
    pub launchers: Vec<ProcessId>,
    /// Where a launcher made a pipeline (`a | b`): its stages from the one that reads requests to
    /// the one that writes answers. Which of them is the real server cannot be told. Else empty.
    pub pipeline: Vec<ProcessId>,
}

/// How a connection was brought to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The client closed the server's stdin.
    StdinClosed,
    /// The client process was killed, which closes stdin too.
    ClientKilled,
    /// A signal other than SIGKILL to the process that the client started.
    Signalled(&'static str),
    /// SIGKILL to the process that the client started.
    ServerKilled,
    /// The process that the client started had exited before anything was done to it.
    ExitedItself,
}

/// What is known when something survives.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Who is who.
    pub roles: &'a Roles,
    /// How it ended.
    pub ending: &'a Ending,
    /// By which era's rules.
    pub era: Era,
    /// Everything of the connection that still lives, zombies not.
    pub survivors: &'a BTreeMap<ProcessId, ProcessFacts>,
    /// The server stayed when it was sent the signal itself that its living launcher had got.
    pub deaf: bool,
    /// Others that hold the write end of the server's stdin, the client not; in a pipeline, of the
    /// first stage that lives.
    pub stdin_writers: &'a [Holder],
    /// How many processes could not be read while looking for these.
    pub stdin_unread: usize,
    /// For lineage.
    pub ledger: &'a Ledger,
}

/// A survivor, and whose duty its end was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blamed {
    /// The survivor.
    pub process: ProcessId,
    /// What it is to the connection.
    pub role: Role,
    /// Leak or advisory.
    pub class: Class,
    /// Whose duty.
    pub culprit: Culprit,
    /// Why this culprit.
    pub blame: String,
    /// The rule it breaks, if one does.
    pub rule: Option<&'static str>,
    /// Why it hurts.
    pub hurts: String,
    /// What to change.
    pub remedy: String,
    /// Survivors below it that live because it does; they are not blamed again.
    pub below: Vec<ProcessId>,
}

/// What a process is to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It answers.
    Server,
    /// A part of the pipeline that answers.
    Stage,
    /// It started the server.
    Launcher,
    /// The server started it.
    Helper,
    /// The server started it and speaks with it through its stdin and stdout, as a gateway does.
    Backend,
}

/// Blames every survivor once: one by itself, or as living below one that is blamed.
pub fn survivors(scene: &Scene<'_>) -> Vec<Blamed> {
    let mut blamed = Vec::new();
    blamed.extend(main_line(scene));
    let mut covered: BTreeSet<ProcessId> = BTreeSet::new();
    for one in &mut blamed {
        one.below = below(scene, one.process, &covered);
        covered.insert(one.process);
        covered.extend(one.below.iter().copied());
    }
    // Launchers that wait for a living server do what they should; the server is blamed.
    if blamed.iter().any(|one| matches!(one.role, Role::Server | Role::Stage)) {
        covered.extend(scene.roles.launchers.iter().copied());
    }
    // Each stage of a pipeline waits for the one before it.
    if let Some(first) = blamed.iter_mut().find(|one| one.role == Role::Stage) {
        let stages = scene.roles.pipeline.iter().copied();
        let waiting = stages.filter(|id| scene.survivors.contains_key(id) && covered.insert(*id));
        first.below.extend(waiting);
    }
    let mut helpers: Vec<ProcessId> =
        scene.survivors.keys().copied().filter(|id| !covered.contains(id)).collect();
    helpers.sort_by_key(|id| (id.start_time, id.pid));
    for id in helpers {
        if covered.contains(&id) {
            continue;
        }
        let mut one = helper(scene, id);
        one.below = below(scene, id, &covered);
        covered.insert(id);
        covered.extend(one.below.iter().copied());
        blamed.push(one);
    }
    blamed
}

impl Scene<'_> {
    /// Of a pipeline, the first stage that lives.
    fn first_stage(&self) -> Option<ProcessId> {
        self.roles.first_stage(|id| self.survivors.contains_key(&id))
    }

    /// What a process that answers is called.
    fn server_role(&self, id: ProcessId) -> Role {
        if self.roles.pipeline.contains(&id) { Role::Stage } else { Role::Server }
    }
}

impl Roles {
    /// Of a pipeline, the first stage that lives: the one whose stdin has ended, and for which the
    /// others wait.
    pub fn first_stage(&self, lives: impl Fn(ProcessId) -> bool) -> Option<ProcessId> {
        self.pipeline.iter().copied().find(|id| lives(*id))
    }
}

/// The survivor among server and launchers that is to blame, if any lives.
fn main_line(scene: &Scene<'_>) -> Option<Blamed> {
    let alive = |id: &&ProcessId| scene.survivors.contains_key(id);
    let server = scene.first_stage().or(scene.roles.server).or(scene.roles.root);
    let server = server.as_ref().filter(alive);
    let launcher = scene.roles.launchers.iter().find(alive);
    match (server, launcher) {
        (Some(server), _) if scene.roles.launchers.is_empty() => {
            Some(server_stayed(scene, *server))
        }
        (Some(server), launcher) => match scene.ending {
            Ending::StdinClosed | Ending::ClientKilled => Some(server_stayed(scene, *server)),
            // A launcher that waits for it does what it should.
            Ending::Signalled(_) if scene.deaf => Some(server_stayed(scene, *server)),
            Ending::Signalled(_) | Ending::ServerKilled | Ending::ExitedItself => {
                // The outermost got the signal. If it is gone, what it left is the server.
                let outermost = scene.roles.launchers.first();
                let stayed = launcher.filter(|launcher| Some(*launcher) == outermost);
                Some(launcher_left(scene, *stayed.unwrap_or(server), *server))
            }
        },
        (None, Some(launcher)) => Some(launcher_stayed(scene, *launcher)),
        (None, None) => None,
    }
}

fn server_stayed(scene: &Scene<'_>, server: ProcessId) -> Blamed {
    let holder = scene.stdin_writers.first();
    let (culprit, blame) = match (scene.ending, holder) {
        (Ending::StdinClosed | Ending::ClientKilled, Some(holder)) => (
            holder_culprit(scene, holder),
            format!(
                "its stdin has not ended: pid {} ({}) still has the write end",
                holder.pid, holder.command
            ),
        ),
        (Ending::StdinClosed | Ending::ClientKilled, None) => (
            Culprit::Server,
            match scene.stdin_unread {
                0 => "nobody has the write end of its stdin any more, so it could see the end and \
                      stayed"
                    .to_owned(),
                unread => format!(
                    "nobody who could be read has the write end of its stdin any more ({unread} \
                     could not), so it could see the end and stayed"
                ),
            },
        ),
        (Ending::Signalled(signal), _) if scene.deaf => (
            Culprit::Server,
            format!("it stayed when it was sent {signal} itself, and its launcher waits for it"),
        ),
        (Ending::Signalled(signal), _) => (
            Culprit::Server,
            format!("it is the process that the client started, and it was sent {signal} itself"),
        ),
        (Ending::ExitedItself, _) => {
            (Culprit::Server, "the process that the client started exited without it".to_owned())
        }
        (Ending::ServerKilled, _) => {
            (Culprit::Server, "it was sent SIGKILL and is still there".to_owned())
        }
    };
    let (rule, hurts, remedy) = match scene.ending {
        Ending::StdinClosed | Ending::ClientKilled => (
            (scene.era == Era::Modern).then_some("2026-07-28 stdio N9"),
            "a client that crashes can do no more than let stdin end; every such server stays \
             behind for ever",
            match (holder, culprit) {
                (None, _) => {
                    "when stdin ends, close transports, timers and helpers and let the process exit"
                }
                (Some(_), Culprit::Launcher) => {
                    "let the launcher hand its own stdin on, or close the server's as soon as its \
                     own ends"
                }
                (Some(_), _) => {
                    "close that write end, or open it close-on-exec: while anybody has it, stdin \
                     does not end"
                }
            },
        ),
        Ending::Signalled(_) | Ending::ServerKilled | Ending::ExitedItself => (
            None,
            "clients follow SIGTERM with SIGKILL, which lets nothing be cleaned up, or give up and \
             leave the process",
            "leave SIGTERM and SIGINT at their default action, or exit promptly in their handler",
        ),
    };
    Blamed {
        process: server,
        role: scene.server_role(server),
        class: class_of(culprit),
        culprit,
        blame,
        rule,
        hurts: hurts.to_owned(),
        remedy: remedy.to_owned(),
        below: Vec::new(),
    }
}

fn launcher_left(scene: &Scene<'_>, survivor: ProcessId, server: ProcessId) -> Blamed {
    let outermost = scene.roles.launchers.first().copied().unwrap_or(server);
    let launcher = name(scene, outermost);
    let signal = match scene.ending {
        Ending::Signalled(signal) => signal,
        _ => "SIGKILL",
    };
    let (role, blame) = if survivor == server {
        let role = scene.server_role(server);
        let left = if role == Role::Stage { "pipeline" } else { "server" };
        (
            role,
            if *scene.ending == Ending::ExitedItself {
                format!("the launcher {launcher} exited and left the {left} that it had started")
            } else {
                format!(
                    "the launcher {launcher} was sent {signal}, died of it and left the {left} \
                     that it had started"
                )
            },
        )
    } else {
        (
            Role::Launcher,
            format!(
                "the launcher {launcher} was sent {signal} and neither it nor the server ended"
            ),
        )
    };
    Blamed {
        process: survivor,
        role,
        class: if *scene.ending == Ending::ServerKilled { Class::Advisory } else { Class::Leak },
        culprit: Culprit::Launcher,
        blame,
        rule: None,
        hurts: "a client that signals the one pid it started, as SDKs do, leaves the real server \
                running, at the least until its stdin ends"
            .to_owned(),
        remedy: "start the server directly, or through a launcher that replaces itself (exec) or \
                 passes signals on; for npx, call the package's own binary"
            .to_owned(),
        below: Vec::new(),
    }
}

fn launcher_stayed(scene: &Scene<'_>, launcher: ProcessId) -> Blamed {
    Blamed {
        process: launcher,
        role: Role::Launcher,
        class: Class::Leak,
        culprit: Culprit::Launcher,
        blame: format!("the server is gone, and its launcher {} stayed", name(scene, launcher)),
        rule: None,
        hurts: "one launcher stays behind for every life of the server".to_owned(),
        remedy: "end the launcher when the process that it started ends".to_owned(),
        below: Vec::new(),
    }
}

fn helper(scene: &Scene<'_>, id: ProcessId) -> Blamed {
    let lineage: Vec<ProcessId> = scene.ledger.ancestors(id).collect();
    let server = scene.roles.server.or(scene.roles.root);
    let by_server = lineage.iter().any(|ancestor| Some(*ancestor) == server);
    let by_launcher = lineage.iter().any(|ancestor| scene.roles.launchers.contains(ancestor));
    let killed = *scene.ending == Ending::ServerKilled;
    let (culprit, mut blame) = if by_launcher && !by_server {
        (Culprit::Launcher, "the launcher started it beside the server".to_owned())
    } else if by_server {
        let parent = lineage.first().filter(|parent| Some(**parent) != server);
        let through = parent.map(|parent| format!(" through {}", name(scene, *parent)));
        (
            Culprit::Server,
            format!(
                "the server{} started it{} and ended without it",
                server.map(|server| format!(", pid {},", server.pid)).unwrap_or_default(),
                through.unwrap_or_default()
            ),
        )
    } else {
        (
            Culprit::Server,
            "its parent was gone before it was first seen; it came to be on this connection, so \
             the server's tree made it (a heuristic)"
                .to_owned(),
        )
    };
    let gateway = scene.ledger.backends().gateway_of(id);
    if let Some(gateway) = gateway {
        blame = format!(
            "{} started it, spoke with it through its stdin and stdout, as a gateway does with the \
             servers behind it, and ended without it",
            name(scene, gateway)
        );
    }
    if killed {
        blame.push_str("; shared: the client had to kill the server, which left it no time");
    }
    Blamed {
        process: id,
        role: if gateway.is_some() { Role::Backend } else { Role::Helper },
        class: if killed { Class::Advisory } else { Class::Leak },
        culprit,
        blame,
        rule: gateway.filter(|gateway| is_told_of(scene, *gateway, id)).map(|_| rule(scene.era)),
        hurts: "clients end the process that they started and nothing else: no SDK sweeps a \
                server's helpers, so each life leaves one more"
            .to_owned(),
        remedy: match gateway {
            Some(_) => {
                "a gateway is the client of the servers behind it: when its own client has gone, end \
                 the stdin of each, wait, then SIGTERM, then SIGKILL, and exit after them"
            }
            None => {
                "end and wait for helper processes when stdin ends and on SIGTERM, or give them a \
                 pipe whose end tells them to go"
            }
        }
        .to_owned(),
        below: Vec::new(),
    }
}

/// Whether a gateway's command line holds that of a process, by which it is one of the servers that
/// it was told of, and whose client it is. In quotes it may stand, for a shell.
fn is_told_of(scene: &Scene<'_>, gateway: ProcessId, id: ProcessId) -> bool {
    let words = |id: ProcessId| {
        let words = scene.ledger.command(id).unwrap_or_default();
        words.join(" ").replace(['\'', '"'], "")
    };
    // The interpreter of a script stands before it, and in no command line of a gateway.
    let whole = words(id);
    let rest = whole.split_once(' ').map_or("", |(_, rest)| rest);
    let told = words(gateway);
    [whole.as_str(), rest].iter().any(|own| !own.is_empty() && told.contains(own))
}

/// Survivors whose nearest surviving ancestor line leads to this one.
fn below(scene: &Scene<'_>, id: ProcessId, covered: &BTreeSet<ProcessId>) -> Vec<ProcessId> {
    scene
        .survivors
        .keys()
        .copied()
        .filter(|other| *other != id && !covered.contains(other))
        .filter(|other| {
            // Every step of the way has to live: an orphan is nobody's to wait for.
            scene
                .ledger
                .ancestors(*other)
                .take_while(|ancestor| scene.survivors.contains_key(ancestor))
                .any(|ancestor| ancestor == id)
        })
        .collect()
}

fn holder_culprit(scene: &Scene<'_>, holder: &Holder) -> Culprit {
    let is = |id: &ProcessId| id.pid == holder.pid;
    if scene.roles.launchers.iter().any(is) {
        Culprit::Launcher
    } else if scene.survivors.keys().any(is) {
        Culprit::Server
    } else {
        Culprit::Client
    }
}

/// In a run that judges a server, what others leak is advisory.
fn class_of(culprit: Culprit) -> Class {
    match culprit {
        Culprit::Server | Culprit::Launcher | Culprit::Core => Class::Leak,
        Culprit::Client | Culprit::Harness => Class::Advisory,
    }
}

fn name(scene: &Scene<'_>, id: ProcessId) -> String {
    let command = scene.ledger.command(id).unwrap_or_default().join(" ");
    let short: String = command.chars().take(60).collect();
    let end = if command.chars().nth(60).is_some() { "…" } else { "" };
    format!("pid {} ({short}{end})", id.pid)
}

#[cfg(test)]
mod tests;
