//! Every seed through its body, and every seed cut and bent a little.

use std::{fs, path::PathBuf};

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
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

#[test]
fn scenario_seeds() {
    for (path, data) in seeds("scenario") {
        println!("{}", path.display());
        scupper_fuzz::scenario(&data);
    }
}

/// A seed that is turned down covers the errors; most should get further.
#[test]
fn scenario_seeds_are_good_and_bad_as_named() {
    for (path, data) in seeds("scenario") {
        let text = String::from_utf8(data).unwrap();
        let is_bad = path.file_name().unwrap().to_string_lossy().starts_with("bad");
        let result = harness::lifecycle::scenario::parse("x.toml", &text);
        assert_eq!(result.is_err(), is_bad, "{}: {result:?}", path.display());
    }
}

#[test]
fn scenario_seeds_cut_at_every_byte() {
    for (path, data) in seeds("scenario") {
        println!("{}", path.display());
        for end in 0..data.len() {
            scupper_fuzz::scenario(&data[..end]);
        }
    }
}

#[test]
fn scenario_seeds_without_each_line() {
    for (path, data) in seeds("scenario") {
        println!("{}", path.display());
        let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
        for left_out in 0..lines.len() {
            let rest = [&lines[..left_out], &lines[left_out + 1..]].concat();
            scupper_fuzz::scenario(&rest.concat());
        }
    }
}
