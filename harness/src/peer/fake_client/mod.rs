//! Misbehaving clients, `scupper fake-client NAME`: real stdio clients, well-behaved but for one
//! fault each, and with `--fixed` the twin that does the same work in the right way.
//!
//! Each starts its servers one after the other, introduces itself, lists the tools, calls one, and
//! ends its servers: by the end of their stdin, SIGTERM and SIGKILL, with a wait after each. Those
//! that stay do so after the call, until their own stdin ends or SIGTERM comes.
//!
//! - `registry`: the list of them, and how a fault is told.
//! - `server`: a connection to one server, and its end.
//! - [`http`]: the same over HTTP.

pub mod http;
mod registry;
mod server;

use std::{
    fs,
    hint::black_box,
    io::{self, BufRead, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

pub use self::registry::{FAKE_CLIENTS, FakeClientError, FakeClientInfo};
use self::registry::{Habits, Rounds};
use self::server::Server;
use crate::lifecycle::scenario::FakeSpec;

/// Largest file of servers, in bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// How often a client that stays looks whether a signal has come.
const LOOK: Duration = Duration::from_millis(10);

/// Whether there is such a client, with such options.
pub fn check(spec: &FakeSpec) -> Result<(), FakeClientError> {
    registry::build(spec).map(drop)
}

/// Whether it ends when its own stdin does; none of one that ends by itself.
pub fn ends_with_stdin(spec: &FakeSpec) -> Option<bool> {
    let all_habits = registry::build(spec).ok()?;
    let stays = all_habits.iter().any(|habits| habits.stays);
    stays.then(|| all_habits.iter().all(|habits| habits.ends_stdin))
}

/// The command lines of the servers of a file, in order.
pub fn servers_of(file: &Path) -> io::Result<Vec<Vec<String>>> {
    let mut text = String::new();
    fs::File::open(file)?.take(FILE_LIMIT).read_to_string(&mut text)?;
    let config: Value = serde_json::from_str(&text)?;
    let servers = config.get("mcpServers").and_then(Value::as_object);
    let servers = servers.ok_or_else(|| {
        io::Error::other(format!("{} has no object `mcpServers`", file.display()))
    })?;
    let word = |value: &Value| value.as_str().map(str::to_owned);
    Ok(servers
        .values()
        .map(|server| {
            let arguments = server.get("args").and_then(Value::as_array);
            let arguments = arguments.into_iter().flatten().filter_map(word);
            server.get("command").and_then(word).into_iter().chain(arguments).collect()
        })
        .collect())
}

/// Is this client until it ends, and returns its exit code: 1 where a server did not do its part.
pub fn run(spec: &FakeSpec, servers: &[Vec<String>]) -> Result<u8, FakeClientError> {
    let all_habits = registry::build(spec)?;
    let stays = all_habits.iter().any(|habits| habits.stays);
    // Before any server is started: the moment at which it may come is any.
    let told_to_end = Arc::new(AtomicBool::new(false));
    if stays {
        let hurries = all_habits.iter().any(|habits| habits.hurries);
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            if hurries {
                // It looks before the line below sets what it looks at, so it is the second that counts.
                let told = Arc::clone(&told_to_end);
                signal_hook::flag::register_conditional_shutdown(signal, 1, told)?;
            }
            signal_hook::flag::register(signal, Arc::clone(&told_to_end))?;
        }
    }
    let mut well = true;
    let mut kept = Kept::default();
    match all_habits[0].rounds {
        Rounds::Number(number) => {
            for _ in 0..number {
                well &= round(&all_habits, servers, &told_to_end, &mut kept)?;
            }
        }
        Rounds::Lines => {
            // A line is a line, whatever it says.
            for _ in io::stdin().lock().take(FILE_LIMIT).split(b'\n').map_while(Result::ok) {
                well &= round(&all_habits, servers, &told_to_end, &mut kept)?;
            }
        }
    }
    Ok(u8::from(!well))
}

/// What a client should let go of and does not.
#[derive(Default)]
struct Kept {
    descriptors: Vec<Arc<fs::File>>,
    memory: Vec<Vec<u8>>,
}

/// The whole of its work, once: whether every server did its part. What a client should close and
/// does not is kept.
fn round(
    all_habits: &[Habits],
    servers: &[Vec<String>],
    told_to_end: &AtomicBool,
    kept: &mut Kept,
) -> Result<bool, FakeClientError> {
    let mut well = true;
    let mut connected: Vec<Server> = Vec::new();
    for (number, command) in servers.iter().enumerate() {
        let habits = all_habits[number.min(all_habits.len() - 1)].clone();
        let mut server = Server::start(command, habits)?;
        let served = server.work().is_ok();
        well &= served;
        if !served {
            // One that does not do its part is not kept.
            server.end();
        }
        connected.push(server);
    }
    let ends_first = all_habits.iter().any(|habits| habits.ends_first);
    if ends_first {
        connected.iter_mut().for_each(Server::end);
    }
    if all_habits.iter().any(|habits| habits.stays) {
        until_told(told_to_end);
    }
    if !ends_first {
        connected.iter_mut().for_each(Server::end);
    }
    kept.descriptors.extend(connected.into_iter().filter_map(Server::into_kept));
    if all_habits.iter().any(|habits| habits.keeps_memory) {
        // Every page is written to: what was never touched takes no room.
        kept.memory.push(black_box(vec![1; 64 * 1024]));
    }
    Ok(well)
}

/// Waits for the end of our stdin, or for a signal.
fn until_told(told: &AtomicBool) {
    let (ended, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        let mut rest = [0; 256];
        while io::stdin().read(&mut rest).is_ok_and(|count| count > 0) {}
        drop(ended);
    });
    while !told.load(Ordering::Relaxed)
        && !matches!(end.recv_timeout(LOOK), Err(RecvTimeoutError::Disconnected))
    {}
}
