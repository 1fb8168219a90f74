//! Shuts down a host with 50 servers, half of which ignore the end of their stdin, and tells how long
//! it took: `cargo run -p scupper-core --example shutdown_fifty`. The graces are 500 ms each, so the
//! slowest server takes 500 ms by right, and one after the other they would take 12.5 s.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use scupper_core::{
    host::{ConnectionEnd, Era, Host, OnDuplicate, ServerSpec, Settings},
    process::Command,
    stdio::{self, StdioServer},
};

const SERVER: &str = r#"
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"sh","version":"0"}}}\n' "$id" ;;
  esac
done"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let grace = Duration::from_millis(500);
    let settings =
        stdio::Settings { first_grace: grace, second_grace: grace, ..stdio::Settings::default() };
    let host = Host::new(Settings::default());
    for number in 0..50 {
        let stays = if number % 2 == 0 { "" } else { "\nwhile :; do sleep 1; done" };
        let command = Command::new("sh").arg("-c").arg(format!("{SERVER}{stays}"));
        let server = StdioServer::new(command).with_settings(settings);
        let spec = ServerSpec::from(server).with_era(Era::Initialize);
        host.add(format!("server {number}"), spec, OnDuplicate::Refuse).await?;
    }
    let began = Instant::now();
    let shutdown = host.shutdown(Duration::from_secs(5)).await;
    let took = began.elapsed();
    let sum: Duration = shutdown
        .servers
        .iter()
        .filter_map(|end| end.connection.as_ref())
        .map(ConnectionEnd::took)
        .sum();
    println!(
        "{} outcomes in {:.0} ms; one after the other it would have been {:.1} s; census: {}",
        shutdown.servers.len(),
        took.as_secs_f64() * 1000.0,
        sum.as_secs_f64(),
        host.census()
    );
    let good = shutdown.servers.len() == 50
        && host.census().is_empty()
        && took < Duration::from_millis(1500);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
