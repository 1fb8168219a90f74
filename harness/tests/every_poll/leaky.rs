//! Operations that leave something behind when they are cut off, each one thing of one kind, and
//! their clean twin. They must be caught, and the twin must not.

use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scupper_core::census::{Kind, Row};

use crate::operation::{Made, Making, Operation, World, words};

/// All of them.
pub(crate) const ALL: &[Operation] = &[
    Operation { name: "leaky: clean twin", make: |world| leaky(world, |_| {}) },
    Operation { name: "leaky: forgets a child", make: |world| leaky(world, forget_a_child) },
    Operation { name: "leaky: forgets a zombie", make: |world| leaky(world, forget_a_zombie) },
    Operation { name: "leaky: keeps a descriptor", make: |world| leaky(world, keep_a_descriptor) },
    Operation { name: "leaky: leaves a file", make: |world| leaky(world, leave_a_file) },
    Operation { name: "leaky: keeps a row", make: |world| leaky(world, keep_a_row) },
    Operation { name: "leaky: starts a thread", make: |world| leaky(world, start_a_thread) },
    Operation { name: "leaky: detaches a task", make: |world| leaky(world, detach_a_task) },
    Operation {
        name: "leaky: only when it unwinds",
        make: |world| {
            leaky(world, |world| {
                if std::thread::panicking() {
                    keep_a_descriptor(world);
                }
            })
        },
    },
];

/// One that leaves something once in the life of its process, and not at first: it does not repeat
/// alone.
pub(crate) const ONLY_AFTER_OTHERS: Operation = Operation {
    name: "leaky: only after others",
    make: |world| {
        leaky(world, |world| {
            static DROPS: AtomicUsize = AtomicUsize::new(0);
            if DROPS.fetch_add(1, Ordering::SeqCst) == 2 {
                keep_a_descriptor(world);
            }
        })
    },
};

/// The poll at which it is dropped badly. It has one more, and one before.
const BAD: usize = 2;

/// Does what is bad when it is dropped in the middle.
struct Dropped {
    world: World,
    polls: usize,
    bad: fn(&World),
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if self.polls == BAD {
            (self.bad)(&self.world);
        }
    }
}

fn leaky(world: World, bad: fn(&World)) -> Making {
    Box::pin(async move {
        // It owns a child, a descriptor and a task meanwhile, and lets go of them in every case.
        Ok(Made::alone(async move {
            let mut dropped = Dropped { world, polls: 0, bad };
            let held = std::fs::File::open("/dev/null").map_err(words)?;
            for _ in 0..3 {
                dropped.polls += 1;
                tokio::task::yield_now().await;
            }
            drop(held);
            dropped.polls = 0;
            Ok(())
        }))
    })
}

fn forget_a_child(_: &World) {
    drop(std::process::Command::new("sleep").arg("600").spawn());
}

fn forget_a_zombie(_: &World) {
    let Ok(child) = std::process::Command::new("true").spawn() else { return };
    // Dead, but not reaped: that is what is waited for.
    let pid = rustix::process::Pid::from_child(&child);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    let _ = rustix::process::waitid(rustix::process::WaitId::Pid(pid), options);
}

fn keep_a_descriptor(_: &World) {
    if let Ok(file) = std::fs::File::open("/dev/null") {
        let _ = file.into_raw_fd();
    }
}

fn leave_a_file(world: &World) {
    let _ = std::fs::write(world.folder.join("left"), "behind");
}

fn keep_a_row(world: &World) {
    let here = std::panic::Location::caller();
    let row: Row = world.census.enter(Kind::Task, "kept", "for ever", here);
    std::mem::forget(row);
}

fn start_a_thread(_: &World) {
    std::thread::spawn(|| std::thread::sleep(Duration::from_secs(600)));
}

fn detach_a_task(_: &World) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(std::future::pending::<()>());
    }
}
