//! The mistakes of `src/sabotage.rs`: each is made somewhere, at as many places as are known here, and
//! no build has them that does not ask for them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Mistakes that take more than one place to make, and how many.
const SEVERAL: &[(&str, usize)] = &[
    // A pipe is closed at its end, or with the connection, whichever comes first.
    ("StdoutKept", 2),
    ("StderrKept", 2),
    // The pipes are left without CLOEXEC, and the child does not close what it was not given.
    ("PipesInherited", 2),
    // A session that was never ready outlives either of the two limits.
    ("HalfHandshakeKept", 2),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The mutants by the name that the source uses, each with its name in the variable.
fn mutants() -> BTreeMap<String, String> {
    let source = read(&root().join("src/sabotage.rs"));
    let table = source.split_once("mutants! {\n").expect("the table").1;
    let table = table.split_once("\n}\n").expect("its end").0;
    let rows =
        table.lines().filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" = \""));
    rows.map(|(mutant, name)| (mutant.to_owned(), name.to_owned())).collect()
}

/// Everything below `src` but the table itself.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("sabotage.rs")
        {
            found.push((path.clone(), read(&path)));
        }
    }
}

#[test]
fn each_mistake_is_made_where_it_is_known_to_be() {
    let mutants = mutants();
    assert!(mutants.len() >= 50, "only {} were read off the table", mutants.len());
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in &found {
        for (at, _) in text.match_indices("sabotaged!(") {
            let name = text[at + "sabotaged!(".len()..].split([')', ' ', ',']).next().unwrap_or("");
            if name.starts_with('$') {
                continue;
            }
            let line = text[..at].lines().count();
            places.entry(name.to_owned()).or_default().push(format!("{}:{line}", path.display()));
        }
        // One in a hundred counts, and has a function of its own for that.
        for (at, _) in text.match_indices("sabotage::is_one_in_hundred()") {
            let line = text[..at].lines().count();
            let place = format!("{}:{line}", path.display());
            places.entry("OneInHundred".to_owned()).or_default().push(place);
        }
    }
    let mut wrong = Vec::new();
    for mutant in mutants.keys() {
        let due = SEVERAL.iter().find(|(name, _)| name == mutant).map_or(1, |(_, places)| *places);
        let seen = places.remove(mutant).unwrap_or_default();
        if seen.len() != due {
            wrong.push(format!("{mutant}: {due} expected, found {seen:?}"));
        }
    }
    wrong
        .extend(places.into_iter().map(|(name, at)| format!("{name} is not in the table: {at:?}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_gets_a_mistake_who_did_not_ask() {
    for manifest in ["Cargo.toml", "../harness/Cargo.toml", "../Cargo.toml"] {
        let manifest = root().join(manifest);
        let text = read(&manifest);
        for line in text.lines().map(str::trim) {
            // Where it is named it is a feature of its own, or what that one switches on.
            let asks = line.contains("sabotage") && !line.starts_with('#');
            assert!(!asks || line.starts_with("sabotage = ["), "{}: {line}", manifest.display());
        }
    }
}
