//! What a process does with a signal: why one that was sent SIGTERM still lives.

use rustix::process::Signal;

use super::read::{self, Buffers};
use crate::ledger::snapshot::ProcessId;

/// Longest /proc/PID/status that is read, in bytes.
const STATUS_LIMIT: usize = 16 * 1024;

/// What a process does with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Its action is the kernel's.
    Default,
    /// It is thrown away.
    Ignored,
    /// It is put off until the process takes it.
    Blocked,
    /// A handler of the process runs.
    Caught,
}

/// What this very process does with the signal; none where it is gone or cannot be read.
pub fn reaction(id: ProcessId, signal: Signal) -> Option<Reaction> {
    let mut buffers = Buffers::default();
    let dir = read::process_dir(id.pid).ok()?;
    let stat = super::process::stat_at(&dir, "stat", &mut buffers).ok()??;
    if stat.id() != id {
        return None;
    }
    let status = buffers.read(&dir, "status", STATUS_LIMIT).ok()?;
    parse(&String::from_utf8_lossy(status), signal)
}

/// From the masks of proc_pid_status(5).
fn parse(status: &str, signal: Signal) -> Option<Reaction> {
    let bit = signal.as_raw() - 1;
    let has = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? >> bit & 1 == 1)
    };
    Some(match (has("SigIgn:")?, has("SigBlk:")?, has("SigCgt:")?) {
        (true, _, _) => Reaction::Ignored,
        (_, true, _) => Reaction::Blocked,
        (_, _, true) => Reaction::Caught,
        _ => Reaction::Default,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn masks_are_read_by_the_number_of_the_signal() {
        let status = "Name:\tnode\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\n\
                      SigCgt:\t0000000108004602\n";
        assert_eq!(parse(status, Signal::INT), Some(Reaction::Caught));
        assert_eq!(parse(status, Signal::PIPE), Some(Reaction::Ignored));
        assert_eq!(parse(status, Signal::HUP), Some(Reaction::Default));
        assert_eq!(parse("Name:\tnode\n", Signal::TERM), None);
    }

    #[test]
    fn a_shell_that_ignores_sigterm_is_seen_to() {
        let mut shell = Command::new("sh")
            .args(["-c", "trap '' TERM; echo; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut said = [0];
        let stdout = shell.stdout.as_mut().expect("a pipe");
        std::io::Read::read_exact(stdout, &mut said).expect("it says when it is ready");
        let stat =
            super::super::process::stat_of(shell.id().cast_signed(), &mut Buffers::default());
        let id = stat.ok().flatten().expect("it is there").id();
        assert_eq!(reaction(id, Signal::TERM), Some(Reaction::Ignored));
        // One that no parent ignores, as nohup(1) does with SIGHUP: that is inherited.
        assert_eq!(reaction(id, Signal::USR1), Some(Reaction::Default));
        let other = ProcessId { start_time: id.start_time + 1, ..id };
        assert_eq!(reaction(other, Signal::TERM), None);
        drop(shell.stdin.take());
        shell.wait().expect("it ends with its stdin");
    }
}
