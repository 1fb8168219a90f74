//! The fakes over HTTP do what their list says, seen by a client that speaks HTTP to them and looks
//! into /proc, and by nobody who judges: that is `http_fakes.rs`.

mod client;
mod look;
#[expect(dead_code, reason = "the tests of the whole program use the rest")]
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use client::{Client, call, headers, initialize, modern, session};
use harness::peer::fake::HTTP_FAKES;
use look::{Look, children};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::json;
use support::{SCUPPER, at_once, wait_for};

/// Longest wait for something that has to happen.
const BOUND: Duration = Duration::from_secs(20);
/// How long something that must not happen is waited for.
const MOMENT: Duration = Duration::from_millis(300);

#[test]
fn the_older_era_is_served_with_sessions_streams_and_answers_that_wait() {
    let fake = Fake::start(&["plain"]);
    let mut client = fake.client();
    let id = client.initialize();
    let echo = client.ask(&call(2, "echo", json!({"text": "ä"})), &session(&id));
    assert_eq!(echo.message()["result"]["content"][0]["text"], "ä");
    assert_eq!(client.ask(&call(3, "ping", json!({})), "").status, 400);
    assert_eq!(client.ask(&call(3, "ping", json!({})), &session("session-0")).status, 404);

    let mut stream = fake.client();
    stream.send("GET", "/mcp", &session(&id), None);
    assert!(stream.line_with("id: ").ends_with("-0"));

    // A client that loses its connection does not lose its call.
    let mut lost = fake.client();
    lost.send("POST", "/mcp", &session(&id), Some(&call(4, "sleep", json!({"ms": 100}))));
    let last = lost.line_with("id: ");
    lost.reset();
    let back = format!("{}Last-Event-ID: {}\r\n", session(&id), last.trim_start_matches("id: "));
    let resumed = fake.client().request("GET", "/mcp", &back, None);
    assert_eq!(resumed.message()["id"], 4);

    let mut cancelled = fake.client();
    cancelled.send("POST", "/mcp", &session(&id), Some(&call(5, "sleep", json!({"ms": 600_000}))));
    cancelled.line_with("id: ");
    let cancel = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5},
    });
    assert_eq!(client.ask(&cancel, &session(&id)).status, 202);
    assert!(!cancelled.rest().contains("\"id\":5"));

    assert_eq!(client.request("DELETE", "/mcp", &session(&id), None).status, 200);
    assert!(stream.rest().ends_with("0\r\n\r\n"), "the stream of a deleted session ends in order");
    assert_eq!(client.ask(&call(6, "ping", json!({})), &session(&id)).status, 404);
    assert_eq!(client.ask(&call(6, "ping", json!({})), "Origin: http://evil.test\r\n").status, 403);
}

#[test]
fn the_newer_era_is_served_without_sessions_and_a_closed_stream_cancels() {
    let fake = Fake::start(&["plain"]);
    let mut client = fake.client();
    let discovered =
        client.ask(&modern(1, "server/discover", json!({})), &headers("server/discover"));
    assert_eq!(discovered.message()["result"]["supportedVersions"], json!(["2026-07-28"]));
    let echo = modern(2, "tools/call", json!({"name": "echo", "arguments": {"text": "x"}}));
    let named = format!("{}Mcp-Name: echo\r\n", headers("tools/call"));
    assert_eq!(client.ask(&echo, &named).message()["result"]["content"][0]["text"], "x");
    for wrong in [String::new(), headers("tools/list"), headers("tools/call")] {
        let refused = client.ask(&echo, &wrong);
        assert_eq!((refused.status, &refused.message()["error"]["code"]), (400, &json!(-32020)));
    }
    assert_eq!(client.ask(&modern(3, "ping", json!({})), &headers("ping")).status, 404);
    let get = "MCP-Protocol-Version: 2026-07-28\r\n";
    assert_eq!(client.request("GET", "/mcp", get, None).status, 405);

    let sleep = modern(4, "tools/call", json!({"name": "sleep", "arguments": {"ms": 600_000}}));
    let mut leaves = fake.client();
    let named = format!("{}Mcp-Name: sleep\r\n", headers("tools/call"));
    leaves.send("POST", "/mcp", &named, Some(&sleep));
    leaves.line_with(": here");
    fake.until("the call is worked on", |look| look.threads_of("call") == 1);
    drop(leaves);
    fake.until("the call has ended", |look| look.threads_of("call") == 0);
}

#[test]
fn the_older_pair_is_a_stream_and_a_place_to_write_to() {
    let fake = Fake::start(&["plain", "transport=sse"]);
    assert!(fake.url.ends_with("/sse"));
    assert_eq!(fake.client().request("POST", "/sse", "", None).status, 405);
    let mut stream = fake.client();
    stream.send("GET", "/sse", "", None);
    let endpoint = stream.line_with("data: /messages");
    let mut client = fake.client();
    let path = endpoint.trim_start_matches("data: ");
    assert_eq!(client.request("POST", path, "", Some(&initialize())).status, 202);
    assert!(stream.line_with("data: {").contains("protocolVersion"));
    drop(stream);
    fake.until("the session has ended with its stream", |look| look.threads_of("connection") == 1);
    assert_eq!(client.request("POST", path, "", Some(&initialize())).status, 404);
}

#[test]
fn an_idle_session_is_gone_after_its_time_and_one_in_use_is_not() {
    let fake = Fake::start(&["plain", "ttl=50"]);
    let mut client = fake.client();
    // On a busy host, a session may be gone before its stream is there; the next may not.
    let (used, _stream) = wait_for(Instant::now() + BOUND, || {
        let (id, mut stream) = (client.initialize(), fake.client());
        stream.send("GET", "/mcp", &session(&id), None);
        stream.first_line().contains("200").then_some((id, stream))
    })
    .expect("a session with a stream");
    let idle = client.initialize();
    let mut census = || client.request("GET", "/census", "", None).body;
    let gone = wait_for(Instant::now() + BOUND, || (!census().contains(&idle)).then_some(()));
    assert!(gone.is_some(), "the idle session has ended");
    let ping = client.ask(&call(2, "ping", json!({})), &session(&used));
    assert_eq!(ping.status, 200);
}

/// A thing, and how many of it there are.
type Count = fn(&Look) -> usize;

/// What each of three sessions on one connection leaves when it was deleted, and the connection
/// closed.
#[rustfmt::skip]
const KEPT: &[(&str, Count, usize)] = &[
    ("fd-per-session", |look| look.fds, 3),
    ("keeps-sockets", |look| look.fds, 1),
    ("thread-per-session", |look| look.threads.len(), 3),
    ("child-per-session", |look| look.children, 3),
    ("zombie-per-session", |look| look.zombies, 3),
    ("tempfile-per-session", |look| look.files, 3),
    ("gateway", |look| look.children, 3),
];

#[test]
fn what_is_kept_of_a_session_is_kept_and_the_twin_keeps_nothing() {
    let runs: Vec<_> = KEPT.iter().flat_map(|row| [(row, false), (row, true)]).collect();
    let wrong = at_once(4, &runs, |((name, count, each), fixed)| {
        let fake = Fake::start(&[name, if *fixed { "--fixed" } else { "ttl=300000" }]);
        let before = fake.look();
        let mut client = fake.client();
        for _ in 0..3 {
            let id = client.initialize();
            client.request("DELETE", "/mcp", &session(&id), None);
        }
        drop(client);
        let after =
            fake.until("its connection has ended", |look| look.threads_of("connection") == 0);
        let (grown, expected) = (count(&after) - count(&before), if *fixed { 0 } else { *each });
        (grown != expected).then(|| format!("{name}, fixed {fixed}: {grown} and not {expected}"))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_client_leaves_behind_stays_and_the_twin_lets_go() {
    for (name, options) in
        [("stream-stays", ""), ("stream-stays", "transport=sse"), ("half-open", "")]
    {
        for fixed in [false, true] {
            let words = [name, if fixed { "--fixed" } else { "ttl=300000" }, options];
            let fake = Fake::start(&words[..if options.is_empty() { 2 } else { 3 }]);
            let mut leaves = fake.client();
            match (name, options) {
                ("half-open", _) => {
                    leaves.write(b"POST /mcp HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
                    fake.until("it reads", |look| look.threads_of("connection") == 1);
                }
                (_, "") => {
                    let id = leaves.initialize();
                    leaves.send("GET", "/mcp", &session(&id), None);
                    leaves.line_with("id: ");
                }
                _ => {
                    leaves.send("GET", "/sse", "", None);
                    leaves.line_with("data: /messages");
                }
            }
            if name == "half-open" {
                // A reset would take what it has not read yet, and there would be no request.
                drop(leaves);
            } else {
                leaves.reset();
            }
            if fixed {
                fake.until("it lets go", |look| look.threads_of("connection") == 0);
            } else {
                // Another one comes and goes meanwhile.
                let mut other = fake.client();
                other.request("GET", "/census", "", None);
                drop(other);
                fake.until("one stays", |look| look.threads_of("connection") == 1);
            }
        }
    }
}

#[test]
fn work_for_a_call_goes_on_or_stops_as_each_fake_has_it() {
    // After its client has gone, and after the call was cancelled.
    let rows = [
        ("runs-on-after-cancel", false, 1, 1),
        ("runs-on-after-cancel", true, 1, 0),
        ("stops-on-disconnect", false, 0, 0),
        ("stops-on-disconnect", true, 1, 0),
    ];
    for (name, fixed, gone, cancelled) in rows {
        let fake = Fake::start(&[name, if fixed { "--fixed" } else { "ttl=300000" }]);
        let mut client = fake.client();
        let id = client.initialize();
        let mut asks = fake.client();
        asks.send("POST", "/mcp", &session(&id), Some(&call(5, "sleep", json!({"ms": 600_000}))));
        asks.line_with("id: ");
        fake.until("it works", |look| look.children == 1);
        drop(asks);
        fake.until("its client has gone", |look| look.threads_of("connection") == 1);
        let row = format!("{name}, fixed {fixed}");
        fake.until(&row, |look| look.children == gone);
        let cancel = json!({
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5},
        });
        client.ask(&cancel, &session(&id));
        fake.until(&row, |look| look.threads_of("call") == 0 && look.children == cancelled);
    }
}

/// What a server meets when it is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Idle,
    Stream,
    Call,
    Stalled,
    Twice,
}

#[rustfmt::skip]
const ENDS: &[(&str, Moment, bool)] = &[
    ("plain", Moment::Idle, true),
    ("plain", Moment::Stream, true),
    ("plain", Moment::Call, true),
    ("ignores-term", Moment::Idle, false),
    ("ignores-term-with-stream", Moment::Idle, true),
    ("ignores-term-with-stream", Moment::Stream, false),
    ("busy-at-term", Moment::Idle, true),
    ("busy-at-term", Moment::Call, false),
    ("stalled-at-term", Moment::Idle, true),
    ("stalled-at-term", Moment::Stalled, false),
    ("second-signal-hangs", Moment::Idle, true),
    ("second-signal-hangs", Moment::Twice, false),
    ("slow-exit", Moment::Idle, true),
    ("helper-keeps-port", Moment::Idle, true),
];

#[test]
fn ends_upon_a_signal_unless_the_fault_is_met_and_the_twin_always_does() {
    let runs: Vec<_> = ENDS.iter().flat_map(|row| [(row, false), (row, true)]).collect();
    let wrong = at_once(6, &runs, |((name, moment, ends), fixed)| {
        if *fixed && !HTTP_FAKES.iter().any(|info| info.name == *name && info.has_twin) {
            return None;
        }
        let twin: &[&str] = if *fixed { &["--fixed"] } else { &[] };
        // The second signal must come while the first is at work.
        let slow: &[&str] = if *moment == Moment::Twice { &["ms=10000"] } else { &[] };
        let mut fake = Fake::start(&[&[*name], twin, slow].concat());
        let mut client = fake.client();
        let id = client.initialize();
        let mut stays = fake.client();
        match moment {
            Moment::Idle | Moment::Twice | Moment::Stalled => {}
            Moment::Call => {
                let sleep = call(2, "sleep", json!({"ms": 600_000}));
                stays.send("POST", "/mcp", &session(&id), Some(&sleep));
                stays.line_with("id: ");
            }
            Moment::Stream => {
                stays.send("GET", "/mcp", &session(&id), None);
                stays.line_with("id: ");
            }
        }
        if *moment == Moment::Stalled {
            client.flood(&session(&id));
        }
        fake.signal(Signal::TERM);
        if *moment == Moment::Twice {
            fake.signal(Signal::INT);
        }
        let ended = fake.ends_within(if *ends || *fixed { BOUND } else { MOMENT });
        let code = ended.map(|status| status.code());
        let expected = (*ends || *fixed).then_some(Some(0));
        (code != expected).then(|| format!("{name} at {moment:?}, fixed {fixed}: {code:?}"))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_reader_that_stalls_holds_up_everybody_or_nobody() {
    for fixed in [false, true] {
        let fake =
            Fake::start(&["stalled-reader-blocks", if fixed { "--fixed" } else { "ttl=300000" }]);
        let mut stalls = fake.client();
        let id = stalls.initialize();
        stalls.flood(&session(&id));
        let answered = |time| {
            let mut other = fake.client();
            other.send("POST", "/mcp", "", Some(&initialize()));
            other.is_answered_within(time)
        };
        if fixed {
            assert!(answered(BOUND));
        } else {
            let blocked = || (!answered(MOMENT)).then_some(());
            assert!(wait_for(Instant::now() + BOUND, blocked).is_some(), "nobody is held up");
        }
    }
}

#[test]
fn helper_of_a_server_that_ended_has_its_port() {
    for fixed in [false, true] {
        let mut fake =
            Fake::start(&["helper-keeps-port", if fixed { "--fixed" } else { "ttl=300000" }]);
        fake.signal(Signal::TERM);
        assert!(fake.ends_within(BOUND).is_some());
        let again = std::net::TcpListener::bind(("127.0.0.1", fake.port));
        assert_eq!(again.is_ok(), fixed);
    }
}

#[test]
fn nobody_can_talk_to_a_server_that_starts_wrong() {
    let first_line = |name: &str, headers: &str| {
        let fake = Fake::start(&[name]);
        let mut client = fake.client();
        client.send("POST", "/mcp", headers, Some(&initialize()));
        client.first_line()
    };
    assert!(first_line("answers-500", "").contains("500"));
    assert!(first_line("speaks-tls", "").starts_with("\u{15}\u{3}\u{3}"));
    assert!(first_line("needs-token", "").contains("401"));
    assert!(first_line("needs-token", "Authorization: Bearer open-sesame\r\n").contains("200"));
    assert!(first_line("not-found", "").contains("404"));

    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = free.local_addr().expect("its number").port();
    let elsewhere = Fake::start_at(&["listens-elsewhere"], port);
    assert_ne!(elsewhere.port, port);
    let mut silent = Command::new(SCUPPER)
        .args(["fake", "never-listens", "--http", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let look = Look::of(silent.id());
    assert!(!look.listens);
    silent.kill().expect("it is our child");
    silent.wait().expect("it is our child");
}

/// A fake that runs.
struct Fake {
    child: Child,
    home: tempfile::TempDir,
    url: String,
    port: u16,
    /// Its children of when it was last seen alive. Some are made to outlive it.
    helpers: Vec<OwnedFd>,
}

impl Fake {
    fn start(words: &[&str]) -> Self {
        Self::start_at(words, 0)
    }

    fn start_at(words: &[&str], port: u16) -> Self {
        let home = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
        let mut child = Command::new(SCUPPER)
            .args(["fake", "--http", &port.to_string()])
            .args(words)
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
        BufReader::new(stdout).read_line(&mut url).expect("a line");
        let port = url.split(['/', ':']).find_map(|part| part.parse().ok()).expect("a port");
        Self { child, home, url: url.trim().to_owned(), port, helpers: Vec::new() }
    }

    fn client(&self) -> Client {
        Client::of(self.port)
    }

    fn look(&self) -> Look {
        let files = fs::read_dir(self.home.path()).expect("its TMPDIR").count();
        Look { files, ..Look::of(self.child.id()) }
    }

    fn until(&self, what: &str, holds: impl Fn(&Look) -> bool) -> Look {
        let found = wait_for(Instant::now() + BOUND, || Some(self.look()).filter(&holds));
        found.unwrap_or_else(|| panic!("{}: not in time: {what}; {:?}", self.url, self.look()))
    }

    fn children(&self) -> Vec<i32> {
        children(self.child.id())
    }

    fn signal(&mut self, signal: Signal) {
        self.note_helpers();
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    fn note_helpers(&mut self) {
        let pids = self.children().into_iter().filter_map(Pid::from_raw);
        let open = |pid| pidfd_open(pid, PidfdFlags::empty()).ok();
        self.helpers.extend(pids.filter_map(open));
    }

    fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        wait_for(Instant::now() + time, || self.child.try_wait().expect("it is our child"))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.note_helpers();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for helper in &self.helpers {
            // It may have ended with it.
            let _ = pidfd_send_signal(helper, Signal::KILL);
        }
    }
}
