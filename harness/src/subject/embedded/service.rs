//! The steps of a service and its clients.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::peers::{Clients, Redis, StoreReader};
use super::seam::{Books, Service, Settings};
use super::stage::{Blamed, Due, Sorts, Stage, Whose};
use super::{leaky, ours};
use crate::cell::protocol::CaseOrder;
use crate::ledger::snapshot::{Facts, Identity};
use crate::ledger::verdict::{Culprit, StepRef};
use crate::lifecycle::embedded::OURS;
use crate::lifecycle::endpoint::{Endpoint, Wire};
use crate::lifecycle::scenario::keeper;
use crate::lifecycle::step::{Action, CURSOR, Era, HandshakePoint, Step};
use crate::peer::http::control::{Act, Order, Passing, Place, Told};
use crate::probe::store;
use crate::settle::load_per_core;
use crate::subject::server::Played;

/// Cursors that live no longer are waited for by the list that gives them.
const SHORT_TTL: Duration = Duration::from_secs(5);
/// How long the core lets the handler of a cancelled request go on.
const GRACE: Duration = Duration::from_secs(1);
/// Longest time for a step that names none.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn play(
    order: &CaseOrder,
    name: &str,
    options: &BTreeMap<String, String>,
    program: &str,
) -> io::Result<Played> {
    let blamed = match name {
        OURS => Blamed {
            culprit: Culprit::Core,
            words: "the core's sessions",
            remedy: "mend the core: every session has one end, whoever brings it about",
        },
        _ => Blamed {
            culprit: Culprit::Server,
            words: "the service",
            remedy: "end what a client began when it goes: DELETE, disconnect, idle limit, shutdown",
        },
    };
    let mut stage = Stage::new(order, blamed)?;
    let guard = stage.runtime.enter();
    let clients = Clients::start(program)?;
    drop(guard);
    stage.not_judged(clients.peer.pid());
    stage.look_at_files();
    let mut play = Play {
        stage,
        name,
        options,
        clients,
        redis: None,
        reads_redis: false,
        reader: None,
        services: BTreeMap::new(),
        up: BTreeSet::new(),
        left_out: BTreeSet::new(),
        ttls: BTreeMap::new(),
        cursors: BTreeMap::new(),
        unanswered: BTreeMap::new(),
        next_id: 0,
    };
    play.start_stores(program)?;
    if name == OURS {
        play.warm_up();
    }
    play.stage.take_baseline();
    play.run();
    let Play { stage, services, clients, .. } = play;
    let guard = stage.runtime.enter();
    drop((services, clients));
    drop(guard);
    Ok(stage.end())
}

struct Play<'a> {
    stage: Stage<'a>,
    name: &'a str,
    options: &'a BTreeMap<String, String>,
    clients: Clients,
    redis: Option<Redis>,
    reads_redis: bool,
    reader: Option<Rc<RefCell<StoreReader>>>,
    services: BTreeMap<String, Box<dyn Service>>,
    /// Those that were not shut down yet.
    up: BTreeSet<String>,
    /// Services that this host lacks something for.
    left_out: BTreeSet<String>,
    /// How long the cursors of each service live.
    ttls: BTreeMap<String, Duration>,
    /// The cursors that the last list gave, by client.
    cursors: BTreeMap<String, Vec<String>>,
    /// The latest request of each client that nobody waits for, and the step that made it.
    unanswered: BTreeMap<String, (u64, StepRef)>,
    next_id: u64,
}

/// What a second connection to a store sees.
enum StoreBooks {
    Sqlite(Rc<RefCell<StoreReader>>, PathBuf, String),
    Redis(String, String),
}

impl Books for StoreBooks {
    fn kept(&self) -> Vec<(Identity, Facts)> {
        let seen = match self {
            StoreBooks::Sqlite(reader, path, store) => {
                let thing = |id: String| {
                    let words = "a row of SQLite".to_owned();
                    let identity = Identity::Cursor { store: store.clone(), id };
                    (identity, Facts::Kept { words, opened_at: None })
                };
                let rows = reader.borrow_mut().read(path);
                rows.map(|rows| rows.into_iter().map(thing).collect())
            }
            StoreBooks::Redis(address, store) => store::redis(address, store),
        };
        seen.unwrap_or_else(|error| {
            // What cannot be read is a thing that stays, so that it cannot be overlooked.
            let id = "of a store that cannot be read".to_owned();
            let store = "a store".to_owned();
            let facts = Facts::Kept { words: error, opened_at: None };
            vec![(Identity::Cursor { store, id }, facts)]
        })
    }
}

impl Play<'_> {
    /// What the stores need that the lifecycle names: a Redis, a reader of SQLite.
    fn start_stores(&mut self, program: &str) -> io::Result<()> {
        let steps = &self.stage.order.lifecycle.steps;
        let started = steps.iter().filter_map(|step| match &step.action {
            Action::Start { options } => Some(options),
            _ => None,
        });
        let all = started.chain([self.options]);
        let stores: BTreeSet<&str> =
            all.filter_map(|options| options.get("cursors").map(String::as_str)).collect();
        if stores.contains("redis") {
            self.redis = Redis::start(&std::env::temp_dir())?;
        }
        if stores.contains("sqlite") {
            let reader = StoreReader::start(program)?;
            self.stage.not_judged(reader.peer.pid());
            self.reader = Some(Rc::new(RefCell::new(reader)));
        }
        if let Some(redis) = &self.redis {
            self.stage.not_judged(redis.peer.pid());
        }
        Ok(())
    }

    /// A life of a well-behaved client that is not judged, for what is opened once and kept.
    fn warm_up(&mut self) {
        let warm = self.one_life();
        if let Err(error) = warm {
            self.stage.played.notes.push(format!("the warm-up did not come about: {error}"));
        }
    }

    fn one_life(&mut self) -> Result<(), String> {
        const WARM: &str = "warm-up";
        let client = format!("{WARM}.client");
        self.start(WARM, &BTreeMap::new())?;
        let address = self.service(WARM)?.address();
        let done = self
            .tell(&client, open(&address)?)
            .and_then(|_| self.handshake(&client, HandshakePoint::Ready))
            .and_then(|()| self.tell(&client, Act::Delete))
            .and_then(|_| self.tell(&client, Act::Drop));
        let shutdown = self.service(WARM)?.shutdown();
        let shut = self.stage.drive_within(STEP_TIMEOUT, shutdown);
        self.up.remove(WARM);
        let service = self.services.remove(WARM);
        let guard = self.stage.runtime.enter();
        drop(service);
        drop(guard);
        self.stage.books.clear();
        done.map(drop).and(shut)
    }

    fn run(&mut self) {
        let order = self.stage.order;
        if let Err((at, message)) = self.all(&order.lifecycle.steps, "", None) {
            self.stage.failed(&at, message);
        }
        let end = StepRef { place: "end".into(), name: "end of the lifecycle".into(), cycle: None };
        let names: Vec<String> = self.up.iter().cloned().collect();
        for name in names {
            if let Err(message) = self.shut_down(&name) {
                self.stage.played.notes.push(format!("the shutdown at the end: {message}"));
            }
        }
        self.stage.judge(&Due { at: &end, whose: Whose::All, sorts: Sorts::All, patience: None });
    }

    fn all(
        &mut self,
        steps: &[Step],
        above: &str,
        cycle: Option<u32>,
    ) -> Result<(), (StepRef, String)> {
        for (index, step) in steps.iter().enumerate() {
            let place = format!("{above}{}", index + 1);
            let at = StepRef { place, name: step.action.name(), cycle };
            let began = Instant::now();
            match &step.action {
                Action::Repeat { times, steps } => {
                    for cycle in 1..=*times {
                        self.all(steps, &format!("{}.", at.place), Some(cycle))?;
                    }
                    self.stage.played.cycles = times.saturating_sub(1);
                    self.stage.time(&at, began);
                    continue;
                }
                Action::Concurrently { branches } => {
                    // Clients are told what to do one after another; what they do goes on.
                    let longest = branches.iter().map(Vec::len).max().unwrap_or(0);
                    for row in 0..longest {
                        for (number, branch) in branches.iter().enumerate() {
                            let Some(step) = branch.get(row) else { continue };
                            let above = format!("{}.{}.{}", at.place, number + 1, row);
                            self.all(std::slice::from_ref(step), &above, cycle)?;
                        }
                    }
                    self.stage.time(&at, began);
                    continue;
                }
                _ => {}
            }
            let is_whole = matches!(step.action, Action::Start { .. } | Action::Shutdown);
            let keeper = if is_whole { &step.connection } else { keeper(&step.connection) };
            if self.left_out.contains(keeper) {
                continue;
            }
            let cancelled = match step.action {
                Action::Cancel => self.unanswered.remove(&step.connection),
                _ => None,
            };
            let result = match &cancelled {
                Some((id, _)) => self.cancel(&step.connection, *id),
                None => self.step(step),
            };
            self.stage.time(&at, began);
            self.stage.look_around(&at, &step.connection);
            match cancelled {
                Some((_, call)) => self.handler_due(&call, &at, step.within),
                None => self.due(step, &at),
            }
            if let Action::Call { wait: false, .. } | Action::Request { wait: false, .. } =
                step.action
            {
                self.unanswered.insert(step.connection.clone(), (self.next_id, at.clone()));
            }
            match (result, step.fails) {
                (Err(message), false) => return Err((at, message)),
                (Ok(()), true) => {
                    let message = "it was to be refused, and was done".to_owned();
                    self.stage.failed(&at, message);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Judges what a step has made due.
    fn due(&mut self, step: &Step, at: &StepRef) {
        let name = &step.connection;
        let mut patience = step.within;
        let (whose, sorts) = match &step.action {
            // The session ends here; its client's connection may serve another.
            Action::Delete => (Whose::Connection(name), Sorts::Kept),
            // The connections end here; their session may be taken up again.
            Action::Drop | Action::Reset => (Whose::Connection(name), Sorts::Sockets),
            Action::WaitFor { .. } => {
                // The idle limit comes first.
                let bound = self.stage.order.patience.under_load(load_per_core());
                patience = patience.or(Some(bound));
                (Whose::Connection(name), Sorts::All)
            }
            Action::Shutdown => (Whose::Keeper(name), Sorts::All),
            Action::ListAll { .. } => {
                let Some(ttl) = self.short_ttl(keeper(name)) else { return };
                let bound = self.stage.order.patience.under_load(load_per_core());
                patience = patience.or(Some(ttl + bound));
                (Whose::Step(name), Sorts::Cursors)
            }
            _ => return,
        };
        self.stage.judge(&Due { at, whose, sorts, patience });
    }

    /// The handler of a request that was cancelled may go on for its grace, and not for as long as
    /// its session.
    fn handler_due(&mut self, call: &StepRef, at: &StepRef, within: Option<Duration>) {
        let bound = self.stage.order.patience.under_load(load_per_core());
        let patience = within.or(Some(GRACE + bound));
        self.stage.judge(&Due { at, whose: Whose::Born(call), sorts: Sorts::Handlers, patience });
    }

    /// How long the cursors of a service live, where that can be waited for.
    fn short_ttl(&self, name: &str) -> Option<Duration> {
        self.ttls.get(name).copied().filter(|ttl| *ttl <= SHORT_TTL)
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let name = step.connection.as_str();
        match &step.action {
            Action::Start { options } => self.start(name, options),
            Action::Shutdown => self.shut_down(name),
            Action::Open => {
                let address = self.service(keeper(name))?.address();
                self.tell(name, open(&address)?).map(drop)
            }
            Action::Handshake { until } => self.handshake(name, *until),
            Action::Call { tool, arguments, wait } => {
                let params = json!({ "name": tool, "arguments": arguments });
                self.ask(name, "tools/call", params, *wait).map(drop)
            }
            Action::Request { method, params, wait } => {
                let params = self.with_cursor(name, params.clone());
                self.ask(name, method, params, *wait).map(drop)
            }
            Action::ListAll { method, pages } => self.list_all(name, method, *pages),
            Action::Listen => self.tell(name, Act::Listen { subscribe: None }).map(drop),
            Action::Delete => self.tell(name, Act::Delete).map(drop),
            Action::Drop => self.tell(name, Act::Drop).map(drop),
            Action::Reset => self.tell(name, Act::Reset).map(drop),
            Action::Silence => self.tell(name, Act::Silence).map(drop),
            Action::WaitFor { .. } => Ok(()),
            Action::Cancel => Err("no request of this client is without an answer".to_owned()),
            other => Err(format!("a service has no such step as {}", other.name())),
        }
    }

    fn start(&mut self, name: &str, options: &BTreeMap<String, String>) -> Result<(), String> {
        let mut settings = Settings { name: name.to_owned(), ..Settings::default() };
        settings.options = self.options.clone();
        settings.options.extend(options.clone());
        settings.sqlite = std::env::temp_dir().join(format!("{name}.sqlite"));
        settings.redis = self.redis.as_ref().map(|redis| redis.address.clone());
        let store = settings.text("cursors").to_owned();
        self.ttls.insert(name.to_owned(), settings.duration("cursor-ttl"));
        match (store.as_str(), &settings.redis) {
            ("redis", None) => {
                self.left_out.insert(name.to_owned());
                let note = "cursors in Redis were not judged: there is no redis-server on PATH; \
                            ci/setup installs it";
                self.stage.played.notes.push(note.to_owned());
                return Ok(());
            }
            // There is one Redis for all services, and it is read once.
            ("redis", Some(address)) if !self.reads_redis => {
                let books = StoreBooks::Redis(address.clone(), "redis".to_owned());
                self.stage.books.push(Box::new(books));
                self.reads_redis = true;
            }
            ("sqlite", _) => {
                let store = format!("sqlite of {name}");
                let reader = self.reader.as_ref().ok_or("no reader of stores was started")?;
                let path = settings.sqlite.clone();
                let books = StoreBooks::Sqlite(Rc::clone(reader), path, store);
                self.stage.books.push(Box::new(books));
            }
            _ => {}
        }
        let starting = match self.name {
            OURS => ours::service(settings),
            name => leaky::service(name, settings),
        };
        let service = self.stage.drive_within(STEP_TIMEOUT, starting)?;
        self.stage.books.push(service.books());
        self.services.insert(name.to_owned(), service);
        self.up.insert(name.to_owned());
        Ok(())
    }

    fn shut_down(&mut self, name: &str) -> Result<(), String> {
        let shutdown = self.service(name)?.shutdown();
        self.up.remove(name);
        self.stage.drive_within(STEP_TIMEOUT, shutdown)
    }

    fn service(&self, name: &str) -> Result<&dyn Service, String> {
        let service = self.services.get(name).map(Box::as_ref);
        service.ok_or_else(|| format!("service {name} is not up"))
    }

    fn handshake(&mut self, name: &str, until: HandshakePoint) -> Result<(), String> {
        let params = json!({
            "protocolVersion": Era::Legacy.revision(),
            "capabilities": {},
            "clientInfo": {"name": "scupper", "version": env!("CARGO_PKG_VERSION")},
        });
        self.ask(name, "initialize", params, until != HandshakePoint::Sent)?;
        if until == HandshakePoint::Ready {
            let message = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            self.tell(name, Act::Post { message, wait: true })?;
        }
        self.stage.played.era = Some(Era::Legacy);
        Ok(())
    }

    /// A list, page after page. The last cursor is remembered.
    fn list_all(&mut self, name: &str, method: &str, pages: u32) -> Result<(), String> {
        let mut cursor = None;
        self.cursors.insert(name.to_owned(), Vec::new());
        for _ in 0..pages {
            let params = match &cursor {
                Some(cursor) => json!({ "cursor": cursor }),
                None => json!({}),
            };
            let answer = self.ask(name, method, params, true)?;
            let next = answer.pointer("/result/nextCursor").and_then(Value::as_str);
            let Some(next) = next else { return Ok(()) };
            cursor = Some(next.to_owned());
            self.cursors.entry(name.to_owned()).or_default().push(next.to_owned());
        }
        Ok(())
    }

    /// `{cursor}` is the last one of this client's last list, `{cursor 2}` its second.
    fn with_cursor(&self, name: &str, mut params: Value) -> Value {
        let known = self.cursors.get(name).map(Vec::as_slice).unwrap_or_default();
        let Some(value) = params.get_mut("cursor") else { return params };
        let wanted = value.as_str().unwrap_or_default();
        let number = wanted.strip_prefix("{cursor ").and_then(|rest| rest.strip_suffix('}'));
        let number = number.and_then(|digits| digits.parse::<usize>().ok());
        let found = match number {
            Some(number) => known.get(number.wrapping_sub(1)),
            None if wanted == CURSOR => known.last(),
            None => None,
        };
        if let Some(found) = found {
            *value = found.as_str().into();
        }
        params
    }

    fn ask(
        &mut self,
        name: &str,
        method: &str,
        params: Value,
        wait: bool,
    ) -> Result<Value, String> {
        self.next_id += 1;
        let params = if params.is_null() { json!({}) } else { params };
        let message = json!({
            "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params,
        });
        let told = self.tell(name, Act::Post { message, wait })?;
        let answer = told.answer.unwrap_or_default();
        match answer.get("error") {
            Some(error) => Err(format!("{method} was answered with an error: {error}")),
            None if wait && answer.is_null() => Err(format!("{method} was not answered")),
            None => Ok(answer),
        }
    }

    fn cancel(&mut self, name: &str, id: u64) -> Result<(), String> {
        let message = json!({
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id },
        });
        self.tell(name, Act::Post { message, wait: true }).map(drop)
    }

    fn tell(&mut self, name: &str, act: Act) -> Result<Told, String> {
        let within = STEP_TIMEOUT;
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let order = Order { client: name.to_owned(), act, within_ms };
        let clients = &mut self.clients;
        // The client gives up first.
        self.stage.drive_within(within * 2, clients.obey(&order))
    }
}

/// The order to connect to a service at `127.0.0.1:PORT`.
fn open(address: &str) -> Result<Act, String> {
    let endpoint =
        Endpoint::parse(&format!("http://{address}/mcp")).map_err(|error| error.to_string())?;
    let place = Place { endpoint, wire: Wire::Streamable, era: Era::Legacy, headers: Vec::new() };
    Ok(Act::Open { place, passing: Passing::All })
}
