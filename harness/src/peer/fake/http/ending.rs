//! Faults of how a server ends when it is told to.

use std::{
    io,
    net::TcpListener,
    process::Child,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::{
    super::helper::{self, Tie, Until, linger},
    fault::Fault,
    keeping::lifeline,
    server::Server,
    signals::Signals,
};

/// Takes no notice of SIGTERM and SIGINT.
pub(super) struct IgnoresTerm;

impl Fault for IgnoresTerm {
    fn on_signal(&self, _server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        Ok(None)
    }
}

/// Waits for every open stream to be closed by its client before it exits, as a graceful shutdown
/// does that nobody told of streams.
pub(super) struct WaitsForStreams;

impl Fault for WaitsForStreams {
    fn on_signal(&self, server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        server.wait_for_streams();
        server.close();
        Ok(Some(0))
    }
}

/// Waits for ever when a call is in flight, however soon that would be done.
pub(super) struct BusyAtTerm;

impl Fault for BusyAtTerm {
    fn on_signal(&self, server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        if server.is_busy() {
            linger();
        }
        server.close();
        Ok(Some(0))
    }
}

/// Takes its time to end, and hangs when it is told a second time meanwhile.
pub(super) struct SecondSignalHangs {
    /// How long it takes.
    pub(super) drain: Duration,
    /// Clean twin?
    pub(super) fixed: bool,
}

impl Fault for SecondSignalHangs {
    fn on_signal(&self, server: &Server, signals: &Signals) -> io::Result<Option<u8>> {
        // The twin does not take longer than it needs because it was told again.
        if signals.within(self.drain)? && !self.fixed {
            linger();
        }
        server.close();
        Ok(Some(0))
    }
}

/// Takes its time to end.
pub(super) struct SlowExit {
    /// How long.
    pub(super) delay: Duration,
}

impl Fault for SlowExit {
    fn on_signal(&self, server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        // The wait is the misbehaviour itself, not a wait for anything.
        thread::sleep(self.delay);
        server.close();
        Ok(Some(0))
    }
}

/// Starts a helper in a session of its own that has the listening socket, so that nobody else can
/// listen on the port when the server has gone. The twin's helper has it not, and ends with the
/// server.
pub(super) struct HelperKeepsPort {
    fixed: bool,
    helper: Mutex<Option<Child>>,
}

impl HelperKeepsPort {
    pub(super) fn new(fixed: bool) -> Self {
        Self { fixed, helper: Mutex::new(None) }
    }
}

impl Fault for HelperKeepsPort {
    fn on_start(&self, listener: &TcpListener) -> io::Result<()> {
        let helper = if self.fixed {
            helper::spawn(Tie::OwnSession, Until::ServerEnds(lifeline()?))?
        } else {
            helper::spawn_with(listener.try_clone()?.into())?
        };
        *self.helper.lock().unwrap_or_else(PoisonError::into_inner) = Some(helper);
        Ok(())
    }

    fn on_signal(&self, server: &Server, _signals: &Signals) -> io::Result<Option<u8>> {
        let helper = self.helper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.fixed {
            helper.map(helper::end).transpose()?;
        }
        server.close();
        Ok(Some(0))
    }
}
