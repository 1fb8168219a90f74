//! The core's census as books: what it lists after an end is kept, whatever the kernel says.

use scupper_core::census::{Census, Entry, Kind};

use super::super::seam::Books;
use crate::ledger::snapshot::{Facts, Identity};

/// The census of a host or a service of this name.
pub(super) struct CensusBooks {
    pub(super) census: Census,
    /// Such as `host main`.
    pub(super) keeper: String,
}

impl Books for CensusBooks {
    fn kept(&self) -> Vec<(Identity, Facts)> {
        self.census.rows().iter().map(|row| self.thing(row)).collect()
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
