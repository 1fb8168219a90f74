//! The events of one stream, numbered from 1: written by whoever has news, read by the thread whose
//! connection carries them, kept for a client that comes back for them.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::event::{EventfdFlags, eventfd};

/// Most bytes of events that wait for a reader. A stream that has more is closed: its reader is too
/// slow, and nobody else is to wait for it.
const WAITING: usize = 4 << 20;

/// The events of one stream.
pub(super) struct Channel {
    /// Names the stream in the ids of its events.
    pub(super) id: u64,
    /// Whether events stay once they were read, for `Last-Event-ID`.
    keeps: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: VecDeque<(u64, Vec<u8>)>,
    last: u64,
    bytes: usize,
    /// Said at the end, where the server ends it.
    last_words: Option<Vec<u8>>,
    ended: bool,
    ears: Vec<Arc<OwnedFd>>,
}

/// What there is to be read.
pub(super) enum Next {
    /// An event: its number and data.
    Event(u64, Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    End,
}

impl Channel {
    /// For the events of one answer, which may be fetched again.
    pub(super) fn of_answer() -> Arc<Self> {
        Self::new(true)
    }

    /// For what a server says of its own accord.
    pub(super) fn standalone() -> Arc<Self> {
        Self::new(false)
    }

    /// For what changes, with these as its last words.
    pub(super) fn of_subscription(last_words: Vec<u8>) -> Arc<Self> {
        let channel = Self::new(false);
        channel.lock().last_words = Some(last_words);
        channel
    }

    fn new(keeps: bool) -> Arc<Self> {
        static CHANNELS: AtomicU64 = AtomicU64::new(1);
        let id = CHANNELS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, keeps, state: Mutex::default() })
    }

    /// Adds an event.
    pub(super) fn push(&self, data: Vec<u8>) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        state.bytes += data.len();
        state.last += 1;
        let number = state.last;
        state.events.push_back((number, data));
        if state.bytes > WAITING {
            state.events.clear();
            state.ended = true;
        }
        self.tell(&state);
    }

    /// Ends the stream, after what is in it.
    pub(super) fn end(&self) {
        let last_words = self.lock().last_words.take();
        if let Some(words) = last_words {
            self.push(words);
        }
        let mut state = self.lock();
        state.ended = true;
        self.tell(&state);
    }

    /// Whether the stream has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// What comes after the event of this number.
    pub(super) fn next(&self, after: u64) -> Next {
        let mut state = self.lock();
        if !self.keeps {
            while state.events.front().is_some_and(|(number, _)| *number <= after) {
                let data = state.events.pop_front().map_or(0, |(_, data)| data.len());
                state.bytes -= data;
            }
        }
        match state.events.iter().find(|(number, _)| *number > after) {
            Some((number, data)) => Next::Event(*number, data.clone()),
            None if state.ended => Next::End,
            None => Next::Nothing,
        }
    }

    /// Something to poll, readable when there is news.
    pub(super) fn listen(self: &Arc<Self>) -> io::Result<Ear> {
        let ear = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        self.lock().ears.push(Arc::clone(&ear));
        Ok(Ear { channel: Arc::clone(self), ear })
    }

    fn tell(&self, state: &State) {
        for ear in &state.ears {
            // One that is full already tells as much.
            let _ = rustix::io::write(ear, &1_u64.to_ne_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one step, so that a holder that panicked leaves it right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of news of a channel as long as it lives.
pub(super) struct Ear {
    channel: Arc<Channel>,
    ear: Arc<OwnedFd>,
}

impl Ear {
    /// Forgets the news it has heard of.
    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&self.ear, &mut [0; 8]);
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
    }
}
