//! The steps of a host.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::peers::{HttpServer, ServerBooks};
use super::seam::{Acting, Host, Reach, Server, Settings};
use super::stage::{Blamed, Due, Sorts, Stage, Whose};
use super::{leaky, ours};
use crate::cell::contain::{self, Handle};
use crate::cell::protocol::CaseOrder;
use crate::ledger::snapshot::ProcessId;
use crate::ledger::verdict::{Culprit, StepRef};
use crate::lifecycle::embedded::OURS;
use crate::lifecycle::scenario::keeper;
use crate::lifecycle::step::{Action, FakeSpec, MAIN, Step, Transport};
use crate::subject::server::Played;
use crate::subject::steps::raw_signal;

/// Longest time for a step that names none.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a killed process to be dead.
const DEATH: Duration = Duration::from_secs(5);
/// A turn of the runtime, and how many it is given to hear of a death: more than tasks pass it on.
const TURN: Duration = Duration::from_millis(1);
const TURNS: u32 = 10;

pub(super) fn play(
    order: &CaseOrder,
    name: &str,
    options: &BTreeMap<String, String>,
    program: &str,
) -> io::Result<Played> {
    let blamed = match name {
        OURS => Blamed {
            culprit: Culprit::Core,
            words: "the core's host",
            remedy: "mend the core: its close, drop and cancel promise to leave nothing",
        },
        _ => Blamed {
            culprit: Culprit::Client,
            words: "the host",
            remedy: "close what was opened on every path: error, removal, shutdown",
        },
    };
    let mut play = Play {
        stage: Stage::new(order, blamed)?,
        name,
        options,
        program,
        hosts: BTreeMap::new(),
        servers: BTreeMap::new(),
    };
    play.start_peers(&order.lifecycle.steps)?;
    if name == OURS {
        play.warm_up();
    }
    play.stage.take_baseline();
    play.run();
    // Peers last: what the subject left at them was to be seen.
    let Play { stage, hosts, .. } = play;
    let guard = stage.runtime.enter();
    drop(hosts);
    drop(guard);
    Ok(stage.end())
}

struct Play<'a> {
    stage: Stage<'a>,
    name: &'a str,
    options: &'a BTreeMap<String, String>,
    program: &'a str,
    hosts: BTreeMap<String, Box<dyn Host>>,
    /// HTTP servers by connection.
    servers: BTreeMap<String, HttpServer>,
}

impl Play<'_> {
    fn start_peers(&mut self, steps: &[Step]) -> io::Result<()> {
        for step in steps {
            match &step.action {
                Action::Add { transport: Transport::Http, .. }
                    if !self.servers.contains_key(&step.connection) =>
                {
                    let server = HttpServer::start(self.program)?;
                    self.stage.not_judged(server.peer.pid());
                    self.stage.books.push(Box::new(server.books(&step.connection)));
                    self.servers.insert(step.connection.clone(), server);
                }
                Action::Repeat { steps, .. } => self.start_peers(steps)?,
                Action::Concurrently { branches } => {
                    for branch in branches {
                        self.start_peers(branch)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A life of well-behaved servers that is not judged, for what is opened once and kept.
    fn warm_up(&mut self) {
        // What stands in its way stands in the way of the first step too, which says so.
        let Ok(host) = self.make(MAIN, &BTreeMap::new()) else { return };
        let plain = FakeSpec { name: "plain".into(), ..FakeSpec::default() };
        let stdio = Reach::Stdio(self.command(&plain));
        let http = self.servers.values().next().map(|server| Reach::Http(server.url.clone()));
        let reaches = [Some(stdio), http];
        let warm = self.stage.drive_within(STEP_TIMEOUT, async {
            for (index, reach) in reaches.into_iter().flatten().enumerate() {
                host.add(Server { name: format!("warm-{index}"), reach, replace: false }).await?;
            }
            host.shutdown().await
        });
        if let Err(error) = warm {
            self.stage.played.notes.push(format!("the warm-up did not come about: {error}"));
        }
        let guard = self.stage.runtime.enter();
        drop(host);
        drop(guard);
    }

    fn run(&mut self) {
        let order = self.stage.order;
        if let Err((at, message)) = self.all(&order.lifecycle.steps, "", None) {
            self.stage.failed(&at, message);
        }
        let end = StepRef { place: "end".into(), name: "end of the lifecycle".into(), cycle: None };
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        for name in names {
            let done = self.shut_down(&name);
            if let Err(message) = self.stage.drive_within(STEP_TIMEOUT, done) {
                self.stage.played.notes.push(format!("the shutdown at the end: {message}"));
            }
        }
        if !self.stage.finish_beside(STEP_TIMEOUT) {
            self.stage.failed(&end, "what went on beside the steps did not end".to_owned());
            for name in self.hosts.keys() {
                self.stage.drop_beside(name);
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
            let result = match &step.action {
                Action::Repeat { times, steps } => {
                    for cycle in 1..=*times {
                        self.all(steps, &format!("{}.", at.place), Some(cycle))?;
                    }
                    self.stage.played.cycles = times.saturating_sub(1);
                    self.stage.time(&at, began);
                    continue;
                }
                Action::Concurrently { branches } => {
                    let result = self.at_once(branches, &at);
                    self.stage.time(&at, began);
                    self.stage.look_around(&at, MAIN);
                    result
                }
                _ => {
                    let result = self.step(step);
                    self.stage.time(&at, began);
                    self.stage.look_around(&at, &step.connection);
                    result
                }
            };
            let failed = result.is_err();
            self.due(step, &at, failed);
            match (result, step.fails) {
                (Err(message), false) => return Err((at, message)),
                (Ok(()), true) => {
                    // The lifecycle goes on: what comes of it stands beside.
                    let message = "it was to be refused, and was done".to_owned();
                    self.stage.failed(&at, message);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Judges what a step has made due.
    fn due(&mut self, step: &Step, at: &StepRef, failed: bool) {
        let whose = match &step.action {
            // A server that could not be added is none.
            Action::Add { .. } if failed => Whose::Step(&step.connection),
            Action::Remove | Action::WaitFor { .. } => Whose::Connection(&step.connection),
            Action::Drop | Action::Shutdown => Whose::Keeper(&step.connection),
            _ => return,
        };
        self.stage.judge(&Due { at, whose, sorts: Sorts::All, patience: step.within });
    }

    /// Branches in lockstep: their first steps begin together, and when all are done, their second
    /// ones.
    fn at_once(&mut self, branches: &[Vec<Step>], at: &StepRef) -> Result<(), String> {
        let longest = branches.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..longest {
            let steps: Vec<&Step> =
                branches.iter().filter_map(|branch| branch.get(index)).collect();
            let mut doing: Vec<(bool, Acting)> = Vec::new();
            for step in steps {
                doing.push((step.fails, self.begin(step)?));
            }
            let results = self.stage.drive_within(STEP_TIMEOUT, async {
                let mut results: Vec<Option<Result<(), String>>> = vec![None; doing.len()];
                std::future::poll_fn(|cx| {
                    for (result, (_, one)) in results.iter_mut().zip(&mut doing) {
                        if result.is_none()
                            && let std::task::Poll::Ready(done) = one.as_mut().poll(cx)
                        {
                            *result = Some(done);
                        }
                    }
                    match results.iter().all(Option::is_some) {
                        true => std::task::Poll::Ready(()),
                        false => std::task::Poll::Pending,
                    }
                })
                .await;
                Ok(results)
            })?;
            for (result, (fails, _)) in results.into_iter().zip(&doing) {
                match (result, fails) {
                    (Some(Err(message)), false) => return Err(message),
                    (Some(Ok(())), true) => {
                        let message = "a branch was to be refused, and was done".to_owned();
                        self.stage.failed(at, message);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let name = &step.connection;
        match &step.action {
            Action::Start { options } => {
                if self.hosts.contains_key(name) {
                    return Err(format!("host {name} is up already"));
                }
                let host = self.make(name, options)?;
                self.stage.books.push(host.books());
                self.hosts.insert(name.clone(), host);
                Ok(())
            }
            Action::Drop => {
                let host = self.hosts.remove(name).ok_or(format!("host {name} is not up"))?;
                self.stage.drop_beside(name);
                let guard = self.stage.runtime.enter();
                drop(host);
                drop(guard);
                Ok(())
            }
            Action::Kill { .. } => self.signal(name, rustix::process::Signal::KILL),
            Action::Signal { signal, .. } => self.signal(name, raw_signal(*signal)),
            // What is waited for is due with the step.
            Action::WaitFor { .. } => Ok(()),
            Action::Add { wait: false, .. } | Action::Call { wait: false, .. } => {
                let doing = self.begin(step)?;
                let stream = self.stream_of(step);
                let waiting = Box::pin(async move {
                    // Whatever ends it, it has to end; that is what is asked.
                    if let (Ok(()), Some(stream)) = (doing.await, stream) {
                        stream.streaming().await;
                    }
                });
                self.stage.begin_beside(name, waiting);
                Ok(())
            }
            _ => {
                let doing = self.begin(step)?;
                let within = step.within.unwrap_or(STEP_TIMEOUT);
                self.stage.drive_within(within, doing)?;
                if let Some(stream) = self.stream_of(step) {
                    self.stage.drive(stream.streaming());
                }
                Ok(())
            }
        }
    }

    /// What a server of a connection keeps whose client may open a stream once it is added.
    fn stream_of(&self, step: &Step) -> Option<ServerBooks> {
        let Action::Add { transport: Transport::Http, .. } = step.action else { return None };
        self.servers.get(&step.connection).map(|server| server.books(&step.connection))
    }

    /// A step that takes its time.
    fn begin(&mut self, step: &Step) -> Result<Acting, String> {
        let name = &step.connection;
        let server = name.split_once('.').map_or(name.as_str(), |(_, server)| server);
        let is_whole = matches!(step.action, Action::Shutdown | Action::Health);
        let host = if is_whole { name } else { keeper(name) };
        if let Action::Shutdown = step.action {
            return Ok(Box::pin(self.shut_down(host)));
        }
        let host = self.hosts.get(host).ok_or(format!("host {host} is not up"))?;
        Ok(match &step.action {
            Action::Add { server: fake, transport, replace, .. } => {
                let reach = match transport {
                    Transport::Stdio => Reach::Stdio(self.command(fake)),
                    Transport::Http => {
                        let peer = self.servers.get(name).ok_or("no HTTP server for it")?;
                        Reach::Http(peer.url.clone())
                    }
                };
                host.add(Server { name: server.to_owned(), reach, replace: *replace })
            }
            Action::Call { tool, arguments, .. } => host.call(server, tool, arguments.clone()),
            Action::Request { method, .. } => host.request(server, method),
            Action::Remove => host.remove(server),
            Action::Health => host.health(),
            other => return Err(format!("{} cannot be done beside others", other.name())),
        })
    }

    fn shut_down(&self, host: &str) -> Acting {
        match self.hosts.get(host) {
            Some(host) => host.shutdown(),
            None => {
                let message = format!("host {host} is not up");
                Box::pin(async move { Err(message) })
            }
        }
    }

    /// Signals the server of a connection, wherever it runs.
    fn signal(&mut self, name: &str, signal: rustix::process::Signal) -> Result<(), String> {
        if let Some(server) = self.servers.get_mut(name) {
            if signal != rustix::process::Signal::KILL {
                return Err("an HTTP server can be killed and nothing else".to_owned());
            }
            server.peer.kill();
            return Ok(());
        }
        let processes = self.stage.processes_of(name);
        if processes.is_empty() {
            return Err(format!("no process of {name} is alive"));
        }
        for id in &processes {
            if let Some(handle) = Handle::open(*id) {
                handle.signal(signal).map_err(|error| error.to_string())?;
            }
        }
        if signal == rustix::process::Signal::KILL {
            self.wait_for_deaths(&processes);
        }
        Ok(())
    }

    /// On a busy host a killed process takes its time to die, and a host that is asked for its dead
    /// before has none yet. Its pipes end before it is dead, and what the host makes of that comes in
    /// the turns that its runtime is given then.
    fn wait_for_deaths(&mut self, killed: &[ProcessId]) {
        let deadline = Instant::now() + DEATH;
        while killed.iter().any(|id| contain::lives(*id)) && Instant::now() < deadline {
            self.stage.drive(async { tokio::time::sleep(TURN).await });
        }
        for _ in 0..TURNS {
            self.stage.drive(async { tokio::time::sleep(TURN).await });
        }
    }

    fn make(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Box<dyn Host>, String> {
        let mut settings = Settings { name: name.to_owned(), ..Settings::default() };
        settings.options = self.options.clone();
        settings.options.extend(options.clone());
        let guard = self.stage.runtime.enter();
        let host = match self.name {
            OURS => ours::host(&settings),
            name => leaky::host(name, settings)
                .ok_or_else(|| "there is no such host in this build".to_owned()),
        };
        drop(guard);
        host
    }

    fn command(&self, fake: &FakeSpec) -> Vec<String> {
        [vec![self.program.to_owned()], fake.arguments()].concat()
    }
}
