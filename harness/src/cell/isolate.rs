//! What a cell does to stand alone. All unsafe code of this crate is here.
#![expect(unsafe_code, reason = "unshare(2) and borrowed descriptor numbers have no safe form")]

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::FdFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

/// Makes the calling thread's next child the first process of a new pid namespace
/// (pid_namespaces(7)). The thread itself stays where it is, can start no further thread, and is of
/// no use after that child: call it from a thread that ends next.
pub fn next_child_begins_pid_namespace() -> io::Result<()> {
    // SAFETY: FILES is not among the flags, so no thread sees another's descriptors vanish.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }?;
    Ok(())
}

/// Gives this process, the first of its pid namespace, a /proc that shows that namespace alone.
pub fn mount_own_proc() -> io::Result<()> {
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // Mounts of the host still arrive here; ours do not reach the host.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    let own = std::fs::read_link("/proc/self")?;
    if own != Path::new("1") {
        return Err(io::Error::other(format!("/proc/self is {} and not 1", own.display())));
    }
    Ok(())
}

/// Sees to it that no descriptor but the three standard ones reaches a child: shells and CI leave
/// some open in us (10, 250 and 251 were seen).
pub fn close_inherited_on_exec() -> io::Result<()> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    for number in numbers {
        if number > 2 {
            // SAFETY: the number is only handed to fcntl, which reports one that is closed by now.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            match rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC) {
                Ok(()) | Err(rustix::io::Errno::BADF) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
