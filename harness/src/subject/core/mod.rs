//! Plays a lifecycle with our own core as the client, inside the cell's own process, and looks at
//! that process after every step: descriptors, children, threads, tasks, and what the census says.
//!
//! Every lifecycle is played in both topologies: with the cell as child subreaper, so that orphans
//! come to the host of the core, and without, as most hosts run it, where they go elsewhere. A life
//! of a well-behaved server is thrown away before the baseline, for what tokio opens once and keeps.
//! With `--torture` it is played again for every poll of its steps, see `polls`.

mod judge;
mod polls;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use rmcp::model::{CallToolRequestParams, ClientRequest, PingRequest};
use rmcp::service::RunningService;
use rmcp::{Peer, RoleClient, ServiceExt};
use rustix::process::{Pid, set_child_subreaper};
use scupper_core::census::Census;
use scupper_core::lifecycle::State;
use scupper_core::process::Command;
use scupper_core::stdio::{StdioHandle, StdioServer, StdioTransport};

use super::children::Children;
use super::embedded::CensusBooks;
use super::server::{Played, millis};
use crate::cell::contain::{self, Handle};
use crate::cell::protocol::{CaseOrder, SweepOrder};
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{Identity, Kind, ProcessId};
use crate::ledger::verdict::{Failure, StepRef, StepTiming};
use crate::lifecycle::step::{Action, Condition, Era, HandshakePoint, Signal, Step, Whom};
use crate::probe::task::TaskTable;
use crate::probe::{Root, Scanner, Sight};

/// How long a look waits for two equal scans.
const LOOK: Duration = Duration::from_secs(1);
/// How long tasks and descriptors may take to be released once the core says that it is done:
/// tokio wakes a joiner before it lets go of the task.
const RELEASE: Duration = Duration::from_secs(2);
/// The same for a connection whose close was dropped: what is left is killed on the spot.
const CUT_OFF: Duration = Duration::from_secs(10);
/// Longest time for a step that names none.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Plays the lifecycle in both topologies. `server` is the command line of the peer, `warm_up` that
/// of a well-behaved one.
pub fn play(order: &CaseOrder, server: &[String], warm_up: &[String]) -> io::Result<Played> {
    let mut played = Played::default();
    let mut outcomes = polls::Outcomes::default();
    for subreaper in [true, false] {
        let holder = subreaper.then(|| Pid::from_raw(contain::own_pid())).flatten();
        set_child_subreaper(holder)?;
        let topology =
            if subreaper { "as a child subreaper" } else { "with another process as subreaper" };
        let mut one = Play::new(order, server)?;
        one.warm_up(warm_up);
        one.run(topology);
        let polled = std::mem::take(&mut one.polls);
        merge(&mut played, one.end());
        if let Some(SweepOrder::Polls { shallow }) = order.sweep {
            let cut = |place: &str, after| {
                let mut life = Play::new(order, server)?;
                life.polls = polls::Polls::cut(place, after);
                life.warm_up(warm_up);
                life.run(topology);
                Ok((std::mem::take(&mut life.polls), life.end()))
            };
            outcomes.cut_all(&polled, shallow, &mut played, cut)?;
        }
    }
    outcomes.tell(order, &mut played);
    // The cell ends what is left by hand, for which orphans have to come to it.
    set_child_subreaper(Pid::from_raw(contain::own_pid()))?;
    Ok(played)
}

/// The second topology adds what the first did not show.
pub(super) fn merge(all: &mut Played, one: Played) {
    for finding in one.findings {
        let known = all.findings.iter().any(|other| {
            (other.kind, &other.birth_step, &other.due_step)
                == (finding.kind, &finding.birth_step, &finding.due_step)
        });
        if !known {
            all.findings.push(finding);
        }
    }
    all.failure = all.failure.take().or(one.failure);
    all.unreadable.extend(one.unreadable);
    if all.steps.is_empty() {
        all.steps = one.steps;
        all.lives = one.lives;
    }
    for (name, figure) in one.figures {
        let known = all.figures.entry(name).or_insert(figure);
        *known = known.max(figure);
    }
    for note in one.notes {
        if !all.notes.contains(&note) {
            all.notes.push(note);
        }
    }
    all.cycles = all.cycles.max(one.cycles);
    all.era = all.era.or(one.era);
}

struct Play<'a> {
    order: &'a CaseOrder,
    server: &'a [String],
    runtime: tokio::runtime::Runtime,
    tasks: TaskTable,
    census: CensusBooks,
    children: Children,
    scanner: Scanner,
    own: Sight,
    below: Sight,
    ledger: Ledger,
    baseline: BTreeSet<Identity>,
    connections: BTreeMap<String, Connection>,
    servers: BTreeSet<ProcessId>,
    handles: Vec<StdioHandle>,
    /// Whose close was dropped half way: that alone has to end them.
    cut_off: Vec<Connection>,
    begun: Instant,
    polls: polls::Polls,
    played: Played,
}

/// A connection of the core's.
struct Connection {
    handle: StdioHandle,
    transport: Option<StdioTransport>,
    client: Option<RunningService<RoleClient, ()>>,
    calls: Vec<tokio::task::JoinHandle<()>>,
    server: ProcessId,
}

type Acted = Result<(), String>;

impl<'a> Play<'a> {
    fn new(order: &'a CaseOrder, server: &'a [String]) -> io::Result<Self> {
        let tasks = TaskTable::new();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all();
        tasks.install(&mut builder);
        let me = contain::own_pid();
        let sentinel = rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
        let sight = |root, ours, kinds: &[Kind]| Sight {
            root,
            ours,
            temp_dir: None,
            kinds: kinds.iter().copied().collect(),
        };
        Ok(Self {
            order,
            server,
            runtime: builder.build()?,
            tasks,
            census: CensusBooks { census: Census::new(), keeper: "the core".to_owned() },
            children: Children::default(),
            scanner: Scanner::new(),
            own: sight(Root::Itself, BTreeSet::new(), &[Kind::Fd, Kind::Thread]),
            // The sentinel's descendants are the cell's, and in either topology its orphans.
            below: sight(
                Root::Descendants(sentinel),
                BTreeSet::from([me]),
                &[Kind::Process, Kind::Zombie],
            ),
            ledger: Ledger::default(),
            baseline: BTreeSet::new(),
            connections: BTreeMap::new(),
            servers: BTreeSet::new(),
            handles: Vec::new(),
            cut_off: Vec::new(),
            begun: Instant::now(),
            polls: polls::Polls::default(),
            played: Played::default(),
        })
    }

    /// A life that is not judged.
    fn warm_up(&mut self, server: &[String]) {
        let [program, arguments @ ..] = server else { return };
        let server = StdioServer::new(Command::new(program).args(arguments));
        let (runtime, census) = (&self.runtime, &self.census.census);
        let warm = runtime.block_on(async {
            let client = server.connect((), census).await.map_err(|error| error.to_string())?;
            let _ = client.close().await;
            Ok::<(), String>(())
        });
        if let Err(error) = warm {
            self.played.notes.push(format!("the warm-up did not come about: {error}"));
        }
    }

    fn run(&mut self, topology: &str) {
        let before =
            StepRef { place: "0".into(), name: "before the first step".into(), cycle: None };
        self.look(&before);
        self.baseline = self.ledger.last().things.keys().cloned().collect();
        let steps = &self.order.lifecycle.steps;
        let failed = self.play_all(steps, "", None).err();
        let end = StepRef { place: "end".into(), name: "end of the lifecycle".into(), cycle: None };
        // A step that was cut off has not failed; the life ends there.
        if let (Some((step, message)), None) = (failed, self.polls.struck()) {
            self.played.failure = Some(Failure {
                step,
                message: format!("{message} ({topology})"),
                output: self.last_words(),
                not_started: false,
                refused: false,
            });
        }
        let open: Vec<String> = self.connections.keys().cloned().collect();
        for name in open {
            let _ = self.close(&name);
        }
        if let Err((step, message)) = self.wait_for_cut_off() {
            let message = format!("{message} ({topology})");
            self.played.failure = Some(Failure {
                step,
                message,
                output: self.census.census.to_string().lines().map(str::to_owned).collect(),
                not_started: false,
                refused: false,
            });
        }
        let cut_off = std::mem::take(&mut self.cut_off);
        if self.played.failure.is_none() {
            self.runtime.block_on(async { drop(cut_off) });
            self.judge(&end, topology);
        } else {
            self.judge(&end, topology);
            self.runtime.block_on(async { drop(cut_off) });
        }
    }

    /// What was seen. A thread of the runtime that is stuck was seen, and is left behind.
    fn end(mut self) -> Played {
        self.played.lives.take_in(self.ledger.lives(&self.played.findings));
        self.runtime.shutdown_timeout(RELEASE);
        self.played
    }

    /// Where a future was dropped, rmcp may close what it was about in the background, by the ladder,
    /// on a runtime that lives on; as after a drop of the client.
    fn wait_for_cut_off(&mut self) -> Result<(), (StepRef, String)> {
        let Some((step, _)) = self.polls.struck() else { return Ok(()) };
        let step = step.clone();
        // The end of a close that is dropped is none that anybody waits for.
        let patience = if self.cut_off.is_empty() { STEP_TIMEOUT } else { CUT_OFF };
        for handle in std::mem::take(&mut self.handles) {
            let closed = self
                .runtime
                .block_on(async { tokio::time::timeout(patience, handle.closed()).await.is_ok() });
            if !closed {
                return Err((step, "a connection whose step was cut off did not end".to_owned()));
            }
        }
        Ok(())
    }

    fn play_all(
        &mut self,
        steps: &[Step],
        above: &str,
        cycle: Option<u32>,
    ) -> Result<(), (StepRef, String)> {
        for (index, step) in steps.iter().enumerate() {
            let place = format!("{above}{}", index + 1);
            let at = StepRef { place, name: step.action.name(), cycle };
            let began = Instant::now();
            let result = match &step.action {
                Action::Repeat { times, steps } => {
                    for cycle in 1..=*times {
                        self.play_all(steps, &format!("{}.", at.place), Some(cycle))?;
                    }
                    self.played.cycles = times.saturating_sub(1);
                    Ok(())
                }
                Action::Concurrently { branches } => {
                    // The core's own concurrency is a shutdown's; branches go one after the other.
                    for (number, branch) in branches.iter().enumerate() {
                        let above = format!("{}.{}.", at.place, number + 1);
                        self.play_all(branch, &above, cycle)?;
                    }
                    Ok(())
                }
                action => {
                    self.polls.begin(&at);
                    self.act(&step.connection, action)
                }
            };
            self.time(&at, began);
            self.look(&at);
            result.map_err(|message| (at, message))?;
        }
        Ok(())
    }

    fn act(&mut self, name: &str, action: &Action) -> Acted {
        match action {
            Action::Open => self.open(name),
            Action::Handshake { until: HandshakePoint::Ready } => self.handshake(name),
            Action::Call { tool, arguments, wait } => {
                let mut params = CallToolRequestParams::new(tool.clone());
                if let Some(arguments) = arguments.as_object() {
                    params = params.with_arguments(arguments.clone());
                }
                let call = move |peer: Peer<RoleClient>| async move {
                    peer.call_tool(params).await.map(drop).map_err(|error| error.to_string())
                };
                self.ask(name, *wait, call)
            }
            Action::Request { method, wait, .. } if method == "tools/list" => {
                self.ask(name, *wait, |peer: Peer<RoleClient>| async move {
                    peer.list_all_tools().await.map(drop).map_err(|error| error.to_string())
                })
            }
            Action::Request { method, wait, .. } if method == "ping" => {
                self.ask(name, *wait, |peer: Peer<RoleClient>| async move {
                    let ping = ClientRequest::PingRequest(PingRequest::default());
                    peer.send_request(ping).await.map(drop).map_err(|error| error.to_string())
                })
            }
            Action::Cancel => {
                if let Some(call) = self.connection(name)?.calls.pop() {
                    call.abort();
                }
                Ok(())
            }
            Action::Close => self.close(name),
            Action::Drop => self.drop_without_close(name),
            Action::Shutdown => self.shutdown(),
            Action::Kill { whom: Whom::Server } => self.signal(name, rustix::process::Signal::KILL),
            Action::Signal { signal, whom: Whom::Server } => self.signal(name, raw(*signal)),
            Action::WaitFor { condition: Condition::Exited | Condition::Gone } => {
                let handle = self.connection(name)?.handle.clone();
                let closed = self.polls.drive(&self.runtime, async {
                    tokio::time::timeout(STEP_TIMEOUT, handle.closed()).await.is_ok()
                })?;
                if closed { Ok(()) } else { Err("the connection did not end in time".into()) }
            }
            other => Err(format!(
                "the core has no such step as {}; it has open, handshake, call, request tools/list \
                 or ping, cancel, close, drop, kill server, signal server, wait-for exited, shutdown",
                other.name()
            )),
        }
    }

    fn open(&mut self, name: &str) -> Acted {
        let [program, arguments @ ..] = self.server else { return Err("no command".into()) };
        let server = StdioServer::new(Command::new(program).args(arguments)).named(name);
        let census = &self.census.census;
        let (transport, handle) = self
            .runtime
            .block_on(async { server.spawn(census) })
            .map_err(|error| error.to_string())?;
        let process = handle.process();
        let server = ProcessId { pid: process.pid, start_time: process.start_time_ticks };
        self.servers.insert(server);
        if self.polls.cuts() {
            self.handles.push(handle.clone());
        }
        let connection = Connection {
            handle,
            transport: Some(transport),
            client: None,
            calls: Vec::new(),
            server,
        };
        if self.connections.insert(name.to_owned(), connection).is_some() {
            return Err(format!("connection {name} was open already"));
        }
        Ok(())
    }

    fn handshake(&mut self, name: &str) -> Acted {
        let transport = self.connection(name)?.transport.take();
        let transport = transport.ok_or("the handshake was made already")?;
        let shaking = async { tokio::time::timeout(STEP_TIMEOUT, ().serve(transport)).await };
        let client = self.polls.drive(&self.runtime, shaking)?;
        let client = client
            .map_err(|_| "the handshake took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        self.connection(name)?.client = Some(client);
        // rmcp makes the handshake of 2025-11-25 unless told otherwise.
        self.played.era = Some(Era::Legacy);
        Ok(())
    }

    fn ask<A>(&mut self, name: &str, wait: bool, ask: impl FnOnce(Peer<RoleClient>) -> A) -> Acted
    where
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        let connection = self.connection(name)?;
        let client = connection.client.as_ref().ok_or("there was no handshake")?;
        let asked = ask(client.peer().clone());
        if wait {
            let asked = async { tokio::time::timeout(STEP_TIMEOUT, asked).await };
            let answered = self.polls.drive(&self.runtime, asked)?;
            return answered.map_err(|_| "no answer in time".to_owned())?;
        }
        // A host's own task with a call in flight; it has to end with the connection.
        let call = self.runtime.spawn(async move {
            let _ = asked.await;
        });
        // The request has to be on its way before the next step.
        self.runtime.block_on(tokio::task::yield_now());
        self.connection(name)?.calls.push(call);
        Ok(())
    }

    fn close(&mut self, name: &str) -> Acted {
        let mut connection =
            self.connections.remove(name).ok_or(format!("connection {name} is not open"))?;
        match self.polls.drive(&self.runtime, close(&mut connection)) {
            Ok(teardown) => self.note_teardown(&teardown),
            Err(cut) => {
                // A close that was never polled has ended nothing.
                if matches!(connection.handle.state(), State::Closing | State::Closed) {
                    self.cut_off.push(connection);
                }
                Err(cut)
            }
        }
    }

    fn shutdown(&mut self) -> Acted {
        let all: Vec<Connection> = std::mem::take(&mut self.connections).into_values().collect();
        let closing = async {
            let close = |mut one| async move { close(&mut one).await };
            let closing: tokio::task::JoinSet<_> = all.into_iter().map(close).collect();
            closing.join_all().await
        };
        let teardowns = self.polls.drive(&self.runtime, closing)?;
        for teardown in teardowns {
            self.note_teardown(&teardown)?;
        }
        Ok(())
    }

    fn note_teardown(&mut self, teardown: &scupper_core::stdio::Teardown) -> Acted {
        let figure = self.played.figures.entry("teardown_ms".into()).or_insert(0.0);
        *figure = figure.max(millis(teardown.took));
        if !teardown.swept.is_empty() {
            self.played.notes.push(format!(
                "the core swept {} helper process(es) that the server had left in its group",
                teardown.swept.len()
            ));
        }
        if teardown.is_complete() { Ok(()) } else { Err(teardown.to_string()) }
    }

    fn drop_without_close(&mut self, name: &str) -> Acted {
        let connection =
            self.connections.remove(name).ok_or(format!("connection {name} is not open"))?;
        for call in &connection.calls {
            call.abort();
        }
        let Connection { handle, transport, client, .. } = connection;
        let served = client.is_some();
        let guard = self.runtime.enter();
        drop((transport, client));
        drop(guard);
        if served {
            // rmcp's service task owns the transport and closes it, on a runtime that lives on.
            let closed = self.runtime.block_on(async {
                tokio::time::timeout(STEP_TIMEOUT, handle.closed()).await.is_ok()
            });
            return if closed { Ok(()) } else { Err("the drop did not end the server".into()) };
        }
        Ok(())
    }

    fn signal(&mut self, name: &str, signal: rustix::process::Signal) -> Acted {
        let server = self.connection(name)?.server;
        match Handle::open(server) {
            Some(handle) => handle.signal(signal).map_err(|error| error.to_string()),
            None => Err("the server is gone already".into()),
        }
    }

    fn connection(&mut self, name: &str) -> Result<&mut Connection, String> {
        self.connections.get_mut(name).ok_or_else(|| format!("connection {name} is not open"))
    }

    fn last_words(&self) -> Vec<String> {
        self.connections
            .values()
            .flat_map(|connection| connection.handle.stderr_tail().lines)
            .map(|line| format!("stderr: {line}"))
            .collect()
    }

    fn time(&mut self, at: &StepRef, began: Instant) {
        let took_ms = millis(began.elapsed());
        match self.played.steps.iter_mut().find(|timing| timing.step.place == at.place) {
            Some(timing) => timing.took_ms += took_ms,
            None => self.played.steps.push(StepTiming {
                step: StepRef { cycle: None, ..at.clone() },
                at_ms: millis(began.saturating_duration_since(self.begun)),
                took_ms,
            }),
        }
    }
}

/// Closes one connection the way a host does: the ladder, then what is left of the protocol.
async fn close(connection: &mut Connection) -> scupper_core::stdio::Teardown {
    let teardown = connection.handle.close().await;
    if let Some(client) = connection.client.take() {
        // The transport is closed, so the service ends by itself.
        let _ = client.waiting().await;
    }
    for call in connection.calls.drain(..) {
        // Its answer cannot come any more; the call has to know.
        let _ = call.await;
    }
    teardown
}

fn raw(signal: Signal) -> rustix::process::Signal {
    super::steps::raw_signal(signal)
}
