//! Inside the guard process: the book of servers, kept until the host is gone.

use std::{
    env, io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags, open},
    io::{Errno, fcntl_dupfd_cloexec},
    net::{SocketType, sockopt::socket_type},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    stdio::{dup2_stdin, stdin},
    thread::set_name,
};

use super::{
    end::Book,
    wire::{self, Message, Ready, Receive},
};
use crate::process::{Cookie, wait_readable};

/// The first argument of a guard.
pub(super) const MARKER: &str = "--scupper-guard";
/// What it answers with, so that nobody else's word is taken for its.
pub(super) const NONCE_VARIABLE: &str = "SCUPPER_GUARD_NONCE";

/// How long a guard waits for its host's first word, which was sent before the guard began.
const BEGIN_WAIT: Duration = Duration::from_secs(10);

/// Proof that main begins with [`run_if_asked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrance(());

/// The first line of a host's `main`. In a process that was started as a guard it is the whole
/// program and never returns; in any other it does nothing but look at the arguments.
///
/// Before a runtime is made is the best place: a guard needs no threads.
pub fn run_if_asked() -> Entrance {
    let asked = env::args_os().nth(1).is_some_and(|argument| argument == MARKER);
    let nonce = env::var(NONCE_VARIABLE).ok().and_then(|text| Cookie::parse(&text));
    match nonce {
        // The socket tells a host's child from a curious user.
        Some(nonce) if asked && socket_type(stdin()) == Ok(SocketType::SEQPACKET) => {
            let code = match guard(nonce) {
                Ok(()) => 0,
                Err(_) => 1,
            };
            std::process::exit(code)
        }
        _ => Entrance(()),
    }
}

fn guard(nonce: Cookie) -> io::Result<()> {
    let socket = fcntl_dupfd_cloexec(stdin(), 3)?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    drop(null);
    // For people who look at ps; the work does not depend on it.
    set_name(c"scupper-guard").ok();
    raise_descriptor_limit();

    let Receive::Got(Message::Begin(begin), Some(host)) =
        wire::receive(socket.as_fd(), BEGIN_WAIT)?
    else {
        return Err(io::Error::other("the host did not say whom to watch"));
    };
    let ready = Message::Ready(Ready { version: wire::VERSION, nonce });
    wire::send(socket.as_fd(), &ready, None, BEGIN_WAIT)?;
    if begin.version != wire::VERSION {
        return Err(io::Error::other("the host speaks another version"));
    }

    let mut book = Book::default();
    match keep(&mut book, &socket, &host)? {
        Parting::Goodbye => Ok(()),
        Parting::HostGone => {
            book.end_all(&begin, || at_end(&socket));
            Ok(())
        }
    }
}

enum Parting {
    Goodbye,
    HostGone,
}

/// Writes down what the host says until it says goodbye or is gone. Its death shows in its pidfd,
/// which a forked copy of its socket cannot hide; the end of the socket shows an exec.
fn keep(book: &mut Book, socket: &OwnedFd, host: &OwnedFd) -> io::Result<Parting> {
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(host, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Asked before the socket is read to its end: what a dead host said is all there by then.
        let dead = wait_readable(host.as_fd(), Duration::ZERO)?;
        loop {
            match wire::receive(socket.as_fd(), Duration::ZERO) {
                Ok(Receive::Got(Message::Announced(cookie), _)) => book.announced(cookie),
                Ok(Receive::Got(Message::Born { cookie, leader }, pidfd)) => {
                    book.born(cookie, leader, pidfd);
                }
                Ok(Receive::Got(Message::Struck(cookie), _)) => book.struck(cookie),
                Ok(Receive::Got(Message::Goodbye, _)) => return Ok(Parting::Goodbye),
                Ok(Receive::Got(Message::Begin(_) | Message::Ready(_), _)) => {}
                Ok(Receive::Nothing) => break,
                // A socket that cannot be read is as good as ended: what is in the book counts.
                Ok(Receive::Ended) | Err(_) => return Ok(Parting::HostGone),
            }
        }
        if dead {
            return Ok(Parting::HostGone);
        }
    }
}

/// Is no copy of the host's end left? A child that is being started has one until just before it
/// becomes its program.
fn at_end(socket: &OwnedFd) -> bool {
    !matches!(wire::receive(socket.as_fd(), Duration::ZERO), Ok(Receive::Nothing))
}

/// One pidfd for each server. Beyond the limit the kernel drops them, and the cookie has to do.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
}
