//! Faults of a server that grows with every call: descriptors, threads, files, and all at once.

use std::{
    fs::{self, File},
    io::{self, Write},
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

/// Opens a descriptor at each call and keeps it. The twin closes it.
pub(super) struct FdPerCall {
    fixed: bool,
    leaked: Vec<OwnedFd>,
}

impl FdPerCall {
    pub(super) fn new(fixed: bool) -> Self {
        Self { fixed, leaked: Vec::new() }
    }
}

impl Fault for FdPerCall {
    fn on_call(&mut self, _nth: u64) -> io::Result<()> {
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
