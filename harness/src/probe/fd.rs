//! Descriptors of a process: /proc/PID/fd and /proc/PID/fdinfo (proc_pid_fd(5),
//! proc_pid_fdinfo(5)).
//!
//! Two descriptors look the same from outside when one is closed and the other opened at the same
//! number between two looks, and the kernel gave out again what else tells them apart: it does so
//! at once with eventfd-ids, and epoll, timerfd, signalfd and inotify have no such thing. The
//! process then holds as many as before, at the same numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat as Inode, fstat, statat};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::process::{Stat, living_thread};
use super::read::{self, Buffers};
use crate::ledger::snapshot::{Facts, FdKind, Identity, ProcessId};

/// What is of use stands at the start; epoll adds a line for every descriptor it watches.
const FDINFO_LIMIT: usize = 1024;
const UNLINKED: &str = " (deleted)";
const EVENTFD: &str = "anon_inode:[eventfd]";

/// What was learned of descriptors in earlier looks.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) pidfds: KnownPidfds,
    devices: Devices,
}

/// The devices of pipes, of sockets and of eventfds. The kernel has one of each (pipe_mnt of fs/pipe.c,
/// sock_mnt of net/socket.c, anon_inode_mnt of fs/anon_inodes.c), and link or fdinfo name the inode, so
/// that one stat tells what all others would.
#[derive(Debug, Default)]
struct Devices {
    pipes: Option<u64>,
    sockets: Option<u64>,
    eventfds: Option<u64>,
}

impl Devices {
    /// The device of a descriptor whose link names this inode; none if its number was given to another.
    fn of(&mut self, kind: FdKind, at: &At<'_>, inode: u64) -> Result<Option<u64>, Errno> {
        let known = match kind {
            FdKind::Pipe => &mut self.pipes,
            FdKind::Socket => &mut self.sockets,
            _ => &mut self.eventfds,
        };
        if known.is_none() {
            let stat = at.stat()?;
            if stat.st_ino != inode {
                return Ok(None);
            }
            *known = Some(stat.st_dev);
        }
        Ok(*known)
    }
}

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
    known: &mut Known,
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
        match look(&links, &infos, number, buffers, &mut known.devices) {
            Ok(Some(seen)) => {
                let owner = stat.id();
                let mut extra = seen.extra;
                if seen.kind == FdKind::Pidfd {
                    extra = known.pidfds.name((owner, number, seen.device, seen.inode), extra);
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
                things.insert(identity, Facts::Fd { write_end: seen.write_end });
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
struct Seen {
    kind: FdKind,
    target: String,
    device: u64,
    inode: u64,
    extra: String,
    write_end: bool,
}

/// One entry of /proc/PID/fd.
struct At<'n> {
    links: &'n OwnedFd,
    name: &'n CStr,
}

impl At<'_> {
    /// Of what it refers to.
    fn stat(&self) -> Result<Inode, Errno> {
        statat(self.links, self.name, AtFlags::empty())
    }

    /// Whether it is open for writing: so say the permissions of the link itself (proc_pid_fd(5)).
    fn is_writable(&self) -> Result<bool, Errno> {
        let link = statat(self.links, self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Mode::from_raw_mode(link.st_mode).contains(Mode::WUSR))
    }
}

/// Looks at one descriptor with as few calls as tell it from others; none if its number was given to
/// another in between. fdinfo costs more than all the rest, and is read where nothing else helps.
fn look(
    links: &OwnedFd,
    infos: &OwnedFd,
    number: i32,
    buffers: &mut Buffers,
    devices: &mut Devices,
) -> Result<Option<Seen>, Errno> {
    let name = DecInt::new(number);
    let at = At { links, name: name.as_c_str() };
    buffers.read_link(links, at.name)?;
    let mut target = String::from_utf8_lossy(&buffers.link).into_owned();
    let mut extra = String::new();
    if let Some((kind, inode)) = inode_in(&target) {
        let Some(device) = devices.of(kind, &at, inode)? else { return Ok(None) };
        let write_end = kind == FdKind::Pipe && at.is_writable()?;
        return Ok(Some(Seen { kind, target, device, inode, extra, write_end }));
    }
    if target == EVENTFD {
        let info = Info::of(infos, at.name, buffers)?;
        // Linux 5.14 and newer tell the inode.
        if let (Some(inode), Some(id)) = (info.inode, info.eventfd_id) {
            let (kind, write_end) = (FdKind::Eventfd, false);
            let Some(device) = devices.of(kind, &at, inode)? else { return Ok(None) };
            extra = eventfd_words(id);
            return Ok(Some(Seen { kind, target, device, inode, extra, write_end }));
        }
    }
    let stat = at.stat()?;
    let kind = kind_of(&target, FileType::from_raw_mode(stat.st_mode));
    if kind == FdKind::File && stat.st_nlink == 0 && target.ends_with(UNLINKED) {
        // The same descriptor before and after its file is unlinked is the same thing.
        target.truncate(target.len() - UNLINKED.len());
    }
    if matches!(kind, FdKind::Eventfd | FdKind::Pidfd) {
        let info = Info::of(infos, at.name, buffers)?;
        if info.inode.is_some_and(|other| other != stat.st_ino) {
            return Ok(None);
        }
        let told = match kind {
            FdKind::Eventfd => info.eventfd_id.map(eventfd_words),
            _ => info.pid.map(|pid| format!("Pid: {pid}")),
        };
        extra = told.unwrap_or_default();
    }
    let write_end = kind == FdKind::Pipe && at.is_writable()?;
    let (device, inode) = (stat.st_dev, stat.st_ino);
    Ok(Some(Seen { kind, target, device, inode, extra, write_end }))
}

fn eventfd_words(id: u64) -> String {
    format!("eventfd-id: {id}")
}

/// What a descriptor may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Both,
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
    fn of(infos: &OwnedFd, name: &CStr, buffers: &mut Buffers) -> Result<Info, Errno> {
        let text = buffers.read_at_once(infos, name, FDINFO_LIMIT)?;
        Ok(Info::parse(&String::from_utf8_lossy(text)))
    }

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

/// What a link target such as `pipe:[4711]` names: the kind, and the inode.
fn inode_in(target: &str) -> Option<(FdKind, u64)> {
    let pipe = target.strip_prefix("pipe:[").map(|rest| (FdKind::Pipe, rest));
    let socket = || target.strip_prefix("socket:[").map(|rest| (FdKind::Socket, rest));
    let (kind, rest) = pipe.or_else(socket)?;
    Some((kind, rest.strip_suffix(']')?.parse().ok()?))
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
        assert_eq!(info.access(), Access::Both);

        let pidfd = Info::parse("flags:\t02\nino:\t5\nPid:\t-1\nNSpid:\t-1\n");
        assert_eq!(pidfd.pid, Some(-1));
    }

    #[test]
    fn a_link_names_the_inode_of_a_pipe_or_a_socket_and_of_nothing_else() {
        assert_eq!(inode_in("pipe:[4711]"), Some((FdKind::Pipe, 4711)));
        assert_eq!(inode_in("socket:[4711]"), Some((FdKind::Socket, 4711)));
        for other in ["/tmp/pipe:[1]", "pipe:[]", "pipe:[1", "net:[1]", "anon_inode:[eventfd]"] {
            assert_eq!(inode_in(other), None, "{other}");
        }
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
