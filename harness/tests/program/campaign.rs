//! `scupper campaign` and `scupper merge`: the shards of a campaign are the campaign; with real servers
//! the core is clean; on a server that leaks a campaign finds it, and nothing in its clean twin.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn scupper(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_scupper")).args(arguments).output();
    output.expect("the program of this build")
}

fn told(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

fn report(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a report");
    let mut report: Value = serde_json::from_str(&text).expect("JSON");
    report["took_ms"].take();
    report
}

#[test]
fn shards_that_are_merged_equal_the_campaign_and_a_missing_one_is_not_green() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let words = |path: &PathBuf| path.to_string_lossy().into_owned();
    let played = |more: &[&str], to: &PathBuf, code: i32| {
        let to = words(to);
        let output = scupper(&[&["campaign", "--json", to.as_str()], more].concat());
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    };
    let whole = path("whole.json");
    played(&["--seeds", "100..300"], &whole, 0);
    let shards: Vec<PathBuf> = (1..=4).map(|number| path(&format!("{number}.json"))).collect();
    for (number, to) in (1..).zip(&shards) {
        // It has played all it was to play. Its report is not the campaign, which that says.
        played(&["--seeds", "100..300", "--shard", &format!("{number}/4")], to, 0);
        assert_eq!(report(to)["exit_code"], 3);
    }
    let merge = |parts: &[&PathBuf], to: &PathBuf| {
        let (parts, to): (Vec<String>, String) =
            (parts.iter().map(|part| words(part)).collect(), words(to));
        let mut arguments = vec!["merge", "--json", &to];
        arguments.extend(parts.iter().map(String::as_str));
        scupper(&arguments)
    };
    let [one, two, three, four] = &shards[..] else { unreachable!("there are four") };
    let merged = path("merged.json");
    let output = merge(&[three, one, four, two], &merged);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let (mut merged, mut whole) = (report(&merged), report(&whole));
    for report in [&mut merged, &mut whole] {
        for key in ["shards", "played"] {
            report["campaign"][key].take();
        }
    }
    assert_eq!(merged, whole);
    assert_eq!(whole["campaign"]["lifecycles"], 200);

    let output = merge(&[one, two, four], &path("part.json"));
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("these are missing: 3"), "{}", told(&output));
    // What a run that was killed has left in the place of its report is a lost shard, too.
    std::fs::write(three, "").expect("a file");
    let output = merge(&[one, two, three, four], &path("killed.json"));
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("3.json is empty"), "{}", told(&output));
    let output = merge(&[three], &path("none.json"));
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("no shard is left"), "{}", told(&output));
    let output = merge(&[one, one], &path("twice.json"));
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("shard 1 is in two of the reports"), "{}", told(&output));
}

#[test]
fn what_cannot_be_played_is_a_usage_error_and_a_lifecycle_is_played_by_its_code() {
    for wrong in [
        &["campaign"][..],
        &["campaign", "--seeds", "5..5"],
        &["campaign", "--seeds", "0..9", "--shard", "3/2"],
        &["campaign", "--lifecycle", "xyz"],
        &["merge", "/nowhere/report.json"],
        &["merge", env!("CARGO_MANIFEST_PATH")],
    ] {
        let output = scupper(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", told(&output));
    }
    let output = scupper(&["campaign", "--lifecycle", "08000000-18000000"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let expected = " 1. add server 0, which does all it should\n 2. server 0 dies\n\
                    model and core agree after every step\n";
    assert_eq!(told(&output), expected);
}

/// A hundred lifecycles that are always the same, and with SCUPPER_SEED=N twenty from that seed on.
/// Each is in a cell of its own, in both topologies, and at its end the kernel has to agree with the census that nothing is left.
#[test]
fn the_core_is_clean_with_real_servers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (to, found) = (folder.path().join("report.json"), folder.path().join("found"));
    let mut ranges: Vec<(u64, u64)> = vec![(0, 100)];
    if let Ok(seed) = std::env::var("SCUPPER_SEED") {
        ranges.push((seed.parse().expect("SCUPPER_SEED is a number"), 20));
    }
    for (first, number) in ranges {
        let seeds = format!("{first}..{}", first + number);
        let mut told = std::io::stderr();
        // Past the test runner, which keeps what passing tests print to itself.
        let _ = writeln!(told, "generated lifecycles with real servers: seeds {seeds}");
        let output = Command::new(env!("CARGO_BIN_EXE_scupper"))
            .args(["campaign", "--real", "--seeds", &seeds, "--json"])
            .arg(&to)
            .arg("--found")
            .arg(&found)
            .output()
            .expect("the program of this build");
        assert_eq!(output.status.code(), Some(0), "seeds {seeds}:\n{}", self::told(&output));
        assert_eq!(report(&to)["campaign"]["lifecycles"], number);
        let _ = write!(told, "{}", self::told(&output));
    }
    assert!(!found.exists(), "a clean campaign writes nothing");
}

/// What only a cancelled call leaks is found, made short and written; the file repeats it. The twin is
/// clean over the same seeds.
#[test]
fn a_leaky_server_is_found_and_the_lifecycle_shrinks() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = folder.path().join("found");
    let play = |before: &[&str], after: &[&str]| {
        let server = ["--", env!("CARGO_BIN_EXE_scupper"), "fake", "leaks-on-cancel"];
        Command::new(env!("CARGO_BIN_EXE_scupper"))
            .args(["campaign", "--seeds", "0..8", "--jobs", "4", "--call", r#"sleep={"ms":500}"#])
            .arg("--found")
            .arg(&found)
            .args([before, &server, after].concat())
            .output()
            .expect("the program of this build")
    };
    let output = play(&[], &["--fixed"]);
    assert_eq!(output.status.code(), Some(0), "the clean twin: {}", told(&output));
    // What leaks on purpose is not waited for; only the twin needs patience.
    let output = play(&["--leak-timeout=1s"], &[]);
    let words = told(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for part in ["LEAK  generated/fd-server", "culprit: server", "confirmed alone in a fresh cell"]
    {
        assert!(words.contains(part), "no `{part}` in:\n{words}");
    }
    let file = found.join("fd-server.toml");
    let text = std::fs::read_to_string(&file).expect("the scenario that was written");
    let scenario: toml::Table = text.parse().expect("a scenario is TOML");
    let steps = scenario["step"].as_array().expect("its steps").len();
    assert!(steps <= 6, "{steps} steps:\n{text}");
    let output = scupper(&["run", "--leak-timeout=1s", &file.to_string_lossy()]);
    let words = told(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("fd"), "{words}");
}
