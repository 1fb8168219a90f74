//! Processes by pidfd, and ending all that is below.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use crate::ledger::snapshot::ProcessId;

/// A process that is certainly the one meant, for as long as this value lives.
#[derive(Debug)]
pub struct Handle {
    pidfd: OwnedFd,
}

impl Handle {
    /// Takes hold of a process; none if it is gone, or if its pid is another's by now.
    pub fn open(id: ProcessId) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(id.pid)?, PidfdFlags::empty()).ok()?;
        (start_time(id.pid)? == id.start_time).then_some(Self { pidfd })
    }

    /// Takes hold of a child of ours, of which /proc may hide even when it was started.
    fn of_child(pid: i32) -> Option<Self> {
        if let Some(id) = identify(pid) {
            return Self::open(id);
        }
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Still a child of ours, so the number was nobody else's when it was taken hold of.
        listed_children().contains(&pid).then_some(Self { pidfd })
    }

    /// Sends a signal; a process that is gone by now is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The process that has this pid now.
pub fn identify(pid: i32) -> Option<ProcessId> {
    Some(ProcessId { pid, start_time: start_time(pid)? })
}

/// Whether this very process runs; one that is dead and unreaped does not.
pub fn lives(id: ProcessId) -> bool {
    let Some(fields) = stat_fields(id.pid) else { return false };
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let is_dead = matches!(fields.first().map(String::as_str), Some("Z" | "X"));
    // A process whose first thread has ended looks dead and lives on in the others.
    number(19) == Some(id.start_time) && (!is_dead || number(17).is_some_and(|threads| threads > 1))
}

fn start_time(pid: i32) -> Option<u64> {
    stat_fields(pid)?.get(19)?.parse().ok()
}

/// Fields of proc_pid_stat(5) from the third on, the state.
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses of its own.
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Pids of the children of a process, zombies too, by looking at everybody's parent.
pub fn children(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for entry in entries.flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            && let Some(fields) = stat_fields(pid)
            && fields.get(1).and_then(|field| field.parse().ok()) == Some(parent)
        {
            found.push(pid);
        }
    }
    found
}

/// Pids of our own children, those too that /proc hides from us, such as a setuid program under
/// hidepid.
fn own_children() -> BTreeSet<i32> {
    let mut found = listed_children();
    found.extend(children(own_pid()));
    found
}

/// Pids of our own children as our own threads list them; none where the kernel makes no such list.
fn listed_children() -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

/// How a reaped child ended: exit code, or signal.
pub type Exit = (Option<i32>, Option<i32>);

/// Reaps every child that is dead by now. The caller must be the only one of this process to wait
/// for children.
pub fn reap() -> BTreeMap<i32, Exit> {
    let mut reaped = BTreeMap::new();
    // Only a look at /proc tells which zombie it is; the screen below keeps that rare.
    while zombie_waits() {
        let before = reaped.len();
        for pid in own_children() {
            let Some(target) = Pid::from_raw(pid) else { continue };
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Ok(Some(status)) = waitid(WaitId::Pid(target), options) {
                reaped.insert(pid, (status.exit_status(), status.terminating_signal()));
            }
        }
        if reaped.len() == before {
            break;
        }
    }
    reaped
}

/// Whether some child is dead and unreaped.
fn zombie_waits() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, options), Ok(Some(_)))
}

/// Whether there is no child at all, living or zombie. As a child subreaper, or as the first process
/// of a pid namespace, that means no descendant of any kind.
pub fn childless() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}

/// Ends everything below this process, again and again until nothing is left: a process that forks
/// while it is killed leaves a child, which comes to us and is killed in the next round. Returns
/// what is left after the bound, which only uninterruptible sleep explains.
pub fn drain(bound: Duration) -> Vec<i32> {
    let deadline = Instant::now() + bound;
    let mut pause = Duration::from_micros(200);
    loop {
        for pid in own_children() {
            if let Some(handle) = Handle::of_child(pid) {
                // Nothing to do about a failure but to look again.
                let _ = handle.signal(Signal::KILL);
            }
        }
        reap();
        if childless() {
            return Vec::new();
        }
        if Instant::now() >= deadline {
            return own_children().into_iter().collect();
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Our own pid.
pub fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_known_and_does_not_live() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat starts");
        let id = identify(child.id().cast_signed()).expect("it is there");
        assert!(lives(id));
        assert!(!lives(ProcessId { start_time: id.start_time + 1, ..id }), "its pid is another's");
        drop(child.stdin.take());
        let target = Pid::from_child(&child);
        let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(target), dead).expect("it is our child");
        assert_eq!(identify(id.pid), Some(id));
        assert!(!lives(id));
        child.wait().expect("it is our child");
        assert!(!lives(id));
    }
}
