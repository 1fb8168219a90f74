//! The host's half of the model: which servers there must be.

use super::{Alive, Expected, Range, SLACK_MS, Sort, Waits};
use crate::lifecycle::generate::{Act, PLACES, Peer, Place, Word};

/// How long each answer of a server takes that answers late, in milliseconds.
const LATE_MS: u64 = 100;

/// A host and its servers.
#[derive(Debug)]
pub(super) struct Host {
    waits: Waits,
    servers: [Server; PLACES],
    is_closed: bool,
}

/// A server, as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Absent,
    /// Being opened; ready, or failed, at a moment of its own.
    Adding {
        peer: Peer,
        next: Next,
    },
    Ready(Peer),
    /// Dead, and still holding its name; its streams are gone by then.
    Dead {
        streams_by: u64,
    },
    /// Gone by then.
    Closing {
        by: u64,
    },
    /// Several ends and beginnings run into one another: it may be there or not until the host ends.
    Unsure,
}

/// What comes of an adding, unless something comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ready { at: u64 },
    Fails { at: u64 },
}

impl Next {
    fn at(self) -> u64 {
        match self {
            Next::Ready { at } | Next::Fails { at } => at,
        }
    }
}

impl Host {
    pub(super) fn new(waits: Waits) -> Self {
        Self { waits, servers: [Server::Absent; PLACES], is_closed: false }
    }

    pub(super) fn pass(&mut self, now: u64) {
        for server in &mut self.servers {
            *server = match *server {
                Server::Adding { peer, next: Next::Ready { at } } if now > at + SLACK_MS => {
                    Server::Ready(peer)
                }
                Server::Adding { peer, next: Next::Fails { at } } if now > at + SLACK_MS => {
                    Server::Closing { by: at + lag(peer, &self.waits) + SLACK_MS }
                }
                other => other,
            };
            if matches!(*server, Server::Closing { by } if now > by) {
                *server = Server::Absent;
            }
        }
    }

    pub(super) fn begin(&mut self, act: Act, now: u64, is_quiet: bool) {
        if !is_quiet {
            match act {
                Act::Add { server, .. } if !self.is_closed => self.servers[server] = Server::Unsure,
                Act::DropAdd(place)
                | Act::Remove(place)
                | Act::Call(place)
                | Act::PeerEnds(place)
                | Act::PeerSays(place, _)
                    if self.servers[place] != Server::Absent =>
                {
                    self.servers[place] = Server::Unsure;
                }
                Act::Health => {
                    for server in &mut self.servers {
                        if *server != Server::Absent {
                            *server = Server::Unsure;
                        }
                    }
                }
                _ => {}
            }
        }
        match act {
            Act::Add { server, peer, probes, replaces } => {
                self.add(server, peer, probes, replaces, now);
            }
            Act::DropAdd(place) => self.drop_add(place, now),
            Act::Remove(place) => self.end(place, now),
            Act::Call(place) if self.servers[place] == Server::Ready(Peer::DiesOnCall) => {
                self.servers[place] = Server::Dead { streams_by: now };
            }
            Act::Call(place) => {
                let dies =
                    matches!(self.servers[place], Server::Adding { peer: Peer::DiesOnCall, .. });
                if dies {
                    self.servers[place] = Server::Unsure;
                }
            }
            Act::PeerEnds(place) => self.dies(place, 0, now),
            Act::PeerSays(place, Word::LongLine) => {
                let lag = peer_of(self.servers[place]).map_or(0, |peer| lag(peer, &self.waits));
                self.dies(place, lag, now);
            }
            Act::PeerSays(place, Word::HalfLine) => {
                // Half a line spoils the next one, which may have been a part of the handshake.
                if matches!(self.servers[place], Server::Adding { peer: Peer::Late, .. }) {
                    self.servers[place] = Server::Unsure;
                }
            }
            Act::Health => {
                for server in &mut self.servers {
                    if let Server::Dead { streams_by } = *server {
                        *server = Server::Closing { by: streams_by.max(now) + SLACK_MS };
                    }
                }
            }
            Act::Shutdown { deadline_ms } if !self.is_closed => {
                self.is_closed = true;
                // Whoever is killed at the deadline is gone at once.
                let longest = deadline_ms.min(self.waits.end_grace);
                self.end_all(now, longest);
            }
            Act::Shutdown { deadline_ms } => {
                let by = now + deadline_ms + SLACK_MS;
                for server in &mut self.servers {
                    if let Server::Closing { by: until } = server {
                        *until = (*until).min(by);
                    }
                }
            }
            Act::NewHost => {
                self.end_all(now, 0);
                self.is_closed = false;
            }
            _ => {}
        }
    }

    fn add(&mut self, place: Place, peer: Peer, probes: bool, replaces: bool, now: u64) {
        if self.is_closed {
            return;
        }
        let now_free = match self.servers[place] {
            Server::Absent => true,
            // The old one is gone at once, so the new one begins at once.
            Server::Ready(old) => replaces && lag(old, &self.waits) == 0,
            Server::Dead { streams_by } => replaces && now > streams_by + SLACK_MS,
            Server::Adding { peer: old, next } => {
                let is_settled = now + SLACK_MS < next.at();
                if !is_settled || replaces {
                    // The adding that is replaced fails, and somebody may add meanwhile.
                    let is_quick = lag(old, &self.waits) == 0;
                    if !(is_settled && is_quick) {
                        self.servers[place] = Server::Unsure;
                        return;
                    }
                }
                replaces
            }
            Server::Closing { .. } => {
                self.servers[place] = Server::Unsure;
                return;
            }
            Server::Unsure => return,
        };
        if now_free {
            let next = next(peer, probes, now, &self.waits);
            self.servers[place] = Server::Adding { peer, next };
        } else if replaces {
            self.servers[place] = Server::Unsure;
        }
    }

    /// Whether an adding is still under way is only sure while it is far from its end.
    fn drop_add(&mut self, place: Place, now: u64) {
        if let Server::Adding { next, .. } = self.servers[place] {
            match now + SLACK_MS < next.at() {
                true => self.end(place, now),
                false => self.servers[place] = Server::Unsure,
            }
        }
    }

    fn end(&mut self, place: Place, now: u64) {
        let state = self.servers[place];
        let lag = peer_of(state).map_or(0, |peer| lag(peer, &self.waits));
        self.servers[place] = match state {
            Server::Adding { .. } | Server::Ready(_) => {
                Server::Closing { by: now + lag + SLACK_MS }
            }
            Server::Dead { streams_by } => Server::Closing { by: streams_by.max(now) + SLACK_MS },
            other => other,
        };
    }

    fn end_all(&mut self, now: u64, longest: u64) {
        for server in &mut self.servers {
            let earlier = match *server {
                Server::Absent => continue,
                Server::Closing { by } => by,
                _ => u64::MAX,
            };
            *server = Server::Closing { by: earlier.min(now + longest + SLACK_MS) };
        }
    }

    /// The connection of a server breaks, which takes so long to end.
    fn dies(&mut self, place: Place, lag: u64, now: u64) {
        self.servers[place] = match self.servers[place] {
            Server::Ready(_) => Server::Dead { streams_by: now + lag },
            Server::Adding { peer: Peer::NeverOpened | Peer::NotOpened, .. } => self.servers[place],
            Server::Adding { next: Next::Ready { at }, .. } if now + SLACK_MS >= at => {
                Server::Unsure
            }
            Server::Adding { .. } => Server::Closing { by: now + lag + SLACK_MS },
            other => other,
        };
    }

    /// What there must be. Where nobody can say, the census itself says whether there is a server,
    /// and the rest has to go with that.
    pub(super) fn expect(&mut self, expected: &mut Expected, now: u64, alive: &[Alive]) {
        for (place, server) in self.servers.iter_mut().enumerate() {
            if *server == Server::Unsure {
                let name = name(place);
                let is_named = alive.iter().any(|row| row.sort == Sort::Server && row.name == name);
                if !is_named {
                    *server = Server::Absent;
                    continue;
                }
                expected.insert((Sort::Server, name.clone()), Range::ONE);
                expected.insert((Sort::Task, name.clone()), Range::ONE);
                expected.insert((Sort::Connection, name), Range::MAYBE);
                continue;
            }
            let (named, streams) = match *server {
                Server::Absent => continue,
                Server::Adding { peer, next } => {
                    let opens =
                        !matches!(peer, Peer::NotOpened | Peer::NeverOpened | Peer::PanicsOpening);
                    let is_far = now + SLACK_MS < next.at();
                    match (is_far, next, opens) {
                        (_, _, false) if is_far => (Range::ONE, Range::default()),
                        (true, _, true) | (_, Next::Ready { .. }, true) => (Range::ONE, Range::ONE),
                        _ => (Range::MAYBE, Range::MAYBE),
                    }
                }
                Server::Ready(_) => (Range::ONE, Range::ONE),
                Server::Dead { streams_by } if now > streams_by + SLACK_MS => {
                    (Range::ONE, Range::default())
                }
                Server::Dead { .. } => (Range::ONE, Range::MAYBE),
                Server::Closing { .. } => (Range::MAYBE, Range::MAYBE),
                Server::Unsure => continue,
            };
            let name = name(place);
            expected.insert((Sort::Server, name.clone()), named);
            expected.insert((Sort::Task, name.clone()), named);
            expected.insert((Sort::Connection, name), streams);
        }
    }
}

/// The name of the server at this place.
pub(super) fn name(place: Place) -> String {
    format!("server {place}")
}

fn peer_of(server: Server) -> Option<Peer> {
    match server {
        Server::Adding { peer, .. } | Server::Ready(peer) => Some(peer),
        _ => None,
    }
}

/// How long the end of a connection to this peer takes.
fn lag(peer: Peer, waits: &Waits) -> u64 {
    match peer {
        Peer::Deaf | Peer::StopsReading | Peer::Lingers => waits.end_grace,
        _ => 0,
    }
}

/// What comes of adding this peer, and when.
fn next(peer: Peer, probes: bool, now: u64, waits: &Waits) -> Next {
    match peer {
        Peer::Well | Peer::HangsOnCall | Peer::DiesOnCall | Peer::StopsReading | Peer::Lingers => {
            Next::Ready { at: now }
        }
        Peer::Late => {
            let answers = if probes { 3 } else { 2 };
            Next::Ready { at: now + answers * LATE_MS }
        }
        Peer::DiesAt(_)
        | Peer::DiesEarly
        | Peer::LongLine
        | Peer::Refuses
        | Peer::NotOpened
        | Peer::PanicsOpening => Next::Fails { at: now },
        Peer::Silent | Peer::Deaf | Peer::Garbage | Peer::HalfLine | Peer::NeverOpened => {
            Next::Fails { at: now + waits.connect }
        }
    }
}
