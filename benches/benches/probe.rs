//! What it costs to look: a snapshot of a process by the number of its descriptors, and of a tree by the
//! number of its processes, in turn with the floor, the procfs crate, psutil and lsof; the screen; and
//! how the ledger's diff and a settle grow with what was seen.
//!
//! All of it runs as a cell does, as the first process of a pid namespace, where the host allows one.
//! There /proc shows the case alone.
//!
//! - `place`: that namespace.
//! - `target`: the processes that are looked at.
//! - `walks`: the floor, and the walk with the procfs crate.
//! - `others`: psutil and lsof.
//! - `turns`: measuring in turn.

#[path = "probe/others.rs"]
mod others;
#[path = "probe/place.rs"]
mod place;
#[path = "probe/target.rs"]
mod target;
#[path = "probe/turns.rs"]
mod turns;
#[path = "probe/walks.rs"]
mod walks;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::effort::Effort;
use benches::figures::{Book, Figure};
use criterion::{BenchmarkId, Criterion};
use harness::cell::contain;
use harness::ledger::diff::{Ledger, change};
use harness::ledger::snapshot::{Identity, Kind, Snapshot};
use harness::ledger::verdict::StepRef;
use harness::probe::{Root, Scanner, Sight};
use harness::settle::{Settled, settle_processes};
use place::Place;
use target::Target;
use turns::Turns;
use walks::Floor;

const FDS: [usize; 4] = [10, 100, 1_000, 10_000];
const PROCESSES: [usize; 3] = [1, 10, 100];
/// Descriptors of each process of a tree.
const FDS_IN_TREE: usize = 10;
/// Longest time until a snapshot is stable; nothing moves here.
const BUDGET: Duration = Duration::from_secs(5);
/// How many screens are one sample: one alone is as short as a look at the clock.
const SCREENS: u32 = 1_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(ended) = target::role(&words) {
        return ended;
    }
    let effort = Effort::of_this_run();
    let ours = effort.is_for("probe");
    let place = if effort == Effort::List { Place::Host } else { Place::enter() };
    let place = match place {
        Place::Ended(code) => return ExitCode::from(code),
        place => place,
    };
    if ours {
        let mut book = Book::open("probe").expect("the folder of figures can be written");
        snapshots(&mut book, effort, place);
        trees(&mut book, effort, place);
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_200))
        .configure_from_args();
    for fds in FDS {
        growth(&mut criterion, fds, place);
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}

/// Looks at everything below this process that has an identity.
fn sight(place: Place) -> Sight {
    let own = contain::own_pid();
    Sight {
        root: if place == Place::Namespace { Root::Namespace } else { Root::Descendants(own) },
        ours: BTreeSet::from([own]),
        temp_dir: None,
        kinds: [Kind::Process, Kind::Zombie, Kind::Fd, Kind::Thread].into(),
    }
}

fn snapshots(book: &mut Book, effort: Effort, place: Place) {
    for fds in FDS {
        let Some(target) = Target::with_fds(fds) else { continue };
        let rounds = match fds {
            10 => effort.samples(400, 40),
            100 => effort.samples(300, 30),
            1_000 => effort.samples(100, 10),
            _ => effort.samples(30, 5),
        };
        let (sight, pid) = (sight(place), target.pid);
        let (mut looks, mut snapshots) = (Scanner::new(), Scanner::new());
        let mut floor = Floor::default();
        let mut turns = Turns::new("fds", fds);
        turns.add("floor", || assert_eq!(floor.walk(pid), fds));
        turns.add("look", || assert_eq!(descriptors(&looks.scan(&sight)), fds));
        turns.add("snapshot", || {
            let snapshot = snapshots.snapshot(&sight, BUDGET);
            assert!(snapshot.stable && descriptors(&snapshot) == fds);
        });
        turns.add("procfs", || assert_eq!(walks::procfs(pid), fds));
        turns.play(rounds, book);
        screen(book, effort, &target, fds);
        let few = effort.samples(10, 3).min(rounds);
        let floor_us = turns.median_us("floor");
        others::lsof(book, fds, pid, few, floor_us);
        others::psutil(book, fds, pid, few, floor_us);
    }
}

/// The cheap look, of two calls: how many descriptors, and whether there is any process at all.
fn screen(book: &mut Book, effort: Effort, target: &Target, fds: usize) {
    let folder = target.held_descriptors();
    let mut samples = Vec::new();
    for _ in 0..effort.samples(100, 20) {
        let began = Instant::now();
        for _ in 0..SCREENS {
            black_box(rustix::fs::fstat(&folder).expect("it is held").st_size);
            black_box(contain::childless());
        }
        samples.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(SCREENS));
    }
    let server = "fds";
    book.add(Figure { subject: "screen", server, n: fds, figure: "us", samples: &samples });
}

fn trees(book: &mut Book, effort: Effort, place: Place) {
    for processes in PROCESSES {
        let Some(tree) = Target::tree(processes, FDS_IN_TREE) else { continue };
        let rounds = match processes {
            1 => effort.samples(300, 30),
            10 => effort.samples(200, 20),
            _ => effort.samples(60, 8),
        };
        let (sight, root) = (sight(place), tree.pid);
        let (mut looks, mut snapshots, mut alive) =
            (Scanner::new(), Scanner::new(), Scanner::new());
        let mut floor = Floor::default();
        let mut turns = Turns::new("tree", processes);
        turns.add("floor", || assert_eq!(floor.tree(root), processes));
        turns.add("look", || assert_eq!(looks.scan(&sight).processes().count(), processes));
        turns.add("snapshot", || {
            let snapshot = snapshots.snapshot(&sight, BUDGET);
            assert!(snapshot.stable && snapshot.processes().count() == processes);
        });
        turns.add("procfs", || assert_eq!(walks::procfs_tree(root), processes));
        // Two looks that find nothing that is due.
        turns.add("settle", || {
            let settled = settle_processes(BUDGET, || {
                let seen = alive.processes(&sight).expect("/proc can be read").len();
                assert_eq!(seen, processes);
                None
            });
            assert_eq!(settled, Settled::Quiet);
        });
        turns.play(rounds, book);
    }
}

fn descriptors(snapshot: &Snapshot) -> usize {
    snapshot.things.keys().filter(|identity| matches!(identity, Identity::Fd { .. })).count()
}

/// What criterion follows from run to run: one look, the diff of two, and the ledger that takes it in,
/// with one descriptor of a hundred closed and another opened.
fn growth(criterion: &mut Criterion, fds: usize, place: Place) {
    let Some(target) = Target::with_fds(fds) else { return };
    let (sight, mut scanner) = (sight(place), Scanner::new());
    let before = scanner.snapshot(&sight, BUDGET);
    drop(target);
    let after = with_others(&before);
    let mut group = criterion.benchmark_group("ledger");
    group.bench_function(BenchmarkId::new("diff", fds), |bench| {
        bench.iter(|| change(black_box(&before), black_box(&after)));
    });
    let step =
        |place: &str| StepRef { place: place.to_owned(), name: "call".to_owned(), cycle: Some(1) };
    let (first, second) = (step("1"), step("2"));
    let mut ledger = Ledger::default();
    ledger.record(&first, before.clone());
    group.bench_function(BenchmarkId::new("record", fds), |bench| {
        bench.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for round in 0..rounds {
                let (now, seen) =
                    if round % 2 == 0 { (&second, &after) } else { (&first, &before) };
                let seen = seen.clone();
                let began = Instant::now();
                black_box(ledger.record(now, seen));
                took += began.elapsed();
            }
            took
        });
    });
    group.finish();
}

/// The same, but every hundredth descriptor, and the last, is another.
fn with_others(snapshot: &Snapshot) -> Snapshot {
    let mut other = snapshot.clone();
    let last = snapshot.things.len() - 1;
    for (at, (identity, facts)) in snapshot.things.iter().enumerate() {
        if let Identity::Fd { owner, number, kind, target, device, inode, extra } = identity
            && (at % 100 == 99 || at == last)
        {
            other.things.remove(identity);
            let another = Identity::Fd {
                owner: *owner,
                number: *number,
                kind: *kind,
                target: target.clone(),
                device: *device,
                inode: inode + 1,
                extra: extra.clone(),
            };
            other.things.insert(another, facts.clone());
        }
    }
    other
}
