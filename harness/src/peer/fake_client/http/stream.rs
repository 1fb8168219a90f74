//! The stream of a session's events, read by a thread of its own until it is closed.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long it is waited before the stream is opened again.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is opened again.
const ATTEMPTS: u32 = 2;
/// How long the server may take to say that the stream is open.
const OPENED: Duration = Duration::from_secs(5);
/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(5);

/// A stream; closed when it is dropped.
pub(super) struct Stream {
    now: Arc<Now>,
    reader: Option<JoinHandle<()>>,
}

/// What the reader and whoever closes the stream share.
struct Now {
    closed: AtomicBool,
    socket: Mutex<TcpStream>,
}

impl Stream {
    /// Opens it, and goes on when the server has said so: else what the client does next could reach
    /// the server before. One that hurries is opened again at once whenever it ends, until the client is
    /// told to end.
    pub(super) fn open(
        address: SocketAddr,
        request: Vec<u8>,
        session: &str,
        hurries: bool,
        told_to_end: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let socket = connect(address, &request)?;
        await_head(&socket, &told_to_end)?;
        let now = Arc::new(Now { closed: AtomicBool::new(false), socket: Mutex::new(socket) });
        let shared = Arc::clone(&now);
        let read = move || {
            let mut attempts = 0;
            loop {
                shared.drain();
                let over =
                    || shared.is_closed() || (hurries && told_to_end.load(Ordering::Relaxed));
                attempts += 1;
                if !hurries && (attempts > ATTEMPTS || !pause(&over)) {
                    return;
                }
                if over() {
                    return;
                }
                let Ok(socket) = connect(address, &request) else {
                    if hurries {
                        thread::sleep(LOOK);
                        continue;
                    }
                    return;
                };
                shared.put(socket);
            }
        };
        let reader = thread::Builder::new().name(session.to_owned()).spawn(read)?;
        Ok(Self { now, reader: Some(reader) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.now.close();
        if let Some(reader) = self.reader.take() {
            // It has nothing left to read.
            let _ = reader.join();
        }
    }
}

impl Now {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // Wakes the reader. One that has ended already needs no end.
        let _ = socket.shutdown(Shutdown::Both);
    }

    /// In place of the one that has ended.
    fn put(&self, socket: TcpStream) {
        let mut now = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        *now = socket;
    }

    /// Reads to the end.
    fn drain(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).try_clone();
        let Ok(mut socket) = socket else { return };
        let mut buffer = [0; 4096];
        while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

fn connect(address: SocketAddr, request: &[u8]) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&address, CONNECT)?;
    socket.write_all(request)?;
    Ok(socket)
}

/// Waits before another attempt; false where it is over before that.
fn pause(over: &impl Fn() -> bool) -> bool {
    let end = Instant::now() + RETRY;
    while Instant::now() < end {
        if over() {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

/// Waits until the server has begun to answer, has closed, or the client is to end.
fn await_head(socket: &TcpStream, told_to_end: &AtomicBool) -> io::Result<()> {
    socket.set_read_timeout(Some(LOOK))?;
    let deadline = Instant::now() + OPENED;
    while !told_to_end.load(Ordering::Relaxed) && Instant::now() < deadline {
        match socket.peek(&mut [0]) {
            Err(error) if is_early(&error) => {}
            // What the answer is, the reader does not ask either.
            _ => break,
        }
    }
    socket.set_read_timeout(None)
}

fn is_early(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
