//! Calls of tools: those of `sleep` are each a thread of its own that no connection waits for: whoever wants
//! the answer reads it from the call's channel, on this connection or a later one.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use super::{super::helper, channel::Channel, server::Server};

/// A call in flight, or its answer.
pub(super) struct Call {
    /// Where its answer goes.
    pub(super) channel: Arc<Channel>,
    /// Dropped, it cancels.
    cancel: Mutex<Option<Sender<()>>>,
    /// Ends when the work has begun.
    begun: Mutex<Option<Receiver<()>>>,
}

impl Call {
    /// Starts one that takes so long to answer with these bytes, on its own channel or on this one.
    pub(super) fn start(
        server: &Arc<Server>,
        time: Duration,
        answer: Vec<u8>,
        onto: Option<Arc<Channel>>,
    ) -> io::Result<Arc<Self>> {
        let channel = Channel::of_answer();
        let (cancel, cancelled) = mpsc::channel();
        let (begins, begun) = mpsc::channel();
        let (cancel, begun) = (Mutex::new(Some(cancel)), Mutex::new(Some(begun)));
        let call = Arc::new(Self { channel, cancel, begun });
        let counted = server.count_call();
        let (server, channel) = (Arc::clone(server), Arc::clone(&call.channel));
        thread::Builder::new().name("call".into()).spawn(move || {
            if work(&server, begins, &cancelled, time).is_ok_and(|done| done) {
                onto.as_ref().unwrap_or(&channel).push(answer);
            }
            channel.end();
            drop(counted);
        })?;
        Ok(call)
    }

    /// One that is answered already.
    pub(super) fn answered(answer: Vec<u8>) -> Arc<Self> {
        let channel = Channel::of_answer();
        channel.push(answer);
        channel.end();
        Arc::new(Self { channel, cancel: Mutex::default(), begun: Mutex::default() })
    }

    /// Waits until the work has begun, so that whoever hears of the call can see it.
    pub(super) fn await_work(&self) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nothing is ever sent: it ends when the other side is dropped.
        begun.map(|begun| begun.recv().ok());
    }

    /// Ends it without an answer; tells whether it was in flight.
    pub(super) fn cancel(&self) -> bool {
        let cancel = self.cancel.lock().unwrap_or_else(PoisonError::into_inner).take();
        cancel.is_some() && !self.channel.has_ended()
    }
}

/// Works so long; tells whether the work was done and not cancelled.
fn work(
    server: &Server,
    begins: Sender<()>,
    cancelled: &Receiver<()>,
    time: Duration,
) -> io::Result<bool> {
    let worker = server.fault.worker()?;
    drop(begins);
    let timed_out = cancelled.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    if timed_out {
        worker.map(helper::end).transpose()?;
    } else {
        server.fault.on_cancel(worker)?;
    }
    Ok(timed_out)
}
