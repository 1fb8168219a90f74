//! Adds, calls and removes a server in one host, many times, and tells what the process holds
//! afterwards: `cargo run -p scupper-core --example churn -- [CYCLES]`, 10,000 by default.
//!
//! Exit code 1 if anything is held that was not held after the first ten cycles, or if memory grows by
//! more than the printed bound.

#[path = "../tests/support/footprint.rs"]
mod footprint;

use std::{process::ExitCode, time::Instant};

use footprint::Footprint;
use rmcp::model::CallToolRequestParams;
use scupper_core::{
    host::{Host, OnDuplicate, ServerSpec, Settings},
    process::Command,
};

/// A server of the older protocol with one tool.
const SERVER: &str = r#"
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"method":"initialize"'*) answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"0"}}' ;;
    *'"method":"tools/list"'*) answer '{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/call"'*) answer '{"content":[{"type":"text","text":"called"}]}' ;;
    *'"id":'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}\n' "$id" ;;
  esac
done"#;

/// A cycle that keeps as much as this, or more, is a leak; and so is what a heap grows by at once,
/// spread over all cycles, where that is more: short runs see single steps.
const BOUND_BYTES_A_CYCLE: f64 = 64.0;
const HEAP_STEP_BYTES: f64 = 256.0 * 1024.0;
const WARM_UP: usize = 10;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let cycles: usize = std::env::args().nth(1).map_or(Ok(10_000), |number| number.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(churn(cycles))
}

async fn churn(cycles: usize) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let host = Host::new(Settings::default());
    let spec = ServerSpec::stdio(Command::new("sh").arg("-c").arg(SERVER));
    let mut before = None;
    let mut memory = Vec::new();
    let began = Instant::now();
    for cycle in 1..=cycles {
        host.add("fake", spec.clone(), OnDuplicate::Refuse).await?;
        host.call_tool("fake", CallToolRequestParams::new("echo")).await?;
        let end = host.remove("fake").await.ok_or("it was there")?;
        if !end.is_clean() || !host.census().is_empty() {
            return Err(format!("cycle {cycle}: {end}\n{}", host.census()).into());
        }
        if cycle == WARM_UP {
            before = Some(Footprint::take());
        }
        // The first tenth is what allocators and caches need to settle.
        if cycle > cycles / 10 && cycle % (cycles / 200).max(1) == 0 {
            memory.push((cycle as f64, resident_bytes() as f64));
        }
    }
    let took = began.elapsed();
    let after = Footprint::take();
    let same = before.as_ref() == Some(&after);
    let slope = slope(&memory);
    let bound = BOUND_BYTES_A_CYCLE.max(HEAP_STEP_BYTES / cycles as f64);
    println!(
        "{cycles} cycles of add, call, remove in {:.1} s, {:.2} ms each",
        took.as_secs_f64(),
        took.as_secs_f64() * 1000.0 / cycles as f64
    );
    println!(
        "descriptors {}, threads {}, tasks {}, children {}: {}",
        after.descriptors.len(),
        after.threads.len(),
        after.tasks,
        if after.has_children { "some" } else { "none" },
        if same {
            "the very ones of after the first ten"
        } else {
            "NOT those of after the first ten"
        }
    );
    if !same {
        println!("after the first ten: {before:#?}\nat the end: {after:#?}");
    }
    println!(
        "memory {:.1} MiB, growing by {slope:.1} bytes a cycle (bound {bound:.1})",
        resident_bytes() as f64 / f64::from(1 << 20)
    );
    println!("{:?}", host.statistics());
    host.shutdown(std::time::Duration::from_secs(5)).await;
    let good = same && slope < bound;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Memory in use, in bytes.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// By how much y grows with x, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let rise: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    rise / run
}
