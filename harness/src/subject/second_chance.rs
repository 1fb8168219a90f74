//! What survived a signal, once its stdin has ended as well.
//!
//! After SIGTERM a client is done with its server: what lives on is a leak, also where stdin is still
//! open. But to know that it waits for stdin, and not for ever, is half of the repair.

use std::time::{Duration, Instant};

use super::server::{Play, millis};
use crate::ledger::blame::Ending;
use crate::ledger::snapshot::Identity;
use crate::ledger::verdict::Finding;
use crate::lifecycle::step::Stream;
use crate::peer::control::Command;
use crate::settle::{Settled, settle};

/// Longest time that is waited for an end after the end of stdin.
const CHANCE: Duration = Duration::from_secs(2);

impl Play<'_> {
    /// Ends the stdin that survivors of a signal may be waiting for, and adds to their findings
    /// what comes of it.
    pub(super) fn try_end_of_stdin(&mut self, name: &str, findings: &mut [Finding]) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        let signalled =
            connection.due.as_ref().is_some_and(|due| matches!(due.ending, Ending::Signalled(_)));
        if !signalled || findings.is_empty() {
            return;
        }
        connection.link.send(&Command::Close { stream: Stream::Stdin });
        let began = Instant::now();
        let names = [name.to_owned()];
        let mut ended: Vec<Option<f64>> = vec![None; findings.len()];
        let settled = settle(began + CHANCE, || {
            let alive = self.alive(&names);
            for (finding, ended) in findings.iter().zip(&mut ended) {
                let lives = finding.identities.iter().any(|identity| {
                    matches!(identity, Identity::Process(id)
                        if alive.get(id).is_some_and(|facts| !facts.is_zombie()))
                });
                *ended = if lives { None } else { ended.or(Some(millis(began.elapsed()))) };
            }
            ended.iter().all(Option::is_some)
        });
        for (finding, ended) in findings.iter_mut().zip(ended) {
            finding.evidence.push(match ended {
                Some(ms) => format!("ended {ms:.0} ms after stdin was closed, too"),
                None if settled == Settled::Bound => {
                    format!("still alive {} s after stdin was closed, too", CHANCE.as_secs())
                }
                None => continue,
            });
        }
    }
}
