//! Generated lifecycles: every string of bytes is one, and so is every seed.
//!
//! Four bytes are a step: what is done, to which of four, and how. So fewer bytes are fewer steps,
//! what is left over at the end counts for nothing, and whoever shrinks bytes shrinks lifecycles. A
//! seed gives its bytes by SplitMix64, whose stream is fixed for good: the same seed is the same
//! lifecycle on every machine.

use std::fmt;

/// How many servers, and how many sessions, a lifecycle has at most.
pub const PLACES: usize = 4;
/// The most steps of a lifecycle; further bytes count for nothing.
pub const LONGEST: usize = 48;
/// Bytes to a step.
pub const STEP_BYTES: usize = 4;

/// A lifecycle of a host with servers and of a service with sessions, in any interleaving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// What is done, in order. Most of it begins something and does not wait for its end.
    pub steps: Vec<GeneratedStep>,
}

/// A step and the bytes that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratedStep {
    /// What is done.
    pub act: Act,
    /// The next step follows after so many turns of the runtime; `None` once all is quiet.
    pub turns: Option<u8>,
    /// Its bytes.
    pub code: [u8; STEP_BYTES],
}

/// Which server, or which session, from 0.
pub type Place = usize;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Time passes.
    Wait {
        /// How much, in milliseconds.
        ms: u64,
    },
    /// Begins to add a server.
    Add {
        /// Under which name.
        server: Place,
        /// What is at the other end.
        peer: Peer,
        /// Asks for the newer handshake first.
        probes: bool,
        /// Takes the place of one that has the name.
        replaces: bool,
    },
    /// Drops the latest adding of this name, if it has not ended.
    DropAdd(Place),
    /// Begins to call a tool.
    Call(Place),
    /// Drops the latest call.
    DropCall(Place),
    /// Begins to remove a server.
    Remove(Place),
    /// Drops the latest removal, which goes on all the same.
    DropRemove(Place),
    /// The server ends both its streams.
    PeerEnds(Place),
    /// The server says something unasked.
    PeerSays(Place, Word),
    /// Begins to look at the health of all servers.
    Health,
    /// Begins a shutdown of the host.
    Shutdown {
        /// Until servers are killed, in milliseconds.
        deadline_ms: u64,
    },
    /// Drops the host with all that uses it, and makes another.
    NewHost,
    /// Opens a session.
    Open(Place, Opening),
    /// Begins to call a tool in a session.
    Request(Place, Tool),
    /// Opens the stream of a session.
    Listen(Place),
    /// Drops all streams and requests of a session's client.
    Disconnect(Place),
    /// The client ends its session.
    Delete(Place),
    /// The owner ends a session.
    Evict(Place),
    /// Begins to close all sessions.
    CloseSessions,
    /// Drops all sessions without close.
    DropSessions,
    /// Begins to keep a cursor for a session.
    Put(Place),
    /// Begins to read the latest cursor of a session.
    Read(Place),
    /// Begins to remove the latest cursor of a session.
    Take(Place),
    /// Begins a sweep of the cursors.
    Sweep,
    /// The store of the cursors changes its mood.
    Store(Mood),
}

/// What is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A server that does all it should.
    Well,
    /// Reads, and never answers.
    Silent,
    /// Never reads nor answers, and does not mind the end of its input.
    Deaf,
    /// Ends its streams after so many bytes of its first answer.
    DiesAt(u8),
    /// Ends its streams after its first answer.
    DiesEarly,
    /// Answers with lines that are no messages.
    Garbage,
    /// Sends half of its first answer, and no more.
    HalfLine,
    /// Answers with a line without an end.
    LongLine,
    /// Refuses the handshake.
    Refuses,
    /// Takes 100 ms for each answer.
    Late,
    /// Never answers a call.
    HangsOnCall,
    /// Ends its streams when a tool is called.
    DiesOnCall,
    /// Reads nothing after the handshake, and does not mind the end of its input.
    StopsReading,
    /// Does not mind the end of its input.
    Lingers,
    /// Its streams cannot be opened.
    NotOpened,
    /// Opening its streams takes for ever.
    NeverOpened,
    /// Opening its streams panics.
    PanicsOpening,
}

/// What a server says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// That its tools have changed.
    ToolsChanged,
    /// A message for the log.
    Log,
    /// A line that is no message.
    Garbage,
    /// A part of a line.
    HalfLine,
    /// A line longer than any may be.
    LongLine,
    /// A `ping`.
    Ping,
}

/// How a session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With the whole handshake.
    Whole,
    /// Without the last message of the handshake.
    Half,
    /// With an `initialize` that the client gives up after so many turns of the runtime.
    GivenUp(u8),
}

/// A tool of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Answers at once.
    Echo,
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
}

/// How the store of the cursors takes what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Works,
    /// Every call fails.
    Fails,
    /// No call is answered.
    Hangs,
    /// Every call panics.
    Panics,
}

/// The lifecycle that these bytes are.
pub fn lifecycle_of(bytes: &[u8]) -> Generated {
    let codes = bytes.chunks_exact(STEP_BYTES).take(LONGEST);
    let step = |code: &[u8]| {
        let code = [code[0], code[1], code[2], code[3]];
        GeneratedStep { act: act(code), turns: turns(code), code }
    };
    Generated { steps: codes.map(step).collect() }
}

/// The lifecycle of this seed.
pub fn of_seed(seed: u64) -> Generated {
    let mut stream = SplitMix64(seed);
    let steps = 1 + (stream.next() % 24) as usize;
    let bytes: Vec<u8> = (0..steps).flat_map(|_| (stream.next() as u32).to_le_bytes()).collect();
    lifecycle_of(&bytes)
}

impl Generated {
    /// The bytes that it is made of.
    pub fn bytes(&self) -> Vec<u8> {
        self.steps.iter().flat_map(|step| step.code).collect()
    }

    /// Its bytes in hexadecimal digits, which [`parse`](Self::parse) reads.
    pub fn code(&self) -> String {
        let words: Vec<String> = self
            .steps
            .iter()
            .map(|step| step.code.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        words.join("-")
    }

    /// Reads what [`code`](Self::code) gave; `None` if this is none.
    pub fn parse(code: &str) -> Option<Self> {
        let digits: String = code.chars().filter(|letter| *letter != '-').collect();
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex
            || !digits.len().is_multiple_of(2 * STEP_BYTES)
            || digits.len() > 2 * STEP_BYTES * LONGEST
        {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        Some(lifecycle_of(&bytes?))
    }
}

/// One step a line.
impl fmt::Display for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("no steps");
        }
        for (index, step) in self.steps.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{:>2}. {}", index + 1, step.act)?;
            if let Some(turns) = step.turns {
                write!(f, "; {turns} turns later")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Wait { ms } => write!(f, "wait {ms} ms"),
            Act::Add { server, peer, probes, replaces } => {
                write!(f, "add server {server}, which {peer}")?;
                f.write_str(if *probes { ", probing its era" } else { "" })?;
                f.write_str(if *replaces { ", in place of any" } else { "" })
            }
            Act::DropAdd(server) => write!(f, "drop the adding of server {server}"),
            Act::Call(server) => write!(f, "call a tool of server {server}"),
            Act::DropCall(server) => write!(f, "drop the call of server {server}"),
            Act::Remove(server) => write!(f, "remove server {server}"),
            Act::DropRemove(server) => write!(f, "drop the removal of server {server}"),
            Act::PeerEnds(server) => write!(f, "server {server} dies"),
            Act::PeerSays(server, word) => write!(f, "server {server} says {word:?}"),
            Act::Health => f.write_str("check the health of all servers"),
            Act::Shutdown { deadline_ms } => write!(f, "shut the host down in {deadline_ms} ms"),
            Act::NewHost => f.write_str("drop the host and make another"),
            Act::Open(session, Opening::GivenUp(turns)) => {
                write!(f, "open session {session}, given up after {turns} turns")
            }
            Act::Open(session, how) => write!(f, "open session {session} ({how:?})"),
            Act::Request(session, tool) => write!(f, "call {tool:?} in session {session}"),
            Act::Listen(session) => write!(f, "listen in session {session}"),
            Act::Disconnect(session) => write!(f, "the client of session {session} vanishes"),
            Act::Delete(session) => write!(f, "DELETE session {session}"),
            Act::Evict(session) => write!(f, "remove session {session}"),
            Act::CloseSessions => f.write_str("close all sessions"),
            Act::DropSessions => f.write_str("drop all sessions"),
            Act::Put(session) => write!(f, "put a cursor into session {session}"),
            Act::Read(session) => write!(f, "read a cursor of session {session}"),
            Act::Take(session) => write!(f, "remove a cursor of session {session}"),
            Act::Sweep => f.write_str("sweep the cursors"),
            Act::Store(mood) => write!(f, "from now on the store {mood:?}"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::Well => "does all it should",
            Peer::Silent => "never answers",
            Peer::Deaf => "neither reads nor answers",
            Peer::DiesAt(bytes) => {
                return write!(f, "dies after {bytes} bytes of its first answer");
            }
            Peer::DiesEarly => "dies after its first answer",
            Peer::Garbage => "answers with garbage",
            Peer::HalfLine => "answers with half a line",
            Peer::LongLine => "answers with a line without end",
            Peer::Refuses => "refuses the handshake",
            Peer::Late => "answers late",
            Peer::HangsOnCall => "never answers a call",
            Peer::DiesOnCall => "dies when it is called",
            Peer::StopsReading => "stops reading after the handshake",
            Peer::Lingers => "stays after the end of its input",
            Peer::NotOpened => "cannot be opened",
            Peer::NeverOpened => "is never open",
            Peer::PanicsOpening => "panics on opening",
        })
    }
}

/// A quarter of all steps is not waited for.
fn turns(code: [u8; STEP_BYTES]) -> Option<u8> {
    Some((code[3] >> 3).checked_sub(24)? * 3)
}

/// Low numbers are the simple things, because shrinking makes numbers low.
fn act([what, a, b, c]: [u8; STEP_BYTES]) -> Act {
    let place = usize::from(a) % PLACES;
    match what % 48 {
        0..=5 => Act::Wait { ms: [1, 5, 60, 120, 350, 700, 1300, 2600][usize::from(a) % 8] },
        6..=13 => {
            Act::Add { server: place, peer: peer(b), probes: c & 1 == 1, replaces: c & 6 == 6 }
        }
        14 | 15 => Act::DropAdd(place),
        16..=18 => Act::Call(place),
        19 => Act::DropCall(place),
        20..=22 => Act::Remove(place),
        23 => Act::DropRemove(place),
        24 | 25 => Act::PeerEnds(place),
        26 => Act::PeerSays(
            place,
            [
                Word::ToolsChanged,
                Word::Log,
                Word::Garbage,
                Word::HalfLine,
                Word::LongLine,
                Word::Ping,
            ][usize::from(b) % 6],
        ),
        27 => Act::Health,
        28 => Act::Shutdown { deadline_ms: [0, 10, 100, 1000][usize::from(a) % 4] },
        29 => Act::NewHost,
        30..=33 => Act::Open(
            place,
            match b % 6 {
                0..=3 => Opening::Whole,
                4 => Opening::Half,
                _ => Opening::GivenUp(c % 12),
            },
        ),
        34 => Act::Request(place, [Tool::Echo, Tool::Hang, Tool::Panic][usize::from(b) % 3]),
        35 => Act::Listen(place),
        36 => Act::Disconnect(place),
        37 => Act::Delete(place),
        38 => Act::Evict(place),
        39 => match b % 4 {
            0..=2 => Act::CloseSessions,
            _ => Act::DropSessions,
        },
        40..=43 => Act::Put(place),
        44 => Act::Read(place),
        45 => Act::Take(place),
        46 => Act::Sweep,
        _ => Act::Store([Mood::Works, Mood::Fails, Mood::Hangs, Mood::Panics][usize::from(b) % 4]),
    }
}

fn peer(byte: u8) -> Peer {
    match byte % 32 {
        0..=7 => Peer::Well,
        8 | 9 => Peer::Silent,
        10 => Peer::Deaf,
        // Every length below that of the shortest first answer.
        11..=14 => Peer::DiesAt((byte / 32) * 4 + byte % 32 - 11),
        15 => Peer::DiesEarly,
        16 => Peer::Garbage,
        17 => Peer::HalfLine,
        18 => Peer::LongLine,
        19 => Peer::Refuses,
        20 | 21 => Peer::Late,
        22 | 23 => Peer::HangsOnCall,
        24 | 25 => Peer::DiesOnCall,
        26 => Peer::StopsReading,
        27 | 28 => Peer::Lingers,
        29 => Peer::NotOpened,
        30 => Peer::NeverOpened,
        _ => Peer::PanicsOpening,
    }
}

/// The generator of Steele, Lea and Flood (2014), as published: its stream never changes.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        let mut stream = SplitMix64(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| stream.next()).collect();
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_seed_is_the_same_lifecycle_on_every_machine() {
        insta::assert_snapshot!(format!("{}\n{}", of_seed(7), of_seed(7).code()));
        let all: String = (0..1000).map(|seed| of_seed(seed).code()).collect();
        // FNV-1a, of a thousand codes.
        let hash = all.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        insta::assert_snapshot!(format!("{hash:016x}"));
    }

    #[test]
    fn codes_are_read_back_and_others_are_refused() {
        for seed in 0..200 {
            let lifecycle = of_seed(seed);
            assert_eq!(Generated::parse(&lifecycle.code()), Some(lifecycle.clone()));
            assert_eq!(lifecycle_of(&lifecycle.bytes()), lifecycle);
        }
        for wrong in ["0", "00000000-0", "0000000g", "ü0000000"] {
            assert_eq!(Generated::parse(wrong), None, "{wrong}");
        }
        assert_eq!(lifecycle_of(&[0; 7]).steps.len(), 1, "a rest counts for nothing");
        assert_eq!(lifecycle_of(&[0; 4000]).steps.len(), LONGEST);
    }

    #[test]
    fn every_act_and_every_peer_is_generated() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..2000 {
            for step in of_seed(seed).steps {
                let words = format!("{:?}", step.act);
                if let Act::Add { peer, .. } = step.act {
                    let peer = format!("{peer:?}");
                    kinds.insert(peer.split('(').next().unwrap_or_default().to_owned());
                }
                let end = words.find([' ', '(']).unwrap_or(words.len());
                kinds.insert(words[..end].to_owned());
            }
        }
        assert_eq!(kinds.len(), 25 + 17, "{kinds:?}");
    }
}
