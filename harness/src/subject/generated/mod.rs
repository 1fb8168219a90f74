//! Plays generated lifecycles on our core in memory, thousands a second: the streams are pairs in
//! memory, the clock is paused, and a model says after each step what must be alive.
//!
//! - `peers`: the servers of the host.
//! - `service`: the sessions, their clients, and the store of their cursors.
//! - `stage`: the effect of each step.
//!
//! With a paused clock, time passes only when no task has anything left to do. So a sleep of one
//! millisecond waits exactly until all is quiet, and nothing here depends on the speed of the machine.

mod peers;
mod service;
mod stage;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Once;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::lifecycle::generate::{Act, Generated};
use crate::lifecycle::model::{self, Alive, Difference, Model, Sort, Waits};
use crate::probe::task::{LiveTask, TaskTable};
use stage::Stage;

/// The waits of everything that is played here, in milliseconds. They are far apart, so that what is
/// due at one of them is not due at another.
pub(super) const WAITS: Waits = Waits {
    connect: 2000,
    end_grace: 300,
    handshake: 400,
    idle: 1000,
    request: 2000,
    session_sweep: 100,
    session_end: 60,
    handler_end: 100,
    store: 200,
    cursor_sweep: 250,
    cursor_ttl: 1500,
    cursors: 4,
};

/// Longest time that the end of everything may take, on the paused clock.
const END: Duration = Duration::from_secs(60);
/// How long what was begun may take to see that all has ended, on the paused clock.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// What was played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lifecycles.
    pub lifecycles: u64,
    /// Their steps.
    pub steps: u64,
    /// How often model and census were compared.
    pub comparisons: u64,
    /// Servers that got ready, and sessions that were opened.
    pub active: u64,
    /// Lifecycles in which a server was ready or a session active at one of the comparisons.
    pub reached: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.lifecycles += other.lifecycles;
        self.steps += other.steps;
        self.comparisons += other.comparisons;
        self.active += other.active;
        self.reached += other.reached;
    }
}

/// Model and core do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The lifecycle.
    pub lifecycle: Generated,
    /// After which step, counted from 1; `None` at the end of all.
    pub step: Option<usize>,
    /// What differs.
    pub differences: Vec<Difference>,
    /// Tasks of the runtime that nobody joined and the census does not know.
    pub tasks: Vec<LiveTask>,
    /// What else is wrong.
    pub problems: Vec<String>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step.and_then(|step| Some((step, self.lifecycle.steps.get(step - 1)?))) {
            Some((number, step)) => write!(f, "after step {number} ({})", step.act)?,
            None => f.write_str("after the end of everything")?,
        }
        for difference in &self.differences {
            write!(f, "\n{difference}")?;
        }
        for task in &self.tasks {
            write!(f, "\n{task}: alive, and the census does not have it")?;
        }
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        write!(f, "\n{}\ncode: {}", self.lifecycle, self.lifecycle.code())
    }
}

impl Disagreement {
    /// What it is about, the same for those that are alike: what differs first, and after what.
    pub fn id(&self) -> String {
        let what = match self.differences.first() {
            Some(difference) => difference.sort.to_string().replace(' ', "-"),
            None if !self.tasks.is_empty() => "task".to_owned(),
            None => "other".to_owned(),
        };
        let step = self.step.and_then(|step| self.lifecycle.steps.get(step - 1));
        let after = match step {
            Some(step) => {
                let word = format!("{:?}", step.act);
                let end = word.find([' ', '(']).unwrap_or(word.len());
                word[..end].to_lowercase()
            }
            None => "end".to_owned(),
        };
        format!("generated/{what}/{after}")
    }
}

impl std::error::Error for Disagreement {}

/// A mistake that is put in on purpose, to prove that this finds such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leak {
    /// None.
    #[default]
    Nothing,
    /// The row of a connection stays when its server dies.
    Connection,
    /// A task stays when an adding is dropped.
    Task,
    /// A cursor stays when its session is deleted.
    Cursor,
    /// A server vanishes when it is called.
    Server,
    /// A task panics at a health check.
    Panic,
}

/// The state of a row that such a mistake leaves.
pub const LEFT: &str = "left behind";

thread_local! {
    static RUNTIME: RefCell<Option<(Runtime, TaskTable)>> = const { RefCell::new(None) };
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Plays a lifecycle and compares model and census after each step.
///
/// # Errors
/// [`Disagreement`], at the first step after which they do not agree.
pub fn run(lifecycle: &Generated) -> Result<Stats, Box<Disagreement>> {
    run_with(lifecycle, Leak::Nothing)
}

/// As [`run`], with a mistake put in.
///
/// # Errors
/// [`Disagreement`], at the first step after which they do not agree.
pub fn run_with(lifecycle: &Generated, leak: Leak) -> Result<Stats, Box<Disagreement>> {
    watch_panics();
    let panics = PANICS.get();
    let disagreement = |wrong: Wrong| {
        let Wrong { step, differences, tasks, problems } = wrong;
        Box::new(Disagreement { lifecycle: lifecycle.clone(), step, differences, tasks, problems })
    };
    let problem = |problem: String| Wrong { problems: vec![problem], ..Wrong::default() };
    let (runtime, tasks) = match RUNTIME.take() {
        Some(runtime) => runtime,
        None => start().map_err(|error| disagreement(problem(error.to_string())))?,
    };
    let mut played = runtime.block_on(play(lifecycle, leak));
    if played.is_ok() {
        let mut wrong = Wrong::default();
        let alive = runtime.metrics().num_alive_tasks();
        if alive > 0 {
            wrong.tasks = tasks.alive().unwrap_or_default();
            // A build without the names of tasks still counts them.
            let named = wrong.tasks.len();
            if named != alive {
                wrong.problems.push(format!("tokio: {alive} tasks are alive, {named} are named"));
            }
        }
        if PANICS.get() > panics {
            wrong.problems.push("a task panicked; its message is on stderr".to_owned());
        }
        if !(wrong.tasks.is_empty() && wrong.problems.is_empty()) {
            played = Err(wrong);
        }
    }
    match played {
        Ok(_) => RUNTIME.set(Some((runtime, tasks))),
        // What is left there is nobody's.
        Err(_) => runtime.shutdown_background(),
    }
    played.map_err(disagreement)
}

/// A runtime without I/O, so that there is no descriptor that could be left, and its tasks by id.
fn start() -> std::io::Result<(Runtime, TaskTable)> {
    let (tasks, mut builder) = (TaskTable::new(), tokio::runtime::Builder::new_current_thread());
    tasks.install(&mut builder);
    Ok((builder.enable_time().start_paused(true).build()?, tasks))
}

/// Counts panics by thread; who panics on purpose goes past the hook.
fn watch_panics() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
}

#[derive(Default)]
struct Wrong {
    step: Option<usize>,
    differences: Vec<Difference>,
    tasks: Vec<LiveTask>,
    problems: Vec<String>,
}

async fn play(lifecycle: &Generated, leak: Leak) -> Result<Stats, Wrong> {
    let began = Instant::now();
    let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let failed = |problem| Wrong { problems: vec![problem], ..Wrong::default() };
    let mut model = Model::new(WAITS);
    let mut stage = Stage::new(leak).map_err(failed)?;
    let mut stats = Stats { lifecycles: 1, ..Stats::default() };
    let mut is_quiet = true;
    for (index, step) in lifecycle.steps.iter().enumerate() {
        if !model.begin(step.act, now(), is_quiet) {
            continue;
        }
        stage.begin(step.act).await.map_err(failed)?;
        stats.steps += 1;
        stats.active += u64::from(matches!(step.act, Act::Open(..)));
        if let Act::Wait { ms: wait } = step.act {
            tokio::time::sleep(ms(wait)).await;
        }
        if let Some(turns) = step.turns {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            is_quiet = false;
            continue;
        }
        quiet().await;
        is_quiet = true;
        let alive = stage.alive();
        stats.reached |= u64::from(alive.iter().any(is_in_use));
        let differences = model.compare(&alive, now());
        stats.comparisons += 1;
        if !differences.is_empty() {
            return Err(Wrong { step: Some(index + 1), differences, ..Wrong::default() });
        }
    }
    let ready = stage.ready();
    let problems = match tokio::time::timeout(END, stage.end()).await {
        Ok(problems) => problems,
        Err(_) => vec![format!("the end of everything took longer than {END:?}")],
    };
    let differences = model::nothing(&stage.alive());
    stats.comparisons += 1;
    stats.active += ready;
    drop(stage);
    quiet().await;
    if differences.is_empty() && problems.is_empty() {
        Ok(stats)
    } else {
        Err(Wrong { differences, problems, ..Wrong::default() })
    }
}

/// A server that is ready, or a session that is active.
fn is_in_use(alive: &Alive) -> bool {
    matches!((alive.sort, &*alive.state), (Sort::Server, "ready") | (Sort::Session, "active"))
}

/// Waits until no task has anything to do at this moment.
async fn quiet() {
    tokio::time::sleep(ms(1)).await;
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
