//! A fake over HTTP, started once and left to the end.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::subject::PEER;

/// Killed and reaped when dropped.
pub(crate) struct HttpPeer {
    child: Child,
    url: String,
}

impl HttpPeer {
    pub(crate) fn start() -> HttpPeer {
        let mut child = Command::new(PEER)
            .args(["plain", "--http", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer was built with this benchmark");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut url).expect("the peer says where it listens");
        HttpPeer { child, url: url.trim().to_owned() }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn address(&self) -> &str {
        self.parts().0
    }

    pub(crate) fn path(&self) -> &str {
        self.parts().1
    }

    /// Stops it, so that it answers nothing, until what is given is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).expect("our own child");
        Frozen(pid)
    }

    fn parts(&self) -> (&str, &str) {
        let rest = self.url.strip_prefix("http://").expect("fakes listen on http");
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server that is stopped.
pub(crate) struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).ok();
    }
}
