//! Every kind of leak in one server, for the run's own proof.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    sync::Arc,
};

use super::{
    super::{
        helper::{self, Tie, Until},
        options::{FakeError, Settings},
    },
    fault::{Equipment, Fault},
    keeping::{SessionChild, SessionFile, SessionThread, dead_child, lifeline},
};

/// Takes a descriptor, a thread, a child, a zombie and a file for each session and keeps them, goes on
/// answering in a session that was deleted, and leaves a helper. The twin takes the same, and lets go.
pub(super) struct Canary {
    fixed: bool,
}

/// What one session takes.
struct Taken {
    _fd: OwnedFd,
    _thread: SessionThread,
    _child: SessionChild,
    _file: SessionFile,
}

impl Equipment for Taken {}

impl Canary {
    pub(super) fn build(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self { fixed: settings.fixed() }))
    }
}

impl Fault for Canary {
    fn on_start(&self, _listener: &TcpListener) -> io::Result<()> {
        lifeline()?;
        if !self.fixed {
            helper::spawn(Tie::OwnSession, Until::Killed)?;
        }
        Ok(())
    }

    fn begin(&self, nth: u64, _socket: &Arc<TcpStream>) -> io::Result<Arc<dyn Equipment>> {
        dead_child(self.fixed)?;
        Ok(Arc::new(Taken {
            _fd: UnixDatagram::unbound()?.into(),
            _thread: SessionThread::start(nth)?,
            _child: SessionChild::start()?,
            _file: SessionFile::create(nth)?,
        }))
    }

    fn end(&self, equipment: Arc<dyn Equipment>) {
        if !self.fixed {
            std::mem::forget(equipment);
        }
    }

    fn deletes(&self) -> bool {
        self.fixed
    }
}
