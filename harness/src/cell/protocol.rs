//! What runner and cell tell each other: one JSON object a line. The cell's stdin is its lifeline,
//! too: when it ends, the runner is gone and everything below the cell has to go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ledger::snapshot::Kind;
use crate::ledger::verdict::{CaseReport, Tier};
use crate::lifecycle::client::{ConfigStyle, RoundsBy, Script, Traits};
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{Era, Lifecycle};
use crate::lifecycle::sweep::Works;

/// The one line that a runner writes to a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseOrder {
    /// Unique in the run.
    pub id: String,
    /// What to do.
    pub lifecycle: Lifecycle,
    /// To whom.
    pub subject: SubjectOrder,
    /// The subject in words.
    pub subject_words: String,
    /// Which era to speak.
    pub era: Era,
    /// Learn what the server is beside judging it.
    pub first_look: bool,
    /// What the first look learned of launchers: how many processes stand between client and server.
    pub launchers: Option<usize>,
    /// Kinds to judge.
    pub kinds: BTreeSet<Kind>,
    /// How long to wait before what is still there is a leak, and what that rests on.
    pub patience: Patience,
    /// How long a server may take to answer the handshake, in milliseconds.
    pub start_timeout_ms: u64,
    /// The lifecycle was made for any server, not for this one: a slow tool, or a server of which
    /// only one can run at a time, is no failure but a note.
    pub for_any_server: bool,
    /// Command that repeats the case.
    pub repeat: String,
    /// What a sweep asks beyond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepOrder>,
}

/// What a sweep asks of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SweepOrder {
    /// Learn how many bytes go each way.
    Measure,
    /// Play these lives one after the other, each in place of the order's own lifecycle, and only
    /// look whether anything is left: what is not clean is judged in a cell of its own.
    Screen(Vec<Life>),
    /// Of a life of the core's: play it again and again, the future of each of its steps dropped after
    /// each poll, or after a sample of so many.
    Polls {
        /// Polls of the sample; all where none is named.
        shallow: Option<usize>,
    },
}

/// One life of many in a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Life {
    /// What to do.
    pub lifecycle: Lifecycle,
}

/// Who is judged, as a cell needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubjectOrder {
    /// A stdio server, by how it is started.
    Server(Launch),
    /// An HTTP server, by how it is started and where it is reached.
    HttpServer(HttpOrder),
    /// A client or host, which starts servers of ours.
    Client(ClientOrder),
    /// Our core as the client of this server.
    Core {
        /// Program and arguments of the server it faces.
        command: Vec<String>,
        /// Program and arguments of a well-behaved server, for the warm-up.
        warm_up: Vec<String>,
    },
    /// A host or a service that is played inside the cell.
    Embedded {
        /// Of which sort.
        role: Role,
        /// Its name.
        name: String,
        /// Its options.
        options: BTreeMap<String, String>,
        /// This program, to start fakes and clients.
        program: String,
    },
}

/// What sort of thing is played inside the cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A host of MCP servers.
    Host,
    /// A Streamable HTTP server with sessions.
    Service,
}

/// An HTTP server to judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOrder {
    /// How it is started; [`PORT`](crate::lifecycle::endpoint::PORT) in its words and variables is a
    /// free port.
    pub launch: Launch,
    /// Where it is reached, with the same placeholder.
    pub url: String,
    /// Headers of every request.
    pub headers: Vec<Header>,
    /// How long a session may live that no client uses, in milliseconds.
    pub session_ttl_ms: Option<u64>,
    /// Which of the two ways over HTTP it speaks, once that is known.
    pub wire: Option<Wire>,
    /// Path of this program, which is every client.
    pub program: String,
}

/// A header of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// What is sent.
    pub value: String,
    /// What may be shown and saved: variables not put in, a credential taken out.
    pub shown: String,
}

/// A client to judge, and what it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOrder {
    /// Program and arguments, with their placeholders.
    pub command: Vec<String>,
    /// How it is told of its servers by a file.
    pub style: ConfigStyle,
    /// Its servers, and what is done to it.
    pub script: Script,
    /// Whether it ends when its own stdin does, where that is known.
    pub ends_with_stdin: Option<bool>,
    /// Over HTTP: how many requests it makes in a good life, where that is known.
    #[serde(default)]
    pub requests: u32,
    /// How it is told to do its work again, where it lives on.
    pub rounds_by: Option<RoundsBy>,
    /// Path of this program, which is every server.
    pub program: String,
}

/// How a server is started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables that are set on top of the environment.
    pub environment: BTreeMap<String, String>,
    /// Where it is started; where scupper itself was, if none is named.
    pub directory: Option<String>,
}

impl Launch {
    /// A command line alone, in the environment and the directory that scupper itself has.
    pub fn plain(command: &[String]) -> Self {
        Self { command: command.to_vec(), ..Self::default() }
    }
}

/// The bound for giving up on something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Patience {
    /// Milliseconds.
    pub bound_ms: u64,
    /// Given by the user, so never scaled by load.
    pub fixed: bool,
    /// Milliseconds more for a life that ends before its first answer: a server cannot see the end
    /// of its stdin before it has started.
    pub start_ms: u64,
}

impl Patience {
    /// SDKs drain for 5 s on purpose; less would cry wolf.
    pub const FLOOR_MS: u64 = 6_000;
    /// However slow the subject's own clean run was.
    pub const CEILING_MS: u64 = 60_000;
    /// How much longer than in the first look a start may take, which was alone on the host.
    const START_FACTOR: u64 = 3;

    /// Calibrated on how long the subject's own clean exit took.
    pub fn calibrated(clean_exit_ms: u64) -> Self {
        let bound_ms = (clean_exit_ms.saturating_mul(10)).clamp(Self::FLOOR_MS, Self::CEILING_MS);
        Self { bound_ms, fixed: false, start_ms: 0 }
    }

    /// The same for a subject whose start took so long in the first look.
    #[must_use]
    pub fn with_start(self, start_ms: u64) -> Self {
        let start_ms = start_ms.saturating_mul(Self::START_FACTOR).min(Self::CEILING_MS);
        Self { start_ms, ..self }
    }

    /// Given by the user.
    pub fn fixed(bound_ms: u64) -> Self {
        Self { bound_ms, fixed: true, start_ms: 0 }
    }

    /// The bound on a host with so many runnable tasks for each core.
    pub fn under_load(self, load_per_core: f64) -> Duration {
        let scale = if self.fixed { 1.0 } else { load_per_core.clamp(1.0, 4.0) };
        Duration::from_millis(self.bound_ms).mul_f64(scale)
    }

    /// The bound for a life that ended before its first answer.
    pub fn before_an_answer(self, load_per_core: f64) -> Duration {
        let start = Duration::from_millis(self.start_ms).mul_f64(load_per_core.clamp(1.0, 4.0));
        self.under_load(load_per_core) + start
    }
}

/// What a cell tells its runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CellEvent {
    /// The subject runs.
    SubjectStarted {
        /// Its pid as the cell sees it.
        pid: i32,
    },
    /// What the first look learned.
    Learned(Box<Learned>),
    /// The case is judged.
    Judged(Box<CaseReport>),
    /// The next of many lives was looked at.
    Screened(Box<CaseReport>),
    /// The client did not come to the moment that the case is about.
    NotApplicable {
        /// How it came to that.
        why: String,
    },
    /// The cell itself went wrong.
    Broken {
        /// How.
        cause: String,
    },
}

/// What the first look learned of a server, or of a client.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Learned {
    /// serverInfo.
    pub name: String,
    /// serverInfo.
    pub version: String,
    /// Eras it answers in.
    pub eras: Vec<Era>,
    /// `server/discover` as the first message is answered, be it with an error.
    pub discover_is_answered: bool,
    /// `initialize` is answered after it, on the same connection.
    pub initialize_after_discover: bool,
    /// Its tools.
    pub tools: Vec<Tool>,
    /// It lists more than these.
    pub lists_more_tools: bool,
    /// Commands of the processes between client and server, outermost first.
    pub launchers: Vec<String>,
    /// From start to the answer of the handshake.
    pub start_ms: u64,
    /// From end of stdin to exit, where an exit was seen.
    pub exit_ms: Option<u64>,
    /// Other figures.
    pub figures: BTreeMap<String, f64>,
    /// Of an HTTP server.
    #[serde(default)]
    pub http: Option<HttpTraits>,
    /// Of a client.
    #[serde(default)]
    pub client: Option<Traits>,
    /// How many bytes go each way in the handshake and the first call, where that was measured.
    #[serde(default)]
    pub works: Option<Box<Works>>,
}

/// What the first look learned of an HTTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HttpTraits {
    /// Which of the two ways over HTTP it speaks.
    pub wire: Wire,
    /// It gives out session ids.
    pub sessions: bool,
    /// It ends a session upon DELETE.
    pub deletes: bool,
    /// It has a stream of events for those who GET.
    pub listens: bool,
    /// Its events have ids, by which a stream can be taken up again.
    pub resumes: bool,
    /// Processes that came with a session or a request.
    #[serde(default)]
    pub processes: usize,
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Marked read-only and closed-world, so that it may be called unasked.
    pub callable: bool,
    /// The smallest arguments its input schema allows.
    pub arguments: Value,
    /// Arguments with which a call lasts some seconds, where its input schema has a word for that.
    pub lasting: Option<Value>,
}

/// What a sentinel tells about the ground it stands on, the first line on its stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// Strength of containment.
    pub tier: Tier,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_is_no_late_end() {
        let patience = Patience::calibrated(100).with_start(5_000);
        assert_eq!(patience.under_load(1.0), Duration::from_secs(6));
        assert_eq!(patience.before_an_answer(1.0), Duration::from_secs(21));
        let fixed = Patience::fixed(1_000).with_start(2_000);
        assert_eq!(fixed.under_load(4.0), Duration::from_secs(1));
        assert_eq!(fixed.before_an_answer(1.0), Duration::from_secs(7));
    }
}
