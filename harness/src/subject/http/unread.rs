//! Clients that do not read, beside a request that is not answered: whom the server waits for.

use std::time::{Duration, Instant};

use super::Play;
use crate::ledger::verdict::{Failure, StepRef};
use crate::probe::socket::{self, Tcp};

/// Longest time that a server may take to be stuck.
const FLOODED: Duration = Duration::from_secs(3);
/// It is stuck when what waits for its reader stays the same for so long.
const QUIET: Duration = Duration::from_millis(250);
const GLANCE: Duration = Duration::from_millis(20);
/// Connections that are named, of many.
const NAMED: usize = 3;

impl Play<'_> {
    /// A client reads on, or has stopped reading at this step.
    pub(super) fn reads_from(&mut self, name: &str, stalled: Option<&StepRef>) {
        if let Some(client) = self.clients.get_mut(name) {
            client.stalled = stalled.cloned();
        }
    }

    /// Waits until the server has written as much of its answers as anybody takes: what is asked before
    /// that is answered by a server that is not stuck yet.
    pub(super) fn await_flooded(&mut self, name: &str) {
        let deadline = Instant::now() + FLOODED;
        let (mut last, mut since) = (None, Instant::now());
        while Instant::now() < deadline {
            let now = self.unsent(name);
            let bytes = now.as_ref().map(|stuck| stuck.iter().map(|one| one.unsent).sum::<u64>());
            if bytes != last || bytes == Some(0) {
                (last, since) = (bytes, Instant::now());
            } else if since.elapsed() >= QUIET {
                return;
            }
            self.reap();
            std::thread::sleep(GLANCE);
        }
    }

    /// Connections of the server on which it has something for this client; none where there is none
    /// at all, as it has ended or was never there.
    fn unsent(&self, name: &str) -> Option<Vec<Tcp>> {
        let life = self.life.as_ref().filter(|life| life.exit.is_none())?;
        let ports = &self.clients.get(name)?.ports;
        let mut table = socket::tcp(life.root.pid);
        table.retain(|one| {
            one.local.port() == life.endpoint.port && ports.contains(&one.remote.port())
        });
        (!table.is_empty()).then_some(table)
    }

    /// A failure, with the client beside it that does not read what the server has for it: one that
    /// holds up others is how a server comes to answer nobody.
    pub(super) fn beside_unread(&mut self, mut failure: Box<Failure>, of: &str) -> Box<Failure> {
        if self.life.as_ref().is_some_and(|life| life.exit.is_none())
            && let Some(words) = self.unread(of)
        {
            failure.message.push_str("; ");
            failure.message.push_str(&words);
        }
        failure
    }

    /// What the server has for clients that do not read, in words.
    fn unread(&self, of: &str) -> Option<String> {
        self.clients.iter().find_map(|(name, client)| {
            let since = client.stalled.as_ref()?;
            let mut stuck = self.unsent(name)?;
            stuck.retain(|one| one.unsent > 0);
            let bytes: u64 = stuck.iter().map(|one| one.unsent).sum();
            let held_up = match name == of {
                true => "its own requests".to_owned(),
                false => format!("client {of}"),
            };
            let named: Vec<String> =
                stuck.iter().take(NAMED).map(|one| one.remote.to_string()).collect();
            let more = match stuck.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            (bytes > 0).then(|| {
                format!(
                    "client {name} has read nothing since {since}, and the server is stuck with {} \
                     KiB for it ({}{more}): one client that does not read must not hold up {held_up}; \
                     give each answer a writer of its own, a bound on what waits for its reader, and a \
                     time limit",
                    bytes.div_ceil(1_024),
                    named.join(", "),
                )
            })
        })
    }
}
