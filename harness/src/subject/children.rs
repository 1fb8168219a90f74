//! Children of the judged process, beside what was said of them: whether its own books list them, and
//! whether they hold what they were not to inherit. Either is wrong the moment that it is seen, and
//! may be over when the connection ends, so nothing that waits for an end would find it.

use std::collections::BTreeSet;

use crate::ledger::snapshot::{Facts, Identity, Kind, ProcessFacts, ProcessId, Snapshot};
use crate::probe::inherited::inherited;

/// The registry that a child is missing from, in the words of a finding.
const MISSING: &str = "the children that the census does not list";

/// What is wrong with children, each told once.
#[derive(Debug, Default)]
pub(super) struct Children {
    begun: bool,
    asked: BTreeSet<ProcessId>,
    unlisted: BTreeSet<ProcessId>,
}

impl Children {
    /// What is wrong with the children in this snapshot of the process `me` that was not told before.
    /// `listed` are those that its books have, where it keeps such books.
    ///
    /// # Errors
    /// In words, which child could not be looked at.
    pub(super) fn look(
        &mut self,
        me: i32,
        snapshot: &Snapshot,
        listed: Option<&BTreeSet<i32>>,
    ) -> Result<Vec<(Kind, Identity)>, String> {
        let mut wrong = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            // Who is there at the first look is not this life's.
            self.unlisted.extend(snapshot.processes().map(|(id, _)| id));
            self.asked.extend(self.unlisted.iter());
            return Ok(wrong);
        }
        for (id, facts) in snapshot.processes().filter(|(id, facts)| is_started_by(me, *id, facts))
        {
            if listed.is_some_and(|listed| !listed.contains(&id.pid)) && self.unlisted.insert(id) {
                let key = format!("pid {} ({})", id.pid, facts.name);
                let identity = Identity::Entry { registry: MISSING.to_owned(), key };
                wrong.push((Kind::Entry, identity));
            }
            // What it did not inherit at birth it does not inherit later.
            if !facts.is_zombie() && self.asked.insert(id) {
                let own = snapshot.things.iter().filter_map(|(identity, facts)| match facts {
                    Facts::Fd { write_end } if identity.owner()?.pid == me => {
                        Some((identity, *write_end))
                    }
                    _ => None,
                });
                let held = inherited(id, own)?;
                wrong.extend(held.into_iter().map(|identity| (Kind::Fd, identity)));
            }
        }
        Ok(wrong)
    }
}

/// A child that the process started itself: hosts start servers as leaders of groups, and an orphan
/// that came to it had left its group for a session of its own, or is in the group of another.
fn is_started_by(me: i32, id: ProcessId, facts: &ProcessFacts) -> bool {
    facts.parent == me && facts.group == id.pid && facts.session != id.pid
}
