//! The books of sessions and sockets: whose they are, how they ended, whether they are due.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Play;
use crate::ledger::verdict::StepRef;

/// A client that is open.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    /// The process that it lives in.
    pub(super) peer: String,
    /// Ports of this host that its connections had.
    pub(super) ports: BTreeSet<u16>,
    pub(super) session: Option<String>,
    pub(super) last_event: Option<String>,
    /// Requests without an answer.
    pub(super) pending: Vec<(u64, String)>,
}

/// A client that has closed its connections.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) name: String,
    pub(super) ports: BTreeSet<u16>,
    /// The last event that it saw.
    pub(super) last_event: Option<String>,
    /// The step that closed them.
    pub(super) due: StepRef,
    /// The client ended its session first, or had none.
    pub(super) well: bool,
    /// It left requests behind that had no answer yet.
    pub(super) busy: bool,
}

/// A session that a server has given out.
#[derive(Debug, Clone)]
pub(super) struct SessionBook {
    pub(super) id: String,
    /// The client that opened it.
    pub(super) client: String,
    pub(super) born: StepRef,
    pub(super) fate: Fate,
}

/// What became of a session.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// Its client is there.
    Open,
    /// It was ended by DELETE.
    Deleted(StepRef),
    /// Its client went without a word.
    Abandoned(StepRef, Instant),
    /// It was judged, or went with its server.
    Done,
}

impl Play<'_> {
    /// Judges what is due inside the living server: sockets whose other end was closed, sessions that
    /// were ended.
    pub(super) fn judge_living(&mut self, at: &StepRef) {
        let _ = at;
    }
}
