//! `--keep DIR`: a case as a scenario file, for `scupper replay` and for `scenarios/`.

use std::io;
use std::path::{Path, PathBuf};

use crate::cell::protocol::SubjectOrder;
use crate::ledger::verdict::Verdict;
use crate::lifecycle::scenario::{self, Expectation, Scenario, Subject};
use crate::lifecycle::step::{Action, Era, EraChoice};
use crate::plan::{self, Case};

/// Writes a case below a folder and says where. A case without an expectation of its own expects to
/// be clean: its replay is red as long as the fault is there, and green once it is gone. A case that
/// no file can tell is not written, and why is said.
pub fn keep(folder: &Path, case: &Case) -> io::Result<Result<PathBuf, &'static str>> {
    let scenario = match scenario_of(case) {
        Ok(scenario) => scenario,
        Err(why) => return Ok(Err(why)),
    };
    let path = folder.join(format!("{}.toml", id_of(case)));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&path, scenario::render(&scenario))?;
    Ok(Ok(path))
}

/// The id of the lifecycle, and before it the name of the server where there are several: two files
/// that are played together have two ids. A name may be any text.
fn id_of(case: &Case) -> String {
    let lifecycle = &case.order.lifecycle.id;
    match server_name(case) {
        Some(name) => {
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
            format!("{}/{lifecycle}", name.chars().map(plain).collect::<String>())
        }
        None => lifecycle.clone(),
    }
}

/// The server's name in a file of servers, where it comes from one.
fn server_name(case: &Case) -> Option<&str> {
    case.order.id.strip_suffix(&case.order.lifecycle.id)?.strip_suffix('/')
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

fn scenario_of(case: &Case) -> Result<Scenario, &'static str> {
    let SubjectOrder::Server(launch) = &case.order.subject else {
        return Err("no scenario file can tell a case of the core with its peer, or of a client");
    };
    let written = plan::shell_words(&launch.command) == case.order.subject_words;
    if !launch.environment.is_empty()
        || launch.directory.is_some()
        || (server_name(case).is_some() && !written)
    {
        return Err("a scenario file has no environment, folder or variables for its command");
    }
    let mut lifecycle = case.order.lifecycle.clone();
    lifecycle.id = id_of(case);
    // The one that was spoken: a replay must not guess anew.
    lifecycle.era = match case.order.era {
        Era::Legacy => EraChoice::Legacy,
        Era::Modern => EraChoice::Modern,
    };
    let clean = Expectation { verdict: Verdict::Clean, findings: Vec::new() };
    let scenario = Scenario {
        lifecycle,
        subject: Subject::Command(launch.command.clone()),
        expect: case.expect.clone().unwrap_or(clean),
    };
    match scenario::check(&scenario).is_empty() {
        true => Ok(scenario),
        false => Err("no scenario file can tell it"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cell::protocol::Learned;
    use crate::plan::Choices;

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
            sweep: None,
        }
    }

    #[test]
    fn every_case_of_the_battery_can_be_kept_and_read_again() {
        let choices = choices();
        let command = ["sh", "-c", "exec 'my server'"].map(str::to_owned);
        let server = plan::Server::plain(&command);
        let folder = tempfile::tempdir().unwrap();
        let mut cases = plan::battery(&server, &choices, &Learned::default(), Era::Modern);
        cases.push(plan::first_look(&server, &choices, Era::Modern));
        for case in &cases {
            let path = keep(folder.path(), case).unwrap().unwrap();
            assert_eq!(path, folder.path().join(format!("{}.toml", case.order.id)));
            let text = std::fs::read_to_string(&path).unwrap();
            let read = scenario::parse(&path.display().to_string(), &text).unwrap();
            assert_eq!(Ok(read), scenario_of(case));
        }
    }
    #[test]
    fn what_went_on_is_kept_with_all_its_cycles() {
        let choices = choices();
        let command = ["server".to_owned()];
        let cases = plan::battery(
            &plan::Server::plain(&command),
            &choices,
            &Learned::default(),
            Era::Modern,
        );
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
