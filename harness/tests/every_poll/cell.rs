//! The process in which one operation is cut off, again and again. It tells what it does and finds in
//! a file of lines, each one JSON.

use std::fs::File;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, set_child_subreaper, wait,
    waitid,
};
use scupper_core::census::Census;
use serde_json::{Value, json};

use crate::driver::Order;
use crate::fault::{Cut, Fault, Planned, Progress, Went};
use crate::ground::{Before, Eye, Ground, Left};
use crate::operation::{Made, Operation, World};
use crate::{leaky, operations};

/// The order, as JSON.
pub(crate) const ORDER: &str = "SCUPPER_EVERY_POLL_ORDER";
/// How long anything may take that should take no time. Only what hangs comes here.
const STUCK: Duration = Duration::from_secs(30);
/// How many runs are left alone, to count their polls.
const CLEAN_RUNS: usize = 3;
/// An operation that is polled more often than this never ends.
const MOST_POLLS: usize = 600;

/// Does what the environment orders, if this process is a cell.
pub(crate) fn run_if_asked() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order = Order::parse(&order);
    let me = Pid::from_raw(i32::try_from(std::process::id()).expect("a pid"));
    set_child_subreaper(me).expect("a subreaper");
    std::panic::set_hook(Box::new(note_panic));
    let operation = operations::ALL
        .iter()
        .chain(leaky::ALL)
        .chain([&leaky::ONLY_AFTER_OTHERS])
        .find(|operation| operation.name == order.operation)
        .expect("an operation of ours");
    let lines = File::options().append(true).create(true).open(&order.lines).expect("our file");
    let folder = std::env::temp_dir();
    let world = World {
        census: Census::new(),
        scupper: env!("CARGO_BIN_EXE_scupper").to_owned(),
        url: order.url.clone(),
        folder: folder.clone(),
    };
    let ground = Ground::new();
    let eye = Eye::new(folder);
    let mut cell = Cell { operation, world, ground, eye, lines, patience: order.patience };
    cell.run(&order);
    end_children();
}

/// Panics that nobody planned.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note_panic(panic: &PanicHookInfo<'_>) {
    if panic.payload().downcast_ref::<Planned>().is_none() {
        eprintln!("{panic}");
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
    }
}

struct Cell {
    operation: &'static Operation,
    world: World,
    ground: Ground,
    eye: Eye,
    lines: File,
    patience: Duration,
}

/// One run of the operation.
struct Tried {
    went: Went,
    polls: usize,
    turns: usize,
    left: Vec<Left>,
}

impl Cell {
    fn say(&mut self, line: &Value) {
        writeln!(self.lines, "{line}").expect("our file");
    }

    fn run(&mut self, order: &Order) {
        // What is opened once and kept: descriptors of tokio's, threads of libraries.
        let census = self.world.census.clone();
        let mut before = self.eye.before(&self.ground, &census);
        self.attempt(&before, None);
        self.attempt(&before, Some((Fault::Drop, 1)));
        end_children();
        before = self.eye.before(&self.ground, &census);
        let (mut polls, mut turns) = (0, 0);
        for _ in 0..CLEAN_RUNS {
            self.say(&json!({"trying": ["nothing", 0]}));
            let tried = self.attempt(&before, None);
            (polls, turns) = (polls.max(tried.polls), turns.max(tried.turns));
            let broken = match tried.went {
                Went::Done(Ok(())) if tried.left.is_empty() => continue,
                Went::Done(Ok(())) => {
                    self.say(&told("nothing", 0, &tried, Duration::ZERO));
                    before = self.begin_again();
                    continue;
                }
                Went::Done(Err(error)) => error,
                Went::Cut => "it was cut off, which nobody did".to_owned(),
            };
            return self.say(&json!({"broken": broken}));
        }
        self.say(&json!({"polls": polls, "turns": turns}));
        for fault in Fault::all() {
            let polls = if fault == Fault::AnyTask { turns } else { polls };
            let mut misses = 0;
            let mut after = 0;
            while let Some(next) = order.next(fault, after, polls) {
                if next > MOST_POLLS {
                    return self.say(&json!({"broken": format!("more than {MOST_POLLS} polls")}));
                }
                self.say(&json!({"trying": [fault.word(), next]}));
                let began = Instant::now();
                let tried = self.attempt(&before, Some((fault, next)));
                let missed = tried.went != Went::Cut;
                self.say(&told(fault.word(), next, &tried, began.elapsed()));
                if !tried.left.is_empty() {
                    before = self.begin_again();
                }
                misses = if missed { misses + 1 } else { 0 };
                // How often it is polled depends on what comes together: two in a row are the end.
                if misses == 2 {
                    break;
                }
                after = next + 1;
            }
        }
        self.say(&json!({"done": true}));
    }

    /// What was found once is not found again.
    fn begin_again(&mut self) -> Before {
        end_children();
        self.world.census = Census::new();
        for entry in std::fs::read_dir(&self.world.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
        self.eye.before(&self.ground, &self.world.census)
    }

    fn attempt(&mut self, before: &Before, fault: Option<(Fault, usize)>) -> Tried {
        let tried = match fault {
            Some((fault, after)) if fault.is_of_the_runtime() => {
                self.lose_the_runtime(before, fault, after)
            }
            _ => self.cut(before, fault),
        };
        let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
        let left = tried.left.into_iter();
        let left = left.chain(panics.into_iter().map(|panic| Left::new("panic", panic))).collect();
        Tried { left, ..tried }
    }

    fn cut(&mut self, before: &Before, fault: Option<(Fault, usize)>) -> Tried {
        let (world, census) = (self.world.clone(), self.world.census.clone());
        let made = match make(self.operation, &self.ground, world) {
            Ok(made) => made,
            Err(error) => return broken(error),
        };
        let Made { work, is_transient, end, clear } = made;
        let ready = is_transient.then(|| self.eye.before(&self.ground, &census));
        let progress = Arc::new(Progress::default());
        let cut = Cut { work: Some(work), fault, progress: Arc::clone(&progress) };
        self.ground.tell(Some(&progress));
        let ended = self.ground.runtime.block_on(async {
            let task = tokio::spawn(cut);
            // No other thread polls it, so that it cannot have begun.
            let _ = progress.task.set(task.abort_handle());
            tokio::time::timeout(STUCK, task).await
        });
        let polls = progress.polls.load(Ordering::SeqCst);
        let turns = progress.turns.load(Ordering::SeqCst);
        self.ground.tell(None);
        let mut left = Vec::new();
        let went = match ended {
            Ok(Ok(went)) => went,
            Ok(Err(_)) => Went::Cut,
            Err(_) => {
                left.push(Left::new("stuck", "neither done nor cut off in time"));
                Went::Cut
            }
        };
        drop(progress);
        if let Some(ready) = ready {
            let more = self.eye.left(&self.ground, &census, &ready, self.patience);
            left.extend(more.into_iter().map(|one| Left {
                what: format!("already before the end of what it worked on: {}", one.what),
                ..one
            }));
        }
        let ended = self.ground.runtime.block_on(async { tokio::time::timeout(STUCK, end).await });
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => left.push(Left::new("end", error)),
            Err(_) => left.push(Left::new("stuck", "what it worked on did not end in time")),
        }
        clear();
        left.extend(self.eye.left(&self.ground, &census, before, self.patience));
        Tried { went, polls, turns, left }
    }

    fn lose_the_runtime(&mut self, before: &Before, fault: Fault, after: usize) -> Tried {
        let (world, census) = (self.world.clone(), self.world.census.clone());
        let lost = match fault {
            Fault::Workers => Ground::with_workers(),
            _ => Ground::new(),
        };
        let made = match make(self.operation, &lost, world) {
            Ok(made) => made,
            Err(error) => return broken(error),
        };
        // At no poll at all both are the same.
        let of_its_own = fault != Fault::AnyTask || after == 0;
        let last_turn = (!of_its_own).then_some(after);
        let progress = Arc::new(Progress { last_turn, ..Progress::default() });
        let fault = of_its_own.then_some((Fault::Runtime, after));
        let cut = Cut { work: Some(made.work), fault, progress: Arc::clone(&progress) };
        lost.tell(Some(&progress));
        let mut left = Vec::new();
        let went = lost.runtime.block_on(async {
            let task = tokio::spawn(cut);
            tokio::select! {
                biased;
                () = progress.struck.notified() => Ok(Went::Cut),
                went = task => Ok(went.unwrap_or(Went::Cut)),
                () = tokio::time::sleep(STUCK) => Err(()),
            }
        });
        let polls = progress.polls.load(Ordering::SeqCst);
        let turns = progress.turns.load(Ordering::SeqCst);
        let went = went.unwrap_or_else(|()| {
            left.push(Left::new("stuck", "neither done nor cut off in time"));
            Went::Cut
        });
        lost.tell(None);
        let began = Instant::now();
        let (runtime, tasks) = lost.into_parts();
        drop(runtime);
        // The handles of the host go after its runtime, and there is none to work on any more.
        drop(made.end);
        let took = began.elapsed();
        if took > STUCK {
            left.push(Left::new("stuck", format!("the drop of the runtime took {took:?}")));
        }
        (made.clear)();
        left.extend(self.eye.left(&self.ground, &census, before, self.patience));
        let tasks = tasks.alive().unwrap_or_default();
        left.extend(tasks.into_iter().map(|task| Left::new("task", format!("{task:?}"))));
        Tried { went, polls, turns, left }
    }
}

fn make(operation: &Operation, ground: &Ground, world: World) -> Result<Made, String> {
    ground.runtime.block_on(async {
        let made = tokio::time::timeout(STUCK, (operation.make)(world)).await;
        made.map_err(|_| "what it works on was not ready in time".to_owned())?
    })
}

fn broken(error: String) -> Tried {
    let error = format!("what it works on was not there: {error}");
    Tried {
        went: Went::Done(Err(error.clone())),
        polls: 0,
        turns: 0,
        left: vec![Left::new("end", error)],
    }
}

fn told(fault: &str, after: usize, tried: &Tried, took: Duration) -> Value {
    let left: Vec<Value> =
        tried.left.iter().map(|left| json!({"kind": left.kind, "what": left.what})).collect();
    json!({
        "tried": [fault, after],
        "struck": tried.went == Went::Cut,
        "left": left,
        "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Ends and reaps what is left below this process.
fn end_children() {
    let deadline = Instant::now() + STUCK;
    while Instant::now() < deadline {
        for pid in children() {
            let _ = kill_process(pid, Signal::KILL);
        }
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    let _ = wait(WaitOptions::NOHANG);
}

fn children() -> Vec<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |path: PathBuf| std::fs::read_to_string(Path::join(&path, "children"));
    let words = tasks.filter_map(|task| of(task.path()).ok()).collect::<Vec<_>>().join(" ");
    words.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
