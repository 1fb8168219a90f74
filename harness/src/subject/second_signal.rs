//! Where a launcher was sent a signal and both it and the server stayed: did the launcher keep the
//! signal to itself, or did the server not obey it? The server is sent it once more, directly.

use std::time::{Duration, Instant};

use super::server::Play;
use crate::cell::contain::{self, Handle};
use crate::ledger::blame::Ending;
use crate::settle::{Settled, settle};

impl Play<'_> {
    /// Whether the server stays when it is sent itself the signal that its living launcher got. Ask
    /// once everything that survives is on record: what obeys is gone afterwards.
    pub(super) fn server_is_deaf(&self, name: &str, patience: Duration) -> bool {
        let Some(connection) = self.connections.get(name) else { return false };
        let Some(Ending::Signalled(signal)) = connection.due.as_ref().map(|due| &due.ending) else {
            return false;
        };
        let signal = match *signal {
            "SIGTERM" => rustix::process::Signal::TERM,
            "SIGINT" => rustix::process::Signal::INT,
            "SIGHUP" => rustix::process::Signal::HUP,
            _ => return false,
        };
        let (Some(launcher), Some(server)) =
            (connection.roles.launchers.first(), connection.roles.server)
        else {
            return false;
        };
        if !contain::lives(*launcher) {
            return false;
        }
        let sent = Handle::open(server).is_some_and(|handle| handle.signal(signal).is_ok());
        sent && settle(Instant::now() + patience, || !contain::lives(server)) == Settled::Bound
    }
}
