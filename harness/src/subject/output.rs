//! What a process writes to its two output streams: read to the end, the last lines kept.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

/// Lines that are kept, the last ones.
const LINES: usize = 12;
/// Longest line that is kept, in bytes.
const LINE_LIMIT: u64 = 500;

/// The last lines that a process has written.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Mutex<VecDeque<String>>>);

impl Output {
    /// Reads both output streams of a child, each in a thread that ends with it.
    pub fn of(child: &mut Child) -> Self {
        let output = Self::default();
        if let Some(stdout) = child.stdout.take() {
            output.keep_last("stdout", stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.keep_last("stderr", stderr);
        }
        output
    }

    /// The last lines, each with the name of its stream.
    pub fn last(&self) -> Vec<String> {
        let output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.iter().cloned().collect()
    }

    fn keep_last(&self, name: &'static str, stream: impl Read + Send + 'static) {
        let kept = Arc::clone(&self.0);
        let read = move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                line.clear();
                match Read::take(&mut stream, LINE_LIMIT).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.push_back(format!("{name}: {text}"));
                        if kept.len() > LINES {
                            kept.pop_front();
                        }
                    }
                }
            }
        };
        // Without it the process would stop at a full pipe, which shows.
        let _ = std::thread::Builder::new().name(name.into()).spawn(read);
    }
}
