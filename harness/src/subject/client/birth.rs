//! What a server was born with: three streams, and nothing else of its client's.

use std::time::Duration;

use super::Play;
use super::judge::Thing;
use crate::ledger::abandoned;
use crate::ledger::snapshot::{Facts, FdKind, Identity, Kind, ProcessId};
use crate::ledger::verdict::StepRef;
use crate::probe::holder;

/// How long the search for holders of one descriptor may take.
const HOLDERS_BUDGET: Duration = Duration::from_secs(1);
/// Most descriptors that are told one by one.
const TOLD_ONE_BY_ONE: usize = 5;

impl Play<'_> {
    /// What a server was born with beyond its three streams.
    pub(super) fn judge_birth(
        &mut self,
        step: &StepRef,
        id: Option<ProcessId>,
        number: usize,
        inherited: &[i32],
    ) {
        let (Some(id), false) = (id, inherited.is_empty()) else { return };
        let things = &self.ledger.last().things;
        let is_inherited = |thing: &&Identity| {
            matches!(thing, Identity::Fd { owner, number, .. }
                if *owner == id && inherited.contains(number))
        };
        let identities: Vec<Identity> = things.keys().filter(is_inherited).cloned().collect();
        // A client that starts the same server again and again leaks the same each time.
        let known = self
            .played
            .findings
            .iter()
            .any(|finding| finding.kind == Kind::Fd && finding.birth_step.name == step.name);
        let Some(first) = identities.first() else { return };
        if known {
            return;
        }
        let mut evidence: Vec<String> =
            identities.iter().take(TOLD_ONE_BY_ONE).map(|one| self.descriptor_words(one)).collect();
        if let Some(more @ 1..) = identities.len().checked_sub(TOLD_ONE_BY_ONE) {
            evidence.push(format!("and {more} more"));
        }
        let name = self.name_of(number);
        let what = match identities.len() {
            1 => format!("a descriptor of the client's in {name}, pid {}", id.pid),
            many => format!("{many} descriptors of the client's in {name}, pid {}", id.pid),
        };
        let holders = holder::holders(first, HOLDERS_BUDGET);
        let thing = Thing {
            kind: Kind::Fd,
            what,
            birth: step.clone(),
            due: step,
            evidence,
            holders,
            identities,
        };
        self.played.findings.push(thing.found(abandoned::inherited()));
    }

    /// A descriptor in words; the end of another server's stream by that name.
    fn descriptor_words(&self, identity: &Identity) -> String {
        let Identity::Fd { number, target, inode, kind, .. } = identity else {
            return String::new();
        };
        let facts = self.ledger.last().things.get(identity);
        let end = match (kind, facts) {
            (FdKind::Pipe, Some(Facts::Fd { writable: true, .. })) => "the write end of ",
            (FdKind::Pipe, _) => "the read end of ",
            _ => "",
        };
        let of = self.servers.iter().rev().find(|server| server.stdin == Some(*inode));
        let of = of.map(|server| {
            let pid = server.id.map(|id| format!(", pid {}", id.pid)).unwrap_or_default();
            format!(", the stdin of {}{pid}", self.name_of(server.number))
        });
        format!("fd {number} is {end}{target}{}", of.unwrap_or_default())
    }
}
