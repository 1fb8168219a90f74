//! The HTTP server of a client under test: Streamable HTTP of both eras, well-behaved but for what its
//! script says. It tells the cell what comes: connections and their ends, requests, sessions, streams.
//!
//! The cell starts it beside the client, so that its sockets are nobody's who is judged. Its order
//! stands in its arguments: the channel, and the script as JSON.
//!
//! - `conversation`: one connection, request after request.
//! - `answer`: what is answered to a message.
//! - `line`: its wire, byte by byte, for the byte sweep.
//! - `said`: the channel to the cell.

mod answer;
mod conversation;
mod line;
mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::event::{PollFd, PollFlags, poll};

use self::{conversation::Conversation, line::Line, said::Said};
use crate::{
    lifecycle::client::http::{Fault, Service},
    peer::http::report::{Asked, HttpReport},
};

/// Most connections at once; one that comes beyond them is closed at once.
const CONNECTIONS: usize = 512;
/// Requests with which a client begins.
const BEGINNINGS: [&str; 2] = ["initialize", "server/discover"];
/// Most of these at which the cell looks: as many as there are rounds, and some.
const MOST_BEGINNINGS: u32 = 1_000;
/// Most sorts of requests that are counted; one who asks for more is looked at enough.
const MOST_SORTS: usize = 200;
/// Most streams, and ends of sessions, at which it looks.
const MOST_LOOKS: u32 = 8;

/// What all connections share.
pub(super) struct Shared {
    script: Service,
    address: SocketAddr,
    said: Said,
    line: Line,
    /// Every connection is to be reset, and none taken any more.
    vanished: AtomicBool,
    kept: Mutex<Kept>,
}

/// What the server keeps.
#[derive(Default)]
struct Kept {
    connections: usize,
    begun: u64,
    alive: BTreeSet<String>,
    /// The fault that strikes once has struck.
    has_struck: bool,
    /// Requests of each sort at which the cell has looked.
    looks: BTreeMap<String, u32>,
}

impl Shared {
    /// A table whose holder panicked is still right: every change is one step.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_session(&self) -> String {
        let mut kept = self.kept();
        kept.begun += 1;
        let id = format!("session-{}", kept.begun);
        kept.alive.insert(id.clone());
        id
    }

    /// Whether there was such a session.
    fn end_session(&self, id: &str) -> bool {
        let was_there = self.kept().alive.remove(id);
        if was_there {
            self.said.tell(&HttpReport::SessionOver { session: id.to_owned() });
        }
        was_there
    }

    fn has_session(&self, id: &str) -> bool {
        self.kept().alive.contains(id)
    }

    /// The fault, where it strikes at this request.
    fn fault_at(&self, method: &str) -> Fault {
        let Service { fault, at, .. } = &self.script;
        match at {
            Some(at) if at != method => Fault::None,
            _ => *fault,
        }
    }

    /// True for the first caller alone.
    fn strikes_once(&self) -> bool {
        !std::mem::replace(&mut self.kept().has_struck, true)
    }

    /// Whether the cell looks before this is answered: at what begins something, a session or a
    /// stream, and at its end; at the very first whatever it is.
    fn is_looked_at(&self, asked: &Asked) -> bool {
        let begins = asked.method.as_deref().is_some_and(|method| BEGINNINGS.contains(&method));
        let looks = &mut self.kept().looks;
        let is_first = looks.is_empty();
        let sort = asked.method.clone().unwrap_or_else(|| asked.verb.clone());
        let most = match begins {
            true => MOST_BEGINNINGS,
            false if asked.method.is_none() => MOST_LOOKS,
            false => u32::from(is_first),
        };
        if looks.len() >= MOST_SORTS {
            return false;
        }
        let seen = looks.entry(sort).or_default();
        *seen += 1;
        *seen <= most
    }

    fn vanish(&self) {
        self.vanished.store(true, Ordering::SeqCst);
    }

    fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::SeqCst)
    }
}

/// The arguments that make a server what the script says, after the program's name.
pub fn arguments(channel: &str, service: &Service) -> io::Result<Vec<String>> {
    let script = serde_json::to_string(service).map_err(io::Error::other)?;
    Ok(vec![crate::cell::HTTP_PEER.to_owned(), channel.to_owned(), script])
}

/// Is such a server until it is killed.
pub fn run(words: &[String]) -> io::Result<u8> {
    let [channel, script] = words else {
        return Err(io::Error::other("this server is started by a cell of scupper's"));
    };
    let script: Service = serde_json::from_str(script).map_err(io::Error::other)?;
    let said = Said::connect(channel)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    // Leaked on purpose: it is there for as long as the process.
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        line: Line::new(script.wire),
        script,
        address,
        said,
        vanished: AtomicBool::new(false),
        kept: Mutex::default(),
    }));
    shared.said.tell(&HttpReport::Serving { port: address.port() });
    serve(&listener, shared)?;
    drop(listener);
    loop {
        // Whoever started it kills it.
        thread::park();
    }
}

/// Takes connections until the server vanishes.
fn serve(listener: &TcpListener, shared: &'static Shared) -> io::Result<()> {
    let mut number = 0;
    while !shared.has_vanished() {
        poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&conversation::GLANCE))?;
        // One that was gone before it was taken is none.
        let Ok((socket, from)) = listener.accept() else { continue };
        socket.set_nonblocking(false)?;
        let mut kept = shared.kept();
        if kept.connections >= CONNECTIONS {
            continue;
        }
        kept.connections += 1;
        drop(kept);
        number += 1;
        let connection = number;
        shared.said.tell(&HttpReport::Connected { connection, port: from.port() });
        thread::spawn(move || {
            Conversation::new(shared, connection, socket).live();
            shared.kept().connections -= 1;
        });
    }
    Ok(())
}
