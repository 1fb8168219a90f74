//! What a server was born with: three streams, and nothing else of its client's.

use std::time::{Duration, Instant};

use super::Play;
use super::judge::Thing;
use crate::ledger::abandoned;
use crate::ledger::snapshot::{Facts, FdKind, Identity, Kind, ProcessId};
use crate::ledger::verdict::StepRef;
use crate::probe::holder::{self, Holders};

/// How long the search for holders of all of them may take.
const HOLDERS_BUDGET: Duration = Duration::from_secs(1);
/// Most descriptors that are told one by one.
const TOLD_ONE_BY_ONE: usize = 20;
/// Most others that are told of each.
const TOLD_HOLDERS: usize = 3;

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
        let deadline = Instant::now() + HOLDERS_BUDGET;
        let holders_of = |one: &Identity| {
            holder::holders(one, deadline.saturating_duration_since(Instant::now()))
        };
        let holders = holders_of(first);
        // The first one's are told with the finding.
        let others = identities.iter().skip(1).map(|one| also_held(&holders_of(one)));
        let mut evidence: Vec<String> = identities
            .iter()
            .zip(std::iter::once(String::new()).chain(others))
            .take(TOLD_ONE_BY_ONE)
            .map(|(one, held)| self.descriptor_words(one) + &held)
            .collect();
        if let Some(more @ 1..) = identities.len().checked_sub(TOLD_ONE_BY_ONE) {
            evidence.push(format!("and {more} more"));
        }
        let name = self.name_of(number);
        let what = match identities.len() {
            1 => format!("a descriptor of the client's in {name}, pid {}", id.pid),
            many => format!("{many} descriptors of the client's in {name}, pid {}", id.pid),
        };
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
            (FdKind::Pipe, Some(Facts::Fd { write_end: true })) => "the write end of ",
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

/// Who else has a descriptor, or the other end of it.
fn also_held(found: &Holders) -> String {
    if found.holders.is_empty() {
        return String::new();
    }
    let told = found.holders.iter().take(TOLD_HOLDERS);
    let mut told: Vec<String> =
        told.map(|one| format!("pid {} ({}), {}", one.pid, one.command, one.holds)).collect();
    if let Some(more @ 1..) = found.holders.len().checked_sub(TOLD_HOLDERS) {
        told.push(format!("{more} more"));
    }
    format!("; also of {}", told.join("; "))
}
