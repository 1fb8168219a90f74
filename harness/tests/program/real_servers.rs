//! `scupper server` on the real servers that ci/setup installs. Without them these tests print that
//! they were skipped and pass, unless SCUPPER_REQUIRE_REAL_SERVERS is set.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Few cycles, so that a whole battery stays short; enough for growth to be judged.
const CYCLES: &str = "6";

/// A leak that is expected is not waited for longer on a busy host.
const BOUND: &[&str] = &["--leak-timeout", "6s"];

/// Where ci/setup installs.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.installed")
}

fn npm(name: &str) -> PathBuf {
    installed().join("npm/node_modules/.bin").join(name)
}

fn python(name: &str) -> PathBuf {
    installed().join("venv/bin").join(name)
}

/// Whether these are all there; where they have to be, their absence is a failure.
fn are_installed(programs: &[PathBuf]) -> bool {
    let missing: Vec<&PathBuf> = programs.iter().filter(|program| !program.exists()).collect();
    if missing.is_empty() {
        return true;
    }
    let said = "real servers are not installed; run ci/setup";
    assert!(
        std::env::var_os("SCUPPER_REQUIRE_REAL_SERVERS").is_none(),
        "{said}; missing: {missing:?}"
    );
    println!("skipped: {said}");
    false
}

/// At most two judgements at once, whatever the number of test threads: each fills two cores.
fn turn(of: usize) -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    TURNS[of % TURNS.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

struct Judged {
    report: Value,
    output: Output,
}

/// Judges a server; `place` is where scupper is started.
fn judge(place: &Path, options: &[&str], command: &[&Path]) -> Judged {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let json = scratch.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_scupper"))
        .arg("server")
        .args(options)
        .args(["--cycles", CYCLES, "--no-progress", "--json"])
        .arg(&json)
        .arg("--")
        .args(command)
        .current_dir(place)
        .env("UV_CACHE_DIR", installed().join("uv-cache"))
        .env("UV_OFFLINE", "1")
        .output()
        .expect("scupper runs");
    let report = std::fs::read(&json).expect("a report");
    let report = serde_json::from_slice(&report).unwrap_or_else(|error| {
        panic!("no report ({error}): {}", String::from_utf8_lossy(&output.stderr))
    });
    Judged { report, output }
}

impl Judged {
    /// Id of the lifecycle and verdict, case by case.
    fn verdicts(&self) -> Vec<(&str, &str)> {
        self.cases().map(|case| (text(&case["lifecycle"]), text(&case["verdict"]))).collect()
    }

    fn cases(&self) -> impl Iterator<Item = &Value> {
        self.report["cases"].as_array().expect("cases").iter()
    }

    fn case(&self, lifecycle: &str) -> &Value {
        self.cases()
            .find(|case| case["lifecycle"] == lifecycle)
            .unwrap_or_else(|| panic!("{lifecycle} was not judged\n{self}"))
    }

    /// The one finding of a case, which is a leak.
    fn only_leak(&self, lifecycle: &str) -> &Value {
        let case = self.case(lifecycle);
        assert_eq!(case["verdict"], "leak", "{lifecycle}\n{self}");
        let findings = case["findings"].as_array().expect("findings");
        assert_eq!(findings.len(), 1, "{lifecycle}\n{self}");
        assert_eq!(findings[0]["class"], "leak", "{lifecycle}\n{self}");
        &findings[0]
    }

    fn has_exit_code(&self, code: i32) {
        assert_eq!(self.output.status.code(), Some(code), "{self}");
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for stream in [&self.output.stdout, &self.output.stderr] {
            writeln!(f, "{}", String::from_utf8_lossy(stream))?;
        }
        Ok(())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What is left out where another server of the same runtime plays it: life after life starts a server more
/// often than all other lifecycles together.
const ONE_LIFE: &[&str] = &["--skip", "stdio/reconnect"];

/// A whole battery, in which nothing leaks.
fn has_a_clean_battery(at: usize, name: &str, options: &[&str], command: &[&Path]) {
    let programs: Vec<PathBuf> = command
        .iter()
        .filter(|word| word.starts_with(installed()))
        .map(|word| word.to_path_buf())
        .collect();
    if !are_installed(&programs) {
        return;
    }
    let judged = {
        let _turn = turn(at);
        judge(&installed(), options, command)
    };
    for case in judged.cases() {
        println!(
            "{name:<12} {:<30} {:<8} drained after {} ms",
            text(&case["lifecycle"]),
            text(&case["verdict"]),
            case["figures"]["drained_after_due_ms"]
        );
    }
    // 31, without those about two eras where the server does not take part in them.
    let cases = judged.verdicts().len() + options.iter().filter(|word| **word == "--skip").count();
    assert!((29..=31).contains(&cases), "{judged}");
    assert!(judged.verdicts().iter().all(|(_, verdict)| *verdict == "clean"), "{judged}");
    judged.has_exit_code(0);
}

#[test]
fn everything_has_a_clean_battery() {
    has_a_clean_battery(0, "everything", &[], &[&npm("mcp-server-everything"), Path::new("stdio")]);
}

#[test]
fn filesystem_has_a_clean_battery() {
    let files = tempfile::tempdir().expect("a directory");
    has_a_clean_battery(1, "filesystem", ONE_LIFE, &[&npm("mcp-server-filesystem"), files.path()]);
}

#[test]
fn memory_has_a_clean_battery() {
    let files = tempfile::tempdir().expect("a directory");
    let file = format!("MEMORY_FILE_PATH={}", files.path().join("memory.jsonl").display());
    let command = [Path::new("env"), Path::new(&file), &npm("mcp-server-memory")];
    has_a_clean_battery(1, "memory", ONE_LIFE, &command);
}

#[test]
fn time_has_a_clean_battery() {
    let command =
        [&python("mcp-server-time"), Path::new("--local-timezone"), Path::new("UTC")] as [&Path; 3];
    has_a_clean_battery(0, "time", ONE_LIFE, &command);
}

#[test]
fn a_server_on_the_python_sdk_has_a_clean_battery() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/subjects/server.py");
    has_a_clean_battery(1, "python-sdk", &[], &[&python("python"), &script]);
}

/// Over HTTP: sessions that end well and sessions that are left, and both ways to shut down.
const HTTP: &[&str] = &[
    "clean-close",
    "reconnect",
    "abandoned",
    "client-killed",
    "request-abandoned",
    "sigterm-open-streams",
    "sigint-idle",
];

/// Nothing leaks over HTTP; that sessions outlive their clients is said.
fn keeps_no_more_than_sessions_over_http(at: usize, programs: &[PathBuf], command: &[&Path]) {
    if !are_installed(programs) {
        return;
    }
    let judged = {
        let _turn = turn(at);
        let only = HTTP.join(",http/");
        let options = ["--http", "http://127.0.0.1:{port}/mcp", "--only", &format!("http/{only}")];
        // A server that is slow to start on a busy host is not what is judged.
        judge(&installed(), &[&options[..], &["--start-timeout", "120s"]].concat(), command)
    };
    assert_eq!(judged.verdicts().len(), HTTP.len(), "{judged}");
    assert!(judged.verdicts().iter().all(|(_, verdict)| *verdict == "clean"), "{judged}");
    for case in judged.cases() {
        let findings = case["findings"].as_array().expect("findings");
        let sessions = findings.iter().filter(|one| one["kind"] == "session");
        let expected = usize::from(case["lifecycle"] == "http/abandoned");
        assert_eq!(sessions.count(), expected, "{judged}");
        assert!(findings.iter().all(|one| one["class"] == "advisory"), "{judged}");
    }
    judged.has_exit_code(0);
}

#[test]
fn everything_over_http_keeps_no_more_than_sessions() {
    let server = npm("mcp-server-everything");
    let command =
        [Path::new("env"), Path::new("PORT={port}"), &server, Path::new("streamableHttp")];
    keeps_no_more_than_sessions_over_http(0, std::slice::from_ref(&server), &command);
}

#[test]
fn a_server_on_the_python_sdk_over_http_keeps_no_more_than_sessions() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/subjects/http_server.py");
    let command = [&python("python"), &script, Path::new("{port}")] as [&Path; 3];
    keeps_no_more_than_sessions_over_http(1, &[python("python")], &command);
}

/// A launcher that is sent SIGTERM dies and leaves the server, which would have been due with it.
fn leaves_its_server_at_sigterm(command: &[&str], launchers: usize) {
    if !are_installed(&[npm("mcp-server-everything")]) {
        return;
    }
    let command: Vec<&Path> = command.iter().map(Path::new).collect();
    let judged = {
        let _turn = turn(1);
        let options = [BOUND, &["--only", "sigterm-idle", "--only", "clean-close"]].concat();
        judge(&installed().join("npm"), &options, &command)
    };
    assert_eq!(judged.case("stdio/clean-close")["verdict"], "clean", "{judged}");
    let leak = judged.only_leak("stdio/sigterm-idle");
    assert_eq!(leak["kind"], "process", "{judged}");
    assert_eq!(leak["culprit"], "launcher", "{judged}");
    assert_eq!(leak["due_step"]["name"], "signal TERM server", "{judged}");
    assert!(text(&leak["what"]).starts_with("the server, "), "{judged}");
    let seen = judged.report["subject"]["launchers"].as_array().map_or(0, Vec::len);
    assert_eq!(seen, launchers, "{judged}");
    judged.has_exit_code(1);
}

#[test]
fn npx_leaves_the_server_at_sigterm_and_is_blamed() {
    // npx itself, and the shell that it starts.
    leaves_its_server_at_sigterm(&["npx", "--no-install", "mcp-server-everything", "stdio"], 2);
}

#[test]
fn a_shell_leaves_the_server_at_sigterm_and_is_blamed() {
    let line = "node_modules/.bin/mcp-server-everything stdio; true";
    leaves_its_server_at_sigterm(&["sh", "-c", line], 1);
}

/// `uv run`, with options that need neither a project nor a network.
fn uv_run() -> Vec<PathBuf> {
    let words = ["run", "--no-config", "--no-project", "--python"].map(PathBuf::from);
    [vec![python("uv")], words.to_vec(), vec![python("python")]].concat()
}

/// Ends of a life that a launcher could keep from its server.
const ENDS: &[&str] = &["clean-close", "client-killed", "sigterm-idle", "sigterm-busy"];

/// Every end is clean through this launcher, and there is no other.
fn passes_every_end_on(at: usize, command: &[PathBuf], launcher: &str) {
    let judged = {
        let _turn = turn(at);
        let options: Vec<&str> = ENDS.iter().flat_map(|id| ["--only", id]).collect();
        let command: Vec<&Path> = command.iter().map(PathBuf::as_path).collect();
        judge(&installed(), &options, &command)
    };
    assert_eq!(judged.verdicts().len(), ENDS.len(), "{judged}");
    assert!(judged.verdicts().iter().all(|(_, verdict)| *verdict == "clean"), "{judged}");
    let launchers = judged.report["subject"]["launchers"].as_array().expect("launchers");
    assert_eq!(launchers.len(), 1, "{judged}");
    assert!(text(&launchers[0]).contains(launcher), "{judged}");
    judged.has_exit_code(0);
}

/// It passes SIGTERM and SIGINT on, waits for the server, and is no pipe's last holder.
#[test]
fn uv_passes_every_end_on() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/subjects/server.py");
    let command = [uv_run(), vec![script]].concat();
    if !are_installed(&[python("uv"), python("python")]) {
        return;
    }
    passes_every_end_on(0, &command, "uv run");
}

/// `uvx` becomes `uv tool uvx`, which stays above the server. It starts it from the cache that
/// ci/setup has filled.
#[test]
fn uvx_passes_every_end_on() {
    let constraints = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/python/requirements.txt");
    let cache = installed().join("uv-cache");
    if !are_installed(&[python("uvx"), python("python"), cache]) {
        return;
    }
    let command: Vec<PathBuf> = [
        vec![python("uvx")],
        ["--no-config", "--python"].map(PathBuf::from).to_vec(),
        vec![python("python"), "--constraints".into(), constraints],
        ["--from", "mcp-server-time", "mcp-server-time"].map(PathBuf::from).to_vec(),
        ["--local-timezone", "UTC"].map(PathBuf::from).to_vec(),
    ]
    .concat();
    passes_every_end_on(1, &command, "uv tool uvx");
}

/// A launcher that passes a signal on and waits does its duty; the server that does not obey is to
/// blame.
#[test]
fn a_deaf_server_below_uv_is_to_blame_itself() {
    if !are_installed(&[python("uv"), python("python")]) {
        return;
    }
    let fake = [env!("CARGO_BIN_EXE_scupper"), "fake", "ignores-eof-and-term"].map(PathBuf::from);
    let command = [uv_run(), fake.to_vec()].concat();
    let judged = {
        let _turn = turn(0);
        let options = ["--leak-timeout", "1s", "--only", "clean-close", "--only", "sigterm-idle"];
        let command: Vec<&Path> = command.iter().map(PathBuf::as_path).collect();
        judge(&installed(), &options, &command)
    };
    for (lifecycle, due) in
        [("stdio/clean-close", "close"), ("stdio/sigterm-idle", "signal TERM server")]
    {
        let leak = judged.only_leak(lifecycle);
        assert_eq!(leak["culprit"], "server", "{judged}");
        assert_eq!(leak["due_step"]["name"], due, "{judged}");
        assert!(text(&leak["what"]).starts_with("the server, "), "{judged}");
    }
    judged.has_exit_code(1);
}

#[test]
fn a_timer_that_a_tool_starts_keeps_everything_alive() {
    let server = npm("mcp-server-everything");
    if !are_installed(std::slice::from_ref(&server)) {
        return;
    }
    let judged = {
        let _turn = turn(0);
        let call = ["--call", "toggle-simulated-logging"];
        let only = ["--only", "eof-call-in-flight", "--only", "sigterm-busy"];
        let options = [BOUND, &call, &only].concat();
        judge(&installed(), &options, &[&server, Path::new("stdio")])
    };
    let leak = judged.only_leak("stdio/eof-call-in-flight");
    assert_eq!(leak["kind"], "process", "{judged}");
    assert_eq!(leak["culprit"], "server", "{judged}");
    assert_eq!(leak["due_step"]["name"], "half-close stdin", "{judged}");
    assert_eq!(judged.case("stdio/sigterm-busy")["verdict"], "clean", "{judged}");
    // The command that is offered brings the same leak again: it names the tool, too.
    let repeat = text(&judged.case("stdio/eof-call-in-flight")["repeat"]);
    assert!(repeat.contains("--call toggle-simulated-logging"), "{repeat}");
    judged.has_exit_code(1);
}
