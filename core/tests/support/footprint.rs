//! What a process holds, as the kernel tells it.

use std::{collections::BTreeMap, path::PathBuf};

use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, waitid},
};

/// Everything that must be the same after each cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Each descriptor with what it is.
    pub(crate) descriptors: BTreeMap<i32, PathBuf>,
    /// The numbers of all threads.
    pub(crate) threads: Vec<i32>,
    /// Tasks of the runtime that have not ended.
    pub(crate) tasks: usize,
    /// Is there any child, alive or not yet reaped?
    pub(crate) has_children: bool,
}

impl Footprint {
    /// As it is now; inside a runtime.
    pub(crate) fn take() -> Self {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Self {
            descriptors: descriptors(),
            threads: numbers("/proc/self/task"),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            has_children: waitid(WaitId::All, options).err() != Some(Errno::CHILD),
        }
    }
}

fn descriptors() -> BTreeMap<i32, PathBuf> {
    numbers("/proc/self/fd")
        .into_iter()
        .filter_map(|number| {
            let target = std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            // The listing itself.
            (!target.starts_with("/proc")).then_some((number, target))
        })
        .collect()
}

fn numbers(folder: &str) -> Vec<i32> {
    let mut numbers: Vec<i32> = std::fs::read_dir(folder)
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}
