//! The examples for engines do what they say: `ci/dry-run` starts the shards of a campaign by the very
//! commands of the example files, kills one, runs it again and merges.
//!
//! It takes Python 3. Without it this prints that it was skipped and passes, unless
//! SCUPPER_REQUIRE_REAL_SERVERS is set.

use std::path::Path;
use std::process::{Command, Output};

/// So many that a shard can be killed before it ends, and so few that all of it takes seconds.
const SEEDS: &str = "240";

fn dry_run(engine: &str) -> Option<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/dry-run");
    let output = Command::new("python3")
        .arg(script)
        .args(["--quick", "--seeds", SEEDS, "--scupper", env!("CARGO_BIN_EXE_scupper"), engine])
        .output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            let said = format!("python3 cannot be started: {error}");
            assert!(std::env::var_os("SCUPPER_REQUIRE_REAL_SERVERS").is_none(), "{said}");
            println!("skipped: {said}");
            None
        }
    }
}

/// Both that a lost shard is told, by exit code 3, and that what is merged is the whole campaign.
fn shards_are_the_campaign(engine: &str) {
    let Some(output) = dry_run(engine) else { return };
    let streams = [&output.stdout, &output.stderr];
    let told = streams.map(|stream| String::from_utf8_lossy(stream).into_owned()).concat();
    assert_eq!(output.status.code(), Some(0), "{told}");
    for part in [
        "killed: the merge's exit code is 3",
        "merged equals the campaign in one piece, 240 seeds",
        &format!("ci/dry-run: checked: {engine}"),
    ] {
        assert!(told.contains(part), "no `{part}` in:\n{told}");
    }
}

#[test]
fn a_matrix_of_github_is_the_campaign_and_says_what_it_lost() {
    shards_are_the_campaign("github");
}

#[test]
fn a_parallel_job_of_gitlab_is_the_campaign_and_says_what_it_lost() {
    shards_are_the_campaign("gitlab");
}

#[test]
fn an_indexed_job_of_kubernetes_is_the_campaign_and_says_what_it_lost() {
    shards_are_the_campaign("kubernetes");
}
