//! The process between runner and cell that outlives either, and ends everything below when one of
//! them goes. Started with: tier, directory of the case, first pid of the namespace.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, set_child_subreaper, setsid};

use super::contain::{drain, own_pid, reap};
use super::isolate;
use super::protocol::Ground;
use crate::ledger::verdict::Tier;

/// Longest time that ending everything may take.
const DRAIN_BOUND: Duration = Duration::from_secs(10);
/// Exit code of a sentinel whose runner is gone.
const ORPHANED: u8 = 130;
/// Argument in place of a case's directory: only tell whether this ground holds.
pub const TRIAL: &str = "--trial";

/// Runs a sentinel until its cell has ended or its stdin, the lifeline, has. Returns the cell's exit
/// code.
pub fn run(arguments: &[String]) -> io::Result<u8> {
    let [tier, directory, first_pid] = arguments else {
        return Err(io::Error::other("a sentinel is started by scupper itself"));
    };
    // In a session of its own no key of the terminal reaches what is below.
    setsid()?;
    isolate::close_inherited_on_exec()?;
    let tier = if tier == Tier::PidNamespace.as_str() {
        isolate::mount_own_proc()?;
        // Pids that differ from case to case: a lock file with the pid of an earlier case must not
        // look like one of a living process. Where the kernel refuses, they are small.
        let _ = std::fs::write("/proc/sys/kernel/ns_last_pid", first_pid);
        Tier::PidNamespace
    } else {
        Tier::Subreaper
    };
    set_child_subreaper(Pid::from_raw(own_pid()))?;
    if directory == TRIAL {
        return tell(Ground { tier }).map(|()| 0);
    }
    let directory = PathBuf::from(directory);
    // A runner that dies this early ends nothing here but what was not begun yet.
    let code = tell(Ground { tier }).and_then(|()| start_cell(&directory, tier)).and_then(watch);
    drain(DRAIN_BOUND);
    // Whoever asked to keep it has moved it away by now, or has named another place.
    let _ = std::fs::remove_dir_all(&directory);
    // When both neighbours die at once, the end of the cell may be the first to be seen.
    if runner_is_gone()?
        && let Some(home) = directory.parent()
    {
        // The runner cannot do it any more; the last sentinel succeeds.
        let _ = std::fs::remove_dir(home);
    }
    code
}

fn tell(ground: Ground) -> io::Result<()> {
    let mut line = serde_json::to_vec(&ground)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

fn start_cell(directory: &Path, tier: Tier) -> io::Result<Child> {
    let temp = directory.join("tmp");
    std::fs::create_dir_all(&temp)?;
    Command::new(std::env::current_exe()?)
        .arg(super::CELL)
        .env("TMPDIR", &temp)
        .env(super::CELL_COOKIE, directory.file_name().unwrap_or_default())
        .env("SCUPPER_TIER", tier.as_str())
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .spawn()
}

/// Whether the lifeline has ended.
fn runner_is_gone() -> io::Result<bool> {
    let lifeline = io::stdin();
    let mut polled = [PollFd::from_borrowed_fd(lifeline.as_fd(), PollFlags::empty())];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&at_once)))?;
    Ok(!polled[0].revents().is_empty())
}

/// Waits for the end of the cell, or of the runner.
fn watch(cell: Child) -> io::Result<u8> {
    let pid = cell.id().cast_signed();
    let pidfd = pidfd_open(Pid::from_child(&cell), PidfdFlags::empty())?;
    let lifeline = io::stdin();
    loop {
        // The cell reads the lifeline; asking for no event reports its hang-up alone.
        let mut polled = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(lifeline.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !polled[0].revents().is_empty() {
            let code = reap().remove(&pid).and_then(|(code, _)| code).unwrap_or(101);
            return Ok(u8::try_from(code).unwrap_or(101));
        }
        if !polled[1].revents().is_empty() {
            return Ok(ORPHANED);
        }
    }
}
