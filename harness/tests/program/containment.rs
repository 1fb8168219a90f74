//! Nothing outlives a cell, whoever is killed.
//!
//! Real processes, real SIGKILLs, at random moments after the first subject has started. Whatever
//! of a run is still alive is found by a variable that the runner was given and everything below it
//! inherits. A zombie has no environment: those that wait for init are not seen.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Alive, Run, SCUPPER, at_once, wait_for};
use harness::ledger::verdict::Tier;
use rustix::process::{Pid, Signal, kill_process};

/// The contract: nothing is left so long after the death.
const BOUND: Duration = Duration::from_secs(2);
/// The latest moment of a death, after the first subject has started.
const LATEST: Duration = Duration::from_millis(1_200);
/// Rounds at once: enough to be quick, and few enough for the bound to mean the program's own time.
const AT_ONCE: usize = 3;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Runner,
    Cell,
    Sentinel,
    RunnerAndCell,
}

/// One run, one death.
#[derive(Debug, Clone, Copy)]
struct Round {
    victim: Victim,
    fake: &'static [&'static str],
    tier: Tier,
    /// Draws the moment, and which of several cells.
    seed: u64,
}

/// What this host allows, as the program itself tells: a tier is found by trying.
fn strongest_tier() -> Tier {
    let doctor = Run::start(&["doctor"], &[]).end();
    let line = doctor.stdout.lines().next().unwrap_or_default();
    if line.contains(Tier::PidNamespace.as_str()) && line.contains("yes") {
        Tier::PidNamespace
    } else {
        Tier::Subreaper
    }
}

/// What does not end by itself: the server, deaf to all but SIGKILL; and a helper out of reach of
/// signals to the server's group.
const SUBJECTS: [&[&str]; 2] = [&["ignores-eof-and-term"], &["helper-setsid", "at=start"]];

#[test]
fn killed_runner_leaves_nothing() {
    play(&rounds(Victim::Runner, 20, 4));
}

#[test]
fn killed_cell_leaves_nothing_of_its_own() {
    play(&rounds(Victim::Cell, 20, 4));
}

#[test]
fn runner_and_cell_killed_at_once_leave_nothing() {
    play(&rounds(Victim::RunnerAndCell, 4, 4));
}

#[test]
fn killed_sentinel_leaves_nothing_of_its_cell() {
    // Without a pid namespace its cell lives on under the runner, which watches it as before.
    play(&rounds(Victim::Sentinel, 6, 0));
}

/// In the weaker tier nothing but the cell is below a sentinel that dies; the cell goes on, and the
/// runner, to which it comes, sees it to its end.
#[test]
fn run_whose_sentinel_dies_ends_and_leaves_nothing_in_the_weaker_tier() {
    let run = Run::fake(&["--jobs", "2"], &["slow-exit", "ms=300"], &[WEAKER]);
    let sentinel = run.wait_for(is_sentinel).expect("a sentinel");
    kill(&sentinel);
    let ended = run.end();
    let (processes, _) = ended.left();
    assert_eq!(processes, [], "exit code {}\n{}", ended.code, ended.stdout);
}

/// Then what was below comes to the runner, and goes with it at the latest.
#[test]
fn run_whose_sentinel_and_cell_die_at_once_leaves_nothing_in_the_weaker_tier() {
    // What stays, and does not come and go with one of the steps: a server, a helper.
    for (fake, stays) in SUBJECTS.into_iter().zip(["fake ignores-eof-and-term", "fake helper "]) {
        let run = Run::fake(&["--only", "stdio/clean-close"], fake, &[WEAKER]);
        let stays = |one: &Alive| one.command.starts_with(&format!("{SCUPPER} {stays}"));
        let subject = run.wait_for(stays).expect("a subject");
        for one in run.alive().iter().filter(|one| is_sentinel(one) || is_cell(one)) {
            kill(one);
        }
        let ended = run.end();
        let (processes, _) = ended.left();
        assert_eq!(processes, [], "of {subject:?}, exit code {}\n{}", ended.code, ended.stdout);
        assert_eq!(ended.code, 3, "nothing was judged\n{}", ended.stdout);
    }
}

#[test]
fn interrupted_run_exits_130_and_leaves_nothing() {
    for (tier, signal) in [(Tier::Subreaper, Signal::INT), (strongest_tier(), Signal::TERM)] {
        let run = Run::fake(&["--jobs", "4"], &["ignores-eof-and-term"], environment(tier));
        run.wait_for(is_subject).expect("a subject");
        let interrupted = Instant::now();
        // As the keys of a terminal do it: to the whole group.
        run.signal_group(signal);
        let ended = run.end();
        let took = interrupted.elapsed();
        let (processes, files) = ended.left();
        assert_eq!(ended.code, 130, "{}{}", ended.stdout, ended.stderr);
        assert_eq!((processes, files), (vec![], vec![]), "after {signal:?}, {tier}");
        assert!(took < BOUND, "it took {took:?} to end after {signal:?}");
        assert!(ended.report().interrupted);
    }
}

/// The first look at this subject takes 6 s, so that its sentinel is certainly there to clean up.
#[test]
fn sentinel_of_a_killed_runner_removes_its_directories() {
    for tier in [strongest_tier(), Tier::Subreaper] {
        let run = Run::fake(&[], &["ignores-eof-and-term"], environment(tier));
        run.wait_for(is_subject).expect("a subject");
        assert!(!run.files().is_empty(), "the run's directory is not in its TMPDIR");
        run.signal(Signal::KILL);
        let gone = wait_for(Instant::now() + BOUND, || run.files().is_empty().then_some(()));
        assert!(gone.is_some(), "{tier}: {:?} is left of it", run.files());
    }
}

const WEAKER: (&str, &str) = ("SCUPPER_CONTAIN", "subreaper");

fn environment(tier: Tier) -> &'static [(&'static str, &'static str)] {
    if tier == Tier::PidNamespace { &[] } else { &[WEAKER] }
}

/// Rounds with each subject in turn: so many in the host's strongest tier, and so many in the
/// weaker one.
fn rounds(victim: Victim, strongest: usize, weaker: usize) -> Vec<Round> {
    let tier = strongest_tier();
    if tier != Tier::PidNamespace {
        println!("skipped: {strongest} rounds in a pid namespace, which this host does not allow");
    }
    let given = std::env::var("SCUPPER_TEST_SEED").ok();
    let seed = given.map_or_else(
        || std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_nanos() as u64,
        |given| given.parse().expect("SCUPPER_TEST_SEED is a number"),
    );
    println!("SCUPPER_TEST_SEED={seed}");
    let strongest = if tier == Tier::PidNamespace { strongest } else { 0 };
    let tiers = [vec![tier; strongest], vec![Tier::Subreaper; weaker]].concat();
    tiers
        .into_iter()
        .enumerate()
        .map(|(number, tier)| {
            let fake = SUBJECTS[number % SUBJECTS.len()];
            Round { victim, fake, tier, seed: seed.wrapping_add(number as u64) }
        })
        .collect()
}

fn play(rounds: &[Round]) {
    let told = at_once(AT_ONCE, rounds, kill_and_look);
    let mut table = String::new();
    let mut wrong = Vec::new();
    for (round, told) in rounds.iter().zip(told) {
        let what = format!("{:?} of {} ({})", round.victim, round.fake.join(" "), round.tier);
        match told {
            Ok(told) => drop(writeln!(table, "{what}: {told}")),
            Err(left) => wrong.push(format!("{what}: {left}")),
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rounds.len(), wrong.join("\n"));
}

/// One round; gives back what to print, or what is wrong.
fn kill_and_look(round: &Round) -> Result<String, String> {
    let mut random = Random(round.seed);
    // Quick to give up on what leaks, so that a random moment may fall in any of the cases.
    let options = ["--jobs", "3", "--leak-timeout", "200ms", "--cycles", "5"];
    let mut run = Run::fake(&options, round.fake, environment(round.tier));
    run.wait_for(is_subject).ok_or("no subject came to be")?;
    // The moment is the misbehaviour itself, not a wait for anything.
    let moment = random.below(LATEST.as_micros() as u64);
    thread::sleep(Duration::from_micros(moment));
    let sentinel = round.victim == Victim::Sentinel;
    let of_cell = |one: &Alive| if sentinel { is_sentinel(one) } else { is_cell(one) };
    // Between two cases there may be none: then the moment is that of the next.
    let before = wait_for(Instant::now() + BOUND, || {
        let alive = run.alive();
        (round.victim == Victim::Runner || alive.iter().any(of_cell)).then_some(alive)
    });
    let (Some(before), true) = (before, run.runs()) else {
        return Err(format!("the run was over after {moment} us:\n{}", run.stdout()));
    };
    let candidates: Vec<&Alive> = before.iter().filter(|one| of_cell(one)).collect();
    let target = (round.victim != Victim::Runner)
        .then(|| candidates[random.below(candidates.len() as u64) as usize]);
    let died = Instant::now();
    if matches!(round.victim, Victim::Runner | Victim::RunnerAndCell) {
        run.signal(Signal::KILL);
    }
    target.inspect(|target| kill(target));
    let runner_died = matches!(round.victim, Victim::Runner | Victim::RunnerAndCell);
    // Of a cell that dies alone, that cell is due to go; the run goes on with others.
    let doomed = |one: &Alive| {
        runner_died || target.is_some_and(|dead| dead.pid == one.pid || below(dead, one, &before))
    };
    let mut left = Vec::new();
    let gone = wait_for(died + BOUND, || {
        left = run.alive();
        left.retain(|one| doomed(one));
        left.is_empty().then(|| died.elapsed())
    });
    let Some(gone) = gone else { return Err(format!("left after {BOUND:?}: {left:#?}")) };
    let files = if runner_died { run.files().len() } else { 0 };
    if !runner_died {
        run.signal(Signal::TERM);
        let ended = run.end();
        let (processes, files) = ended.left();
        if ended.code == 0 || !processes.is_empty() || !files.is_empty() {
            return Err(format!("exit code {}, left {processes:?} and {files:?}", ended.code));
        }
    }
    let directory = if files > 0 { ", a directory is left" } else { "" };
    Ok(format!(
        "killed after {:>7.1} ms with {:>2} alive, nothing left {:>5.1} ms later{directory}",
        moment as f64 / 1e3,
        before.len(),
        gone.as_secs_f64() * 1e3,
    ))
}

/// Whether a process was, or would be, of the cell that died. A sentinel bears no cell's name; what
/// dies with it is what its namespace held, the cells of which are told by the case's directory.
fn below(dead: &Alive, one: &Alive, before: &[Alive]) -> bool {
    let cell = match &dead.cell {
        Some(cell) => Some(cell.clone()),
        None => dead.command.split('/').next_back().and_then(|rest| {
            let case = rest.split(' ').next()?;
            before.iter().filter_map(|one| one.cell.clone()).find(|cell| cell == case)
        }),
    };
    cell.is_some() && one.cell == cell
}

/// A subject itself: the runner has the subject's command line among its arguments, too.
fn is_subject(one: &Alive) -> bool {
    let of_fake = |name: &&str| one.command.starts_with(&format!("{SCUPPER} fake {name}"));
    SUBJECTS.iter().map(|fake| &fake[0]).any(of_fake)
}

fn is_cell(one: &Alive) -> bool {
    one.command.ends_with(" __cell")
}

/// The sentinel of a case, not that of the trial at the start.
fn is_sentinel(one: &Alive) -> bool {
    one.command.contains(" __sentinel ") && one.command.contains("/case-")
}

fn kill(one: &Alive) {
    let _ = Pid::from_raw(one.pid).map(|pid| kill_process(pid, Signal::KILL));
}

/// SplitMix64: small, and good enough to draw moments.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
