//! The ends that are no close: how long until nothing is left when a client is dropped, its close is
//! cancelled, its runtime is shut down, or its host is killed.
//!
//! The program is also the host that is killed, and its main may become the guard of that one.

#[path = "close/host.rs"]
mod host;
#[path = "close/inside.rs"]
mod inside;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::effort::Effort;
use benches::figures::{Book, Figure};
use benches::mark::Carriers;
use criterion::Criterion;
use scupper_core::guard::run_if_asked;

use host::Guarded;
use inside::{Means, Who};

pub(crate) const PEER: &str = env!("CARGO_BIN_EXE_peer");
/// How long what is to be gone is waited for.
pub(crate) const GONE_WAIT: Duration = Duration::from_secs(10);
/// How long what nobody ends is waited for before it is counted.
pub(crate) const LEFT_WAIT: Duration = Duration::from_millis(500);

/// How one end went.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// What blocked: the drop itself. Nothing where somebody else did it.
    pub(crate) blocked: Option<Duration>,
    /// From the beginning to the end of the last process; of none that was left.
    pub(crate) gone: Option<Duration>,
    /// Who was alive after [`GONE_WAIT`] or [`LEFT_WAIT`].
    pub(crate) left: usize,
}

impl Ended {
    /// Waits for the end of all that are left, for so long at most.
    pub(crate) fn of(carriers: Carriers, began: Instant, wait: Duration) -> Ended {
        let left = carriers.wait(wait);
        let gone = (left == 0).then(|| began.elapsed());
        Ended { blocked: None, gone, left }
    }
}

fn main() -> ExitCode {
    let entrance = run_if_asked();
    if let Some(role) = host::role() {
        return host::run(&role, entrance);
    }
    let effort = Effort::of_this_run();
    if effort.is_for("close") {
        measure(effort);
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    by_criterion(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn measure(effort: Effort) {
    let mut book = Book::open("close").expect("the target directory can be written to");
    for (at_once, full, quick) in [(1, 100, 15), (10, 20, 3)] {
        let rounds = effort.samples(full, quick);
        for means in Means::ALL {
            for server in ["plain", "helper-same-group", "ignores-eof-and-term"] {
                for who in [Who::Core, Who::Rmcp] {
                    if !who.plays(server, at_once) {
                        continue;
                    }
                    // What rmcp leaves is waited for each time.
                    let rounds = if who == Who::Core { rounds } else { rounds.div_ceil(20) };
                    let ended: Vec<Ended> =
                        (0..rounds).map(|_| inside::end(who, means, server, at_once)).collect();
                    note(&mut book, who.name(), means.name(), server, at_once, &ended);
                }
            }
        }
    }
    for (guarded, server, full, quick) in [
        (Guarded::Yes, "plain", 30, 4),
        (Guarded::Yes, "helper-same-group", 10, 2),
        (Guarded::Yes, "ignores-eof-and-term", 10, 2),
        (Guarded::No, "plain", 30, 4),
        (Guarded::No, "helper-same-group", 3, 1),
        (Guarded::No, "ignores-eof-and-term", 3, 1),
    ] {
        let rounds = effort.samples(full, quick);
        let ended: Vec<Ended> = (0..rounds).map(|_| host::kill(guarded, server, 10)).collect();
        note(&mut book, guarded.name(), "host-killed", server, 10, &ended);
    }
}

fn note(book: &mut Book, who: &str, means: &str, server: &str, at_once: usize, ended: &[Ended]) {
    let case = format!("{means}/{server}");
    let mut told = Vec::new();
    let blocked = ended.iter().filter_map(|one| one.blocked).map(ms).collect();
    let gone = ended.iter().filter_map(|one| one.gone).map(ms).collect();
    let left = ended.iter().map(|one| one.left as f64).collect();
    let figures: [(&str, Vec<f64>); 3] =
        [("blocked_ms", blocked), ("gone_ms", gone), ("left_processes", left)];
    for (figure, samples) in figures {
        if !samples.is_empty() {
            let figure_of =
                Figure { subject: who, server: &case, n: at_once, figure, samples: &samples };
            let summary = book.add(figure_of);
            told.push(format!("{figure} {:.2}, p99 {:.2}", summary.median, summary.p99));
        }
    }
    println!("close/{case}/{at_once}: {who}: {}", told.join("; "));
}

fn by_criterion(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("close");
    for means in Means::ALL {
        for server in ["plain", "ignores-eof-and-term"] {
            group.bench_function(format!("{}/{server}", means.name()), |bench| {
                bench.iter_custom(|rounds| {
                    (0..rounds)
                        .map(|_| inside::end(Who::Core, means, server, 1))
                        .map(|ended| ended.gone.expect("the core leaves nobody"))
                        .sum()
                });
            });
        }
    }
    group.finish();
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
