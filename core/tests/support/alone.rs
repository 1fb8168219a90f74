//! A test in a process of its own, whose descriptors, tasks and census are as before when it ends.

use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use scupper_core::census::Census;

const MARK: &str = "SCUPPER_TEST_ALONE";
const LONG: Duration = Duration::from_secs(60);

/// Every descriptor and what it is.
pub(crate) fn descriptors() -> BTreeMap<i32, PathBuf> {
    std::fs::read_dir("/proc/self/fd")
        .expect("/proc/self/fd")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            // The descriptor of this very listing is gone by now, or is a directory of /proc.
            let target = std::fs::read_link(entry.path()).ok()?;
            (!target.starts_with("/proc")).then_some((number, target))
        })
        .collect()
}

/// Runs the test `name` in a process of its own. There it gets a census and a runtime; when its future
/// ends, the census must come to be empty, and the descriptors and tasks to be those of before.
pub(crate) fn alone<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Census) -> F) {
    if std::env::var_os(MARK).is_none_or(|marked| marked != name) {
        return in_child(name);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        warm_up().await;
        let before = descriptors();
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let census = Census::new();
        test(census.clone()).await;
        let deadline = Instant::now() + LONG;
        loop {
            let after = descriptors();
            let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            if census.is_empty() && after == before && alive == tasks {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "left behind: {census}; {alive} tasks, {tasks} before; {after:?}, {before:?} before"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// What a runtime opens lazily is open before anything is counted.
async fn warm_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let client = tokio::net::TcpStream::connect(listener.local_addr().expect("an address"))
        .await
        .expect("connected");
    drop(listener.accept().await.expect("accepted"));
    drop(client);
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn in_child(name: &str) {
    let output = std::process::Command::new(std::env::current_exe().expect("our own path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, name)
        .stdin(Stdio::null())
        .output()
        .expect("started");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} alone: {}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "no such test: {out}");
}
