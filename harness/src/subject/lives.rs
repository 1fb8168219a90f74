//! What one life leaves to the next.
//!
//! A file that a server leaves in TMPDIR may be a cache, which is its right. It is a leak where the
//! next life does not start because of it: a lock or a pid file that outlived its owner. That it is
//! because of it is tried out: the server does not start a second time either, and it does once the
//! files are taken away.

use std::collections::BTreeMap;

use super::finding;
use super::server::{FIRM_LOOK, LOOK, Play};
use crate::ledger::snapshot::{Identity, Kind};
use crate::ledger::verdict::{Class, Culprit, Failure, Finding, StepRef};
use crate::lifecycle::step::{Action, HandshakePoint, Step};

/// Lines of evidence for files.
const LINES: usize = 6;

/// Lives that are over.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// The step that ended the last one.
    ended: Option<StepRef>,
    /// Files that were there after one and before the next, with the step that ended it.
    left: BTreeMap<Identity, StepRef>,
}

impl Play<'_> {
    /// A life that answered is over, by this step.
    pub(super) fn note_end_of_life(&mut self, due: &StepRef) {
        self.lives.ended = Some(due.clone());
    }

    /// A life is about to begin; what earlier ones left is written down.
    pub(super) fn note_what_lives_left(&mut self) {
        let Some(ended) = self.lives.ended.take() else { return };
        if !self.connections.is_empty() {
            // Whose a file is that comes now, no one can tell.
            return;
        }
        self.look(&ended, LOOK);
        let files = self.ledger.alive().map(|(identity, ..)| identity).filter(|one| is_file(one));
        for file in files {
            self.lives.left.entry(file.clone()).or_insert_with(|| ended.clone());
        }
    }

    /// A life did not come about. If that is because of files that earlier ones left, they are a
    /// leak.
    pub(super) fn judge_files_in_the_way(&mut self, failure: &Failure) {
        let names: Vec<String> = self.connections.keys().cloned().collect();
        let [name] = names.as_slice() else { return };
        let exited = self.connections.get(name).is_some_and(|connection| {
            !connection.answered && connection.link.heard.exited.is_some()
        });
        if !exited || self.lives.left.is_empty() || !self.order.kinds.contains(&Kind::File) {
            return;
        }
        self.look(&failure.step, FIRM_LOOK);
        let left: Vec<Identity> = self
            .ledger
            .alive()
            .map(|(identity, ..)| identity)
            .filter(|identity| self.lives.left.contains_key(identity))
            .cloned()
            .collect();
        let found = self.of_files(&left, failure);
        let at = &failure.step;
        if !self.starts_again(name, at) && self.take_away(&left) && self.starts_again(name, at) {
            self.played.findings.extend(found);
        }
    }

    /// Removes files from the TMPDIR of the case; whether all of them are gone.
    fn take_away(&self, files: &[Identity]) -> bool {
        let Some(root) = &self.sight.temp_dir else { return false };
        files.iter().all(|file| {
            let Identity::File { path, .. } = file else { return false };
            let path = root.join(path);
            // What holds nothing and is reported is an empty directory.
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).is_ok()
        })
    }

    fn starts_again(&mut self, name: &str, at: &StepRef) -> bool {
        let steps =
            [Action::Open, Action::Handshake { until: HandshakePoint::Ready }].map(Step::new);
        steps.into_iter().all(|step| self.play(&step.on(name), at).is_ok())
    }

    fn of_files(&self, files: &[Identity], failure: &Failure) -> Option<Finding> {
        let first = files.first()?;
        let what = match files.len() {
            1 => "a temporary file that keeps the next life from starting".to_owned(),
            number => format!("{number} temporary files that keep the next life from starting"),
        };
        let mut evidence: Vec<String> =
            files.iter().take(LINES).map(|file| finding::thing(file, &self.ledger)).collect();
        if files.len() > LINES {
            evidence.push(format!("and {} more", files.len() - LINES));
        }
        let cause = failure.message.split(';').next().unwrap_or_default();
        let it = if files.len() == 1 { "it" } else { "them" };
        evidence.push(format!("left by an earlier life; in the next one {cause}, twice"));
        evidence.push(format!("once {it} had been taken away, the server started again"));
        let due_step = self.lives.left.get(first)?.clone();
        Some(Finding {
            class: Class::Leak,
            kind: Kind::File,
            what,
            identities: files.iter().take(Finding::IDENTITIES).cloned().collect(),
            count: files.len(),
            birth_step: self.ledger.birth(first).unwrap_or(&due_step).clone(),
            due_step,
            culprit: Culprit::Server,
            blame: "nothing but the server worked in this directory".to_owned(),
            rule: None,
            hurts: "a host that restarts its server gets none, until somebody removes the file by \
                    hand"
                .to_owned(),
            site: None,
            holders: Vec::new(),
            holders_unread: 0,
            evidence,
            remedy: "lock with flock, which dies with its holder, or remove the file whenever the \
                     server ends, by the end of stdin and by signals too"
                .to_owned(),
        })
    }
}

fn is_file(identity: &Identity) -> bool {
    matches!(identity, Identity::File { .. })
}
