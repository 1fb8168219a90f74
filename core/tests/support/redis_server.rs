//! A Redis of a test's own, which ends with it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it, so an expectation would fail in some"
)]

use std::{
    env,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(20);

/// A server on a port of 127.0.0.1, with a directory of its own; killed and reaped when it is dropped.
pub(crate) struct RedisServer {
    program: PathBuf,
    port: u16,
    /// Absent while the server is stopped.
    child: Option<Child>,
    directory: TempDir,
}

impl RedisServer {
    /// Starts one; `None`, with a line for the count of skipped tests, where there is no Redis.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(program) = program() else {
            let skipped = format!("skipped: {test}: no redis-server; ci/setup installs it");
            assert!(env::var_os("SCUPPER_REQUIRE_REDIS").is_none(), "{skipped}");
            println!("{skipped}");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory for Redis");
        let mut server = Self { program, port: 0, child: None, directory };
        // Between the look for a free port and its use somebody else may take it.
        for _ in 0..10 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            server.port = free.local_addr().expect("its number").port();
            drop(free);
            if server.try_start() {
                return Some(server);
            }
        }
        panic!("no Redis in 10 attempts: {}", server.log());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills it; its payloads are gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Starts it again, on the same port.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none() && self.try_start(), "{}", self.log());
    }

    /// Stops its answers, but not its sockets, until [`thaw`](Self::thaw).
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs");
        assert!(status.success(), "kill -s {name} {pid}: {status}");
    }

    /// A command on a connection of its own, and the reply's lines.
    pub(crate) fn ask(&self, command: &[&str]) -> Vec<String> {
        self.replies(command).expect("Redis answers")
    }

    fn replies(&self, command: &[&str]) -> io::Result<Vec<String>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(LONG))?;
        let mut request = format!("*{}\r\n", command.len());
        for word in command {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        // QUIT ends the replies by closing.
        request.push_str("*1\r\n$4\r\nQUIT\r\n");
        stream.write_all(request.as_bytes())?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        let mut lines: Vec<String> = reply.lines().map(str::to_owned).collect();
        match lines.pop().as_deref() {
            Some("+OK") => Ok(lines),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, reply)),
        }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        let lines = self.ask(&["KEYS", "*"]);
        lines.into_iter().filter(|line| !line.starts_with(['*', '$'])).collect()
    }

    /// What is left of a key's time, in ms; negative where it has none.
    pub(crate) fn time_left(&self, key: &str) -> i64 {
        let lines = self.ask(&["PTTL", key]);
        lines[0].trim_start_matches(':').parse().expect("a number")
    }

    fn try_start(&mut self) -> bool {
        let log = std::fs::File::create(self.directory.path().join("log")).expect("a log");
        let mut child = Command::new(&self.program)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", self.program.display()));
        let deadline = Instant::now() + LONG;
        loop {
            if child.try_wait().expect("its state").is_some() {
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                self.child = Some(child);
                // Somebody else's Redis on this port is not ours, and may be killed while it is asked.
                let ours = self.replies(&["CONFIG", "GET", "dir"]).unwrap_or_default();
                let directory = self.directory.path().canonicalize().expect("it is there");
                if ours.iter().any(|line| Path::new(line) == directory) {
                    return true;
                }
                self.kill();
                return false;
            }
            if Instant::now() > deadline {
                self.child = Some(child);
                panic!("Redis does not listen after 20 s: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // SIGKILL ends a frozen one too.
        self.kill();
    }
}

/// The one on PATH, or the one that ci/setup installed.
fn program() -> Option<PathBuf> {
    let installed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.installed/redis/redis-server");
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join("redis-server"))
        .chain([installed])
        .find(|program| program.is_file())
}
