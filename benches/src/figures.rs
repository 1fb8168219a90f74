//! What criterion does not keep: rungs, counts and 99th percentiles, a JSON object to a line.
//!
//! Each benchmark has a file of its own, `TARGET/bench/figures/NAME.ndjson`, which a run replaces.
//! `ci/bench` makes its tables of these files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::effort::Effort;

/// The figures of one benchmark.
#[derive(Debug)]
pub struct Book {
    bench: String,
    /// `None` where nothing is kept: under `--test` and `--list`.
    file: Option<File>,
}

/// One figure, of all its samples.
#[derive(Debug, Clone, Copy)]
pub struct Figure<'a> {
    /// Whose it is: `core-stdio`, `rmcp`, `floor`.
    pub subject: &'a str,
    /// The server that it was measured on, or the case: `plain`, `fds`.
    pub server: &'a str,
    /// How many at once, or how big: 200 servers, 10,000 descriptors.
    pub n: usize,
    /// What was measured, and in which unit: `whole_ms`, `left_processes`, `ratio`.
    pub figure: &'a str,
    /// At least one.
    pub samples: &'a [f64],
}

/// What is told of some samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest sample that 99 % do not exceed: the largest, if there are fewer than 100.
    pub p99: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Book {
    /// Begins the file of this benchmark anew.
    pub fn open(bench: &str) -> io::Result<Book> {
        let file = match Effort::of_this_run() {
            Effort::Full | Effort::Quick => Some(begin(&folder()?, bench)?),
            Effort::Test | Effort::List => None,
        };
        Ok(Book { bench: bench.to_owned(), file })
    }

    /// Writes a figure, and gives back what it wrote of the samples.
    ///
    /// # Panics
    /// If there is no sample, or the file cannot be written: a benchmark has nothing better to do.
    pub fn add(&mut self, figure: Figure<'_>) -> Summary {
        let Figure { subject, server, n, figure, samples } = figure;
        let summary = Summary::of(samples)
            .unwrap_or_else(|| panic!("{subject}, {server}, {n}: no sample of {figure}"));
        let line = json!({
            "bench": self.bench, "subject": subject, "server": server, "n": n, "figure": figure,
            "samples": samples.len(), "median": summary.median, "p99": summary.p99,
            "min": summary.min, "max": summary.max,
        });
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}").expect("the file of figures was opened for writing");
        }
        summary
    }
}

impl Summary {
    /// Of at least one sample.
    pub fn of(samples: &[f64]) -> Option<Summary> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        let p99 = sorted[(count * 99).div_ceil(100) - 1];
        Some(Summary { median, p99, min, max })
    }
}

fn begin(folder: &Path, bench: &str) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    File::create(folder.join(format!("{bench}.ndjson")))
}

/// Where cargo builds: what it was told, or the folder above this program that cargo marked.
fn folder() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| marked.map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("target"));
    Ok(target.join("bench/figures"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_by_rank() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let summary = Summary { median: 100.5, p99: 198.0, min: 1.0, max: 200.0 };
        assert_eq!(Summary::of(&samples), Some(summary));
        let one = Summary { median: 3.0, p99: 3.0, min: 3.0, max: 3.0 };
        assert_eq!(Summary::of(&[3.0]), Some(one));
        assert_eq!(Summary::of(&[]), None);
    }
}
