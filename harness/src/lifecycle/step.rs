//! The words of a lifecycle: steps on named connections. Pure data, the same whatever its source.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which revision's rules a case speaks and is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Era {
    /// Revisions up to 2025-11-25: `initialize`, sessions, a disconnect is not a cancellation.
    #[serde(rename = "2025-11-25")]
    Legacy,
    /// Revision 2026-07-28: stateless, `server/discover`, a disconnect is a cancellation.
    #[serde(rename = "2026-07-28")]
    Modern,
}

impl Era {
    /// The revision as it stands on the wire.
    pub fn revision(self) -> &'static str {
        match self {
            Era::Legacy => "2025-11-25",
            Era::Modern => "2026-07-28",
        }
    }
}

/// The era a lifecycle asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EraChoice {
    /// The one the subject was seen to speak; 2025-11-25 when it speaks both.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Revisions up to 2025-11-25.
    #[serde(rename = "2025-11-25")]
    Legacy,
    /// Revision 2026-07-28.
    #[serde(rename = "2026-07-28")]
    Modern,
}

/// What is done to connections, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Slash-separated name, such as `stdio/clean-close`; a scenario file's path below `scenarios/`.
    pub id: String,
    /// One sentence: which moment of a life this is and why it matters.
    pub why: String,
    /// The rule it rests on, such as `2026-07-28 stdio N9`.
    pub rule: Option<String>,
    /// Which era is spoken.
    pub era: EraChoice,
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step on one connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which connection; `main` where a file names none.
    pub connection: String,
    /// Longest time this step may take; a default by kind of action when absent.
    pub within: Option<Duration>,
    /// The step has to fail: what it does is to be refused, or cannot come about.
    #[serde(default)]
    pub fails: bool,
    /// What is done.
    pub action: Action,
}

/// The connection a step acts on when it names none.
pub const MAIN: &str = "main";
/// In the params of a request: the last cursor that was seen.
pub const CURSOR: &str = "{cursor}";
/// Most pages of a list where a step names no number.
pub const PAGES: u32 = 100;

impl Step {
    /// A step on the connection [`MAIN`] with the default time limit.
    pub fn new(action: Action) -> Self {
        Self { connection: MAIN.to_owned(), within: None, fails: false, action }
    }

    /// The same step on another connection.
    #[must_use]
    pub fn on(mut self, connection: &str) -> Self {
        connection.clone_into(&mut self.connection);
        self
    }
}

/// What a step does. "Client" is the peer that scupper plays as a process of its own; "server" is
/// the process that the client started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Start a client process, which starts the server.
    Open,
    /// Introduce client and server to each other, by the era of the case.
    Handshake {
        /// How far to go.
        until: HandshakePoint,
    },
    /// `tools/call`.
    Call {
        /// Name of the tool.
        tool: String,
        /// Its arguments, a JSON object.
        arguments: Value,
        /// Wait for the answer before the next step.
        wait: bool,
    },
    /// Any other request.
    Request {
        /// JSON-RPC method.
        method: String,
        /// Its params, or null for none. A string in them that is [`CURSOR`] stands for the last
        /// cursor that a list of the case gave.
        params: Value,
        /// Wait for the answer before the next step.
        wait: bool,
    },
    /// A list, page after page, by the cursors that the server gives.
    ListAll {
        /// JSON-RPC method.
        method: String,
        /// Most pages.
        pages: u32,
    },
    /// A notification.
    Notify {
        /// JSON-RPC method.
        method: String,
        /// Its params, or null for none.
        params: Value,
    },
    /// Raw bytes to the server's stdin, nothing added.
    Send {
        /// Which bytes.
        payload: Payload,
        /// Only so many of them; all when absent.
        upto: Option<usize>,
    },
    /// Wait for something from the server's stdout.
    Read {
        /// What to wait for.
        what: Read,
    },
    /// The client closes its end of one stream and stays.
    HalfClose {
        /// Which stream.
        stream: Stream,
    },
    /// The client ends the server's stdin and waits for it to exit: the graceful end.
    Close,
    /// The client lets go of all three streams at once and waits for nothing.
    Drop,
    /// `notifications/cancelled` for the latest request that has no answer yet.
    Cancel,
    /// SIGKILL.
    Kill {
        /// Whom.
        whom: Whom,
    },
    /// A signal to one pid.
    Signal {
        /// Which.
        signal: Signal,
        /// To whom.
        whom: Whom,
    },
    /// The client stops reading one of the server's output streams.
    Stall {
        /// Which stream.
        stream: Stream,
    },
    /// The client reads again, or goes on writing where a cut had stopped it.
    Resume {
        /// Which stream.
        stream: Stream,
    },
    /// The client writes or reads no more than so many bytes in this life, from its start on. From
    /// the last of them on it says nothing more, and steps that would are left out.
    Cut {
        /// Stdin or stdout; of an HTTP server requests or responses.
        stream: Stream,
        /// How many bytes.
        bytes: u64,
    },
    /// The client does nothing.
    Pause {
        /// For so long.
        time: Duration,
    },
    /// Another process takes a copy of the write end of the server's stdin.
    HoldStdin,
    /// That other process ends.
    ReleaseStdin,
    /// Wait until something is so.
    WaitFor {
        /// What.
        condition: Condition,
    },
    /// Several lists of steps at once, each in order; the step ends when all have.
    Concurrently {
        /// The lists.
        branches: Vec<Vec<Step>>,
    },
    /// The same steps again and again. Growth is judged over the repetitions, the first not counted.
    Repeat {
        /// How many times.
        times: u32,
        /// The steps.
        steps: Vec<Step>,
    },
    /// Close every open connection, all at once. Of a host or a service: its end.
    Shutdown,
    /// A host or a service comes up.
    Start {
        /// `KEY=VALUE` options, on top of those of the subject.
        options: BTreeMap<String, String>,
    },
    /// The host is given a server and connects to it.
    Add {
        /// Which server.
        server: FakeSpec,
        /// How it is reached.
        transport: Transport,
        /// End the one of the same name first.
        replace: bool,
        /// Wait until it is connected before the next step.
        wait: bool,
    },
    /// The host lets go of a server.
    Remove,
    /// The host looks after its servers, and drops the dead.
    Health,
    /// The client opens the stream on which the service speaks of its own accord.
    Listen,
    /// The client ends its session by DELETE; its connections stay.
    Delete,
    /// The client's connections end at once, by RST.
    Reset,
    /// The client neither reads nor writes any more, and nothing tells the service.
    Silence,
    /// The client closes the connections of requests whose answers it does not wait for, and keeps its
    /// session.
    Abandon,
    /// The client goes on with a session that another one began.
    Join {
        /// The client that began it, open or gone. With none: an id that no server gave.
        session_of: Option<String>,
    },
    /// Many requests at once on one connection of its own, whose answers nobody reads.
    Flood {
        /// JSON-RPC method.
        method: String,
        /// How many.
        times: u32,
    },
    /// A message whose body comes byte by byte.
    Trickle {
        /// Which bytes.
        payload: Payload,
        /// Between one byte and the next.
        pause: Duration,
    },
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Standard streams of a child process.
    #[default]
    Stdio,
    /// Streamable HTTP, at a server that runs already.
    Http,
}

/// Which fake, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FakeSpec {
    /// Its name, as in `scupper fake NAME`.
    pub name: String,
    /// Its clean twin.
    pub fixed: bool,
    /// `KEY=VALUE` options.
    pub options: BTreeMap<String, String>,
}

impl FakeSpec {
    /// The arguments that make this program the fake.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["fake".to_owned(), self.name.clone()];
        if self.fixed {
            arguments.push("--fixed".to_owned());
        }
        arguments.extend(self.options.iter().map(|(key, value)| format!("{key}={value}")));
        arguments
    }
}

/// How far a handshake goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandshakePoint {
    /// The first request is sent, its answer not awaited.
    Sent,
    /// The answer is there; `notifications/initialized` is not sent.
    Answered,
    /// Both sides are ready.
    #[default]
    Ready,
}

/// Bytes to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// The first request of the handshake, by the era of the case, with its newline.
    Handshake,
    /// This text, exactly.
    Text(String),
}

/// What a read step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Read {
    /// Answers to all requests that have none yet.
    Answers,
    /// So many messages of any kind.
    Messages(u32),
    /// The end of the stream.
    End,
}

/// One of the server's three streams, or what goes over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// The client writes it.
    Stdin,
    /// The client reads messages from it.
    Stdout,
    /// The client reads log lines from it.
    Stderr,
    /// Of an HTTP server: what it sends as events.
    Events,
    /// Of an HTTP server: every byte that its client sends, heads too.
    Requests,
    /// Of an HTTP server: every byte that its client reads.
    Responses,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// The client process.
    Client,
    /// The process the client started, and it alone, as SDKs do.
    Server,
    /// The process group of the server.
    Group,
}

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Please end.
    Term,
    /// Interrupt from a terminal.
    Int,
    /// The terminal is gone.
    Hup,
    /// End now.
    Kill,
    /// Stop.
    Stop,
    /// Go on.
    Cont,
}

/// Something that becomes so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The process the client started has exited and was reaped.
    Exited,
    /// Nothing of the connection is alive: server, launcher, helpers.
    Gone,
    /// A line of the server's stderr contains this text.
    Stderr(String),
}

spelled! {
    Transport { Stdio = "stdio", Http = "http" }
    Stream {
        Stdin = "stdin", Stdout = "stdout", Stderr = "stderr", Events = "events",
        Requests = "requests", Responses = "responses",
    }
    Whom { Client = "client", Server = "server", Group = "group" }
    Signal { Term = "TERM", Int = "INT", Hup = "HUP", Kill = "KILL", Stop = "STOP", Cont = "CONT" }
    HandshakePoint { Sent = "sent", Answered = "answered", Ready = "ready" }
    EraChoice { Auto = "auto", Legacy = "2025-11-25", Modern = "2026-07-28" }
}

impl Action {
    /// The step's name in reports: what is done, and to what.
    pub fn name(&self) -> String {
        match self {
            Action::Open => "open".into(),
            Action::Handshake { until: HandshakePoint::Ready } => "handshake".into(),
            Action::Handshake { until } => format!("handshake until {until}"),
            Action::Call { tool, .. } => format!("call {tool}"),
            Action::Request { method, .. } => format!("request {method}"),
            Action::ListAll { method, .. } => format!("list-all {method}"),
            Action::Notify { method, .. } => format!("notify {method}"),
            Action::Send { upto: Some(count), .. } => format!("send {count} bytes"),
            Action::Send { .. } => "send".into(),
            Action::Read { .. } => "read".into(),
            Action::HalfClose { stream } => format!("half-close {stream}"),
            Action::Close => "close".into(),
            Action::Drop => "drop".into(),
            Action::Cancel => "cancel".into(),
            Action::Kill { whom } => format!("kill {whom}"),
            Action::Signal { signal, whom } => format!("signal {signal} {whom}"),
            Action::Stall { stream } => format!("stall {stream}"),
            Action::Resume { stream } => format!("resume {stream}"),
            Action::Cut { stream, bytes } => format!("cut {stream} after {bytes} bytes"),
            Action::Pause { .. } => "pause".into(),
            Action::HoldStdin => "hold-stdin".into(),
            Action::ReleaseStdin => "release-stdin".into(),
            Action::WaitFor { condition } => match condition {
                Condition::Exited => "wait-for exited".into(),
                Condition::Gone => "wait-for gone".into(),
                Condition::Stderr(_) => "wait-for stderr".into(),
            },
            Action::Concurrently { .. } => "concurrently".into(),
            Action::Repeat { times, .. } => format!("repeat {times}"),
            Action::Shutdown => "shutdown".into(),
            Action::Start { .. } => "start".into(),
            Action::Add { server, transport, .. } => {
                let over = if *transport == Transport::Http { " over http" } else { "" };
                format!("add {}{over}", server.name)
            }
            Action::Remove => "remove".into(),
            Action::Health => "health".into(),
            Action::Listen => "listen".into(),
            Action::Delete => "delete".into(),
            Action::Reset => "reset".into(),
            Action::Silence => "silence".into(),
            Action::Abandon => "abandon".into(),
            Action::Join { session_of: Some(name) } => format!("join session of {name}"),
            Action::Join { session_of: None } => "join unknown session".into(),
            Action::Flood { method, times } => format!("flood {times} {method}"),
            Action::Trickle { .. } => "trickle".into(),
        }
    }
}
