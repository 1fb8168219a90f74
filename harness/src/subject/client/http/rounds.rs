//! The same work again and again, over HTTP. A round begins with the first request of a connection,
//! which waits for its answer until the client has been looked at.

use std::time::Instant;

use super::super::judge::Thing;
use super::super::rounds::{PLACE, ROUND_OVER, played};
use super::super::{Over, Play};
use super::judge::session;
use crate::ledger::abandoned::http;
use crate::ledger::snapshot::{Identity, Kind};
use crate::ledger::verdict::StepRef;
use crate::lifecycle::client::RoundsBy;
use crate::peer::http::report::Asked;
use crate::probe::holder::Holders;

/// Most sessions that are told one by one.
const LINES: usize = 3;

/// The step in which a round begins.
pub(super) fn step(round: usize) -> StepRef {
    StepRef {
        place: format!("{PLACE}.1"),
        name: "client connects".to_owned(),
        cycle: u32::try_from(round).ok(),
    }
}

impl Play<'_> {
    /// Has the client do its work again and again, until what grows was judged.
    pub(super) fn play_rounds_over_http(&mut self, rounds: u32) -> Over {
        self.step(&format!("repeat {rounds}"));
        let by_lines = self.script.rounds_by == Some(RoundsBy::Lines);
        let start_bound = self.start_bound();
        let rest = self.patience();
        let mut lines = 0;
        while !self.rounds_judged {
            self.turn();
            if self.has_exited() {
                return Over::Exited;
            }
            let begun = self.service.as_ref().map_or(0, |service| service.rounds);
            let is_over = begun == lines && self.last_news.elapsed() > ROUND_OVER;
            if by_lines && (lines == 0 || is_over) {
                self.begin_work();
                self.last_news = Instant::now();
                lines += 1;
            }
            if !self.was_asked() {
                if self.begun.elapsed() > start_bound {
                    return Over::NoServer;
                }
            } else if self.rested() > rest {
                return Over::AtRest;
            }
        }
        if !by_lines {
            // It was told how often, and ends by itself.
            self.wait_for_exit();
        }
        Over::Moment
    }

    /// A round begins with this request, or it goes on.
    pub(super) fn round_over_http(&mut self, asked: &Asked, rounds: u32) -> Option<StepRef> {
        let service = self.service.as_mut()?;
        let method = asked.method.clone()?;
        if *service.mark.get_or_insert_with(|| method.clone()) != method {
            return None;
        }
        service.rounds += 1;
        let begun = u32::try_from(service.rounds).unwrap_or(u32::MAX);
        self.played.cycles = begun.saturating_sub(2).min(rounds);
        Some(step(service.rounds))
    }

    /// What grew, when the last round has begun.
    pub(super) fn judge_rounds_over_http(&mut self) {
        let Some(rounds) = self.script.script.rounds else { return };
        let begun = self.service.as_ref().map_or(0, |service| service.rounds);
        if self.rounds_judged || begun < played(rounds) as usize {
            return;
        }
        self.judge_rounds(rounds);
        self.judge_sessions_of_rounds(rounds);
    }

    /// A session that was there in the round after its own was not ended with it.
    fn judge_sessions_of_rounds(&mut self, cycles: u32) {
        let Some(service) = &self.service else { return };
        let judged = |born: &StepRef| {
            born.cycle.is_some_and(|cycle| cycle > 1 && cycle <= cycles.saturating_add(1))
        };
        let left: Vec<(&String, &StepRef)> = service
            .left()
            .map(|(id, session)| (id, &session.born))
            .filter(|(_, born)| judged(born))
            .collect();
        // A pool of sessions fills up; one more with every round does not.
        if left.len() < cycles as usize {
            return;
        }
        let Some((_, birth)) = left.iter().min_by_key(|(_, born)| born.cycle) else { return };
        let due = StepRef { place: PLACE.into(), name: format!("repeat {cycles}"), cycle: None };
        let mut evidence: Vec<String> =
            left.iter().take(LINES).map(|(id, born)| format!("{id}, begun at {born}")).collect();
        if let Some(more @ 1..) = left.len().checked_sub(LINES) {
            evidence.push(format!("and {more} more like it"));
        }
        let identities: Vec<Identity> = left.iter().map(|(id, _)| session(id)).collect();
        let thing = Thing {
            kind: Kind::Session,
            what: format!("{} sessions of the client's, one more with every round", left.len()),
            identities,
            birth: (*birth).clone(),
            due: &due,
            evidence,
            holders: Holders::default(),
        };
        let finding = thing.found(http::grown(Kind::Session));
        self.played.findings.push(finding);
    }
}
