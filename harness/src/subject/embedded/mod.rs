//! Plays a lifecycle on a host or a service inside the cell's own process, and looks at that process
//! after every step: descriptors, children, threads, tasks, and what is kept in books: sessions,
//! cursors, entries.
//!
//! - `seam`: what a host and a service are to the engine; our core is one, and so is each stand-in.
//! - `stage`: the runtime, the looks, and what should be gone by now.
//! - `host`, `service`: the steps of either.
//! - `peers`: the other sides, processes that were there before the first look.
//! - `leaky`: stand-ins for software as five field reports found it.
//! - `ours`: the core.

mod host;
mod leaky;
mod ours;
mod peers;
mod seam;
mod service;
mod stage;

pub(super) use ours::census::CensusBooks;
pub(super) use seam::Books;

/// Becomes the guard of a host that is played here, where this process was started as one, and
/// returns in every other. To be called before anything else is done with the arguments.
pub fn guard_if_asked() {
    ours::guard_if_asked();
}

use std::io;

use rustix::process::{Pid, set_child_subreaper};

use super::server::Played;
use crate::cell::contain;
use crate::cell::protocol::{CaseOrder, Role, SubjectOrder};
use crate::subject::core::merge;

/// Plays the lifecycle; a host's in both topologies, as those of the core itself are.
pub fn play(order: &CaseOrder) -> io::Result<Played> {
    let SubjectOrder::Embedded { role, name, options, program } = &order.subject else {
        return Err(io::Error::other("the order is not for a host or a service"));
    };
    let mut played = Played::default();
    match role {
        Role::Host => {
            for subreaper in [true, false] {
                let holder = subreaper.then(|| Pid::from_raw(contain::own_pid())).flatten();
                set_child_subreaper(holder)?;
                merge(&mut played, host::play(order, name, options, program)?);
            }
            set_child_subreaper(Pid::from_raw(contain::own_pid()))?;
        }
        Role::Service => played = service::play(order, name, options, program)?,
    }
    Ok(played)
}
