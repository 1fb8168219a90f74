//! What this host lets us see: each ability is tried, quickly and without side effects, because a
//! container may forbid by seccomp what the kernel's version promises.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::socket::unix_diag;

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

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
        fd_count(),
        cookie(),
        smaps_rollup(),
        subreaper(),
        pidfd(),
        pidfd_group(),
        pidfd_exit_status(),
        pidfd_copy(),
        ptrace_scope(),
        unix_peers(),
        pid_namespace(),
        cgroup(),
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
        consequence: "a process under another user is unknown; holders are \"at least\"",
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
        consequence: "memory is judged by the resident set alone",
    }
}

fn subreaper() -> Ability {
    let setting = rustix::process::child_subreaper();
    Ability {
        name: "child subreaper",
        available: setting.is_ok(),
        detail: outcome("prctl(PR_GET_CHILD_SUBREAPER)", setting.map(|_| ())),
        consequence: "orphans are found by the environment cookie alone",
    }
}

fn pidfd() -> Ability {
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty());
    Ability {
        name: "pidfd",
        available: pidfd.is_ok(),
        detail: outcome("pidfd_open of ourselves", pidfd.map(drop)),
        consequence: "signals go by pid, which may have been given to another process",
    }
}

fn pidfd_group() -> Ability {
    by_version("pidfd to a group", (6, 9), "groups are signalled by number, before reaping")
}

fn pidfd_exit_status() -> Ability {
    by_version(
        "exit status by pidfd",
        (6, 15),
        "how a grandchild ended is known only if it came to us to be reaped",
    )
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
        consequence: "sockets of processes outside the case are described from /proc/PID/net; \
                      explain may not trace a running process",
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

fn pid_namespace() -> Ability {
    let consequence = "the tier is the subreaper's: a process that is made by a service outside \
                       the tree is not seen";
    let ability =
        |available, detail| Ability { name: "pid namespace", available, detail, consequence };
    if !Path::new("/proc/self/ns/pid").exists() {
        return ability(false, "the kernel has no pid namespaces".to_owned());
    }
    if has_capability(CAP_SYS_ADMIN) {
        return ability(true, "CAP_SYS_ADMIN".to_owned());
    }
    let forbidden = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    for (path, value) in forbidden {
        if read_line(path).as_deref() == Some(value) {
            return ability(false, format!("no CAP_SYS_ADMIN, and {path} is {value}"));
        }
    }
    match Path::new("/proc/self/ns/user").exists() {
        true => ability(true, "by a user namespace; not tried".to_owned()),
        false => ability(false, "no CAP_SYS_ADMIN and no user namespaces".to_owned()),
    }
}

fn cgroup() -> Ability {
    let (available, detail) = match own_cgroup() {
        None => (false, "no cgroup v2 is mounted".to_owned()),
        Some(path) => {
            let writable = access(&path, Access::WRITE_OK)
                .and_then(|()| access(path.join("cgroup.procs"), Access::WRITE_OK));
            (writable.is_ok(), outcome(&format!("writing {}", path.display()), writable))
        }
    };
    Ability {
        name: "cgroup v2",
        available,
        detail,
        consequence: "a tree is ended process by process instead of at once",
    }
}

/// Our own cgroup v2 as a path of the file system.
fn own_cgroup() -> Option<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let mount = fields.nth(1)?;
        (fields.next()? == "cgroup2").then_some(mount)
    })?;
    Some(Path::new(mount).join(own.trim_start_matches('/')))
}

fn by_version(name: &'static str, least: (u32, u32), consequence: &'static str) -> Ability {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    Ability {
        name,
        available: version(&release).is_some_and(|version| version >= least),
        detail: format!("Linux {release}, needs {}.{}; not tried", least.0, least.1),
        consequence,
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
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

fn read_line(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
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
    fn versions_are_numbers() {
        assert_eq!(version("6.18.44-fc-v445"), Some((6, 18)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("next"), None);
        assert!(version("6.9.1") < Some((6, 15)));
    }

    #[test]
    fn capabilities_are_bits() {
        let effective = parse_effective("CapPrm:\t0\nCapEff:\t0000000000200000\n");
        assert_eq!(effective, Some(1 << CAP_SYS_ADMIN));
    }

    #[test]
    fn trying_every_ability_opens_nothing_for_good() {
        let abilities = host();
        assert!(abilities.iter().all(|ability| !ability.detail.is_empty()));
        assert!(abilities.iter().any(|ability| ability.name == "/proc" && ability.available));
    }
}
