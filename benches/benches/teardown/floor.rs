//! The least that an end can be: closing the pipe and waiting on the pidfd, and over HTTP a DELETE and
//! the closing of the socket, by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use benches::mark::{Mark, VARIABLE, exits_within};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::servers::HttpPeer;
use crate::subject::{BUSY, Case, Ended, PEER, Subject};

const LONG: Duration = Duration::from_secs(20);
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"floor","version":"0"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const ECHO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}"#;

pub(crate) struct Floor;

impl Subject for Floor {
    fn name(&self) -> &str {
        "floor"
    }

    /// Who only waits waits for ever for the stubborn ones.
    fn plays(&self, case: Case, _at_once: usize) -> bool {
        !case.is_stubborn()
    }

    fn end(&mut self, case: Case, at_once: usize) -> Ended {
        let mark = Mark::fresh();
        let mut opened: Vec<Opened> = (0..at_once).map(|_| Opened::new(case, &mark)).collect();
        let carriers = mark.carriers();
        let began = Instant::now();
        for one in &mut opened {
            one.child.stdin = None;
        }
        let mut ended = Ended::default();
        for one in &mut opened {
            assert!(exits_within(&one.pidfd, LONG), "`{}` did not end", case.server);
            let exited = began.elapsed();
            one.child.wait().expect("the peer is ours to wait for");
            let reaped = began.elapsed();
            ended
                .rungs
                .push(vec![("eof_to_exit_ms", exited), ("exit_to_reaped_ms", reaped - exited)]);
            ended.each.push(reaped);
        }
        ended.whole = began.elapsed();
        ended.left = carriers.alive();
        ended
    }
}

/// A server that has answered.
struct Opened {
    child: Child,
    pidfd: OwnedFd,
    _stdout: BufReader<ChildStdout>,
}

impl Opened {
    fn new(case: Case, mark: &Mark) -> Opened {
        let mut child = Command::new(PEER)
            .arg(case.server)
            .env(VARIABLE, mark.value())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer was built with this benchmark");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("our child");
        let stdin = child.stdin.as_mut().expect("stdin is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut said = format!("{INITIALIZE}\n{INITIALIZED}\n");
        if case.is_busy() {
            let ms = BUSY.as_millis();
            said += &format!(
                r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"sleep","arguments":{{"ms":{ms}}}}}}}"#
            );
            said += "\n";
        }
        said += ECHO;
        said += "\n";
        stdin.write_all(said.as_bytes()).expect("the peer reads");
        let mut line = String::new();
        while !line.contains(r#""id":1"#) {
            line.clear();
            let read = stdout.read_line(&mut line).expect("the peer answers");
            assert!(read > 0, "`{}` ended before it answered", case.server);
        }
        Opened { child, pidfd, _stdout: stdout }
    }
}

pub(crate) struct HttpFloor<'a> {
    pub(crate) server: &'a HttpPeer,
}

impl Subject for HttpFloor<'_> {
    fn name(&self) -> &str {
        "floor-http"
    }

    fn leaves(&self) -> &'static str {
        "left_sessions"
    }

    fn plays(&self, case: Case, _at_once: usize) -> bool {
        case.server == "plain"
    }

    fn end(&mut self, _case: Case, at_once: usize) -> Ended {
        let opened: Vec<_> = (0..at_once).map(|_| self.open()).collect();
        let began = Instant::now();
        let mut ended = Ended::default();
        for (mut socket, session) in opened {
            let request = self.request("DELETE", Some(&session), "");
            socket.write_all(request.as_bytes()).expect("the peer reads");
            let head = answer(&mut socket);
            drop(socket);
            ended.each.push(began.elapsed());
            ended.left += usize::from(!head.starts_with("HTTP/1.1 20"));
        }
        ended.whole = began.elapsed();
        ended
    }
}

impl HttpFloor<'_> {
    fn open(&self) -> (TcpStream, String) {
        let mut socket = TcpStream::connect(self.server.address()).expect("the peer listens");
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(LONG)).expect("a TCP socket");
        let mut session = None;
        for body in [INITIALIZE, INITIALIZED, ECHO] {
            let request = self.request("POST", session.as_deref(), body);
            socket.write_all(request.as_bytes()).expect("the peer reads");
            let head = answer(&mut socket);
            session = session.or_else(|| header(&head, "mcp-session-id"));
        }
        (socket, session.expect("the peer has sessions"))
    }

    fn request(&self, method: &str, session: Option<&str>, body: &str) -> String {
        let (path, address) = (self.server.path(), self.server.address());
        let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
             {session}Content-Length: {length}\r\n\r\n{body}"
        )
    }
}

/// Reads one answer and gives its head.
fn answer(socket: &mut TcpStream) -> String {
    let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let count = socket.read(&mut chunk).expect("the peer answers");
        assert!(count > 0, "the peer closed: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let is_whole = match header(head, "content-length") {
            Some(length) => Some(body.len()) >= length.parse().ok(),
            None if header(head, "transfer-encoding").is_some() => body.ends_with("0\r\n\r\n"),
            None => true,
        };
        if is_whole {
            return head.to_owned();
        }
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
