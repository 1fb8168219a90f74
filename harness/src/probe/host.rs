//! What this host lets us see: each ability is tried, quickly and without side effects, because a
//! container may forbid by seccomp what the kernel's version promises.

use std::os::fd::AsFd;

use rustix::fs::stat;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::socket::unix_diag;

const CAP_SYS_PTRACE: u32 = 19;

/// Something the kernel offers or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// Short name.
    pub name: &'static str,
    /// It works here.
    pub available: bool,
    /// What was tried and what came of it.
    pub detail: String,
    /// What follows where it does not work.
    pub consequence: &'static str,
}

/// Every ability, tried now.
pub fn host() -> Vec<Ability> {
    vec![
        proc_readable(),
        hidepid(),
        other_users(),
        fd_count(),
        cookie(),
        smaps_rollup(),
        subreaper(),
        pidfd(),
        pidfd_copy(),
        ptrace_scope(),
        unix_peers(),
    ]
}

/// /proc hides processes of others from us: what it does not list may still be there.
pub(super) fn proc_hides() -> bool {
    hidepid_option().is_some_and(|level| level != "1" && level != "noaccess")
        && !has_capability(CAP_SYS_PTRACE)
}

fn proc_readable() -> Ability {
    let listed = std::fs::read_to_string("/proc/self/stat");
    Ability {
        name: "/proc",
        available: listed.is_ok(),
        detail: match listed {
            Ok(_) => "mounted and of our own pid namespace".to_owned(),
            Err(error) => format!("/proc/self/stat: {error}"),
        },
        consequence: "nothing can be judged",
    }
}

fn hidepid() -> Ability {
    Ability {
        name: "whole /proc",
        available: hidepid_option().is_none() || has_capability(CAP_SYS_PTRACE),
        detail: match hidepid_option() {
            Some(level) => format!("mounted with hidepid={level}"),
            None => "mounted without hidepid".to_owned(),
        },
        consequence: "a process under another user is not seen, which is told where something \
                      points to one; holders are \"at least\"",
    }
}

fn other_users() -> Ability {
    let available = has_capability(CAP_SYS_PTRACE);
    Ability {
        name: "other users",
        available,
        detail: match available {
            true => "CAP_SYS_PTRACE: descriptors of all processes can be read".to_owned(),
            false => "no CAP_SYS_PTRACE: only descriptors of our own user's processes can be read"
                .to_owned(),
        },
        consequence: "a server or helper under another user, such as through sudo or a setuid \
                      program, is a leak if it stays and else unknown; holders are \"at least\"",
    }
}

fn fd_count() -> Ability {
    let size = stat("/proc/self/fd").map(|stat| stat.st_size);
    Ability {
        name: "descriptor count",
        available: size.is_ok_and(|size| size > 0),
        detail: match size {
            Ok(0) => "/proc/PID/fd has no size before Linux 6.2".to_owned(),
            Ok(size) => format!("size of /proc/self/fd is {size}"),
            Err(errno) => format!("/proc/self/fd: {errno}"),
        },
        consequence: "descriptors are screened by listing them; a descriptor that moves about \
                      constantly can be missed",
    }
}

fn cookie() -> Ability {
    let environment = std::fs::read("/proc/self/environ");
    Ability {
        name: "environment cookie",
        available: environment.is_ok(),
        detail: match environment {
            Ok(_) => "/proc/self/environ can be read".to_owned(),
            Err(error) => format!("/proc/self/environ: {error}"),
        },
        consequence: "orphans of several connections cannot be told apart",
    }
}

fn smaps_rollup() -> Ability {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup");
    Ability {
        name: "proportional memory",
        available: text.as_ref().is_ok_and(|text| text.contains("\nPss:")),
        detail: match text {
            Ok(_) => "/proc/self/smaps_rollup can be read".to_owned(),
            Err(error) => format!("/proc/self/smaps_rollup: {error}"),
        },
        consequence: "memory is judged by the resident set, with pages of programs that come and go",
    }
}

fn subreaper() -> Ability {
    let setting = rustix::process::child_subreaper();
    Ability {
        name: "child subreaper",
        available: setting.is_ok(),
        detail: outcome("prctl(PR_GET_CHILD_SUBREAPER)", setting.map(|_| ())),
        consequence: "orphans cannot be held, so nothing can be judged",
    }
}

fn pidfd() -> Ability {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty());
    Ability {
        name: "pidfd",
        available: pidfd.is_ok(),
        detail: outcome("pidfd_open of ourselves", pidfd.map(drop)),
        consequence: "no server can be started, so nothing can be judged",
    }
}

fn pidfd_copy() -> Ability {
    let copy = pidfd_open(getpid(), PidfdFlags::empty()).and_then(|pidfd| {
        // A descriptor that is surely open: the pidfd itself.
        let number = std::os::fd::AsRawFd::as_raw_fd(&pidfd);
        pidfd_getfd(pidfd.as_fd(), number, PidfdGetfdFlags::empty())
    });
    Ability {
        name: "socket addresses",
        available: copy.is_ok(),
        detail: outcome("pidfd_getfd of ourselves", copy.map(drop)),
        consequence: "socket addresses are looked up in /proc/PID/net, which is slower",
    }
}

fn ptrace_scope() -> Ability {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let level = scope.as_deref().map_or(0, |scope| scope.trim().parse().unwrap_or(0));
    Ability {
        name: "ptrace",
        available: level == 0 || (level <= 2 && has_capability(CAP_SYS_PTRACE)),
        detail: match scope {
            Ok(scope) => format!("yama ptrace_scope is {}", scope.trim()),
            Err(_) => "no yama".to_owned(),
        },
        consequence: "sockets of processes outside the case are described from /proc/PID/net",
    }
}

fn unix_peers() -> Ability {
    let found = peer_of_a_pair();
    Ability {
        name: "unix socket peers",
        available: found == Ok(true),
        detail: match found {
            Ok(true) => "sock_diag names the peer of a socketpair".to_owned(),
            Ok(false) => "sock_diag names a wrong peer for a socketpair".to_owned(),
            Err(errno) => format!("sock_diag: {errno}"),
        },
        consequence: "who holds the other end of a unix socket stays unknown",
    }
}

fn peer_of_a_pair() -> Result<bool, Errno> {
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let inode = |socket| rustix::fs::fstat(socket).map(|stat| stat.st_ino);
    Ok(unix_diag(inode(&one)?)?.peer.map(u64::from) == Some(inode(&other)?))
}

fn outcome(tried: &str, result: Result<(), Errno>) -> String {
    match result {
        Ok(()) => format!("{tried}: works"),
        Err(errno) => format!("{tried}: {errno}"),
    }
}

fn hidepid_option() -> Option<String> {
    parse_hidepid(&std::fs::read_to_string("/proc/self/mounts").ok()?)
}

/// The hidepid of the /proc on top, where it has any.
fn parse_hidepid(mounts: &str) -> Option<String> {
    let mut options = mounts.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(1) == Some(&"/proc")).then_some(*fields.get(3)?)
    });
    let level =
        options.next_back()?.split(',').find_map(|option| option.strip_prefix("hidepid="))?;
    (level != "0" && level != "off").then(|| level.to_owned())
}

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_effective(&status).is_some_and(|effective| effective >> number & 1 == 1)
}

fn parse_effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proc_on_top_says_whether_it_hides() {
        let plain = "proc /proc proc rw,nosuid 0 0\n";
        let hiding = "proc /proc proc rw,nosuid,hidepid=invisible 0 0\n";
        let off = "proc /proc proc rw,hidepid=off,gid=4 0 0\n";
        assert_eq!(parse_hidepid(plain), None);
        assert_eq!(parse_hidepid(&format!("{plain}{hiding}")).as_deref(), Some("invisible"));
        assert_eq!(parse_hidepid(&format!("{hiding}{plain}")), None);
        assert_eq!(parse_hidepid(off), None);
    }

    #[test]
    fn capabilities_are_bits() {
        let effective = parse_effective("CapPrm:\t0\nCapEff:\t0000000000200000\n");
        assert_eq!(effective, Some(1 << 21));
    }

    #[test]
    fn trying_every_ability_opens_nothing_for_good() {
        let abilities = host();
        assert!(abilities.iter().all(|ability| !ability.detail.is_empty()));
        assert!(abilities.iter().any(|ability| ability.name == "/proc" && ability.available));
    }
}
