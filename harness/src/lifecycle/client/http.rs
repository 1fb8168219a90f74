//! The built-in lifecycles for any client or host over Streamable HTTP: how its server misbehaves,
//! and what befalls the client at which moment. Pure data.

use serde::{Deserialize, Serialize};

use super::{Attack, Deed, Knowledge, MOST_ROUNDS, Moment, Script};
use crate::lifecycle::step::{Era, EraChoice, Lifecycle};
use crate::lifecycle::sweep::{self, Point, Wire};

/// Id of the lifecycle that is played first, alone.
pub const FIRST_LOOK: &str = "client-http/clean-close";
/// What every id begins with.
pub const FOLDER: &str = "client-http";
/// In place of a JSON-RPC method: the end of a session.
pub const DELETE: &str = "DELETE";
/// The same: a stream of events is opened.
pub const GET: &str = "GET";

const H6: &str = "2025-11-25 http H6";
const H12: &str = "2025-11-25 http H12";
const H13: &str = "2025-11-25 http H13";
const X3: &str = "2025-11-25 lifecycle X3";
const T1: &str = "2025-11-25 lifecycle T1";

/// The HTTP server that scupper plays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// What is wrong with it.
    pub fault: Fault,
    /// At which request: a JSON-RPC method, or [`DELETE`]; at every one that the fault is about
    /// where none is named.
    pub at: Option<String>,
    /// The only era that it serves, where one was chosen.
    pub era: Option<Era>,
    /// What it does with the bytes that pass, where that is the byte sweep's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
}

impl Service {
    /// It has not done what it was asked for.
    pub fn fails_the_client(&self) -> bool {
        self.fault.fails_the_client() || matches!(self.wire, Some(Wire::Cut(_)))
    }
}

/// What is wrong with an HTTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It takes the request and never answers.
    Holds,
    /// It answers 405 to DELETE, which it may.
    RefusesDelete,
    /// It ends every stream of events that a GET opens, as soon as it was opened.
    EndsStreams,
    /// It answers 307, with another place at the same server, which serves.
    Redirects,
    /// It answers 307, with the very place that was asked.
    RedirectsToItself,
    /// It answers 404 to the session; a new one is as good as any.
    ForgetsSession,
    /// It resets the connection.
    Resets,
    /// It resets every connection, and its port is closed from then on.
    Vanishes,
    /// Its answers come as events, and the stream stays open after them.
    LeavesStreamOpen,
    /// It opens a stream of events and writes comments into it, and never the answer.
    NeverAnswers,
    /// It answers 500.
    Fails,
    /// It answers 202, and nothing more.
    AcceptsOnly,
}

spelled! {
    Fault { None = "none", Holds = "holds", RefusesDelete = "refuses-delete", EndsStreams = "ends-streams", Redirects = "redirects", RedirectsToItself = "redirects-to-itself", ForgetsSession = "forgets-session", Resets = "resets", Vanishes = "vanishes", LeavesStreamOpen = "leaves-stream-open", NeverAnswers = "never-answers", Fails = "fails", AcceptsOnly = "accepts-only" }
}

impl Fault {
    /// It can be told at which request it strikes; otherwise it does so wherever it can.
    pub fn strikes_at_any(self) -> bool {
        match self {
            Fault::Holds
            | Fault::ForgetsSession
            | Fault::Resets
            | Fault::Vanishes
            | Fault::LeavesStreamOpen
            | Fault::NeverAnswers
            | Fault::Fails
            | Fault::AcceptsOnly => true,
            Fault::None
            | Fault::RefusesDelete
            | Fault::EndsStreams
            | Fault::Redirects
            | Fault::RedirectsToItself => false,
        }
    }

    /// Whether it strikes at such a request, a JSON-RPC method or a verb that has none.
    pub fn may_strike_at(self, at: &str) -> bool {
        self.strikes_at_any()
            && match at {
                DELETE => matches!(self, Fault::Holds | Fault::Fails),
                GET => self == Fault::Fails,
                _ => true,
            }
    }

    /// The server has not done what it was asked for.
    pub fn fails_the_client(self) -> bool {
        match self {
            Fault::Holds
            | Fault::RedirectsToItself
            | Fault::Resets
            | Fault::Vanishes
            | Fault::NeverAnswers
            | Fault::Fails
            | Fault::AcceptsOnly => true,
            Fault::None
            | Fault::RefusesDelete
            | Fault::EndsStreams
            | Fault::Redirects
            | Fault::ForgetsSession
            | Fault::LeavesStreamOpen => false,
        }
    }
}

/// The lifecycle that is played first: the whole of a good life.
pub fn first_look(era: Option<Era>) -> (Lifecycle, Script) {
    with_service(
        FIRST_LOOK,
        "A server without fault. When the client has ended, or closed its connection, its session \
         must be deleted, and its streams and sockets closed.",
        H13,
        Service { era, ..Service::default() },
    )
}

/// All lifecycles, in the order in which they are played. Those that a client cannot come to are
/// left out.
pub fn battery(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    let mut all = vec![first_look(known.era)];
    all.extend(faults(known));
    all.extend(known.rounds.map(|rounds| again(known, rounds)));
    all.extend(attacks(known));
    all
}

/// Servers that misbehave.
fn faults(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    let has_session = known.traits.has_session;
    let era = known.era;
    let one = |id: &str, why: &str, rule, fault, at: Option<&str>| {
        let service = Service { fault, at: at.map(str::to_owned), era, wire: None };
        with_service(&format!("{FOLDER}/{id}"), why, rule, service)
    };
    let mut all = vec![
        one(
            "redirect",
            "A server that answers 307 to every request: the place where it serves is another one \
             of its own.",
            X3,
            Fault::Redirects,
            None,
        ),
        one(
            "redirect-loop",
            "A server that answers 307 with the very place that was asked: the client must give up.",
            X3,
            Fault::RedirectsToItself,
            None,
        ),
        one("fails", "A server that answers 500 to everything.", X3, Fault::Fails, None),
        one(
            "accepts-only",
            "A server that answers 202 to every request, and nothing more.",
            T1,
            Fault::AcceptsOnly,
            None,
        ),
    ];
    if has_session {
        all.extend([
            one(
                "delete-refused",
                "A server that answers 405 to DELETE, which it may: the client must end all the same.",
                H13,
                Fault::RefusesDelete,
                None,
            ),
            one(
                "delete-hangs",
                "A server that takes DELETE and never answers it: the client must end all the same.",
                H13,
                Fault::Holds,
                Some(DELETE),
            ),
            one(
                "ends-streams",
                "A server that ends every stream of events at once, and asks for a second before the \
                 next: the client may open it again, at that pace and not faster.",
                H6,
                Fault::EndsStreams,
                None,
            ),
        ]);
    }
    let Some(method) = known.traits.busy_with.as_deref() else { return all };
    if has_session {
        all.push(one(
            "session-lost",
            "A server that answers 404 to the session in the middle: the client must begin a new one, \
             or end, and not go on with the old id.",
            H12,
            Fault::ForgetsSession,
            Some(method),
        ));
    }
    all.extend([
        one(
            "fails-in-call",
            "A server that answers 500 to a request in the middle.",
            X3,
            Fault::Fails,
            Some(method),
        ),
        one(
            "resets-call",
            "A server that resets the connection while a request is in flight.",
            X3,
            Fault::Resets,
            Some(method),
        ),
        one(
            "vanishes",
            "A server that resets every connection while a request is in flight, and whose port is \
             closed from then on.",
            X3,
            Fault::Vanishes,
            Some(method),
        ),
        one(
            "stream-stays-open",
            "A server whose answers come as events, and which leaves their streams open: the client \
             has its answers, and must end all the same.",
            X3,
            Fault::LeavesStreamOpen,
            None,
        ),
        one(
            "never-answers",
            "A server that opens a stream of events for the answer, keeps it alive, and never answers.",
            T1,
            Fault::NeverAnswers,
            Some(method),
        ),
    ]);
    all
}

/// The same work again and again, in one life of the client.
fn again(known: &Knowledge, rounds: u32) -> (Lifecycle, Script) {
    let (lifecycle, script) = with_service(
        &format!("{FOLDER}/rounds"),
        "A client that lives on connects, works and closes again and again: nothing of it may grow, \
         neither in it nor at its server.",
        H13,
        Service { era: known.era, ..Service::default() },
    );
    (lifecycle, Script { rounds: Some(rounds.min(MOST_ROUNDS)), ..script })
}

/// What befalls the client itself.
fn attacks(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    let mut all = Vec::new();
    for moment in Moment::ALL.iter().copied() {
        let holds = |at: &str| (Fault::Holds, Some(at.to_owned()));
        let first = known.traits.first.as_deref().unwrap_or("initialize");
        let ((fault, at), when) = match (moment, known.traits.busy_with.as_deref()) {
            (Moment::Starting, _) => (holds(first), "while it waits for its server's first answer"),
            (Moment::Busy, Some(method)) => (holds(method), "while a request is in flight"),
            (Moment::Idle, _) if known.traits.lives_on => {
                ((Fault::None, None), "while it is idle, with its server connected")
            }
            (Moment::Closing, _) if known.traits.deletes => {
                (holds(DELETE), "while it waits for the end of its session")
            }
            _ => continue,
        };
        for deed in Deed::ALL.iter().copied() {
            if deed == Deed::EndStdin && known.traits.ends_with_stdin == Some(false) {
                continue;
            }
            let (what, why) = match deed {
                Deed::Terminate => ("sigterm", "SIGTERM comes to the client"),
                Deed::Interrupt => ("sigint", "SIGINT comes to the client"),
                Deed::Kill => ("sigkill", "The client is killed"),
                Deed::EndStdin => ("stdin-ends", "The client's own stdin ends"),
            };
            let (lifecycle, script) = with_service(
                &format!("{FOLDER}/{what}-{moment}"),
                &format!("{why} {when}."),
                H13,
                Service { fault, at: at.clone(), era: known.era, wire: None },
            );
            all.push((lifecycle, Script { attack: Some(Attack { moment, deed }), ..script }));
        }
    }
    all
}

/// The canary's: a server without fault.
pub fn canary() -> (Lifecycle, Script) {
    with_service(
        "canary",
        "Every kind of leak of a client over HTTP in one life.",
        H13,
        Service::default(),
    )
}

/// The clean life of which every byte is counted.
pub fn counted(era: Option<Era>) -> (Lifecycle, Script) {
    let service = Service { era, wire: Some(Wire::Counted), ..Service::default() };
    let id = format!("{}/counted", sweep::FOLDER);
    with_service(&id, "A clean life, of which every byte is counted.", X3, service)
}

/// The life of a client whose server goes wrong here: after so many bytes of its responses, or of the
/// requests that it reads, over all connections. One that dies takes all of them with it, and its port;
/// one that stalls is silent on all of them; otherwise it is the connection of that byte that goes, and
/// the server serves on, or is deaf to all that comes after it where it goes wrong twice.
pub fn cut(point: &Point, era: Option<Era>) -> (Lifecycle, Script) {
    let service = Service { era, wire: Some(Wire::Cut(*point)), ..Service::default() };
    with_service(&point.id(), &point.why(), X3, service)
}

fn with_service(id: &str, why: &str, rule: &str, service: Service) -> (Lifecycle, Script) {
    let lifecycle = Lifecycle {
        id: id.to_owned(),
        why: why.to_owned(),
        rule: Some(rule.to_owned()),
        era: EraChoice::Auto,
        steps: Vec::new(),
    };
    (lifecycle, Script { service: Some(service), ..Script::default() })
}
