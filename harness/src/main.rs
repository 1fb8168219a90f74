//! The `scupper` program: parse, run, report, gate.

use std::process::ExitCode;

use clap::Parser;
use harness::cell;
use harness::cli::arguments::{Arguments, Command, fake_options};
use harness::cli::{Ended, Refusal, run, server, show};
use harness::lifecycle::scenario::FakeSpec;
use harness::peer::fake;

fn main() -> ExitCode {
    let raw: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // Cells, clients and sentinels are this very program; they parse nothing else.
    if let Some(ended) = cell::hidden_mode(&raw) {
        return code(ended.map_err(|error| Refusal::ours(error.to_string())));
    }
    code(match Arguments::parse().command {
        Command::Server(arguments) => server::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Replay(arguments) => run::replay(&arguments),
        Command::List(arguments) => show::list(arguments.what),
        Command::Doctor => show::doctor(),
        Command::Fake(arguments) => fake_options(&arguments.options).and_then(|options| {
            fake::run(&FakeSpec { name: arguments.name, fixed: arguments.fixed, options })
                .map_err(|error| Refusal::usage(error.to_string()))
        }),
    })
}

fn code(ended: Ended) -> ExitCode {
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(refusal) => {
            eprintln!("scupper: {}", refusal.message);
            ExitCode::from(refusal.code)
        }
    }
}
