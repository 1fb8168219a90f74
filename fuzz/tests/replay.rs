//! Every seed through its body on stable, in a process of its own as under libFuzzer, and every seed of
//! the parsers cut and bent a little.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use scupper_fuzz::{CANARY, Reach, SCENARIO, TARGETS, Target, WIRE};

/// The programs of this package, built without a fuzzer.
const PROGRAMS: [(&str, &str); 6] = [
    ("canary", env!("CARGO_BIN_EXE_canary")),
    ("cursor", env!("CARGO_BIN_EXE_cursor")),
    ("lifecycle", env!("CARGO_BIN_EXE_lifecycle")),
    ("scenario", env!("CARGO_BIN_EXE_scenario")),
    ("session", env!("CARGO_BIN_EXE_session")),
    ("wire", env!("CARGO_BIN_EXE_wire")),
];

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn seeds(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = here("seeds").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |path: PathBuf| {
        let data = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, data)
    };
    let mut seeds: Vec<_> =
        entries.map(|entry| read(entry.expect("an entry that can be read").path())).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    seeds
}

fn replay(target: &Target, input: PathBuf) -> Output {
    let program = PROGRAMS.iter().find(|(name, _)| *name == target.name);
    let (_, program) = program.unwrap_or_else(|| panic!("no program for {}", target.name));
    Command::new(program).arg(input).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// What is named `bad` covers the errors; everything else gets where things happen.
#[test]
fn every_seed_passes_and_gets_as_far_as_its_name_says() {
    for target in &TARGETS {
        let replayed = replay(target, here("seeds").join(target.name));
        let said = String::from_utf8_lossy(&replayed.stdout);
        let complained = String::from_utf8_lossy(&replayed.stderr);
        assert!(replayed.status.success(), "{}:\n{said}{complained}", target.name);
        println!("{}", said.lines().last().unwrap_or_default());
        for (path, _) in seeds(target) {
            let is_bad = path.file_name().unwrap().to_string_lossy().starts_with("bad");
            let reach = if is_bad { Reach::Rejected } else { Reach::Active };
            let line = format!("{}: {reach:?}", path.display());
            assert!(said.lines().any(|said| said == line), "not `{line}` in\n{said}");
        }
    }
}

/// The list of targets, the manifest, the folders of targets and seeds and the programs are the same.
#[test]
fn every_target_is_replayed() {
    let mut listed: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    listed.push(CANARY.name);
    listed.sort_unstable();
    assert_eq!(listed, PROGRAMS.map(|(name, _)| name));
    for folder in ["fuzz_targets", "seeds"] {
        let entries = fs::read_dir(here(folder)).expect("a folder of this package");
        let mut found: Vec<String> = entries
            .map(|entry| entry.expect("an entry that can be read").path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        assert_eq!(listed, found, "in {folder}");
    }
}

#[test]
fn the_canary_fails_and_its_near_miss_does_not() {
    let seed = here("seeds/canary/near-miss");
    assert!(replay(&CANARY, seed).status.success(), "the near miss failed");
    let caught = std::panic::catch_unwind(|| (CANARY.body)(b"leak!"));
    assert!(caught.is_err(), "the canary passed: a finding would pass, too");
}

#[test]
fn a_program_without_inputs_says_what_it_is_for() {
    let (_, program) = PROGRAMS[1];
    let said = Command::new(program).output().expect("started");
    assert!(!said.status.success());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("cargo fuzz run cursor"), "{said}");
}

#[test]
fn seeds_of_parsers_pass_cut_at_every_byte() {
    for target in [SCENARIO, WIRE] {
        for (path, data) in seeds(&target) {
            println!("{}", path.display());
            for end in 0..data.len() {
                (target.body)(&data[..end]);
            }
        }
    }
}

#[test]
fn scenario_seeds_pass_without_each_line() {
    for (path, data) in seeds(&SCENARIO) {
        println!("{}", path.display());
        let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
        for left_out in 0..lines.len() {
            let rest = [&lines[..left_out], &lines[left_out + 1..]].concat();
            (SCENARIO.body)(&rest.concat());
        }
    }
}

/// Nothing that a body turns down may count as deep, or the floors of `ci/fuzz` mean nothing.
#[test]
fn nothing_is_active_that_is_empty() {
    for target in [SCENARIO, WIRE] {
        assert_eq!((target.body)(b""), Reach::Rejected, "{}", target.name);
    }
}
