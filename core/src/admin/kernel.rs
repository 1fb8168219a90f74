//! What the kernel knows of this process. What cannot be read is absent, not zero.

use std::fs;

/// How many descriptors are open, without the one that this look takes.
pub(super) fn open_fds() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    u64::try_from(entries.count()).ok()?.checked_sub(1)
}

/// How many there may be, as the soft limit of the process is now.
pub(super) fn max_fds() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// How many children there are, zombies too.
pub(super) fn children() -> Option<u64> {
    let mut children = 0;
    for task in fs::read_dir("/proc/self/task").ok()? {
        match fs::read_to_string(task.ok()?.path().join("children")) {
            Ok(pids) => children += pids.split_ascii_whitespace().count(),
            // The thread has ended since; its children are another thread's now.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(_) => return None,
        }
    }
    u64::try_from(children).ok()
}

/// How many tasks the runtime has, whoever spawned them.
pub(super) fn runtime_tasks() -> Option<u64> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    u64::try_from(runtime.metrics().num_alive_tasks()).ok()
}
