//! An optional process that outlives the host and ends the servers it left.
//!
//! Close, drop, cancellation and panic are seen to by the host itself. When the host dies by SIGKILL,
//! abort or [`std::process::exit`], its servers only see the end of their stdin, and those that
//! ignore it live on. The guard is for them: a small process in a session of its own, told of each
//! server before it is started and given its pidfd after. When the host is gone, for whatever reason,
//! it waits [`GuardSettings::grace`], then kills what is left, looks again until two consecutive
//! looks find nobody, and exits.
//!
//! ```no_run
//! use scupper_core::{census::Census, process::Command, stdio::StdioServer};
//! use scupper_core::guard::{self, Guard, GuardProgram, GuardSettings};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // The first line of main: started as a guard, the program never gets past it.
//!     let entrance = guard::run_if_asked();
//!
//!     let census = Census::new();
//!     let guard = Guard::start(GuardSettings::new(GuardProgram::Own(entrance)), &census)?;
//!     let server = StdioServer::new(Command::new("my-server")).guarded_by(&guard);
//!     // … a runtime, a host, its life and its end …
//! #   let _ = server;
//!     println!("{}", guard.close());
//!     Ok(())
//! }
//! ```
//!
//! # Where the guard's program comes from
//! Either from the host's own executable ([`GuardProgram::Own`]), which then needs [`run_if_asked`] as
//! the first line of `main`: it gives the [`Entrance`] that the settings ask for, so a program
//! without the line does not compile. What stands before the line runs twice, once in the guard, with
//! an almost empty environment. Or from another executable ([`GuardProgram::At`]): the crate builds
//! one, `scupper_guard`, whose main is that one line. It suits hosts that do much before main, or
//! whose main is not theirs. Whatever program it is, [`Guard::start`] waits for its answer, kills one
//! that gives none, and says so.
//!
//! # What it holds
//! Of the host's descriptors none but one end of a socket pair, and /dev/null three times; a pidfd
//! for each server that runs. It blocks all signals that can be blocked, so neither Ctrl-C nor a
//! SIGTERM sent to the host's group ends it before its work is done. Its environment is empty but for
//! `LD_LIBRARY_PATH` and what a host above wrote there.
//!
//! # What it does not cover
//! - A helper that left its server's group (`setsid(2)`, `setpgid(2)`), unless [`GuardSettings::sweep_cookie`] asks
//!   for it; and then not one that cleared or overwrote its environment.
//! - A server whose pidfd had not come yet when the host died, and that had overwritten its
//!   environment before it was looked for: such a one is known by its cookie only.
//! - Before Linux 6.9: members of a group whose leader had died, and been reaped by init, before the
//!   guard looked, and that carry no cookie any more. A number alone is never killed, because it may
//!   be a stranger's by then.
//! - Its own end. A guard that is killed takes nobody with it; the host is told
//!   ([`GuardHandle::ended`], and the next start is refused), and can start another one, which covers
//!   what is started from then on.
//! - A system that stops: both die.
//!
//! Where the host can have a cgroup or a pid namespace for its servers, either is stronger than this.

mod end;
mod error;
mod handle;
mod settings;
mod ward;
mod watch;
mod wire;

use std::{
    env,
    ffi::OsString,
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    panic::Location,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{PidfdFlags, getpid, pidfd_open},
};

use crate::{
    census::{Census, DroppedWithoutClose, Kind, Row},
    process::{Cookie, Exit, ProcessId, Session, SessionLeader, above_stdio},
};
use handle::{Line, Link};
use wire::{Begin, Message, Receive};

pub use error::GuardError;
pub use handle::GuardHandle;
pub use settings::{GuardProgram, GuardSettings, WhenLost};
pub use watch::{Entrance, run_if_asked};

pub(crate) use ward::Ward;

/// For a program that has let go of its socket and so is exiting: its own exit tells more than our
/// signal.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// The guard process, and the duty to close it.
///
/// Dropped without close, it is ended in the same way and the drop is recorded in the census.
#[must_use = "dropping it ends the guard"]
pub struct Guard {
    handle: GuardHandle,
    census: Census,
    opened_at: &'static Location<'static>,
    row: Option<Row>,
    close_wait: Duration,
}

impl Guard {
    /// Starts the guard and waits for it to answer, by blocking: some milliseconds, and
    /// [`GuardSettings::start_wait`] at most. Needs no runtime. The census shows a row for it until
    /// it is closed.
    ///
    /// # Errors
    /// [`GuardError`]; nothing is left behind then.
    #[track_caller]
    pub fn start(settings: GuardSettings, census: &Census) -> Result<Self, GuardError> {
        let opened_at = Location::caller();
        let (program, name) = match &settings.program {
            GuardProgram::Own(_) => {
                let name = env::args_os().next().unwrap_or_else(|| "scupper-guard".into());
                (PathBuf::from("/proc/self/exe"), name)
            }
            GuardProgram::At(path) => {
                let absolute =
                    std::path::absolute(path).map_err(starting("finding its program"))?;
                (absolute, path.clone().into_os_string())
            }
        };
        let (socket, far_end) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| starting("making its socket")(error.into()))?;
        let far_end = above_stdio(far_end).map_err(starting("making its socket"))?;
        let nonce = Cookie::new().map_err(starting("drawing its nonce"))?;
        let mut leader = Session {
            program: &program,
            arguments: vec![
                name.clone(),
                watch::MARKER.into(),
                format!("of-{}", std::process::id()).into(),
            ],
            environment: guard_environment(nonce),
            stdin: far_end.as_fd(),
        }
        .spawn()
        .map_err(starting("executing its program"))?;
        drop(far_end);

        greet(&socket, &settings)?;
        answer(&socket, &mut leader, nonce, &settings, &name.to_string_lossy())?;
        let process = leader.id();
        tracing::info!(%process, %opened_at, "guard started");
        let link = Link {
            process,
            send_wait: settings.send_wait,
            when_lost: settings.when_lost,
            line: Mutex::new(Some(Line { socket, leader, wards: 0, slow: false })),
        };
        Ok(Self {
            handle: GuardHandle { link: Arc::new(link) },
            census: census.clone(),
            opened_at,
            row: Some(census.enter(Kind::Guard, "guard", process.to_string(), opened_at)),
            close_wait: settings.close_wait,
        })
    }

    /// What servers are started with. Clones share it, and dropping them ends nothing.
    pub fn handle(&self) -> &GuardHandle {
        &self.handle
    }

    /// Ends the guard by blocking, about a millisecond and [`GuardSettings::close_wait`] at most,
    /// then by SIGKILL. Close the servers first: those that still run are unguarded afterwards.
    pub fn close(mut self) -> GuardEnd {
        self.end().unwrap_or_else(|| GuardEnd {
            process: self.handle.process(),
            exit: None,
            forced: false,
            left_unguarded: 0,
            took: Duration::ZERO,
        })
    }

    /// `None` the second time.
    fn end(&mut self) -> Option<GuardEnd> {
        let Line { socket, mut leader, wards, .. } = self.handle.link.lock().take()?;
        sabotaged!(GuardSocketKept => crate::sabotage::keep_copy(&socket));
        sabotaged!(GuardKept => {
            std::mem::forget((socket, leader));
            return None;
        });
        let began = Instant::now();
        // If it is dead or does not read, the end of the socket and SIGKILL do as well.
        wire::send(socket.as_fd(), &Message::Goodbye, None, Duration::ZERO).ok();
        drop(socket);
        let (exit, forced) = match leader.reap_within(self.close_wait) {
            Ok(Some(exit)) => (Some(exit), false),
            _ => (leader.kill().ok().flatten(), true),
        };
        let process = leader.id();
        let end = GuardEnd { process, exit, forced, left_unguarded: wards, took: began.elapsed() };
        match (self.row.take(), exit) {
            (Some(row), None) => row.abandon(format!("{process} will not end")),
            (row, _) => drop(row),
        }
        Some(end)
    }
}

/// Servers are started with the handle: `server.guarded_by(&guard)`.
impl std::ops::Deref for Guard {
    type Target = GuardHandle;

    fn deref(&self) -> &GuardHandle {
        &self.handle
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(end) = self.end() {
            self.census.record_drop(DroppedWithoutClose {
                kind: Kind::Guard,
                name: "guard".into(),
                opened_at: self.opened_at,
            });
            tracing::warn!(opened_at = %self.opened_at, "guard dropped without close: {end}");
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({})", self.handle.process())
    }
}

/// How a guard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it tells whether the guard was there to the end"]
pub struct GuardEnd {
    /// The guard.
    pub process: ProcessId,
    /// How it ended: code 0 if it was there all the time. `None` if it could not be ended.
    pub exit: Option<Exit>,
    /// Did it have to be killed?
    pub forced: bool,
    /// How many servers were running, and are unguarded now.
    pub left_unguarded: usize,
    /// From the wish to the end.
    pub took: Duration,
}

impl fmt::Display for GuardEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guard ({}): ", self.process)?;
        match self.exit {
            Some(exit) => write!(f, "{exit}")?,
            None => f.write_str("still there")?,
        }
        if self.forced {
            f.write_str(", by SIGKILL because it did not answer")?;
        }
        if self.left_unguarded > 0 {
            write!(f, ", {} running servers unguarded", self.left_unguarded)?;
        }
        write!(f, ", after {:.1} ms", self.took.as_secs_f64() * 1000.0)
    }
}

fn starting(doing: &'static str) -> impl Fn(io::Error) -> GuardError {
    move |source| GuardError::Starting { doing, source }
}

fn guard_environment(nonce: Cookie) -> Vec<(OsString, OsString)> {
    let libraries = "LD_LIBRARY_PATH";
    [(OsString::from(watch::NONCE_VARIABLE), OsString::from(nonce.to_string()))]
        .into_iter()
        .chain(env::var_os(libraries).map(|value| (libraries.into(), value)))
        .chain(Cookie::inherited())
        .collect()
}

/// Tells the guard whom to watch and how.
fn greet(socket: &OwnedFd, settings: &GuardSettings) -> Result<(), GuardError> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|error| starting("opening the pidfd of the host")(error.into()))?;
    let begin = Message::Begin(Begin {
        version: wire::VERSION,
        grace: settings.grace,
        kill_wait: settings.kill_wait,
        sweep_cookie: settings.sweep_cookie,
    });
    match wire::send(socket.as_fd(), &begin, Some(own.as_fd()), settings.start_wait) {
        // It died before: its answer, which is none, tells more.
        Err(error) if wire::is_gone(&error) => Ok(()),
        sent => sent.map_err(starting("telling it whom to watch")),
    }
}

/// Waits until the guard has said that it is one. Otherwise it is killed and reaped.
fn answer(
    socket: &OwnedFd,
    leader: &mut SessionLeader,
    nonce: Cookie,
    settings: &GuardSettings,
    program: &str,
) -> Result<(), GuardError> {
    let waited = settings.start_wait;
    let silent = |leader: &mut SessionLeader, exit_wait| {
        let exit = leader.reap_within(exit_wait).ok().flatten();
        if exit.is_none() {
            leader.kill().ok();
        }
        GuardError::NoAnswer { program: program.to_owned(), waited, exit }
    };
    match wire::receive(socket.as_fd(), waited) {
        Ok(Receive::Got(Message::Ready(ready), _)) if ready.nonce == nonce => match ready.version {
            wire::VERSION => Ok(()),
            theirs => Err(GuardError::OtherVersion {
                program: program.to_owned(),
                ours: wire::VERSION,
                theirs,
            }),
        },
        Ok(Receive::Ended) => Err(silent(leader, EXIT_WAIT)),
        Err(error) if wire::is_gone(&error) => Err(silent(leader, EXIT_WAIT)),
        Ok(Receive::Got(..) | Receive::Nothing) => Err(silent(leader, Duration::ZERO)),
        Err(error) => Err(starting("waiting for its answer")(error)),
    }
}
