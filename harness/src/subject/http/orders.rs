//! What the processes are told that play clients, and what they tell.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Play;
use super::peers::Peer;
use super::steps::Deed;
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{Action, CURSOR, Era, Payload, Step, Whom};
use crate::peer::http::control::{Act, Place, Told};
use crate::peer::wire;
use crate::probe::socket::{self, Tcp};
use crate::settle::{Settled, settle};

/// Longest time for a step that names none, starting and handshake apart.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a call of a lifecycle that was made for any server.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for the first stream, which not every server has.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time in which a server takes a connection, so that it is waited for again.
const TAKEN: Duration = Duration::from_secs(1);
/// The process of every client that is not killed.
const TOGETHER: &str = "clients";
/// A session that no server gave out.
pub(super) const UNKNOWN_SESSION: &str = "scupper-unknown-session";

impl Play<'_> {
    pub(super) fn request(
        &mut self,
        name: &str,
        method: &str,
        params: Value,
        wait: bool,
    ) -> (Act, Deed) {
        let id = self.next_id();
        let what = match (method, params["name"].as_str()) {
            ("tools/call", Some(tool)) => tool.to_owned(),
            _ => method.to_owned(),
        };
        let message = wire::request(self.era, id, method, params);
        self.pend(name, id, &what, wait);
        let deed = if wait { Deed::Request(what) } else { Deed::Posted };
        (Act::Post { message, wait }, deed)
    }

    /// Writes down a request that nobody waits for.
    pub(super) fn pend(&mut self, name: &str, id: u64, what: &str, wait: bool) {
        if let (Some(client), false) = (self.clients.get_mut(name), wait) {
            client.pending.push((id, what.to_owned()));
        }
    }

    pub(super) fn clear(&mut self, name: &str, id: u64) {
        if let Some(client) = self.clients.get_mut(name) {
            client.pending.retain(|(one, _)| *one != id);
        }
    }

    pub(super) fn with_cursor(&mut self, params: &Value) -> Option<Value> {
        let mut params = params.clone();
        if params["cursor"] == CURSOR {
            params["cursor"] = self.cursor.clone()?.into();
        }
        Some(params)
    }

    pub(super) fn body(&mut self, payload: &Payload) -> String {
        match payload {
            Payload::Text(text) => text.clone(),
            Payload::Handshake => {
                let id = self.next_id();
                wire::first_request(self.era, id).to_string()
            }
        }
    }

    pub(super) fn has_session(&self, name: &str) -> bool {
        let client = self.clients.get(name).filter(|client| !client.is_cut);
        let session = client.is_some_and(|client| client.session.is_some());
        self.era == Era::Legacy && (session || self.wire == Wire::Sse)
    }

    pub(super) fn session_of(&self, of: Option<&str>) -> (Option<String>, Option<String>) {
        let Some(of) = of else { return (Some(UNKNOWN_SESSION.to_owned()), None) };
        if let Some(client) = self.clients.get(of) {
            return (client.session.clone(), client.last_event.clone());
        }
        let book = self.sessions.iter().rev().find(|one| one.client == of);
        let last_event = self.past.iter().rev().find(|one| one.name == of);
        (book.map(|book| book.id.clone()), last_event.and_then(|past| past.last_event.clone()))
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn place(&self) -> Place {
        let endpoint = self.life.as_ref().map(|life| life.endpoint.clone());
        let endpoint = endpoint.unwrap_or_else(|| crate::lifecycle::endpoint::Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port.unwrap_or(0),
            path: "/".to_owned(),
        });
        Place { endpoint, wire: self.wire, era: self.era, headers: self.headers() }
    }

    /// The user's headers, as they are sent.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let headers = self.http.headers.iter();
        headers.map(|header| (header.name.clone(), header.value.clone())).collect()
    }

    pub(super) fn time_of(&self, step: &Step) -> Duration {
        step.within.unwrap_or(match step.action {
            Action::Open | Action::Handshake { .. } => {
                Duration::from_millis(self.order.start_timeout_ms)
            }
            Action::Call { .. } if self.order.for_any_server => CALL_TIMEOUT,
            Action::Listen if self.order.first_look => SUBSCRIBE_TIMEOUT,
            _ => STEP_TIMEOUT,
        })
    }

    /// The process that a client lives in: one of its own, where it is to be killed.
    pub(super) fn peer_of(&self, name: &str) -> String {
        let is_killed = kills(&self.order.lifecycle.steps, name);
        if is_killed { name.to_owned() } else { TOGETHER.to_owned() }
    }

    /// Starts a process of clients, if it is not there.
    pub(super) fn ready(&mut self, peer: &str) -> Result<(), String> {
        if !self.peers.contains_key(peer) {
            let process = Peer::start(&self.http.program)?;
            self.sight.ours.insert(process.id.pid);
            self.peers.insert(peer.to_owned(), process);
        }
        Ok(())
    }

    pub(super) fn order_client(
        &mut self,
        name: &str,
        act: Act,
        time: Duration,
    ) -> Result<(), String> {
        let Some(client) = self.clients.get(name) else {
            return Err(format!("client {name} is not open"));
        };
        let Some(peer) = self.peers.get_mut(&client.peer) else {
            return Err(format!("the process of client {name} is gone"));
        };
        peer.tell(name, act, time)
    }

    /// Waits until the server has taken the connections of a client that waits for no answer, so that
    /// what comes of them comes at this step and in this cycle: the kernel says that they are open long
    /// before that.
    pub(super) fn await_taken(&mut self, name: &str) {
        if self.screens || self.takes_late {
            return;
        }
        let Some(ports) = self.clients.get(name).map(|client| client.ports.clone()) else { return };
        let taken = settle(Instant::now() + TAKEN, || {
            self.reap();
            let Some(life) = self.life.as_ref().filter(|life| life.exit.is_none()) else {
                return true;
            };
            let to = life.endpoint.port;
            let is_of_it =
                |one: &&Tcp| one.local.port() == to && ports.contains(&one.remote.port());
            socket::tcp(life.root.pid).iter().filter(is_of_it).all(Tcp::is_taken)
        });
        self.takes_late = taken == Settled::Bound;
    }

    /// Whether a client has something to tell.
    pub(super) fn has_told(&mut self, name: &str) -> bool {
        let peer = self.clients.get(name).and_then(|client| self.peers.get_mut(&client.peer));
        // A peer that is gone is told of by whoever listens to it.
        peer.is_none_or(|peer| peer.has_told(name))
    }

    /// What a client has to tell, written into the books.
    pub(super) fn hear(&mut self, name: &str, time: Duration) -> Result<Told, String> {
        let Some(client) = self.clients.get_mut(name) else {
            return Err(format!("client {name} is not open"));
        };
        let Some(peer) = self.peers.get_mut(&client.peer) else {
            return Err(format!("the process of client {name} is gone"));
        };
        let told = peer.hear(name, time)?;
        client.ports.extend(&told.ports);
        client.session.clone_from(&told.session);
        client.last_event.clone_from(&told.last_event);
        client.is_cut = told.cut;
        client.works.clone_from(&told.works);
        self.was_cut |= told.cut;
        if told.last_event.is_some() {
            self.traits().resumes = true;
        }
        if self.order.first_look {
            let more = self.alive().len().saturating_sub(self.tree);
            self.traits().processes = self.traits().processes.max(more);
        }
        Ok(told)
    }

    /// Has a client do one last thing.
    pub(super) fn let_go(&mut self, name: &str, act: Act) -> Result<(), String> {
        self.order_client(name, act, STEP_TIMEOUT)?;
        self.hear(name, STEP_TIMEOUT).map(drop)
    }

    /// Has a client that is in no books do something at once.
    pub(super) fn obey(&mut self, name: &str, act: Act, time: Duration) -> Result<Told, String> {
        self.ready(TOGETHER)?;
        let Some(peer) = self.peers.get_mut(TOGETHER) else {
            return Err("the HTTP clients are gone".to_owned());
        };
        peer.tell(name, act, time)?;
        peer.hear(name, time)
    }
}

/// Whether some step kills the process of this client.
fn kills(steps: &[Step], name: &str) -> bool {
    steps.iter().any(|step| match &step.action {
        Action::Kill { whom: Whom::Client } => step.connection == name,
        Action::Repeat { steps, .. } => kills(steps, name),
        Action::Concurrently { branches } => branches.iter().any(|steps| kills(steps, name)),
        _ => false,
    })
}
