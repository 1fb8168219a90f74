//! How long the core takes to close a well-behaved server, from the end of stdin to the last process
//! reaped, beside the floor: closing the pipe and waiting, with nothing else done.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use scupper_core::census::Census;
use scupper_core::process::Command;
use scupper_core::stdio::StdioServer;

const PEER: &str = env!("CARGO_BIN_EXE_peer");

fn teardown(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("teardown");
    group.bench_function("floor", |bench| {
        bench.iter_custom(|rounds| (0..rounds).map(|_| floor()).sum());
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll instance");
    let census = Census::new();
    let server = StdioServer::new(Command::new(PEER).arg("plain"));
    group.bench_function("core", |bench| {
        bench.iter_custom(|rounds| {
            (0..rounds).map(|_| runtime.block_on(core(&server, &census))).sum()
        });
    });
    group.finish();
    assert!(census.is_empty(), "{census}");
}

/// Closes the pipe and waits.
fn floor() -> Duration {
    let mut child = Process::new(PEER)
        .arg("plain")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the peer was built with this benchmark");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let ping = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    stdin.write_all(ping).and_then(|()| stdin.write_all(b"\n")).expect("the peer reads");
    let mut answer = String::new();
    BufReader::new(stdout).read_line(&mut answer).expect("the peer answers");
    let began = Instant::now();
    drop(stdin);
    child.wait().expect("the peer is ours to wait for");
    began.elapsed()
}

async fn core(server: &StdioServer, census: &Census) -> Duration {
    let client = server.connect((), census).await.expect("the peer answers the handshake");
    let began = Instant::now();
    let teardown = client.close().await;
    let took = began.elapsed();
    assert!(teardown.is_complete(), "{teardown}");
    took
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = teardown
}
criterion_main!(benches);
