//! The cell's own work: take an order, play it, tell the verdict.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use rustix::process::{Pid, set_child_subreaper};

use super::contain::{drain, own_pid};
use super::isolate;
use super::protocol::{CaseOrder, CellEvent, Life, SubjectOrder, SweepOrder};
use crate::ledger::verdict::{CaseReport, Class, Tier, Verdict};
use crate::probe::Root;
use crate::subject::server::{Play, Played};

/// Longest order, in bytes.
const ORDER_LIMIT: u64 = 16 << 20;
/// Longest time for one case.
const CASE_BOUND: Duration = Duration::from_secs(30 * 60);
/// Longest time that ending everything may take.
const DRAIN_BOUND: Duration = Duration::from_secs(10);

/// Runs a cell: one order, one verdict. Returns its exit code.
pub fn run() -> io::Result<u8> {
    isolate::close_inherited_on_exec()?;
    set_child_subreaper(Pid::from_raw(own_pid()))?;
    let mut line = Vec::new();
    // Not one byte beyond the order may be taken: what follows is the lifeline's to wait on.
    io::stdin().lock().take(ORDER_LIMIT).read_until(b'\n', &mut line)?;
    let order: CaseOrder = serde_json::from_slice(&line)?;
    std::thread::spawn(leave_with_the_runner);
    std::thread::spawn(leave_in_the_end);
    let tier = match std::env::var("SCUPPER_TIER").as_deref() {
        Ok(tier) if tier == Tier::PidNamespace.as_str() => Tier::PidNamespace,
        _ => Tier::Subreaper,
    };
    judge(&order, tier)?;
    let left = drain(DRAIN_BOUND);
    if !left.is_empty() {
        let cause = format!("pids {left:?} could not be ended");
        tell(&CellEvent::Broken { cause })?;
    }
    Ok(0)
}

fn judge(order: &CaseOrder, tier: Tier) -> io::Result<()> {
    let root = match tier {
        Tier::PidNamespace => Root::Namespace,
        Tier::Subreaper | Tier::Cookie => Root::Descendants(own_pid()),
    };
    let mut forward = |event: CellEvent| {
        // A runner that is gone shows in the lifeline.
        let _ = tell(&event);
    };
    match &order.subject {
        SubjectOrder::Server(_) => {
            if let Some(SweepOrder::Screen(lives)) = &order.sweep {
                return screen(order, lives, tier, |order, forward| {
                    Play::new(order, root, forward).screening().run()
                });
            }
            let mut play = Play::new(order, root, &mut forward);
            let played = play.run();
            let started = played.era.is_some();
            tell(&CellEvent::Judged(Box::new(report(order, tier, played))))?;
            let measures = order.sweep == Some(SweepOrder::Measure);
            if (order.first_look || measures) && started {
                let learned = play.learned();
                tell(&CellEvent::Learned(Box::new(learned)))?;
            }
        }
        SubjectOrder::HttpServer(http) => {
            use crate::subject::http::Play;
            if let Some(SweepOrder::Screen(lives)) = &order.sweep {
                return screen(order, lives, tier, |order, forward| {
                    Play::new(order, http, root, forward).screening().run()
                });
            }
            let mut play = Play::new(order, http, root, &mut forward);
            let played = play.run();
            let started = played.era.is_some();
            tell(&CellEvent::Judged(Box::new(report(order, tier, played))))?;
            let measures = order.sweep == Some(SweepOrder::Measure);
            if (order.first_look || measures) && started {
                let learned = play.learned();
                tell(&CellEvent::Learned(Box::new(learned)))?;
            }
        }
        SubjectOrder::Client(client) => match crate::subject::client::play(order, client, root) {
            Ok(outcome) => {
                if let Some(why) = outcome.not_applicable {
                    return tell(&CellEvent::NotApplicable { why });
                }
                let started = outcome.played.failure.is_none();
                tell(&CellEvent::Judged(Box::new(report(order, tier, outcome.played))))?;
                let measures = order.sweep == Some(SweepOrder::Measure);
                if (order.first_look || measures) && started {
                    tell(&CellEvent::Learned(Box::new(outcome.learned)))?;
                }
            }
            Err(error) => tell(&CellEvent::Broken { cause: error.to_string() })?,
        },
        #[cfg(feature = "core")]
        SubjectOrder::Core { command, warm_up } => {
            let played = crate::subject::core::play(order, command, warm_up)?;
            tell(&CellEvent::Judged(Box::new(report(order, tier, played))))?;
        }
        #[cfg(feature = "core")]
        SubjectOrder::Embedded { .. } => {
            let played = crate::subject::embedded::play(order)?;
            tell(&CellEvent::Judged(Box::new(report(order, tier, played))))?;
        }
        #[cfg(not(feature = "core"))]
        SubjectOrder::Core { .. } | SubjectOrder::Embedded { .. } => {
            let cause = "this build has no core to judge".to_owned();
            tell(&CellEvent::Broken { cause })?;
        }
    }
    Ok(())
}

/// Plays many lives, and tells of each whether it is clean.
fn screen(
    order: &CaseOrder,
    lives: &[Life],
    tier: Tier,
    play: impl Fn(&CaseOrder, &mut dyn FnMut(CellEvent)) -> Played,
) -> io::Result<()> {
    for life in lives {
        // What one life leaves in TMPDIR is nothing to the next, as in a cell of its own.
        if let Some(directory) = std::env::var_os("TMPDIR") {
            empty(std::path::Path::new(&directory));
        }
        let order = CaseOrder {
            id: life.lifecycle.id.clone(),
            lifecycle: life.lifecycle.clone(),
            sweep: None,
            ..order.clone()
        };
        let mut forward = |_: CellEvent| {};
        let played = play(&order, &mut forward);
        tell(&CellEvent::Screened(Box::new(report(&order, tier, played))))?;
    }
    Ok(())
}

/// Removes what is in a directory. What cannot be removed stays; nothing rests on it.
fn empty(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
    }
}

/// A verdict from what was played. A leak stands beside the failure that caused it.
fn report(order: &CaseOrder, tier: Tier, played: Played) -> CaseReport {
    let leaked = played.findings.iter().any(|finding| finding.class == Class::Leak);
    let never_answered =
        order.first_look && played.failure.as_ref().is_some_and(|failure| failure.not_started);
    let verdict = if never_answered {
        // There was no server to judge. What it left is told beside.
        Verdict::Failed
    } else if leaked {
        Verdict::Leak
    } else if played.failure.is_some() {
        Verdict::Failed
    } else if !played.unreadable.is_empty() {
        Verdict::Unknown
    } else {
        Verdict::Clean
    };
    CaseReport {
        id: order.id.clone(),
        lifecycle: order.lifecycle.id.clone(),
        why: order.lifecycle.why.clone(),
        subject: order.subject_words.clone(),
        era: played.era.map(|era| era.revision().to_owned()),
        verdict,
        tier,
        cycles: played.cycles,
        expected: None,
        met: verdict == Verdict::Clean,
        unmet: Vec::new(),
        steps: played.steps,
        lives: played.lives,
        figures: played.figures,
        notes: played.notes,
        crashes: played.crashes,
        findings: played.findings,
        failure: played.failure,
        unreadable: played.unreadable.into_iter().collect(),
        repeat: order.repeat.clone(),
        swept: None,
        sdk: played.sdk,
    }
}

fn tell(event: &CellEvent) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// No case takes for ever, whatever its steps add up to.
fn leave_in_the_end() {
    let deadline = std::time::Instant::now() + CASE_BOUND;
    while std::time::Instant::now() < deadline {
        std::thread::park_timeout(CASE_BOUND);
    }
    let cause = format!(
        "the case took over {} minutes and was ended; give it fewer cycles",
        CASE_BOUND.as_secs() / 60
    );
    // Without a runner to hear it there is nobody to tell.
    let _ = tell(&CellEvent::Broken { cause });
    drain(DRAIN_BOUND);
    std::process::exit(101);
}

/// Waits for the end of the lifeline; then the runner is gone, and so is everything below.
fn leave_with_the_runner() {
    let mut rest = [0; 64];
    loop {
        match io::stdin().read(&mut rest) {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    drain(DRAIN_BOUND);
    std::process::exit(130);
}
