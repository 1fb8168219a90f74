//! Faults of a server that works for a call: which goes on, or stops, when it should not. The work
//! is a process, so that whoever looks from outside sees it.

use std::{io, net::TcpListener, process::Child};

use super::{
    super::{
        helper::{self, Tie, Until},
        options::{FakeError, Settings},
    },
    fault::Fault,
    keeping::lifeline,
};
use crate::lifecycle::step::Era;

/// Starts a process for each call of `sleep`, which ends with the call.
pub(super) struct Works {
    /// The process goes on after a cancellation, until the server ends.
    runs_on: bool,
    /// In both eras.
    stops_on_disconnect: bool,
}

impl Works {
    /// The work of a cancelled call goes on; with the older era's rule for a closed stream, or with
    /// that of the newer, in which closing it cancels. The twin ends it.
    pub(super) fn runs_on(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self { runs_on: !settings.fixed(), stops_on_disconnect: false }))
    }

    /// A client that loses its connection loses its call in the older era too. The twin works on.
    pub(super) fn stops(settings: &Settings) -> Result<Box<dyn Fault>, FakeError> {
        Ok(Box::new(Self { runs_on: false, stops_on_disconnect: !settings.fixed() }))
    }
}

impl Fault for Works {
    fn on_start(&self, _listener: &TcpListener) -> io::Result<()> {
        // Before the first call, so that no call leaves more than it found.
        lifeline().map(drop)
    }

    fn worker(&self) -> io::Result<Option<Child>> {
        helper::spawn(Tie::Group, Until::ServerEnds(lifeline()?)).map(Some)
    }

    fn on_cancel(&self, worker: Option<Child>) -> io::Result<()> {
        if self.runs_on {
            // Not reaped on drop, and not ended either.
            drop(worker);
            return Ok(());
        }
        worker.map_or(Ok(()), |child| helper::end(child).map(drop))
    }

    fn stops_on_disconnect(&self, era: Era) -> bool {
        self.stops_on_disconnect || era == Era::Modern
    }
}
