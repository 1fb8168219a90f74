//! A host with ten servers that dies by SIGKILL, with a guard and without.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command as Process, ExitCode, Stdio};
use std::time::Instant;

use benches::mark::{Mark, VARIABLE};
use futures::future::join_all;
use scupper_core::census::Census;
use scupper_core::guard::{Entrance, Guard, GuardProgram, GuardSettings};
use scupper_core::process::Command;
use scupper_core::stdio::StdioServer;

use crate::inside::call_echo;
use crate::{Ended, GONE_WAIT, LEFT_WAIT, PEER};

/// Makes a process the host: `GUARDED SERVER NUMBER`.
const ROLE: &str = "SCUPPER_BENCH_HOST";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarded {
    Yes,
    No,
}

impl Guarded {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Guarded::Yes => "core-guarded",
            Guarded::No => "core-unguarded",
        }
    }
}

/// What this process is asked to be, if it is a host.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Connects, says so, and stays until its stdin ends or it is killed.
pub(crate) fn run(role: &str, entrance: Entrance) -> ExitCode {
    let mut words = role.split(' ');
    let (guarded, server, at_once) = (words.next(), words.next(), words.next());
    let at_once: usize = at_once.and_then(|word| word.parse().ok()).expect("a number of servers");
    let census = Census::new();
    let guard = (guarded == Some(Guarded::Yes.name())).then(|| {
        Guard::start(GuardSettings::new(GuardProgram::Own(entrance)), &census).expect("a guard")
    });
    let mut server = StdioServer::new(Command::new(PEER).arg(server.expect("a server")));
    if let Some(guard) = &guard {
        server = server.guarded_by(guard);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll instance");
    let _clients = runtime.block_on(join_all((0..at_once).map(|_| async {
        let client = server.connect((), &census).await.expect("the handshake is answered");
        call_echo(&client).await;
        client
    })));
    println!("ready");
    std::io::stdout().flush().ok();
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    ExitCode::SUCCESS
}

/// Starts a host, kills it, and waits for all that it started to be gone.
pub(crate) fn kill(guarded: Guarded, server: &str, at_once: usize) -> Ended {
    let mark = Mark::fresh();
    let program = std::env::current_exe().expect("this program has a path");
    // Its servers inherit the mark; its guard has an environment of its own, and goes by itself.
    let child = Process::new(program)
        .env(ROLE, format!("{} {server} {at_once}", guarded.name()))
        .env(VARIABLE, mark.value())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started again");
    let mut host = Host(child);
    let mut line = String::new();
    let stdout = host.0.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).expect("the host says that it is ready");
    assert_eq!(line, "ready\n");
    let carriers = mark.carriers();
    assert!(carriers.count() > at_once, "{} with the host", carriers.count());
    let began = Instant::now();
    host.0.kill().expect("our own child");
    host.0.wait().expect("our own child");
    let is_seen_to = guarded == Guarded::Yes || server == "plain";
    Ended::of(carriers, began, if is_seen_to { GONE_WAIT } else { LEFT_WAIT })
}

struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
