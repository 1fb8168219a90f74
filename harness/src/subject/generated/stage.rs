//! The effect of each step on the core.

use std::panic::Location;
use std::sync::Arc;

use rmcp::model::CallToolRequestParams;
use scupper_core::census::{Census, Kind};
use scupper_core::host::{Era, Host, HostError, OnDuplicate, ServerSpec, ServerState, Settings};
use scupper_core::stream::StreamSettings;
use tokio::task::JoinHandle;

use super::peers::{LINE_LIMIT_BYTES, Order, Peers};
use super::service::Service;
use super::{LAST_BREATH, LEFT, Leak, WAITS, ms};
use crate::lifecycle::generate::{Act, PLACES, Peer, Place, Word};
use crate::lifecycle::model::{Alive, Sort};

/// A host, its servers, and a service.
pub(super) struct Stage {
    census: Census,
    host: Host,
    servers: [Server; PLACES],
    /// Shutdowns and checks of health.
    at_work: Vec<JoinHandle<()>>,
    service: Service,
    leak: Leak,
}

/// What was begun with the servers of one name.
#[derive(Default)]
struct Server {
    peers: Peers,
    adds: Vec<JoinHandle<()>>,
    calls: Vec<JoinHandle<()>>,
    removes: Vec<JoinHandle<()>>,
}

impl Stage {
    pub(super) fn new(leak: Leak) -> Result<Self, String> {
        let census = Census::new();
        Ok(Self {
            host: host(&census),
            servers: Default::default(),
            at_work: Vec::new(),
            service: Service::start(&census)?,
            census,
            leak,
        })
    }

    /// Begins a step; what it began goes on.
    pub(super) async fn begin(&mut self, act: Act) -> Result<(), String> {
        self.leak(act);
        match act {
            Act::Wait { .. } => {}
            Act::Add { server, peer, probes, replaces } => self.add(server, peer, probes, replaces),
            Act::DropAdd(place) => abort_latest(&mut self.servers[place].adds),
            Act::Call(place) => {
                let (host, name) = (self.host.clone(), name(place));
                self.servers[place].calls.push(tokio::spawn(async move {
                    let _ = host.call_tool(&name, CallToolRequestParams::new("echo")).await;
                }));
            }
            Act::DropCall(place) => abort_latest(&mut self.servers[place].calls),
            Act::Remove(place) => {
                let (host, name) = (self.host.clone(), name(place));
                self.servers[place].removes.push(tokio::spawn(async move {
                    let _ = host.remove(&name).await;
                }));
            }
            Act::DropRemove(place) => abort_latest(&mut self.servers[place].removes),
            Act::PeerEnds(place) => self.servers[place].peers.order(|_| Order::End, Word::Log),
            Act::PeerSays(place, word) => self.servers[place].peers.order(Order::Say, word),
            Act::Health => {
                let host = self.host.clone();
                self.at_work.push(tokio::spawn(async move {
                    let _ = host.health().await;
                }));
            }
            Act::Shutdown { deadline_ms } => {
                let host = self.host.clone();
                self.at_work.push(tokio::spawn(async move {
                    let _ = host.shutdown(ms(deadline_ms)).await;
                }));
            }
            Act::NewHost => {
                // All that holds the host goes with it.
                for begun in self.begun() {
                    begun.abort();
                }
                self.host = host(&self.census);
            }
            Act::Open(place, how) => self.service.open(place, how).await?,
            Act::Request(place, tool) => self.service.request(place, tool),
            Act::Listen(place) => self.service.listen(place),
            Act::Disconnect(place) => self.service.disconnect(place),
            Act::Delete(place) => self.service.delete(place),
            Act::Evict(place) => self.service.evict(place).await,
            Act::CloseSessions => self.service.close_sessions(),
            Act::DropSessions => self.service.drop_sessions(),
            Act::Put(place) => self.service.put(place),
            Act::Read(place) => self.service.read(place),
            Act::Take(place) => self.service.take(place),
            Act::Sweep => self.service.sweep(),
            Act::Store(mood) => self.service.store(mood),
        }
        Ok(())
    }

    fn add(&mut self, place: Place, peer: Peer, probes: bool, replaces: bool) {
        let settings = StreamSettings {
            connect_wait: ms(WAITS.connect),
            probe_wait: ms(WAITS.connect / 4),
            end_grace: ms(WAITS.end_grace),
            line_limit_bytes: LINE_LIMIT_BYTES,
            ..Default::default()
        };
        let server = &mut self.servers[place];
        let era = if probes { Era::Auto } else { Era::Initialize };
        let spec = ServerSpec::from(server.peers.server(peer, settings)).with_era(era);
        let twice = if replaces { OnDuplicate::Replace } else { OnDuplicate::Refuse };
        let (host, name) = (self.host.clone(), name(place));
        server.adds.push(tokio::spawn(async move {
            let _: Result<_, HostError> = host.add(name, spec, twice).await;
        }));
    }

    /// Everything that was begun with the host.
    fn begun(&mut self) -> Vec<JoinHandle<()>> {
        let servers = self.servers.iter_mut().flat_map(|server| {
            let rest = server.calls.drain(..).chain(server.removes.drain(..));
            server.adds.drain(..).chain(rest)
        });
        servers.chain(self.at_work.drain(..)).collect()
    }

    /// How many servers can be used.
    pub(super) fn ready(&self) -> u64 {
        let servers = self.host.servers();
        servers.iter().filter(|server| server.state == ServerState::Ready).count() as u64
    }

    /// What the census says is alive.
    pub(super) fn alive(&self) -> Vec<Alive> {
        let known = self.service.known();
        let alive = |row: &scupper_core::census::Entry| {
            let sort = match row.kind {
                Kind::Server => Sort::Server,
                Kind::Connection => Sort::Connection,
                Kind::Session => Sort::Session,
                Kind::Stream => Sort::Stream,
                Kind::Cursor => Sort::Cursor,
                Kind::Task => Sort::Task,
                _ => Sort::Other,
            };
            let name = match (sort, &*row.state) {
                (Sort::Task, "handler") => "handler".to_owned(),
                _ => known.name(&row.name),
            };
            let opened_at = format!("{}:{}", row.opened_at.file(), row.opened_at.line());
            Alive { sort, name, state: row.state.to_string(), opened_at }
        };
        self.census.rows().iter().map(alive).collect()
    }

    /// Tells everything to end, and says what did not.
    pub(super) async fn end(&mut self) -> Vec<String> {
        let shutdown = self.host.shutdown(ms(WAITS.connect)).await;
        let mut problems = Vec::new();
        if !shutdown.left.is_empty() {
            problems.push(format!("the shutdown left servers: {shutdown}"));
        }
        self.service.close_sessions();
        for begun in std::mem::take(&mut self.service.at_work) {
            let _ = begun.await;
        }
        let _ = self.service.cursors.close().await;
        tokio::time::sleep(LAST_BREATH).await;
        let mut begun = self.begun();
        begun.extend(self.service.begun());
        let stuck = begun.iter().filter(|begun| !begun.is_finished()).count();
        if stuck > 0 {
            problems.push(format!("{stuck} calls have not returned after the end of everything"));
        }
        for begun in begun {
            begun.abort();
        }
        problems
    }

    /// The mistake that was asked for.
    fn leak(&self, act: Act) {
        let row = |kind, name: String| {
            let row = self.census.enter(kind, name, LEFT, Location::caller());
            std::mem::forget(row);
        };
        match (self.leak, act) {
            (Leak::Connection, Act::Add { server, peer: Peer::DiesAt(_), .. }) => {
                row(Kind::Connection, name(server).to_string());
            }
            (Leak::Task, Act::DropAdd(_)) => drop(tokio::spawn(std::future::pending::<()>())),
            (Leak::Cursor, Act::Delete(place)) => row(Kind::Cursor, format!("session {place}")),
            (Leak::Panic, Act::Health) => drop(tokio::spawn(async { panic!("on purpose") })),
            (Leak::Server, Act::Call(place)) => {
                let (host, name) = (self.host.clone(), name(place));
                tokio::spawn(async move { host.remove(&name).await });
            }
            _ => {}
        }
    }
}

fn host(census: &Census) -> Host {
    Host::new(Settings {
        census: census.clone(),
        call_wait: ms(3000),
        catalog_wait: ms(1000),
        force_wait: ms(1000),
        ..Settings::default()
    })
}

fn name(place: Place) -> Arc<str> {
    format!("server {place}").into()
}

fn abort_latest(begun: &mut [JoinHandle<()>]) {
    if let Some(latest) = begun.iter().rev().find(|begun| !begun.is_finished()) {
        latest.abort();
    }
}
