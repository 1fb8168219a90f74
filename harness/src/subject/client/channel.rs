//! The channel by which the servers that a client starts tell the cell what befalls them: a Unix
//! socket beside the case's TMPDIR, so that it is none of the files that are looked at.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;

use crate::peer::report::{GO, Report};

/// Most servers that are heard in one case; a client that starts more has no bound on its restarts.
pub const MOST_SERVERS: usize = 200;
/// Longest line that a server may tell, in bytes.
const LINE_LIMIT: u64 = 16 << 10;
/// Longest path of a Unix socket (unix(7)), its final zero not counted.
const LONGEST_PATH: usize = 107;

/// The cell's end.
pub struct Channel {
    /// Where servers find it.
    pub path: PathBuf,
    told: Receiver<Told>,
    servers: Arc<Mutex<BTreeMap<usize, UnixStream>>>,
    came: Arc<AtomicUsize>,
}

/// Something that a server has told, or its end.
#[derive(Debug)]
pub struct Told {
    /// Which connection to this channel: one for each server that was started.
    pub start: usize,
    /// The pid of who made that connection, as the cell sees it.
    pub pid: i32,
    /// When it came.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What came.
#[derive(Debug)]
pub enum What {
    /// A report.
    Said(Report),
    /// The connection has ended: so has the server.
    Gone,
    /// A server came that cannot be heard, and why.
    Unheard(String),
}

impl Channel {
    /// Listens in this directory.
    pub fn listen(directory: &Path) -> io::Result<Self> {
        let path = directory.join("servers");
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(io::Error::other(format!(
                "the path {} is longer than the {LONGEST_PATH} bytes that a socket may have; set \
                 TMPDIR to a shorter one",
                path.display()
            )));
        }
        let listener = UnixListener::bind(&path)?;
        let (sender, told) = channel();
        let servers = Arc::new(Mutex::new(BTreeMap::new()));
        let came = Arc::new(AtomicUsize::new(0));
        let (known, count) = (Arc::clone(&servers), Arc::clone(&came));
        std::thread::Builder::new()
            .name("servers".into())
            .spawn(move || accept(&listener, &sender, &known, &count))?;
        Ok(Self { path, told, servers, came })
    }

    /// How many servers have come, heard or not.
    pub fn connections(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// The next thing that is told, if one comes in time.
    pub fn next(&self, wait: Duration) -> Option<Told> {
        self.told.recv_timeout(wait).ok()
    }

    /// Lets a server go on that waits until it has been looked at.
    pub fn go(&self, start: usize) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = servers.get_mut(&start) {
            // One that is gone by now shows in the end of its connection. A byte always has room.
            let _ = stream.write_all(&[GO]);
        }
    }

    /// Forgets a server that is gone.
    pub fn forget(&self, start: usize) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(&start);
    }
}

fn accept(
    listener: &UnixListener,
    sender: &Sender<Told>,
    servers: &Mutex<BTreeMap<usize, UnixStream>>,
    came: &AtomicUsize,
) {
    for (start, stream) in listener.incoming().flatten().take(MOST_SERVERS).enumerate() {
        came.fetch_add(1, Ordering::Relaxed);
        let heard = listen_to(start, stream, sender, servers);
        // One that cannot be heard must not be as one that was not started.
        if let Err(error) = heard {
            servers.lock().unwrap_or_else(PoisonError::into_inner).remove(&start);
            let what = What::Unheard(error.to_string());
            let _ = sender.send(Told { start, pid: 0, at: Instant::now(), what });
        }
    }
}

fn listen_to(
    start: usize,
    stream: UnixStream,
    sender: &Sender<Told>,
    servers: &Mutex<BTreeMap<usize, UnixStream>>,
) -> io::Result<()> {
    let pid = socket_peercred(&stream)?.pid.as_raw_nonzero().get();
    servers.lock().unwrap_or_else(PoisonError::into_inner).insert(start, stream.try_clone()?);
    let sender = sender.clone();
    let hear = move || hear(start, pid, stream, &sender);
    std::thread::Builder::new().name(format!("server {start}")).spawn(hear).map(drop)
}

fn hear(start: usize, pid: i32, stream: UnixStream, sender: &Sender<Told>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = Read::take(&mut stream, LINE_LIMIT).read_until(b'\n', &mut line);
        let what = match serde_json::from_slice(&line) {
            Ok(report) if read.is_ok() => What::Said(report),
            _ => What::Gone,
        };
        let gone = matches!(what, What::Gone);
        // A cell that is done hears nothing more.
        if sender.send(Told { start, pid, at: Instant::now(), what }).is_err() || gone {
            return;
        }
    }
}
