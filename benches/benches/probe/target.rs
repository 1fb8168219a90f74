//! Processes to look at: this program again, with so many descriptors or so many children.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// First argument of a process that holds so many descriptors.
const HOLD: &str = "__hold-fds";
/// First argument of a process that has so many others below it.
const TREE: &str = "__tree";

/// A process that is looked at. It ends when it is dropped.
pub(crate) struct Target {
    child: Child,
    pub(crate) pid: i32,
}

impl Target {
    /// One with so many descriptors; none where the host does not allow as many, which is said.
    pub(crate) fn with_fds(fds: usize) -> Option<Target> {
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if most < fds as u64 + 16 {
            eprintln!("probe: {fds} descriptors are skipped: the limit is {most} (ulimit -Hn)");
            return None;
        }
        Some(Self::start([HOLD.to_owned(), fds.to_string()]))
    }

    /// One with descendants, so many processes in all, each with so many descriptors; none where the
    /// host does not allow as many.
    pub(crate) fn tree(processes: usize, fds: usize) -> Option<Target> {
        let most = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
        if most < processes as u64 + 16 {
            eprintln!("probe: {processes} processes are skipped: the limit is {most} (ulimit -u)");
            return None;
        }
        Some(Self::start([TREE.to_owned(), format!("{processes}/{fds}")]))
    }

    fn start(words: [String; 2]) -> Target {
        let child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let child = ready(child).expect("the target comes up");
        let pid = child.id().cast_signed();
        Target { child, pid }
    }

    /// The folder of its descriptors, held open as a screen does.
    pub(crate) fn held_descriptors(&self) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, format!("/proc/{}/fd", self.pid), flags, Mode::empty()).expect("it is alive")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Waits for the line that a process writes when it has everything.
fn ready(mut child: Child) -> io::Result<Child> {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    match line.as_str() {
        "ready\n" => Ok(child),
        _ => Err(io::Error::other(format!("it said {line:?}"))),
    }
}

/// Plays one of the processes above, if the arguments ask for it.
pub(crate) fn role(words: &[String]) -> Option<ExitCode> {
    let [role, size, ..] = words else { return None };
    let done = match role.as_str() {
        HOLD => size.parse().map_err(io::Error::other).and_then(hold),
        TREE => size
            .split_once('/')
            .ok_or(io::ErrorKind::InvalidInput.into())
            .and_then(|(processes, fds)| tree(processes.parse().map_err(io::Error::other)?, fds)),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe, {role} {size}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Of each seven: two files, both ends of a pipe, both of a pair of sockets, an eventfd.
fn hold(count: usize) -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let mut held: Vec<OwnedFd> = Vec::new();
    let wanted = count.saturating_sub(3);
    for next in 0.. {
        if held.len() >= wanted {
            break;
        }
        match next % 5 {
            0 | 1 => held.push(std::fs::File::open(std::env::current_exe()?)?.into()),
            2 => held.extend(<[OwnedFd; 2]>::from(pipe_with(PipeFlags::CLOEXEC)?)),
            3 => {
                let (one, other) = UnixStream::pair()?;
                held.extend([one.into(), other.into()]);
            }
            _ => held.push(eventfd(0, EventfdFlags::CLOEXEC)?),
        }
    }
    held.truncate(wanted);
    say_ready()?;
    wait_for_the_end()
}

fn tree(processes: usize, fds: &str) -> io::Result<()> {
    let mut children = Vec::new();
    for _ in 1..processes {
        let child = Command::new(std::env::current_exe()?)
            .args([HOLD, fds])
            .stdin(Stdio::inherit())
            .stdout(Stdio::piped())
            .spawn()?;
        children.push(ready(child)?);
    }
    hold(fds.parse().map_err(io::Error::other)?)?;
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

fn say_ready() -> io::Result<()> {
    use std::io::Write;
    let mut stdout = io::stdout().lock();
    stdout.write_all(b"ready\n")?;
    stdout.flush()
}

/// All processes of a tree have the one stdin.
fn wait_for_the_end() -> io::Result<()> {
    io::stdin().lock().read_to_end(&mut Vec::new()).map(drop)
}
