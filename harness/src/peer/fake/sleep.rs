//! Calls of the tool `sleep` that have no answer yet.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use super::server::Output;

/// The sleeps in flight, each a thread of its own so that reading goes on.
#[derive(Clone, Default)]
pub(super) struct Sleeps(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// By request id. Whoever removes an entry decides how the sleep ends: its thread with an
    /// answer, a cancellation with silence. Dropping the sender wakes the thread.
    pending: BTreeMap<String, Sender<()>>,
    /// Threads that have not ended, answers that are being written included.
    running: usize,
}

impl Sleeps {
    /// Sleeps, then writes `answer`, unless cancelled before.
    pub(super) fn start(
        &self,
        id: &Value,
        time: Duration,
        answer: Vec<u8>,
        out: Output,
    ) -> io::Result<()> {
        let key = id.to_string();
        let (cancel, cancelled) = mpsc::channel();
        let mut state = self.lock();
        state.pending.insert(key.clone(), cancel);
        state.running += 1;
        drop(state);

        let sleeps = self.clone();
        let sleep = move || {
            let timed_out = cancelled.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            if timed_out && sleeps.lock().pending.remove(&key).is_some() {
                // A client that no longer reads has no use for the answer.
                let _ = out.write(&answer);
            }
            sleeps.end();
        };
        thread::Builder::new().name("sleep".into()).spawn(sleep).map(drop).inspect_err(|_| {
            self.cancel(id);
            self.end();
        })
    }

    /// Ends a sleep without an answer and tells whether it was in flight; an unknown id is ignored,
    /// as the rules ask.
    pub(super) fn cancel(&self, id: &Value) -> bool {
        self.lock().pending.remove(&id.to_string()).is_some()
    }

    /// Whether this request sleeps.
    pub(super) fn contains(&self, id: &Value) -> bool {
        self.lock().pending.contains_key(&id.to_string())
    }

    /// Waits until every sleep has ended and its answer is written.
    pub(super) fn wait(&self) {
        let state = self.lock();
        let _none = self.0.ended.wait_while(state, |state| state.running > 0);
    }

    fn end(&self) {
        self.lock().running -= 1;
        self.0.ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of this lock panics")
    }
}
