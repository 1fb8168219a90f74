//! Drop at every poll: a life of the core's is played again and again, and the future of one of its
//! steps is dropped after so many polls. Then everything has to be gone, as after the step.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::runtime::Runtime;

use crate::cell::protocol::CaseOrder;
use crate::ledger::verdict::{Class, Finding, StepRef};
use crate::subject::server::Played;

/// The error of a step that was cut off.
const CUT: &str = "its future was dropped";
/// A future that is polled more often is cut no further.
const MOST_POLLS: usize = 500;
/// So many lives in a row that were over before they were cut are the end: how often a future is
/// polled depends on what comes together.
const MISSES: usize = 2;

/// How often the futures of a life were polled, and where one is dropped.
#[derive(Debug, Default)]
pub(super) struct Polls {
    cut: Option<(String, usize)>,
    at: Option<StepRef>,
    struck: bool,
    /// By place: the step, and the most polls of its future.
    seen: BTreeMap<String, (StepRef, usize)>,
}

impl Polls {
    /// Those of a life in which the future of the step at `place` is dropped after so many.
    pub(super) fn cut(place: &str, after: usize) -> Self {
        Self { cut: Some((place.to_owned(), after)), ..Self::default() }
    }

    /// Whether a future is to be dropped.
    pub(super) fn cuts(&self) -> bool {
        self.cut.is_some()
    }

    /// The step whose futures come now.
    pub(super) fn begin(&mut self, at: &StepRef) {
        if !self.struck {
            self.at = Some(at.clone());
        }
    }

    /// The step whose future was dropped, and after how many polls.
    pub(super) fn struck(&self) -> Option<(&StepRef, usize)> {
        let (_, after) = self.cut.as_ref().filter(|_| self.struck)?;
        Some((self.at.as_ref()?, *after))
    }

    /// Drives the future of a step to its end, or until it is dropped, inside the runtime.
    ///
    /// # Errors
    /// It was dropped.
    pub(super) fn drive<F: Future>(
        &mut self,
        runtime: &Runtime,
        future: F,
    ) -> Result<F::Output, String> {
        let here = self.at.as_ref().map(|step| step.place.as_str());
        let cut = self.cut.as_ref().filter(|(place, _)| !self.struck && here == Some(place));
        let last = cut.map(|(_, after)| *after);
        let mut polls = 0;
        let ended = runtime.block_on(async {
            let mut future = pin!(future);
            std::future::poll_fn(|context| {
                if last == Some(polls) {
                    return Poll::Ready(None);
                }
                polls += 1;
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => Poll::Ready(Some(value)),
                    Poll::Pending if last == Some(polls) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await
        });
        if let (Some(at), false) = (&self.at, self.struck) {
            let (_, most) = self.seen.entry(at.place.clone()).or_insert_with(|| (at.clone(), 0));
            *most = polls.max(*most);
        }
        self.struck |= ended.is_none();
        ended.ok_or_else(|| CUT.to_owned())
    }
}

/// What became of each poll: by place, the step, and by number of polls what was left.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<String, (StepRef, BTreeMap<usize, BTreeSet<String>>)>);

impl Outcomes {
    /// Plays the life again for every poll that was seen, and beyond while there are more. What is
    /// found has to be found twice, and goes to `all`.
    pub(super) fn cut_all(
        &mut self,
        polled: &Polls,
        shallow: Option<usize>,
        all: &mut Played,
        cut: impl Fn(&str, usize) -> io::Result<(Polls, Played)>,
    ) -> io::Result<()> {
        for (place, (step, polls)) in &polled.seen {
            let (_, of_step) =
                self.0.entry(place.clone()).or_insert_with(|| (step.clone(), BTreeMap::new()));
            let mut misses = 0;
            let mut next = 0;
            while let Some(after) = next_poll(shallow, *polls, next) {
                let (mut polls, mut played) = cut(place, after)?;
                if polls.struck && is_unclean(&played) {
                    (polls, played) = cut(place, after)?;
                }
                misses = if polls.struck { 0 } else { misses + 1 };
                if polls.struck {
                    let left = of_step.entry(after).or_default();
                    take(played, step, after, left, all);
                }
                if misses == MISSES {
                    break;
                }
                next = after + 1;
            }
        }
        Ok(())
    }

    /// The table, as a note of the case.
    pub(super) fn tell(self, order: &CaseOrder, all: &mut Played) {
        if self.0.is_empty() {
            return;
        }
        let cut: usize = self.0.values().map(|(_, polls)| polls.len()).sum();
        all.figures.insert("polls_cut".into(), cut as f64);
        let steps = self.0.into_values().map(|(step, polls)| {
            let polls: Vec<(usize, String)> = polls
                .into_iter()
                .map(|(after, left)| {
                    let left: Vec<String> = left.into_iter().collect();
                    (after, if left.is_empty() { "clean".to_owned() } else { left.join(", ") })
                })
                .collect();
            format!("{step}: polls {}", folded(&polls))
        });
        let steps: Vec<String> = steps.collect();
        all.notes.push(format!("{}, dropped at its polls: {}", order.id, steps.join("; ")));
    }
}

/// The next number of polls to cut after, from `from` on.
fn next_poll(shallow: Option<usize>, polls: usize, from: usize) -> Option<usize> {
    let Some(sample) = shallow else { return (from <= MOST_POLLS).then_some(from) };
    // The last poll is the one that is ready, so that nothing can be cut after it.
    let last = polls.saturating_sub(1);
    let parts = sample.saturating_sub(1).max(1);
    (0..=parts).map(|part| last * part / parts).find(|one| *one >= from)
}

fn is_unclean(played: &Played) -> bool {
    played.failure.is_some() || played.findings.iter().any(is_of_the_core)
}

/// What a server left where no end of the core's reaches is told of by the whole life.
fn is_of_the_core(finding: &Finding) -> bool {
    finding.class == Class::Leak
}

fn take(
    mut played: Played,
    step: &StepRef,
    after: usize,
    left: &mut BTreeSet<String>,
    all: &mut Played,
) {
    played.findings.retain(is_of_the_core);
    left.extend(played.findings.iter().map(|finding| format!("leak {}", finding.kind)));
    if let Some(failure) = &mut played.failure {
        left.insert("failed".to_owned());
        failure.message = format!(
            "{}, when the future of {step} had been dropped after poll {after}",
            failure.message
        );
    }
    // Its steps and its figures are those of half a life.
    let Played { findings, failure, unreadable, .. } = played;
    super::merge(all, Played { findings, failure, unreadable, ..Played::default() });
}

/// Neighbours of which the same came are one range.
fn folded(polls: &[(usize, String)]) -> String {
    let ranges = polls.chunk_by(|one, other| one.1 == other.1).map(|range| {
        let (first, last) = (range[0].0, range[range.len() - 1].0);
        let words = &range[0].1;
        if first == last {
            format!("{first}: {words}")
        } else {
            format!("{first}..={last}: {words}")
        }
    });
    ranges.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_folded_and_a_leak_stands_alone() {
        let clean = |poll| (poll, "clean".to_owned());
        let polls = [clean(0), clean(1), (2, "leak fd".to_owned()), clean(3)];
        assert_eq!(folded(&polls), "0..=1: clean, 2: leak fd, 3: clean");
    }

    #[test]
    fn a_sample_holds_the_first_poll_and_the_last() {
        let sample = |shallow, polls| {
            let next = |from: &usize| next_poll(Some(shallow), polls, from + 1);
            std::iter::successors(next_poll(Some(shallow), polls, 0), next).collect::<Vec<_>>()
        };
        assert_eq!(sample(1, 12), [0, 11]);
        assert_eq!(sample(3, 12), [0, 5, 11]);
        assert_eq!(sample(99, 4), [0, 1, 2, 3]);
        assert_eq!(sample(3, 1), [0]);
    }

    /// A future that is dropped where it is told to be, and counted elsewhere.
    #[test]
    fn a_future_is_dropped_after_its_polls() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let at = |place: &str| StepRef { place: place.into(), name: "call".into(), cycle: None };
        let three = || async {
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
        };
        let mut polls = Polls::cut("2", 1);
        polls.begin(&at("1"));
        assert_eq!(polls.drive(&runtime, three()), Ok(()));
        assert_eq!(polls.struck(), None);
        polls.begin(&at("2"));
        assert_eq!(polls.drive(&runtime, three()), Err(CUT.to_owned()));
        assert_eq!(polls.struck(), Some((&at("2"), 1)));
        assert_eq!(polls.seen["1"], (at("1"), 3));
        // What ends the life afterwards is left alone.
        assert_eq!(polls.drive(&runtime, three()), Ok(()));
    }
}
