//! Rounds in which everyone ends the same, and what they come to.

use std::collections::BTreeMap;
use std::time::Duration;

use benches::figures::{Book, Figure};

use crate::subject::{Case, End, Ended, Subject, WAIT};

/// The figures, and the medians that later ones are compared with.
pub(crate) struct Table {
    book: Book,
    /// Of one connection alone, by subject and server.
    alone: BTreeMap<(String, &'static str), f64>,
}

/// All rounds of one subject.
#[derive(Default)]
struct Rounds {
    whole: Vec<f64>,
    each: Vec<f64>,
    rungs: BTreeMap<&'static str, Vec<f64>>,
    left: Vec<f64>,
    to_floor: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, ended: &Ended) {
        self.whole.push(ms(ended.whole));
        self.each.extend(ended.each.iter().copied().map(ms));
        for (name, took) in ended.rungs.iter().flatten() {
            self.rungs.entry(name).or_default().push(ms(*took));
        }
        self.left.push(ended.left as f64);
    }
}

impl Table {
    pub(crate) fn new(book: Book) -> Table {
        Table { book, alone: BTreeMap::new() }
    }

    /// Plays so many rounds with everyone, and who goes first moves on by one.
    pub(crate) fn play(
        &mut self,
        subjects: &mut [Box<dyn Subject + '_>],
        case: Case,
        at_once: usize,
        rounds: usize,
    ) {
        let mut all: Vec<Rounds> = subjects.iter().map(|_| Rounds::default()).collect();
        for round in 0..rounds {
            for turn in 0..subjects.len() {
                let place = (round + turn) % subjects.len();
                let subject = &mut subjects[place];
                if subject.plays(case, at_once) && round < subject.most_rounds(case) {
                    all[place].add(&subject.end(case, at_once));
                }
            }
            compare_with_floor(subjects, &mut all);
        }
        for (subject, rounds) in subjects.iter().zip(&all) {
            if !rounds.whole.is_empty() {
                self.note(subject.as_ref(), case, at_once, rounds);
            }
        }
    }

    fn note(&mut self, subject: &dyn Subject, case: Case, at_once: usize, rounds: &Rounds) {
        let (name, server) = (subject.name(), case.server);
        let mut add = |figure: &str, samples: &[f64]| {
            self.book.add(Figure { subject: name, server, n: at_once, figure, samples })
        };
        let whole = add("whole_ms", &rounds.whole);
        let mut told = format!("{:.2} ms, p99 {:.2}", whole.median, whole.p99);
        if at_once > 1 && !rounds.each.is_empty() {
            add("each_ms", &rounds.each);
        }
        for (rung, samples) in &rounds.rungs {
            add(rung, samples);
        }
        let left = add(subject.leaves(), &rounds.left);
        if let (End::Forced(waits), true) = (case.end, name.starts_with("core")) {
            let wait = ms(WAIT * waits);
            let over: Vec<f64> = rounds.whole.iter().map(|whole| whole - wait).collect();
            let over = add("over_wait_ms", &over);
            told += &format!(
                "; {:.2} over {wait:.0} ms of waits, at most {:.2}",
                over.median, over.max
            );
        }
        if !rounds.to_floor.is_empty() {
            let ratio = add("ratio_to_floor", &rounds.to_floor);
            told += &format!("; {:.2} of the floor, p99 {:.2}", ratio.median, ratio.p99);
        }
        let key = (name.to_owned(), server);
        match self.alone.get(&key) {
            Some(alone) => {
                let ratios: Vec<f64> = rounds.whole.iter().map(|whole| whole / alone).collect();
                let ratio = add("ratio_to_one", &ratios);
                told += &format!("; {:.2} of one alone", ratio.median);
            }
            None => drop(self.alone.insert(key, whole.median)),
        }
        let what = subject.leaves().trim_start_matches("left_");
        println!("teardown/{server}/{at_once}: {name}: {told}; {what} left: {}", left.max);
    }
}

/// Everyone who has played this round, with the floor of the same round.
fn compare_with_floor(subjects: &[Box<dyn Subject + '_>], all: &mut [Rounds]) {
    let played = |rounds: &Rounds| rounds.whole.len();
    for floor in 0..subjects.len() {
        if !subjects[floor].name().starts_with("floor") || played(&all[floor]) == 0 {
            continue;
        }
        let (round, leaves) = (played(&all[floor]), subjects[floor].leaves());
        let floor_took = all[floor].whole[round - 1];
        for place in (0..subjects.len()).filter(|place| *place != floor) {
            if subjects[place].leaves() == leaves && played(&all[place]) == round {
                let took = all[place].whole[round - 1];
                all[place].to_floor.push(took / floor_took);
            }
        }
    }
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
