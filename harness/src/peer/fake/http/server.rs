//! The server: it listens, lets connections in, sweeps what is idle, and ends when it is told to.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{channel::Channel, connection, fault::Fault, session::Sessions, signals::Signals};

/// Most connections at once.
const CONNECTIONS: usize = 1024;
/// How long streams may take to be ended in order before the server exits over them.
const GRACE: Duration = Duration::from_millis(250);
/// Longest wait for a signal alone.
const LIFE: Duration = Duration::from_secs(600);
/// Pause after a connection that could not be taken, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(10);

/// Which transport is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// One endpoint for everything.
    Streamable,
    /// The older pair: a stream at `/sse`, and `/messages` to write to.
    Pair,
}

/// What the options of a fake say of the server below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Which transport.
    pub(super) transport: Transport,
    /// After how long an idle session is gone; for ever stays none.
    pub(super) ttl: Option<Duration>,
    /// Longest pause in the middle of a request.
    pub(super) read_timeout: Option<Duration>,
}

/// Everything that connections share.
pub(super) struct Server {
    /// What is wrong with it.
    pub(super) fault: Box<dyn Fault>,
    /// How it was set.
    pub(super) settings: Settings,
    /// Its sessions.
    pub(super) sessions: Sessions,
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    calls: usize,
    streams: Vec<Arc<Channel>>,
}

/// Serves until a signal ends it, and gives the exit code. Threads may still be at work.
pub(super) fn listen(fault: Box<dyn Fault>, settings: Settings, port: u16) -> io::Result<u8> {
    let signals = Signals::take()?;
    if !fault.listens() {
        signals.within(LIFE)?;
        return Ok(0);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, fault.port(port)))?;
    let path = match settings.transport {
        Transport::Streamable => fault.path(),
        Transport::Pair => "/sse",
    };
    fault.on_start(&listener)?;
    writeln!(io::stdout(), "http://{}{path}", listener.local_addr()?)?;
    let ttl = settings.ttl.filter(|_| fault.expires());
    let settings = Settings { ttl, ..settings };
    let counts = Mutex::default();
    let sessions = Sessions::default();
    let changed = Condvar::new();
    let server = Arc::new(Server { fault, settings, sessions, counts, changed });
    // A thread that waits in accept(2) holds a number for a descriptor that there is not yet, and a
    // look at this process would never be whole.
    listener.set_nonblocking(true)?;
    loop {
        let mut fds = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        let pause = server.until_sweep();
        rustix::io::retry_on_intr(|| poll(&mut fds, pause.as_ref()))?;
        let called = !fds[0].revents().is_empty();
        while signals.next() {
            if let Some(code) = server.fault.on_signal(&server, &signals)? {
                return Ok(code);
            }
        }
        server.sweep();
        if called {
            admit(&server, &listener);
        }
    }
}

/// Lets one connection in.
fn admit(server: &Arc<Server>, listener: &TcpListener) {
    let socket = match listener.accept() {
        Ok((socket, _)) => socket,
        // A connection that was gone before it was taken is none.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
        Err(_) => return thread::sleep(PAUSE),
    };
    let mut counts = server.lock();
    if counts.connections >= CONNECTIONS {
        return;
    }
    counts.connections += 1;
    drop(counts);
    let shared = Arc::clone(server);
    let converse = move || {
        // Whatever went wrong went wrong for this client alone.
        let _ = socket.set_nonblocking(false).and_then(|()| connection::converse(socket, &shared));
        shared.lock().connections -= 1;
    };
    if thread::Builder::new().name("connection".into()).spawn(converse).is_err() {
        server.lock().connections -= 1;
    }
}

impl Server {
    /// Ends every session and every stream, and waits a moment for the streams to end in order.
    pub(super) fn close(&self) {
        for equipment in self.sessions.clear() {
            self.fault.end(equipment);
        }
        let counts = self.lock();
        for stream in &counts.streams {
            stream.end();
        }
        let open = |counts: &mut Counts| !counts.streams.is_empty();
        drop(self.changed.wait_timeout_while(counts, GRACE, open));
    }

    /// Waits until no stream is open.
    pub(super) fn wait_for_streams(&self) {
        drop(self.changed.wait_while(self.lock(), |counts| !counts.streams.is_empty()));
    }

    /// Whether a call is worked on.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().calls > 0
    }

    /// Counts a call as long as what it gives lives.
    pub(super) fn count_call(self: &Arc<Self>) -> CountedCall {
        self.lock().calls += 1;
        CountedCall(Arc::clone(self))
    }

    /// Counts a stream as long as what it gives lives.
    pub(super) fn count_stream(self: &Arc<Self>, channel: &Arc<Channel>) -> CountedStream {
        self.lock().streams.push(Arc::clone(channel));
        CountedStream(Arc::clone(self), Arc::clone(channel))
    }

    fn sweep(&self) {
        for equipment in self.settings.ttl.into_iter().flat_map(|ttl| self.sessions.sweep(ttl)) {
            self.fault.end(equipment);
        }
    }

    /// How long nothing is to be swept. What becomes idle meanwhile stays longer than that.
    fn until_sweep(&self) -> Option<Timespec> {
        let ttl = self.settings.ttl?;
        let end = self.sessions.next_sweep(ttl);
        let left = end.map_or(ttl, |end| end.saturating_duration_since(Instant::now())).min(ttl);
        // Rounded up: a wait that ends too early would be begun again at once.
        let left = left + Duration::from_millis(1);
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Every change is one step, so that a holder that panicked leaves it right.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is worked on.
pub(super) struct CountedCall(Arc<Server>);

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.0.lock().calls -= 1;
        self.0.changed.notify_all();
    }
}

/// A stream that is open.
pub(super) struct CountedStream(Arc<Server>, Arc<Channel>);

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.lock().streams.retain(|one| !Arc::ptr_eq(one, &self.1));
        self.0.changed.notify_all();
    }
}
