//! What a guard is worth, in figures: a host with 20 connected servers is killed by SIGKILL ten
//! times, and ten times while it starts them; how long until nothing of it is alive.
//!
//! ```sh
//! cargo run -p scupper-core --example guarded_host
//! ```
//!
//! Five servers each: well-behaved; deaf to the end of stdin; deaf to it and to SIGTERM; with a
//! helper in its group. Exit code 1 if anything was alive 2 s after a kill.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Child, Command as StdCommand, ExitCode, Stdio},
    time::{Duration, Instant},
};

use scupper_core::{
    census::Census,
    guard::{self, Entrance, Guard, GuardProgram, GuardSettings},
    process::{Command, ProcessId},
    stdio::StdioServer,
};

type Failure = Box<dyn std::error::Error>;

/// Tells a process that it is the host, and marks all below it.
const RUN: &str = "GUARDED_HOST_RUN";
const ROUNDS: u32 = 10;
const ALLOWED: Duration = Duration::from_secs(2);

/// Answers `initialize` and ends at end of stdin.
const SERVER: &str = r#"
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in *'"method":"initialize"'*)
    echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"sh","version":"0"}}}' ;;
  esac
done"#;

fn main() -> Result<ExitCode, Failure> {
    // The line that makes this program able to be its own guard.
    let entrance = guard::run_if_asked();
    if env::var_os(RUN).is_some() {
        be_host(entrance)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut left = 0;
    println!("connected hosts, killed:");
    for round in 1..=ROUNDS {
        let mut host = start_host(&format!("idle-{round}"))?;
        host.wait_for("ready")?;
        left += host.kill_and_watch(&format!("round {round:2}"))?;
    }
    println!("hosts killed while they start their servers:");
    for round in 1..=ROUNDS {
        let mut host = start_host(&format!("starting-{round}"))?;
        // Further in with each round; the host does not stop for us, so this is in the middle of
        // the start of the next server.
        host.wait_for(&format!("started {}", 2 * round - 1))?;
        left += host.kill_and_watch(&format!("round {round:2}, after {} starts", 2 * round - 1))?;
    }
    println!("alive after {ALLOWED:?}: {left}");
    Ok(ExitCode::from(u8::from(left > 0)))
}

/// The whole of what a host has to do for its guard: start it, name it, close it.
fn be_host(entrance: Entrance) -> Result<(), Failure> {
    let census = Census::new();
    let guard = Guard::start(GuardSettings::new(GuardProgram::Own(entrance)), &census)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for number in 1..=20 {
            let script = match number % 4 {
                0 => SERVER.to_owned(),
                1 => format!("{SERVER}\nwhile :; do sleep 1; done"),
                2 => format!("trap '' TERM\n{SERVER}\nwhile :; do sleep 1; done"),
                _ => format!("sleep 600 &\n{SERVER}"),
            };
            let server =
                StdioServer::new(Command::new("sh").arg("-c").arg(script)).guarded_by(&guard);
            clients.push(server.connect((), &census).await?);
            println!("started {number}");
        }
        println!("ready");
        std::future::pending::<()>().await;
        for client in clients {
            println!("{}", client.close().await);
        }
        Ok::<_, Failure>(())
    })?;
    println!("{}", guard.close());
    Ok(())
}

struct Host {
    child: Child,
    run: String,
}

fn start_host(run: &str) -> Result<Host, Failure> {
    let run = format!("{}-{run}", std::process::id());
    let child = StdCommand::new(env::current_exe()?)
        .env(RUN, &run)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(Host { child, run })
}

impl Host {
    fn wait_for(&mut self, what: &str) -> Result<(), Failure> {
        let stdout = self.child.stdout.as_mut().ok_or("no stdout")?;
        // Unbuffered beyond a line: the next wait may follow.
        for line in BufReader::with_capacity(1, stdout).lines() {
            if line? == what {
                return Ok(());
            }
        }
        Err(format!("the host ended before it said `{what}`").into())
    }

    /// How many were alive when the time was up.
    fn kill_and_watch(mut self, what: &str) -> Result<usize, Failure> {
        let before = self.alive().len();
        self.child.kill()?;
        let died = Instant::now();
        self.child.wait()?;
        while !self.alive().is_empty() && died.elapsed() < ALLOWED {
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = self.alive().len();
        let took = died.elapsed().as_millis();
        println!("  {what}: {before} processes before, {left} after {took} ms");
        Ok(left)
    }

    /// Everything that inherited the mark of this run and is no zombie.
    fn alive(&self) -> Vec<ProcessId> {
        let mark = format!("{RUN}={}", self.run);
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let process = ProcessId::of(entry.file_name().to_str()?.parse().ok()?).ok()?;
                let environ = fs::read(entry.path().join("environ")).ok()?;
                let marked = environ.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes());
                (marked && process.is_alive()).then_some(process)
            })
            .collect()
    }
}
