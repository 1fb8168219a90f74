//! A headless Chromium, driven by the DevTools protocol over two pipes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};

use super::support::wait_for;

/// Longest wait for anything, on a loaded host.
const BOUND: Duration = Duration::from_secs(60);
/// Most messages and errors that are kept.
const MOST_KEPT: usize = 1_000;

/// Puts the pipes where Chromium looks for them, 3 and 4; what it writes otherwise is no message.
const PIPES: &str = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null";

/// Where ci/setup installs Chromium; none where it is not installed and need not be.
pub(crate) fn installed() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.installed/chromium/chromium");
    if program.exists() {
        return Some(program);
    }
    let said = "Chromium is not installed; run ci/setup chromium";
    let is_required = std::env::var_os("SCUPPER_REQUIRE_REAL_SERVERS").is_some();
    assert!(!is_required, "{said}; missing: {}", program.display());
    println!("skipped: {said}");
    None
}

/// One browser with one page, in a process group and a profile of its own.
pub(crate) struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    home: tempfile::TempDir,
    session: Option<String>,
    number: u64,
    /// What the page complained of: errors on the console, exceptions, what the policy refused.
    pub(crate) errors: Vec<String>,
    events: Vec<String>,
}

impl Browser {
    /// Starts it with an empty page.
    pub(crate) fn start(program: &Path) -> Self {
        let home = tempfile::Builder::new().prefix("scupper-html-").tempdir().expect("a directory");
        let mut child = Command::new("sh")
            .args(["-c", PIPES, "sh"])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .args(["--disable-breakpad", "--disable-crash-reporter", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
            .arg("about:blank")
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .env("XDG_CACHE_HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(home.path().join("stderr")).expect("a file"))
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        let orders = child.stdin.take().expect("a pipe");
        let answers = listen(BufReader::new(child.stdout.take().expect("a pipe")));
        let (session, errors, events) = (None, Vec::new(), Vec::new());
        let mut browser = Self { child, orders, answers, home, session, number: 0, errors, events };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.ask("Target.attachToTarget", target);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a page as a file, and waits until it is loaded.
    pub(crate) fn open(&mut self, page: &str) {
        let path = self.home.path().join("report.html");
        fs::write(&path, page).expect("a file");
        self.events.clear();
        self.ask("Page.navigate", json!({ "url": format!("file://{}", path.display()) }));
        let deadline = Instant::now() + BOUND;
        while !self.events.iter().any(|event| event == "Page.loadEventFired") {
            let message = self.next(deadline, "the page to be loaded");
            self.keep(&message);
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let order = json!({ "expression": expression, "returnByValue": true });
        let answer = self.ask("Runtime.evaluate", order);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + BOUND;
        let told = wait_for(deadline, || (self.value(expression) == json!(true)).then_some(()));
        assert!(told.is_some(), "not in {BOUND:?}: {expression}\n{:?}", self.errors);
    }

    /// Types a text where the focus is.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
    }

    /// Presses and releases a key.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            _ => panic!("{key} is not known"),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({
                "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code,
            });
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    /// Sends an order, and waits for its answer.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut order = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        let sent = self.orders.write_all(format!("{order}\0").as_bytes());
        sent.unwrap_or_else(|error| panic!("{method}: {error}\n{}", self.said()));
        let deadline = Instant::now() + BOUND;
        loop {
            let message = self.next(deadline, method);
            if message["id"] == json!(self.number) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.keep(&message);
        }
    }

    fn next(&mut self, deadline: Instant, what: &str) -> Value {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = self.answers.recv_timeout(left);
        message.unwrap_or_else(|error| panic!("waiting for {what}: {error}\n{}", self.said()))
    }

    /// Keeps what an event tells.
    fn keep(&mut self, message: &Value) {
        let method = message["method"].as_str().unwrap_or_default();
        let params = &message["params"];
        let level = params["type"].as_str().or(params["entry"]["level"].as_str());
        let is_error = match method {
            "Runtime.exceptionThrown" => true,
            "Runtime.consoleAPICalled" | "Log.entryAdded" => level == Some("error"),
            _ => false,
        };
        if is_error && self.errors.len() < MOST_KEPT {
            self.errors.push(params.to_string());
        }
        if self.events.len() < MOST_KEPT {
            self.events.push(method.to_owned());
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The leader is not reaped yet, so the group is ours.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        // What has left the group still has the profile in its command line.
        let profile = self.home.path().join("profile").display().to_string();
        let deadline = Instant::now() + Duration::from_secs(10);
        let gone = wait_for(deadline, || {
            let left = with(&profile);
            for pid in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
            left.is_empty().then_some(())
        });
        if gone.is_none() && !std::thread::panicking() {
            panic!("the browser left processes: {:?}", with(&profile));
        }
    }
}

/// Messages as they come; the thread ends with the pipe.
fn listen(mut pipe: impl BufRead + Send + 'static) -> Receiver<Value> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut message = Vec::new();
        while pipe.read_until(0, &mut message).is_ok_and(|length| length > 0) {
            let text = message.strip_suffix(&[0]).unwrap_or(&message);
            let Ok(value) = serde_json::from_slice(text) else { break };
            if send.send(value).is_err() {
                break;
            }
            message.clear();
        }
    });
    receive
}

/// Living processes with a text in their command line.
fn with(text: &str) -> Vec<Pid> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains(text).then_some(())?;
        Pid::from_raw(pid)
    });
    pids.collect()
}
