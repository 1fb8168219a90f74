//! A Redis of the benchmark's own, where there is one to start.

use std::env;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(20);

/// On a socket in a directory of its own; killed and reaped when it is dropped.
pub(crate) struct Redis {
    child: Child,
    directory: TempDir,
}

impl Redis {
    /// `None`, with a word, where there is no Redis.
    pub(crate) fn start() -> Option<Redis> {
        let Some(program) = program() else {
            println!("skipped: redis: no redis-server; `ci/setup redis` installs it");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory for Redis");
        let child = Command::new(&program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--unixsocket", "redis.sock", "--dir"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()));
        let mut redis = Redis { child, directory };
        redis.wait();
        Some(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + LONG;
        while !self.answers() {
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "Redis ended before it answered: {ended:?}");
            assert!(Instant::now() < deadline, "Redis does not answer after {LONG:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else {
            return false;
        };
        let mut answer = [0; 7];
        let asked =
            stream.set_read_timeout(Some(LONG)).and_then(|()| stream.write_all(b"PING\r\n"));
        asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && &answer == b"+PONG\r\n"
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
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
