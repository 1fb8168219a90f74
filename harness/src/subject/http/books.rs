//! The books of sessions and sockets: whose they are, how they ended, and what of them is still there
//! when it should not be.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Play;
use crate::ledger::snapshot::{Identity, Kind};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::lifecycle::http::ABANDONED;
use crate::lifecycle::sweep::Works;
use crate::peer::http::control::{Act, Passing};
use crate::peer::wire;
use crate::probe::socket::{self, Tcp};
use crate::settle::{Settled, load_per_core, settle, settle_processes};
use crate::subject::finding::{self, counted, thing};
use crate::subject::server::FIRM_LOOK;

/// Least time that a socket has whose other end is closed, where nobody chose one: most servers see that
/// at once, and some only by their next keep-alive, which is every 15 or 30 seconds.
const NEXT_WRITE: Duration = Duration::from_secs(35);
/// The client that asks whether a session answers.
const PROBE: &str = "scupper-probes";
/// How long its answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long after its client went a session is asked, where nobody said how long it may live.
const STILL_ANSWERS: Duration = Duration::from_secs(5);
/// Least time that a session's keeper has to notice that its time is over.
const LEAST_NOTICE: Duration = Duration::from_secs(2);
/// Sessions that are asked, of many alike.
const ASKED: usize = 3;
/// Most lines of evidence for things alike.
const LINES: usize = 3;

/// A client that is open.
#[derive(Debug, Clone, Default)]
pub(super) struct Client {
    /// The process that it lives in.
    pub(super) peer: String,
    /// Ports of this host that its connections had.
    pub(super) ports: BTreeSet<u16>,
    pub(super) session: Option<String>,
    pub(super) last_event: Option<String>,
    /// The step since which it reads no stream.
    pub(super) stalled: Option<StepRef>,
    /// Requests without an answer.
    pub(super) pending: Vec<(u64, String)>,
    /// It says nothing more.
    pub(super) is_cut: bool,
    /// Where that is counted: how many bytes have passed.
    pub(super) works: Option<Works>,
}

/// A client that has closed its connections.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) name: String,
    pub(super) ports: BTreeSet<u16>,
    /// The last event that it saw.
    pub(super) last_event: Option<String>,
    /// The step that closed them.
    pub(super) due: StepRef,
}

/// A session that a server has given out.
#[derive(Debug, Clone)]
pub(super) struct SessionBook {
    pub(super) id: String,
    /// The client that opened it.
    pub(super) client: String,
    pub(super) born: StepRef,
    pub(super) fate: Fate,
}

/// What became of a session.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// Its client is there.
    Open,
    /// It was ended by DELETE.
    Deleted(StepRef),
    /// Its client went without a word.
    Abandoned(StepRef, Instant),
    /// It was judged, or went with its server.
    Done,
}

/// What a session says when it is asked.
enum Says {
    /// It answers.
    Something,
    /// The server does not know it.
    Nothing,
    /// Nobody could tell.
    Unsure(String),
}

impl Play<'_> {
    /// Judges what is due inside the living server: sessions that were ended or whose time is over,
    /// and sockets whose other end was closed.
    pub(super) fn judge_living(&mut self, at: &StepRef) {
        self.reap();
        if self.life.as_ref().is_none_or(|life| life.exit.is_some()) {
            return;
        }
        self.judge_deleted();
        self.judge_abandoned();
        self.judge_sockets(at);
    }

    /// Waits until the time of every abandoned session is over, where that is known.
    pub(super) fn wait_for_session_ttl(&mut self) {
        let Some(ttl) = self.http.session_ttl_ms.map(Duration::from_millis) else { return };
        let last = self.sessions.iter().filter_map(|one| match one.fate {
            Fate::Abandoned(_, since) => Some(since),
            _ => None,
        });
        let Some(last) = last.max() else { return };
        // Whoever sweeps at intervals as long as that time is in time.
        let notice =
            ttl.max(LEAST_NOTICE).min(self.patience()).mul_f64(load_per_core().clamp(1.0, 2.0));
        let until = last + ttl + notice;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.reap();
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }

    /// Sessions that were ended by DELETE must not answer.
    fn judge_deleted(&mut self) {
        let deleted = |one: &SessionBook| match &one.fate {
            Fate::Deleted(step) => Some((one.id.clone(), one.born.clone(), step.clone())),
            _ => None,
        };
        let all: Vec<(String, StepRef, StepRef)> =
            self.sessions.iter().filter_map(deleted).collect();
        for book in &mut self.sessions {
            if matches!(book.fate, Fate::Deleted(_)) {
                book.fate = Fate::Done;
            }
        }
        if !self.order.kinds.contains(&Kind::Session) {
            return;
        }
        let mut answering = Vec::new();
        let patience = self.patience();
        for (id, born, due) in sample(&all) {
            let answers = self.answers_on(&id, patience);
            match answers {
                Some(true) => answering.push((id, born, due)),
                Some(false) => {}
                // One that cannot be asked is no reason to ask more.
                None => return,
            }
        }
        let Some((_, born, due)) = answering.first().cloned() else { return };
        if matches!(self.ask_session(super::orders::UNKNOWN_SESSION), Says::Something) {
            self.note(
                "the server answers to any session id, so that none could be seen to end"
                    .to_owned(),
            );
            return;
        }
        let ids: Vec<String> = answering.into_iter().map(|(id, ..)| id).collect();
        let found = Finding {
            class: Class::Leak,
            what: "a session that was ended by DELETE still answers".to_owned(),
            due_step: due,
            blame: "the server took the DELETE and goes on answering to the session's id"
                .to_owned(),
            rule: Some("2025-11-25 http H12".to_owned()),
            evidence: vec![format!(
                "{} of {} asked still answered {:.1} s after DELETE had been answered",
                ids.len(),
                counted(all.len().min(ASKED) as u64, "session", "sessions"),
                patience.as_secs_f64()
            )],
            remedy: "take the session out of the books upon DELETE, with all that it holds"
                .to_owned(),
            ..of_sessions(&ids, all.len().min(ids.len().max(1)), born)
        };
        self.played.findings.push(found);
    }

    /// Whether a session goes on answering for as long as anything due may take; none where nobody
    /// can tell.
    fn answers_on(&mut self, id: &str, patience: Duration) -> Option<bool> {
        let mut unsure = None;
        let silent = settle(Instant::now() + patience, || match self.ask_session(id) {
            Says::Nothing => true,
            Says::Something => false,
            Says::Unsure(cause) => {
                unsure = Some(cause);
                true
            }
        });
        match (unsure, silent) {
            (Some(cause), _) => {
                self.played.unreadable.insert(format!("whether a session still answers: {cause}"));
                None
            }
            (None, silent) => Some(silent == Settled::Bound),
        }
    }

    /// Sessions whose clients went without a word: a leak once their time is over, and told where
    /// nobody said how long that is.
    fn judge_abandoned(&mut self) {
        let abandoned = |one: &SessionBook| match &one.fate {
            Fate::Abandoned(step, since) => {
                Some((one.id.clone(), one.born.clone(), step.clone(), *since))
            }
            _ => None,
        };
        let all: Vec<_> = self.sessions.iter().filter_map(abandoned).collect();
        let ttl = self.http.session_ttl_ms.map(Duration::from_millis);
        let judged = self.order.kinds.contains(&Kind::Session);
        if all.is_empty() || !judged || (ttl.is_none() && self.order.lifecycle.id != ABANDONED) {
            return;
        }
        if ttl.is_some() {
            self.wait_for_session_ttl();
        } else if let Some((.., since)) = all.last() {
            let left = (*since + STILL_ANSWERS).saturating_duration_since(Instant::now());
            std::thread::sleep(left);
        }
        for book in &mut self.sessions {
            if matches!(book.fate, Fate::Abandoned(..)) {
                book.fate = Fate::Done;
            }
        }
        let mut answering = Vec::new();
        for one in sample(&all) {
            // Once, for to ask is to use.
            match self.ask_session(&one.0) {
                Says::Something => answering.push(one),
                Says::Nothing => {}
                Says::Unsure(cause) => {
                    let unseen = format!("whether an abandoned session still answers: {cause}");
                    self.played.unreadable.insert(unseen);
                    return;
                }
            }
        }
        let Some((_, born, due, since)) = answering.first().cloned() else { return };
        if matches!(self.ask_session(super::orders::UNKNOWN_SESSION), Says::Something) {
            return;
        }
        let later = since.elapsed().as_secs_f64();
        let ids: Vec<String> = answering.into_iter().map(|(id, ..)| id).collect();
        let holds =
            self.played.notes.iter().find(|note| note.starts_with("each abandoned session"));
        let mut evidence = vec![format!(
            "{} of {} asked still answered {later:.1} s after the client had gone",
            ids.len(),
            counted(all.len().min(ASKED) as u64, "session", "sessions"),
        )];
        evidence.extend(holds.cloned());
        let (class, what, blame, remedy) = match ttl {
            Some(ttl) => (
                Class::Leak,
                "an abandoned session still answers after its time".to_owned(),
                format!(
                    "sessions may live {:.1} s without a client (--session-ttl)",
                    ttl.as_secs_f64()
                ),
                "end sessions that nobody uses, on the same path as DELETE ends them",
            ),
            None => (
                Class::Advisory,
                format!("an abandoned session still answers after {later:.1} s"),
                "the server keeps it, and nobody said for how long it may; no rule does".to_owned(),
                "give sessions a time to live without a client, and say it here to have it judged: \
                 --session-ttl 5m where that is five minutes",
            ),
        };
        let found = Finding {
            class,
            what,
            due_step: due,
            blame,
            rule: None,
            evidence,
            remedy: remedy.to_owned(),
            ..of_sessions(&ids, ids.len(), born)
        };
        self.played.findings.push(found);
    }

    /// Asks in a session, as a client of its own that leaves at once.
    fn ask_session(&mut self, id: &str) -> Says {
        let number = self.next_id();
        let message = wire::request(self.era, number, "ping", Value::Null);
        let place = self.place();
        let join = Act::Join { session: Some(id.to_owned()), last_event: None };
        let open = Act::Open { place, passing: Passing::All };
        let acts = [open, join, Act::Post { message, wait: true }, Act::Drop];
        let mut says = Says::Unsure("it was not asked".to_owned());
        for act in acts {
            let is_question = matches!(act, Act::Post { .. });
            match self.obey(PROBE, act, ANSWER) {
                Err(cause) => return Says::Unsure(cause),
                Ok(told) if is_question => {
                    let answers =
                        told.answer.as_ref().is_some_and(|one| one.get("result").is_some());
                    says = match told.status {
                        _ if answers => Says::Something,
                        Some(status @ 500..) => {
                            Says::Unsure(format!("the server answered {status}"))
                        }
                        Some(_) => Says::Nothing,
                        None => Says::Unsure(told.error.unwrap_or_default()),
                    };
                }
                Ok(told) => {
                    if let Some(cause) = told.error {
                        return Says::Unsure(cause);
                    }
                }
            }
        }
        says
    }

    /// Sockets whose other end was closed must be closed, whatever becomes of the session: nothing of it
    /// can come by them any more.
    ///
    /// Measured over ten rounds each, a busy host's worst: server-everything (both ways over HTTP), the
    /// Python SDK and rmcp (both eras) and supergateway let go of it within 0.5 s, and none of them
    /// waits for its next keep-alive.
    fn judge_sockets(&mut self, at: &StepRef) {
        if !self.order.kinds.contains(&Kind::Fd) || self.past.is_empty() {
            self.past.clear();
            return;
        }
        // A first look of a sweep waits for nothing that long: a closer one does.
        let is_short = self.order.patience.fixed || self.screens;
        let patience = if is_short { self.patience() } else { self.patience().max(NEXT_WRITE) };
        let mut left = Vec::new();
        settle_processes(patience, || {
            left = self.sockets_left();
            (!left.is_empty()).then(|| self.alive().keys().map(|id| id.pid).collect())
        });
        if left.is_empty() {
            self.past.clear();
            return;
        }
        self.look(at, FIRM_LOOK);
        let left = self.sockets_left();
        let past = std::mem::take(&mut self.past);
        let port = left.first().map(|one| one.remote.port());
        let due = past.iter().find(|past| port.is_some_and(|port| past.ports.contains(&port)));
        if let Some(due) = due {
            let found = self.of_sockets(&left, &due.due, patience);
            self.played.findings.extend(found);
        }
    }

    /// Sockets of the server whose other end was one of ours that is closed.
    fn sockets_left(&mut self) -> Vec<Tcp> {
        self.reap();
        let Some(life) = &self.life else { return Vec::new() };
        let port = life.endpoint.port;
        let open = |port: u16| self.clients.values().any(|client| client.ports.contains(&port));
        let was_ours =
            |port: u16| self.past.iter().any(|past| past.ports.contains(&port)) && !open(port);
        let mut table = socket::tcp(life.root.pid);
        table.retain(|one| {
            // Half closed by us, so not in somebody's queue: that it is held is known by its inode.
            one.local.port() == port && one.waits_for_close() && was_ours(one.remote.port())
        });
        table
    }

    fn of_sockets(&self, some: &[Tcp], due: &StepRef, patience: Duration) -> Option<Finding> {
        let inodes: BTreeSet<u64> = some.iter().map(|one| one.inode).collect();
        let held = |identity: &&Identity| match identity {
            Identity::Fd { target, inode, .. } => {
                target.starts_with("socket:")
                    && inodes.contains(inode)
                    && !self.blamed.contains(*identity)
            }
            _ => false,
        };
        let fds: Vec<Identity> =
            self.ledger.alive().map(|(one, ..)| one).filter(held).cloned().collect();
        let first = fds.first()?;
        let mut evidence = vec![format!(
            "still there {:.1} s after the client had closed its end (close-wait)",
            patience.as_secs_f64()
        )];
        evidence.extend(fds.iter().take(LINES).map(|one| thing(one, &self.ledger)));
        if fds.len() > LINES {
            evidence.push(format!("and {} more like it", fds.len() - LINES));
        }
        let owner = first.owner().map_or(0, |owner| owner.pid);
        let (hurts, remedy) = finding::words_of(Kind::Fd);
        Some(Finding {
            class: Class::Leak,
            kind: Kind::Fd,
            what: format!(
                "{} to clients that have gone",
                counted(fds.len() as u64, "socket", "sockets")
            ),
            identities: fds.iter().take(Finding::IDENTITIES).cloned().collect(),
            count: fds.len(),
            birth_step: self.ledger.birth(first).unwrap_or(due).clone(),
            due_step: due.clone(),
            culprit: Culprit::Server,
            blame: format!("pid {owner} has them open, and could see that the other end is closed"),
            rule: None,
            hurts: hurts.to_owned(),
            site: None,
            holders: Vec::new(),
            holders_unread: 0,
            evidence,
            remedy: format!("{remedy}; a connection whose read returns nothing is to be closed"),
        })
    }
}

/// What findings about sessions have in common.
fn of_sessions(ids: &[String], count: usize, born: StepRef) -> Finding {
    let (hurts, _) = finding::words_of(Kind::Session);
    let identity = |id: &String| Identity::Session { keeper: "the server".into(), id: id.clone() };
    Finding {
        class: Class::Leak,
        kind: Kind::Session,
        what: String::new(),
        identities: ids.iter().map(identity).collect(),
        count,
        due_step: born.clone(),
        birth_step: born,
        culprit: Culprit::Server,
        blame: String::new(),
        rule: None,
        hurts: hurts.to_owned(),
        site: None,
        holders: Vec::new(),
        holders_unread: 0,
        evidence: Vec::new(),
        remedy: String::new(),
    }
}

/// The first, the last and one between of many alike.
fn sample<T: Clone>(all: &[T]) -> Vec<T> {
    if all.len() <= ASKED {
        return all.to_vec();
    }
    [0, all.len() / 2, all.len() - 1].map(|at| all[at].clone()).to_vec()
}
