//! Misbehaving clients over Streamable HTTP, `scupper fake-client NAME --url URL`: well-behaved but for
//! one fault each, and with `--fixed` the twin that does the same work in the right way.
//!
//! Each begins a session, opens its stream of events, lists the tools, calls one, closes the stream
//! and deletes the session. Those that stay do so before they end it, until their own stdin ends or
//! SIGTERM comes.
//!
//! - `registry`: the list of them, and how a fault is told.
//! - `session`: a session, its requests and its end; `stream`: its stream of events.

mod registry;
mod session;
mod stream;

use std::{
    fs::File,
    io::{self, BufRead, Read},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;

pub use self::registry::{HTTP_FAKE_CLIENTS, HttpFakeClientInfo};
use self::{
    registry::{Fault, Habits},
    session::Session,
};
use super::{
    FILE_LIMIT,
    registry::{FakeClientError, Rounds},
    until_told,
};
use crate::lifecycle::scenario::FakeSpec;

/// How many requests such a client makes in a good life.
pub const REQUESTS: u32 = 3;

/// What a client has that it should have given back by now.
#[derive(Default)]
pub(super) struct Kept {
    sockets: Vec<TcpStream>,
    streams: Vec<stream::Stream>,
    children: Vec<Child>,
}

/// Whether there is such a client, with such options.
pub fn check(spec: &FakeSpec) -> Result<(), FakeClientError> {
    registry::build(spec).map(drop)
}

/// Whether it ends when its own stdin does; none of one that ends by itself.
pub fn ends_with_stdin(spec: &FakeSpec) -> Option<bool> {
    registry::build(spec).ok()?.stays.then_some(true)
}

/// The URL of the first server of a file, where it is reached at one.
pub fn url_of(file: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    File::open(file)?.take(FILE_LIMIT).read_to_string(&mut text)?;
    let config: Value = serde_json::from_str(&text)?;
    let servers = config.get("mcpServers").and_then(Value::as_object);
    let first = servers.and_then(|servers| servers.values().next());
    Ok(first.and_then(|server| server.get("url")?.as_str().map(str::to_owned)))
}

/// Is this client until it ends, and returns its exit code: 1 where the server did not do its part.
pub fn run(spec: &FakeSpec, url: &str) -> Result<u8, FakeClientError> {
    let habits = registry::build(spec)?;
    // Before anything is begun: the moment at which it may come is any.
    let told_to_end = Arc::new(AtomicBool::new(false));
    if habits.stays {
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&told_to_end))?;
        }
    }
    let mut well = true;
    let mut kept = Kept::default();
    match habits.rounds {
        Rounds::Number(number) => {
            for nth in 0..number {
                well &= round(&habits, url, &told_to_end, &mut kept, nth == 0)?;
            }
        }
        Rounds::Lines => {
            // A line is a line, whatever it says.
            let lines = io::stdin().lock().take(FILE_LIMIT).split(b'\n').map_while(Result::ok);
            for (nth, _) in lines.enumerate() {
                well &= round(&habits, url, &told_to_end, &mut kept, nth == 0)?;
            }
        }
    }
    Ok(u8::from(!well))
}

/// The whole of its work, once: whether the server did its part.
fn round(
    habits: &Habits,
    url: &str,
    told_to_end: &Arc<AtomicBool>,
    kept: &mut Kept,
    is_first: bool,
) -> Result<bool, FakeClientError> {
    let mut session = Session::new(url, habits.fault, Arc::clone(told_to_end), is_first)?;
    let mut served = session.begin().is_ok();
    let mut helpers = Vec::new();
    if served && habits.has_helpers {
        helpers = start_helpers()?;
    }
    served &= served && session.work().is_ok();
    if habits.ends_first || !served {
        session.end(kept);
    }
    if habits.fault == Fault::All {
        // A second one, which nobody ends.
        let mut other = Session::new(url, Fault::ForgetsDelete, Arc::clone(told_to_end), is_first)?;
        served &= other.begin().is_ok();
    }
    if habits.stays && served {
        until_told(told_to_end);
    }
    session.end(kept);
    match habits.fault {
        Fault::All => kept.children.append(&mut helpers),
        _ => end_helpers(helpers)?,
    }
    Ok(served)
}

/// One that stays until it is killed, and one that is dead and waits to be reaped.
fn start_helpers() -> io::Result<Vec<Child>> {
    let stays = start_helper()?;
    let mut ends = start_helper()?;
    ends.kill()?;
    let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(&ends)), dead)?;
    Ok(vec![stays, ends])
}

/// A process that stays until it is killed.
fn start_helper() -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg(crate::cell::HOLD)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn end_helpers(helpers: Vec<Child>) -> io::Result<()> {
    for mut helper in helpers {
        helper.kill()?;
        helper.wait()?;
    }
    Ok(())
}
