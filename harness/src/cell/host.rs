//! The runner's end of a cell: starts a sentinel and reads what its cell tells.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::isolate;
use super::protocol::{CaseOrder, CellEvent, Ground};
use super::sentinel::TRIAL;
use crate::ledger::verdict::Tier;

/// Longest line that a cell may tell, in bytes.
const LINE_LIMIT: u64 = 64 << 20;

/// A running cell. Dropping it ends the lifeline, and with it everything below.
#[derive(Debug)]
pub struct Cell {
    sentinel: Child,
    lifeline: Lifeline,
    told: BufReader<ChildStdout>,
    /// Strength of containment.
    pub tier: Tier,
}

/// The pipe by which a cell lives. Any clone may end it.
#[derive(Debug, Clone, Default)]
pub struct Lifeline(Arc<Mutex<Option<ChildStdin>>>);

impl Lifeline {
    /// Ends the cell and everything below it.
    pub fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it was ended.
    pub fn ended(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(pipe) => pipe.write_all(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// The strongest tier that this host allows, found by trying.
pub fn strongest_tier() -> Tier {
    // For tests of the weaker tier on a host that has the stronger one.
    if std::env::var_os("SCUPPER_CONTAIN").is_some_and(|tier| tier == "subreaper") {
        return Tier::Subreaper;
    }
    match Cell::spawn(Tier::PidNamespace, TRIAL, 300) {
        Ok(cell) => cell.tier,
        Err(_) => Tier::Subreaper,
    }
}

impl Cell {
    /// Starts a cell in a directory of its own, which is removed when it ends.
    pub fn start(
        tier: Tier,
        directory: &Path,
        first_pid: u32,
        order: &CaseOrder,
    ) -> io::Result<Self> {
        let directory = directory
            .to_str()
            .ok_or_else(|| io::Error::other("the temporary directory's name is not UTF-8"))?;
        let cell = Self::spawn(tier, directory, first_pid)?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        cell.lifeline.write(&line)?;
        Ok(cell)
    }

    fn spawn(tier: Tier, directory: &str, first_pid: u32) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(super::SENTINEL)
            .arg(tier.as_str())
            .arg(directory)
            .arg(first_pid.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if directory == TRIAL {
            command.stderr(Stdio::null());
        }
        let starter = thread::spawn(move || {
            if tier == Tier::PidNamespace {
                isolate::next_child_begins_pid_namespace()?;
            }
            command.spawn()
        });
        let mut sentinel =
            starter.join().map_err(|_| io::Error::other("starting a cell panicked"))??;
        let lifeline = Lifeline(Arc::new(Mutex::new(sentinel.stdin.take())));
        let told = sentinel.stdout.take().ok_or_else(|| io::Error::other("no pipe to the cell"))?;
        let mut cell = Self { sentinel, lifeline, told: BufReader::new(told), tier };
        let ground: Ground = cell.line()?.ok_or_else(|| {
            io::Error::other(format!("the sentinel could not stand on: {}", tier.as_str()))
        })?;
        cell.tier = ground.tier;
        Ok(cell)
    }

    /// The next thing that the cell tells; none when it has ended.
    pub fn event(&mut self) -> io::Result<Option<CellEvent>> {
        self.line()
    }

    fn line<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        io::Read::take(&mut self.told, LINE_LIMIT).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }

    /// Another handle on its lifeline.
    pub fn lifeline(&self) -> Lifeline {
        self.lifeline.clone()
    }

    /// Pid of the sentinel.
    pub fn sentinel_pid(&self) -> i32 {
        self.sentinel.id().cast_signed()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.lifeline.end();
        // The sentinel's own bound for ending everything is the bound here.
        let _ = self.sentinel.wait();
    }
}
