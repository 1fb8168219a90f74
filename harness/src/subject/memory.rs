//! What a server weighs after each cycle, and whether it rises without an end.

use super::server::Play;
use crate::ledger::rise::{self, Heap, Sample, Slope};
use crate::ledger::snapshot::{Identity, Kind, Memory, ProcessId};
use crate::ledger::trend::{ROUNDS, Rounds};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::probe::memory;

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

impl Play<'_> {
    /// Memory that rises and does not level off; never more than an advisory.
    pub(super) fn judge_memory(&mut self, at: &StepRef, weights: &Weights) {
        let Some(server) = self.weighed() else { return };
        let heap = self.heap();
        let Some(slope) = Slope::of(&weights.samples(), heap) else { return };
        self.played.figures.insert("memory_bound_kib_per_cycle".into(), slope.bound_kib_per_cycle);
        if slope.rises() {
            self.played.findings.push(of_slope(&slope, heap, at, "server", server));
        }
    }

    /// Says below which growth nothing is seen. Where the cycles of one round showed none, five of them
    /// would have shown what is steeper.
    pub(super) fn note_bound(
        &mut self,
        asked: u32,
        rounds: Rounds,
        weights: &Weights,
        adaptive: bool,
    ) {
        if self.weighed().is_none() || weights.0.is_empty() {
            return;
        }
        let cycles = match adaptive && rounds.complete() >= 1 {
            true => rounds.length * ROUNDS,
            false => rounds.cycles,
        };
        let heap = self.heap();
        let measured = self.played.figures.get("memory_bound_kib_per_cycle").copied();
        let Some(bound) = measured.or_else(|| rise::bound(cycles, heap)) else {
            self.played.notes.push(format!(
                "memory was not judged: {} cycles are too few, and {} are needed",
                rounds.cycles,
                rise::LEAST_CYCLES
            ));
            return;
        };
        self.played.figures.insert("memory_bound_kib_per_cycle".into(), bound);
        self.played.notes.push(format!(
            "memory: growth below {} KiB a cycle is not seen in {heap} with --cycles {asked}",
            kib(bound)
        ));
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
        self.weighed().map_or(Heap::Unknown, |server| Heap::of(&memory::runtime(server.pid)))
    }

    /// The figures of memory.
    pub(super) fn note_weights(&mut self, weights: &Weights) {
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
                self.played.figures.insert(format!("{name}_kib"), *last);
                self.played.figures.insert(format!("{name}_kib_per_cycle"), slope);
            }
        }
    }
}

/// Memory that rises, in the words of a finding.
pub(super) fn of_slope(
    slope: &Slope,
    heap: Heap,
    at: &StepRef,
    whose: &str,
    process: ProcessId,
) -> Finding {
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
        culprit: if whose == "client" { Culprit::Client } else { Culprit::Server },
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
