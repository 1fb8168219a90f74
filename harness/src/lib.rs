//! Scupper, the leak gate for the Model Context Protocol.

pub mod gate;
pub mod ledger;
pub mod lifecycle;
pub mod peer;
pub mod probe;
pub mod report;
