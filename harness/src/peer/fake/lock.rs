//! The fault of a lock that outlives its owner: a file whose existence is the lock.

use std::{
    fs::{self, File},
    io,
    ops::ControlFlow::{Break, Continue},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, fstat, stat};

use super::server::{Fault, Flow, Output, log};

/// Makes a lock file when it starts, refuses to start where there is one, and leaves it behind. The
/// twin asks the kernel for the lock, which dies with its holder, has it only while it starts, and
/// removes the file.
pub(super) struct LockFile {
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for LockFile {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        let path = path();
        if self.fixed {
            let _locked = lock(&path)?;
            fs::remove_file(&path)?;
            return Ok(Continue(()));
        }
        match File::create_new(&path) {
            Ok(_) => Ok(Continue(())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                log(&format!("error: {} exists: is another server running?", path.display()));
                Ok(Break(1))
            }
            Err(error) => Err(error),
        }
    }
}

fn path() -> PathBuf {
    std::env::temp_dir().join("scupper-fake.lock")
}

/// Waits for the lock on a file that still has this name when the lock is there: its last holder
/// may have removed it meanwhile.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        if stat(path).is_ok_and(|named| Ok(named.st_ino) == fstat(&file).map(|own| own.st_ino)) {
            return Ok(file);
        }
    }
}
