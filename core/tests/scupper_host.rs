//! The example `scupper-host` as a program: what it prints, and that it ends in order and by force.

#[path = "support/asking.rs"]
mod asking;
#[path = "../examples/scupper_host.rs"]
#[expect(dead_code, reason = "its main is this test's own")]
mod scupper_host;
mod support;

use std::{
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use scupper_core::process::ProcessId;
use serde_json::json;
use support::{eventually, hosted::HOSTED};
use tempfile::TempDir;

/// Set in the child; its arguments, one a line.
const ROLE: &str = "SCUPPER_TEST_HOST_ARGUMENTS";

#[test]
fn be_the_host() {
    let Ok(arguments) = std::env::var(ROLE) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let arguments = arguments.lines().map(str::to_owned);
    match runtime.block_on(scupper_host::run(arguments)) {
        Ok(true) => println!("nothing is left"),
        Ok(false) => println!("something is left"),
        Err(error) => println!("error: {error}"),
    }
}

struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    directory: TempDir,
}

impl Program {
    /// Runs this test binary again, as the example.
    fn start(servers: serde_json::Value, token: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("mcp.json");
        std::fs::write(&config, json!({ "mcpServers": servers }).to_string()).expect("written");
        let token_file = directory.path().join("token");
        let arguments =
            format!("--config\n{}\n--token-file\n{}", config.display(), token_file.display());
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command
            .args(["be_the_host", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(token) = token {
            command.env("SCUPPER_ADMIN_TOKEN", token);
        }
        let mut child = command.spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, lines, directory }
    }

    /// The rest of the first line that has this in it.
    #[track_caller]
    fn line(&mut self, with: &str) -> String {
        let mut seen = Vec::new();
        for line in self.lines.by_ref().map(|line| line.expect("a line")) {
            if let Some((_, rest)) = line.split_once(with) {
                return rest.to_owned();
            }
            seen.push(line);
        }
        panic!("no line with {with:?} in {seen:#?}");
    }

    fn address(&mut self) -> SocketAddr {
        self.line("admin API: http://").parse().expect("an address")
    }

    fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("sent");
    }

    fn end(mut self) {
        assert!(self.child.wait().expect("its exit").success());
        assert!(!self.token_file().exists());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that failed in between; killing what has ended is no error.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn ask(address: SocketAddr, token: &str, path: &str) -> asking::Answer {
    let request = asking::request("GET", path, "").replace(asking::TOKEN, token);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(asking::exchange(address, &request)).expect("an answer")
}

fn shell(script: &str) -> serde_json::Value {
    json!({ "command": "sh", "args": ["-c", script] })
}

#[test]
fn it_serves_until_a_signal_and_tells_how_each_server_ended() {
    for signal in [Signal::INT, Signal::TERM] {
        let servers =
            json!({ "alpha": shell(HOSTED), "broken": { "command": "no-such-program-of-ours" } });
        let mut program = Program::start(servers, None);
        let address = program.address();
        let file = program.line("token: in ");
        assert_eq!(Path::new(&file), program.token_file());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(&file).unwrap();
        let mut reported = [program.line("server "), program.line("server ")];
        reported.sort();
        assert_eq!(reported[0], "`alpha` is ready");
        assert!(reported[1].starts_with("`broken` is not there: no executable"), "{reported:?}");
        let servers = ask(address, &token, "/mcp/servers").json();
        let process = &servers["servers"][0]["process"];
        let pid = i32::try_from(process["pid"].as_i64().unwrap()).unwrap();
        let process = ProcessId::of(pid).unwrap();

        program.signal(signal);

        program.line("admin API on 127.0.0.1");
        program.line("host closed, 1 servers");
        assert!(program.line("server `alpha` ended because ").contains("the host was shut down"));
        program.line("nothing is left");
        assert!(!process.exists());
        program.end();
    }
}

#[test]
fn a_second_signal_forces() {
    // Told to end, it says so and stays: only force ends it at once.
    let stubborn = format!(
        "trap '' TERM\n{HOSTED}\necho asked >&2; : > \"$ASKED\"; while :; do sleep 1000; done"
    );
    let directory = tempfile::tempdir().unwrap();
    let asked = directory.path().join("asked");
    let mut server = shell(&stubborn);
    server["env"] = json!({ "ASKED": asked });
    let mut program = Program::start(json!({ "stubborn": server }), None);
    program.line("`stubborn` is ready");
    program.signal(Signal::TERM);
    eventually("asked to end", || (asked.exists(), ()));
    program.signal(Signal::TERM);
    assert!(program.line("host closed").contains("past its deadline, so not waited for: stubborn"));
    program.line("nothing is left");
    program.end();
}

#[test]
fn a_token_of_the_environment_is_taken_and_not_written() {
    let mut program = Program::start(json!({}), Some(asking::TOKEN));
    let address = program.address();
    program.line("token: as SCUPPER_ADMIN_TOKEN says");
    assert!(!program.token_file().exists());
    assert_eq!(ask(address, asking::TOKEN, "/metrics").status, 200);
    program.signal(Signal::INT);
    program.line("nothing is left");
    program.end();
}

#[test]
fn what_is_wrong_is_told_before_anything_starts() {
    let mut program = Program::start(json!([]), None);
    assert!(program.line("error: ").contains("mcp.json"));
    program.end();
    let mut program = Program::start(json!({}), Some("short"));
    let error = program.line("error: ");
    assert!(error.contains("this one has 5") && !error.contains("short"), "{error}");
    program.end();
}
