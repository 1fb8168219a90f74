//! Faults of a server that grows with its calls: descriptors, memory, threads, files, and all at
//! once.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    ops::ControlFlow::{Break, Continue},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    thread,
};

use super::{
    helper::linger,
    server::{Fault, Flow, Output},
    sleep::Sleeps,
};

/// Opens one descriptor whose identity no other ever has: a socket, by its inode number.
fn open_socket() -> io::Result<OwnedFd> {
    Ok(UnixDatagram::unbound()?.into())
}

/// Takes something at each call, or at every so many calls, and keeps it. The twin lets go of it.
pub(super) struct KeepsPerCall<T> {
    fixed: bool,
    every: u64,
    take: Box<dyn Fn() -> io::Result<T>>,
    kept: Vec<T>,
}

impl<T> KeepsPerCall<T> {
    fn new(fixed: bool, every: u64, take: impl Fn() -> io::Result<T> + 'static) -> Self {
        Self { fixed, every, take: Box::new(take), kept: Vec::new() }
    }
}

impl KeepsPerCall<OwnedFd> {
    /// A descriptor.
    pub(super) fn fd(fixed: bool) -> Self {
        Self::new(fixed, 1, open_socket)
    }

    /// A descriptor, once in ten calls: somebody who looks at two calls sees nothing.
    pub(super) fn every_tenth(fixed: bool) -> Self {
        Self::new(fixed, 10, open_socket)
    }
}

impl KeepsPerCall<TcpListener> {
    /// A socket that listens on a port of the loopback interface.
    pub(super) fn listener(fixed: bool) -> Self {
        Self::new(fixed, 1, || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl KeepsPerCall<Vec<u8>> {
    /// So much memory, every page of it written to: what was never touched takes no room.
    pub(super) fn memory(fixed: bool, kib: u16) -> Self {
        Self::new(fixed, 1, move || Ok(black_box(vec![1; usize::from(kib) * 1024])))
    }
}

impl<T> Fault for KeepsPerCall<T> {
    fn on_call(&mut self, nth: u64) -> io::Result<()> {
        if nth.is_multiple_of(self.every) {
            let taken = (self.take)()?;
            if !self.fixed {
                self.kept.push(taken);
            }
        }
        Ok(())
    }
}

/// Keeps a descriptor for each call that is cancelled while it is worked on. The twin closes it.
pub(super) struct LeaksOnCancel {
    fixed: bool,
    leaked: Vec<OwnedFd>,
}

impl LeaksOnCancel {
    pub(super) fn new(fixed: bool) -> Self {
        Self { fixed, leaked: Vec::new() }
    }
}

impl Fault for LeaksOnCancel {
    fn on_cancel(&mut self) -> io::Result<()> {
        let socket = open_socket()?;
        if !self.fixed {
            self.leaked.push(socket);
        }
        Ok(())
    }
}

/// Closes one descriptor of a pool at each call and keeps another instead, so that their number
/// never changes while the pool lasts. The twin puts the pool's descriptor back.
pub(super) struct FdSwap {
    fixed: bool,
    pool: Vec<OwnedFd>,
    leaked: Vec<OwnedFd>,
}

impl FdSwap {
    /// Calls until the number of descriptors grows after all.
    const POOL: usize = 64;

    pub(super) fn new(fixed: bool) -> Self {
        Self { fixed, pool: Vec::new(), leaked: Vec::new() }
    }

    fn open_pooled() -> io::Result<OwnedFd> {
        Ok(File::open("/dev/null")?.into())
    }
}

impl Fault for FdSwap {
    fn on_start(&mut self, _out: &Output) -> io::Result<Flow> {
        self.pool = (0..Self::POOL).map(|_| Self::open_pooled()).collect::<io::Result<_>>()?;
        Ok(Continue(()))
    }

    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
        // Closed first, so that the socket takes over its number.
        let from_pool = self.pool.pop().is_some();
        let socket = open_socket()?;
        if !self.fixed {
            self.leaked.push(socket);
        } else if from_pool {
            drop(socket);
            self.pool.push(Self::open_pooled()?);
        }
        Ok(())
    }
}

/// Starts a thread at each call that never ends. The twin waits for its end.
pub(super) struct ThreadPerCall {
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for ThreadPerCall {
    fn on_call(&mut self, nth: u64) -> io::Result<()> {
        // Linux shows the first 15 bytes of a thread's name.
        let thread = thread::Builder::new().name(format!("call-{nth}"));
        if self.fixed {
            thread.spawn(|| {})?.join().expect("a thread that does nothing does not panic");
        } else {
            thread.spawn(linger)?;
        }
        Ok(())
    }
}

/// Writes a file under TMPDIR at each call and leaves it. The twin removes it.
pub(super) struct TempfilePerCall {
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for TempfilePerCall {
    fn on_call(&mut self, nth: u64) -> io::Result<()> {
        let name = format!("scupper-fake-{}-{nth}", std::process::id());
        let path = std::env::temp_dir().join(name);
        File::create_new(&path)?.write_all(b"scratch of one call\n")?;
        if self.fixed {
            fs::remove_file(&path)?;
        }
        Ok(())
    }
}

/// Several faults in one life.
pub(super) struct Together(pub(super) Vec<Box<dyn Fault>>);

impl Fault for Together {
    fn on_start(&mut self, out: &Output) -> io::Result<Flow> {
        for fault in &mut self.0 {
            if let Break(code) = fault.on_start(out)? {
                return Ok(Break(code));
            }
        }
        Ok(Continue(()))
    }

    fn on_call(&mut self, nth: u64) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|fault| fault.on_call(nth))
    }

    fn on_eof(&mut self, sleeps: &Sleeps) -> u8 {
        self.0.iter_mut().map(|fault| fault.on_eof(sleeps)).max().unwrap_or(0)
    }
}
