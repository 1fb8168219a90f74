//! What the tests of the whole program share: starting it, waiting for it with a bound, and finding
//! everything that a run has left.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::report::json::Report;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The program.
pub(crate) const SCUPPER: &str = env!("CARGO_BIN_EXE_scupper");
/// In arguments: the directory of the run.
pub(crate) const HOME: &str = "{home}";
/// Variable that everything below a run inherits; its value names the run.
const MARKER: &str = "SCUPPER_TEST_RUN=";
/// Variable that everything below a cell inherits; its value names the cell.
const CELL: &str = "SCUPPER_CELL=";
/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Longest time that a run may take, on a loaded host. Only a run that hangs comes here.
const RUN_BOUND: Duration = Duration::from_secs(300);

/// A run of the program, in a process group and a directory of its own.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    home: tempfile::TempDir,
    marker: String,
    begun: Instant,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code; 128 and the signal where one ended it, as shells have it.
    pub(crate) code: i32,
    /// What it wrote.
    pub(crate) stdout: String,
    /// What it wrote.
    pub(crate) stderr: String,
    /// From start to exit.
    pub(crate) took: Duration,
    run: Run,
}

/// A living process that carries a run's marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    /// Its pid as this process sees it.
    pub(crate) pid: i32,
    /// Its command line.
    pub(crate) command: String,
    /// The cell that it belongs to, where it belongs to one.
    pub(crate) cell: Option<String>,
}

impl Run {
    /// Starts the program. [`HOME`] in its arguments becomes the run's own directory.
    pub(crate) fn start(words: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(None, &[SCUPPER], words, environment)
    }

    /// Starts it as another user, to whom the run's directory then belongs. A program of several words
    /// is one that becomes that user by itself.
    pub(crate) fn start_as(
        user: Option<u32>,
        program: &[&str],
        words: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let home = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
        fs::create_dir(home.path().join("tmp")).expect("a TMPDIR");
        let path = home.path().to_str().expect("a UTF-8 path");
        // The clock is in it because a pid alone may have been that of an earlier test binary.
        let since_1970 = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_nanos();
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let marker = format!("{}-{number}-{since_1970}", std::process::id());
        let stream = |name: &str| File::create(home.path().join(name)).expect("a file");
        let (name, value) = (MARKER.trim_end_matches('='), &marker);
        let mut command = Command::new(program[0]);
        if let Some(id) = user {
            for place in [home.path(), &home.path().join("tmp")] {
                chown(place, user, user).expect("a directory of another user");
            }
            if program.len() == 1 {
                // Supplementary groups go with it.
                command.uid(id).gid(id);
            }
        }
        let child = command
            .args(&program[1..])
            .args(words.iter().map(|word| word.replace(HOME, path)))
            .env_remove("SCUPPER_CONTAIN")
            .env("TMPDIR", home.path().join("tmp"))
            .env(name, value)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            // Files and no pipes: what a run leaves behind must not hold up the test.
            .stdout(stream("stdout"))
            .stderr(stream("stderr"))
            .process_group(0)
            .spawn()
            .expect("the program starts");
        Self { child, home, marker, begun: Instant::now() }
    }

    /// Starts `scupper server` on a command, with a report for [`Ended::report`].
    pub(crate) fn server(options: &[&str], command: &[&str], environment: &[(&str, &str)]) -> Self {
        let words = [&["server", "--json", "{home}/report.json"], options, &["--"], command];
        Self::start(&words.concat(), environment)
    }

    /// Starts `scupper server` on a fake.
    pub(crate) fn fake(options: &[&str], fake: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::server(options, &[&[SCUPPER, "fake"], fake].concat(), environment)
    }

    /// Pid of the runner.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The run's own TMPDIR.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.home.path().join("tmp")
    }

    /// What it wrote so far.
    pub(crate) fn stdout(&self) -> String {
        read(&self.home.path().join("stdout"))
    }

    /// Signals the runner alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a pid");
        // It is our child and not reaped, so the pid is its own, dead or alive.
        let _ = kill_process(pid, signal);
    }

    /// Signals the runner's process group, as the keys of a terminal do.
    pub(crate) fn signal_group(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a pid");
        let _ = kill_process_group(pid, signal);
    }

    /// Waits for the runner's end.
    pub(crate) fn end(mut self) -> Ended {
        let deadline = self.begun + RUN_BOUND;
        let status = wait_for(deadline, || self.child.try_wait().expect("it is our child"));
        let Some(status) = status else {
            let left = self.alive();
            self.signal_group(Signal::KILL);
            panic!("a run took longer than {RUN_BOUND:?}: {}\nalive: {left:#?}", self.stdout());
        };
        Ended {
            code: status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
            stdout: self.stdout(),
            stderr: read(&self.home.path().join("stderr")),
            took: self.begun.elapsed(),
            run: self,
        }
    }

    /// Whether the runner has not ended yet.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Every living process of the run, itself too. A zombie has no environment any more and is not
    /// among them.
    pub(crate) fn alive(&self) -> Vec<Alive> {
        alive(&self.marker)
    }

    /// Waits until there is a process that fits; none when there was none in time.
    pub(crate) fn wait_for(&self, fits: impl Fn(&Alive) -> bool) -> Option<Alive> {
        let bound = Instant::now() + Duration::from_secs(30);
        wait_for(bound, || self.alive().into_iter().find(&fits))
    }

    /// Names of what is in the run's TMPDIR.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.temp_dir()).expect("the run's TMPDIR");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.flatten().map(name).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A test that failed half-way must not leave what it started.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for left in self.alive() {
            let _ = Pid::from_raw(left.pid).map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

impl Ended {
    /// The report that was asked for.
    pub(crate) fn report(&self) -> Report {
        let text = read(&self.run.home.path().join("report.json"));
        Report::parse(&text).unwrap_or_else(|error| {
            panic!("the report cannot be read: {error}\n{text}\n{}\n{}", self.stdout, self.stderr)
        })
    }

    /// What the run has left: its processes, and names of what is in its TMPDIR.
    pub(crate) fn left(&self) -> (Vec<Alive>, Vec<String>) {
        (self.run.alive(), self.run.files())
    }

    /// A file of the run.
    pub(crate) fn file(&self, name: &str) -> String {
        read(&self.run.home.path().join(name))
    }
}

/// Looks again and again until there is a value, or the deadline has passed.
pub(crate) fn wait_for<T>(deadline: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Does this to every item, so many at once, and gives back the results in order.
pub(crate) fn at_once<I: Sync, O: Send>(
    many: usize,
    items: &[I],
    each: impl Fn(&I) -> O + Sync,
) -> Vec<O> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, O)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..many {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = each(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn alive(marker: &str) -> Vec<Alive> {
    let mut found = Vec::new();
    let marked = format!("{MARKER}{marker}");
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // What cannot be read is another user's, or gone.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let environment = String::from_utf8_lossy(&environment);
        let mut variables = environment.split('\0');
        if !variables.clone().any(|variable| variable == marked) {
            continue;
        }
        let cell = variables.find_map(|variable| variable.strip_prefix(CELL)).map(str::to_owned);
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
        found.push(Alive { pid, command, cell });
    }
    found
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
