//! How many lifecycles a second: cases with a cell each, cycles within a cell, screened lives, and
//! generated lifecycles in memory, beside the bare start and end of the same processes.
//!
//! Cells, clients and servers are this very program started again, as they are of `scupper`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use benches::effort::Effort;
use benches::figures::{Book, Figure, Summary};
use harness::cell;
use harness::cell::host::{Cell, strongest_tier};
use harness::cell::protocol::{CaseOrder, CellEvent, Life, SweepOrder};
use harness::ledger::snapshot::Kind;
use harness::ledger::verdict::{CaseReport, Tier, Verdict};
use harness::lifecycle::generate::{Act, Generated, GeneratedStep, Peer, of_seed};
use harness::lifecycle::scenario::{self, FakeSpec};
use harness::lifecycle::step::EraChoice;
use harness::peer::fake;
use harness::plan::{self, Case, Choices};
use harness::runner::{News, Outcome, Runner};
use harness::subject::generated;
use rmcp::ServiceExt;

/// The processes of a case: sentinel, cell, client, server.
const PROCESSES: usize = 4;

/// One life in a cell of its own.
const ONE: &str = r#"
why = "One life: what a case costs."
[subject]
fake = "plain"
[[step]]
do = "open"
[[step]]
do = "handshake"
[[step]]
do = "close"
[expect]
verdict = "clean"
"#;

/// Life after life in one cell.
const CYCLES: &str = r#"
why = "Life after life: what a cycle costs."
[subject]
fake = "plain"
[[step]]
do = "repeat"
times = TIMES
  [[step.step]]
  do = "open"
  [[step.step]]
  do = "handshake"
  [[step.step]]
  do = "close"
[expect]
verdict = "clean"
"#;

/// Call after call in one life.
const CALLS: &str = r#"
why = "Call after call: what a cycle without a new life costs."
[subject]
fake = "plain"
[[step]]
do = "open"
[[step]]
do = "handshake"
[[step]]
do = "repeat"
times = TIMES
  [[step.step]]
  do = "call"
  tool = "echo"
  arguments = { text = "again" }
[[step]]
do = "close"
[expect]
verdict = "clean"
"#;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(ended) = cell::hidden_mode(&words).or_else(|| be_a_server(&words)) {
        return ended.map_or(ExitCode::FAILURE, ExitCode::from);
    }
    let effort = Effort::of_this_run();
    if effort == Effort::List {
        println!("cases, cycles, screened lives, in memory: benchmark");
        return ExitCode::SUCCESS;
    }
    if !effort.is_for("churn") {
        return ExitCode::SUCCESS;
    }
    let mut churn = Churn {
        book: Book::open("churn").expect("the folder of figures can be written"),
        tier: strongest_tier(),
        effort,
    };
    churn.cases();
    churn.phases();
    churn.within_a_cell();
    churn.in_memory();
    ExitCode::SUCCESS
}

/// `fake NAME` is a server, as with `scupper fake`.
fn be_a_server(words: &[String]) -> Option<std::io::Result<u8>> {
    let [verb, name] = words else { return None };
    let spec = FakeSpec { name: name.clone(), ..FakeSpec::default() };
    (verb == "fake").then(|| fake::run(&spec).map_err(std::io::Error::other))
}

struct Churn {
    book: Book,
    tier: Tier,
    effort: Effort,
}

impl Churn {
    /// Cases with a cell each, in turn with as many starts and ends of the same program, one at a time
    /// and on all cores.
    fn cases(&mut self) {
        let many = self.effort.samples(60, 12);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for jobs in [1, cores] {
            let runner = Runner::new(jobs, Arc::new(AtomicBool::new(false)))
                .expect("a folder for temporary files");
            let (mut cases, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..self.effort.samples(12, 4) {
                let floor = per_second(many * PROCESSES, || starts(many * PROCESSES, jobs));
                let floor = floor / PROCESSES as f64;
                let judged = per_second(many, || play_all(&runner, many));
                cases.push(judged);
                bare.push(floor);
                ratios.push(judged / floor);
            }
            self.tell("case", jobs, "per_second", &cases);
            self.tell("bare", jobs, "per_second", &bare);
            self.tell("case", jobs, "ratio_to_bare", &ratios);
        }
    }

    /// Where the time of a case goes.
    fn phases(&mut self) {
        let mut spent: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let order = order_of(ONE);
        for _ in 0..self.effort.samples(100, 20) {
            let life = Timed::play(self.tier, &order);
            let step = |name: &str| {
                let steps = life.report.steps.iter().filter(|step| step.step.name == name);
                steps.map(|step| step.took_ms).sum::<f64>()
            };
            let (open, handshake, close) = (step("open"), step("handshake"), step("close"));
            let [sentinel, started, judged, ended] = life.marks_ms;
            for (name, took) in [
                ("1_sentinel_ms", sentinel),
                // The subject is told of when the first step has opened it.
                ("2_cell_ms", started - sentinel - open),
                ("3_open_ms", open),
                ("4_handshake_ms", handshake),
                ("5_close_ms", close),
                ("6_looks_and_judging_ms", judged - started - handshake - close),
                ("7_end_ms", ended - judged),
                ("whole_ms", ended),
            ] {
                spent.entry(name).or_default().push(took);
            }
        }
        for (name, samples) in &spent {
            self.tell("phase", 1, name, samples);
        }
    }

    /// Cycles of one cell, by the difference that more of them make; and lives that are screened only.
    fn within_a_cell(&mut self) {
        for (name, text, few, more) in [("cycle", CYCLES, 5, 25), ("call-cycle", CALLS, 10, 60)] {
            let of = |times: usize| order_of(&text.replace("TIMES", &times.to_string()));
            let [short, long] = [of(few), of(more)];
            let mut samples = Vec::new();
            for _ in 0..self.effort.samples(12, 3) {
                let [short, long] =
                    [&short, &long].map(|order| Timed::play(self.tier, order).judged_s());
                samples.push((more - few) as f64 / (long - short));
            }
            self.tell(name, 1, "per_second", &samples);
        }
        let lives = self.effort.samples(200, 50);
        let one = order_of(ONE);
        let life = Life { lifecycle: one.lifecycle.clone() };
        let order = CaseOrder { sweep: Some(SweepOrder::Screen(vec![life; lives])), ..one };
        let mut samples = Vec::new();
        for _ in 0..self.effort.samples(8, 3) {
            samples.push(screened(self.tier, &order, lives));
        }
        self.tell("screened-life", 1, "per_second", &samples);
    }

    /// Lifecycles on the core in memory beside the model, and a bare client and server of rmcp's.
    fn in_memory(&mut self) {
        let many = self.effort.samples(3_000, 300) as u64;
        let whole = whole_life();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs only an epoll instance");
        let (mut random, mut steps, mut short, mut bare) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.effort.samples(10, 3) as u64 {
            let seeds = round * many..(round + 1) * many;
            let mut played = 0;
            let rate = per_second(many as usize, || {
                for seed in seeds {
                    played += generated::run(&of_seed(seed)).expect("model and core agree").steps;
                }
            });
            random.push(rate);
            steps.push(rate * played as f64 / many as f64);
            short.push(per_second(many as usize, || {
                for _ in 0..many {
                    black_box(generated::run(&whole).expect("model and core agree"));
                }
            }));
            bare.push(per_second(many as usize, || {
                runtime.block_on(async {
                    for _ in 0..many {
                        rmcp_life().await;
                    }
                });
            }));
        }
        self.tell("generated", 1, "per_second", &random);
        self.tell("generated-step", 1, "per_second", &steps);
        self.tell("whole-life-in-memory", 1, "per_second", &short);
        self.tell("rmcp-over-duplex", 1, "per_second", &bare);
    }

    fn tell(&mut self, subject: &str, n: usize, figure: &str, samples: &[f64]) {
        let server = "plain";
        let Summary { median, min, max, .. } =
            self.book.add(Figure { subject, server, n, figure, samples });
        println!("{subject:<21} {n:>2} {figure:<21} {median:>10.2}  ({min:.2} to {max:.2})");
    }
}

/// So many of something in a second.
fn per_second(many: usize, go: impl FnOnce()) -> f64 {
    let began = Instant::now();
    go();
    many as f64 / began.elapsed().as_secs_f64()
}

/// Starts the server and waits for it, so many times, at most so many at once. Its stdin has ended.
fn starts(many: usize, jobs: usize) {
    let program = std::env::current_exe().expect("this program has a path");
    std::thread::scope(|scope| {
        for job in 0..jobs {
            let program = &program;
            scope.spawn(move || {
                for _ in 0..many / jobs + usize::from(job < many % jobs) {
                    let mut child = Command::new(program)
                        .args(["fake", "plain"])
                        .stdin(Stdio::null())
                        .stdout(Stdio::piped())
                        .spawn()
                        .expect("this program can be started again");
                    if let Some(mut stdout) = child.stdout.take() {
                        stdout.read_to_end(&mut Vec::new()).expect("it can be read");
                    }
                    assert!(child.wait().expect("it is ours to wait for").success());
                }
            });
        }
    });
}

fn play_all(runner: &Runner, many: usize) {
    let cases: Vec<Case> = (0..many).map(|_| case_of(ONE)).collect();
    let mut clean = 0;
    runner.run_all(&cases, |news| match news {
        News::Ended(_, Outcome::Judged(report, _)) => {
            assert_eq!(report.verdict, Verdict::Clean, "{:?}", report.failure);
            clean += 1;
        }
        News::Ended(_, other) => panic!("not judged: {other:?}"),
        _ => {}
    });
    assert_eq!(clean, many);
}

/// A case and when it came to what: its sentinel, its subject, its verdict, its end.
struct Timed {
    marks_ms: [f64; 4],
    report: Box<CaseReport>,
}

impl Timed {
    fn play(tier: Tier, order: &CaseOrder) -> Timed {
        let home = tempfile::tempdir().expect("a folder for temporary files");
        let began = Instant::now();
        let ms = || began.elapsed().as_secs_f64() * 1e3;
        let mut cell = begin(tier, home.path(), order);
        let sentinel = ms();
        let (mut started, mut judged, mut told) = (None, None, None);
        while let Some(event) = cell.event().expect("the cell can be heard") {
            match event {
                CellEvent::SubjectStarted { .. } => started = started.or(Some(ms())),
                CellEvent::Judged(report) => {
                    judged = Some(ms());
                    told = Some(report);
                }
                other => panic!("{other:?}"),
            }
        }
        drop(cell);
        let ended = ms();
        let report = told.expect("it was judged");
        assert_eq!(report.verdict, Verdict::Clean, "{:?}", report.failure);
        let started = started.unwrap_or(sentinel);
        Timed { marks_ms: [sentinel, started, judged.unwrap_or(ended), ended], report }
    }

    /// From the start of the subject to the verdict.
    fn judged_s(&self) -> f64 {
        let [_, started, judged, _] = self.marks_ms;
        (judged - started) / 1e3
    }
}

/// Lives a second in one cell that only looks whether anything is left.
fn screened(tier: Tier, order: &CaseOrder, lives: usize) -> f64 {
    let home = tempfile::tempdir().expect("a folder for temporary files");
    let mut cell = begin(tier, home.path(), order);
    let (mut first, mut seen) = (None, 0_usize);
    while let Some(event) = cell.event().expect("the cell can be heard") {
        let CellEvent::Screened(report) = event else { continue };
        assert_eq!(report.verdict, Verdict::Clean, "{:?}", report.failure);
        first.get_or_insert_with(Instant::now);
        seen += 1;
        if seen == lives {
            break;
        }
    }
    let took = first.expect("it looked").elapsed();
    assert_eq!(seen, lives);
    (lives.max(2) - 1) as f64 / took.max(Duration::from_nanos(1)).as_secs_f64()
}

fn begin(tier: Tier, home: &Path, order: &CaseOrder) -> Cell {
    let folder = home.join("case");
    std::fs::create_dir(&folder).expect("a folder of its own");
    Cell::start(tier, &folder, 1_000, order).expect("a cell starts")
}

fn order_of(text: &str) -> CaseOrder {
    case_of(text).order
}

fn case_of(text: &str) -> Case {
    let scenario = scenario::parse("churn.toml", text).expect("it is a scenario");
    let program = std::env::current_exe().expect("this program has a path");
    let choices = Choices {
        only: Vec::new(),
        skip: Vec::new(),
        kinds: Kind::ALL.iter().copied().collect(),
        cycles: plan::CYCLES,
        era: EraChoice::Auto,
        leak_timeout_ms: None,
        start_timeout_ms: plan::START_TIMEOUT_MS,
        calls: Vec::new(),
        program: program.to_string_lossy().into_owned(),
        sweep: None,
    };
    plan::scenario(&scenario, "run", "churn.toml", &choices)
}

/// A server that is added, called and removed.
fn whole_life() -> Generated {
    let add = Act::Add { server: 0, peer: Peer::Well, probes: false, replaces: false };
    let step = |act| GeneratedStep { act, turns: None, code: [0; 4] };
    Generated { steps: [add, Act::Call(0), Act::Remove(0)].map(step).into() }
}

/// A server that does nothing beyond the protocol.
struct Plain;

impl rmcp::ServerHandler for Plain {}

/// Handshake and end of a client and a server of rmcp's, without any oracle.
async fn rmcp_life() {
    let (here, there) = tokio::io::duplex(4096);
    let server = tokio::spawn(async move {
        let server = Plain.serve(there).await.expect("the handshake");
        server.waiting().await
    });
    let client = ().serve(here).await.expect("the handshake");
    client.cancel().await.expect("it ends");
    server.await.expect("it does not panic").expect("it ends");
}
