//! Equal things over many cases are told once.

use std::{collections::HashMap, hash::Hash};

use crate::ledger::{
    snapshot::Kind,
    verdict::{CaseReport, Class, Culprit, Failure, Finding, LAST_ON_STDERR, StepRef},
};

/// Items with equal keys together, in the order in which each key was first seen; no group is empty.
pub(super) fn grouped<T, K: Hash + Eq>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<Vec<T>> {
    let mut places = HashMap::new();
    let mut groups: Vec<Vec<T>> = Vec::new();
    for item in items {
        let place = *places.entry(key(&item)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(item),
            None => groups.push(vec![item]),
        }
    }
    groups
}

/// What makes two findings one and the same fault: everything but pids, numbers and the moment at
/// which the end was due. What comes while a server starts is seen after `open` or only after
/// `handshake`, as chance has it.
pub(super) fn cause(finding: &Finding) -> (Class, Kind, String, &str, Culprit, Option<&str>) {
    let Finding { class, kind, what, birth_step, culprit, rule, .. } = finding;
    let born = match birth_step.name.as_str() {
        name if name.starts_with("handshake") => "open",
        name => name,
    };
    (*class, *kind, without_numbers(what), born, *culprit, rule.as_deref())
}

/// What makes two failures one and the same fault.
pub(super) fn failure_cause(failure: &Failure) -> (String, &str, bool) {
    (without_numbers(&failure.message), &failure.step.name, failure.not_started)
}

/// What makes the outcomes of two cases one and the same, as a text that means nothing else.
pub fn outcome(case: &CaseReport) -> String {
    let place = |step: &StepRef| step.place.parse::<u32>().unwrap_or(u32::MAX);
    let of_finding = |finding: &Finding| {
        let mut finding = finding.clone();
        // In which of the steps of an end something is first seen is chance.
        if place(&finding.birth_step) >= place(&finding.due_step) {
            finding.birth_step = finding.due_step.clone();
        }
        format!("{:?}", cause(&finding))
    };
    let mut causes: Vec<String> = case.findings.iter().map(of_finding).collect();
    causes.sort();
    causes.dedup();
    let failure = case.failure.as_ref().map(failure_cause);
    let unseen: Vec<String> = case.unreadable.iter().map(|text| without_numbers(text)).collect();
    format!("{} {causes:?} {failure:?} {unseen:?}", case.verdict)
}

/// What makes two notes one and the same.
pub(super) fn note_cause(note: &str) -> String {
    without_numbers(note.split(LAST_ON_STDERR).next().unwrap_or(note))
}

/// Of several servers, the one that a case is about: what one does is not told with what another
/// does.
pub(super) fn server_of(case: &CaseReport) -> Option<&str> {
    case.id.strip_suffix(&case.lifecycle)?.strip_suffix('/')
}

/// Every run of digits is one `#`.
pub(super) fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

/// The ids of cases, each once.
pub(super) fn ids<'a>(cases: impl IntoIterator<Item = &'a CaseReport>) -> Vec<&'a str> {
    let mut ids: Vec<&str> = Vec::new();
    for case in cases {
        if !ids.contains(&case.id.as_str()) {
            ids.push(&case.id);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn groups_stand_in_the_order_of_their_first_item() {
        let groups = grouped(["pid 7", "fd 1", "pid 12", "fd 2"], |text| without_numbers(text));
        assert_eq!(groups, [["pid 7", "pid 12"], ["fd 1", "fd 2"]]);
    }

    #[test]
    fn another_pid_or_due_step_is_the_same_fault_but_another_birth_step_is_not() {
        let one = samples::process_finding();
        let mut other = samples::process_finding();
        other.what = "process 5 (node dist/index.js)".into();
        other.due_step = samples::step("3", "close");
        assert_eq!(cause(&one), cause(&other));
        other.birth_step = samples::step("2", "handshake");
        assert_eq!(cause(&one), cause(&other));
        other.birth_step = samples::step("3", "call echo");
        assert_ne!(cause(&one), cause(&other));
    }
}
