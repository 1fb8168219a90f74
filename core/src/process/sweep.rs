//! Who is in a process group, read from /proc (`proc_pid_stat(5)`).

use std::{collections::BTreeSet, fmt, fs, io};

use rustix::process::{Pid, WaitId, WaitIdOptions, getpid, waitid};

use super::{ProcessId, os};

/// A process that a server started, directly or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub process: ProcessId,
    /// Its command line, arguments joined by spaces; in brackets the short name where it has none.
    pub command: String,
    /// Had it left the server's group (`setsid(2)`, `setpgid(2)`)? Such a one is found by its cookie,
    /// where asked for.
    pub outside_group: bool,
}

impl Member {
    pub(super) fn seen(pid: Pid, stat: Stat, outside_group: bool) -> Self {
        Self {
            process: ProcessId::new(pid, stat.start_time_ticks),
            command: command_line(pid).unwrap_or_else(|| format!("[{}]", stat.short_name)),
            outside_group,
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.process, self.command)
    }
}

/// What `/proc/PID/stat` says, as far as it matters here.
pub(super) struct Stat {
    pub(super) short_name: String,
    pub(super) state: u8,
    pub(super) parent: i32,
    pub(super) start_time_ticks: u64,
}

impl Stat {
    pub(super) fn read(pid: Pid) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
        Self::parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{}/stat has an unknown shape", pid.as_raw_nonzero()),
            )
        })
    }

    /// The short name stands in parentheses and may hold any byte, so fields count from the last one.
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let short_name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            short_name,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            start_time_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The living members of the group of `leader`, the leader itself left out.
///
/// Dead ones that were handed to this process (because it is a subreaper or PID 1) are reaped on the
/// way; dead ones of another parent are that parent's to reap and are not listed.
///
/// # Errors
/// When /proc cannot be listed: then nothing is known, which is not the same as nobody.
pub(super) fn living_members(leader: Pid) -> io::Result<Vec<Member>> {
    let mut members = Vec::new();
    let own = getpid();
    for pid in every_pid()? {
        // getpgid costs a fiftieth of reading stat, and most processes are strangers.
        if pid == leader || os::group_of(pid).ok() != Some(leader.as_raw_nonzero().get()) {
            continue;
        }
        let Ok(stat) = Stat::read(pid) else {
            continue;
        };
        if !stat.is_dead() {
            members.push(Member::seen(pid, stat, false));
        } else if stat.parent == own.as_raw_nonzero().get() {
            reap_adopted(pid);
        }
    }
    Ok(members)
}

/// The living members of these groups, each with its group, leaders included. In one pass.
///
/// # Errors
/// When /proc cannot be listed.
pub(crate) fn living_in(groups: &BTreeSet<i32>) -> io::Result<Vec<(i32, ProcessId)>> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    Ok(every_pid()?
        .into_iter()
        .filter_map(|pid| {
            let group = os::group_of(pid).ok().filter(|group| groups.contains(group))?;
            let stat = Stat::read(pid).ok().filter(|stat| !stat.is_dead())?;
            Some((group, ProcessId::new(pid, stat.start_time_ticks)))
        })
        .collect())
}

/// The pid of every process, as one listing of /proc shows them.
///
/// # Errors
/// When /proc cannot be listed.
pub(super) fn every_pid() -> io::Result<Vec<Pid>> {
    fs::read_dir("/proc")?
        .filter_map(|entry| match entry {
            Ok(entry) => entry
                .file_name()
                .to_str()
                .and_then(|n| n.parse().ok())
                .and_then(Pid::from_raw)
                .map(Ok),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// Takes the status of a dead process that was handed to this one.
pub(super) fn reap_adopted(pid: Pid) {
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
}

fn command_line(pid: Pid) -> Option<String> {
    let text = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).replace('\0', " "))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::CommandExt,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn the_living_of_a_group_are_its_members_but_not_its_leader() {
        let script = "sleep 1000 & echo $!; read -r end; kill $!; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let mut stdout = BufReader::new(shell.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("the pid of sleep");
        let leader = Pid::from_child(&shell);
        let sleep: i32 = line.trim().parse().expect("a pid");

        let began = Instant::now();
        // Until it has come to exec, its command line is the shell's.
        let members = loop {
            let members = living_members(leader).expect("/proc can be listed");
            if members.iter().any(|member| member.command == "sleep 1000") {
                break members;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{members:?}");
        };
        let groups = BTreeSet::from([leader.as_raw_nonzero().get()]);
        let living = living_in(&groups).expect("/proc can be listed");
        drop(shell.stdin.take());
        shell.wait().expect("our child");

        assert_eq!(members.len(), 1, "{members:?}");
        assert!(members[0].to_string().starts_with(&format!("pid {sleep}")), "{}", members[0]);
        assert!(members[0].to_string().ends_with("`sleep 1000`"), "{}", members[0]);
        let living: Vec<i32> = living.into_iter().map(|(_, id)| id.pid).collect();
        assert_eq!(living.len(), 2, "the leader and {sleep}: {living:?}");
        assert!(living.contains(&sleep), "{living:?}");
        assert!(living_members(leader).expect("/proc can be listed").is_empty());
    }

    #[test]
    fn short_names_with_parentheses_and_spaces_are_parsed() {
        let text = b"77 (a) (b c) Z 12 77 77 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let stat = Stat::parse(text).expect("parsed");
        assert_eq!(stat.short_name, "a) (b c");
        assert_eq!((stat.parent, stat.start_time_ticks), (12, 4242));
        assert!(stat.is_dead());
    }

    #[test]
    fn a_cut_stat_line_is_an_error_not_a_panic() {
        for length in 0..40 {
            let text = b"77 (sleep) S 12 77 77 0 -1 4 0 0 0 0 0 0 ";
            assert!(Stat::parse(&text[..length]).is_none());
        }
    }
}
