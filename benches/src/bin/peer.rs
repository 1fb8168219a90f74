//! A server of the harness as a program of its own: `peer NAME [--fixed] [--http PORT] [KEY=VALUE]…`.

use std::process::ExitCode;

use harness::lifecycle::scenario::FakeSpec;
use harness::peer::fake;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("peer: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1).peekable();
    // As `scupper fake` has it: fakes start their helpers with this word.
    words.next_if(|word| word == "fake");
    let name = words.next().unwrap_or_else(|| "plain".to_owned());
    let mut spec = FakeSpec { name, fixed: false, options: Default::default() };
    let mut port = None;
    while let Some(word) = words.next() {
        match (word.as_str(), word.split_once('=')) {
            ("--fixed", _) => spec.fixed = true,
            ("--http", _) => port = Some(words.next().ok_or("--http needs a port")?.parse()?),
            (_, Some((key, value))) => {
                spec.options.insert(key.to_owned(), value.to_owned());
            }
            (word, None) => return Err(format!("`{word}` is no option of a fake").into()),
        }
    }
    match port {
        Some(port) => Ok(fake::run_http(&spec, port)??),
        None => Ok(fake::run(&spec)?),
    }
}
