//! A server of the harness as a program of its own: `peer NAME [--fixed]`.

use std::process::ExitCode;

use harness::lifecycle::scenario::FakeSpec;
use harness::peer::fake;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let name = words.first().cloned().unwrap_or_else(|| "plain".to_owned());
    let fixed = words.iter().any(|word| word == "--fixed");
    match fake::run(&FakeSpec { name, fixed, options: Default::default() }) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("peer: {error}");
            ExitCode::from(2)
        }
    }
}
