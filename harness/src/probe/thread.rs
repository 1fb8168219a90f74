//! Threads of a process, the leader not counted: /proc/PID/task (proc_pid_task(5)).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::process::{Stat, stat_at};
use super::read::{self, Buffers};
use crate::ledger::snapshot::{Facts, Identity};

/// Adds every thread of a process but its leader to `things`.
pub(super) fn scan(
    process: &OwnedFd,
    stat: &Stat,
    buffers: &mut Buffers,
    things: &mut BTreeMap<Identity, Facts>,
) -> Result<(), Errno> {
    let tasks = read::open_dir(process, c"task")?;
    for tid in buffers.numbers(&tasks)? {
        if tid == stat.pid {
            continue;
        }
        let thread = match stat_at(&tasks, &format!("{tid}/stat"), buffers) {
            Ok(Some(thread)) => thread,
            Ok(None) => continue,
            Err(errno) if read::is_gone(errno) => continue,
            Err(errno) => return Err(errno),
        };
        // Threads are never waited for: one that shows as dead is on its way out.
        if matches!(thread.state, 'Z' | 'X' | 'x') {
            continue;
        }
        let identity = Identity::Thread { owner: stat.id(), tid, start_time: thread.start_time };
        things.insert(identity, Facts::Thread { name: thread.name });
    }
    Ok(())
}
