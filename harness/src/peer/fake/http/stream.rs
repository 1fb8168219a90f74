//! Server-sent events on a connection, and who notices first that the client is gone.

use std::{io, net::TcpStream, os::fd::AsFd, sync::Arc};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::SendFlags,
};

use super::channel::{Channel, Ear, Next};

/// The client has closed its side, or reset the connection.
const GONE: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::ERR);

/// How a stream or a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The server ended it.
    Ended,
    /// The client has gone.
    ByClient,
}

/// How the events of a stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// With ids, and an empty event with an id before all others, so that a client may come back.
    Resumable,
    /// Bare, as a stream that nobody can come back to.
    Bare,
}

/// Writes the head and then the events of a channel after this one, until one side ends it.
pub(super) fn carry(
    socket: &TcpStream,
    channel: &Arc<Channel>,
    after: u64,
    style: Style,
) -> io::Result<Left> {
    let ear = channel.listen()?;
    let mut text = String::from(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
         X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    text.push_str(&chunk(": here we are\n\n"));
    if style == Style::Resumable {
        text.push_str(&chunk(&format!("id: {}-{after}\ndata:\n\n", channel.id)));
    }
    let mut writer = Writer { socket, channel, ear };
    let mut at = after;
    let mut left = writer.write(text.as_bytes())?;
    while left.is_none() {
        left = match channel.next(at) {
            Next::Event(number, data) => {
                let data = String::from_utf8_lossy(&data);
                let id = match style {
                    Style::Resumable => format!("id: {}-{number}\n", channel.id),
                    Style::Bare => String::new(),
                };
                // Data that names its own kind of event brings the line along.
                let named = if data.starts_with("event:") { "" } else { "event: message\ndata: " };
                at = number;
                writer.write(chunk(&format!("{id}{named}{}\n\n", data.trim_end())).as_bytes())?
            }
            Next::Nothing => writer.wait(PollFlags::empty())?,
            Next::End => {
                writer.write_last(b"0\r\n\r\n")?;
                Some(Left::Ended)
            }
        };
    }
    Ok(left.unwrap_or(Left::Ended))
}

/// Waits until a channel has ended, or the client has gone.
pub(super) fn await_end(socket: &TcpStream, channel: &Arc<Channel>) -> io::Result<Left> {
    let ear = channel.listen()?;
    let writer = Writer { socket, channel, ear };
    loop {
        if channel.has_ended() {
            return Ok(Left::Ended);
        }
        if let Some(left) = writer.wait(PollFlags::empty())? {
            return Ok(left);
        }
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

struct Writer<'a> {
    socket: &'a TcpStream,
    channel: &'a Arc<Channel>,
    ear: Ear,
}

impl Writer<'_> {
    /// Writes all of it, and waits for a slow reader no longer than the stream lasts.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<Option<Left>> {
        while !bytes.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(self.socket, bytes, flags) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                // In the middle of an event: there is no way to end it well any more.
                Err(Errno::AGAIN) if self.channel.has_ended() => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(Errno::AGAIN) => {
                    if let Some(left) = self.wait(PollFlags::OUT)? {
                        return Ok(Some(left));
                    }
                }
                // Reset, or closed and then written to.
                Err(_) => return Ok(Some(Left::ByClient)),
            }
        }
        Ok(None)
    }

    /// Writes what fits, to a client that may not read any more.
    fn write_last(&self, bytes: &[u8]) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(self.socket, bytes, flags) {
            Ok(count) if count == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits for this, for news of the channel, or until the client has gone.
    fn wait(&self, flags: PollFlags) -> io::Result<Option<Left>> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.socket.as_fd(), flags | GONE),
            PollFd::from_borrowed_fd(self.ear.as_fd(), PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        let gone = fds[0].revents().intersects(GONE);
        self.ear.clear();
        Ok(gone.then_some(Left::ByClient))
    }
}
