//! Who else holds a pipe or socket: the other end, or a copy of the same one. Looks at every
//! process of the host, so this is for findings and not for every step.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::fd::{Access, Info};
use super::read::{self, Buffers};
use super::{host, process, socket};
use crate::ledger::snapshot::{FdKind, Identity};
use crate::ledger::verdict::Holder;

/// How long [`pipe_ends`] looks.
const PIPE_ENDS_BUDGET: Duration = Duration::from_secs(2);
const FDINFO_LIMIT: usize = 256;

/// Who holds something, and how many processes could not be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// In order of pid and descriptor.
    pub holders: Vec<Holder>,
    /// Processes that refused to be read, or that the budget did not reach: the list is "at least".
    /// Where /proc hides processes of others, their unknown number counts as one.
    pub unread: usize,
}

/// Who holds the other end of a pipe or socket, or a copy of the same end, beside the descriptor
/// itself. Empty for descriptors of other kinds, and for what is no descriptor.
pub fn holders(identity: &Identity, budget: Duration) -> Holders {
    let deadline = Instant::now() + budget;
    let Identity::Fd { owner, number, kind, target, device, inode, .. } = identity else {
        return Holders::default();
    };
    let wanted = match kind {
        FdKind::Pipe if target.starts_with('/') => {
            vec![Wanted::Fifo { path: target.clone(), device: *device, inode: *inode }]
        }
        FdKind::Pipe => vec![Wanted::Pipe(target.clone())],
        FdKind::Socket => {
            let other_end = socket::peer(owner.pid, *inode).map(Wanted::OtherEnd);
            [Some(Wanted::SameSocket(target.clone())), other_end].into_iter().flatten().collect()
        }
        _ => return Holders::default(),
    };
    search(&wanted, Some((owner.pid, *number)), deadline)
}

/// Everyone who holds an end of the pipe with this inode, and which.
pub fn pipe_ends(inode: u64) -> Holders {
    let wanted = [Wanted::Pipe(format!("pipe:[{inode}]"))];
    search(&wanted, None, Instant::now() + PIPE_ENDS_BUDGET)
}

/// Everyone who holds the socket with this inode.
pub fn of_socket(inode: u64) -> Holders {
    let wanted = [Wanted::SameSocket(format!("socket:[{inode}]"))];
    search(&wanted, None, Instant::now() + PIPE_ENDS_BUDGET)
}

/// What to look for among the descriptors of a process.
enum Wanted {
    Pipe(String),
    Fifo { path: String, device: u64, inode: u64 },
    SameSocket(String),
    OtherEnd(String),
}

impl Wanted {
    fn is(&self, link: &[u8], links: &OwnedFd, number: i32) -> bool {
        match self {
            Wanted::Pipe(target) | Wanted::SameSocket(target) | Wanted::OtherEnd(target) => {
                link == target.as_bytes()
            }
            // Another name of the same FIFO, or its name after it was unlinked, counts too.
            Wanted::Fifo { device, inode, .. } => {
                link.first() == Some(&b'/')
                    && statat(links, DecInt::new(number), AtFlags::empty())
                        .is_ok_and(|stat| stat.st_dev == *device && stat.st_ino == *inode)
            }
        }
    }

    fn held_as(&self, number: i32, access: Option<Access>) -> String {
        let end = match access {
            Some(Access::Read) => "read end",
            Some(Access::Write) => "write end",
            Some(Access::Both) => "both ends",
            None => "an end",
        };
        match self {
            Wanted::Pipe(target) | Wanted::Fifo { path: target, .. } => {
                format!("{end} of {target} as fd {number}")
            }
            Wanted::SameSocket(target) => format!("the same {target} as fd {number}"),
            Wanted::OtherEnd(target) => format!("the other end, {target}, as fd {number}"),
        }
    }
}

fn search(wanted: &[Wanted], except: Option<(i32, i32)>, deadline: Instant) -> Holders {
    let mut buffers = Buffers::default();
    let mut found = Holders { holders: Vec::new(), unread: usize::from(host::proc_hides()) };
    let Ok(pids) = process::all_pids(&mut buffers) else {
        found.unread += 1;
        return found;
    };
    for (asked, &pid) in pids.iter().enumerate() {
        if Instant::now() >= deadline {
            found.unread += pids.len() - asked;
            break;
        }
        match held_by(pid, wanted, except, &mut buffers) {
            Ok(holds) if holds.is_empty() => {}
            Ok(holds) => {
                let command = process::command_of(pid, &mut buffers);
                let holder = |holds| Holder { pid, command: command.clone(), holds };
                found.holders.extend(holds.into_iter().map(holder));
            }
            Err(errno) if read::is_gone(errno) => {}
            Err(_) => found.unread += usize::from(!holds_nothing(pid, &mut buffers)),
        }
    }
    found
}

fn held_by(
    pid: i32,
    wanted: &[Wanted],
    except: Option<(i32, i32)>,
    buffers: &mut Buffers,
) -> Result<Vec<String>, Errno> {
    let dir = read::process_dir(pid)?;
    let links = read::open_dir(&dir, c"fd")?;
    let mut holds = Vec::new();
    let numbers: BTreeSet<i32> = buffers.numbers(&links)?.into_iter().collect();
    for number in numbers {
        if except == Some((pid, number)) {
            continue;
        }
        let link = match buffers.read_link(&links, DecInt::new(number)) {
            Ok(link) => link,
            Err(errno) if read::is_gone(errno) => continue,
            Err(errno) => return Err(errno),
        };
        let Some(wanted) = wanted.iter().find(|wanted| wanted.is(link, &links, number)) else {
            continue;
        };
        let access = buffers
            .read(&dir, format!("fdinfo/{number}"), FDINFO_LIMIT)
            .map(|text| Info::parse(&String::from_utf8_lossy(text)).access());
        holds.push(wanted.held_as(number, access.ok()));
    }
    Ok(holds)
}

/// Kernel threads and zombies hold nothing, and refuse to say so.
fn holds_nothing(pid: i32, buffers: &mut Buffers) -> bool {
    match process::stat_of(pid, buffers) {
        Ok(Some(stat)) => stat.is_zombie() || stat.is_kernel_thread(),
        Ok(None) => false,
        Err(errno) => read::is_gone(errno),
    }
}
