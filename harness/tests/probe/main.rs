//! Probes against real leaks that a switch turns on and off. The leaks live in a child, this
//! binary started again, so that tests running side by side do not see each other's.

mod child;
mod target;

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::ledger::snapshot::{Facts, FdKind, Identity, Kind, Memory, ProcessId, Snapshot};
use harness::probe::holder::{Holders, holders, pipe_ends};
use harness::probe::socket::describe;
use harness::probe::{ProbeError, Root, Scanner, Sight};
use target::Target;

const BUDGET: Duration = Duration::from_secs(5);

/// Not a test: what the child does. Returns at once where this is no child.
#[test]
fn role() {
    if let Ok(role) = std::env::var("PROBE_TEST_ROLE") {
        child::play(&role);
    }
}

fn own_pid() -> i32 {
    std::process::id().try_into().expect("a pid")
}

fn sight(root: Root, kinds: &[Kind]) -> Sight {
    Sight { root, ours: BTreeSet::new(), temp_dir: None, kinds: kinds.iter().copied().collect() }
}

fn born<'a>(before: &Snapshot, after: &'a Snapshot) -> Vec<(&'a Identity, &'a Facts)> {
    after.things.iter().filter(|(identity, _)| !before.things.contains_key(identity)).collect()
}

fn kinds_born(before: &Snapshot, after: &Snapshot) -> Vec<FdKind> {
    let kind = |(identity, _): (&Identity, &Facts)| match identity {
        Identity::Fd { kind, .. } => *kind,
        other => panic!("not a descriptor: {other:?}"),
    };
    born(before, after).into_iter().map(kind).collect()
}

#[test]
fn each_kind_of_descriptor_is_seen_and_gone() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    // The first look of a fresh child is its baseline; it has opened all it will by itself.
    let before = settled(&target, &mut scanner);
    for (leak, kinds) in [
        ("file", vec![FdKind::File]),
        ("unlinked", vec![FdKind::File]),
        ("pipe", vec![FdKind::Pipe; 2]),
        ("unix", vec![FdKind::Socket; 2]),
        ("udp", vec![FdKind::Socket]),
        ("tcp-listener", vec![FdKind::Socket]),
        ("tcp", vec![FdKind::Socket; 2]),
        ("eventfd", vec![FdKind::Eventfd]),
        ("epoll", vec![FdKind::Epoll]),
        ("inotify", vec![FdKind::Inotify]),
        ("pidfd", vec![FdKind::Pidfd]),
        ("memfd", vec![FdKind::Memfd]),
    ] {
        target.tell(&format!("on {leak}"));
        let during = target.snapshot(&mut scanner, &[Kind::Fd]);
        assert_eq!(kinds_born(&before, &during), kinds, "{leak}");
        target.tell(&format!("off {leak}"));
        let after = target.snapshot(&mut scanner, &[Kind::Fd]);
        assert_eq!(before.things, after.things, "{leak}");
    }
}

fn settled(target: &Target, scanner: &mut Scanner) -> Snapshot {
    let snapshot = target.snapshot(scanner, &[Kind::Fd]);
    assert_eq!(snapshot.unreadable, []);
    assert!(snapshot.things.len() >= 3, "stdin, stdout, stderr: {:?}", snapshot.things);
    snapshot
}

#[test]
fn one_eventfd_closed_and_another_leaked_is_a_leak() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    target.tell("on eventfd");
    let before = settled(&target, &mut scanner);
    target.tell("on inherited-eventfd");
    target.tell("off eventfd");
    let after = target.snapshot(&mut scanner, &[Kind::Fd]);
    assert_eq!(before.things.len(), after.things.len());
    assert_eq!(kinds_born(&before, &after), [FdKind::Eventfd]);
    assert_eq!(kinds_born(&after, &before), [FdKind::Eventfd]);
}

#[test]
fn the_write_end_of_a_pipe_is_seen() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let before = settled(&target, &mut scanner);
    for leak in ["pipe", "unix", "file", "eventfd"] {
        target.tell(&format!("on {leak}"));
    }
    let after = target.snapshot(&mut scanner, &[Kind::Fd]);
    let ends = born(&before, &after).into_iter().filter_map(|(identity, facts)| match facts {
        Facts::Fd { write_end: true } => Some(identity),
        _ => None,
    });
    let ends: Vec<&Identity> = ends.collect();
    // pipe(2) gives the read end first, and that has the smaller number.
    let mut pipes = born(&before, &after).into_iter().filter_map(|(identity, _)| match identity {
        Identity::Fd { kind: FdKind::Pipe, .. } => Some(identity),
        _ => None,
    });
    assert_eq!(ends, [pipes.next_back().expect("a pipe")]);
}

#[test]
fn a_pidfd_stays_the_same_when_its_process_is_reaped() {
    let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd");
    let mut scanner = Scanner::new();
    let sight = sight(Root::Itself, &[Kind::Fd]);
    let find = |snapshot: Snapshot| {
        let number = std::os::fd::AsRawFd::as_raw_fd(&pidfd.as_fd());
        let own = own_pid();
        snapshot.things.into_keys().find(|identity| {
            matches!(identity, Identity::Fd { owner, number: other, .. }
                if *other == number && owner.pid == own)
        })
    };
    let before = find(scanner.scan(&sight)).expect("seen");
    assert!(
        matches!(&before, Identity::Fd { kind: FdKind::Pidfd, extra, .. }
            if *extra == format!("Pid: {}", child.id())),
        "{before:?}"
    );
    child.kill().and_then(|()| child.wait()).expect("reaped");
    assert_eq!(find(scanner.scan(&sight)), Some(before));
}

#[test]
fn a_zombie_is_seen_until_it_is_reaped_and_has_nothing_unreadable() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let pid: i32 = target.tell("on zombie").parse().expect("a pid");
    let sight = sight(Root::Descendants(target.pid), Kind::ALL);
    let snapshot = until(|| {
        let snapshot = scanner.snapshot(&sight, BUDGET);
        let dead = snapshot.processes().any(|(_, facts)| facts.is_zombie());
        dead.then_some(snapshot)
    });
    let seen: Vec<Kind> =
        snapshot.things.iter().map(|(id, facts)| Snapshot::kind_of(id, facts)).collect();
    assert_eq!(seen, [Kind::Zombie]);
    assert_eq!(snapshot.processes().next().expect("the zombie").0.pid, pid);
    assert_eq!(snapshot.unreadable, []);
    assert!(snapshot.stable);
    target.tell("off zombie");
    assert_eq!(scanner.snapshot(&sight, BUDGET).things.len(), 0);
}

#[test]
fn an_orphan_across_setsid_and_double_fork_is_found_below_the_subreaper() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let sight = sight(Root::Descendants(target.pid), &[Kind::Process, Kind::Zombie]);
    assert_eq!(scanner.processes(&sight).expect("readable").len(), 0);
    let pid: i32 = target.tell("on orphan").parse().expect("a pid");
    // Between fork and exec it still looks like the shell; inside exec it has its new name and as yet
    // no command line and no environment (load_elf_binary of fs/binfmt_elf.c sets them last). Each is
    // a read of its own, so one may come too early where the next does not.
    let (_, orphan) = until(|| {
        let processes = scanner.processes(&sight).expect("readable");
        processes.into_iter().find(|(id, facts)| {
            id.pid == pid
                && facts.parent == target.pid
                && facts.name == "sleep"
                && !facts.command.is_empty()
                && facts.cookie.is_some()
        })
    });
    // Not rustix's getsid: it asserts that a session is never 0, and it is where the leader of ours
    // lives outside of our PID namespace, as in many a container.
    let own = procfs::process::Process::myself().and_then(|own| own.stat()).expect("our own");
    assert_ne!(orphan.session, own.session);
    assert_eq!(orphan.command, ["sleep", "1000"]);
    assert_eq!(orphan.cookie.as_deref(), Some("c7"));

    // Where the subreaper is one of ours, what it adopted is reported all the same.
    let above = Sight { root: target.tree(), ours: BTreeSet::from([target.pid]), ..sight.clone() };
    let processes = scanner.processes(&above).expect("readable");
    assert!(processes.keys().any(|id| id.pid == pid));
    assert!(processes.keys().all(|id| id.pid != target.pid));

    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid).expect("a pid"),
        rustix::process::PidfdFlags::empty(),
    )
    .expect("alive");
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL).expect("killed");
    until(|| {
        scanner
            .processes(&sight)
            .expect("readable")
            .values()
            .all(|facts| facts.name != "sleep" || facts.is_zombie())
            .then_some(())
    });
}

#[test]
fn a_thread_is_seen_and_gone() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let before = target.snapshot(&mut scanner, &[Kind::Thread]);
    target.tell("on thread");
    let during = target.snapshot(&mut scanner, &[Kind::Thread]);
    let names: Vec<&Facts> = born(&before, &during).into_iter().map(|(_, facts)| facts).collect();
    assert_eq!(names, [&Facts::Thread { name: "thread".to_owned() }]);
    target.tell("off thread");
    // join() returns a little before the kernel lets go of the thread.
    until(|| (target.snapshot(&mut scanner, &[Kind::Thread]) == before).then_some(()));
}

#[test]
fn memory_is_read_only_when_asked_for() {
    let target = Target::start();
    let mut scanner = Scanner::new();
    let root = target.tree();
    assert!(scanner.scan(&sight(root, &[Kind::Fd])).memory.is_empty());
    let memory = scanner.scan(&sight(root, &[Kind::Memory])).memory;
    let of_target = memory.iter().find(|(id, _)| id.pid == target.pid);
    let Some((_, Memory { rss_kib, pss_kib, private_kib })) = of_target else {
        panic!("{memory:?}")
    };
    assert!(*rss_kib > 100 && pss_kib.is_some_and(|pss| pss <= *rss_kib), "{memory:?}");
    assert!(private_kib.is_some_and(|private| (1..=*rss_kib).contains(&private)), "{memory:?}");
}

#[test]
fn files_of_the_temporary_directory_are_seen_and_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut here = sight(Root::Descendants(own_pid()), &[Kind::File]);
    here.temp_dir = Some(dir.path().to_owned());
    let mut scanner = Scanner::new();
    assert_eq!(scanner.scan(&here).things.len(), 0);
    std::fs::write(dir.path().join("left"), "four").expect("a file");
    let _socket = UnixListener::bind(dir.path().join("socket")).expect("a socket");
    let things = scanner.snapshot(&here, BUDGET).things;
    let seen: Vec<(&str, u64)> = things
        .iter()
        .map(|thing| match thing {
            (Identity::File { path, .. }, Facts::File { size }) => (path.as_str(), *size),
            other => panic!("not a file: {other:?}"),
        })
        .collect();
    assert_eq!(seen, [("left", 4), ("socket", 0)]);
    std::fs::remove_file(dir.path().join("left")).expect("removed");
    assert_eq!(scanner.scan(&here).things.len(), 1);
}

/// A descriptor that is closed at one number and open at another at every instant can be missed
/// by a walk over the numbers, and by two walks in a row (measured: 50 of 20 000 walks).
#[test]
fn a_descriptor_that_moves_about_is_never_seen_as_stably_absent() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let before = settled(&target, &mut scanner);
    target.tell("on mover");
    let sight = sight(target.tree(), &[Kind::Fd]);
    let end = Instant::now() + Duration::from_secs(3);
    let (mut looks, mut missed) = (0, 0);
    while Instant::now() < end {
        let snapshot = scanner.snapshot(&sight, Duration::ZERO);
        let seen = !kinds_born(&before, &snapshot).is_empty();
        assert!(seen || !snapshot.stable, "after {looks} looks");
        looks += 1;
        missed += usize::from(!seen);
    }
    println!("{looks} looks, {missed} of them missed it");
    target.tell("off mover");
}

/// The kernel counts the number that it will give to the next connection, and lists it not.
#[test]
fn a_thread_that_waits_in_accept_keeps_no_snapshot_from_being_stable() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let before = target.snapshot(&mut scanner, &[Kind::Fd]);
    let port: u16 = target.tell("on acceptor").parse().expect("a port");
    until(|| {
        let listed = std::fs::read_dir(format!("/proc/{}/fd", target.pid)).expect("listed").count();
        let counted = std::fs::metadata(format!("/proc/{}/fd", target.pid)).expect("there").len();
        // Before Linux 6.2 the kernel does not count, and there is nothing to be short of.
        (counted == 0 || counted > listed as u64).then_some(())
    });
    let during = target.snapshot(&mut scanner, &[Kind::Fd]);
    assert!(before.stable && during.stable, "{before:?}\n{during:?}");
    let born = born(&before, &during);
    let [(Identity::Fd { kind: FdKind::Socket, .. }, _)] = born.as_slice() else {
        panic!("{born:?}")
    };
    TcpStream::connect(("127.0.0.1", port)).expect("it is accepted");
    until(|| (target.snapshot(&mut scanner, &[Kind::Fd]).things == before.things).then_some(()));
}

#[test]
fn a_process_that_looks_at_itself_does_not_see_the_scanner() {
    let mut target = Target::start();
    assert_eq!(
        target.tell("look ourselves"),
        "stable true, born 1, left 0, processes 1, as many as by hand true"
    );
}

/// Root may look all the same, and then has to see everything.
#[test]
fn a_process_that_forbids_looking_is_unreadable_and_not_empty() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let before = settled(&target, &mut scanner);
    target.tell("on secret");
    let after = target.snapshot(&mut scanner, &[Kind::Fd]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(before.things, after.things);
        assert_eq!(after.unreadable, []);
    } else {
        let gaps: Vec<Kind> = after.unreadable.iter().map(|gap| gap.kind).collect();
        assert_eq!(gaps, [Kind::Fd]);
        assert!(after.unreadable[0].what.contains(&target.pid.to_string()));
    }
}

#[test]
fn a_root_that_is_gone_is_an_error_and_not_an_empty_tree() {
    let mut child = Command::new("true").spawn().expect("true");
    let pid = child.id().try_into().expect("a pid");
    child.wait().expect("reaped");
    let mut scanner = Scanner::new();
    let gone = sight(Root::Descendants(pid), &[Kind::Process]);
    assert!(matches!(scanner.processes(&gone), Err(ProbeError::RootGone(other)) if other == pid));
    let snapshot = scanner.snapshot(&gone, Duration::ZERO);
    assert_eq!(snapshot.unreadable.len(), 1);
    assert_eq!(snapshot.unreadable[0].kind, Kind::Process);
}

#[test]
fn every_process_of_the_namespace_is_seen_but_for_ours() {
    let target = Target::start();
    let mut scanner = Scanner::new();
    let mut all = sight(Root::Namespace, &[Kind::Process]);
    let seen = |scanner: &mut Scanner, sight: &Sight, pid: i32| {
        scanner.processes(sight).expect("readable").keys().any(|id: &ProcessId| id.pid == pid)
    };
    assert!(seen(&mut scanner, &all, target.pid) && seen(&mut scanner, &all, own_pid()));
    all.ours.insert(own_pid());
    assert!(seen(&mut scanner, &all, target.pid) && !seen(&mut scanner, &all, own_pid()));
    assert!(scanner.processes(&all).expect("readable").values().all(|f| f.name != "kthreadd"));
}

#[test]
fn the_holder_of_the_other_end_of_a_pipe_is_named() {
    let target = Target::start();
    let mut scanner = Scanner::new();
    let snapshot = settled(&target, &mut scanner);
    let stdin = snapshot
        .things
        .keys()
        .find(|identity| matches!(identity, Identity::Fd { number: 0, .. }))
        .expect("its stdin");
    let Identity::Fd { target: link, inode, .. } = stdin else { unreachable!() };
    let number = std::os::fd::AsRawFd::as_raw_fd(target.input.as_ref().expect("open"));
    let ours = (own_pid(), format!("write end of {link} as fd {number}"));
    let shells = (target.shell_pid(), format!("read end of {link} as fd 0"));
    let its = (target.pid, format!("read end of {link} as fd 0"));
    // Between fork and exec a child of another test holds copies of all we hold.
    let others = BTreeSet::from([ours, shells]);
    let everyone: BTreeSet<_> = others.iter().cloned().chain([its]).collect();
    until(|| (all(&holders(stdin, BUDGET)) == others).then_some(()));
    until(|| (all(&pipe_ends(*inode)) == everyone).then_some(()));

    let found = holders(stdin, BUDGET).holders;
    let shell = found.iter().find(|holder| holder.pid == target.shell_pid()).expect("the shell");
    assert!(shell.command.starts_with("sh -c "), "{}", shell.command);
}

fn all(found: &Holders) -> BTreeSet<(i32, String)> {
    found.holders.iter().map(|holder| (holder.pid, holder.holds.clone())).collect()
}

#[test]
fn a_budget_that_is_used_up_leaves_processes_unread() {
    let Holders { holders, unread } = holders(
        &Identity::Fd {
            owner: ProcessId { pid: own_pid(), start_time: 0 },
            number: 0,
            kind: FdKind::Pipe,
            target: "pipe:[1]".to_owned(),
            device: 0,
            inode: 1,
            extra: String::new(),
        },
        Duration::ZERO,
    );
    assert!(holders.is_empty() && unread > 0);
}

#[test]
fn sockets_are_described_and_their_other_ends_found() {
    let mut target = Target::start();
    let mut scanner = Scanner::new();
    let before = settled(&target, &mut scanner);
    for (leak, says) in [
        ("tcp-listener", "tcp 127.0.0.1:N (listening)"),
        ("udp", "udp 127.0.0.1:N (unconnected)"),
        ("tcp", "tcp 127.0.0.1:N -> 127.0.0.1:N (established)"),
        ("unix", "unix stream -> socket:[N] (connected)"),
    ] {
        target.tell(&format!("on {leak}"));
        let during = target.snapshot(&mut scanner, &[Kind::Fd]);
        let born: Vec<&Identity> = born(&before, &during).into_iter().map(|(id, _)| id).collect();
        for identity in &born {
            assert_eq!(without_numbers(&describe(identity)), says);
        }
        if let [one, other] = born[..] {
            let Identity::Fd { number, target: link, .. } = other else { unreachable!() };
            let found = holders(one, BUDGET).holders;
            let held: Vec<(i32, &str)> =
                found.iter().map(|holder| (holder.pid, holder.holds.as_str())).collect();
            let holds = format!("the other end, {link}, as fd {number}");
            assert_eq!(held, [(target.pid, holds.as_str())], "{leak}");
        }
        target.tell(&format!("off {leak}"));
    }
}

/// Ports and inodes differ from run to run.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['[', ':']) {
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            out.push('N');
        }
        rest = &rest[digits..];
    }
    out + rest
}

/// Waits for a condition, with a deadline.
fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + BUDGET;
    loop {
        if let Some(met) = condition() {
            return met;
        }
        assert!(Instant::now() < deadline, "not met within {BUDGET:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
