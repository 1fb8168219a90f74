//! Work that `ci/bench-compare` has two revisions do: `counted WORK ROUNDS [SCUPPER]`. Prints the seconds
//! that the rounds took, without what comes before.
//!
//! It is built in the trees of both revisions, so it uses nothing but what has been there for long.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::ledger::diff::change;
use harness::ledger::snapshot::{Identity, Kind, Snapshot};
use harness::lifecycle::scenario;
use harness::probe::{Root, Scanner, Sight};
use scupper_core::census::Census;
use scupper_core::process::Command;
use scupper_core::stdio::StdioServer;

const PAIRS: usize = 100;

const SCENARIO: &str = r#"
why = "The life every client hopes for: introduction, a list, a call, the graceful end."
rule = "2025-11-25 lifecycle X1"
[subject]
fake = "plain"
[[step]]
do = "open"
[[step]]
do = "handshake"
[[step]]
do = "repeat"
times = 20
  [[step.step]]
  do = "call"
  tool = "echo"
  arguments = { text = "hello" }
[[step]]
do = "close"
[expect]
verdict = "clean"
"#;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let took = match words[..] {
        [work, rounds] => rounds.parse().ok().and_then(|rounds| without_servers(work, rounds)),
        ["teardown", rounds, scupper] => rounds.parse().ok().map(|many| teardown(many, scupper)),
        _ => None,
    };
    match took {
        Some(took) => {
            println!("{}", took.as_secs_f64());
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("counted: probe, diff or parse ROUNDS; teardown ROUNDS SCUPPER");
            ExitCode::from(2)
        }
    }
}

fn without_servers(work: &str, rounds: usize) -> Option<Duration> {
    let timed = |round: &mut dyn FnMut()| {
        let began = Instant::now();
        (0..rounds).for_each(|_| round());
        began.elapsed()
    };
    let _held: Vec<_> = (0..PAIRS).map(|_| UnixStream::pair()).collect();
    let sight = Sight {
        root: Root::Itself,
        ours: BTreeSet::new(),
        temp_dir: None,
        kinds: [Kind::Process, Kind::Zombie, Kind::Fd, Kind::Thread].into(),
    };
    let mut scanner = Scanner::new();
    match work {
        "probe" => Some(timed(&mut || drop(black_box(scanner.scan(&sight))))),
        "diff" => {
            let before = scanner.scan(&sight);
            let after = without_some(&before);
            Some(timed(&mut || drop(black_box(change(&before, &after)))))
        }
        "parse" => Some(timed(&mut || {
            black_box(scenario::parse("counted.toml", SCENARIO)).expect("it is a scenario");
        })),
        _ => None,
    }
}

fn without_some(snapshot: &Snapshot) -> Snapshot {
    let mut other = snapshot.clone();
    let goes =
        |identity: &Identity| matches!(identity, Identity::Fd { number, .. } if number % 10 == 0);
    other.things.retain(|identity, _| !goes(identity));
    other
}

/// The close alone.
fn teardown(rounds: usize, scupper: &str) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll instance");
    let census = Census::new();
    let server = StdioServer::new(Command::new(scupper).args(["fake", "plain"]));
    let once = async || {
        let client = server.connect((), &census).await.expect("the server answers the handshake");
        let began = Instant::now();
        let teardown = client.close().await;
        let took = began.elapsed();
        assert!(teardown.is_complete(), "{teardown}");
        took
    };
    (0..rounds).map(|_| runtime.block_on(once())).sum()
}
