//! Files left below the case's TMPDIR. Links are not followed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use super::read::is_gone;
use crate::ledger::snapshot::{Facts, Identity, Kind, Snapshot, Unreadable};

/// How far the walk goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most entries, directories counted.
    pub entries: usize,
    /// Most directories below each other.
    pub depth: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { entries: 10_000, depth: 32 }
    }
}

/// Adds what lies below `root` to the snapshot: files of every type and empty directories. A
/// directory that holds something is not reported; what it holds is. A root that is gone holds
/// nothing.
pub(super) fn walk(root: &Path, bounds: Bounds, snapshot: &mut Snapshot) {
    let mut walk = Walk { bounds, left: bounds.entries, snapshot };
    match open(CWD, root.as_os_str()) {
        Ok(dir) => {
            walk.directory(&dir, Path::new(""), 0);
        }
        Err(errno) => walk.refused(root, errno),
    }
}

struct Walk<'a> {
    bounds: Bounds,
    left: usize,
    snapshot: &'a mut Snapshot,
}

impl Walk<'_> {
    /// Whether the directory holds anything.
    fn directory(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> bool {
        let (names, more) = match names(dir, self.left) {
            Ok(names) => names,
            Err(errno) => {
                self.refused(path, errno);
                return true;
            }
        };
        if more {
            self.bounded(format!("more than {} entries", self.bounds.entries));
        }
        for name in &names {
            let path = path.join(name);
            // The directories among them may have used up what was left.
            if self.left == 0 {
                self.bounded(format!("more than {} entries", self.bounds.entries));
                return true;
            }
            self.left -= 1;
            match statat(dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.entry(dir, name, path, depth, &stat),
                Err(errno) => self.refused(&path, errno),
            }
        }
        more || !names.is_empty()
    }

    fn entry(&mut self, dir: &OwnedFd, name: &Path, path: PathBuf, depth: usize, stat: &Stat) {
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if depth + 1 >= self.bounds.depth {
                self.bounded(format!("more than {} directories deep", self.bounds.depth));
                return;
            }
            match open(dir, name.as_os_str()) {
                Ok(inner) if self.directory(&inner, &path, depth + 1) => return,
                Ok(_) => {}
                Err(errno) => return self.refused(&path, errno),
            }
        }
        let identity = Identity::File {
            path: path.to_string_lossy().into_owned(),
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let size = if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        self.snapshot.things.insert(identity, Facts::File { size });
    }

    fn refused(&mut self, path: &Path, errno: Errno) {
        if !is_gone(errno) {
            let what = format!("files below {} of the case's TMPDIR", path.display());
            self.unreadable(what, std::io::Error::from(errno).to_string());
        }
    }

    fn bounded(&mut self, cause: String) {
        self.unreadable("all files of the case's TMPDIR".to_owned(), cause);
    }

    fn unreadable(&mut self, what: String, cause: String) {
        let unreadable = Unreadable { what, kind: Kind::File, cause };
        if !self.snapshot.unreadable.contains(&unreadable) {
            self.snapshot.unreadable.push(unreadable);
        }
    }
}

fn open(at: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// At most so many names, in order, and whether there are more. Which ones they are is the file
/// system's choice where there are more, and then the kind is unknown anyway.
fn names(dir: &OwnedFd, most: usize) -> Result<(BTreeSet<PathBuf>, bool), Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == most {
            return Ok((names, true));
        }
        names.insert(PathBuf::from(OsStr::from_bytes(name)));
    }
    Ok((names, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(root: &Path, bounds: Bounds) -> (Vec<String>, Vec<Unreadable>) {
        let mut snapshot = Snapshot::default();
        walk(root, bounds, &mut snapshot);
        let paths = snapshot.things.keys().map(|identity| match identity {
            Identity::File { path, .. } => path.clone(),
            other => panic!("not a file: {other:?}"),
        });
        (paths.collect(), snapshot.unreadable)
    }

    #[test]
    fn links_are_seen_and_not_followed() {
        let root = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("secret"), "x").expect("a file");
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).expect("a link");
        std::fs::create_dir(root.path().join("empty")).expect("a directory");
        std::fs::create_dir(root.path().join("full")).expect("a directory");
        std::fs::write(root.path().join("full/file"), "x").expect("a file");
        let (paths, unreadable) = seen(root.path(), Bounds::default());
        assert_eq!(paths, ["empty", "full/file", "link"]);
        assert_eq!(unreadable, []);
    }

    #[test]
    fn reaching_a_bound_is_said() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(root.path().join("a/b/c")).expect("directories");
        let (_, deep) = seen(root.path(), Bounds { entries: 10, depth: 2 });
        assert_eq!(deep.len(), 1);
        assert_eq!(deep[0].cause, "more than 2 directories deep");
        let (_, many) = seen(root.path(), Bounds { entries: 2, depth: 32 });
        assert_eq!(many.len(), 1);
        assert_eq!(many[0].cause, "more than 2 entries");
        assert_eq!(many[0].kind, Kind::File);
    }

    #[test]
    fn a_directory_is_read_no_further_than_its_bound() {
        let root = tempfile::tempdir().expect("a directory");
        for n in 0..20 {
            std::fs::write(root.path().join(n.to_string()), "x").expect("a file");
        }
        let dir = open(CWD, root.path().as_os_str()).expect("a directory");
        let some = names(&dir, 5).expect("it can be read");
        assert_eq!((some.0.len(), some.1), (5, true));
        let all = names(&dir, 20).expect("it can be read");
        assert_eq!((all.0.len(), all.1), (20, false));
        let (paths, unreadable) = seen(root.path(), Bounds { entries: 20, depth: 4 });
        assert_eq!((paths.len(), unreadable.len()), (20, 0));
        let (paths, unreadable) = seen(root.path(), Bounds { entries: 5, depth: 4 });
        assert_eq!((paths.len(), unreadable.len()), (5, 1));
    }

    #[test]
    fn a_root_that_is_gone_holds_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        let (paths, unreadable) = seen(&root.path().join("gone"), Bounds::default());
        assert!(paths.is_empty() && unreadable.is_empty());
    }
}
