//! The sessions that the server holds for this connection.

use std::sync::Arc;

use http::HeaderValue;

use crate::census::Row;

/// A server that forgets sessions and gives new ones may leave some behind when a handshake is cut
/// off; so many are remembered for the DELETE.
const REMEMBERED: usize = 8;

/// One session, in the census until it is known to be gone.
pub(super) struct Session {
    pub(super) id: Arc<str>,
    /// The revision of the protocol that was agreed on, once it is.
    pub(super) revision: Option<HeaderValue>,
    pub(super) _row: Row,
}

/// All of them, the latest last. There is more than one only where the server forgot one and the
/// handshake for the next was cut off.
#[derive(Default)]
pub(super) struct Sessions {
    held: Vec<Session>,
    sealed: bool,
}

impl Sessions {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn current(&self) -> Option<Arc<str>> {
        self.held.last().map(|session| Arc::clone(&session.id))
    }

    /// The server gave a session.
    pub(super) fn insert(&mut self, session: Session) {
        if self.sealed {
            return;
        }
        if self.held.len() == REMEMBERED {
            self.held.remove(0);
        }
        self.held.push(session);
    }

    /// A request of this session names the revision.
    pub(super) fn note_revision(&mut self, id: &str, revision: &HeaderValue) {
        if let Some(session) = self.held.iter_mut().find(|session| &*session.id == id)
            && session.revision.is_none()
        {
            session.revision = Some(revision.clone());
        }
    }

    /// The server has forgotten it.
    pub(super) fn remove(&mut self, id: &str) {
        sabotaged!(HeldSessionKept => std::mem::forget(std::mem::take(&mut self.held)));
        self.held.retain(|session| &*session.id != id);
    }

    /// What a DELETE needs to know, of each.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Option<HeaderValue>)> {
        self.held
            .iter()
            .map(|session| (Arc::clone(&session.id), session.revision.clone()))
            .collect()
    }

    /// Forgets them all and takes no more.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
        self.held.clear();
    }
}
