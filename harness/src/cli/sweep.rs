//! `--torture`: the byte sweep. A clean life is counted, every point is looked at, many in a cell; what
//! is not clean is judged in a cell of its own; what came of it is folded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::Refusal;
use super::canary::Canary;
use super::session::Session;
use crate::ledger::verdict::{CaseReport, Swept, Verdict};
use crate::lifecycle::sweep::{self, Lane, Point, Side, Span};
use crate::plan::sweep::{Extent, Sweep};
use crate::plan::{Case, Choices};
use crate::report::{event::Event, outcome};
use crate::runner::{News, Outcome};
use crate::spelled::count;

/// How often what outlived the first look is judged alone before it counts as clean.
const TRIES: u32 = 3;
/// Cases at once that are judged alone, for each core, where the user names no number: they mostly
/// wait for their patience to end.
const WAITING_PER_CORE: usize = 4;
/// Steps between two notes of progress, as a part of the whole.
const NEWS: Duration = Duration::from_millis(200);

/// Options of the byte sweep.
#[derive(Debug, Clone, Args)]
pub struct SweepArguments {
    /// Judge the byte sweep in place of the built-in lifecycles: the peer dies, closes, half-closes,
    /// resets or stalls after every byte of the handshake and of the first call, in both directions
    #[arg(long)]
    pub torture: bool,
    /// Of these bytes only a sample of N, which always holds the boundaries of messages and one byte to
    /// either side
    #[arg(long, value_name = "N", requires = "torture")]
    pub shallow: Option<usize>,
    /// Only this part of the sweep, from 1, of so many
    #[arg(long, value_name = "I/N", requires = "torture", value_parser = shard)]
    pub shard: Option<(usize, usize)>,
}

impl SweepArguments {
    /// How much of the sweep is wanted; none where it is not asked for.
    pub fn extent(&self) -> Option<Extent> {
        self.torture.then_some(Extent { shallow: self.shallow, shard: self.shard })
    }
}

pub(super) fn shard(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("{text:?} is no part of a whole; write 1/4 for the first of four");
    let (part, of) = text.split_once('/').ok_or_else(wrong)?;
    let (part, of) = (part.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
    if (1..=of).contains(&part) { Ok((part, of)) } else { Err(wrong()) }
}

/// Refuses names that no point of a sweep can have.
pub fn check_names(side: Side, choices: &Choices) -> Result<(), Refusal> {
    let fits = |name: &str, id: &str| crate::plan::names_id(name, id);
    let unknown = choices.only.iter().chain(&choices.skip);
    let unknown: Vec<&str> =
        unknown.filter(|name| !sweep::may_name(side, name, fits)).map(String::as_str).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Refusal::usage(format!(
        "--torture judges the byte sweep alone, and nothing in it is called {}; name a fault, a lane or \
         a point of it, such as {FOLDER}/dies, {FOLDER}/dies/to-server or {FOLDER}/dies/to-server/152",
        unknown.join(" or "),
        FOLDER = sweep::FOLDER,
    )))
}

/// Judges the sweep together with a canary.
pub fn judge(session: &mut Session, plan: &dyn Sweep, canary: &Canary, extent: Extent) {
    let counted = plan.counted();
    let Some(works) = session.count(&counted) else { return };
    let points = plan.points(&works, extent);
    if points.is_empty() {
        let last = |ends: &[u64]| ends.last().copied().unwrap_or(0);
        let cause = format!(
            "no byte of the sweep is called so: {} bytes go to the {}, and {} come from it",
            last(&works.to),
            if plan.side() == Side::Client { "client" } else { "server" },
            last(&works.from)
        );
        session.not_judged(plan.choices().only.join(","), cause);
        return;
    }
    let screens = plan.screens(&points);
    session.on(Event::Note(budget(&points, plan, session.runner.jobs())));
    let mut run = Run {
        plan,
        begun: Instant::now(),
        told: Instant::now(),
        planned: points.len(),
        screened: HashMap::new(),
        alone: HashMap::new(),
        places: points.iter().map(|point| (point.id(), *point)).collect(),
    };
    run.screen(session, canary, screens);
    run.judge_alone(session, &points);
    let seconds = run.begun.elapsed().as_secs_f64();
    run.fold(session, &points);
    let lives =
        run.screened.len() + run.alone.values().map(|alone| alone.tries as usize).sum::<usize>();
    session.on(Event::Note(format!(
        "{} in {seconds:.0} s, {:.1} a second",
        count(lives, "life"),
        lives as f64 / seconds.max(0.001)
    )));
}

/// `6310 lives: 631 bytes, 5 faults, each alone and with a second one; about 2 min, 2 at a time`
fn budget(points: &[Point], plan: &dyn Sweep, jobs: usize) -> String {
    let bytes: std::collections::BTreeSet<_> =
        points.iter().map(|point| (point.lane.direction, point.byte)).collect();
    let lanes: std::collections::BTreeSet<Lane> = points.iter().map(|point| point.lane).collect();
    let millis = plan.life_ms().saturating_mul(points.len() as u64) / jobs.max(1) as u64;
    format!(
        "byte sweep: {}, {} in {} of fault and direction; about {}, {jobs} at a time, if all of them are \
         clean",
        count(points.len(), "life"),
        count(bytes.len(), "byte"),
        count(lanes.len(), "lane"),
        rough(Duration::from_millis(millis))
    )
}

/// A duration of which only the size matters.
fn rough(time: Duration) -> String {
    match time.as_secs() {
        0..=90 => format!("{} s", time.as_secs().max(1)),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// A sweep that goes on.
struct Run<'a> {
    plan: &'a dyn Sweep,
    begun: Instant,
    told: Instant,
    planned: usize,
    /// What the first look at a life has shown, by point.
    screened: HashMap<Point, Box<CaseReport>>,
    /// What was judged alone.
    alone: HashMap<Point, Alone>,
    places: HashMap<String, Point>,
}

/// A point that was judged alone.
struct Alone {
    tries: u32,
    report: Option<Box<CaseReport>>,
    /// Why it was not judged.
    lost: Option<String>,
}

impl Alone {
    /// Its outcome as a key; none where it is clean.
    fn key(&self) -> Option<String> {
        match &self.report {
            Some(report) if report.verdict == Verdict::Clean => None,
            Some(report) => Some(outcome(report)),
            None => Some(format!("not judged: {}", self.lost.clone().unwrap_or_default())),
        }
    }
}

impl Run<'_> {
    /// Looks at every point, many in a cell.
    fn screen(&mut self, session: &mut Session, canary: &Canary, screens: Vec<Case>) {
        let kinds = self.plan.choices().kinds.clone();
        let canaries = std::slice::from_ref(canary);
        session.beside_canaries(canaries, &screens, &kinds, |session, news| match news {
            News::Started(_) => {}
            News::Screened(report) => {
                if let Some(point) = self.places.get(&report.lifecycle) {
                    self.screened.insert(*point, report);
                }
                self.tell(session);
            }
            // Judged in full at once.
            News::Ended(index, came) if screens[index].lives() == 0 => {
                let point = self.places.get(&screens[index].order.lifecycle.id).copied();
                match (point, came) {
                    (Some(point), Outcome::Judged(report, _)) if is_clean(&report) => {
                        self.screened.insert(point, report);
                    }
                    (Some(point), came) => self.take(point, came),
                    (None, _) => {}
                }
                self.tell(session);
            }
            News::Ended(..) => {}
        });
    }

    fn tell(&mut self, session: &mut Session) {
        let done = self.screened.len() + self.alone.len();
        if self.told.elapsed() < NEWS && done < self.planned {
            return;
        }
        self.told = Instant::now();
        let left = self.begun.elapsed().as_secs_f64() / done.max(1) as f64
            * (self.planned - done.min(self.planned)) as f64;
        let suspects = self.screened.values().filter(|report| !is_clean(report)).count();
        let suspects = suspects + self.alone.len();
        session.on(Event::Swept {
            done,
            planned: self.planned,
            suspects,
            left: rough(Duration::from_secs_f64(left)),
        });
    }

    fn is_suspect(&self, point: &Point) -> bool {
        self.screened.get(point).is_none_or(|report| !is_clean(report))
    }

    /// Neighbours of one lane that all outlived the first look.
    fn runs(&self, points: &[Point]) -> Vec<Vec<Point>> {
        let mut runs: Vec<Vec<Point>> = Vec::new();
        let mut last: Option<Lane> = None;
        for point in points {
            if !self.is_suspect(point) {
                last = None;
                continue;
            }
            match runs.last_mut() {
                Some(run) if last == Some(point.lane) => run.push(*point),
                _ => runs.push(vec![*point]),
            }
            last = Some(point.lane);
        }
        runs
    }

    /// Judges alone what is not clean, as much of it as it takes to know all of it.
    fn judge_alone(&mut self, session: &mut Session, points: &[Point]) {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        let jobs = session.jobs_asked_for.unwrap_or(WAITING_PER_CORE * cores);
        let runs = self.runs(points);
        let suspects: usize = runs.iter().map(Vec::len).sum();
        if suspects > self.alone.len() {
            session.on(Event::Note(format!(
                "{suspects} of {} lives were not clean at a first look and are judged in cells of their \
                 own; of long runs of neighbours some are, and between two that differ all it takes to \
                 find the edge",
                points.len()
            )));
        }
        while !session.runner.interrupted() {
            let again = self.alone.iter().filter(|(_, alone)| {
                alone.tries < TRIES && alone.report.as_ref().is_some_and(|report| is_clean(report))
            });
            let mut next: Vec<Point> = again.map(|(point, _)| *point).collect();
            if next.is_empty() {
                next = runs.iter().flat_map(|run| self.next_of(run)).collect();
            }
            if next.is_empty() {
                return;
            }
            next.sort_unstable();
            let cases: Vec<Case> = next.iter().map(|point| self.plan.judged(point)).collect();
            let runner = Arc::clone(&session.runner);
            runner.run_at_once(jobs, &cases, |news| match news {
                News::Started(index) => {
                    session.on(Event::CaseStarted { id: cases[index].order.id.clone() });
                }
                News::Ended(index, came) => {
                    session.on(Event::LifeEnded { id: cases[index].order.id.clone() });
                    self.take(next[index], came);
                }
                News::Screened(_) => {}
            });
        }
    }

    fn next_of(&self, run: &[Point]) -> Vec<Point> {
        let judged = run.iter().enumerate();
        let judged: Vec<(usize, Option<String>)> =
            judged.filter_map(|(at, point)| Some((at, self.alone.get(point)?.key()))).collect();
        sweep::judge_next(run.len(), &judged).into_iter().map(|at| run[at]).collect()
    }

    fn take(&mut self, point: Point, came: Outcome) {
        let alone = self.alone.entry(point).or_insert(Alone { tries: 0, report: None, lost: None });
        alone.tries += 1;
        match came {
            Outcome::Judged(report, _) => alone.report = Some(report),
            Outcome::NotJudged(cause) | Outcome::NotApplicable(cause) => alone.lost = Some(cause),
            Outcome::Screened => {}
        }
    }

    /// What is known of a point: its outcome as a key, and whether it was judged or is taken to be like
    /// its neighbours.
    fn known(&self, points: &[Point]) -> Vec<(Point, Option<String>, bool)> {
        let mut known: Vec<(Point, Option<String>, bool)> = Vec::new();
        for point in points {
            let judged = match (self.screened.get(point), self.alone.get(point)) {
                (_, Some(alone)) => Some(match &alone.report {
                    Some(report) if is_clean(report) => clean_key(report),
                    _ => alone.key().unwrap_or_default(),
                }),
                (Some(report), None) if is_clean(report) => Some(clean_key(report)),
                _ => None,
            };
            // Between two judged alike; where a run was interrupted there is no such neighbour.
            let like = || known.last().filter(|(last, ..)| last.lane == point.lane)?.1.clone();
            let is_judged = judged.is_some();
            let key = judged.or_else(like);
            known.push((*point, key, is_judged));
        }
        known
    }

    /// Folds all outcomes into ranges, each a case.
    fn fold(&mut self, session: &mut Session, points: &[Point]) {
        let mut lanes: BTreeMap<Lane, Vec<(Point, Option<String>, bool)>> = BTreeMap::new();
        for known in self.known(points) {
            lanes.entry(known.0.lane).or_default().push(known);
        }
        let mut place = 1;
        for (lane, known) in lanes {
            for span in sweep::fold(known.iter().map(|(point, key, _)| (point.byte, key.clone()))) {
                let of_span = known
                    .iter()
                    .filter(|(point, ..)| (span.first..=span.last).contains(&point.byte));
                let judged: Vec<Point> =
                    of_span.filter(|(.., judged)| *judged).map(|(point, ..)| *point).collect();
                self.tell_span(session, place, lane, &span, &judged);
                place += 1;
            }
        }
    }

    fn tell_span(
        &mut self,
        session: &mut Session,
        place: usize,
        lane: Lane,
        span: &Span<Option<String>>,
        judged: &[Point],
    ) {
        let id = match span.first == span.last {
            true => format!("{}/{}", lane.id(), span.first),
            false => format!("{}/{}..={}", lane.id(), span.first, span.last),
        };
        let report_of = |point: &Point| match self.alone.get(point) {
            Some(alone) => alone.report.as_ref(),
            None => self.screened.get(point),
        };
        let Some((first, report)) =
            judged.iter().find_map(|point| Some((point, report_of(point)?)))
        else {
            let lost = judged.iter().find_map(|point| self.alone.get(point)?.lost.clone());
            let id = self.plan.case_id(&id);
            session.not_judged(id, lost.unwrap_or_else(|| "interrupted".to_owned()));
            return;
        };
        let mut report = report.clone();
        for other in judged.iter().filter(|other| *other != first).filter_map(report_of) {
            for (name, value) in &other.figures {
                let figure = report.figures.entry(name.clone()).or_insert(*value);
                *figure = figure.max(*value);
            }
            for crash in &other.crashes {
                match report.crashes.iter_mut().find(|known| known.signal == crash.signal) {
                    Some(known) => known.lives += crash.lives,
                    None => report.crashes.push(crash.clone()),
                }
            }
        }
        let reached = report.figures.remove(sweep::CUT_REACHED).is_none_or(|reached| reached > 0.0);
        let case = self.plan.judged(first);
        report.id = self.plan.case_id(&id);
        report.lifecycle = id;
        report.repeat.clone_from(&case.order.repeat);
        report.swept = Some(Swept {
            lane,
            first: span.first,
            last: span.last,
            lives: span.lives,
            judged: judged.len(),
            reached,
        });
        session.take(place, &case, Outcome::Judged(report, None), Event::CaseEnded);
    }
}

fn is_clean(report: &CaseReport) -> bool {
    report.verdict == Verdict::Clean && report.findings.is_empty()
}

/// Clean lives that had fewer bytes are a range of their own.
fn clean_key(report: &CaseReport) -> String {
    let reached = report.figures.get(sweep::CUT_REACHED).is_none_or(|reached| *reached > 0.0);
    if reached { "clean".to_owned() } else { "clean, and not reached".to_owned() }
}
