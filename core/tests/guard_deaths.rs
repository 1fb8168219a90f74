//! Deaths of a host that has a guard. The binary is both: the test, which kills, and, started by
//! itself with a role in its environment, the host, whose main becomes the guard in turn. Hence no
//! libtest; arguments without a dash pick tests by a part of their name.

mod support;

use std::{
    env,
    io::{BufRead, BufReader, Lines, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    panic::catch_unwind,
    process::{Child, ChildStdin, ChildStdout, Command as StdCommand, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use scupper_core::{
    census::Census,
    guard::{Entrance, Guard, GuardProgram, GuardSettings, run_if_asked},
    process::ProcessId,
    stdio::StdioServer,
};
use support::*;

const ROLE: &str = "SCUPPER_TEST_ROLE";
/// Carried by a host and all below it, but not by its guard, whose environment is empty.
const RUN: &str = "SCUPPER_TEST_RUN";

const TESTS: &[(&str, fn())] = &[
    ("an_idle_host_killed_takes_its_guard_with_it", an_idle_host_killed_takes_its_guard_with_it),
    ("twenty_servers_end_however_their_host_dies", twenty_servers_end_however_their_host_dies),
    (
        "servers_end_when_their_host_becomes_another_program",
        servers_end_when_their_host_becomes_another_program,
    ),
    (
        "a_server_that_kills_its_host_at_birth_does_not_outlive_it",
        a_server_that_kills_its_host_at_birth_does_not_outlive_it,
    ),
    ("without_a_guard_the_stubborn_ones_live_on", without_a_guard_the_stubborn_ones_live_on),
    (
        "a_host_killed_while_it_starts_servers_leaves_none",
        a_host_killed_while_it_starts_leaves_none,
    ),
    (
        "a_helper_that_left_its_group_is_ended_if_asked_for",
        a_helper_that_left_is_ended_if_asked_for,
    ),
    ("a_well_behaved_server_gets_its_grace", a_well_behaved_server_gets_its_grace),
];

fn main() -> ExitCode {
    let entrance = run_if_asked();
    if let Ok(role) = env::var(ROLE) {
        return be_host(&role, entrance);
    }
    if env::args().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let picked: Vec<String> = env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in TESTS {
        if !picked.is_empty() && !picked.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let passed = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    ExitCode::from(u8::from(failed > 0))
}

// ---- the host ----

fn be_host(role: &str, entrance: Entrance) -> ExitCode {
    let census = Census::new();
    let settings = GuardSettings {
        sweep_cookie: role.contains("swept"),
        ..GuardSettings::new(GuardProgram::Own(entrance))
    };
    let guard = Guard::start(settings, &census).expect("a guard");
    tell(&format!("guard {}", guard.process().pid));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let servers = servers_of(role);
    let servers = match role.contains("unguarded") {
        true => servers,
        false => servers.into_iter().map(|server| server.guarded_by(&guard)).collect(),
    };
    runtime.block_on(async {
        if role.starts_with("starting") || role == "suicidal" {
            let mut kept = Vec::new();
            for server in servers {
                let began = Instant::now();
                tell("starting");
                kept.push(spawn(&server, &census));
                tell(&format!("started {}", began.elapsed().as_micros()));
            }
            tell("ready");
            die_as_told();
        }
        let mut tasks = Vec::new();
        for server in servers {
            let census = census.clone();
            tasks.push(tokio::spawn(async move {
                within(server.connect((), &census)).await.expect("connected")
            }));
        }
        let mut clients = Vec::new();
        for task in tasks {
            clients.push(task.await.expect("a client"));
        }
        tell("ready");
        die_as_told()
    })
}

fn die_as_told() -> ! {
    let mut order = String::new();
    std::io::stdin().read_line(&mut order).expect("an order");
    match order.trim() {
        "abort" => std::process::abort(),
        "exec" => panic!("{}", StdCommand::new("cat").env_remove(RUN).exec()),
        "exit" => std::process::exit(3),
        other => panic!("no such order: {other:?}"),
    }
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("told");
    out.flush().expect("told");
}

fn servers_of(role: &str) -> Vec<StdioServer> {
    let well = || responder("", "");
    let ignores_eof = || responder("", "while :; do sleep 1; done");
    let ignores_both = || responder("trap '' TERM", "while :; do sleep 1; done");
    let helper = || responder("sleep 4801 & sleep 4801 &", "");
    match role.split(' ').next().expect("a word") {
        "idle" => Vec::new(),
        "twenty" | "starting" => {
            (0..5).flat_map(|_| [well(), ignores_eof(), ignores_both(), helper()]).collect()
        }
        "suicidal" => vec![sh("kill -9 $PPID; trap '' TERM; while :; do sleep 1; done")],
        "setsid" => vec![responder("setsid sleep 4802 & setsid -f sh -c 'sleep 4802; :'", "")],
        "graceful" => {
            // Says that it was allowed to finish.
            let note = env::var("SCUPPER_TEST_NOTE").expect("a path");
            vec![responder("", &format!("sleep 0.1; echo finished > {note}"))]
        }
        other => panic!("no such role: {other:?}"),
    }
}

// ---- the tests ----

/// A host process. Killed and reaped when dropped, with everything that carries its run.
struct Host {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: Option<ChildStdin>,
    run: String,
    guard: ProcessId,
}

impl Host {
    fn start(role: &str) -> Self {
        Self::start_with(role, &[])
    }

    fn start_with(role: &str, variables: &[(&str, &str)]) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let run = format!("{}-{number}", std::process::id());
        let mut child = StdCommand::new(env::current_exe().expect("this binary"))
            .env(ROLE, role)
            .env(RUN, &run)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a host");
        let stdin = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
        let guard = lines.next().expect("a line").expect("a line");
        let guard =
            guard.strip_prefix("guard ").expect("the guard's pid").parse().expect("a number");
        let guard = ProcessId::of(guard).expect("the guard");
        Self { child, lines, stdin, run, guard }
    }

    /// Reads on until the host says this; the line.
    fn hear(&mut self, what: &str) -> String {
        loop {
            let line = self.lines.next().expect("the host lives").expect("a line");
            if line.starts_with(what) {
                return line;
            }
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.stdin.as_mut().expect("its stdin"), "{order}").expect("ordered");
    }

    /// Dies by SIGKILL; the moment of it.
    fn kill(&mut self) -> Instant {
        self.child.kill().expect("killed");
        self.wait(Some(9), None)
    }

    fn wait(&mut self, signal: Option<i32>, code: Option<i32>) -> Instant {
        let status = self.child.wait().expect("its status");
        assert_eq!((status.signal(), status.code()), (signal, code));
        Instant::now()
    }

    /// Waits until nothing of the host is alive, nor its guard; how long that took.
    #[track_caller]
    fn assert_all_gone(&self, since: Instant) -> Duration {
        eventually("nothing of the host is alive", || {
            let left = self.alive();
            (left.is_empty(), left)
        });
        let took = since.elapsed();
        eventually("the guard has ended", || (!self.guard.is_alive(), self.guard));
        // Once more, because one that is within an exec shows no environment for a moment.
        assert_eq!(self.alive(), [""; 0], "left when the guard ended");
        took
    }

    fn alive(&self) -> Vec<String> {
        carriers_of(&format!("{RUN}={}", self.run)).into_iter().map(|(_, name)| name).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        for (process, _) in carriers_of(&format!("{RUN}={}", self.run)) {
            kill_process(Pid::from_raw(process.pid).expect("a pid"), Signal::KILL).ok();
        }
    }
}

/// Living processes with this in their environment, and their command lines.
fn carriers_of(pair: &str) -> Vec<(ProcessId, String)> {
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let process = ProcessId::of(pid).ok()?;
            let environ = std::fs::read(entry.path().join("environ")).ok()?;
            if !environ.split(|byte| *byte == 0).any(|p| p == pair.as_bytes()) {
                return None;
            }
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            let command: String = command.chars().take(60).collect();
            process.is_alive().then(|| (process, format!("{process} {command}")))
        })
        .collect()
}

fn an_idle_host_killed_takes_its_guard_with_it() {
    let mut host = Host::start("idle");
    host.hear("ready");
    assert!(host.guard.is_alive());
    let died = host.kill();
    host.assert_all_gone(died);
}

fn twenty_servers_end_however_their_host_dies() {
    for round in 0..10 {
        for way in ["SIGKILL", "abort", "exit"] {
            // Ten times by SIGKILL, and now and then the other two.
            if way != "SIGKILL" && round > 0 {
                continue;
            }
            let mut host = Host::start("twenty");
            host.hear("ready");
            let alive = host.alive();
            assert!(alive.len() >= 30, "the host, 20 servers and 10 helpers: {alive:#?}");
            let died = match way {
                "SIGKILL" => host.kill(),
                "abort" => {
                    host.order("abort");
                    host.wait(Some(6), None)
                }
                _ => {
                    host.order("exit");
                    host.wait(None, Some(3))
                }
            };
            let took = host.assert_all_gone(died);
            println!("{way} {round}: none alive after {took:?}");
        }
    }
}

/// The socket ends although the process lives on.
fn servers_end_when_their_host_becomes_another_program() {
    let mut host = Host::start("twenty");
    host.hear("ready");
    host.order("exec");
    host.assert_all_gone(Instant::now());
    assert_eq!(host.child.try_wait().expect("asked"), None, "the host lives on, as `cat`");
    host.stdin = None;
    host.wait(None, Some(0));
}

/// The host dies somewhere between the birth of a server and the word to the guard, or right after.
fn a_server_that_kills_its_host_at_birth_does_not_outlive_it() {
    for _ in 0..10 {
        let mut host = Host::start("suicidal");
        let died = host.wait(Some(9), None);
        host.assert_all_gone(died);
    }
}

/// The counter-test of the others: it is the guard that does it.
fn without_a_guard_the_stubborn_ones_live_on() {
    let mut host = Host::start("twenty unguarded");
    host.hear("ready");
    host.kill();
    eventually("the guard has ended", || (!host.guard.is_alive(), host.guard));
    let left = host.alive();
    assert!(left.len() >= 10, "{left:#?}");
}

fn a_helper_that_left_is_ended_if_asked_for() {
    for asked in [false, true] {
        let mut host = Host::start(if asked { "setsid swept" } else { "setsid" });
        host.hear("ready");
        let run = format!("{RUN}={}", host.run);
        let helpers = || -> Vec<ProcessId> {
            carriers_of(&run)
                .into_iter()
                .filter_map(|(process, name)| {
                    (name.split(' ').nth(2) == Some("sleep")).then_some(process)
                })
                .collect()
        };
        eventually("helpers asleep", || (helpers().len() == 2, helpers()));
        let died = host.kill();
        if asked {
            host.assert_all_gone(died);
            continue;
        }
        eventually("the guard has ended", || (!host.guard.is_alive(), host.guard));
        assert_eq!(helpers().len(), 2, "nobody asked for them");
    }
}

fn a_well_behaved_server_gets_its_grace() {
    let directory = tempfile::tempdir().expect("a directory");
    let note = directory.path().join("note");
    let note = note.to_str().expect("a plain path");
    let mut host = Host::start_with("graceful", &[("SCUPPER_TEST_NOTE", note)]);
    host.hear("ready");
    let died = host.kill();
    host.assert_all_gone(died);
    assert_eq!(std::fs::read_to_string(note).expect("the note"), "finished\n");
}

fn a_host_killed_while_it_starts_leaves_none() {
    // How long a start takes here and now.
    let mut host = Host::start("starting");
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let line = host.hear("started");
        let micros = line.split(' ').nth(1).expect("microseconds").parse().expect("a number");
        longest = longest.max(Duration::from_micros(micros));
    }
    let died = host.kill();
    host.assert_all_gone(died);
    drop(host);

    const POINTS: u32 = 20;
    for point in 0..POINTS {
        let mut host = Host::start("starting");
        for _ in 0..=point % 4 {
            host.hear("starting");
        }
        let began = Instant::now();
        while began.elapsed() < longest * point / POINTS {
            std::hint::spin_loop();
        }
        let died = host.kill();
        let took = host.assert_all_gone(died);
        println!("killed {:?} into a start: none alive after {took:?}", longest * point / POINTS);
    }
}
