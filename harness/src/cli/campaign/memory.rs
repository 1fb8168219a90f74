//! A campaign on our core in memory, beside the model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Seeds;
use crate::cli::common::Common;
use crate::cli::{Ended, Refusal};
use crate::gate::campaign::case;
use crate::gate::exit::Strictness;
use crate::ledger::snapshot::Kind;
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::lifecycle::generate::{Act, Generated, of_seed};
use crate::lifecycle::model::{Difference, Sort};
use crate::lifecycle::shrink::shrink;
use crate::report::campaign::{self, Campaign, is_shorter};
use crate::report::event::{RunInfo, RunSummary, codes};
use crate::report::json::Report;
use crate::report::progress::Progress;
use crate::subject::generated::{Disagreement, LEFT, Leak, Stats, run, run_with};

/// How many lifecycles the search for the shortest failing one plays at most.
const TRIES: usize = 5000;

pub(super) fn one(lifecycle: &Generated) -> Ended {
    match run(lifecycle) {
        Ok(_) => {
            campaign::say(&format!("{lifecycle}\nmodel and core agree after every step"));
            Ok(codes::CLEAN)
        }
        Err(found) => {
            campaign::say(&found.to_string());
            Ok(codes::LEAK)
        }
    }
}

pub(super) fn campaign(seeds: Seeds, common: &Common) -> Result<Report, Refusal> {
    let begun = Instant::now();
    let canary = canary();
    let mut stats = Stats::default();
    let mut seen: BTreeMap<String, Box<Disagreement>> = BTreeMap::new();
    let mut lifecycles = 0;
    let mut progress = Progress::new(seeds.each().size_hint().0, !common.no_progress);
    for seed in seeds.each() {
        lifecycles += 1;
        match run(&of_seed(seed)) {
            Ok(played) => stats += played,
            Err(wrong) => {
                let (id, code) = (wrong.id(), wrong.lifecycle.code());
                let kept = seen.get(&id).map(|kept| kept.lifecycle.code());
                if kept.is_none_or(|kept| is_shorter(&code, &kept)) {
                    seen.insert(id, wrong);
                }
            }
        }
        progress.tell(lifecycles, seen.len());
    }
    // One search for each finding, not for each lifecycle that shows it.
    let found: BTreeMap<&String, Box<Disagreement>> = seen
        .iter()
        .map(|(id, seen)| {
            progress.say(&format!("looking for the shortest lifecycle of {id}"));
            (id, shortest(id, seen))
        })
        .collect();
    progress.end();
    let Seeds { first, end, part, shards } = seeds;
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "campaign".to_owned(),
        subject: "core, in memory".to_owned(),
        cases: found.len(),
        seed: first,
        repeat: format!("scupper campaign --seeds {first}..{end}"),
    };
    let cases = found.iter().map(|(id, found)| {
        let code = found.lifecycle.code();
        let step = found.step.map_or("end".to_owned(), |step| step.to_string());
        let left = found.differences.iter().any(|differs| differs.is_left);
        let findings = findings(found, Leak::Nothing);
        let left = left || (found.differences.is_empty() && !found.tasks.is_empty());
        case(id, &code, &step, &found.to_string(), left, findings)
    });
    let summary = RunSummary {
        servers: Vec::new(),
        cases: cases.collect(),
        not_judged: Vec::new(),
        canary: None,
        verdict: None,
        took: Duration::ZERO,
        exit_code: codes::CLEAN,
        interrupted: false,
        strictness: Strictness::default(),
    };
    let notes: Vec<String> = canary.clone().err().into_iter().collect();
    let mut report = Report::new(&info, None, &notes, &summary);
    let codes = found.iter().map(|(id, found)| ((*id).clone(), found.lifecycle.code()));
    let origins = seen.iter().map(|(id, seen)| (id.clone(), seen.lifecycle.code()));
    report.campaign = Some(Campaign {
        first_seed: first,
        end_seed: end,
        shards,
        played: vec![part],
        lifecycles,
        steps: stats.steps,
        comparisons: stats.comparisons,
        active: stats.active,
        reproducers: codes.collect(),
        origins: origins.collect(),
    });
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    campaign::conclude(&mut report, canary.is_err());
    Ok(report)
}

/// What was left, each thing a finding of the core's. With the leak that was put in, if one was.
fn findings(found: &Disagreement, leak: Leak) -> Vec<Finding> {
    let left = found.differences.iter().filter(|differs| differs.is_left);
    let mut findings: Vec<Finding> = left.map(|differs| leaked(found, differs)).collect();
    findings.extend(detached(found, leak));
    findings
}

/// The step of this index.
fn at(lifecycle: &Generated, index: usize) -> StepRef {
    let name = lifecycle.steps[index].act.to_string();
    StepRef { place: (index + 1).to_string(), name, cycle: None }
}

fn end() -> StepRef {
    let (place, name) = ("end".to_owned(), "end of the lifecycle".to_owned());
    StepRef { place, name, cycle: None }
}

/// Tasks that nobody joined. What the first of them needs to be there is their birth: the last step of
/// the fewest first steps that leave one.
fn detached(found: &Disagreement, leak: Leak) -> Option<Finding> {
    let first = found.tasks.first()?;
    let steps = &found.lifecycle.steps;
    let leaves_one = |until: &usize| {
        let steps = steps[..*until].to_vec();
        run_with(&Generated { steps }, leak).is_err_and(|wrong| !wrong.tasks.is_empty())
    };
    let until = (1..=steps.len()).find(leaves_one).unwrap_or(steps.len());
    let birth = until.checked_sub(1).map_or_else(end, |index| at(&found.lifecycle, index));
    let count = found.tasks.len();
    let (tasks, are) = if count == 1 { ("task", "is") } else { ("tasks", "are") };
    Some(Finding {
        kind: Kind::Task,
        what: format!("{count} {tasks} that nobody joined {are} alive, and the census has none"),
        count,
        birth_step: birth,
        due_step: end(),
        site: first.spawned_at.clone(),
        evidence: found.tasks.iter().take(Finding::IDENTITIES).map(ToString::to_string).collect(),
        ..of_core()
    })
}

fn leaked(found: &Disagreement, differs: &Difference) -> Finding {
    let steps = &found.lifecycle.steps;
    let until = found.step.unwrap_or(steps.len()).min(steps.len());
    let at = |index: usize| at(&found.lifecycle, index);
    let due = found.step.filter(|_| until > 0).map_or_else(end, |_| at(until - 1));
    let begins = |index: &usize| begins(steps[*index].act, differs.sort, &differs.name);
    let birth = (0..until).rev().find(begins).map_or_else(|| due.clone(), at);
    let (sort, name, count) = (differs.sort, &differs.name, differs.alive.len());
    Finding {
        kind: match sort {
            Sort::Session | Sort::Stream => Kind::Session,
            Sort::Cursor => Kind::Cursor,
            Sort::Task => Kind::Task,
            Sort::Server | Sort::Connection | Sort::Other => Kind::Entry,
        },
        what: format!(
            "{sort} `{name}`: the model expects {}, the census has {count}",
            differs.expected
        ),
        count,
        birth_step: birth,
        due_step: due,
        site: differs.alive.first().map(|alive| alive.opened_at.clone()),
        evidence: differs
            .alive
            .iter()
            .take(Finding::IDENTITIES)
            .map(|alive| format!("{}, opened at {}", alive.state, alive.opened_at))
            .collect(),
        ..of_core()
    }
}

/// What every leak in memory has in common: nobody but the core was there.
fn of_core() -> Finding {
    Finding {
        class: Class::Leak,
        kind: Kind::Entry,
        what: String::new(),
        identities: Vec::new(),
        count: 1,
        birth_step: end(),
        due_step: end(),
        culprit: Culprit::Core,
        blame: "nothing but the core worked here".to_owned(),
        rule: None,
        hurts: "what has ended and is still kept piles up in a process that lives on".to_owned(),
        site: None,
        holders: Vec::new(),
        holders_unread: 0,
        evidence: Vec::new(),
        remedy: "mend the core: its close, drop and cancel promise to leave nothing".to_owned(),
    }
}

/// Whether this is the kind of step in which such a thing is born.
fn begins(act: Act, sort: Sort, name: &str) -> bool {
    let is_here = |what: &str, place: usize| name.ends_with(&format!("{what} {place}"));
    match act {
        Act::Add { server, .. } => is_here("server", server),
        Act::Open(session, _) => sort != Sort::Cursor && is_here("session", session),
        Act::Put(session) => sort == Sort::Cursor && is_here("session", session),
        _ => false,
    }
}

/// The shortest lifecycle that is found wrong in the same way. What fails now and then only is told as
/// it was found.
fn shortest(id: &str, seen: &Disagreement) -> Box<Disagreement> {
    let wrong = |tried: &Generated| run(tried).err().filter(|wrong| wrong.id() == id);
    let shrunk = shrink(&seen.lifecycle, TRIES, |tried| wrong(tried).is_some());
    wrong(&shrunk).unwrap_or_else(|| Box::new(seen.clone()))
}

/// A leak that is put in has to be seen, and nobody may see it where it was not put in. The core itself
/// is what is judged, so a twin that fails for another reason is a finding of the campaign and no
/// mistake of ours.
fn canary() -> Result<(), String> {
    let lifecycle = Generated::parse("08000b00-00000000").ok_or("the canary has no lifecycle")?;
    let is_seen = |leak: Leak| {
        let left = run_with(&lifecycle, leak).err().map(|wrong| wrong.differences);
        let mut alive = left.into_iter().flatten().flat_map(|differs| differs.alive);
        alive.any(|alive| alive.state == LEFT)
    };
    if !is_seen(Leak::Connection) {
        return Err("the canary, a connection that is left behind, was not seen".to_owned());
    }
    if is_seen(Leak::Nothing) {
        return Err("the clean twin of the canary was blamed for what it does not leave".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_nobody_joined_is_a_finding_of_the_step_that_left_it() {
        let wrong = (0..500).find_map(|seed| run_with(&of_seed(seed), Leak::Task).err());
        let mut wrong = wrong.expect("a seed that drops an adding");
        let wait = Generated::parse("00000000").expect("a step");
        wrong.lifecycle.steps.extend(wait.steps);
        let findings = findings(&wrong, Leak::Task);
        let [task] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((task.kind, task.culprit), (Kind::Task, Culprit::Core));
        assert!(task.birth_step.name.starts_with("drop the adding"), "{:?}", task.birth_step);
        assert_eq!(task.due_step, end());
        let site = task.site.as_deref().unwrap_or_default();
        assert!(site.contains("stage.rs:"), "{site}");
    }
}
