//! The child: leaks that a switch turns on and off.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use harness::ledger::snapshot::{Identity, Kind};
use harness::probe::{Root, Scanner};

use super::{BUDGET, born, sight};

/// Does what it is told on its stdin, and ends the process.
pub(super) fn play(role: &str) {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("subreaper");
    answer(&std::process::id().to_string());
    let mut held = Held::default();
    for line in std::io::stdin().lines() {
        let line = line.expect("a command");
        let (verb, what) = line.split_once(' ').expect("verb and object");
        let said = match (role, verb) {
            (_, "on") => held.turn_on(what),
            (_, "off") => held.turn_off(what),
            (_, "look") => look_at_ourselves(),
            _ => panic!("unknown command {line}"),
        };
        answer(&said);
    }
    std::process::exit(0);
}

fn answer(said: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{said}").and_then(|()| out.flush()).expect("the parent reads");
}

#[derive(Default)]
struct Held {
    fds: BTreeMap<String, Vec<OwnedFd>>,
    children: BTreeMap<String, Child>,
    threads: BTreeMap<String, (std::sync::Arc<AtomicBool>, std::thread::JoinHandle<()>)>,
}

impl Held {
    fn turn_on(&mut self, what: &str) -> String {
        match what {
            "zombie" => {
                let child = Command::new("true").spawn().expect("true");
                let pid = child.id();
                self.children.insert(what.to_owned(), child);
                return pid.to_string();
            }
            "orphan" => {
                let script = "setsid sh -c 'sleep 1000 & echo $!' & wait";
                let output = Command::new("sh")
                    .args(["-c", &format!("({script}) 2>/dev/null")])
                    .env("SCUPPER_CONNECTION", "c7")
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("sh");
                let mut pid = String::new();
                let mut output = output;
                BufReader::new(output.stdout.take().expect("piped"))
                    .read_line(&mut pid)
                    .expect("a pid");
                output.wait().expect("sh ends");
                return pid.trim().to_owned();
            }
            "thread" | "mover" => {
                let stop = std::sync::Arc::new(AtomicBool::new(false));
                let stopped = std::sync::Arc::clone(&stop);
                let body = if what == "thread" { idle } else { move_about };
                let (begins, begun) = channel();
                let thread = std::thread::Builder::new()
                    .name(what.to_owned())
                    .spawn(move || body(&stopped, &begins))
                    .expect("a thread");
                // Until it runs, it has the name of the thread that made it, and holds nothing.
                begun.recv().expect("it begins");
                self.threads.insert(what.to_owned(), (stop, thread));
            }
            "acceptor" => {
                let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
                let port = listener.local_addr().expect("bound").port();
                std::thread::spawn(move || listener.accept().map(drop));
                return port.to_string();
            }
            "secret" => {
                let behavior = rustix::process::DumpableBehavior::NotDumpable;
                rustix::process::set_dumpable_behavior(behavior).expect("secret");
            }
            _ => {
                self.fds.insert(what.to_owned(), open(what));
            }
        }
        String::new()
    }

    fn turn_off(&mut self, what: &str) -> String {
        self.fds.remove(what);
        if let Some(mut child) = self.children.remove(what) {
            child.wait().expect("reaped");
        }
        if let Some((stop, thread)) = self.threads.remove(what) {
            stop.store(true, Ordering::Relaxed);
            thread.join().expect("ended");
        }
        String::new()
    }
}

fn open(what: &str) -> Vec<OwnedFd> {
    use rustix::event::{EventfdFlags, epoll, eventfd};
    use rustix::fs::{MemfdFlags, inotify, memfd_create};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    match what {
        "eventfd" => vec![eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd")],
        "inherited-eventfd" => vec![eventfd(0, EventfdFlags::empty()).expect("eventfd")],
        "epoll" => vec![epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll")],
        "inotify" => vec![inotify::init(inotify::CreateFlags::CLOEXEC).expect("inotify")],
        "memfd" => vec![memfd_create("cache", MemfdFlags::CLOEXEC).expect("memfd")],
        "pidfd" => vec![pidfd_open(getpid(), PidfdFlags::empty()).expect("pidfd")],
        "file" => vec![std::fs::File::open("/etc/passwd").expect("a file").into()],
        "unlinked" => vec![tempfile::tempfile().expect("a file").into()],
        "pipe" => {
            let (read, write) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
            vec![read, write]
        }
        "unix" => {
            let (one, other) = UnixStream::pair().expect("a pair");
            vec![one.into(), other.into()]
        }
        "udp" => vec![UdpSocket::bind("127.0.0.1:0").expect("a socket").into()],
        "tcp-listener" => vec![TcpListener::bind("127.0.0.1:0").expect("a socket").into()],
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
            let address = listener.local_addr().expect("bound");
            let one = TcpStream::connect(address).expect("connected");
            let (other, _) = listener.accept().expect("accepted");
            vec![one.into(), other.into()]
        }
        other => panic!("unknown leak {other}"),
    }
}

fn idle(stop: &AtomicBool, begins: &Sender<()>) {
    begins.send(()).expect("it is waited for");
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Holds one or two descriptors of /dev/null at every instant, never none.
fn move_about(stop: &AtomicBool, begins: &Sender<()>) {
    let mut held: OwnedFd = std::fs::File::open("/dev/null").expect("a file").into();
    begins.send(()).expect("it is waited for");
    let mut least = 0;
    while !stop.load(Ordering::Relaxed) {
        least = (least + 37) % 500;
        held = rustix::io::fcntl_dupfd_cloexec(&held, 100 + least).expect("a duplicate");
    }
    drop(held);
}

/// A process that looks at itself: an eventfd is seen, the scanner is not.
fn look_at_ourselves() -> String {
    let sight = sight(Root::Itself, &[Kind::Fd, Kind::Process, Kind::Thread]);
    let mut scanner = Scanner::new();
    let before = scanner.snapshot(&sight, BUDGET);
    let held = open("eventfd");
    let during = scanner.snapshot(&sight, BUDGET);
    drop(held);
    let after = Scanner::new().snapshot(&sight, BUDGET);
    let numbers = fds_by_hand();
    let listed = after.things.keys().filter(|identity| matches!(identity, Identity::Fd { .. }));
    let stable = before.stable && during.stable && after.stable;
    let processes = before.processes().count();
    let count = listed.count();
    format!(
        "stable {stable}, born {}, left {}, processes {processes}, as many as by hand {}",
        born(&before, &during).len(),
        born(&before, &after).len(),
        count == numbers,
    )
}

/// Open descriptors, without opening any.
fn fds_by_hand() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("own descriptors").count() - 1
}
