//! The byte sweep: the peer goes wrong after every byte of the handshake and of the first call.
//!
//! A clean run counts the bytes that go each way. Every byte then is a point, in both directions, for
//! every fault, alone and followed by a second one while the subject cleans up. What came of each point
//! is folded: equal outcomes of neighbours are one range. [`http`] is the same of a server over HTTP; that
//! of a client over HTTP is [`super::client::http::cut`].

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::step::{Action, EraChoice, HandshakePoint, Lifecycle, Signal, Step, Stream, Whom};

pub mod http;
#[cfg(test)]
mod tests;

/// First part of the id of every point.
pub const FOLDER: &str = "sweep";
/// The figure that says whether the bytes of a cut have passed: 1, or 0 where the life had fewer.
pub const CUT_REACHED: &str = "cut_reached";
/// How long a peer that stalls neither reads nor writes before it leaves.
pub const STALL: Duration = Duration::from_millis(20);
/// The rule that obliges a server to end with its client.
const N9: &str = "2026-07-28 stdio N9";

/// How many bytes go each way in a clean run: the place at which each message ends, and over HTTP each
/// head, chunk and event in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Works {
    /// Messages to the subject.
    pub to: Vec<u64>,
    /// Messages from the subject.
    pub from: Vec<u64>,
}

/// How the word begins that says what a wire does.
pub const WIRE: &str = "wire:";

/// What goes wrong with the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It is killed.
    Dies,
    /// It closes all streams.
    Closes,
    /// It writes no more, and still reads.
    HalfCloses,
    /// It closes its reading end, so that the subject's next write fails; then it leaves.
    Resets,
    /// It neither reads nor writes; then it leaves.
    Stalls,
}

/// Which bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Those that a judged server is sent.
    ToServer,
    /// Those that are read from it.
    FromServer,
    /// Those that a judged client is sent.
    ToClient,
    /// Those that are read from it.
    FromClient,
}

/// Who is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A server, whose client goes wrong.
    Server,
    /// An HTTP server, likewise.
    HttpServer,
    /// A client, whose server goes wrong.
    Client,
}

impl Side {
    /// To it, and from it.
    fn directions(self) -> [Direction; 2] {
        match self {
            Side::Server | Side::HttpServer => [Direction::ToServer, Direction::FromServer],
            Side::Client => [Direction::ToClient, Direction::FromClient],
        }
    }
}

/// What a server of ours does with the bytes that pass, byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// It counts them.
    Counted,
    /// It goes wrong here.
    Cut(Point),
}

spelled! {
    Fault {
        Dies = "dies", Closes = "closes", HalfCloses = "half-closes", Resets = "resets",
        Stalls = "stalls",
    }
    Direction {
        ToServer = "to-server", FromServer = "from-server", ToClient = "to-client",
        FromClient = "from-client",
    }
}

impl Direction {
    /// Where these bytes go.
    fn stream(self) -> Stream {
        match self {
            Direction::ToServer | Direction::FromClient => Stream::Stdin,
            Direction::FromServer | Direction::ToClient => Stream::Stdout,
        }
    }

    fn side(self) -> Side {
        match self {
            Direction::ToServer | Direction::FromServer => Side::Server,
            Direction::ToClient | Direction::FromClient => Side::Client,
        }
    }
}

impl Fault {
    /// The second fault, while the subject cleans up after this one; none where the peer is gone.
    fn second(self, side: Side) -> Option<&'static str> {
        match (side, self) {
            (Side::Server, Fault::HalfCloses | Fault::Resets) => Some("dies"),
            (Side::Server, Fault::Dies | Fault::Closes | Fault::Stalls) => Some("sigterm"),
            // A process that has reset its connections has nothing more to end with.
            (Side::HttpServer, Fault::Resets) => None,
            (Side::HttpServer, other) => other.second(Side::Server),
            // It stays upon the end of stdin and upon SIGTERM.
            (Side::Client, Fault::Closes | Fault::HalfCloses) => Some("deaf"),
            (Side::Client, Fault::Dies | Fault::Resets | Fault::Stalls) => None,
        }
    }
}

/// One fault, all bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lane {
    /// Which bytes.
    pub direction: Direction,
    /// What goes wrong.
    pub fault: Fault,
    /// And then a second thing, during the clean-up.
    pub twice: bool,
}

impl Lane {
    /// Every lane of a sweep, in the order of play.
    pub fn all(side: Side) -> Vec<Lane> {
        let mut all = Vec::new();
        for direction in side.directions() {
            for fault in Fault::ALL {
                let lane = |twice| Lane { direction, fault: *fault, twice };
                all.push(lane(false));
                all.extend(fault.second(side).map(|_| lane(true)));
            }
        }
        all
    }

    /// The folder of its points, such as `sweep/dies/to-server`.
    pub fn id(&self) -> String {
        format!("{FOLDER}/{}/{}", self.faults("-then-"), self.direction)
    }

    /// In words, such as `dies, then sigterm, to the server`.
    pub fn words(&self) -> String {
        let way = match self.direction {
            Direction::ToServer => "to the server",
            Direction::FromServer => "from the server",
            Direction::ToClient => "to the client",
            Direction::FromClient => "from the client",
        };
        format!("{}, {way}", self.faults(", then "))
    }

    fn faults(&self, then: &str) -> String {
        let fault = self.fault.as_str();
        match self.fault.second(self.direction.side()).filter(|_| self.twice) {
            Some(second) => format!("{fault}{then}{second}"),
            None => fault.to_owned(),
        }
    }

    /// The steps by which the peer goes wrong.
    fn ends(&self) -> Vec<Action> {
        let kill_client = Action::Kill { whom: Whom::Client };
        let close = |stream| Action::HalfClose { stream };
        let mut steps = match self.fault {
            Fault::Dies => vec![kill_client.clone()],
            Fault::Closes => vec![Action::Drop],
            // What the subject still has to say is read on.
            Fault::HalfCloses => {
                vec![close(Stream::Stdin), Action::Resume { stream: Stream::Stdout }]
            }
            // A write that fails is how a subject learns of it, so it is given something to answer.
            Fault::Resets => vec![
                close(Stream::Stdout),
                close(Stream::Stderr),
                Action::Resume { stream: self.direction.stream() },
                Action::Request {
                    method: "tools/list".into(),
                    params: serde_json::Value::Null,
                    wait: false,
                },
                close(Stream::Stdin),
            ],
            Fault::Stalls => vec![
                Action::Stall { stream: Stream::Stdout },
                Action::Stall { stream: Stream::Stderr },
                Action::Pause { time: STALL },
                Action::Drop,
            ],
        };
        if self.twice {
            let term = |whom| Action::Signal { signal: Signal::Term, whom };
            steps.push(match self.fault {
                Fault::HalfCloses | Fault::Resets => kill_client,
                // A supervisor that ends the rest.
                Fault::Dies => term(Whom::Group),
                Fault::Closes | Fault::Stalls => term(Whom::Server),
            });
        }
        steps
    }
}

/// One byte in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    /// The lane.
    pub lane: Lane,
    /// After so many bytes.
    pub byte: u64,
}

impl Point {
    /// Its id, such as `sweep/dies/to-server/152`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.lane.id(), self.byte)
    }

    /// What this point is about, in a sentence, with the rule that it rests on.
    pub fn why(&self) -> String {
        let (peer, way) = match self.lane.direction {
            Direction::ToServer => ("client", "to the server"),
            Direction::FromServer => ("client", "from the server"),
            Direction::ToClient => ("server", "to the client"),
            Direction::FromClient => ("server", "from the client"),
        };
        format!("The {peer} {} after byte {} {way}.", self.lane.faults(", then "), self.byte)
    }

    /// The life of a server whose client goes wrong here. `call` is the first call, which is waited
    /// for.
    pub fn lifecycle(&self, call: &Step) -> Lifecycle {
        let stream = self.lane.direction.stream();
        let begin = [
            Action::Open,
            Action::Cut { stream, bytes: self.byte },
            Action::Handshake { until: HandshakePoint::Ready },
        ];
        let begin = begin.into_iter().map(Step::new);
        let end = self.lane.ends().into_iter().map(Step::new);
        Lifecycle {
            id: self.id(),
            why: self.why(),
            rule: Some(N9.to_owned()),
            era: EraChoice::Auto,
            steps: begin.chain([call.clone()]).chain(end).collect(),
        }
    }
}

impl Wire {
    /// As a word of a command line, such as `wire:dies:to-client:152`.
    pub fn word(&self) -> String {
        match self {
            Wire::Counted => format!("{WIRE}counted"),
            Wire::Cut(Point { lane, byte }) => {
                let twice = if lane.twice { ":twice" } else { "" };
                format!("{WIRE}{}:{}:{byte}{twice}", lane.fault, lane.direction)
            }
        }
    }

    /// Reads such a word; none where it is another one.
    pub fn parse(word: &str) -> Option<Self> {
        let parts: Vec<&str> = word.strip_prefix(WIRE)?.split(':').collect();
        let (fault, direction, byte, twice) = match parts.as_slice() {
            ["counted"] => return Some(Wire::Counted),
            [fault, direction, byte] => (fault, direction, byte, false),
            [fault, direction, byte, "twice"] => (fault, direction, byte, true),
            _ => return None,
        };
        let fault = *Fault::ALL.iter().find(|known| known.as_str() == *fault)?;
        let direction = *Direction::ALL.iter().find(|known| known.as_str() == *direction)?;
        let lane = Lane { direction, fault, twice };
        Some(Wire::Cut(Point { lane, byte: byte.parse().ok()? }))
    }
}

/// The clean life that is counted.
pub fn measured(call: &Step) -> Lifecycle {
    let steps = [
        Step::new(Action::Open),
        Step::new(Action::Handshake { until: HandshakePoint::Ready }),
        call.clone(),
        Step::new(Action::Close),
    ];
    Lifecycle {
        id: format!("{FOLDER}/counted"),
        why: "A clean life, of which every byte is counted.".into(),
        rule: Some(N9.to_owned()),
        era: EraChoice::Auto,
        steps: steps.to_vec(),
    }
}

/// Whether a name given by `--only` or `--skip` may be that of a point: a fault, a lane, or a byte or a
/// range of bytes of one.
pub fn may_name(side: Side, name: &str, fits: impl Fn(&str, &str) -> bool) -> bool {
    let lanes = Lane::all(side);
    let of_a_lane = |name: &str| lanes.iter().any(|lane| fits(name, &lane.id()));
    let is_byte = |text: &str| {
        let mut ends = text.split("..=");
        ends.clone().count() <= 2 && ends.all(|end| end.parse::<u64>().is_ok())
    };
    of_a_lane(name)
        || name.rsplit_once('/').is_some_and(|(lane, byte)| is_byte(byte) && of_a_lane(lane))
}

/// Whether a name is that of a range in which this point lies, such as
/// `sweep/dies/to-server/0..=151`.
pub fn is_in_range(name: &str, point: &Point) -> bool {
    let Some((lane, range)) = name.rsplit_once('/') else { return false };
    let Some((first, last)) = range.split_once("..=") else { return false };
    let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else { return false };
    lane == point.lane.id() && (first..=last).contains(&point.byte)
}

/// All points, lane by lane, or with `shallow` those of a sample of so many bytes.
pub fn points(side: Side, works: &Works, shallow: Option<usize>) -> Vec<Point> {
    let bytes = bytes(side, works, shallow);
    let of_lane = |lane: Lane| {
        let here = bytes.iter().filter(move |(direction, _)| *direction == lane.direction);
        here.map(move |(_, byte)| Point { lane, byte: *byte })
    };
    Lane::all(side).into_iter().flat_map(of_lane).collect()
}

/// The bytes of both directions, or a sample of so many of them that always holds where messages begin
/// and end, and one byte to either side; these may be more.
pub fn bytes(side: Side, works: &Works, shallow: Option<usize>) -> BTreeSet<(Direction, u64)> {
    let [to, from] = side.directions();
    let all = |direction, ends: &[u64]| {
        // Before the first byte, nothing is read that differs from nothing being written.
        let first = u64::from(direction == from);
        (first..=ends.last().copied().unwrap_or(0)).map(move |byte| (direction, byte))
    };
    let mut whole: Vec<(Direction, u64)> = all(to, &works.to).collect();
    whole.extend(all(from, &works.from));
    let Some(shallow) = shallow else { return whole.into_iter().collect() };
    let near = |byte: u64, ends: &[u64]| [0].iter().chain(ends).any(|end| byte.abs_diff(*end) <= 1);
    let (mut chosen, others): (Vec<_>, Vec<_>) = whole
        .into_iter()
        .partition(|(way, byte)| near(*byte, if *way == to { &works.to } else { &works.from }));
    let room = shallow.saturating_sub(chosen.len()).min(others.len());
    // From the middle of each of so many equal parts.
    chosen.extend((0..room).map(|part| others[(2 * part + 1) * others.len() / (2 * room)]));
    chosen.into_iter().collect()
}

/// One part of several, from 1, of points in their order. The parts are neighbours, so that what is
/// folded in each can be put together.
pub fn shard(points: &[Point], part: usize, of: usize) -> &[Point] {
    let of = of.max(1);
    let part = part.clamp(1, of);
    let at = |part: usize| points.len() * part / of;
    &points[at(part - 1)..at(part)]
}

/// Neighbours with one and the same outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span<T> {
    /// The first byte.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many bytes between were played, these two too.
    pub lives: usize,
    /// What came of all of them.
    pub outcome: T,
}

/// Folds the outcomes of one lane, in the order of their bytes.
pub fn fold<T: PartialEq>(outcomes: impl IntoIterator<Item = (u64, T)>) -> Vec<Span<T>> {
    let mut spans: Vec<Span<T>> = Vec::new();
    for (byte, outcome) in outcomes {
        match spans.last_mut() {
            Some(span) if span.outcome == outcome => {
                span.last = byte;
                span.lives += 1;
            }
            _ => spans.push(Span { first: byte, last: byte, lives: 1, outcome }),
        }
    }
    spans
}

/// Longest run of neighbours that are not clean of which each is judged by itself.
const SHORT_RUN: usize = 8;
/// How many of the judged ones of a longer run are the least: its ends, and between them.
const LEAST_JUDGED: usize = 5;

/// Which of a run of neighbours, all of which outlived a first look, have to be judged next. A leak
/// takes its full time to be proved, so of a long run the ends are judged and some between them; where
/// two judged neighbours differ, what lies between is halved until the edge is found. `judged` has an
/// outcome for each that was judged, or none where it turned out to be clean: those say nothing of
/// others.
pub fn judge_next<T: PartialEq>(run: usize, judged: &[(usize, Option<T>)]) -> Vec<usize> {
    let done: BTreeSet<usize> = judged.iter().map(|(at, _)| *at).collect();
    if run <= SHORT_RUN {
        return (0..run).filter(|at| !done.contains(at)).collect();
    }
    let mut next: Vec<usize> = [0, run - 1].into_iter().filter(|at| !done.contains(at)).collect();
    if !next.is_empty() {
        return next;
    }
    let longest = run.div_ceil(LEAST_JUDGED - 1);
    for pair in judged.windows(2) {
        let ((left, one), (right, other)) = (&pair[0], &pair[1]);
        let gap = right - left;
        let alike = one.is_some() && one == other;
        if gap > 1 && (!alike || gap > longest) {
            next.push(left + gap / 2);
        }
    }
    next
}
