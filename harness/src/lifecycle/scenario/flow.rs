//! How far the lives of connections have come, step by step, as far as is certain.

use std::collections::{BTreeMap, BTreeSet};

use super::words::verb;
use crate::lifecycle::step::{Action, MAIN, Read, Signal, Step, Whom};

/// How far the life of a connection has come, as far as is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    #[default]
    Unopened,
    Open,
    /// Opened, and something has been done that may have ended it.
    Unsure,
    /// The client has let go of it.
    Ended,
}

/// What is certain of all connections at one step.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow {
    lives: BTreeMap<String, Life>,
    /// Connections whose stdin another process may hold.
    held: BTreeSet<String>,
}

impl Flow {
    fn life(&self, connection: &str) -> Life {
        self.lives.get(connection).copied().unwrap_or_default()
    }

    /// Why this step cannot stand here, and what would help.
    pub(super) fn objection(&self, step: &Step) -> Option<(String, String)> {
        let name = &step.connection;
        let open = if name == MAIN {
            "{ do = \"open\" }".to_owned()
        } else {
            format!("{{ do = \"open\", connection = \"{name}\" }}")
        };
        if matches!(step.action, Action::Shutdown) {
            let none = self.lives.values().all(|life| *life == Life::Unopened);
            return none
                .then(|| ("nothing is open here".to_owned(), format!("add a step {open} before")));
        }
        let life = self.life(name);
        match (&step.action, life) {
            (Action::Open, Life::Open) => Some((
                format!("connection `{name}` is open already"),
                "end it before (close, drop or kill the client), or give this one another name: \
                 connection = \"b\""
                    .to_owned(),
            )),
            (Action::Open, _) => None,
            (_, Life::Unopened) => Some((
                format!("connection `{name}` is not open here"),
                format!("add a step {open} before"),
            )),
            (Action::ReleaseStdin, _) if !self.held.contains(name) => Some((
                format!("nobody holds the stdin of connection `{name}` here"),
                "add a step { do = \"hold-stdin\" } before".to_owned(),
            )),
            (
                Action::WaitFor { .. }
                | Action::Kill { .. }
                | Action::Signal { .. }
                | Action::ReleaseStdin,
                _,
            ) => None,
            (action, Life::Ended) => Some((
                format!("connection `{name}` has ended before this {}", verb(action)),
                format!(
                    "only open, wait-for, kill, signal, release-stdin and shutdown can follow; add a \
                     step {open} before"
                ),
            )),
            _ => None,
        }
    }

    /// One objection is enough for a connection: from here on it gets the benefit of the doubt.
    pub(super) fn excuse(&mut self, connection: &str) {
        self.lives.insert(connection.to_owned(), Life::Unsure);
    }

    /// Goes on to after this step.
    pub(super) fn play(&mut self, step: &Step) {
        if matches!(step.action, Action::Shutdown) {
            let opened = self.lives.values_mut().filter(|life| **life != Life::Unopened);
            opened.for_each(|life| *life = Life::Ended);
            return;
        }
        let name = &step.connection;
        match (&step.action, change(&step.action)) {
            (Action::HoldStdin, _) => {
                self.held.insert(name.clone());
            }
            (Action::ReleaseStdin, _) => {
                self.held.remove(name);
            }
            (_, Some(Life::Unsure)) if self.life(name) != Life::Open => {}
            (_, Some(life)) => {
                self.lives.insert(name.clone(), life);
            }
            (_, None) => {}
        }
    }

    /// Something else may do this at any moment.
    pub(super) fn blur(&mut self, changes: &Changes) {
        if changes.shutdown {
            let opened = self.lives.values_mut().filter(|life| **life != Life::Unopened);
            opened.for_each(|life| *life = Life::Unsure);
        }
        for name in &changes.lives {
            self.lives.insert(name.clone(), Life::Unsure);
        }
        self.held.extend(changes.holds.iter().cloned());
    }

    /// All branches have come to their ends. What only one of them changed is as it left it.
    pub(super) fn join(&mut self, changes: &[Changes], ends: &[Flow]) {
        let names: BTreeSet<&String> = ends.iter().flat_map(|end| end.lives.keys()).collect();
        for name in names {
            let changed =
                |changes: &Changes| changes.shutdown || changes.lives.contains(name.as_str());
            let mut changers = ends.iter().zip(changes).filter(|(_, changes)| changed(changes));
            let life = match (changers.next(), changers.next()) {
                (None, _) => continue,
                (Some((end, _)), None) => end.life(name),
                (Some(_), Some(_)) => Life::Unsure,
            };
            self.lives.insert(name.clone(), life);
        }
        for end in ends {
            self.held.extend(end.held.iter().cloned());
        }
    }
}

/// What a list of steps may change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    lives: BTreeSet<String>,
    holds: BTreeSet<String>,
    shutdown: bool,
}

/// What this list of steps may change.
pub(super) fn changes(steps: &[Step]) -> Changes {
    let mut all = Changes::default();
    let mut add = |step: &Step| match &step.action {
        Action::Shutdown => all.shutdown = true,
        Action::HoldStdin => {
            all.holds.insert(step.connection.clone());
        }
        action if change(action).is_some() => {
            all.lives.insert(step.connection.clone());
        }
        _ => {}
    };
    each(steps, &mut add);
    all
}

/// What a step makes of the life of its connection.
fn change(action: &Action) -> Option<Life> {
    Some(match action {
        Action::Open => Life::Open,
        Action::Close | Action::Drop => Life::Ended,
        Action::Kill { whom: Whom::Client }
        | Action::Signal { whom: Whom::Client, signal: Signal::Kill } => Life::Ended,
        Action::Signal { signal: Signal::Stop | Signal::Cont, .. } => return None,
        Action::Kill { .. }
        | Action::Signal { .. }
        | Action::HalfClose { .. }
        | Action::WaitFor { .. }
        | Action::Read { what: Read::End } => Life::Unsure,
        _ => return None,
    })
}

/// Visits every step, those inside steps too.
pub(super) fn each(steps: &[Step], visit: &mut impl FnMut(&Step)) {
    for step in steps {
        visit(step);
        inside(&step.action).for_each(|steps| each(steps, visit));
    }
}

/// The lists of steps inside a step.
pub(super) fn inside(action: &Action) -> impl Iterator<Item = &[Step]> {
    let (repeated, branches): (Option<&[Step]>, &[Vec<Step>]) = match action {
        Action::Repeat { steps, .. } => (Some(steps), &[]),
        Action::Concurrently { branches } => (None, branches),
        _ => (None, &[]),
    };
    repeated.into_iter().chain(branches.iter().map(Vec::as_slice))
}
