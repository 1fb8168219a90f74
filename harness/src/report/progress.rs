//! One line on a terminal that says how far a campaign has come.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is written at most.
const PAUSE: Duration = Duration::from_millis(200);

/// The line. It is on stderr, and only where that is a terminal.
pub struct Progress {
    whole: usize,
    begun: Instant,
    told: Option<Instant>,
    out: Option<io::Stderr>,
}

impl Progress {
    /// Of so many lifecycles, if it is wanted.
    pub fn new(whole: usize, wanted: bool) -> Self {
        let stderr = io::stderr();
        let out = (wanted && stderr.is_terminal()).then_some(stderr);
        Self { whole, begun: Instant::now(), told: None, out }
    }

    /// So many were played, with so many findings.
    pub fn tell(&mut self, played: u64, findings: usize) {
        let now = Instant::now();
        if self.told.is_some_and(|told| now < told + PAUSE) {
            return;
        }
        self.told = Some(now);
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let whole = self.whole;
        let rate = played as f64 / seconds;
        self.line(&format!("{played} of {whole} lifecycles, {rate:.0}/s, {findings} findings"));
    }

    /// Something else is being done.
    pub fn say(&mut self, what: &str) {
        self.line(what);
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        self.line("");
    }

    fn line(&mut self, text: &str) {
        if let Some(out) = &mut self.out {
            // Whoever closed the terminal does not read it.
            let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
        }
    }
}
