//! Which server a folder holds, by the files that its language goes by.

use std::path::Path;

use serde_json::Value;

use crate::cli::config;

/// Longest file that is read, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// A server, and how it is built and started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The file that told of it.
    pub(super) file: &'static str,
    /// Commands that make it ready, each a line of shell.
    pub(super) prepare: Vec<String>,
    /// What is judged.
    pub(super) subject: Subject,
}

/// What is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A command line.
    Command(Vec<String>),
    /// All servers of a file.
    Config,
}

/// Reads one such file: the server, or why it tells of none.
type Read = fn(&Path, &str) -> Result<Found, String>;

/// The files that are looked at, the first that tells of a server counts.
const FILES: [(&str, Read); 4] = [
    ("package.json", package_json),
    ("pyproject.toml", pyproject),
    ("Cargo.toml", cargo_toml),
    (".mcp.json", mcp_json),
];

/// The server of a folder; or, for each file that was looked at, why it tells of none.
pub(super) fn find(folder: &Path) -> Result<Found, Vec<String>> {
    let mut reasons = Vec::new();
    for (name, read) in FILES {
        let path = folder.join(name);
        let found = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err("there is none".to_owned())
            }
            Err(error) => Err(format!("cannot be read: {error}")),
            Ok(meta) if !meta.is_file() => Err("is no file".to_owned()),
            Ok(meta) if meta.len() > LONGEST_FILE => {
                Err(format!("is longer than {LONGEST_FILE} bytes"))
            }
            Ok(_) => std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot be read: {error}"))
                .and_then(|text| read(folder, &text))
                .and_then(plain),
        };
        match found {
            Ok(found) => return Ok(found),
            Err(why) => reasons.push(format!("{name}: {why}")),
        }
    }
    Err(reasons)
}

/// Words go into a workflow, where some signs have a meaning: those that have are refused.
fn plain(found: Found) -> Result<Found, String> {
    let is_plain = |word: &String| {
        !word.is_empty()
            && word.chars().all(|sign| sign.is_ascii_alphanumeric() || "._@/+-".contains(sign))
    };
    match &found.subject {
        Subject::Command(words) => match words.iter().find(|word| !is_plain(word)) {
            Some(word) => {
                Err(format!("its server is started by {word:?}, which a workflow may misread"))
            }
            None => Ok(found),
        },
        Subject::Config => Ok(found),
    }
}

fn package_json(folder: &Path, text: &str) -> Result<Found, String> {
    let package: Value =
        serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
    let program = match &package["bin"] {
        Value::String(path) => Some(path.as_str()),
        // The one that is called as the package is, or else the first.
        Value::Object(all) => {
            let name = package["name"].as_str().unwrap_or_default();
            let short = name.rsplit('/').next().unwrap_or_default();
            all.get(short).or_else(|| all.values().next()).and_then(Value::as_str)
        }
        _ => None,
    };
    let program = program
        .or_else(|| package["main"].as_str())
        .ok_or("has neither `bin` nor `main`, so it starts no server")?;
    let locked = folder.join("package-lock.json").is_file();
    let mut prepare = vec![if locked { "npm ci" } else { "npm install" }.to_owned()];
    if package["scripts"]["build"].is_string() {
        prepare.push("npm run build".to_owned());
    }
    let words = ["node".to_owned(), program.trim_start_matches("./").to_owned()];
    Ok(Found { file: "package.json", prepare, subject: Subject::Command(words.into()) })
}

fn pyproject(_: &Path, text: &str) -> Result<Found, String> {
    let project = toml_of(text)?;
    let scripts = project.get("project").and_then(|project| project.get("scripts"));
    let name = scripts
        .and_then(toml::Value::as_table)
        .and_then(|scripts| scripts.keys().next())
        .ok_or("has no `[project.scripts]`, so it starts no server")?;
    // Of its own, because Python of a distribution refuses to install beside its packages.
    let prepare = ["python3 -m venv .venv", ".venv/bin/pip install ."].map(str::to_owned);
    let words = vec![format!(".venv/bin/{name}")];
    Ok(Found { file: "pyproject.toml", prepare: prepare.into(), subject: Subject::Command(words) })
}

fn cargo_toml(folder: &Path, text: &str) -> Result<Found, String> {
    let manifest = toml_of(text)?;
    let package = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        .ok_or("has no package of its own; run this in the folder of the server's")?;
    let bin = manifest.get("bin").and_then(|bins| bins.get(0)).and_then(|bin| bin.get("name"));
    let bin = match bin.and_then(toml::Value::as_str) {
        Some(name) => name,
        None if folder.join("src/main.rs").is_file() => package,
        None => {
            return Err("has neither `[[bin]]` nor src/main.rs, so it starts no server".to_owned());
        }
    };
    let words = vec![format!("target/release/{bin}")];
    let prepare = vec!["cargo build --release".to_owned()];
    Ok(Found { file: "Cargo.toml", prepare, subject: Subject::Command(words) })
}

fn mcp_json(folder: &Path, text: &str) -> Result<Found, String> {
    let around = config::Surroundings::of(&folder.join(".mcp.json"));
    let entries = config::read("", text, &around)
        .map_err(|error| format!("line {}", error.trim_start_matches(':')))?;
    if entries.is_empty() {
        return Err("has no servers".to_owned());
    }
    Ok(Found { file: ".mcp.json", prepare: Vec::new(), subject: Subject::Config })
}

fn toml_of(text: &str) -> Result<toml::Value, String> {
    toml::from_str(text).map_err(|error| format!("is no TOML: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Result<Found, Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        find(folder.path())
    }

    fn command(files: &[(&str, &str)]) -> (Vec<String>, String) {
        let found = found(files).expect("there is a server");
        let Subject::Command(words) = found.subject else { panic!("a command") };
        (found.prepare, words.join(" "))
    }

    #[test]
    fn a_server_is_found_by_the_file_of_its_language() {
        let package = r#"{"name": "@me/notes", "bin": {"other": "o.js", "notes": "./dist/index.js"},
                          "scripts": {"build": "tsc"}}"#;
        assert_eq!(
            command(&[("package.json", package), ("package-lock.json", "{}")]),
            (vec!["npm ci".into(), "npm run build".into()], "node dist/index.js".into())
        );
        assert_eq!(command(&[("package.json", r#"{"main": "a.js"}"#)]).1, "node a.js");
        let project = "[project.scripts]\nmy-server = \"my.server:main\"\n";
        assert_eq!(command(&[("pyproject.toml", project)]).1, ".venv/bin/my-server");
        let manifest = "[package]\nname = \"notes\"\n";
        assert_eq!(
            command(&[("Cargo.toml", manifest), ("src/main.rs", "")]).1,
            "target/release/notes"
        );
        let hosts = r#"{"mcpServers": {"a": {"command": "a"}}}"#;
        assert_eq!(found(&[(".mcp.json", hosts)]).expect("a file").subject, Subject::Config);
    }

    #[test]
    fn the_next_file_counts_where_one_tells_of_no_server() {
        let manifest = "[package]\nname = \"notes\"\n[[bin]]\nname = \"serve\"\n";
        let files = [("package.json", r#"{"name": "tools"}"#), ("Cargo.toml", manifest)];
        assert_eq!(command(&files).1, "target/release/serve");
    }

    #[test]
    fn where_there_is_no_server_each_file_says_why() {
        let injected = r#"{"bin": "a.js; curl evil"}"#;
        let files = [("package.json", injected), ("Cargo.toml", "[package"), (".mcp.json", "{}")];
        let reasons = found(&files).expect_err("there is none");
        insta::assert_snapshot!(reasons.join("\n"), @r#"
        package.json: its server is started by "a.js; curl evil", which a workflow may misread
        pyproject.toml: there is none
        Cargo.toml: is no TOML: unclosed table, expected `]`
        .mcp.json: line 1:1: there is no `mcpServers` (VS Code: `servers`) here; expected an object such as {"mcpServers": {"NAME": {"command": "npx", "args": ["-y", "PACKAGE"]}}}
        "#);
    }
}
