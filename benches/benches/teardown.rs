//! How long it takes to close a connection, rung by rung, and what is left behind: the core over stdio
//! and over HTTP beside rmcp's child process, the Python and the TypeScript SDK, and the floor.
//!
//! Everyone plays each round on the same server, one after the other, so that a noisy moment of the
//! host is noisy for all; ratios are of one round. Criterion then measures those that end quickly.

#[path = "teardown/floor.rs"]
mod floor;
#[path = "teardown/others.rs"]
mod others;
#[path = "teardown/ours.rs"]
mod ours;
#[path = "teardown/servers.rs"]
mod servers;
#[path = "teardown/subject.rs"]
mod subject;
#[path = "teardown/table.rs"]
mod table;

use std::time::Duration;

use benches::effort::Effort;
use benches::figures::Book;
use criterion::Criterion;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use scupper_core::census::Census;

use subject::{Case, End, Subject};
use table::Table;

const CASES: [Case; 7] = [
    Case { server: "plain", end: End::AtOnce },
    Case { server: "helper-same-group", end: End::AtOnce },
    Case { server: "helper-setsid", end: End::AtOnce },
    Case { server: "busy-until-done", end: End::WhenDone },
    Case { server: "ignores-eof", end: End::Forced(1) },
    Case { server: "ignores-eof-and-term", end: End::Forced(2) },
    ours::SILENT,
];

fn main() {
    let effort = Effort::of_this_run();
    allow_many_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll instance");
    let (runtime, server) = (&runtime, &servers::HttpPeer::start());
    let stdio =
        |sweep_cookie| Box::new(ours::Stdio { runtime, census: Census::new(), sweep_cookie });
    let mut subjects: Vec<Box<dyn Subject + '_>> = vec![
        Box::new(floor::Floor),
        stdio(false),
        stdio(true),
        Box::new(floor::HttpFloor { server }),
        Box::new(ours::Http { runtime, census: Census::new(), server }),
        Box::new(others::Rmcp { runtime, effort }),
    ];
    if effort.is_for("teardown") {
        let sdks = [others::Sdk::python(effort), others::Sdk::typescript(effort)];
        subjects.extend(sdks.into_iter().flatten().map(|sdk| Box::new(sdk) as Box<dyn Subject>));
        let book = Book::open("teardown").expect("the target directory can be written to");
        let mut table = Table::new(book);
        for at_once in [1, 10, 50, 200] {
            for case in CASES {
                let rounds = rounds(effort, case, at_once);
                table.play(&mut subjects, case, at_once, rounds);
            }
        }
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    by_criterion(&mut criterion, &mut subjects);
    criterion.final_summary();
}

/// Enough for a 99th percentile where an end is quick and one is ended; few where many are.
fn rounds(effort: Effort, case: Case, at_once: usize) -> usize {
    let (full, quick) = match (at_once, case.end) {
        (1, End::AtOnce) => (200, 30),
        (1, End::WhenDone) => (30, 5),
        (1, End::Forced(_)) => (10, 3),
        (10, End::Forced(_)) => (5, 1),
        (10, _) => (20, 3),
        (_, End::AtOnce) => (5, 1),
        (_, _) => (3, 1),
    };
    match (effort, at_once) {
        (Effort::Test, 50..) => 0,
        _ => effort.samples(full, quick),
    }
}

fn by_criterion(criterion: &mut Criterion, subjects: &mut [Box<dyn Subject + '_>]) {
    let mut group = criterion.benchmark_group("teardown");
    for case in CASES.into_iter().filter(|case| !case.is_stubborn()) {
        for subject in subjects.iter_mut().filter(|subject| subject.plays(case, 1)) {
            let id = format!("{}/{}", subject.name(), case.server);
            group.bench_function(id, |bench| {
                bench.iter_custom(|rounds| (0..rounds).map(|_| subject.end(case, 1).whole).sum());
            });
        }
    }
    group.finish();
}

/// Two hundred servers have more than a thousand descriptors.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("the soft limit may be as high as the hard one");
}
