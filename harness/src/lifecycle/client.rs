//! The built-in lifecycles for any client or host: which servers it is given, and what befalls it
//! at which moment. Pure data.
//!
//! Here it is the server that scupper plays, so the steps of a life are the client's own: a script
//! says who its servers are, and what is done to the client itself.

pub mod http;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scenario::FakeSpec;
use super::step::{Era, EraChoice, Lifecycle};
use super::sweep::{self, Point, Wire};

/// What a client is given to do with, and what is done to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Script {
    /// The servers that it is told of, in this order.
    pub servers: Vec<Played>,
    /// The HTTP server that it is told of instead.
    #[serde(default)]
    pub service: Option<http::Service>,
    /// The moment at which something is done to the client; without one it is left to itself.
    pub attack: Option<Attack>,
    /// It does its work so many times, the warm-up not counted, and what grows is judged.
    pub rounds: Option<u32>,
}

/// A server that scupper plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Played {
    /// Which fake it is.
    pub fake: FakeSpec,
    /// A request that it does not answer.
    pub unanswered: Option<Unanswered>,
    /// The only era that it serves, where one was chosen.
    pub era: Option<Era>,
    /// What it does with the bytes that pass, where it does more than to pass them on.
    #[serde(default)]
    pub wire: Option<Wire>,
}

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// JSON-RPC method.
    pub method: String,
    /// What happens instead.
    pub instead: Instead,
}

/// What happens instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instead {
    /// Nothing: the request stays in flight.
    Hold,
    /// The server dies.
    Die,
    /// The answer comes when the client has given up: it has cancelled the request, or has ended the
    /// server's stdin.
    Late,
    /// The server asks the client for `sampling/createMessage`, and dies.
    AskAndDie,
}

/// What is done to the client itself, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attack {
    /// When.
    pub moment: Moment,
    /// What.
    pub deed: Deed,
}

/// A moment in the life of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Its first message has reached the server and has no answer.
    Starting,
    /// It waits for the answer to a later request.
    Busy,
    /// It has its answers, says nothing and lives on.
    Idle,
    /// It ends its server, which stays, and has not exited. One that lives on is told to end first.
    Closing,
}

/// What is done to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// SIGTERM to the one process that was started.
    Terminate,
    /// SIGINT to the same.
    Interrupt,
    /// SIGKILL to the same.
    Kill,
    /// Its own stdin ends.
    EndStdin,
}

spelled! {
    Instead { Hold = "hold", Die = "die", Late = "late", AskAndDie = "ask-and-die" }
    Moment { Starting = "starting", Busy = "busy", Idle = "idle", Closing = "closing" }
    Deed { Terminate = "SIGTERM", Interrupt = "SIGINT", Kill = "SIGKILL", EndStdin = "end of stdin" }
}

/// How a client that lives on is told to do its work again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundsBy {
    /// It does it once for each line on its stdin.
    Lines,
    /// By [`ROUNDS`] in its command, or in these words, which come after it then.
    Words(Vec<String>),
}

/// In words that tell a client how often to do its work: the number, which is 1 in other lifecycles.
pub const ROUNDS: &str = "{rounds}";
/// Most rounds that are judged.
pub const MOST_ROUNDS: u32 = 150;

/// How a client is told of its servers by a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigStyle {
    /// JSON with `mcpServers`: Claude, Cursor and others.
    #[default]
    Claude,
    /// JSON with `servers`: VS Code.
    Vscode,
    /// TOML with `mcp_servers`: Codex.
    Codex,
}

spelled! {
    ConfigStyle { Claude = "claude", Vscode = "vscode", Codex = "codex" }
}

/// What a first look at a client has learned, from which its battery is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traits {
    /// The last of the requests that it makes after the handshake, a call if it makes one.
    pub busy_with: Option<String>,
    /// It does not end by itself.
    pub lives_on: bool,
    /// It ends when its own stdin does; unknown of one that ends by itself.
    pub ends_with_stdin: Option<bool>,
    /// Over HTTP: the first request that it makes.
    #[serde(default)]
    pub first: Option<String>,
    /// Over HTTP: it had a session.
    #[serde(default)]
    pub has_session: bool,
    /// Over HTTP: it ends its session by DELETE.
    #[serde(default)]
    pub deletes: bool,
    /// Over HTTP: how many requests it makes.
    #[serde(default)]
    pub requests: u32,
}

/// What the battery is made for.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// What is known of the client.
    pub traits: Traits,
    /// It can be told of two servers.
    pub takes_two: bool,
    /// The only era that its servers serve.
    pub era: Option<Era>,
    /// It can be told to do its work so many times.
    pub rounds: Option<u32>,
}

/// Id of the lifecycle that is played first, alone.
pub const FIRST_LOOK: &str = "client/clean-close";

const X1: &str = "2025-11-25 lifecycle X1";
const N8: &str = "2026-07-28 stdio N8";
/// Bytes of the answer to the handshake that come before a death: inside the result's first key.
const TORN_AT: &str = "40";
/// Milliseconds of an exit that is slow, and within the first time-out of every SDK's ladder.
const SLOW_MS: &str = "1500";

/// The lifecycle that is played first: the whole of a good life.
pub fn first_look(era: Option<Era>) -> (Lifecycle, Script) {
    with_servers(
        FIRST_LOOK,
        "A server without fault. When the client has ended it, and when the client itself has \
         ended, everything must be gone.",
        vec![played("plain", &[], era)],
    )
}

/// All lifecycles, in the order in which they are played. Those that a client cannot come to are
/// left out.
pub fn battery(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    let mut all = vec![first_look(known.era)];
    all.extend(stubborn(known));
    all.extend(broken(known));
    all.extend(several(known));
    all.extend(known.rounds.map(|rounds| again(known, rounds)));
    all.extend(attacks(known));
    all
}

/// Servers that do not end as they should.
fn stubborn(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    let one = |id, why, fake, options: &[(&str, &str)]| {
        with_servers(id, why, vec![played(fake, options, known.era)])
    };
    vec![
        one(
            "client/ignores-eof",
            "A server that stays when its stdin ends: the client has to go on to SIGTERM.",
            "ignores-eof",
            &[],
        ),
        one(
            "client/ignores-eof-and-term",
            "A server that stays upon SIGTERM, too: the client has to go on to SIGKILL.",
            "ignores-eof-and-term",
            &[],
        ),
        one(
            "client/slow-exit",
            "A server that takes 1.5 s to exit: the client has to wait for it, or to end it.",
            "slow-exit",
            &[("ms", SLOW_MS)],
        ),
        one(
            "client/helper-in-group",
            "A server that leaves a helper in its process group when it exits.",
            "helper-same-group",
            &[("at", "start")],
        ),
        one(
            "client/helper-in-session",
            "A server that leaves a helper in a session of its own, where no signal to a group \
             reaches it.",
            "helper-setsid",
            &[("at", "start")],
        ),
        one(
            "client/helper-holds-stdout",
            "A server that leaves a helper which has its stdout: a client that waits for the end of \
             that stream waits for ever.",
            "helper-holds-stdout",
            &[("at", "start")],
        ),
    ]
}

/// Servers that do not speak as they should, or die.
fn broken(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    let one = |id, why, fake, options: &[(&str, &str)]| {
        with_servers(id, why, vec![played(fake, options, known.era)])
    };
    let mut all = vec![
        one(
            "client/exits-before-initialize",
            "A server that exits before it has read anything: its client has to reap it.",
            "exits-before-initialize",
            &[],
        ),
        one(
            "client/dies-mid-initialize",
            "A server that dies in the middle of its answer to the handshake.",
            "crash-at-byte",
            &[("byte", TORN_AT)],
        ),
        one(
            "client/never-answers",
            "A server that reads everything and answers nothing, the handshake not either.",
            "never-answers",
            &[],
        ),
        one(
            "client/garbage",
            "A server that answers with lines that are not JSON.",
            "garbage",
            &[],
        ),
        one(
            "client/half-a-line",
            "A server that writes half of its first answer, and never the rest.",
            "half-a-line",
            &[],
        ),
        one(
            "client/endless-line",
            "A server whose first answer is a line of 32 MiB that does not end.",
            "endless-line",
            &[],
        ),
        one(
            "client/floods-stderr",
            "A server that fills its stderr before it reads anything: somebody has to drain it.",
            "floods-stderr",
            &[("at", "start")],
        ),
        one(
            "client/closes-stdout",
            "A server that closes its stdout and stays: the client has to end it all the same.",
            "closes-stdout-stays",
            &[],
        ),
    ];
    if let Some(method) = &known.traits.busy_with {
        let one = |id, why, instead| {
            let unanswered = Some(Unanswered { method: method.clone(), instead });
            with_servers(id, why, vec![Played { unanswered, ..played("plain", &[], known.era) }])
        };
        all.extend([
            one(
                "client/answers-late",
                "A server whose answer comes when the client has given up on it.",
                Instead::Late,
            ),
            one(
                "client/dies-in-call",
                "A server that dies while a request is in flight.",
                Instead::Die,
            ),
            one(
                "client/sampling-then-dies",
                "A server that, while a request is in flight, asks the client for a message of its \
                 model, and dies.",
                Instead::AskAndDie,
            ),
        ]);
    }
    all
}

/// Two servers at once.
fn several(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    if !known.takes_two {
        return Vec::new();
    }
    let two = |id, why, first, second| {
        let servers = [first, second].map(|fake| played(fake, &[], known.era));
        with_servers(id, why, servers.into())
    };
    vec![
        two(
            "client/two-servers",
            "Two servers without fault at once: neither may have anything of the other's.",
            "plain",
            "plain",
        ),
        two(
            "client/two-servers-one-hangs",
            "Two servers at once, of which one never answers: both have to be ended.",
            "plain",
            "never-answers",
        ),
    ]
}

/// The same work again and again, in one life of the client.
fn again(known: &Knowledge, rounds: u32) -> (Lifecycle, Script) {
    let (lifecycle, script) = with_servers(
        "client/rounds",
        "A client that lives on starts and ends a server again and again: nothing of it may grow.",
        vec![played("plain", &[], known.era)],
    );
    (lifecycle, Script { rounds: Some(rounds.min(MOST_ROUNDS)), ..script })
}

/// What befalls the client itself.
fn attacks(known: &Knowledge) -> Vec<(Lifecycle, Script)> {
    let mut all = Vec::new();
    for moment in Moment::ALL.iter().copied() {
        let server = match (moment, &known.traits.busy_with) {
            (Moment::Starting, _) => played("never-answers", &[], known.era),
            (Moment::Busy, Some(method)) => Played {
                unanswered: Some(Unanswered { method: method.clone(), instead: Instead::Hold }),
                ..played("plain", &[], known.era)
            },
            (Moment::Idle, _) if known.traits.lives_on => played("plain", &[], known.era),
            // So that it is in the middle of its ladder.
            (Moment::Closing, _) => played("ignores-eof-and-term", &[], known.era),
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
            let when = match moment {
                Moment::Starting => "while it waits for its server's first answer",
                Moment::Busy => "while a request is in flight",
                Moment::Idle => "while it is idle, with its server connected",
                Moment::Closing => {
                    "while it ends its server, which ignores both the end of stdin and SIGTERM"
                }
            };
            let id = format!("client/{what}-{moment}");
            let (lifecycle, script) =
                with_servers(&id, &format!("{why} {when}."), vec![server.clone()]);
            all.push((lifecycle, Script { attack: Some(Attack { moment, deed }), ..script }));
        }
    }
    all
}

/// The canary's: two servers, of which one does not end by itself.
pub fn canary() -> (Lifecycle, Script) {
    let servers = ["plain", "ignores-eof-and-term"].map(|fake| played(fake, &[], None));
    with_servers("canary", "Every kind of leak of a client in one life.", servers.into())
}

/// The clean life of which every byte is counted.
pub fn counted(era: Option<Era>) -> (Lifecycle, Script) {
    let server = Played { wire: Some(Wire::Counted), ..played("plain", &[], era) };
    let id = format!("{}/counted", sweep::FOLDER);
    with_servers(&id, "A clean life, of which every byte is counted.", vec![server])
}

/// The life of a client whose server goes wrong here.
pub fn cut(point: &Point, era: Option<Era>) -> (Lifecycle, Script) {
    // One that goes wrong twice stays upon the end of its stdin, and upon SIGTERM.
    let fake = if point.lane.twice { "ignores-eof-and-term" } else { "plain" };
    let server = Played { wire: Some(Wire::Cut(*point)), ..played(fake, &[], era) };
    with_servers(&point.id(), &point.why(), vec![server])
}

impl Knowledge {
    /// Of a client that can come to everything, for lists and messages.
    pub fn of_any() -> Self {
        let traits = Traits {
            busy_with: Some("tools/call".into()),
            lives_on: true,
            ends_with_stdin: Some(true),
            first: Some("initialize".into()),
            has_session: true,
            deletes: true,
            requests: 1,
        };
        Self { traits, takes_two: true, era: None, rounds: Some(1) }
    }
}

/// All that some client can come to.
pub fn of_any() -> Vec<(Lifecycle, Script)> {
    battery(&Knowledge::of_any())
}

/// The rule by which a client has to end its servers.
pub fn rule(era: Era) -> &'static str {
    match era {
        Era::Legacy => X1,
        Era::Modern => N8,
    }
}

fn played(fake: &str, options: &[(&str, &str)], era: Option<Era>) -> Played {
    let options: BTreeMap<String, String> =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let fake = FakeSpec { name: fake.to_owned(), fixed: false, options };
    Played { fake, unanswered: None, era, wire: None }
}

fn with_servers(id: &str, why: &str, servers: Vec<Played>) -> (Lifecycle, Script) {
    let lifecycle = Lifecycle {
        id: id.to_owned(),
        why: why.to_owned(),
        rule: Some(X1.to_owned()),
        era: EraChoice::Auto,
        steps: Vec::new(),
    };
    (lifecycle, Script { servers, ..Script::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_of_the_client() {
        let all = of_any();
        let ids: BTreeSet<&str> = all.iter().map(|(one, _)| one.id.as_str()).collect();
        assert_eq!(ids.len(), all.len());
        assert!(ids.iter().all(|id| id.starts_with("client/")), "{ids:?}");
        assert_eq!(all[0].0.id, FIRST_LOOK);
    }

    #[test]
    fn a_client_is_not_brought_to_moments_that_it_does_not_have() {
        let ids = |traits| {
            let known = Knowledge { traits, ..Knowledge::default() };
            let all = battery(&known);
            all.into_iter().map(|(one, _)| one.id).collect::<Vec<_>>()
        };
        let lists_only = ids(Traits::default());
        assert!(!lists_only.iter().any(|id| id.ends_with("-idle") || id.ends_with("-busy")));
        assert!(lists_only.contains(&"client/stdin-ends-starting".to_owned()));
        let deaf =
            ids(Traits { lives_on: true, ends_with_stdin: Some(false), ..Traits::default() });
        assert!(deaf.contains(&"client/sigkill-idle".to_owned()));
        assert!(!deaf.iter().any(|id| id.contains("stdin-ends")), "{deaf:?}");
    }
}
