//! What a client has left, and whose fault that is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::super::finding::{command, counted};
use super::super::server::{FIRM_LOOK, millis};
use super::Play;
use super::servers::Server;
use crate::cell::contain;
use crate::ledger::abandoned::{self, Departure, Judgement, Stay};
use crate::ledger::snapshot::{Identity, Kind, ProcessFacts, ProcessId};
use crate::ledger::verdict::{Finding, Holder, StepRef};
use crate::lifecycle::client::Deed;
use crate::lifecycle::step::Era;
use crate::probe::holder::{self, Holders};
use crate::settle::{Settled, awaited, settle_processes};

/// Lines of evidence for what lives with a survivor.
const LINES: usize = 3;

/// What a finding is about.
pub(super) struct Thing<'a> {
    pub(super) kind: Kind,
    pub(super) what: String,
    pub(super) identities: Vec<Identity>,
    pub(super) birth: StepRef,
    pub(super) due: &'a StepRef,
    pub(super) evidence: Vec<String>,
    pub(super) holders: Holders,
}

impl Thing<'_> {
    pub(super) fn found(self, judged: Judgement) -> Finding {
        Finding {
            class: judged.class,
            kind: self.kind,
            what: self.what,
            count: self.identities.len(),
            identities: self.identities.into_iter().take(Finding::IDENTITIES).collect(),
            birth_step: self.birth,
            due_step: self.due.clone(),
            culprit: judged.culprit,
            blame: judged.blame,
            rule: judged.rule.map(str::to_owned),
            hurts: judged.hurts.to_owned(),
            site: None,
            holders: self.holders.holders,
            holders_unread: self.holders.unread,
            evidence: self.evidence,
            remedy: judged.remedy.to_owned(),
        }
    }
}

impl Play<'_> {
    pub(super) fn name_of(&self, number: usize) -> String {
        match self.script.script.servers.len() {
            0 | 1 => "the server".to_owned(),
            _ => format!("server {}", number + 1),
        }
    }

    /// The client lives on and does nothing more. What it has given up is due, and so are its dead.
    pub(super) fn judge_rest(&mut self, at: &StepRef) {
        self.look_for(at, FIRM_LOOK);
        let alive = self.alive();
        let ended: Vec<ProcessId> = self
            .servers
            .iter()
            .filter(|server| server.stdin_ended.is_some() || !server.signals.is_empty())
            .filter_map(|server| server.id)
            .filter(|id| alive.get(id).is_some_and(|facts| !facts.is_zombie()))
            .collect();
        for id in ended {
            self.judge_server(id, at, Departure::AtRest, &alive);
        }
        self.tell_kept_pipes();
        let ours: BTreeSet<i32> =
            self.servers.iter().filter_map(|server| server.id).map(|id| id.pid).collect();
        let dead: Vec<Identity> = alive
            .iter()
            .filter(|(_, facts)| facts.is_zombie() && !ours.contains(&facts.parent))
            .map(|(id, _)| Identity::Process(*id))
            .collect();
        let Some(first) = dead.first() else { return };
        let evidence = dead.iter().take(LINES).map(|one| {
            let Identity::Process(id) = one else { return String::new() };
            let parent = alive.get(id).map_or(0, |facts| facts.parent);
            format!("pid {} ({}), child of pid {parent}", id.pid, self.words(*id))
        });
        let evidence: Vec<String> = evidence.collect();
        // A server has told of its birth; a look may have seen it a step earlier.
        let told = |one: &Server| one.id.map(Identity::Process).as_ref() == Some(first);
        let told = self.servers.iter().find(|one| told(one)).map(|one| one.born.clone());
        let birth = told.or_else(|| self.ledger.birth(first).cloned());
        let birth = birth.unwrap_or_else(|| at.clone());
        let what = match dead.len() {
            1 => "a dead server that the client has not reaped".to_owned(),
            many => format!("{many} dead servers that the client has not reaped"),
        };
        let thing = Thing {
            kind: Kind::Zombie,
            what,
            identities: dead,
            birth,
            due: at,
            evidence,
            holders: Holders::default(),
        };
        self.played.findings.push(thing.found(abandoned::zombie()));
    }

    /// The client was told to end, and stays.
    pub(super) fn judge_client(&mut self, at: &StepRef) {
        let Some(client) = &self.client else { return };
        let id = client.id;
        let open = self
            .servers
            .iter()
            .filter(|server| server.stdin_ended.is_none() && server.gone.is_none());
        let judged = match self.service.as_ref().map(|service| service.open()) {
            Some((streams, in_flight)) => abandoned::http::client("SIGTERM", streams, in_flight),
            None => abandoned::client("SIGTERM", open.count()),
        };
        let waited = self.last_news.elapsed().as_secs_f64();
        let living = self.servers.iter().filter(|server| server.gone.is_none());
        let living = living.filter_map(|server| server.id);
        let mut evidence = vec![format!("still alive {waited:.1} s later")];
        evidence.extend(
            living.take(LINES).map(|id| format!("with it: pid {} ({})", id.pid, self.words(id))),
        );
        let identity = Identity::Process(id);
        let thing = Thing {
            kind: Kind::Process,
            what: format!("the client, pid {} ({})", id.pid, command(&self.ledger, id)),
            birth: self.ledger.birth(&identity).cloned().unwrap_or_else(|| at.clone()),
            identities: vec![identity],
            due: at,
            evidence,
            holders: Holders::default(),
        };
        self.played.findings.push(thing.found(judged));
        self.blamed.insert(id);
    }

    /// All of its servers are dead, and the client, which ended by itself after a good life, stays.
    pub(super) fn judge_waiting(&mut self, at: &StepRef) {
        let Some(id) = self.client.as_ref().map(|client| client.id) else { return };
        let waited = self.last_news.elapsed().as_secs_f64();
        let mut evidence =
            vec![format!("still alive {waited:.1} s after the last news of a server")];
        let dead = self.servers.iter().rev().take(LINES);
        evidence.extend(dead.map(|server| {
            let pid = server.id.map(|id| format!(", pid {}", id.pid)).unwrap_or_default();
            format!("{}{pid} (fake {}) is dead", self.name_of(server.number), server.fake)
        }));
        let what = "the client, which waits for a server that is dead";
        let thing = self.process(id, what, at, evidence);
        let judged = abandoned::waiting(self.is_in_flight().then(|| self.era()));
        self.played.findings.push(thing.found(judged));
    }

    /// The client is gone. Waits until all that it started is gone too, and judges what is not.
    pub(super) fn judge_what_is_left(&mut self, due: &StepRef) {
        let began = Instant::now();
        let patience = self.patience();
        let settled = settle_processes(patience, || {
            let blamed = self.blamed.clone();
            awaited(self.alive().keys().filter(|id| !blamed.contains(id)))
        });
        if settled == Settled::Quiet {
            let took = millis(began.elapsed());
            self.played.figures.insert("drained_after_due_ms".into(), took);
            self.learned.exit_ms = Some(self.learned.exit_ms.unwrap_or(0).max(took as u64));
            return;
        }
        self.look_for(due, FIRM_LOOK);
        let alive = self.alive();
        let servers: Vec<ProcessId> = self.servers.iter().filter_map(|server| server.id).collect();
        for id in servers.iter().filter(|id| alive.contains_key(id)) {
            self.judge_server(*id, due, self.departure, &alive);
        }
        let mut rest: Vec<ProcessId> =
            alive.keys().copied().filter(|id| !self.blamed.contains(id)).collect();
        rest.sort_by_key(|id| (id.start_time, id.pid));
        for id in rest {
            if !self.blamed.contains(&id) {
                self.judge_other(id, &servers, due, &alive);
            }
        }
    }

    /// A server that lives, with all that lives because of it.
    fn judge_server(
        &mut self,
        id: ProcessId,
        due: &StepRef,
        departure: Departure,
        alive: &BTreeMap<ProcessId, ProcessFacts>,
    ) {
        let known = self.servers.iter().position(|server| server.id == Some(id));
        let (Some(place), true) = (known, self.blamed.insert(id)) else { return };
        let ancestors: Vec<ProcessId> = self.ledger.ancestors(id).collect();
        let writers = self.writers(place);
        // The real client behind a launcher: it has the server, and the launcher has left it.
        let client = self.client.as_ref().map(|client| client.id);
        let behind = writers.holders.iter().find_map(|holder| {
            ancestors.iter().find(|one| one.pid == holder.pid && Some(**one) != client).copied()
        });
        if let (Some(real), true) = (behind, departure != Departure::AtRest) {
            self.judge_behind_launcher(real, due, alive);
            return;
        }
        let server = &self.servers[place];
        let signals: Vec<String> = server.signals.iter().map(|(name, _)| name.clone()).collect();
        let parent = server.parent.filter(|parent| Some(*parent) != client);
        let stay = Stay {
            departure,
            stdin_ended: server.stdin_ended.is_some(),
            signals: &signals,
            writers: &writers.holders,
            writers_unread: writers.unread,
            wrapper: parent.map(|parent| (parent, !alive.contains_key(&parent))),
            era: self.era(),
        };
        let judged = abandoned::server(&stay);
        let mut evidence = vec![format!("still alive {} later", self.waited())];
        evidence.push(match server.ladder_words() {
            Some(words) => format!("what reached it: {words}"),
            None => "nothing reached it: no end of stdin, no signal".to_owned(),
        });
        let what =
            format!("{}, pid {} (fake {})", self.name_of(server.number), id.pid, server.fake);
        let birth = server.born.clone();
        // A wrapper waits for it, and its helpers may.
        let waiting =
            ancestors.iter().filter(|one| alive.contains_key(one) && Some(**one) != client);
        let below =
            alive.keys().filter(|other| self.ledger.ancestors(**other).any(|one| one == id));
        let with_it: Vec<ProcessId> =
            waiting.chain(below).copied().filter(|one| !self.blamed.contains(one)).collect();
        evidence.extend(self.with_it(&with_it));
        let thing = Thing {
            kind: Kind::Process,
            what,
            identities: vec![Identity::Process(id)],
            birth,
            due,
            evidence,
            holders: writers,
        };
        self.blamed.extend(with_it);
        self.played.findings.push(thing.found(judged));
    }

    /// The client proper, which its launcher has left, with all that it has.
    fn judge_behind_launcher(
        &mut self,
        id: ProcessId,
        due: &StepRef,
        alive: &BTreeMap<ProcessId, ProcessFacts>,
    ) {
        if !self.blamed.insert(id) {
            return;
        }
        let signal = match self.departure {
            Departure::Killed => "SIGKILL",
            _ => "a signal",
        };
        let below =
            alive.keys().filter(|other| self.ledger.ancestors(**other).any(|one| one == id));
        let with_it: Vec<ProcessId> = below.copied().collect();
        let mut evidence = vec![format!("still alive {} later", self.waited())];
        evidence.extend(self.with_it(&with_it));
        let attack = self.script.script.attack.filter(|_| self.moment.is_some());
        let about_signals =
            attack.is_some_and(|attack| matches!(attack.deed, Deed::Terminate | Deed::Interrupt));
        let judged = abandoned::behind_launcher(self.departure, signal, about_signals);
        let thing = self.process(id, "the client behind its launcher", due, evidence);
        self.blamed.extend(with_it);
        self.played.findings.push(thing.found(judged));
    }

    /// A process that is no server: a server's helper, or one of the client's own.
    fn judge_other(
        &mut self,
        id: ProcessId,
        servers: &[ProcessId],
        due: &StepRef,
        alive: &BTreeMap<ProcessId, ProcessFacts>,
    ) {
        self.blamed.insert(id);
        let of = self.ledger.ancestors(id).find(|one| servers.contains(one));
        let is_helper = of.is_some() || self.is_our_helper(id);
        let (judged, name) = match is_helper {
            true => (abandoned::helper(of), "a server's helper"),
            false => (abandoned::companion(self.departure), "a process of the client's own"),
        };
        let below = alive.keys().filter(|other| {
            !self.blamed.contains(other) && self.ledger.ancestors(**other).any(|one| one == id)
        });
        let with_it: Vec<ProcessId> = below.copied().collect();
        let facts = alive.get(&id);
        let mut evidence = vec![format!("still alive {} later", self.waited())];
        evidence.extend(facts.map(|facts| match facts.session == id.pid {
            true => "in a session of its own (setsid)".to_owned(),
            false => format!("in process group {}", facts.group),
        }));
        evidence.extend(self.with_it(&with_it));
        let thing = self.process(id, name, due, evidence);
        self.blamed.extend(with_it);
        self.played.findings.push(thing.found(judged));
    }

    pub(super) fn process<'a>(
        &self,
        id: ProcessId,
        name: &str,
        due: &'a StepRef,
        evidence: Vec<String>,
    ) -> Thing<'a> {
        let identity = Identity::Process(id);
        Thing {
            kind: Kind::Process,
            what: format!("{name}, pid {} ({})", id.pid, self.words(id)),
            birth: self.ledger.birth(&identity).cloned().unwrap_or_else(|| due.clone()),
            identities: vec![identity],
            due,
            evidence,
            holders: Holders::default(),
        }
    }

    /// The helpers of our own fakes are known by their command lines, whoever their parent was.
    fn is_our_helper(&self, id: ProcessId) -> bool {
        let command = self.ledger.command(id).unwrap_or_default();
        matches!(command, [program, fake, helper, ..]
            if *program == self.script.program && fake == "fake" && helper == "helper")
    }

    /// A command line in words; of our own program, without its long path.
    pub(super) fn words(&self, id: ProcessId) -> String {
        let server = self.servers.iter().find(|server| server.id == Some(id));
        if let Some(server) = server {
            return format!("fake {}", server.fake);
        }
        match self.ledger.command(id) {
            Some([program, words @ ..]) if *program == self.script.program => {
                format!("scupper {}", words.join(" ")).chars().take(60).collect()
            }
            _ => command(&self.ledger, id),
        }
    }

    fn with_it(&self, others: &[ProcessId]) -> Vec<String> {
        let told = others.iter().take(LINES);
        let mut lines: Vec<String> =
            told.map(|id| format!("with it: pid {} ({})", id.pid, self.words(*id))).collect();
        if let Some(more @ 1..) = others.len().checked_sub(LINES) {
            let more = counted(more as u64, "more process", "more processes");
            lines.push(format!("with it: {more}"));
        }
        lines
    }

    fn waited(&self) -> String {
        format!("{:.1} s", self.patience().as_secs_f64())
    }

    pub(super) fn era(&self) -> Era {
        self.played.era.unwrap_or(self.order.era)
    }

    /// Who can write to a server's stdin, ourselves not counted.
    fn writers(&self, place: usize) -> Holders {
        // Of a stdin that has ended nobody has the write end any more.
        let Server { stdin: Some(pipe), stdin_ended: None, .. } = &self.servers[place] else {
            return Holders::default();
        };
        let mut found = holder::pipe_ends(*pipe);
        let ours = contain::own_pid();
        let is_writer = |one: &Holder| one.pid != ours && one.holds.contains("write");
        found.holders.retain(is_writer);
        found
    }
}
