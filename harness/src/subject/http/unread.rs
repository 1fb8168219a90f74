//! Clients that do not read, beside a request that is not answered: whom the server waits for.

use super::Play;
use crate::ledger::verdict::{Failure, StepRef};
use crate::probe::socket::{self, Tcp};

/// Connections that are named, of many.
const NAMED: usize = 3;

impl Play<'_> {
    /// A client reads on, or has stopped reading at this step.
    pub(super) fn reads_from(&mut self, name: &str, stalled: Option<&StepRef>) {
        if let Some(client) = self.clients.get_mut(name) {
            client.stalled = stalled.cloned();
        }
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
        let life = self.life.as_ref()?;
        let port = life.endpoint.port;
        let table = socket::tcp(life.root.pid);
        self.clients.iter().find_map(|(name, client)| {
            let since = client.stalled.as_ref()?;
            let stuck: Vec<&Tcp> = table
                .iter()
                .filter(|one| one.local.port() == port && one.unsent > 0)
                .filter(|one| client.ports.contains(&one.remote.port()))
                .collect();
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
