//! Descriptors of a process: /proc/PID/fd and /proc/PID/fdinfo (proc_pid_fd(5),
//! proc_pid_fdinfo(5)).
//!
//! Two descriptors look the same from outside when one is closed and the other opened at the same
//! number between two looks, and the kernel gave out again what else tells them apart: it does so
//! at once with eventfd-ids, and epoll, timerfd, signalfd and inotify have no such thing. The
//! process then holds as many as before, at the same numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, fstat, statat};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::process::{Stat, living_thread};
use super::read::{self, Buffers};
use crate::ledger::snapshot::{Facts, FdKind, Identity, ProcessId};

/// What is of use stands at the start; epoll adds a line for every descriptor it watches.
const FDINFO_LIMIT: usize = 1024;
const UNLINKED: &str = " (deleted)";

/// Which process a pidfd was for when it was first seen. Once that process is reaped, fdinfo says
/// `Pid: -1`, and the pidfd would look like another one.
#[derive(Debug, Default)]
pub(super) struct KnownPidfds {
    known: BTreeMap<PidfdKey, String>,
    seen: BTreeSet<PidfdKey>,
}

/// Owner, number, device, inode.
type PidfdKey = (ProcessId, i32, u64, u64);

impl KnownPidfds {
    /// Forgets those not met since the last call.
    pub(super) fn keep_only_seen(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.known.retain(|key, _| seen.contains(key));
    }

    fn name(&mut self, key: PidfdKey, extra: String) -> String {
        self.seen.insert(key);
        if extra == "Pid: -1" {
            return self.known.get(&key).cloned().unwrap_or(extra);
        }
        self.known.insert(key, extra.clone());
        extra
    }
}

/// What a look at all descriptors of a process is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// As many were listed as the kernel counts.
    Whole,
    /// The kernel counts so many more than were listed, before and after. A descriptor moved from a
    /// number that was not yet listed to one that had been; or a thread waits in accept(2), or opens
    /// a FIFO: its number is taken from the start (get_unused_fd_flags of fs/file.c) and names nothing.
    Short(usize),
    /// Some moved.
    Moved,
}

/// Adds every descriptor of a process to `things`.
pub(super) fn scan(
    process: &OwnedFd,
    stat: &Stat,
    is_self: bool,
    buffers: &mut Buffers,
    pidfds: &mut KnownPidfds,
    things: &mut BTreeMap<Identity, Facts>,
) -> Result<Look, Errno> {
    let through = match stat.has_lost_leader() {
        true => living_thread(process, stat.pid, buffers)
            .map(|thread| format!("task/{}/", thread.pid))
            .ok_or(Errno::SRCH)?,
        false => String::new(),
    };
    let links = read::open_dir(process, format!("{through}fd"))?;
    let infos = read::open_dir(process, format!("{through}fdinfo"))?;
    let own = [process.as_raw_fd(), links.as_raw_fd(), infos.as_raw_fd()];

    let before = kernel_count(&links)?;
    let mut numbers = buffers.numbers(&links)?;
    let short = before.unwrap_or(numbers.len()).checked_sub(numbers.len());
    let mut steady = true;
    if is_self {
        numbers.retain(|number| !own.contains(number));
    }
    for number in numbers {
        match look(&links, &infos, number, buffers) {
            Ok(Some(seen)) => {
                let owner = stat.id();
                let mut extra = seen.extra;
                if seen.kind == FdKind::Pidfd {
                    extra = pidfds.name((owner, number, seen.device, seen.inode), extra);
                }
                let identity = Identity::Fd {
                    owner,
                    number,
                    kind: seen.kind,
                    target: seen.target,
                    device: seen.device,
                    inode: seen.inode,
                    extra,
                };
                things.insert(identity, seen.facts);
            }
            Ok(None) => steady = false,
            Err(errno) if read::is_gone(errno) => steady = false,
            Err(errno) => return Err(errno),
        }
    }
    steady &= kernel_count(&links)? == before;
    Ok(match short {
        Some(0) if steady => Look::Whole,
        Some(short) if steady => Look::Short(short),
        _ => Look::Moved,
    })
}

/// Number of open descriptors, counted by the kernel in one go; none before Linux 6.2, where the
/// directory has no size.
fn kernel_count(links: &OwnedFd) -> Result<Option<usize>, Errno> {
    let size = fstat(links)?.st_size;
    Ok(usize::try_from(size).ok().filter(|&count| count > 0))
}

/// One descriptor as it was seen.
pub(super) struct Seen {
    pub(super) kind: FdKind,
    pub(super) target: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) extra: String,
    pub(super) facts: Facts,
}

/// Looks at one descriptor; none if its number was given to another in between.
fn look(
    links: &OwnedFd,
    infos: &OwnedFd,
    number: i32,
    buffers: &mut Buffers,
) -> Result<Option<Seen>, Errno> {
    let name = DecInt::new(number);
    let name = name.as_c_str();
    buffers.read_link(links, name)?;
    let stat = statat(links, name, AtFlags::empty())?;
    buffers.read(infos, name, FDINFO_LIMIT)?;

    let mut target = String::from_utf8_lossy(&buffers.link).into_owned();
    let info = Info::parse(&String::from_utf8_lossy(&buffers.text));
    let kind = kind_of(&target, FileType::from_raw_mode(stat.st_mode));
    let inode = stat.st_ino;
    if info.inode.is_some_and(|other| other != inode)
        || inode_in(&target).is_some_and(|other| other != inode)
    {
        return Ok(None);
    }
    if kind == FdKind::File && stat.st_nlink == 0 && target.ends_with(UNLINKED) {
        // The same descriptor before and after its file is unlinked is the same thing.
        target.truncate(target.len() - UNLINKED.len());
    }
    let extra = match kind {
        FdKind::Eventfd => info.eventfd_id.map(|id| format!("eventfd-id: {id}")),
        FdKind::Pidfd => info.pid.map(|pid| format!("Pid: {pid}")),
        _ => None,
    };
    let facts =
        Facts::Fd { close_on_exec: info.close_on_exec(), writable: info.access().is_writable() };
    Ok(Some(Seen {
        kind,
        target,
        device: stat.st_dev,
        inode,
        extra: extra.unwrap_or_default(),
        facts,
    }))
}

/// What a descriptor may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Both,
}

impl Access {
    fn is_writable(self) -> bool {
        self != Access::Read
    }
}

/// A file of /proc/PID/fdinfo, as far as it is of use here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    flags: u32,
    inode: Option<u64>,
    eventfd_id: Option<u64>,
    pid: Option<i64>,
}

impl Info {
    pub(super) fn parse(text: &str) -> Info {
        let mut info = Info::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name {
                "flags" => info.flags = u32::from_str_radix(value, 8).unwrap_or(0),
                "ino" => info.inode = value.parse().ok(),
                "eventfd-id" => info.eventfd_id = value.parse().ok(),
                "Pid" => info.pid = value.parse().ok(),
                _ => {}
            }
        }
        info
    }

    fn has(&self, flag: OFlags) -> bool {
        self.flags & flag.bits() == flag.bits()
    }

    fn close_on_exec(&self) -> bool {
        self.has(OFlags::CLOEXEC)
    }

    pub(super) fn access(&self) -> Access {
        if self.has(OFlags::PATH) {
            return Access::Read;
        }
        match self.flags & OFlags::ACCMODE.bits() & 0b11 {
            0 => Access::Read,
            1 => Access::Write,
            _ => Access::Both,
        }
    }
}

fn kind_of(target: &str, file_type: FileType) -> FdKind {
    if target.starts_with("pipe:[") || (target.starts_with('/') && file_type == FileType::Fifo) {
        return FdKind::Pipe;
    }
    if target.starts_with("socket:[") {
        return FdKind::Socket;
    }
    if target.starts_with("/memfd:") {
        return FdKind::Memfd;
    }
    if target.starts_with('/') {
        return FdKind::File;
    }
    if target.starts_with("pidfd:") {
        return FdKind::Pidfd;
    }
    let anonymous = target.strip_prefix("anon_inode:").unwrap_or_default();
    match anonymous.trim_start_matches('[').trim_end_matches(']') {
        "eventfd" => FdKind::Eventfd,
        "eventpoll" => FdKind::Epoll,
        "timerfd" => FdKind::Timerfd,
        "signalfd" => FdKind::Signalfd,
        "inotify" => FdKind::Inotify,
        "pidfd" => FdKind::Pidfd,
        _ => FdKind::Other,
    }
}

/// The inode that a link target such as `pipe:[4711]` names.
fn inode_in(target: &str) -> Option<u64> {
    let inode = target.strip_prefix("pipe:[").or_else(|| target.strip_prefix("socket:["))?;
    inode.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_from_the_link() {
        let unknown = FileType::Unknown;
        for (target, kind) in [
            ("pipe:[4711]", FdKind::Pipe),
            ("socket:[4711]", FdKind::Socket),
            ("anon_inode:[eventfd]", FdKind::Eventfd),
            ("anon_inode:[eventpoll]", FdKind::Epoll),
            ("anon_inode:[timerfd]", FdKind::Timerfd),
            ("anon_inode:[signalfd]", FdKind::Signalfd),
            ("anon_inode:inotify", FdKind::Inotify),
            ("anon_inode:[pidfd]", FdKind::Pidfd),
            ("anon_inode:[io_uring]", FdKind::Other),
            ("net:[4026531840]", FdKind::Other),
            ("/memfd:cache (deleted)", FdKind::Memfd),
            ("/dev/null", FdKind::File),
            ("/tmp/pipe:[1]", FdKind::File),
        ] {
            assert_eq!(kind_of(target, unknown), kind, "{target}");
        }
        assert_eq!(kind_of("/tmp/fifo", FileType::Fifo), FdKind::Pipe);
    }

    #[test]
    fn fdinfo_tells_flags_and_what_tells_anonymous_ones_apart() {
        let eventfd = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1038\n\
                       eventfd-count:                0\neventfd-id: 7\n";
        let info = Info::parse(eventfd);
        assert_eq!(info.eventfd_id, Some(7));
        assert_eq!(info.inode, Some(1038));
        assert!(info.close_on_exec());
        assert_eq!(info.access(), Access::Both);

        let pidfd = Info::parse("flags:\t02\nino:\t5\nPid:\t-1\nNSpid:\t-1\n");
        assert_eq!(pidfd.pid, Some(-1));
        assert!(!pidfd.close_on_exec());
    }

    #[test]
    fn the_lines_of_an_inotify_are_not_its_inode() {
        let info = Info::parse("flags:\t00\ninotify wd:1 ino:7 sdev:1 mask:fc\n");
        assert_eq!(info, Info::default());
    }

    #[test]
    fn the_end_of_a_pipe_follows_from_its_flags() {
        for (flags, access) in [
            ("02000000", Access::Read),
            ("01", Access::Write),
            ("02004001", Access::Write),
            ("02", Access::Both),
            ("010000000", Access::Read),
        ] {
            assert_eq!(Info::parse(&format!("flags:\t{flags}\n")).access(), access, "{flags}");
        }
    }

    #[test]
    fn a_pidfd_keeps_its_name_when_its_process_is_reaped() {
        let key = (ProcessId { pid: 1, start_time: 2 }, 3, 4, 5);
        let mut pidfds = KnownPidfds::default();
        assert_eq!(pidfds.name(key, "Pid: 9".to_owned()), "Pid: 9");
        pidfds.keep_only_seen();
        assert_eq!(pidfds.name(key, "Pid: -1".to_owned()), "Pid: 9");
        pidfds.keep_only_seen();
        pidfds.keep_only_seen();
        assert_eq!(pidfds.name(key, "Pid: -1".to_owned()), "Pid: -1");
    }
}
