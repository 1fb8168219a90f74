//! What an expectation may get wrong: what contradicts itself, and what no report can ever say.

use std::collections::BTreeSet;

use super::{
    ExpectedFinding, Scenario, Subject,
    check::{Checker, Part, limits},
    flow::each,
    mistake::{list, nearest},
    read::shortened,
};
use crate::{
    ledger::{
        snapshot::Kind,
        verdict::{Class, Verdict},
    },
    lifecycle::step::{Action, Step},
};

/// Steps that reports name and no file lists: the look before all steps, and the end that is made
/// of what is still open after them.
const UNLISTED: [&str; 2] = ["before the first step", "end of the lifecycle"];
/// Most names of steps in one message.
const NAMES: usize = 20;

impl Checker {
    pub(super) fn expectation(&mut self, scenario: &Scenario) {
        let expect = &scenario.expect;
        let mut leaks = false;
        for (index, finding) in expect.findings.iter().enumerate() {
            self.at(Part::Key("finding"), |checker| {
                checker.at(Part::Index(index), |checker| checker.finding(finding, scenario));
            });
            leaks |= finding.class == Class::Leak;
        }
        if expect.verdict == Verdict::Leak && !leaks {
            self.problem_at(
                "verdict",
                "a leak is expected, but none is listed",
                "add [[expect.finding]] with kind = \"process\", say, and culprit = \"server\"",
            );
        }
        if expect.verdict == Verdict::Invalid {
            self.problem_at(
                "verdict",
                "no scenario can expect `invalid`: it says that the harness cannot see",
                "expect `clean`, `leak`, `failed` or `unknown`",
            );
        }
    }

    fn finding(&mut self, finding: &ExpectedFinding, scenario: &Scenario) {
        if finding.class == Class::Leak && finding.kind == Kind::Memory {
            self.problem_at(
                "kind",
                "memory is never a leak, only ever advisory",
                "add class = \"advisory\" to this finding",
            );
        }
        let is_client = matches!(scenario.subject, Subject::Client(_));
        if finding.kind == Kind::Task && sees_only_processes(&scenario.subject) {
            self.problem_at(
                "kind",
                "a server has no tasks that could be seen from outside",
                "`task` is for [subject] with core, host or service; a server's threads are kind = \"thread\"",
            );
        }
        let is_embedded = matches!(scenario.subject, Subject::Host(_) | Subject::Service(_));
        let is_kept = matches!(finding.kind, Kind::Session | Kind::Cursor | Kind::Entry);
        if is_kept && !is_embedded && !is_client {
            self.problem_at(
                "kind",
                format!("a {} is looked for in a host or a service only", finding.kind),
                "[subject] with host = \"…\" or service = \"…\"",
            );
        }
        if finding.class == Class::Leak && scenario.expect.verdict == Verdict::Clean {
            self.problem_at(
                "class",
                "a clean verdict has no leaks",
                "take the finding out, add class = \"advisory\", or expect verdict = \"leak\"",
            );
        }
        if let Subject::Client(spec) = &scenario.subject {
            self.kind_of_client(spec, finding.kind);
            for (key, name) in
                [("birth-step", &finding.birth_step), ("due-step", &finding.due_step)]
            {
                if let Some(name) = name.as_ref().filter(|name| !spec.may_name(name)) {
                    self.no_such_step(key, name, &spec.step_names(), &[]);
                }
            }
            return;
        }
        let steps = &scenario.lifecycle.steps;
        for (key, name) in [("birth-step", &finding.birth_step), ("due-step", &finding.due_step)] {
            if let Some(name) = name {
                self.text(key, name, limits::SENTENCE);
                self.name_of_a_step(key, name, steps);
            }
        }
        if let Some(due) = &finding.due_step {
            self.growth(due, steps);
        }
    }

    /// An expectation that names a step which never comes could not be met, whatever the subject
    /// does.
    fn name_of_a_step(&mut self, key: &'static str, name: &str, steps: &[Step]) {
        let names = names(steps);
        if names.contains(name) || UNLISTED.contains(&name) || name.is_empty() {
            return;
        }
        self.no_such_step(key, name, &names, &UNLISTED);
    }

    fn no_such_step(
        &mut self,
        key: &'static str,
        name: &str,
        names: &BTreeSet<String>,
        unlisted: &[&str],
    ) {
        let unlisted = || unlisted.iter().copied();
        let candidates: Vec<&str> = names.iter().map(String::as_str).chain(unlisted()).collect();
        let guess = match nearest(name, &candidates) {
            Some(near) => format!("did you mean `{}`? ", shortened(near)),
            None => String::new(),
        };
        let shown: Vec<String> = names.iter().take(NAMES).map(|name| shortened(name)).collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).chain(unlisted().skip(1)).collect();
        self.problem_at(
            key,
            format!("no step of this file is called `{}`", shortened(name)),
            format!("{guess}a report of this file can name {}", list(&shown)),
        );
    }

    /// What is due at a `repeat` has grown in it.
    fn growth(&mut self, due: &str, steps: &[Step]) {
        let mut longest = None;
        each(steps, &mut |step| {
            if let Action::Repeat { times, .. } = step.action
                && step.action.name() == due
            {
                longest = longest.max(Some(times));
            }
        });
        if longest.is_some_and(|times| times < limits::GROWTH) {
            self.problem_at(
                "due-step",
                format!("growth is not judged in a `{due}`, so nothing can be due there"),
                format!(
                    "give the repeat times = {} or more: the first repetition does not count, and \
                     fewer than {} after it are no trend",
                    limits::GROWTH,
                    limits::GROWTH - 1
                ),
            );
        }
    }
}

/// Of a process from elsewhere nothing is seen but what the kernel knows.
fn sees_only_processes(subject: &Subject) -> bool {
    matches!(subject, Subject::Fake(_) | Subject::Command(_))
}

/// What reports call the steps of a list, those inside steps too.
pub(super) fn names(steps: &[Step]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    each(steps, &mut |step| {
        names.insert(step.action.name());
    });
    names
}
