//! The only unsafe code of the crate: `posix_spawn(3)` by hand, and three calls that have no safe form.
//!
//! Spawning is not left to `std::process::Command`, because only file actions can close in the child what the host left
//! open without CLOEXEC; doing it in `pre_exec` would cost the fork of the whole address space, and
//! marking the host's descriptors instead would change the host and race its other threads.

#![expect(
    unsafe_code,
    reason = "posix_spawn, pidfd registration, getpgid and pidfd_send_signal with flags have no safe wrapper that fits"
)]

use std::{
    ffi::{CStr, CString, c_char, c_int},
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Everything a child is born with.
pub(super) struct Birth<'a> {
    /// The executable, already looked up.
    pub(super) path: &'a CStr,
    /// `argv`, the program's own name first.
    pub(super) arguments: &'a [CString],
    /// `NAME=value` each; nothing else is inherited.
    pub(super) environment: &'a [CString],
    /// Where to start, or the host's own directory.
    pub(super) directory: Option<&'a CStr>,
    /// What becomes 0, 1 and 2. Each must be 3 or higher.
    pub(super) stdio: [BorrowedFd<'a>; 3],
    /// What it leads.
    pub(super) leads: Leads,
}

/// What a child leads from birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// A process group in the session of the host.
    Group,
    /// A session, so that nothing sent to the host's terminal or group reaches it. Every signal that
    /// can be blocked is blocked, from before its first instruction.
    Session,
}

/// Starts a child as leader of a new process group or session, with descriptors 0, 1 and 2 and no
/// others, and default dispositions for the signals that a host may be ignoring. The signal mask of
/// the leader of a group is empty.
///
/// # Errors
/// What `posix_spawn` reports, `execve` failures of the child included.
pub(super) fn spawn(birth: &Birth<'_>) -> io::Result<Pid> {
    let mut actions = FileActions::new()?;
    if let Some(directory) = birth.directory {
        actions.change_directory(directory)?;
    }
    for (fd, number) in birth.stdio.iter().zip(0..) {
        actions.duplicate(*fd, number)?;
    }
    if !sabotaged!(PipesInherited) {
        actions.close_strays()?;
    }
    let attributes = Attributes::new(birth.leads)?;

    let arguments = pointers(birth.arguments);
    let environment = pointers(birth.environment);
    let mut pid: libc::pid_t = 0;
    // SAFETY: `pid` is writable; the path is a C string; `actions` and `attributes` were initialised
    // and outlive the call; both vectors end with a null pointer and point into C strings that the
    // caller keeps borrowed. `posix_spawn` writes to none of the strings despite the `*mut`.
    check(unsafe {
        libc::posix_spawn(
            &mut pid,
            birth.path.as_ptr(),
            actions.0.as_ptr(),
            attributes.0.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    })?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("posix_spawn returned pid 0"))
}

/// Registers a pidfd with the current tokio runtime. Here because tokio asks for a promise.
///
/// # Errors
/// What `epoll_ctl(2)` reports.
pub(super) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor until dropped, and only shared
    // references to it are ever given out.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from)
}

/// The process group of a process, 0 for a kernel thread or one of a group outside this pid
/// namespace. Here because rustix asserts that a group is never 0 (`getpgid`, 1.1.6).
pub(super) fn group_of(pid: Pid) -> io::Result<i32> {
    // SAFETY: no pointers; any pid is allowed.
    match unsafe { libc::getpgid(pid.as_raw_nonzero().get()) } {
        -1 => Err(io::Error::last_os_error()),
        group => Ok(group),
    }
}

/// Signals the group that the process of a pidfd leads or led, or only asks whether it has members,
/// zombies included. Exact: the pidfd stands for the process and its group, so a later group with the
/// same number is never hit, even after the leader was reaped. Here because rustix's
/// `pidfd_send_signal` (1.1.6) takes no flags.
///
/// # Errors
/// `EINVAL` before Linux 6.9, `ESRCH` where the group is empty.
pub(super) fn signal_led_group(
    leader: BorrowedFd<'_>,
    signal: Option<Signal>,
) -> Result<(), Errno> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    // SAFETY: the descriptor is open; a null `siginfo` makes the kernel fill in the usual one; the
    // call writes to no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            leader.as_raw_fd(),
            signal.map_or(0, Signal::as_raw),
            ptr::null::<libc::siginfo_t>(),
            PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
    match result {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(()),
    }
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// The `posix_spawn` family returns the error number instead of setting `errno`.
fn check(error: c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

struct FileActions(MaybeUninit<libc::posix_spawn_file_actions_t>);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writes; a failed init leaves nothing to destroy.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Self(actions))
    }

    fn change_directory(&mut self, directory: &CStr) -> io::Result<()> {
        // SAFETY: initialised in `new`; the C library copies the path.
        check(unsafe {
            libc::posix_spawn_file_actions_addchdir_np(self.0.as_mut_ptr(), directory.as_ptr())
        })
    }

    fn duplicate(&mut self, fd: BorrowedFd<'_>, number: c_int) -> io::Result<()> {
        // SAFETY: initialised in `new`; the numbers are only noted here, and used in the child.
        check(unsafe {
            libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), fd.as_raw_fd(), number)
        })
    }

    /// Everything from 3 upwards, in one action, whatever the host opens meanwhile.
    #[cfg(target_env = "gnu")]
    fn close_strays(&mut self) -> io::Result<()> {
        // SAFETY: initialised in `new`.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(self.0.as_mut_ptr(), 3) })
    }

    /// Where `closefrom` is missing: one close for each descriptor open now. What another thread
    /// opens without CLOEXEC between this list and the spawn still gets through.
    #[cfg(not(target_env = "gnu"))]
    fn close_strays(&mut self) -> io::Result<()> {
        let open: Vec<c_int> = std::fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|number| *number > 2)
            .collect();
        for number in open {
            // SAFETY: initialised in `new`; closing a number that is not open is ignored.
            check(unsafe { libc::posix_spawn_file_actions_addclose(self.0.as_mut_ptr(), number) })?;
        }
        Ok(())
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

struct Attributes(MaybeUninit<libc::posix_spawnattr_t>);

impl Attributes {
    fn new(leads: Leads) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writes; a failed init leaves nothing to destroy.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        let mut attributes = Self(raw);
        let pointer = attributes.0.as_mut_ptr();
        let leading = match leads {
            Leads::Group => libc::POSIX_SPAWN_SETPGROUP,
            Leads::Session => c_int::from(libc::POSIX_SPAWN_SETSID),
        };
        let flags = leading | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = libc::c_short::try_from(flags).expect("spawn flags are small");

        let mut blocked = MaybeUninit::uninit();
        let mut default = MaybeUninit::uninit();
        // SAFETY: `pointer` was initialised above. Both sets are initialised by `sigemptyset` or
        // `sigfillset` before any other use; all signal numbers are valid ones.
        unsafe {
            match leads {
                Leads::Group => libc::sigemptyset(blocked.as_mut_ptr()),
                Leads::Session => libc::sigfillset(blocked.as_mut_ptr()),
            };
            libc::sigemptyset(default.as_mut_ptr());
            for signal in [libc::SIGPIPE, libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGCHLD]
            {
                libc::sigaddset(default.as_mut_ptr(), signal);
            }
            check(libc::posix_spawnattr_setpgroup(pointer, 0))?;
            check(libc::posix_spawnattr_setsigmask(pointer, blocked.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(pointer, default.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(pointer, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}
