//! Helpers that left the group of their server, found by its cookie and followed until they are dead.

use std::io;

use rustix::process::{Pid, getpid};

use super::{
    Cookie, Member, carriers,
    sweep::{Stat, reap_adopted},
};

/// Carriers of cookies that have been seen and may be alive.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    known: Vec<Member>,
}

impl Strays {
    /// Who carries one of the cookies now, and who did before and is not dead yet: one that is dying
    /// has lost its environment before it has closed its descriptors. Dead ones that this process
    /// adopted are reaped on the way.
    ///
    /// # Errors
    /// When /proc cannot be listed.
    pub(crate) fn look(&mut self, cookies: &[Cookie]) -> io::Result<&[Member]> {
        let seen = carriers(cookies)?;
        self.known.retain(is_alive);
        for member in seen {
            if !self.known.iter().any(|known| known.process == member.process) {
                self.known.push(member);
            }
        }
        Ok(&self.known)
    }

    /// SIGKILL to all that the last look found.
    pub(crate) fn kill(&self) -> Vec<(Member, io::Error)> {
        self.known
            .iter()
            .filter_map(|member| Some((member.clone(), member.process.kill().err()?)))
            .collect()
    }
}

/// False once it is dead; a corpse of our own is taken away.
fn is_alive(member: &Member) -> bool {
    let Some(pid) = Pid::from_raw(member.process.pid) else {
        return false;
    };
    match Stat::read(pid) {
        Ok(stat) if stat.start_time_ticks != member.process.start_time_ticks => false,
        Ok(stat) if stat.is_dead() => {
            if stat.parent == getpid().as_raw_nonzero().get() {
                reap_adopted(pid);
            }
            false
        }
        Ok(_) => true,
        Err(_) => false,
    }
}
