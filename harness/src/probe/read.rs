//! Bounded reads of /proc, relative to the held directory of one process, with reused buffers.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

/// Buffers that outlive one look.
#[derive(Debug)]
pub(super) struct Buffers {
    /// For getdents.
    directory: Vec<u8>,
    /// Content of the file read last.
    pub(super) text: Vec<u8>,
    /// Link target read last.
    pub(super) link: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers {
            directory: Vec::with_capacity(32 * 1024),
            text: Vec::with_capacity(4096),
            link: Vec::with_capacity(4096),
        }
    }
}

impl Buffers {
    /// Content of a file, at most `limit` bytes of it; it is in `text` too.
    pub(super) fn read<P: Arg>(
        &mut self,
        dir: impl AsFd,
        name: P,
        limit: usize,
    ) -> Result<&[u8], Errno> {
        let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let text = &mut self.text;
        text.clear();
        while text.len() < limit {
            if text.spare_capacity_mut().is_empty() {
                text.reserve(text.len());
            }
            if retry_on_intr(|| rustix::io::read(&file, spare_capacity(text)))? == 0 {
                break;
            }
        }
        text.truncate(limit);
        Ok(text)
    }

    /// The same of a file that the kernel makes in one piece and gives whole to the first read, if there
    /// is room for it (single_open of fs/seq_file.c): stat, statm, smaps_rollup, fdinfo.
    pub(super) fn read_at_once<P: Arg>(
        &mut self,
        dir: impl AsFd,
        name: P,
        limit: usize,
    ) -> Result<&[u8], Errno> {
        let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let text = &mut self.text;
        text.clear();
        text.reserve(limit);
        retry_on_intr(|| rustix::io::read(&file, spare_capacity(text)))?;
        text.truncate(limit);
        Ok(text)
    }

    /// Target of a link; it is in `link` too.
    pub(super) fn read_link<P: Arg>(&mut self, dir: impl AsFd, name: P) -> Result<&[u8], Errno> {
        self.link.clear();
        rustix::fs::readlinkat_raw(dir, name, spare_capacity(&mut self.link))?;
        Ok(&self.link)
    }

    /// Entries of an open directory whose names are numbers: pids, tids, descriptors.
    pub(super) fn numbers(&mut self, dir: impl AsFd) -> Result<Vec<i32>, Errno> {
        self.directory.clear();
        let mut found = Vec::new();
        let mut entries = RawDir::new(dir, self.directory.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            if let Some(number) = number(entry?.file_name()) {
                found.push(number);
            }
        }
        Ok(found)
    }
}

/// Opens a directory.
pub(super) fn open_dir<P: Arg>(at: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The directory of a process. Held open it stays that process's: when the process is reaped and
/// its pid given out again, reads fail with ESRCH.
pub(super) fn process_dir(pid: i32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())
}

/// The thing is no longer there, as against: may not be looked at.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::SRCH | Errno::BADF)
}

/// May not be looked at.
pub(super) fn is_refused(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM)
}

fn number(name: &CStr) -> Option<i32> {
    let name = name.to_str().ok()?;
    // parse() takes a sign too.
    name.starts_with(|first: char| first.is_ascii_digit()).then(|| name.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_entries() {
        assert_eq!(number(c"4711"), Some(4711));
        for name in [c".", c"..", c"self", c"-1", c"+1", c"", c"99999999999"] {
            assert_eq!(number(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_read_stops_at_its_limit() {
        let mut buffers = Buffers::default();
        let read = buffers.read(CWD, "/proc/self/stat", 3).expect("own stat").len();
        assert_eq!(read, 3);
    }
}
