//! The same work again and again, in one life of the client, and what grows with it.
//!
//! A round begins when the client starts a server, which waits until the client has been looked at:
//! of the rounds before, nothing should be there any more. So the last server is only started to see
//! what the one before it has left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::finding;
use super::super::memory::{self as weight, Weights};
use super::super::server::FIRM_LOOK;
use super::growing::{Grew, Growing, Look};
use super::judge::Thing;
use super::{Over, Play};
use crate::ledger::abandoned;
use crate::ledger::snapshot::{Identity, Kind, ProcessId};
use crate::ledger::trend::{self, Growth, Rounds};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::lifecycle::client::RoundsBy;
use crate::probe::holder::Holders;
use crate::probe::memory;
use crate::settle::settle;

/// Place of the repetition among the steps, after the start of the client.
pub(super) const PLACE: &str = "2";
/// Rounds from which on something that each of them brought is no pool: each starts a life anew.
const SURE_ROUNDS: u32 = 16;
/// A client that says nothing for so long has done its work, though its server is still there.
pub(super) const ROUND_OVER: Duration = Duration::from_millis(300);
/// Most things that are told one by one.
const LINES: usize = 3;

/// Rounds that are played where so many are judged: one to warm up, one to look at what the last has
/// left.
pub(super) fn played(rounds: u32) -> u32 {
    rounds + 2
}

impl Play<'_> {
    /// Tells a client that waits for a line on its stdin to do its work once.
    pub(super) fn begin_work(&mut self) {
        if let (Some(RoundsBy::Lines), Some(client)) = (&self.script.rounds_by, &mut self.client) {
            client.line();
        }
    }

    /// Has the client do its work again and again, until what grows was judged.
    pub(super) fn play_rounds(&mut self, rounds: u32) -> Over {
        self.step(&format!("repeat {rounds}"));
        let by_lines = self.script.rounds_by == Some(RoundsBy::Lines);
        let start_bound = Duration::from_millis(self.order.start_timeout_ms);
        let rest = self.patience();
        let mut lines = 0;
        while !self.rounds_judged {
            self.turn();
            if self.has_exited() {
                return Over::Exited;
            }
            let last = self.servers.last();
            let is_over = last.is_none_or(|server| server.gone.is_some())
                || self.last_news.elapsed() > ROUND_OVER;
            if by_lines && is_over && self.servers.len() == lines {
                self.begin_work();
                self.last_news = Instant::now();
                lines += 1;
            }
            if self.servers.is_empty() && self.begun.elapsed() > start_bound {
                return Over::NoServer;
            }
            if !self.servers.is_empty() && self.rested() > rest {
                return Over::AtRest;
            }
        }
        if !by_lines {
            // It was told how often, and ends by itself.
            self.wait_for_exit();
        }
        Over::Moment
    }

    /// The step of a server's start. It is one step of the life, however many there are.
    pub(super) fn round_begins(&mut self, rounds: u32) -> StepRef {
        let cycle = u32::try_from(self.servers.len() + 1).unwrap_or(u32::MAX);
        self.played.cycles = cycle.saturating_sub(2).min(rounds);
        StepRef {
            place: format!("{PLACE}.1"),
            name: "client starts server".to_owned(),
            cycle: Some(cycle),
        }
    }

    /// What the process that starts the servers weighs, at the start of one. The first round is the
    /// warm-up.
    pub(super) fn weigh(&mut self, starter: Option<ProcessId>, step: &StepRef) {
        let Some(starter) = starter.filter(|_| self.order.kinds.contains(&Kind::Memory)) else {
            return;
        };
        if let Some((cycle, memory)) =
            step.cycle.filter(|cycle| *cycle >= 2).zip(memory::of(starter.pid))
        {
            self.weights.entry(starter).or_default().0.push((cycle, memory));
        }
    }

    /// Memory that rises with the rounds. A client that starts each server from another process keeps
    /// nothing in it.
    fn judge_memory(&mut self, repeat: &StepRef, cycles: u32) {
        let weights = std::mem::take(&mut self.weights);
        let whole = |weights: &Weights| weights.0.len() >= cycles as usize;
        let Some((client, weights)) = weights.into_iter().find(|(_, weights)| whole(weights))
        else {
            return;
        };
        let judged = weight::judge(&weights, repeat, Culprit::Client, client);
        let measured = judged.figures.get(weight::BOUND).copied();
        let (words, bound) = weight::bound(measured, cycles, weight::heap(client));
        self.played.notes.push(match bound {
            Some(_) => format!("{words} with --cycles {cycles}"),
            None => words,
        });
        self.played.figures.extend(judged.figures);
        self.played.findings.extend(judged.finding);
    }

    /// What grew, given time to go away.
    pub(super) fn judge_rounds(&mut self, cycles: u32) {
        self.rounds_judged = true;
        let repeat =
            StepRef { place: PLACE.to_owned(), name: format!("repeat {cycles}"), cycle: None };
        self.judge_memory(&repeat, cycles);
        let rounds = Rounds { length: Rounds::length_of(cycles), cycles };
        let mut growing = Growing::new();
        let waits_by = self.descriptors_of_last_round();
        // The look at the last server's start, or at the last request.
        growing.see(self.look_at_growth(&repeat, rounds, &waits_by));
        let begun = Instant::now();
        settle(begun + self.patience(), || {
            self.look_for(&repeat, FIRM_LOOK);
            growing.see(self.look_at_growth(&repeat, rounds, &waits_by))
        });
        match growing.end() {
            Grew::Nothing => {}
            Grew::This(found) => {
                for (finding, processes) in found {
                    self.blamed.extend(processes);
                    self.played.findings.push(finding);
                }
            }
            Grew::Unknown(found) => {
                let words: Vec<&str> =
                    found.iter().map(|(finding, _)| finding.what.as_str()).collect();
                let after = begun.elapsed().as_secs_f64();
                let had = match words.as_slice() {
                    [] => String::new(),
                    words => format!(", too soon to tell whether it keeps {}", words.join(", ")),
                };
                self.played.unreadable.insert(format!(
                    "what grows: the client left {after:.1} s after its last round began{had}; let \
                     it wait longer for an answer, or pass a shorter --leak-timeout"
                ));
            }
        }
    }

    fn look_at_growth(
        &self,
        repeat: &StepRef,
        rounds: Rounds,
        waits_by: &BTreeSet<Identity>,
    ) -> Look<(Finding, Vec<ProcessId>)> {
        let last = self.ledger.last();
        Look {
            running: self.is_running(),
            firm: last.stable,
            waiting: !waits_by.is_empty()
                && waits_by.iter().all(|one| last.things.contains_key(one)),
            grown: self.what_grew(repeat, rounds),
        }
    }

    /// What has grown by now, with the processes among it.
    fn what_grew(&self, repeat: &StepRef, rounds: Rounds) -> Vec<(Finding, Vec<ProcessId>)> {
        let mut grown = trend::growth(&self.ledger, PLACE, rounds);
        grown.retain_mut(|growth| self.keep_the_clients(growth));
        grown.iter().map(|growth| (self.grown(growth, repeat, rounds), processes(growth))).collect()
    }

    /// What the client has since the last round began: the pipes of its server, or the socket of its
    /// request.
    fn descriptors_of_last_round(&self) -> BTreeSet<Identity> {
        let last = self.round_now();
        let servers = self.server_ids();
        let alive = self.ledger.alive().filter(|(thing, _, step)| {
            matches!(thing, Identity::Fd { owner, .. } if !servers.contains(owner))
                && step.cycle.is_some()
                && step.cycle == last
        });
        alive.map(|(thing, _, _)| thing.clone()).collect()
    }

    /// The round that has begun last, from 1.
    fn round_now(&self) -> Option<u32> {
        let begun = self.service.as_ref().map_or(self.servers.len(), |service| service.rounds);
        u32::try_from(begun).ok()
    }

    fn server_ids(&self) -> Vec<ProcessId> {
        self.servers.iter().filter_map(|server| server.id).collect()
    }

    /// Who starts the servers, known from the ones before the last: of processes that had a part in
    /// two of them, those that the last look has seen alive. A launcher may outlive its client.
    pub(super) fn find_starters(&mut self) {
        let mut begun = BTreeMap::<ProcessId, usize>::new();
        for server in self.server_ids() {
            for ancestor in self.ledger.ancestors(server) {
                *begun.entry(ancestor).or_default() += 1;
            }
        }
        let several = begun.into_iter().filter(|(_, servers)| *servers > 1).map(|(id, _)| id);
        self.starters = several.filter(|id| self.is_seen_alive(*id)).collect();
    }

    /// The last look has seen the client alive, and whoever starts its servers.
    fn is_running(&self) -> bool {
        let client = self.client.as_ref().map(|client| client.id);
        client.is_some_and(|client| {
            self.starters.iter().chain([&client]).all(|id| self.is_seen_alive(*id))
        })
    }

    /// The last look has seen it with descriptors: a process that is dying has none.
    fn is_seen_alive(&self, id: ProcessId) -> bool {
        let is_its = |thing: &Identity| matches!(thing, Identity::Fd { owner, .. } if *owner == id);
        self.ledger.last().things.keys().any(is_its)
    }

    /// What a server has is its own, and it is one of ours. What came with the last server, which
    /// still lives, is no growth.
    fn keep_the_clients(&self, growth: &mut Growth) -> bool {
        let last = self.round_now();
        growth.identities.retain(|one| {
            self.ledger.birth(one).is_some_and(|step| step.cycle.is_some() && step.cycle < last)
        });
        let servers = self.server_ids();
        growth.identities.retain(|one| match one {
            Identity::Process(_) => true,
            other => other.owner().is_none_or(|owner| !servers.contains(&owner)),
        });
        !growth.identities.is_empty() && self.order.kinds.contains(&growth.kind)
    }

    /// A thing in words; of a process, only what tells it from others.
    fn thing_words(&self, one: &Identity) -> String {
        match one {
            Identity::Process(id) => format!("pid {} ({})", id.pid, self.words(*id)),
            other => finding::thing(other, &self.ledger),
        }
    }

    fn grown(&self, growth: &Growth, repeat: &StepRef, rounds: Rounds) -> Finding {
        let count = growth.identities.len();
        let things = match growth.kind {
            Kind::Process => "processes",
            Kind::Zombie => "dead servers",
            Kind::Fd => "descriptors",
            _ => "threads",
        };
        let pace = if count == rounds.cycles as usize { "one more" } else { "some more" };
        let mut evidence: Vec<String> = growth
            .identities
            .iter()
            .take(LINES)
            .map(|one| {
                let since = self.ledger.birth(one).map(|step| format!("  since {step}"));
                let thing = self.thing_words(one);
                format!("{thing}{}", since.unwrap_or_default())
            })
            .collect();
        if let Some(more @ 1..) = count.checked_sub(LINES) {
            evidence.push(format!("and {more} more like it"));
        }
        let thing = Thing {
            kind: growth.kind,
            what: format!("{count} {things} of the client's, {pace} with every round"),
            identities: growth.identities.clone(),
            birth: growth.step.clone(),
            due: repeat,
            evidence,
            holders: Holders::default(),
        };
        let judged = match self.service {
            Some(_) => abandoned::http::grown(growth.kind),
            None => abandoned::grown(growth.kind),
        };
        let mut found = thing.found(judged);
        if !growth.is_sure(rounds, SURE_ROUNDS) {
            found.class = Class::Advisory;
            found.evidence.push(format!(
                "advisory: {} rounds, in which a pool may still fill; --cycles 20 tells",
                rounds.cycles
            ));
        }
        found
    }
}

/// The processes among what grew.
fn processes(growth: &Growth) -> Vec<ProcessId> {
    let process = |one: &Identity| match one {
        Identity::Process(id) => Some(*id),
        _ => None,
    };
    growth.identities.iter().filter_map(process).collect()
}
