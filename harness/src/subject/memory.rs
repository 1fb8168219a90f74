//! What a server weighs after each cycle, and whether it rises without an end.

use std::collections::BTreeMap;

use super::server::Play;
use crate::ledger::rise::{self, Heap, Sample, Slope};
use crate::ledger::snapshot::{Identity, Kind, Memory, ProcessId};
use crate::ledger::trend::{ROUNDS, Rounds};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::probe::memory;

/// Name of the figure below which no growth is seen, in KiB a cycle.
pub(super) const BOUND: &str = "memory_bound_kib_per_cycle";

/// Memory after each cycle but the first.
#[derive(Debug, Default)]
pub(super) struct Weights(pub(super) Vec<(u32, Memory)>);

impl Weights {
    /// What is judged: what the process has for itself, or else its resident set.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let private = |(cycle, memory): &(u32, Memory)| Some((*cycle, memory.private_kib? as f64));
        let resident = |(cycle, memory): &(u32, Memory)| (*cycle, memory.rss_kib as f64);
        let private: Option<Vec<Sample>> = self.0.iter().map(private).collect();
        private.unwrap_or_else(|| self.0.iter().map(resident).collect())
    }
}

/// What came of weighing a process again and again.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Memory that rises and does not level off; never more than an advisory.
    pub(super) finding: Option<Finding>,
    /// The last weight and KiB a cycle, resident, proportional and private; and the bound.
    pub(super) figures: BTreeMap<String, f64>,
}

/// Judges the memory of a process, which must still be there.
pub(super) fn judge(
    weights: &Weights,
    at: &StepRef,
    culprit: Culprit,
    process: ProcessId,
) -> Judged {
    let heap = heap(process);
    let mut judged = Judged { finding: None, figures: figures(weights) };
    if let Some(slope) = Slope::of(&weights.samples(), heap) {
        judged.figures.insert(BOUND.to_owned(), slope.bound_kib_per_cycle);
        judged.finding = slope.rises().then(|| of_slope(&slope, heap, at, culprit, process));
    }
    judged
}

/// How a process takes and gives back memory.
pub(super) fn heap(process: ProcessId) -> Heap {
    Heap::of(&memory::runtime(process.pid))
}

fn figures(weights: &Weights) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    for name in ["rss", "pss", "private"] {
        let sample = |(cycle, memory): &(u32, Memory)| {
            let kib = match name {
                "rss" => Some(memory.rss_kib),
                "pss" => memory.pss_kib,
                _ => memory.private_kib,
            };
            Some((*cycle, kib? as f64))
        };
        let samples: Vec<Sample> = weights.0.iter().filter_map(sample).collect();
        if let (Some(slope), Some((_, last))) = (rise::slope(&samples), samples.last()) {
            figures.insert(format!("{name}_kib"), *last);
            figures.insert(format!("{name}_kib_per_cycle"), slope);
        }
    }
    figures
}

/// Below which growth nothing is seen, in words, and the figure. `cycles` are those that growth would
/// have been given: where one round of the battery showed none, five would have shown what is steeper.
pub(super) fn bound(measured: Option<f64>, cycles: u32, heap: Heap) -> (String, Option<f64>) {
    match measured.or_else(|| rise::bound(cycles, heap)) {
        Some(bound) => {
            let bound_kib = kib(bound);
            let words =
                format!("memory: growth below {bound_kib} KiB a cycle is not seen in {heap}");
            (words, Some(bound))
        }
        None => {
            let least = rise::LEAST_CYCLES;
            (format!("memory was not judged: {cycles} cycles are too few, it takes {least}"), None)
        }
    }
}

impl Play<'_> {
    /// Memory that rises, and the figures of memory.
    pub(super) fn judge_memory(&mut self, at: &StepRef, weights: &Weights) {
        let Some(server) = self.weighed() else { return };
        self.played.lives.weigh(&at.place, &weights.samples());
        let judged = judge(weights, at, Culprit::Server, server);
        self.played.findings.extend(judged.finding);
        self.played.figures.extend(judged.figures);
    }

    /// Says below which growth nothing was seen, of so many cycles that were asked for.
    pub(super) fn note_bound(&mut self, asked: u32, rounds: Rounds, weights: &Weights) {
        let Some(server) = self.weighed().filter(|_| !weights.0.is_empty()) else { return };
        let cycles = match rounds.length >= asked && rounds.complete() >= 1 {
            true => rounds.length * ROUNDS,
            false => rounds.cycles,
        };
        let measured = self.played.figures.get(BOUND).copied();
        let (words, bound) = bound(measured, cycles, heap(server));
        self.played.figures.extend(bound.map(|bound| (BOUND.to_owned(), bound)));
        self.played.notes.push(match bound {
            Some(_) => format!("{words} with --cycles {asked}"),
            None => words,
        });
    }

    /// The one server that is alive, if memory is judged.
    fn weighed(&self) -> Option<ProcessId> {
        let [connection] = self.connections.values().collect::<Vec<_>>()[..] else { return None };
        let judged = self.order.kinds.contains(&Kind::Memory);
        connection.roles.server.or(connection.roles.root).filter(|_| judged)
    }

    pub(super) fn weight(&self) -> Option<Memory> {
        memory::of(self.weighed()?.pid)
    }

    /// How the server takes and gives back memory.
    pub(super) fn heap(&self) -> Heap {
        self.weighed().map_or(Heap::Unknown, heap)
    }
}

/// Memory that rises, in the words of a finding.
fn of_slope(
    slope: &Slope,
    heap: Heap,
    at: &StepRef,
    culprit: Culprit,
    process: ProcessId,
) -> Finding {
    let whose = culprit.as_str();
    let mib = |kib: &f64| format!("{:.1}", kib / 1024.0);
    let medians: Vec<String> = slope.medians_kib.iter().map(mib).collect();
    let pairs = slope.medians_kib.len() * (slope.medians_kib.len() - 1) / 2;
    let later = match heap {
        Heap::Counted => "a cache may still be filling; with more --cycles it comes to its end",
        Heap::V8 | Heap::Unknown => "a heap may grow to its limit before anything is collected",
    };
    Finding {
        class: Class::Advisory,
        kind: Kind::Memory,
        what: format!("the {whose}'s memory grows by {} KiB a cycle", kib(slope.kib_per_cycle)),
        identities: vec![Identity::Process(process)],
        count: 1,
        birth_step: StepRef { cycle: Some(2), ..at.clone() },
        due_step: StepRef { cycle: None, ..at.clone() },
        culprit,
        blame: format!("it is the private memory of pid {} itself", process.pid),
        rule: None,
        hurts: format!(
            "a {whose} that lives for days grows until the host or its container kills it"
        ),
        site: None,
        holders: Vec::new(),
        holders_unread: 0,
        evidence: vec![
            format!(
                "private memory in {} stretches of {} cycles, the median of each: {} MiB",
                medians.len(),
                slope.cycles / u32::try_from(medians.len()).unwrap_or(1).max(1),
                medians.join(", ")
            ),
            format!(
                "it rises more steeply than {} KiB a cycle, the bound of {heap} (rank test, score {} \
                 of {pairs}, p {:.5}), and the later half by {:.0} % of the earlier one",
                kib(slope.bound_kib_per_cycle),
                slope.rank.score,
                slope.rank.p,
                100.0 * slope.steadiness
            ),
            format!("advisory: {later}"),
        ],
        remedy: "look for what each call keeps: an array, a map or a listener that is only ever \
                 added to"
            .to_owned(),
    }
}

/// Few digits for little, none after the point for much.
fn kib(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(private: impl Fn(u32) -> Option<u64>) -> Weights {
        let memory = |cycle| Memory { rss_kib: 9_000, pss_kib: None, private_kib: private(cycle) };
        Weights((2..=101).map(|cycle| (cycle, memory(cycle))).collect())
    }

    #[test]
    fn what_is_not_seen_is_told_with_its_bound() {
        let (words, figure) = bound(None, 100, Heap::Counted);
        assert_eq!(
            words,
            "memory: growth below 13 KiB a cycle is not seen in a heap without a collector"
        );
        assert_eq!(figure, Some(12.8));
        assert_eq!(
            bound(Some(700.0), 100, Heap::V8).1,
            Some(700.0),
            "that of the wobbling heap itself"
        );
        let (words, figure) = bound(None, 20, Heap::V8);
        assert_eq!(words, "memory was not judged: 20 cycles are too few, it takes 100");
        assert_eq!(figure, None);
    }

    #[test]
    fn private_memory_is_judged_where_all_of_it_could_be_read() {
        assert_eq!(weights(|cycle| Some(u64::from(cycle))).samples()[3], (5, 5.0));
        assert_eq!(weights(|cycle| (cycle != 50).then_some(1)).samples()[3], (5, 9_000.0));
    }

    #[test]
    fn a_rise_is_told_with_its_slope_its_bound_and_its_test() {
        let samples = weights(|cycle| Some(2_000 + 20 * u64::from(cycle))).samples();
        let slope = Slope::of(&samples, Heap::Counted).unwrap();
        let at = StepRef { place: "3".into(), name: "repeat 101".into(), cycle: None };
        let process = ProcessId { pid: 7, start_time: 1 };
        let found = of_slope(&slope, Heap::Counted, &at, Culprit::Client, process);
        assert_eq!(
            (found.class, found.kind, found.culprit),
            (Class::Advisory, Kind::Memory, Culprit::Client)
        );
        assert_eq!(found.what, "the client's memory grows by 20 KiB a cycle");
        assert_eq!(
            found.evidence[..2],
            [
                "private memory in 8 stretches of 10 cycles, the median of each: 2.5, 2.7, 2.9, 3.1, \
                 3.3, 3.4, 3.6, 3.8 MiB",
                "it rises more steeply than 13 KiB a cycle, the bound of a heap without a collector \
                 (rank test, score 28 of 28, p 0.00002), and the later half by 100 % of the earlier one"
            ]
        );
    }
}
