//! What host and guard say to each other: one JSON message a packet, some with a descriptor.

use std::{
    io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};

use crate::process::{Cookie, ProcessId, wait_for, wait_readable};

/// Changes with every change of the messages.
pub(super) const VERSION: u32 = 1;

/// No message is longer.
const LIMIT_BYTES: usize = 512;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// The host's first word, with its own pidfd.
    Begin(Begin),
    /// The guard's first and last word.
    Ready(Ready),
    /// A child with this cookie is about to be.
    Announced(Cookie),
    /// It is there; with the pidfd of the leader.
    Born { cookie: Cookie, leader: ProcessId },
    /// It and its group are gone, or it never was.
    Struck(Cookie),
    /// The host wants no guard any more.
    Goodbye,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) version: u32,
    pub(super) grace: Duration,
    pub(super) kill_wait: Duration,
    pub(super) sweep_cookie: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) version: u32,
    pub(super) nonce: Cookie,
}

/// Sends a packet, waiting for room no longer than this. Never raises SIGPIPE.
///
/// # Errors
/// `TimedOut` if there was no room, and what [`is_gone`] tells if nobody reads any more.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    message: &Message,
    fd: Option<BorrowedFd<'_>>,
    wait: Duration,
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let began = Instant::now();
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &[IoSlice::new(&text)], &mut ancillary, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = wait.saturating_sub(began.elapsed());
                if !wait_for(socket, PollFlags::OUT, left)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Is the other end closed? With packets unread in it, the kernel calls that a reset.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What a wait for a packet brought.
#[derive(Debug)]
pub(super) enum Receive {
    Got(Message, Option<OwnedFd>),
    /// The other end is closed.
    Ended,
    /// No packet in the time given.
    Nothing,
}

/// The next packet.
///
/// # Errors
/// What `recvmsg(2)` reports, and `InvalidData` for a packet that is no message.
pub(super) fn receive(socket: BorrowedFd<'_>, wait: Duration) -> io::Result<Receive> {
    if !wait_readable(socket, wait)? {
        return Ok(Receive::Nothing);
    }
    let mut bytes = [0; LIMIT_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let length = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Ok(received) => break received.bytes,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Receive::Nothing),
            Err(error) => return Err(error.into()),
        }
    };
    if length == 0 {
        return Ok(Receive::Ended);
    }
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Receive::Got(serde_json::from_slice(&bytes[..length])?, fd))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn the_longest_message_fits() {
        let cookie = Cookie::new().unwrap();
        let leader = ProcessId { pid: i32::MAX, start_time_ticks: u64::MAX };
        for message in [
            Message::Begin(Begin {
                version: u32::MAX,
                grace: Duration::MAX,
                kill_wait: Duration::MAX,
                sweep_cookie: false,
            }),
            Message::Ready(Ready { version: u32::MAX, nonce: cookie }),
            Message::Born { cookie, leader },
        ] {
            let (here, there) = pair();
            send(here.as_fd(), &message, Some(there.as_fd()), Duration::ZERO).unwrap();
            let Receive::Got(got, Some(_)) = receive(there.as_fd(), Duration::ZERO).unwrap() else {
                panic!("no message with a descriptor");
            };
            assert_eq!(got, message);
        }
    }

    #[test]
    fn nobody_waits_for_ever_for_a_reader_that_does_not_read() {
        let (here, there) = pair();
        let error = loop {
            if let Err(error) = send(here.as_fd(), &Message::Goodbye, None, Duration::ZERO) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(there);
        let error = send(here.as_fd(), &Message::Goodbye, None, Duration::MAX).unwrap_err();
        assert!(is_gone(&error), "{error}");
    }

    #[test]
    fn what_was_said_before_the_end_is_still_heard() {
        let (here, there) = pair();
        let cookie = Cookie::new().unwrap();
        send(here.as_fd(), &Message::Announced(cookie), None, Duration::ZERO).unwrap();
        assert!(matches!(receive(here.as_fd(), Duration::ZERO).unwrap(), Receive::Nothing));
        drop(here);
        let heard = receive(there.as_fd(), Duration::ZERO).unwrap();
        assert!(matches!(heard, Receive::Got(Message::Announced(c), None) if c == cookie));
        assert!(matches!(receive(there.as_fd(), Duration::ZERO).unwrap(), Receive::Ended));
    }
}
