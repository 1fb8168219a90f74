//! The channel to the cell.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::peer::{http::report::HttpReport, report::Report};

/// Most that is told; a client of which there is more to tell has been understood by then.
const MOST_TOLD: usize = 20_000;
/// How long the cell may take to look.
const LOOK_BOUND: Duration = Duration::from_secs(30);

/// The channel to the cell. A cell that is gone hears nothing, and that is no reason to stop.
pub(super) struct Said {
    channel: Mutex<UnixStream>,
    /// Held by the one that waits: an answer of the cell is one byte, and says not to whom.
    turn: Mutex<UnixStream>,
    told: AtomicUsize,
}

impl Said {
    pub(super) fn connect(path: &str) -> io::Result<Self> {
        let channel = UnixStream::connect(path).map_err(|error| {
            io::Error::other(format!("cannot reach scupper at {path}: {error}"))
        })?;
        let answers = channel.try_clone()?;
        answers.set_read_timeout(Some(LOOK_BOUND))?;
        Ok(Self {
            channel: Mutex::new(channel),
            turn: Mutex::new(answers),
            told: AtomicUsize::new(0),
        })
    }

    pub(super) fn tell(&self, report: &HttpReport) {
        match self.told.fetch_add(1, Ordering::Relaxed) {
            told if told < MOST_TOLD => self.write(report),
            MOST_TOLD => self.write(&HttpReport::TooMuch),
            _ => {}
        }
    }

    /// Tells it, and waits until the cell has looked.
    pub(super) fn and_wait(&self, report: &HttpReport) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(report);
        // Without an answer there is nobody who judges, and a server serves.
        let _ = turn.read(&mut [0]);
    }

    fn write(&self, report: &HttpReport) {
        let mut line = serde_json::to_vec(&Report::Http(report.clone())).unwrap_or_default();
        line.push(b'\n');
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = channel.write_all(&line);
    }
}
