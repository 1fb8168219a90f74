//! How many times a second this host starts a program and sees it exit, one after the other: the floor
//! below which no life of the byte sweep can be.
//!
//!     cargo run -p harness --example spawn_floor -- scupper fake exits-before-initialize

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Starts that are timed.
const TIMES: u32 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (program, arguments) = words.split_first().ok_or("which program? Name its command line")?;
    let began = Instant::now();
    for _ in 0..TIMES {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        child.wait()?;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:.0} a second, {:.2} ms each",
        f64::from(TIMES) / seconds,
        seconds * 1_000.0 / f64::from(TIMES)
    );
    Ok(())
}
