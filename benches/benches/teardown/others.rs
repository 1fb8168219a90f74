//! What others have: rmcp's child process in this program, and the Python and the TypeScript SDK in
//! programs of their own, which ci/subjects has.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use benches::effort::Effort;
use benches::mark::{Mark, VARIABLE};
use futures::future::join_all;
use rmcp::service::{ClientLifecycleMode, serve_client_with_lifecycle};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::ours::SILENT;
use crate::subject::{BUSY, Case, Ended, PEER, Subject, prepare, timed};

/// How long an SDK may take for one order; the slowest ends take seconds.
const LONG: Duration = Duration::from_secs(60);
/// How long it may take to end when nothing more is asked of it.
const EXIT_WAIT: Duration = Duration::from_secs(10);

/// Their waits are fixed, at 2 to 3 s: many stubborn ones only where there is time.
fn plays(effort: Effort, case: Case, at_once: usize) -> bool {
    match (case.is_stubborn(), effort) {
        _ if case == SILENT => false,
        (_, Effort::List) => false,
        (true, Effort::Test) => false,
        (true, Effort::Quick) => at_once == 1,
        _ => at_once <= 10,
    }
}

/// One, where each takes seconds.
fn most_rounds(case: Case) -> usize {
    if case.is_stubborn() { 1 } else { usize::MAX }
}

/// A program of its own takes longer to open connections than to close them.
const MOST_ROUNDS_OF_AN_SDK: usize = 50;

pub(crate) struct Rmcp<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) effort: Effort,
}

impl Subject for Rmcp<'_> {
    fn name(&self) -> &str {
        "rmcp"
    }

    fn plays(&self, case: Case, at_once: usize) -> bool {
        plays(self.effort, case, at_once)
    }

    fn most_rounds(&self, case: Case) -> usize {
        most_rounds(case)
    }

    fn end(&mut self, case: Case, at_once: usize) -> Ended {
        let mark = Mark::fresh();
        self.runtime.block_on(async {
            let opening = (0..at_once).map(|_| async {
                let mut command = tokio::process::Command::new(PEER);
                command.arg(case.server).env(VARIABLE, mark.value());
                let transport = TokioChildProcess::new(command).expect("the peer was built");
                let mode = ClientLifecycleMode::Initialize;
                let client = serve_client_with_lifecycle((), transport, mode);
                let client = client.await.expect("the handshake is answered");
                let in_flight = prepare(&client, case).await;
                (client, in_flight)
            });
            let (clients, _in_flight): (Vec<_>, Vec<_>) =
                join_all(opening).await.into_iter().unzip();
            let carriers = mark.carriers();
            let began = Instant::now();
            let closing = clients.into_iter().map(|client| timed(began, client.cancel()));
            let closed = join_all(closing).await;
            let whole = began.elapsed();
            let left = carriers.alive();
            let each = closed.iter().map(|(took, _)| *took).collect();
            Ended { whole, each, rungs: Vec::new(), left }
        })
    }
}

/// A program on an SDK that does as it is told. It ends when it is dropped.
pub(crate) struct Sdk {
    name: &'static str,
    effort: Effort,
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Sdk {
    /// `None`, with a word, where it is not installed.
    pub(crate) fn python(effort: Effort) -> Option<Sdk> {
        let python = installed("venv/bin/python");
        Sdk::start("python-sdk", effort, &python, &python, "bench_client.py")
    }

    /// `None`, with a word, where it is not installed.
    pub(crate) fn typescript(effort: Effort) -> Option<Sdk> {
        let sdk = installed("npm/node_modules/@modelcontextprotocol/sdk");
        Sdk::start("typescript-sdk", effort, Path::new("node"), &sdk, "bench_client.mjs")
    }

    fn start(
        name: &'static str,
        effort: Effort,
        program: &Path,
        needed: &Path,
        script: &str,
    ) -> Option<Sdk> {
        let skipped = |why: &str| println!("skipped: {name}: {why}");
        if effort == Effort::Test {
            return None;
        }
        if !needed.exists() {
            skipped("not installed; `ci/setup npm python` installs it");
            return None;
        }
        let started = Command::new(program)
            .arg(ci().join("subjects").join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                skipped(&format!("starting {}: {error}", program.display()));
                return None;
            }
        };
        let orders = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Some(Sdk { name, effort, child, orders, answers })
    }

    fn ask(&mut self, order: &Value) -> Value {
        let orders = self.orders.as_mut().expect("open until it is dropped");
        writeln!(orders, "{order}").expect("it reads its orders");
        let answer = self.answers.recv_timeout(LONG);
        let answer = answer.unwrap_or_else(|error| panic!("{}, {order}: {error}", self.name));
        serde_json::from_str(&answer).expect("it answers in JSON")
    }
}

impl Subject for Sdk {
    fn name(&self) -> &str {
        self.name
    }

    fn plays(&self, case: Case, at_once: usize) -> bool {
        plays(self.effort, case, at_once)
    }

    fn most_rounds(&self, case: Case) -> usize {
        most_rounds(case).min(MOST_ROUNDS_OF_AN_SDK)
    }

    fn end(&mut self, case: Case, at_once: usize) -> Ended {
        let mark = Mark::fresh();
        let busy = case.is_busy().then(|| BUSY.as_millis());
        self.ask(&json!({
            "open": at_once, "command": [PEER, case.server],
            "env": { VARIABLE: mark.value() }, "busy": busy,
        }));
        let carriers = mark.carriers();
        let told = self.ask(&json!({ "close": true }));
        let left = carriers.alive();
        let ms = |value: &Value| Duration::from_secs_f64(value.as_f64().unwrap_or(0.0) / 1000.0);
        let each = told["each_ms"].as_array().into_iter().flatten().map(ms).collect();
        Ended { whole: ms(&told["whole_ms"]), each, rungs: Vec::new(), left }
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        self.orders = None;
        let deadline = Instant::now() + EXIT_WAIT;
        // Its stdout ends with it, and so does the thread that reads it.
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn ci() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci")
}

fn installed(what: &str) -> PathBuf {
    ci().join(".installed").join(what)
}
