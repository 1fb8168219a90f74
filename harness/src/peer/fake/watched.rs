//! A fake that a client under test starts, and that tells the cell what befalls it: what it was born
//! with, which messages and signals reach it, when its stdin ends, when it leaves.
//!
//! Its order stands in its arguments, for clients scrub the environment: the channel, which of the
//! client's servers it is, the fake's name, and options; see [`arguments`].

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level::{emulate_default_handler, signal_name},
};

use super::{
    cut::Line,
    instead::{Late, Watched},
    message::Incoming,
    registry,
    server::{self, Output},
};
use crate::{
    lifecycle::{
        client::{Instead, Played, Unanswered},
        scenario::FakeSpec,
        step::Era,
        sweep::Wire,
    },
    peer::report::{CANCELLED, Report},
};

/// Messages that are told of; a client that sends more has been understood by then.
const MOST_TOLD: usize = 2_000;
/// Longest beginning of a line that is looked at, in bytes.
const LINE_LIMIT: usize = 1 << 20;
/// How long the cell may take to look at a server that was just born.
const LOOK_BOUND: Duration = Duration::from_secs(30);
/// Signals that a client may send. SIGKILL shows in the end of the channel without a word.
const SIGNALS: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];
/// The fake that no signal but SIGKILL ends.
const DEAF: &str = "ignores-eof-and-term";

/// The arguments that make a server what the script says, after the program's name.
pub fn arguments(channel: &str, number: usize, server: &Played) -> Vec<String> {
    let mut words = vec![crate::cell::PEER.to_owned(), channel.to_owned(), number.to_string()];
    words.push(server.fake.name.clone());
    words.extend(server.fake.options.iter().map(|(key, value)| format!("{key}={value}")));
    if let Some(Unanswered { method, instead }) = &server.unanswered {
        words.push(format!("{instead}:{method}"));
    }
    words.extend(server.era.map(|era| format!("era:{}", era.revision())));
    words.extend(server.wire.map(|wire| wire.word()));
    words
}

/// Is such a server until it ends. Returns its exit code; the caller must exit at once.
pub fn run(words: &[String]) -> io::Result<u8> {
    let inherited = inherited()?;
    let (channel, number, server) = parse(words)?;
    let said = Said::connect(&channel)?;
    said.and_wait(&Report::Born { server: number, inherited });
    let fault = registry::build(&server.fake).map_err(io::Error::other)?;
    said.watch_signals(server.fake.name == DEAF)?;
    let late = Late::new(said.channel()?);
    let teller = said.clone();
    let wire = Line::new(server.wire, Arc::new(move |report| teller.tell(report)));
    wire.begin()?;
    let mut fault = Watched { fault, server, late: late.clone() };
    let stdin = Heard {
        stdin: BufReader::new(wire.reader()),
        line: Vec::new(),
        told: 0,
        ended: false,
        said: said.clone(),
        late,
    };
    let code = server::serve(&mut fault, stdin, Output::new(wire.writer()));
    said.tell(&Report::Leaving { code });
    Ok(code)
}

/// Descriptors beyond the three streams, before this process opens any.
fn inherited() -> io::Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        // The descriptor by which the list itself is read is in it and leads back to it.
        let is_list = fs::read_link(entry.path()).is_ok_and(|to| {
            to.to_str().is_some_and(|to| to.starts_with("/proc/") && to.ends_with("/fd"))
        });
        numbers.extend(number.filter(|number| *number > 2 && !is_list));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn parse(words: &[String]) -> io::Result<(String, usize, Played)> {
    let wrong = || io::Error::other("a watched server is started by a client that scupper judges");
    let [channel, number, name, options @ ..] = words else { return Err(wrong()) };
    let mut server = Played {
        fake: FakeSpec { name: name.clone(), ..FakeSpec::default() },
        unanswered: None,
        era: None,
        wire: None,
    };
    for option in options {
        if let Some(wire) = Wire::parse(option) {
            server.wire = Some(wire);
            continue;
        }
        let era = option.strip_prefix("era:");
        let instead = Instead::ALL.iter().find_map(|instead| {
            let method = option.strip_prefix(instead.as_str())?.strip_prefix(':')?;
            Some(Unanswered { method: method.to_owned(), instead: *instead })
        });
        match (era, instead, option.split_once('=')) {
            (Some(era), _, _) => {
                let known = [Era::Legacy, Era::Modern];
                server.era = known.into_iter().find(|known| known.revision() == era);
            }
            (_, Some(unanswered), _) => server.unanswered = Some(unanswered),
            (_, _, Some((key, value))) => {
                server.fake.options.insert(key.to_owned(), value.to_owned());
            }
            _ => return Err(wrong()),
        }
    }
    Ok((channel.clone(), number.parse().map_err(|_| wrong())?, server))
}

/// The channel to the cell. A cell that is gone hears nothing, and that is no reason to stop.
#[derive(Clone)]
struct Said(Arc<Mutex<UnixStream>>);

impl Said {
    fn connect(path: &str) -> io::Result<Self> {
        // Close-on-exec, as the standard library makes every descriptor: no helper has it.
        let channel = UnixStream::connect(path).map_err(|error| {
            io::Error::other(format!("cannot reach scupper at {path}: {error}"))
        })?;
        Ok(Self(Arc::new(Mutex::new(channel))))
    }

    fn tell(&self, report: &Report) {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        let mut channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = channel.write_all(&line);
    }

    /// A handle of its own, for what is read from it.
    fn channel(&self) -> io::Result<UnixStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).try_clone()
    }

    /// Tells it, and waits until the cell has looked.
    fn and_wait(&self, report: &Report) {
        self.tell(report);
        let mut go = [0];
        // A signal that comes meanwhile must be told, too. Without an answer there is nobody who
        // judges, and a server serves.
        let _ = self.channel().and_then(|mut channel| {
            channel.set_read_timeout(Some(LOOK_BOUND))?;
            channel.read(&mut go)
        });
    }

    /// Tells of signals, and then does what they do by default, unless this server is deaf.
    fn watch_signals(&self, deaf: bool) -> io::Result<()> {
        let mut signals = Signals::new(SIGNALS)?;
        let said = self.clone();
        let watch = move || {
            for signal in signals.forever() {
                let name = signal_name(signal).unwrap_or("a signal").to_owned();
                said.tell(&Report::Signalled { name });
                if !(deaf && signal == SIGTERM) {
                    // It ends the process.
                    let _ = emulate_default_handler(signal);
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
    }
}

/// Stdin, of which every message is told.
struct Heard<R> {
    stdin: R,
    line: Vec<u8>,
    told: usize,
    ended: bool,
    said: Said,
    late: Late,
}

impl<R: BufRead> Read for Heard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Heard<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // Asked once more below, where the buffer that is full by now is given out as it is.
        let at_end = self.stdin.fill_buf().map_or(true, <[u8]>::is_empty);
        if at_end && !self.ended {
            self.ended = true;
            self.said.tell(&Report::StdinEnded);
            self.late.comes();
        }
        if at_end { Ok(&[]) } else { self.stdin.fill_buf() }
    }

    fn consume(&mut self, count: usize) {
        let bytes = self.stdin.fill_buf().map(|ready| ready[..count].to_vec()).unwrap_or_default();
        self.stdin.consume(count);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_LIMIT.saturating_sub(self.line.len());
            self.line.extend(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let heard = heard(&line);
                let gives_up = matches!(&heard, Report::Heard { method: Some(method), .. }
                    if method == CANCELLED);
                match self.told {
                    // What was started before it is seen before the client can end anything.
                    0 => self.said.and_wait(&heard),
                    told if told < MOST_TOLD => self.said.tell(&heard),
                    _ => {}
                }
                if gives_up {
                    self.late.comes();
                }
                self.told += 1;
            }
        }
    }
}

/// What is told of a line.
fn heard(line: &[u8]) -> Report {
    match Incoming::parse(line) {
        Incoming::Request(request) => Report::Heard {
            client: introduced(&request.params),
            modern: request.era() == Era::Modern,
            method: Some(request.method),
        },
        Incoming::Notification { method, .. } => {
            Report::Heard { method: Some(method), client: None, modern: false }
        }
        Incoming::Ignored | Incoming::Invalid(_) => {
            Report::Heard { method: None, client: None, modern: false }
        }
    }
}

/// The name that a client gives itself, in the words of either era.
fn introduced(params: &Value) -> Option<(String, String)> {
    let modern =
        |params: &Value| params.get("_meta")?.get("io.modelcontextprotocol/clientInfo").cloned();
    let info = params.get("clientInfo").cloned().or_else(|| modern(params))?;
    let text = |key: &str| {
        let value = info.get(key).and_then(Value::as_str).unwrap_or("unknown");
        value.chars().take(100).collect::<String>()
    };
    Some((text("name"), text("version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_order_survives_the_way_through_its_arguments() {
        for (_, script) in crate::lifecycle::client::of_any() {
            for mut server in script.servers {
                server.era = Some(Era::Modern);
                let words = arguments("/tmp/peers", 3, &server);
                let parsed = parse(&words[1..]).expect("it is ours");
                assert_eq!(parsed, ("/tmp/peers".to_owned(), 3, server.clone()));
                assert!(registry::build(&server.fake).is_ok(), "{:?}", server.fake);
            }
        }
    }
}
