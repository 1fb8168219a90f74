//! The core's census as books: what it lists after an end is kept, whatever the kernel says.

use std::collections::BTreeSet;

use scupper_core::census::{Census, Entry, Kind};

use super::super::seam::Books;
use crate::ledger::snapshot::{Facts, Identity};

/// The census of a host or a service of this name.
pub(in crate::subject) struct CensusBooks {
    pub(in crate::subject) census: Census,
    /// Such as `host main`.
    pub(in crate::subject) keeper: String,
}

impl Books for CensusBooks {
    fn kept(&self) -> Vec<(Identity, Facts)> {
        self.census.rows().iter().map(|row| self.thing(row)).collect()
    }

    fn children(&self) -> Option<BTreeSet<i32>> {
        let rows = self.census.rows();
        Some(rows.iter().filter_map(pid_of).collect())
    }
}

impl CensusBooks {
    fn thing(&self, row: &Entry) -> (Identity, Facts) {
        let id = format!("{} ({})", row.name, row.number);
        let keeper = &self.keeper;
        let identity = match row.kind {
            Kind::Session => Identity::Session { keeper: keeper.clone(), id },
            Kind::Cursor => Identity::Cursor { store: format!("the census of {keeper}"), id },
            kind => {
                Identity::Entry { registry: format!("the census of {keeper}, {kind}"), key: id }
            }
        };
        let opened_at = Some(format!("{}:{}", row.opened_at.file(), row.opened_at.line()));
        (identity, Facts::Kept { words: row.state.to_string(), opened_at })
    }
}

/// The pid of a process, of which the row tells `pid PID@START STATE`.
fn pid_of(row: &Entry) -> Option<i32> {
    let words = (row.kind == Kind::Process).then(|| row.state.strip_prefix("pid "))??;
    words.split_once('@')?.0.parse().ok()
}
