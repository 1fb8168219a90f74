//! Sessions over HTTP: opened, called and closed on our manager and on rmcp's; the sweep of many idle
//! ones; and the cursors of one, on the three stores.

#[path = "sessions/cursors.rs"]
mod cursors;
#[path = "sessions/lives.rs"]
mod lives;
#[path = "sessions/redis.rs"]
mod redis;
#[path = "sessions/sweep.rs"]
mod sweep;

use std::time::Duration;

use benches::effort::Effort;
use benches::figures::{Book, Figure};
use criterion::Criterion;

use redis::Redis;

fn main() {
    let effort = Effort::of_this_run();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll instance");
    let redis = if effort == Effort::List { None } else { Redis::start() };
    if effort.is_for("sessions") {
        let mut notes = Notes(Book::open("sessions").expect("the target directory is ours"));
        lives::measure(&runtime, effort, &mut notes);
        cursors::measure(&runtime, effort, redis.as_ref(), &mut notes);
        sweep::measure(effort, &mut notes);
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    lives::by_criterion(&mut criterion, &runtime);
    cursors::by_criterion(&mut criterion, &runtime, redis.as_ref());
    criterion.final_summary();
}

/// The file of figures, and a line on stdout for each.
pub(crate) struct Notes(Book);

impl Notes {
    pub(crate) fn add(&mut self, subject: &str, case: &str, n: usize, figure: &str, of: &[f64]) {
        let summary = self.0.add(Figure { subject, server: case, n, figure, samples: of });
        let (median, p99) = (summary.median, summary.p99);
        println!("sessions/{case}/{n}: {subject}: {figure} {median:.2}, p99 {p99:.2}");
    }
}

pub(crate) fn us(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000_000.0
}
