//! Clients that say nothing more once so many bytes have passed: the byte sweep.

use super::Play;
use super::books::{Fate, SessionBook};
use crate::cell::protocol::SweepOrder;
use crate::ledger::verdict::StepRef;
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{Action, Condition, Era, Step, Stream};
use crate::lifecycle::sweep::CUT_REACHED;
use crate::peer::http::control::{Passing, Told};

impl Play<'_> {
    /// What becomes of the bytes of a client that is to be opened: a cut holds from then on, wherever
    /// it stands.
    pub(super) fn passing_of(&self, name: &str) -> Passing {
        if self.order.sweep == Some(SweepOrder::Measure) {
            return Passing::Counted;
        }
        match cut_of(&self.order.lifecycle.steps, name) {
            Some((Stream::Responses, bytes)) => Passing::Responses(bytes),
            Some((_, bytes)) => Passing::Requests(bytes),
            None => Passing::All,
        }
    }

    /// Whether a client would have to say something for this step, and does no more.
    pub(super) fn is_silenced(&self, name: &str, action: &Action) -> bool {
        self.clients.get(name).is_some_and(|client| client.is_cut) && says_something(action)
    }

    /// A session that the server has given out is in the books from then on.
    pub(super) fn book_session(&mut self, name: &str, told: &Told, at: &StepRef) {
        let (Some(id), Era::Legacy, Wire::Streamable) = (&told.session, self.era, self.wire) else {
            return;
        };
        if self.sessions.iter().any(|one| one.id == *id) {
            return;
        }
        self.sessions.push(SessionBook {
            id: id.clone(),
            client: name.to_owned(),
            born: at.clone(),
            fate: Fate::Open,
        });
    }

    /// Says whether the bytes of a cut have passed, where the lifecycle has one.
    pub(super) fn tell_whether_cut(&mut self) {
        let steps = &self.order.lifecycle.steps;
        if steps.iter().any(|step| matches!(step.action, Action::Cut { .. })) {
            self.played.figures.insert(CUT_REACHED.into(), f64::from(self.was_cut));
        }
    }
}

fn cut_of(steps: &[Step], name: &str) -> Option<(Stream, u64)> {
    steps.iter().find_map(|step| match &step.action {
        Action::Cut { stream, bytes } if step.connection == name => Some((*stream, *bytes)),
        Action::Repeat { steps, .. } => cut_of(steps, name),
        Action::Concurrently { branches } => branches.iter().find_map(|steps| cut_of(steps, name)),
        _ => None,
    })
}

fn says_something(action: &Action) -> bool {
    matches!(
        action,
        Action::Handshake { .. }
            | Action::Call { .. }
            | Action::Request { .. }
            | Action::ListAll { .. }
            | Action::Notify { .. }
            | Action::Send { .. }
            | Action::Trickle { .. }
            | Action::Flood { .. }
            | Action::Cancel
            | Action::Listen
            | Action::Delete
            | Action::Read { .. }
            | Action::WaitFor { condition: Condition::Stderr(_) }
    )
}
