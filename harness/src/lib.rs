//! Scupper, the leak gate for the Model Context Protocol: sinks connections on purpose and asks the
//! kernel what was left behind.
//!
//! Modules in the order of the data flow; start with [`lifecycle::step`]:
//!
//! 1. [`lifecycle`]: what is done to connections, as data: steps, scenario files, the built-in
//!    battery. Pure.
//! 2. [`plan`]: lifecycles and a subject into cases. Pure.
//! 3. [`runner`]: the loop: cases into cells, several at once.
//! 4. [`cell`]: the process that isolates a case, and what watches over it.
//! 5. [`subject`]: plays a lifecycle on a server, or with our core as the client.
//! 6. [`peer`]: the other side of a connection, always ours, able to misbehave.
//! 7. [`probe`]: reads /proc; what cannot be read is a value of its own.
//! 8. [`settle`]: waits until quiet, bounded.
//! 9. [`ledger`]: what was born and died, what grew, and whose fault it is. Pure.
//! 10. [`report`]: events and verdicts into text and files; the only one that prints.
//! 11. [`gate`]: expectations, baselines, thresholds and exit codes. Pure.
//! 12. [`cli`]: the command line.
//!
//! Linux only.

#[macro_use]
mod spelled;

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
