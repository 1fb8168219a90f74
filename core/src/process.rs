//! Child processes as group leaders: spawned, named, signalled, awaited, swept and reaped.
//!
//! Two rules hold everywhere. A process is named by pid and start time, because pids are reused.
//! And a leader stays unreaped until its group is empty: as long as it is a zombie, its number can
//! belong to nobody else, so a signal to the group cannot hit a stranger.

mod os;
mod sweep;

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsStr, OsString},
    fmt, fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::PermissionsExt,
        },
    },
    path::{Path, PathBuf},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group,
        pidfd_open, pidfd_send_signal, waitid,
    },
};
use tokio::io::unix::AsyncFd;

pub use sweep::Member;

/// How long [`ProcessGroup`]'s own `Drop` waits for a killed leader.
const DROP_WAIT: Duration = Duration::from_secs(1);

/// A process, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time_ticks: u64,
}

impl ProcessId {
    pub(crate) fn new(pid: Pid, start_time_ticks: u64) -> Self {
        Self {
            pid: pid.as_raw_nonzero().get(),
            start_time_ticks,
        }
    }

    /// The process that has the number `pid` now.
    ///
    /// # Errors
    /// When there is none, or /proc hides it.
    pub fn of(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "pid 0 names no process"))?;
        Ok(Self::new(pid, sweep::Stat::read(pid)?.start_time_ticks))
    }

    /// Does it still exist, be it as a zombie?
    pub fn exists(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }

    /// Is it running, that is, not yet a zombie?
    pub fn is_alive(self) -> bool {
        Pid::from_raw(self.pid)
            .and_then(|pid| sweep::Stat::read(pid).ok())
            .is_some_and(|stat| stat.start_time_ticks == self.start_time_ticks && !stat.is_dead())
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}@{}", self.pid, self.start_time_ticks)
    }
}

/// How a process ended (`waitid(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It is gone, but its status went to somebody else: another part of the host waits for every
    /// child, or ignores SIGCHLD.
    Unknown,
}

impl Exit {
    fn of(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::Unknown => f.write_str("unknown status"),
        }
    }
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No tokio runtime: pipes and pidfds are awaited by one.
    #[error("starting `{program}` needs a running tokio runtime; call it from async code")]
    NoRuntime {
        /// What was to be started.
        program: String,
    },
    /// There is no such executable.
    #[error("no executable `{program}`; looked in {}", show_places(.searched))]
    NotFound {
        /// What was to be started.
        program: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A string with a NUL byte cannot be handed to a program.
    #[error("starting `{program}`: {what} holds a NUL byte")]
    NulByte {
        /// What was to be started.
        program: String,
        /// Which string it is.
        what: String,
    },
    /// The kernel refused.
    #[error("starting `{program}`: {doing}")]
    Refused {
        /// What was to be started.
        program: String,
        /// Which step it was.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn show_places(searched: &[PathBuf]) -> String {
    match searched {
        [] => "no directory, because PATH is empty".to_owned(),
        places => places
            .iter()
            .map(|place| place.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// What to start.
///
/// A bare program name is looked up on the PATH that the child will have; a name with a slash is
/// taken as it is, relative to the child's directory. The environment is the host's, with changes.
#[derive(Clone, Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    inherit_environment: bool,
    environment: BTreeMap<OsString, Option<OsString>>,
    directory: Option<PathBuf>,
}

impl Command {
    /// Starts `program` without arguments, in the host's directory and environment.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            inherit_environment: true,
            environment: BTreeMap::new(),
            directory: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), Some(value.into()));
        self
    }

    /// Sets variables.
    #[must_use]
    pub fn envs<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        for (name, value) in variables {
            self = self.env(name, value);
        }
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), None);
        self
    }

    /// Inherits nothing: the child sees only what [`env`](Self::env) sets, before or after.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.inherit_environment = false;
        self
    }

    /// Starts it in this directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The program as it was given.
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// Starts it as leader of a new group, its three standard descriptors piped.
    ///
    /// # Errors
    /// [`SpawnError`]; nothing is left behind then.
    pub fn spawn(&self) -> Result<Spawned, SpawnError> {
        let program = self.program.to_string_lossy().into_owned();
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(SpawnError::NoRuntime { program });
        }
        let environment = self.environment();
        let path = self.find(&environment)?;
        let refused = |doing| {
            let program = program.clone();
            move |source| SpawnError::Refused {
                program,
                doing,
                source,
            }
        };

        let (stdin_read, stdin) = pipe().map_err(refused("making its stdin"))?;
        let (stdout, stdout_write) = pipe().map_err(refused("making its stdout"))?;
        let (stderr, stderr_write) = pipe().map_err(refused("making its stderr"))?;
        let c_string = |what: &str, bytes: &[u8]| {
            CString::new(bytes).map_err(|_| SpawnError::NulByte {
                program: program.clone(),
                what: what.to_owned(),
            })
        };
        let path = c_string("its path", path.as_os_str().as_bytes())?;
        let directory = self
            .directory
            .as_ref()
            .map(|directory| c_string("its directory", directory.as_os_str().as_bytes()))
            .transpose()?;
        let arguments = std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|argument| c_string("an argument", argument.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        let environment = environment
            .into_iter()
            .map(|(mut pair, value)| {
                let what = format!("the variable {}", pair.to_string_lossy());
                pair.push("=");
                pair.push(value);
                c_string(&what, &pair.into_vec())
            })
            .collect::<Result<Vec<_>, _>>()?;

        let pid = os::spawn(&os::Birth {
            path: &path,
            arguments: &arguments,
            environment: &environment,
            directory: directory.as_deref(),
            stdio: [
                stdin_read.as_fd(),
                stdout_write.as_fd(),
                stderr_write.as_fd(),
            ],
        })
        .map_err(refused("executing it"))?;
        let group = ProcessGroup::adopt(pid).map_err(refused("watching it by pidfd"))?;
        Ok(Spawned {
            group,
            stdin,
            stdout,
            stderr,
        })
    }

    fn environment(&self) -> BTreeMap<OsString, OsString> {
        let mut environment = BTreeMap::new();
        if self.inherit_environment {
            environment.extend(env::vars_os());
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => environment.insert(name.clone(), value.clone()),
                None => environment.remove(name),
            };
        }
        environment
    }

    fn find(&self, environment: &BTreeMap<OsString, OsString>) -> Result<PathBuf, SpawnError> {
        let program = Path::new(&self.program);
        if self.program.as_bytes().contains(&b'/') {
            return Ok(program.to_owned());
        }
        let places: Vec<PathBuf> = environment
            .get(OsStr::new("PATH"))
            .map(|path| env::split_paths(path).collect())
            .unwrap_or_default();
        places
            .iter()
            .map(|place| place.join(program))
            .find(|candidate| is_executable(candidate))
            .ok_or_else(|| SpawnError::NotFound {
                program: self.program.to_string_lossy().into_owned(),
                searched: places,
            })
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Both ends CLOEXEC and numbered 3 or higher, so that moving the child's ends to 0, 1 and 2 cannot
/// overwrite one of them in a host that was started with its own standard descriptors closed.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}

fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
}

/// A child that has just been started: its group and the host's ends of its pipes, still blocking.
#[derive(Debug)]
pub struct Spawned {
    /// The child and everything that stays in its group.
    pub group: ProcessGroup,
    /// Writes to the child.
    pub stdin: OwnedFd,
    /// Reads what it answers.
    pub stdout: OwnedFd,
    /// Reads what it logs.
    pub stderr: OwnedFd,
}

/// A child process and the group it leads. The leader is reaped by [`reap`](Self::reap) and by
/// nothing else; dropped unreaped, the group is killed, awaited for at most a second, and reaped.
#[derive(Debug)]
pub struct ProcessGroup {
    pid: Pid,
    id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl ProcessGroup {
    fn adopt(pid: Pid) -> io::Result<Self> {
        let watch = || {
            let start_time_ticks = sweep::Stat::read(pid)?.start_time_ticks;
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            let pidfd = os::watch(pidfd)?;
            Ok((ProcessId::new(pid, start_time_ticks), pidfd))
        };
        match watch() {
            Ok((id, pidfd)) => Ok(Self {
                pid,
                id,
                pidfd,
                reaped: false,
            }),
            Err(error) => {
                // Nobody else knows of the child yet; SIGKILL cannot be refused, so this is short.
                kill_process_group(pid, Signal::KILL).ok();
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).ok();
                Err(error)
            }
        }
    }

    /// The leader.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Has the leader exited? It stays a zombie until reaped.
    ///
    /// # Errors
    /// What `waitid(2)` reports, save that somebody else took the status: that counts as exited.
    pub fn has_exited(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => Ok(status.is_some()),
            Err(Errno::CHILD) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Ready once the leader has exited. One waiter at a time: the last waker given is the one woken.
    ///
    /// # Errors
    /// When the runtime that watches the pidfd has been shut down.
    pub fn poll_exited(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.pidfd.poll_read_ready(cx))?;
        guard.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// Signals every member of the group, the leader too if it moved to another one.
    ///
    /// # Errors
    /// What `kill(2)` reports, save that nobody was left to signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.number_is_a_strangers() {
            return Ok(());
        }
        if !self.has_exited()? && os::group_of(self.pid).ok() != Some(self.id.pid) {
            pidfd_send_signal(self.pidfd.as_fd(), signal).or_else(nobody_is_fine)?;
        }
        kill_process_group(self.pid, signal).or_else(nobody_is_fine)?;
        Ok(())
    }

    /// The living members besides the leader. Dead ones that this process adopted are reaped.
    ///
    /// # Errors
    /// When /proc cannot be listed.
    pub fn members(&self) -> io::Result<Vec<Member>> {
        if self.number_is_a_strangers() {
            return Ok(Vec::new());
        }
        sweep::living_members(self.pid)
    }

    /// Takes the exit status of a leader that has exited; `None` while it runs.
    ///
    /// # Errors
    /// What `waitid(2)` reports.
    pub fn reap(&mut self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let exit = match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => Exit::of(&status),
            Ok(None) => return Ok(None),
            Err(Errno::CHILD) => Exit::Unknown,
            Err(error) => return Err(error.into()),
        };
        self.reaped = true;
        Ok(Some(exit))
    }

    /// Gives up on a leader that will not end: `Drop` then does nothing.
    pub(crate) fn disown(mut self) {
        self.reaped = true;
    }

    /// Only where another part of the host reaped the leader can its number have a new owner. While
    /// a member lives the kernel does not hand the number out, so a new owner means an empty group.
    fn number_is_a_strangers(&self) -> bool {
        sweep::Stat::read(self.pid)
            .is_ok_and(|stat| stat.start_time_ticks != self.id.start_time_ticks)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let deadline = Instant::now() + DROP_WAIT;
        while Instant::now() < deadline {
            self.signal(Signal::KILL).ok();
            let alone = self.members().is_ok_and(|members| members.is_empty());
            if alone && matches!(self.reap(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        tracing::error!(process = %self.id, "a killed process group did not end within a second");
    }
}

fn nobody_is_fine(error: Errno) -> Result<(), Errno> {
    match error {
        Errno::SRCH => Ok(()),
        error => Err(error),
    }
}
