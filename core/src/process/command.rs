//! What to start, and starting it.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsStr, OsString},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::PermissionsExt,
        },
    },
    path::{Path, PathBuf},
};

use rustix::pipe::{PipeFlags, pipe_with};

use super::{Cookie, ProcessGroup, os};
use crate::guard::{GuardError, GuardHandle, Ward};

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
    /// The guard process could not be told, and the settings refuse to start a server without it.
    #[error("starting `{program}` unguarded is refused (`GuardSettings::when_lost`)")]
    Unguarded {
        /// What was to be started.
        program: String,
        /// Why the guard could not be told.
        source: GuardError,
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
        places => {
            places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
        }
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
    guard: Option<GuardHandle>,
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
            guard: None,
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

    /// The values set in its environment, each named `env NAME`.
    #[cfg(feature = "admin")]
    pub(crate) fn secrets(&self) -> Vec<(String, String)> {
        let set = self.environment.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let text = |text: &OsString| text.to_string_lossy().into_owned();
        set.map(|(name, value)| (format!("env {}", text(name)), text(value))).collect()
    }

    /// Has the guard process end it when the host dies. The child's environment gets one variable
    /// more, `SCUPPER_COOKIE`.
    #[must_use]
    pub fn guarded_by(mut self, guard: &GuardHandle) -> Self {
        self.guard = Some(guard.clone());
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
        self.spawn_with(Marked::IfGuarded)
    }

    pub(crate) fn spawn_with(&self, marked: Marked) -> Result<Spawned, SpawnError> {
        let program = self.program.to_string_lossy().into_owned();
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(SpawnError::NoRuntime { program });
        }
        let mut environment = self.environment();
        let path = self.find(&environment)?;
        let refused = |doing| {
            let program = program.clone();
            move |source| SpawnError::Refused { program, doing, source }
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
        let cookie = match (marked, &self.guard) {
            (Marked::IfGuarded, None) => None,
            _ => Some(Cookie::new().map_err(refused("drawing its cookie"))?),
        };
        if let Some(cookie) = cookie {
            let name = Cookie::variable_name();
            let above = match self.inherit_environment {
                true => environment.get(name).cloned(),
                // What a host above wrote is not ours to clear.
                false => environment.get(name).cloned().or_else(|| env::var_os(name)),
            };
            let (name, value) = cookie.variable(above.as_deref());
            environment.insert(name, value);
        }
        let environment = environment
            .into_iter()
            .map(|(mut pair, value)| {
                let what = format!("the variable {}", pair.to_string_lossy());
                pair.push("=");
                pair.push(value);
                c_string(&what, &pair.into_vec())
            })
            .collect::<Result<Vec<_>, _>>()?;

        let unguarded = |source| SpawnError::Unguarded { program: program.clone(), source };
        // The guard hears of it before it exists; dropped on failure, the ward is struck off again.
        let ward = self.announce(cookie).map_err(unguarded)?;
        let pid = os::spawn(&os::Birth {
            path: &path,
            arguments: &arguments,
            environment: &environment,
            directory: directory.as_deref(),
            stdio: [stdin_read.as_fd(), stdout_write.as_fd(), stderr_write.as_fd()],
            leads: os::Leads::Group,
        })
        .map_err(refused("executing it"))?;
        let mut group =
            ProcessGroup::adopt(pid, cookie).map_err(refused("watching it by pidfd"))?;
        if let Some(ward) = ward {
            // Refused, the group is dropped here, which ends it.
            group.guarded_by(ward).map_err(unguarded)?;
        }
        Ok(Spawned { group, stdin, stdout, stderr })
    }

    fn announce(&self, cookie: Option<Cookie>) -> Result<Option<Ward>, GuardError> {
        match (&self.guard, cookie) {
            (Some(guard), Some(cookie)) => guard.announce(cookie),
            _ => Ok(None),
        }
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
    let flags = if sabotaged!(PipesInherited) { PipeFlags::empty() } else { PipeFlags::CLOEXEC };
    let (read, write) = pipe_with(flags)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}

pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
}

/// When a child is given a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    IfGuarded,
    Always,
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
