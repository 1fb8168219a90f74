//! Sessions abandoned in four ways leave nothing, and a healthy one beside them is served; in small.
//! `cargo run -p scupper-core --example abandoned_sessions` does it with a thousand and prints figures.

#[path = "support/abandon.rs"]
mod abandon;

use std::{process::Command, time::Duration};

const NAME: &str = "abandoned_sessions_leave_nothing";
/// What this process is, if not the test itself: `server`, or the arguments of a client.
const ROLE: &str = "SCUPPER_TEST_ROLE";

fn role(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.args([NAME, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

#[test]
fn abandoned_sessions_leave_nothing() {
    match std::env::var(ROLE).as_deref() {
        // Descriptors are counted, so the server has a process of its own.
        Err(_) => {
            let output = role("server").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("1 passed"), "{said}");
        }
        Ok("server") => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let idle_limit = Duration::from_secs(3);
            let figures = runtime
                .block_on(abandon::judge(40, idle_limit, |arguments| role(&arguments.join(" "))));
            println!("{figures}");
            assert_eq!(figures.left, "", "{figures}");
            assert_eq!(figures.statistics.created, 41, "{figures}");
            assert_eq!(figures.statistics.closed(), 40, "{figures}");
            assert_eq!(figures.healthy.failures, 0, "{figures}");
            assert!(figures.healthy.calls > 0, "{figures}");
            assert_eq!(figures.census_at_end, "nothing is alive", "{figures}");
        }
        Ok(client) => {
            let arguments: Vec<String> = client.split(' ').map(str::to_owned).collect();
            abandon::client(&arguments);
        }
    }
}
