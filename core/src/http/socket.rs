//! The sockets of a connection, each in a slot, so that the end can close them all at once from any
//! thread, with or without a runtime, also those that are only being connected.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    panic::Location,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::census::{Census, Kind, Row};

/// When a peer has been silent so long, the kernel asks whether it is there, so often, and breaks
/// the socket if nothing comes back: a peer that vanished is found although a stream may be silent.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// All sockets of one connection.
pub(super) struct Sockets {
    name: Arc<str>,
    opened_at: &'static Location<'static>,
    census: Census,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    shut: bool,
    next_number: u64,
    open: BTreeMap<u64, Arc<Slot>>,
}

type Slot = Mutex<Option<Open>>;

struct Open {
    stream: TcpStream,
    row: Row,
}

impl Sockets {
    pub(super) fn new(
        name: Arc<str>,
        census: &Census,
        opened_at: &'static Location<'static>,
    ) -> Arc<Self> {
        Arc::new(Self { name, opened_at, census: census.clone(), slots: Mutex::default() })
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.slots).open.len()
    }

    /// Closes every socket at this moment and takes no new ones.
    pub(super) fn shut(&self) {
        let open = {
            let mut slots = lock(&self.slots);
            slots.shut = true;
            std::mem::take(&mut slots.open)
        };
        let taken: Vec<Open> = open.values().filter_map(|slot| lock(slot).take()).collect();
        sabotaged!(PooledSocketKept => {
            taken.iter().for_each(|one| crate::sabotage::keep_copy(&one.stream));
        });
        drop(taken);
    }

    /// A socket to this address. Dropped before it is done, it closes.
    pub(super) async fn connect(self: &Arc<Self>, address: SocketAddr) -> io::Result<Socket> {
        let socket = self.open(begin(address)?, address)?;
        std::future::poll_fn(|cx| socket.with(|stream| stream.poll_write_ready(cx))).await?;
        socket.check_connected(address)?;
        Ok(socket)
    }

    fn open(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) -> io::Result<Socket> {
        let mut slots = lock(&self.slots);
        if slots.shut {
            return Err(closed());
        }
        let state = format!("connecting to {address}");
        let row = self.census.enter(Kind::Socket, Arc::clone(&self.name), state, self.opened_at);
        let slot = Arc::new(Mutex::new(Some(Open { stream, row })));
        let number = slots.next_number;
        slots.next_number += 1;
        slots.open.insert(number, Arc::clone(&slot));
        Ok(Socket { number, slot, sockets: Arc::clone(self) })
    }
}

/// Begins to connect. The socket is ours before the kernel sends anything.
fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => TcpStream::from_std(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// One socket. Its slot may be emptied under it; whoever reads or writes then gets an error.
pub(super) struct Socket {
    number: u64,
    slot: Arc<Slot>,
    sockets: Arc<Sockets>,
}

impl Socket {
    /// The lock is held for one operation that does not block.
    fn with<T>(
        &self,
        operate: impl FnOnce(&mut TcpStream) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *lock(&self.slot) {
            Some(open) => operate(&mut open.stream),
            None => Poll::Ready(Err(closed())),
        }
    }

    fn check_connected(&self, address: SocketAddr) -> io::Result<()> {
        let slot = lock(&self.slot);
        let open = slot.as_ref().ok_or_else(closed)?;
        if let Some(error) = open.stream.take_error()? {
            return Err(error);
        }
        open.row.set_state(format!("to {address}"));
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        lock(&self.sockets.slots).open.remove(&self.number);
        // Taken out first: the row goes after the descriptor, and neither under the lock.
        let open = lock(&self.slot).take();
        if let Some(Open { stream, row }) = open {
            drop(stream);
            drop(row);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_shutdown(cx))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection has been closed on this side")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
