//! Who belongs to a server: everything that carries its mark in the environment, wherever it went.

use std::{
    fs, io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// The variable that a server is started with.
pub const VARIABLE: &str = "SCUPPER_BENCH_MARK";

/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// What one round starts its servers with, so that they and their helpers are found again.
#[derive(Debug)]
pub struct Mark(String);

impl Mark {
    /// One that nobody else carries.
    pub fn fresh() -> Mark {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Mark(format!("{}-{number}", std::process::id()))
    }

    /// What the variable is set to.
    pub fn value(&self) -> &str {
        &self.0
    }

    /// Everything alive that carries it. What is started later is not among them.
    ///
    /// # Panics
    /// If /proc cannot be listed: then nothing would be known.
    pub fn carriers(&self) -> Carriers {
        let pair = format!("{VARIABLE}={}", self.0);
        let carries = |pid: Pid| {
            fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))
                .is_ok_and(|text| text.split(|byte| *byte == 0).any(|one| one == pair.as_bytes()))
        };
        let listing = fs::read_dir("/proc").expect("/proc can be listed");
        let pids = listing
            .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
        let held = pids.filter_map(|pid| {
            let pidfd = carries(pid).then(|| pidfd_open(pid, PidfdFlags::empty()).ok())??;
            // Asked again: the number may have passed to somebody else before it was held.
            carries(pid).then_some(pidfd)
        });
        Carriers(held.collect())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // A round that went wrong may not have come to hold them.
        if std::thread::panicking() {
            drop(self.carriers());
        }
    }
}

/// The processes that carried a mark. Whoever is alive when this is dropped is killed.
#[derive(Debug)]
pub struct Carriers(Vec<OwnedFd>);

impl Carriers {
    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many of them are alive. A zombie is not.
    pub fn alive(&self) -> usize {
        self.0.iter().filter(|pidfd| !exits_within(pidfd, Duration::ZERO)).count()
    }

    /// Blocks until none is alive, for so long at most; how many still are.
    pub fn wait(&self, wait: Duration) -> usize {
        let deadline = Instant::now() + wait;
        let left = |pidfd: &&OwnedFd| {
            !exits_within(pidfd, deadline.saturating_duration_since(Instant::now()))
        };
        self.0.iter().filter(left).count()
    }
}

impl Drop for Carriers {
    fn drop(&mut self) {
        for pidfd in &self.0 {
            // Gone already is what is wanted.
            pidfd_send_signal(pidfd, Signal::KILL).ok();
        }
        let left = self.wait(KILL_WAIT);
        if left > 0 {
            eprintln!("{left} killed processes did not end within {KILL_WAIT:?}");
        }
    }
}

/// Blocks until the process has exited; false if the time ran out before.
///
/// # Panics
/// If a pidfd cannot be polled.
pub fn exits_within(pidfd: &OwnedFd, wait: Duration) -> bool {
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("polling a pidfd: {}", io::Error::from(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn carriers_are_found_and_killed_with_what_they_started() {
        let mark = Mark::fresh();
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo; wait"])
            .env(VARIABLE, mark.value())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = [0];
        let mut stdout = shell.stdout.take().expect("piped");
        io::Read::read_exact(&mut stdout, &mut line).expect("it has started its helper");
        let carriers = mark.carriers();
        assert_eq!((carriers.count(), carriers.alive()), (2, 2));
        assert_eq!(Mark::fresh().carriers().count(), 0);
        drop(carriers);
        assert_eq!(mark.carriers().alive(), 0);
        shell.wait().expect("our child");
    }
}
