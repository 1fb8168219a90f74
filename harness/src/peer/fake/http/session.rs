//! The sessions of a server: one table, one way in, one way out.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{call::Call, channel::Channel, fault::Equipment};

/// Most sessions at once.
pub(super) const SESSIONS: usize = 10_000;
/// Most answered calls of a session that are kept for a client that comes back for the answer.
const ANSWERS: usize = 16;

/// Every session by its id.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    begun: u64,
    sessions: BTreeMap<String, Session>,
}

/// A session.
pub(super) struct Session {
    /// What it is served with.
    pub(super) equipment: Arc<dyn Equipment>,
    /// Streams that are open, with what is sent on them.
    streams: Vec<Arc<Channel>>,
    /// Calls by request id, the answered ones too, in the order in which they came.
    calls: Vec<(String, Arc<Call>)>,
    used: Instant,
}

impl Sessions {
    /// The number of the next session.
    pub(super) fn next(&self) -> u64 {
        let mut table = self.lock();
        table.begun += 1;
        table.begun
    }

    /// Adds a session and gives its id, or the equipment back where there are too many.
    pub(super) fn insert(
        &self,
        nth: u64,
        equipment: Arc<dyn Equipment>,
    ) -> Result<String, Arc<dyn Equipment>> {
        let mut table = self.lock();
        if table.sessions.len() >= SESSIONS {
            return Err(equipment);
        }
        // Not to be guessed, and not that of a server that had the port before.
        let random = || RandomState::new().hash_one(nth);
        let id = format!("session-{nth}-{:016x}{:016x}", random(), random());
        let (streams, calls, used) = (Vec::new(), Vec::new(), Instant::now());
        table.sessions.insert(id.clone(), Session { equipment, streams, calls, used });
        Ok(id)
    }

    /// Takes a session out, its streams ended and its calls cancelled.
    pub(super) fn remove(&self, id: &str) -> Option<Arc<dyn Equipment>> {
        let session = self.lock().sessions.remove(id)?;
        Some(session.close())
    }

    /// Takes out all that were idle for so long.
    pub(super) fn sweep(&self, ttl: Duration) -> Vec<Arc<dyn Equipment>> {
        let mut table = self.lock();
        let idle =
            |session: &Session| session.deadline(ttl).is_some_and(|end| end <= Instant::now());
        let expired = table.sessions.iter().filter(|(_, session)| idle(session));
        let expired: Vec<String> = expired.map(|(id, _)| id.clone()).collect();
        let removed: Vec<Session> =
            expired.iter().filter_map(|id| table.sessions.remove(id)).collect();
        drop(table);
        removed.into_iter().map(Session::close).collect()
    }

    /// When the next one may be swept.
    pub(super) fn next_sweep(&self, ttl: Duration) -> Option<Instant> {
        self.lock().sessions.values().filter_map(|session| session.deadline(ttl)).min()
    }

    /// Takes out all of them.
    pub(super) fn clear(&self) -> Vec<Arc<dyn Equipment>> {
        let sessions = std::mem::take(&mut self.lock().sessions);
        sessions.into_values().map(Session::close).collect()
    }

    /// Whether there is such a session, which counts as a use of it.
    pub(super) fn touch(&self, id: &str) -> bool {
        self.with(id, |_| ()).is_some()
    }

    /// What a session is served with.
    pub(super) fn equipment(&self, id: &str) -> Option<Arc<dyn Equipment>> {
        self.with(id, |session| Arc::clone(&session.equipment))
    }

    /// Notes that a stream is open; tells whether there is such a session.
    pub(super) fn open(&self, id: &str, stream: &Arc<Channel>) -> bool {
        self.with(id, |session| session.streams.push(Arc::clone(stream))).is_some()
    }

    /// Notes that a stream is closed.
    pub(super) fn close(&self, id: &str, stream: &Arc<Channel>) {
        self.with(id, |session| session.streams.retain(|one| !Arc::ptr_eq(one, stream)));
    }

    /// Notes a call; gives it back where the session has gone.
    pub(super) fn call(&self, id: &str, request: &Value, call: Arc<Call>) -> bool {
        self.with(id, |session| {
            session.calls.push((request.to_string(), call));
            let answered = session.calls.iter().filter(|(_, call)| call.channel.has_ended());
            if answered.count() > ANSWERS {
                let oldest = session.calls.iter().position(|(_, call)| call.channel.has_ended());
                oldest.map(|index| session.calls.remove(index));
            }
        })
        .is_some()
    }

    /// The last call of this request id.
    pub(super) fn find_call(&self, id: &str, request: &Value) -> Option<Arc<Call>> {
        let request = request.to_string();
        self.with(id, |session| {
            let call = session.calls.iter().rev().find(|(known, _)| *known == request);
            call.map(|(_, call)| Arc::clone(call))
        })?
    }

    /// The stream of an answer, by the number in the ids of its events.
    pub(super) fn find_answer(&self, id: &str, stream: u64) -> Option<Arc<Channel>> {
        self.with(id, |session| {
            let call = session.calls.iter().find(|(_, call)| call.channel.id == stream);
            call.map(|(_, call)| Arc::clone(&call.channel))
        })?
    }

    /// The first open stream of a session.
    pub(super) fn a_stream_of(&self, id: &str) -> Option<Arc<Channel>> {
        self.with(id, |session| session.streams.first().cloned())?
    }

    /// What there is, for `/census`.
    pub(super) fn census(&self) -> Value {
        let row = |(id, session): (&String, &Session)| json!({"id": id, "streams": session.streams.len()});
        json!({ "sessions": self.lock().sessions.iter().map(row).collect::<Vec<_>>() })
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let mut table = self.lock();
        let session = table.sessions.get_mut(id)?;
        session.used = Instant::now();
        Some(act(session))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A table whose holder panicked is still right: every change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// When it expires; never while it is in use.
    fn deadline(&self, ttl: Duration) -> Option<Instant> {
        let busy = self.calls.iter().any(|(_, call)| !call.channel.has_ended());
        (self.streams.is_empty() && !busy).then(|| self.used.checked_add(ttl)).flatten()
    }

    fn close(self) -> Arc<dyn Equipment> {
        for stream in &self.streams {
            stream.end();
        }
        for (_, call) in &self.calls {
            call.cancel();
        }
        self.equipment
    }
}
