//! Connections that a thread reads from, and what it has read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use super::exchange::{ends_since, is_late};
use super::meter::{Meter, WasCut};
use super::response::Response;

/// How often a reader looks whether it is to stop.
pub(super) const GLANCE: Duration = Duration::from_millis(20);
/// How a server says that it took a subscription.
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// A connection that a thread reads from, or nobody.
pub(super) struct Stream {
    pub(super) socket: Arc<TcpStream>,
    pub(super) reader: Option<JoinHandle<()>>,
    pub(super) stop: Arc<AtomicBool>,
    /// It is there for events, and not for an answer.
    pub(super) listens: bool,
}

/// What the readers have read.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) heard: Mutex<Heard>,
    pub(super) news: Condvar,
}

#[derive(Default)]
pub(super) struct Heard {
    pub(super) answers: BTreeMap<String, Value>,
    pub(super) last_event: Option<String>,
    pub(super) endpoint: Option<String>,
    /// Of each stream by number: its response's head, or why there is none.
    pub(super) heads: BTreeMap<usize, Result<(u16, Option<String>), String>>,
    /// Streams whose subscription was acknowledged.
    pub(super) acknowledged: BTreeSet<usize>,
    pub(super) ended: BTreeSet<usize>,
    /// Nothing more may be read.
    pub(super) is_cut: bool,
}

impl Inbox {
    /// A reader that panicked has left every field as it was.
    pub(super) fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is there; none when the deadline has passed.
    pub(super) fn wait<T>(
        &self,
        deadline: Instant,
        mut wanted: impl FnMut(&mut Heard) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut read = self.lock();
        loop {
            if let Some(found) = wanted(&mut read) {
                return Ok(Some(found));
            }
            if read.is_cut {
                return Err(WasCut::error());
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            read = self
                .news
                .wait_timeout(read, deadline - now)
                .map_err(|_| io::Error::other("a reader panicked"))?
                .0;
        }
    }

    /// Reads a stream until it ends or is to stop.
    pub(super) fn read_from(
        &self,
        mut socket: &TcpStream,
        number: usize,
        stop: &AtomicBool,
        stalled: &AtomicBool,
        meter: &Meter,
    ) {
        let mut response = Response::default();
        let mut buffer = [0; 16 << 10];
        let mut fed = 0;
        while !stop.load(Ordering::SeqCst) {
            let room = meter.may_read(buffer.len());
            if stalled.load(Ordering::SeqCst) || room == 0 {
                thread::sleep(GLANCE);
                continue;
            }
            let mut is_cut = false;
            let (over, cause) = match socket.read(&mut buffer[..room]) {
                Ok(0) => (true, (!response.end()).then(|| "closed without an answer".to_owned())),
                Ok(count) => {
                    let sense = response.feed(&buffer[..count]);
                    is_cut =
                        meter.read(count, &ends_since(&mut response, &mut fed, count)).is_err();
                    match sense {
                        Ok(()) => (response.is_complete(), None),
                        Err(error) => (true, Some(error.to_string())),
                    }
                }
                Err(error) if is_late(&error) => continue,
                Err(error) => (true, Some(error.to_string())),
            };
            let mut read = self.lock();
            read.is_cut |= is_cut;
            read.take_in(number, &mut response, cause);
            if over {
                read.ended.insert(number);
            }
            drop(read);
            self.news.notify_all();
            if over {
                return;
            }
        }
    }
}

impl Heard {
    pub(super) fn take_in(
        &mut self,
        number: usize,
        response: &mut Response,
        cause: Option<String>,
    ) {
        if let Some(head) = response.head() {
            let content_type = head.header("content-type").map(str::to_owned);
            self.heads.entry(number).or_insert(Ok((head.status(), content_type)));
        } else if let Some(cause) = cause {
            self.heads.entry(number).or_insert(Err(cause));
        }
        if let Some(events) = response.events() {
            if events.last_id.is_some() {
                self.last_event.clone_from(&events.last_id);
            }
            if events.endpoint.is_some() {
                self.endpoint.clone_from(&events.endpoint);
            }
        }
        while let Some(message) = response.message() {
            if message["method"] == ACKNOWLEDGED {
                self.acknowledged.insert(number);
            } else if message.get("method").is_none()
                && let Some(id) = message.get("id")
            {
                self.answers.insert(id.to_string(), message);
            }
        }
    }
}

/// Closes connections, by FIN or by RST.
pub(super) fn close(streams: Vec<Stream>, by_reset: bool) -> io::Result<()> {
    for stream in &streams {
        stream.stop.store(true, Ordering::SeqCst);
    }
    for Stream { socket, reader, .. } in streams {
        if let Some(reader) = reader {
            // Wakes the reader and tells the server nothing.
            let _ = socket.shutdown(Shutdown::Read);
            let _ = reader.join();
        }
        if by_reset {
            set_socket_linger(&*socket, Some(Duration::ZERO))?;
        }
        drop(socket);
    }
    Ok(())
}
