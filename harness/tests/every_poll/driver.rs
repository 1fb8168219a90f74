//! Starts the cells, and makes a table of what they say. What was found among many is done again
//! alone, in a cell of its own and with more patience, before it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cell;
use crate::fault::Fault;
use crate::ground::Left;

/// How long what should be gone may take; more on a busy host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) among_many: Duration,
    /// In the cell of its own that a finding is done again in; none: it counts as it is.
    pub(crate) alone: Option<Duration>,
}

impl Patience {
    /// For the core: what is late is not held against it.
    pub(crate) const LONG: Self =
        Self { among_many: Duration::from_secs(2), alone: Some(Duration::from_secs(6)) };
}

/// How often a finding is done again before it counts as one that does not repeat.
const AGAIN: usize = 3;
/// Longest time without a word from a cell. Only one that hangs comes here.
const SILENCE: Duration = Duration::from_secs(180);
/// Findings of an operation that are done again; more say nothing new.
const CONFIRMED: usize = 24;

/// Which polls are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Every one.
    All,
    /// The first and the last; for drops, and for what has most polls, one between them as well, which
    /// the seed chooses.
    Sample { seed: u64 },
    /// One alone.
    One(Fault, usize),
}

/// What a cell is told.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) operation: String,
    pub(crate) plan: Plan,
    pub(crate) patience: Duration,
    pub(crate) url: String,
    pub(crate) lines: PathBuf,
}

impl Order {
    fn render(&self) -> String {
        let plan = match self.plan {
            Plan::All => json!("all"),
            Plan::Sample { seed } => json!(seed),
            Plan::One(fault, after) => json!([fault.word(), after]),
        };
        let patience = u64::try_from(self.patience.as_millis()).expect("seconds");
        json!([self.operation, plan, patience, self.url, self.lines]).to_string()
    }

    pub(crate) fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).expect("JSON of ours");
        let plan = match &value[1] {
            Value::String(_) => Plan::All,
            Value::Number(seed) => Plan::Sample { seed: seed.as_u64().expect("a seed") },
            one => {
                Plan::One(one[0].as_str().and_then(Fault::parse).expect("a fault"), number(&one[1]))
            }
        };
        Self {
            operation: value[0].as_str().expect("a name").to_owned(),
            plan,
            patience: Duration::from_millis(value[2].as_u64().expect("milliseconds")),
            url: value[3].as_str().expect("a URL").to_owned(),
            lines: value[4].as_str().expect("a path").into(),
        }
    }

    /// The next number of polls to cut after, from `from` on.
    pub(crate) fn next(&self, fault: Fault, from: usize, polls: usize) -> Option<usize> {
        match self.plan {
            Plan::All => Some(from),
            Plan::Sample { seed } => {
                // The last poll is the one that is ready, so that it cannot be cut after.
                let last = polls.saturating_sub(1);
                let spread = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
                let between = match fault {
                    Fault::Drop | Fault::AnyTask => {
                        usize::try_from(spread).unwrap_or(0) % last.max(1)
                    }
                    _ => last,
                };
                BTreeSet::from([0, between, last]).into_iter().find(|one| *one >= from)
            }
            Plan::One(of, after) => (of == fault && after >= from).then_some(after),
        }
    }
}

fn number(value: &Value) -> usize {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).expect("a number")
}

/// What became of one operation.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The most polls of a run that was left alone.
    pub(crate) polls: usize,
    /// And the most polls of any task meanwhile.
    turns: usize,
    /// By way and number of polls: whether it was cut off, and what was left.
    tried: BTreeMap<(Option<Fault>, usize), (bool, Vec<Left>)>,
    /// Findings that did not repeat alone.
    pub(crate) once: Vec<String>,
    took: Duration,
    /// It could not be tried at all.
    pub(crate) broken: Option<String>,
}

impl Row {
    /// How often it was cut off.
    pub(crate) fn struck(&self) -> usize {
        self.tried.values().filter(|(struck, _)| *struck).count()
    }

    fn found(&self) -> impl Iterator<Item = (Option<Fault>, usize, &[Left])> {
        let found = self.tried.iter().filter(|(_, (_, left))| !left.is_empty());
        found.map(|((fault, after), (_, left))| (*fault, *after, left.as_slice()))
    }

    /// Where something was left, and of which kinds.
    pub(crate) fn places(&self) -> Vec<String> {
        let places = self.found().map(|(fault, after, left)| {
            let kinds: BTreeSet<&str> = left.iter().map(|left| left.kind.as_str()).collect();
            let kinds: Vec<&str> = kinds.into_iter().collect();
            format!("{} at {after}: {}", word(fault), kinds.join(", "))
        });
        places.collect()
    }

    /// All of what was left, in words.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let found = self.found().map(|(fault, after, left)| {
            let mut text = format!("{}: {} at {after}", self.name, word(fault));
            for left in left.iter().take(8) {
                let _ = write!(text, "\n    {}: {}", left.kind, left.what);
            }
            text
        });
        found.collect()
    }
}

fn word(fault: Option<Fault>) -> &'static str {
    fault.map_or("nothing", Fault::word)
}

/// All rows in words.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<40} {:>5} {:>5} {:>6} {:>6} {:>5} {:>7}\n",
        "operation", "polls", "all", "faults", "struck", "leaks", "seconds"
    );
    let (mut tried, mut struck, mut leaks) = (0, 0, 0);
    for row in rows {
        let found = row.places();
        let _ = writeln!(
            text,
            "{:<40} {:>5} {:>5} {:>6} {:>6} {:>5} {:>7.1}",
            row.name,
            row.polls,
            row.turns,
            row.tried.len(),
            row.struck(),
            found.len(),
            row.took.as_secs_f64()
        );
        for place in &found {
            let _ = writeln!(text, "    {place}");
        }
        for once in &row.once {
            let _ = writeln!(text, "    did not repeat alone: {once}");
        }
        (tried, struck, leaks) =
            (tried + row.tried.len(), struck + row.struck(), leaks + found.len());
    }
    let _ = write!(
        text,
        "{} operations, {tried} faults tried, {struck} struck before the end, {leaks} leaks",
        rows.len()
    );
    text
}

/// Cuts these operations, as many at once as there are processors.
pub(crate) fn cut_all(names: &[&str], plan: Plan, patience: Patience) -> Vec<Row> {
    let server = HttpServer::start();
    let width = thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let next = Mutex::new(0..names.len());
    let rows = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..width.min(names.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.lock().expect("no panic under it").next();
                    let Some(index) = index else { return };
                    let row = cut_one(names[index], plan, patience, &server.url);
                    rows.lock().expect("no panic under it").insert(index, row);
                }
            });
        }
    });
    rows.into_inner().expect("no panic under it").into_values().collect()
}

fn cut_one(name: &str, plan: Plan, patience: Patience, url: &str) -> Row {
    let began = Instant::now();
    let mut row = in_a_cell(name, plan, patience.among_many, url);
    let found: Vec<(Option<Fault>, usize)> =
        row.found().map(|(fault, after, _)| (fault, after)).take(CONFIRMED).collect();
    for (fault, after) in found {
        let key = (fault, after);
        let (Some(fault), Some(patience)) = (fault, patience.alone) else { continue };
        let mut alone = Vec::new();
        for _ in 0..AGAIN {
            let mut again = in_a_cell(name, Plan::One(fault, after), patience, url);
            if let Some((_, left)) = again.tried.remove(&key)
                && !left.is_empty()
            {
                alone = left;
                break;
            }
        }
        let Some((_, left)) = row.tried.get_mut(&key) else { continue };
        let among_many = std::mem::replace(left, alone);
        if left.is_empty() {
            let words = among_many.first().map_or(String::new(), |left| format!("{left:?}"));
            row.once.push(format!("{} at {after}: {words}", fault.word()));
        }
    }
    row.took = began.elapsed();
    row
}

fn in_a_cell(name: &str, plan: Plan, patience: Duration, url: &str) -> Row {
    let home = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let folder = home.path().join("tmp");
    fs::create_dir(&folder).expect("a TMPDIR");
    let lines = home.path().join("lines");
    File::create(&lines).expect("a file");
    let order = Order {
        operation: name.to_owned(),
        plan,
        patience,
        url: url.to_owned(),
        lines: lines.clone(),
    };
    let output = File::create(home.path().join("output")).expect("a file");
    let mut cell = Command::new(std::env::current_exe().expect("our own path"))
        .args(["cell", "--exact", "--nocapture", "--test-threads=1"])
        .env(cell::ORDER, order.render())
        .env("TMPDIR", &folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("the same file"))
        .stderr(output)
        .spawn()
        .expect("a cell");
    let ended = wait(&mut cell, &lines);
    let mut row = read(name, &fs::read_to_string(&lines).expect("what the cell said"));
    if let Err(how) = ended {
        let said = fs::read_to_string(home.path().join("output")).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(12).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        let at = row.broken.take().unwrap_or_default();
        row.broken = Some(format!("{how}; {at}\n{}", last.join("\n")));
    }
    row
}

/// Waits for its end as long as it goes on telling what it does.
fn wait(cell: &mut Child, lines: &PathBuf) -> Result<(), String> {
    let (mut heard, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = cell.try_wait().expect("our child") {
            return if status.success() {
                Ok(())
            } else {
                Err(format!("the cell ended: {status}"))
            };
        }
        let length = fs::metadata(lines).map_or(0, |file| file.len());
        if length != heard {
            (heard, since) = (length, Instant::now());
        }
        if since.elapsed() > SILENCE {
            let _ = cell.kill();
            let _ = cell.wait();
            return Err(format!("the cell said nothing for {SILENCE:?}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn read(name: &str, text: &str) -> Row {
    let mut row = Row { name: name.to_owned(), ..Row::default() };
    let mut is_done = false;
    let mut trying = "before its first run".to_owned();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        if let Some(polls) = line.get("polls") {
            (row.polls, row.turns) = (number(polls), number(&line["turns"]));
        } else if let Some(broken) = line.get("broken").and_then(Value::as_str) {
            row.broken = Some(broken.to_owned());
        } else if let Some(place) = line.get("trying") {
            trying = format!("it was at {place}");
        } else if let Some(place) = line.get("tried") {
            let fault = place[0].as_str().and_then(Fault::parse);
            let left = line["left"].as_array().into_iter().flatten().map(|left| {
                let word = |key: &str| left[key].as_str().unwrap_or_default();
                Left::new(word("kind"), word("what"))
            });
            let struck = line["struck"].as_bool().unwrap_or_default();
            row.tried.insert((fault, number(&place[1])), (struck, left.collect()));
        } else if line.get("done").is_some() {
            is_done = true;
        }
    }
    if !is_done && row.broken.is_none() {
        row.broken = Some(format!("the cell did not come to its end; {trying}"));
    }
    row
}

/// A server over HTTP for those that want one.
struct HttpServer {
    child: Child,
    url: String,
}

impl HttpServer {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scupper"))
            .args(["fake", "reference", "--http", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("its address");
        Self { child, url: line.trim().to_owned() }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
