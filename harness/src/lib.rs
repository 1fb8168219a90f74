//! Scupper, the leak gate for the Model Context Protocol.

pub mod cell;
pub mod cli;
pub mod gate;
pub mod ledger;
pub mod lifecycle;
pub mod peer;
pub mod plan;
pub mod probe;
pub mod report;
pub mod runner;
pub mod settle;
pub mod subject;
