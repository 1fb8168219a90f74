//! The guard's book, and the end of everybody in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::process::{Signal, pidfd_send_signal};

use super::wire::Begin;
use crate::process::{Cookie, ProcessId, Strays, carriers, living_in, signal_led_group};

/// Between two looks while servers may still end by themselves.
const GRACE_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at what has been killed.
const KILL_PAUSE: Duration = Duration::from_millis(5);

/// Servers that the host has announced and not struck off.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Without a value as long as nobody knows whether it was born.
    wards: BTreeMap<Cookie, Option<Group>>,
    strays: Strays,
}

#[derive(Debug)]
struct Group {
    leader: ProcessId,
    /// Missing where the kernel had no descriptor left for it.
    pidfd: Option<OwnedFd>,
    /// Members that were seen while the group was known to be the server's.
    known: BTreeSet<ProcessId>,
}

impl Book {
    pub(super) fn announced(&mut self, cookie: Cookie) {
        self.wards.insert(cookie, None);
    }

    pub(super) fn born(&mut self, cookie: Cookie, leader: ProcessId, pidfd: Option<OwnedFd>) {
        self.wards.insert(cookie, Some(Group { leader, pidfd, known: BTreeSet::new() }));
    }

    pub(super) fn struck(&mut self, cookie: Cookie) {
        self.wards.remove(&cookie);
    }

    /// The host is gone: waits its grace, then kills and looks until two consecutive looks find
    /// nobody alive, or the time is up.
    pub(super) fn end_all(&mut self, begin: &Begin, socket_ended: impl Fn() -> bool) {
        let died = Instant::now();
        let by_cookie: Vec<Cookie> = self
            .wards
            .iter()
            .filter(|(_, group)| begin.sweep_cookie || group.is_none())
            .map(|(cookie, _)| *cookie)
            .collect();
        let unborn = self.wards.values().any(Option::is_none);
        let mut quiet = 0;
        // A wait that goes beyond the clock is none.
        while died.elapsed() < begin.grace.saturating_add(begin.kill_wait) {
            let killing = died.elapsed() >= begin.grace;
            if killing {
                self.kill_groups();
            }
            // The socket is held by a child that is not yet its program, and carries no cookie yet.
            let settled = !unborn || (killing && socket_ended());
            match self.look(&by_cookie, killing) {
                Ok(0) if settled => quiet += 1,
                _ => quiet = 0,
            }
            if quiet == 2 {
                return;
            }
            std::thread::sleep(if killing { KILL_PAUSE } else { GRACE_PAUSE });
        }
    }

    /// The kernel's own idea of the groups, where it can be asked, and the leaders.
    fn kill_groups(&self) {
        for pidfd in self.wards.values().flatten().filter_map(|group| group.pidfd.as_ref()) {
            // Empty, or a kernel before 6.9: then the members are killed one by one.
            signal_led_group(pidfd.as_fd(), Signal::KILL).ok();
            // It may have moved to another group.
            pidfd_send_signal(pidfd, Signal::KILL).ok();
        }
    }

    /// How many are alive, of the groups and by cookie; killed where it is time.
    fn look(&mut self, by_cookie: &[Cookie], killing: bool) -> io::Result<usize> {
        let numbers = self.wards.values().flatten().map(|group| group.leader.pid).collect();
        let mut members: BTreeMap<i32, Vec<ProcessId>> = BTreeMap::new();
        for (number, process) in living_in(&numbers)? {
            members.entry(number).or_default().push(process);
        }
        let mut alive = 0;
        for (cookie, group) in &mut self.wards {
            let Some(group) = group else { continue };
            // It counts wherever it went.
            if group.leader.is_alive() {
                alive += 1;
            }
            let Some(members) = members.get(&group.leader.pid) else { continue };
            if !group.is_theirs(members, *cookie)? {
                continue;
            }
            alive += members.iter().filter(|member| **member != group.leader).count();
            group.known.extend(members);
            if killing {
                for member in members {
                    member.kill().ok();
                }
            }
        }
        alive += self.strays.look(by_cookie)?.len();
        if killing {
            self.strays.kill();
        }
        Ok(alive)
    }
}

impl Group {
    /// Are these members of the server's group, and not of a later one with its number? The kernel
    /// gives a number away only when nobody is left in the group. So the group is the server's if
    /// its leader is there, be it as a zombie, asked after the members were listed; or if one of
    /// them is known from a time when it was; or carries the cookie.
    fn is_theirs(&self, members: &[ProcessId], cookie: Cookie) -> io::Result<bool> {
        if self.leader.exists() || members.iter().any(|member| self.known.contains(member)) {
            return Ok(true);
        }
        Ok(carriers(&[cookie])?.iter().any(|carrier| members.contains(&carrier.process)))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
    };

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::guard::wire;

    fn begin(sweep_cookie: bool) -> Begin {
        let (grace, kill_wait) = (Duration::from_millis(1), Duration::from_secs(20));
        Begin { version: wire::VERSION, grace, kill_wait, sweep_cookie }
    }

    /// A shell that leads a group; its number and cookie.
    fn leader(script: &str) -> (Child, Cookie) {
        let cookie = Cookie::new().unwrap();
        let (name, value) = cookie.variable(None);
        let child = Command::new("sh")
            .args(["-c", script])
            .env(name, value)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        (child, cookie)
    }

    fn id(child: &Child) -> ProcessId {
        ProcessId::of(child.id().cast_signed()).unwrap()
    }

    fn members(group: i32) -> Vec<ProcessId> {
        living_in(&[group].into()).unwrap().into_iter().map(|(_, process)| process).collect()
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_server_that_was_only_announced_is_found_by_its_cookie() {
        let (mut child, cookie) = leader("sleep 4811 & exec sleep 4811");
        let group = id(&child).pid;
        until("a helper", || members(group).len() == 2);
        let mut book = Book::default();
        book.announced(cookie);
        book.end_all(&begin(false), || true);
        assert_eq!(members(group), []);
        // The book reaps what this process adopts, which may be its own child here.
        child.wait().ok();
    }

    #[test]
    fn an_announced_server_is_waited_for_while_the_socket_is_held() {
        let cookie = Cookie::new().unwrap();
        let mut book = Book::default();
        book.announced(cookie);
        let (asked, mut child) = (std::cell::Cell::new(0), None);
        let (name, value) = cookie.variable(None);
        // The child becomes its program only after a while of looking.
        let child_cell = std::cell::RefCell::new(&mut child);
        book.end_all(&begin(false), || {
            asked.set(asked.get() + 1);
            if asked.get() == 5 {
                let spawned = Command::new("sleep").arg("4812").env(&name, &value).spawn();
                **child_cell.borrow_mut() = Some(spawned.unwrap());
            }
            asked.get() >= 5
        });
        let mut child = child.expect("it was started");
        assert!(!ProcessId::of(child.id().cast_signed()).is_ok_and(ProcessId::is_alive));
        child.wait().ok();
    }

    #[test]
    fn members_outlive_their_leader_by_cookie_and_by_pidfd() {
        for with_pidfd in [false, true] {
            let (mut child, cookie) = leader("sleep 4813 & wait");
            let leader = id(&child);
            until("a helper", || members(leader.pid).len() == 2);
            let pidfd =
                pidfd_open(Pid::from_raw(leader.pid).unwrap(), PidfdFlags::empty()).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(members(leader.pid).len(), 1);
            let mut book = Book::default();
            book.born(cookie, leader, with_pidfd.then_some(pidfd));
            book.end_all(&begin(false), || true);
            assert_eq!(members(leader.pid), []);
        }
    }

    #[test]
    fn a_group_that_has_the_number_of_an_earlier_one_is_left_alone() {
        let (mut stranger, _) = leader("sleep 4814 & exec sleep 4814");
        let stranger_id = id(&stranger);
        until("a helper", || members(stranger_id.pid).len() == 2);
        let start_time_ticks = stranger_id.start_time_ticks - 1;
        let earlier = ProcessId { start_time_ticks, ..stranger_id };
        let mut book = Book::default();
        book.born(Cookie::new().unwrap(), earlier, None);
        book.end_all(&begin(true), || true);
        assert_eq!(members(stranger_id.pid).len(), 2);
        rustix::process::kill_process_group(Pid::from_raw(stranger_id.pid).unwrap(), Signal::KILL)
            .unwrap();
        stranger.wait().unwrap();
    }
}
