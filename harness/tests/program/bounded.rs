//! What a server writes without end takes room in none of our processes.
//!
//! Two servers at once, for half a minute: one notifies as fast as it is read, the other writes a
//! line that never ends. Meanwhile the kernel's figure for the most memory that a process ever had
//! (VmHWM, proc_pid_status(5)) is read of every process below the two runners, the servers left
//! out. The test prints what it saw.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Run, SCUPPER, wait_for};

/// How long the servers write.
const FLOOD: Duration = Duration::from_secs(30);
/// Longest time that both runs may take, on a loaded host.
const BOUND: Duration = Duration::from_secs(110);
/// Most memory that any of our processes may ever have, in KiB.
const MOST_KIB: u64 = 64 << 10;

const FLOODS_STDOUT: &str = r#"
why = "A client that waits for half a minute, while the server notifies without pause."

[subject]
fake = "floods-stdout"

[[step]]
do = "open"

[[step]]
do = "handshake"

[[step]]
do = "call"
tool = "sleep"
arguments = { ms = 30000 }
within = "90s"

[[step]]
do = "close"

[expect]
verdict = "clean"
"#;

/// Most memory that processes of one role ever had, in KiB, by run and role.
type Peaks = BTreeMap<(&'static str, String), u64>;

#[test]
fn memory_stays_bounded_while_servers_write_without_end() {
    let folder = tempfile::tempdir().expect("a directory");
    let scenario = folder.path().join("floods-stdout.toml");
    fs::write(&scenario, FLOODS_STDOUT).expect("a file");
    let scenario = scenario.to_str().expect("a UTF-8 path");
    let report = ["--json", "{home}/report.json"];
    let mut floods = Run::start(&[&["run", scenario][..], &report].concat(), &[]);
    let mut endless = Run::fake(&["--start-timeout", "30s"], &["endless-line", "bytes=0"], &[]);

    let mut peaks = Peaks::new();
    let ended = wait_for(Instant::now() + BOUND, || {
        sample("floods-stdout", floods.pid(), &mut peaks);
        sample("endless-line", endless.pid(), &mut peaks);
        // Each of them is asked, so that neither stays unreaped.
        let (first, second) = (floods.runs(), endless.runs());
        (!first && !second).then_some(())
    });
    for ((run, role), kib) in &peaks {
        println!("{run:16} {role:12} {:6.1} MiB at most", *kib as f64 / 1024.0);
    }
    assert!(ended.is_some(), "the runs did not end in {BOUND:?}");

    let (floods, endless) = (floods.end(), endless.end());
    assert_eq!(floods.code, 0, "{}{}", floods.stdout, floods.stderr);
    assert_eq!(endless.code, 3, "{}{}", endless.stdout, endless.stderr);
    let longest = |ended: &crate::support::Ended| {
        let report = ended.report();
        let steps = report.cases.iter().flat_map(|case| &case.steps);
        steps.map(|step| step.took_ms).fold(0.0, f64::max)
    };
    for (run, ended) in [("floods-stdout", &floods), ("endless-line", &endless)] {
        assert!(longest(ended) >= FLOOD.as_secs_f64() * 1e3, "{run} did not write long enough");
        for role in ["runner", "sentinel", "cell", "client"] {
            assert!(peaks.contains_key(&(run, role.to_owned())), "no {role} of {run} was seen");
        }
    }
    let over: Vec<_> = peaks.iter().filter(|(_, kib)| **kib >= MOST_KIB).collect();
    assert!(over.is_empty(), "over {} MiB: {over:?}", MOST_KIB >> 10);
}

/// Looks at a runner and at everything below it.
fn sample(run: &'static str, runner: i32, peaks: &mut Peaks) {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in procfs::process::all_processes().expect("/proc").flatten() {
        if let Ok(stat) = process.stat() {
            children.entry(stat.ppid).or_default().push(stat.pid);
        }
    }
    let mut left = vec![runner];
    while let Some(pid) = left.pop() {
        left.extend(children.remove(&pid).unwrap_or_default());
        // One that is gone meanwhile was seen before, or had no time to grow.
        let Ok(process) = procfs::process::Process::new(pid) else { continue };
        let (Ok(command), Ok(status)) = (process.cmdline(), process.status()) else { continue };
        let (Some(kib), Some(role)) = (status.vmhwm, role(&command)) else { continue };
        let peak = peaks.entry((run, role)).or_default();
        *peak = (*peak).max(kib);
    }
}

/// What a process of ours is, by the first word of its arguments; none for a server, which is the
/// subject and no part of us.
fn role(command: &[String]) -> Option<String> {
    let [program, mode, ..] = command else { return None };
    if Path::new(program).file_name() != Path::new(SCUPPER).file_name() {
        return None;
    }
    match mode.as_str() {
        "fake" => None,
        "run" | "server" => Some("runner".to_owned()),
        hidden => Some(hidden.trim_start_matches('_').to_owned()),
    }
}
