//! A thousand HTTP sessions opened and abandoned in four ways, with a healthy one beside them.
//!
//! ```text
//! cargo run -p scupper-core --example abandoned_sessions [SESSIONS] [IDLE_LIMIT_SECONDS]
//! ```
//!
//! Prints figures. Ends with 1 if anything is left, if a call of the healthy session failed, or if it
//! was not answered within 50 ms at p99.

#[path = "../tests/support/abandon.rs"]
mod abandon;

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

const P99: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "client") {
        abandon::client(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    let number = |place: usize| arguments.get(place).and_then(|word| word.parse().ok());
    let sessions = number(0).unwrap_or(1000);
    let idle_limit = Duration::from_secs(number(1).unwrap_or(20) as u64);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let figures = runtime.block_on(abandon::judge(sessions, idle_limit, |arguments| {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.arg("client").args(arguments);
        command
    }));
    println!("{figures}");
    let clean = figures.left.is_empty()
        && figures.census_at_end == "nothing is alive"
        && figures.healthy.failures == 0;
    if clean && figures.healthy.p99 < P99 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
