//! A life of the server: its command is started, and its URL is waited for.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Play;
use crate::cell::CONNECTION_COOKIE;
use crate::cell::contain::{self, Exit};
use crate::cell::protocol::{CellEvent, HttpOrder};
use crate::ledger::blame::Roles;
use crate::ledger::snapshot::{Identity, ProcessId};
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::endpoint::{Endpoint, PORT};
use crate::probe::socket::{self, Tcp};
use crate::settle::load_per_core;
use crate::subject::connection::Due;
use crate::subject::elsewhere::elsewhere;
use crate::subject::finding::{exit_words, not_started};
use crate::subject::output::Output;
use crate::subject::server::LOOK;

/// Ports that are tried where another takes the first in between.
const TRIES: usize = 5;
/// Below the ports that a kernel gives out to those who connect, unless it was told otherwise.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// First and longest pause between two looks at a server that starts.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A time to start that long is for servers that take theirs.
const LONG_START: Duration = Duration::from_secs(30);
/// Most listening sockets that are named.
const OTHERS: usize = 6;

/// One life.
pub(super) struct Life {
    /// The process that was started.
    pub(super) root: ProcessId,
    /// How it ended, once it was reaped.
    pub(super) exit: Option<Exit>,
    pub(super) exited_at: Option<Instant>,
    pub(super) output: Output,
    pub(super) endpoint: Endpoint,
    pub(super) started: Instant,
    pub(super) roles: Roles,
    /// From when on it has to go.
    pub(super) due: Option<Due>,
}

/// Why a server did not come up.
enum Down {
    /// Another has the port, so a new one may be tried.
    PortTaken(String),
    /// It is not to be.
    For(String),
}

impl Play<'_> {
    /// Starts the server and waits until its URL accepts connections.
    pub(super) fn start(&mut self, at: &StepRef, port: Option<u16>) -> Result<(), Box<Failure>> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let began = Instant::now();
            let came_up = self.start_once(at, port);
            let cause = match came_up {
                Ok(()) => {
                    self.look(at, LOOK);
                    self.tell_roles();
                    self.tree = self.alive().len();
                    return Ok(());
                }
                Err(Down::For(cause)) => return Err(self.failure(at, cause)),
                Err(Down::PortTaken(cause)) if port.is_some() || !takes_port(self.http) => {
                    return Err(self.failure(at, cause));
                }
                Err(Down::PortTaken(cause)) => cause,
            };
            self.give_up_life();
            last = cause;
            if began.elapsed() > Duration::from_millis(self.order.start_timeout_ms) {
                break;
            }
        }
        let tried = format!("{last}; {TRIES} free ports were tried");
        Err(self.failure(at, tried))
    }

    fn start_once(&mut self, at: &StepRef, port: Option<u16>) -> Result<(), Down> {
        let port = match port {
            Some(port) => port,
            None => free_port().ok_or_else(|| Down::For("this host has no free port".into()))?,
        };
        let endpoint =
            Endpoint::at(&self.http.url, port).map_err(|error| Down::For(error.to_string()))?;
        let life = Life::start(self.http, endpoint).map_err(Down::For)?;
        let (pid, started) = (life.root.pid, life.started);
        let endpoint = life.endpoint.clone();
        self.life = Some(life);
        (self.tell)(CellEvent::SubjectStarted { pid });
        let deadline = started + self.start_timeout();
        let mut pause = FIRST_PAUSE;
        loop {
            self.reap();
            if let Some(exit) = self.life.as_ref().and_then(|life| life.exit) {
                return Err(self.died(exit, &endpoint));
            }
            let table = socket::tcp(pid);
            let listening: Vec<&Tcp> = table
                .iter()
                .filter(|one| one.listens() && one.local.port() == endpoint.port)
                .collect();
            if !listening.is_empty() {
                self.look(at, LOOK);
                if listening.iter().any(|one| self.owner(one.inode).is_some()) {
                    return Ok(());
                }
            }
            if Instant::now() >= deadline {
                return Err(self.never_came(&endpoint, !listening.is_empty(), at));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// How long a start may take. On a busy host a long time is not as long as it was meant.
    fn start_timeout(&self) -> Duration {
        let given = Duration::from_millis(self.order.start_timeout_ms);
        if given < LONG_START { given } else { given.mul_f64(load_per_core().clamp(1.0, 4.0)) }
    }

    fn died(&self, exit: Exit, endpoint: &Endpoint) -> Down {
        let output = self.life.as_ref().map(|life| life.output.last()).unwrap_or_default();
        let text = output.join("\n").to_lowercase();
        let in_use = ["address already in use", "address in use", "eaddrinuse", "already in use"];
        let how = exit_words(exit.0, exit.1);
        if in_use.iter().any(|words| text.contains(words)) {
            return Down::PortTaken(format!(
                "the server {how} because port {} is in use",
                endpoint.port
            ));
        }
        let hint = match takes_port(self.http) {
            true => {
                "is something missing that it needs, such as an argument, a file or a variable?"
            }
            false => {
                "is something missing that it needs? Its command names no {port}, so it has to know \
                 the port of the URL by itself"
            }
        };
        Down::For(format!("the server {how} before it listened at {endpoint}; {hint}"))
    }

    /// What is known of a server that does not listen where it should.
    fn never_came(&mut self, endpoint: &Endpoint, is_others: bool, at: &StepRef) -> Down {
        self.look(at, LOOK);
        let unseen =
            self.ledger.last().processes().find_map(|(_, facts)| elsewhere(&facts.command));
        if is_others {
            let cause = format!(
                "port {} is served by a process that this command did not start",
                endpoint.port
            );
            return match unseen {
                Some(unseen) => Down::For(format!("{cause}; could not look at {unseen}")),
                None => Down::PortTaken(cause),
            };
        }
        let seconds = self.start_timeout().as_secs();
        let listens = self.listening();
        let word = match self.http.launch.command.iter().any(|word| word.contains(PORT)) {
            true => "",
            false => " Its command names no {port}; many take it as `env PORT={port} COMMAND`.",
        };
        Down::For(match listens.as_slice() {
            [] => format!(
                "nothing listened at {endpoint} within {seconds} s: the command runs, and none of \
                 its processes listens on any port. Does it serve HTTP, or does it need an argument \
                 for that? More time: --start-timeout.{word}"
            ),
            some => format!(
                "nothing listened at {endpoint} within {seconds} s, but the command listens \
                 elsewhere: {}. Name that in the URL, or tell the command its port by {{port}}.{word}",
                some.join(", ")
            ),
        })
    }

    /// Where processes of the tree listen, in words.
    pub(super) fn listening(&self) -> Vec<String> {
        let Some(life) = &self.life else { return Vec::new() };
        let table = socket::tcp(life.root.pid);
        let mut found: Vec<String> = table
            .iter()
            .filter(|one| one.listens())
            .filter_map(|one| {
                let owner = self.owner(one.inode)?;
                Some(format!("{} (pid {})", one.local, owner.pid))
            })
            .collect();
        found.sort();
        found.dedup();
        found.truncate(OTHERS);
        found
    }

    /// The process of the tree that has the socket with this inode; the outermost of several.
    pub(super) fn owner(&self, inode: u64) -> Option<ProcessId> {
        let mut owners: Vec<ProcessId> = self
            .ledger
            .last()
            .things
            .keys()
            .filter_map(|thing| match thing {
                Identity::Fd { owner, inode: one, target, .. }
                    if *one == inode && target.starts_with("socket:") =>
                {
                    Some(*owner)
                }
                _ => None,
            })
            .collect();
        owners.sort_by_key(|id| self.ledger.ancestors(*id).count());
        owners.first().copied()
    }

    /// Who is the server, and who only started it: the one that listens, and those above it.
    pub(super) fn tell_roles(&mut self) {
        let Some(life) = &self.life else { return };
        let (root, port) = (life.root, life.endpoint.port);
        let server = socket::tcp(root.pid)
            .iter()
            .filter(|one| one.listens() && one.local.port() == port)
            .find_map(|one| self.owner(one.inode));
        let Some(server) = server else { return };
        let mut launchers: Vec<ProcessId> = self.ledger.ancestors(server).collect();
        launchers.reverse();
        // What stands above the root is ours.
        let from = launchers.iter().position(|one| *one == root).unwrap_or(launchers.len());
        let launchers = launchers.split_off(from);
        let roles =
            Roles { root: Some(root), server: Some(server), launchers, pipeline: Vec::new() };
        if let Some(life) = &mut self.life {
            life.roles = roles;
        }
    }
}

impl Life {
    fn start(order: &HttpOrder, endpoint: Endpoint) -> Result<Self, String> {
        let port = endpoint.port.to_string();
        let fill = |text: &String| text.replace(PORT, &port);
        let words: Vec<String> = order.launch.command.iter().map(fill).collect();
        let Some((program, arguments)) = words.split_first() else {
            return Err("there is no command".to_owned());
        };
        let mut command = Command::new(program);
        if let Some(directory) = &order.launch.directory {
            command.current_dir(directory);
        }
        let mut child = command
            .args(arguments)
            .envs(order.launch.environment.iter().map(|(name, value)| (name, fill(value))))
            .env(CONNECTION_COOKIE, "server")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| not_started(program, &error.to_string()))?;
        let started = Instant::now();
        let output = Output::of(&mut child);
        // Not reaped yet, so it is there, dead or alive.
        let root = contain::identify(child.id().cast_signed())
            .ok_or("the server vanished when it was started")?;
        let roles = Roles { root: Some(root), ..Roles::default() };
        Ok(Self { root, exit: None, exited_at: None, output, endpoint, started, roles, due: None })
    }
}

/// Whether a new port can be told to the command.
pub(super) fn takes_port(order: &HttpOrder) -> bool {
    order.url.contains(PORT)
}

/// A port on which nobody listens, in a range where no kernel puts the near end of a connection.
fn free_port() -> Option<u16> {
    let count = u64::from(PORTS.end - PORTS.start);
    for _ in 0..100 {
        // Seeded anew by the standard library for each table: enough not to meet another cell.
        let random = RandomState::new().hash_one(std::process::id());
        let port = PORTS.start + u16::try_from(random % count).unwrap_or(0);
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            && match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
                Ok(_) => true,
                Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
            };
        if free {
            return Some(port);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_one_that_can_be_listened_on() {
        let port = free_port().expect("a free port");
        assert!(PORTS.contains(&port));
        let other = free_port().expect("a free port");
        assert!(PORTS.contains(&other));
    }
}
