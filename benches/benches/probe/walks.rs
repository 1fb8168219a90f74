//! The floor: the fewest calls that tell descriptors apart, with nothing kept. And the same walk with the
//! procfs crate, as a program has it that does not write its own.

use std::hint::black_box;
use std::os::fd::{AsFd, OwnedFd};

use procfs::process::{Process, all_processes};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, readlinkat_raw, statat};
use rustix::path::Arg;

/// Buffers that are used again.
pub(crate) struct Floor {
    entries: Vec<u8>,
    link: Vec<u8>,
    text: Vec<u8>,
}

impl Default for Floor {
    fn default() -> Self {
        let [entries, link, text] = [32 * 1024, 4096, 4096].map(Vec::with_capacity);
        Floor { entries, link, text }
    }
}

impl Floor {
    /// Of every descriptor: link, device and inode, and fdinfo where nothing else tells it from another
    /// (eventfd, pidfd). Gives back how many there are.
    pub(crate) fn walk(&mut self, pid: i32) -> usize {
        let links = folder(format!("/proc/{pid}/fd"));
        let infos = folder(format!("/proc/{pid}/fdinfo"));
        self.entries.clear();
        let mut count = 0;
        let mut entries = RawDir::new(&links, self.entries.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.expect("the target is alive");
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            self.link.clear();
            readlinkat_raw(&links, name, spare_capacity(&mut self.link)).expect("it is open");
            black_box(statat(&links, name, AtFlags::empty()).expect("it is open"));
            let kind = self.link.as_slice();
            if kind == b"anon_inode:[eventfd]" || kind == b"anon_inode:[pidfd]" {
                read(&infos, name, &mut self.text);
                black_box(&self.text);
            }
            count += 1;
        }
        count
    }

    /// The same of every process below this one, and of itself: one stat for each process there is, to
    /// see who is below whom. Gives back how many they are.
    pub(crate) fn tree(&mut self, root: i32) -> usize {
        let mut parents = Vec::new();
        let proc = folder("/proc");
        let mut buffer = std::mem::take(&mut self.entries);
        buffer.clear();
        let mut entries = RawDir::new(&proc, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.expect("/proc can be read");
            let name = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok());
            let Some(pid) = name else { continue };
            read(CWD, format!("/proc/{pid}/stat"), &mut self.text);
            // `pid (name) state parent`
            let stat = String::from_utf8_lossy(&self.text);
            let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
            let parent = fields.split_ascii_whitespace().nth(1).and_then(|one| one.parse().ok());
            parents.push((pid, parent.unwrap_or(0)));
        }
        self.entries = buffer;
        let found = below(root, &parents);
        for pid in &found {
            black_box(self.walk(*pid));
        }
        found.len()
    }
}

fn folder(path: impl Arg) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).expect("the target is alive")
}

fn read(at: impl AsFd, name: impl Arg, text: &mut Vec<u8>) {
    let Ok(file) = openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    text.clear();
    let _ = rustix::io::read(&file, spare_capacity(text));
}

/// A process and all below it. Parents were there before their children, and so have smaller pids, but
/// where pids began anew.
fn below(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// All descriptors of a process with their targets, by the procfs crate.
pub(crate) fn procfs(pid: i32) -> usize {
    let process = Process::new(pid).expect("the target is alive");
    black_box(process.stat().expect("the target is alive"));
    let all = process.fd().expect("the target is alive");
    all.map(|one| drop(black_box(one.expect("it is open")))).count()
}

/// The same of a process and all below it.
pub(crate) fn procfs_tree(root: i32) -> usize {
    let all = all_processes().expect("/proc can be read").flatten();
    let parents: Vec<(i32, i32)> =
        all.filter_map(|one| Some((one.pid(), one.stat().ok()?.ppid))).collect();
    let found = below(root, &parents);
    for pid in &found {
        black_box(procfs(*pid));
    }
    found.len()
}
