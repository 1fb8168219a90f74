//! `--keep DIR`: a case as a scenario file, for `scupper replay` and for `scenarios/`.

use std::io;
use std::path::{Path, PathBuf};

use crate::cell::protocol::SubjectOrder;
use crate::ledger::verdict::Verdict;
use crate::lifecycle::scenario::{self, Expectation, Scenario, Subject};
use crate::lifecycle::step::{Action, Era, EraChoice};
use crate::plan::Case;

/// Writes a case below a folder and says where. A case without an expectation of its own expects to
/// be clean: its replay is red as long as the fault is there, and green once it is gone. A case that
/// no file can tell is not written.
pub fn keep(folder: &Path, case: &Case) -> io::Result<Option<PathBuf>> {
    let Some(scenario) = scenario_of(case) else { return Ok(None) };
    let path = folder.join(format!("{}.toml", scenario.lifecycle.id));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&path, scenario::render(&scenario))?;
    Ok(Some(path))
}

/// A case with as many cycles as were played. The battery goes on where it suspects growth, and a
/// file says how many there are.
pub fn as_played(case: &Case, cycles: u32) -> Case {
    let mut case = case.clone();
    for step in &mut case.order.lifecycle.steps {
        if let Action::Repeat { times, .. } = &mut step.action
            && cycles >= *times
        {
            *times = cycles + 1;
            step.within = step.within.map(|within| within * 2);
        }
    }
    case
}

fn scenario_of(case: &Case) -> Option<Scenario> {
    let SubjectOrder::Server { command } = &case.order.subject else { return None };
    let mut lifecycle = case.order.lifecycle.clone();
    // The one that was spoken: a replay must not guess anew.
    lifecycle.era = match case.order.era {
        Era::Legacy => EraChoice::Legacy,
        Era::Modern => EraChoice::Modern,
    };
    let clean = Expectation { verdict: Verdict::Clean, findings: Vec::new() };
    let scenario = Scenario {
        lifecycle,
        subject: Subject::Command(command.clone()),
        expect: case.expect.clone().unwrap_or(clean),
    };
    scenario::check(&scenario).is_empty().then_some(scenario)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cell::protocol::Learned;
    use crate::plan::{self, Choices};

    fn choices() -> Choices {
        Choices {
            only: Vec::new(),
            skip: Vec::new(),
            kinds: BTreeSet::new(),
            cycles: 20,
            era: EraChoice::Auto,
            leak_timeout_ms: None,
            start_timeout_ms: 30_000,
            calls: Vec::new(),
            program: "scupper".into(),
        }
    }

    #[test]
    fn every_case_of_the_battery_can_be_kept_and_read_again() {
        let choices = choices();
        let command = ["sh", "-c", "exec 'my server'"].map(str::to_owned);
        let folder = tempfile::tempdir().unwrap();
        let mut cases = plan::battery(&command, &choices, &Learned::default(), Era::Modern);
        cases.push(plan::first_look(&command, &choices, Era::Modern));
        for case in &cases {
            let path = keep(folder.path(), case).unwrap().unwrap();
            assert_eq!(path, folder.path().join(format!("{}.toml", case.order.id)));
            let text = std::fs::read_to_string(&path).unwrap();
            let read = scenario::parse(&path.display().to_string(), &text).unwrap();
            assert_eq!(Some(read), scenario_of(case));
        }
    }
    #[test]
    fn what_went_on_is_kept_with_all_its_cycles() {
        let choices = choices();
        let command = ["server".to_owned()];
        let cases = plan::battery(&command, &choices, &Learned::default(), Era::Modern);
        let churn = cases.iter().find(|case| case.order.id == "stdio/churn").unwrap();
        let times = |case: &Case| {
            let mut steps = case.order.lifecycle.steps.iter();
            steps.find_map(|step| match step.action {
                Action::Repeat { times, .. } => Some(times),
                _ => None,
            })
        };
        assert_eq!(times(&as_played(churn, 20)), Some(21));
        assert_eq!(times(&as_played(churn, 15)), Some(21));
        assert_eq!(times(&as_played(churn, 100)), Some(101));
    }
}
