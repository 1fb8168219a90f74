//! All that a run is held against beside its own verdicts, and the exit code that follows. Pure.

use super::baseline::Baseline;
use super::calendar::Day;
use super::compare::compare;
use super::threshold::Threshold;
use crate::ledger::standing::Standing;
use crate::report::event::Gated;
use crate::report::event::codes::{CLEAN, INVALID, LEAK, NOT_JUDGED};
use crate::report::json::{Report, Totals};

/// What a report is held against.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    /// Findings that are known.
    pub baseline: Option<Baseline>,
    /// Bounds on figures.
    pub thresholds: Vec<Threshold>,
    /// An older report.
    pub against: Option<Box<Report>>,
}

impl Demands {
    /// Nothing is demanded.
    pub fn is_empty(&self) -> bool {
        self.baseline.is_none() && self.thresholds.is_empty() && self.against.is_none()
    }

    /// Holds a report against all of it: what came of that is in the report then, and its exit code is
    /// that of both. A report that was judged before is judged anew.
    pub fn judge(&self, report: &mut Report, today: Day) {
        let first = report.gate.take().map_or(report.exit_code, |gate| gate.exit_code_before);
        let mut gated = match &self.baseline {
            Some(baseline) => baseline.judge(report, today),
            None => Gated::default(),
        };
        gated.exit_code_before = first;
        for threshold in &self.thresholds {
            let met = threshold.judge(report);
            if met.is_met {
                gated.told.push(format!("✓ {}", met.words));
            } else {
                gated.against.push(format!("✗ {}", met.words));
            }
        }
        report.gate = Some(gated);
        if let Some(old) = &self.against {
            let compared = compare(old, report);
            if let Some(gated) = &mut report.gate {
                gated.against.extend(compared.against);
                gated.told.extend(compared.told);
            }
        }
        report.exit_code = exit_code(report, first);
    }
}

/// What follows from what is left when known findings do not count.
fn exit_code(report: &Report, first: u8) -> u8 {
    let Some(gated) = &report.gate else { return first };
    // Nothing that is known makes up for what was not judged, was invalid or was interrupted.
    let rest = if first == LEAK && gated.accepted > 0 { without_known(report) } else { first };
    match rest {
        CLEAN | NOT_JUDGED if !gated.against.is_empty() => LEAK,
        rest => rest,
    }
}

fn without_known(report: &Report) -> u8 {
    let standings = || report.cases.iter().map(|case| report.standing(case));
    let lost_shard = report.campaign.as_ref();
    let lost_shard =
        lost_shard.is_some_and(|one| (one.played.len() as u64) < u64::from(one.shards));
    let not_proved = report.canary.is_none() && report.campaign.is_none();
    if standings().any(|one| one == Standing::Invalid) {
        INVALID
    } else if standings().any(|one| one == Standing::Red) {
        LEAK
    } else if lost_shard
        || !report.not_judged.is_empty()
        || standings().any(|one| one == Standing::NotJudged)
    {
        NOT_JUDGED
    } else if not_proved {
        INVALID
    } else {
        CLEAN
    }
}

/// Several reports as one, such as those of shards or of several days: their cases one after the
/// other, and the worst of everything else. None of none.
pub fn combined(reports: impl IntoIterator<Item = Report>) -> Option<Report> {
    let mut reports = reports.into_iter();
    let mut whole = reports.next()?;
    for report in reports {
        whole.exit_code = super::exit::of_servers([whole.exit_code, report.exit_code]);
        whole.verdict = whole.verdict.max(report.verdict);
        whole.interrupted |= report.interrupted;
        whole.took_ms = whole.took_ms.saturating_add(report.took_ms);
        whole.strictness.advisories |= report.strictness.advisories;
        whole.strictness.memory |= report.strictness.memory;
        // One that failed stands for all; one that is missing, too.
        let failed = report.canary.as_ref().is_none_or(|canary| !canary.holds());
        if failed && whole.canary.as_ref().is_some_and(|canary| canary.holds()) {
            whole.canary = report.canary;
        }
        whole.subject = whole.subject.filter(|subject| report.subject.as_ref() == Some(subject));
        if whole.run.subject != report.run.subject {
            whole.run.subject = format!("{}; {}", whole.run.subject, report.run.subject);
        }
        whole.run.cases += report.run.cases;
        whole.servers.extend(report.servers);
        whole.notes.extend(report.notes);
        whole.cases.extend(report.cases);
        whole.not_judged.extend(report.not_judged);
        whole.files.extend(report.files);
        // They are no one campaign: `scupper merge` makes one of shards.
        whole.campaign =
            whole.campaign.filter(|campaign| report.campaign.as_ref() == Some(campaign));
        whole.gate = None;
    }
    whole.totals = Totals::of(&whole.cases);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::baseline::Acceptance;
    use crate::ledger::verdict::Verdict;
    use crate::report::samples;

    fn today() -> Day {
        "2026-11-22".parse().expect("a day")
    }

    fn leaking() -> Report {
        let mut case = samples::case("stdio/half-close", Verdict::Leak);
        case.findings = vec![samples::process_finding()];
        Report::new(&samples::info(1), None, &[], &samples::summary(vec![case], 1))
    }

    fn knowing(report: &Report) -> Demands {
        let expires = "2027-02-20".parse().expect("a day");
        let new = Acceptance { reason: "known", owner: None, expires };
        let baseline = Baseline::default().updated(report, today(), new);
        Demands { baseline: Some(baseline), ..Demands::default() }
    }

    fn code(demands: &Demands, mut report: Report) -> u8 {
        demands.judge(&mut report, today());
        let again = report.exit_code;
        demands.judge(&mut report, today());
        assert_eq!(report.exit_code, again, "judged anew it is another");
        again
    }

    #[test]
    fn what_is_known_is_green_and_what_is_beside_it_decides() {
        let demands = knowing(&leaking());
        assert_eq!(code(&Demands::default(), leaking()), 1);
        assert_eq!(code(&demands, leaking()), 0);
        let with = |change: fn(&mut Report)| {
            let mut report = leaking();
            change(&mut report);
            code(&demands, report)
        };
        assert_eq!(with(|report| report.cases.push(samples::case("x", Verdict::Failed))), 1);
        assert_eq!(with(|report| report.cases.push(samples::case("x", Verdict::Unknown))), 3);
        assert_eq!(with(|report| report.cases.push(samples::case("x", Verdict::Invalid))), 4);
        assert_eq!(with(|report| report.canary = None), 4, "nothing proves the rest");
        assert_eq!(with(|report| report.exit_code = 130), 130);
        assert_eq!(with(|report| report.exit_code = 4), 4);
        assert_eq!(with(|report| report.cases[0].findings.clear()), 1);
    }

    #[test]
    fn a_stale_entry_and_a_missed_threshold_make_a_clean_run_red() {
        let clean = samples::nothing;
        assert_eq!(code(&Demands::default(), clean()), 0);
        let mut report = leaking();
        report.cases[0].id = "stdio/clean-close".into();
        report.cases[0].lifecycle = "stdio/clean-close".into();
        assert_eq!(code(&knowing(&report), clean()), 1);
        let bound = |text: &str| Demands {
            thresholds: vec![text.parse().expect(text)],
            ..Demands::default()
        };
        assert_eq!(code(&bound("teardown.max<1s"), clean()), 0);
        assert_eq!(code(&bound("teardown.max<1ms"), clean()), 1);
        let against = Demands { against: Some(Box::new(leaking())), ..Demands::default() };
        assert_eq!(code(&against, clean()), 0);
    }

    #[test]
    fn several_reports_are_as_bad_as_the_worst() {
        let whole = combined([samples::nothing(), leaking()]).expect("two of them");
        assert_eq!((whole.cases.len(), whole.exit_code), (2, 1));
        assert_eq!((whole.totals.clean, whole.totals.leak), (1, 1));
        assert_eq!(code(&knowing(&leaking()), whole), 0);
        let mut lost = samples::nothing();
        lost.canary = None;
        assert!(combined([samples::nothing(), lost]).expect("two").canary.is_none());
        assert_eq!(combined([]), None);
    }
}
