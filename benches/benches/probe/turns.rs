//! Several ways to the same end, in turn: what else the host does meets all of them alike, and the ratio
//! is that of each round.

use std::time::Instant;

use benches::figures::{Book, Figure};

/// What is measured in turn. The first is the floor.
pub(crate) struct Turns<'t> {
    case: &'static str,
    n: usize,
    ways: Vec<Way<'t>>,
}

struct Way<'t> {
    name: &'static str,
    go: Box<dyn FnMut() + 't>,
    samples_us: Vec<f64>,
}

impl<'t> Turns<'t> {
    pub(crate) fn new(case: &'static str, n: usize) -> Self {
        Turns { case, n, ways: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &'static str, go: impl FnMut() + 't) {
        self.ways.push(Way { name, go: Box::new(go), samples_us: Vec::new() });
    }

    /// Goes each way once unmeasured, then so many rounds, and writes down time and ratio of each.
    pub(crate) fn play(&mut self, rounds: usize, book: &mut Book) {
        for way in &mut self.ways {
            (way.go)();
        }
        for round in 0..rounds {
            let first = round % self.ways.len();
            let (later, now) = self.ways.split_at_mut(first);
            for way in now.iter_mut().chain(later) {
                let began = Instant::now();
                (way.go)();
                way.samples_us.push(began.elapsed().as_secs_f64() * 1e6);
            }
        }
        let floor = self.ways.first().map(|way| way.samples_us.clone()).unwrap_or_default();
        for way in &self.ways {
            let of = |figure, samples: &[f64], book: &mut Book| {
                let figure =
                    Figure { subject: way.name, server: self.case, n: self.n, figure, samples };
                book.add(figure)
            };
            let time = of("us", &way.samples_us, book);
            let ratios: Vec<f64> =
                way.samples_us.iter().zip(&floor).map(|(own, floor)| own / floor).collect();
            let ratio = of("ratio_to_floor", &ratios, book);
            println!(
                "{:<5} {:>6} {:<9} {:>11.1} us  {:>6.2} x floor",
                self.case, self.n, way.name, time.median, ratio.median
            );
        }
    }

    /// The median of one of them.
    pub(crate) fn median_us(&self, name: &str) -> f64 {
        let way = self.ways.iter().find(|way| way.name == name);
        let samples = way.map(|way| way.samples_us.as_slice()).unwrap_or_default();
        benches::figures::Summary::of(samples).map_or(f64::NAN, |summary| summary.median)
    }
}
