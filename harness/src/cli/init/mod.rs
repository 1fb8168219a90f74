//! `scupper init`: a starter workflow and a baseline for the server that a folder holds.

mod found;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use found::{Found, Subject};

use super::{Ended, Refusal};
use crate::gate::baseline::Baseline;
use crate::plan;

/// Where the workflow goes, and the baseline.
const WORKFLOW: &str = ".github/workflows/scupper.yml";
const BASELINE: &str = "scupper-baseline.toml";

/// The workflow up to what is made ready, and after it.
const HEAD: &str = "\
# Judges the MCP server of this repository at each change: what its connections leave behind.
# Put OWNER right: the repository that scupper's releases are in.
name: leaks
on:
  pull_request:
  push:
    branches: [main]

permissions:
  contents: read

jobs:
  server:
    runs-on: ubuntu-24.04
    timeout-minutes: 15
    steps:
      - uses: actions/checkout@v5
        with:
          persist-credentials: false
";
const ACTION: &str = "      \
      # Findings that are known stand in the baseline, each with a reason and an end.
      - uses: OWNER/scupper/ci@v0.1.0
        with:
";

/// Arguments of `scupper init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The folder of the server
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// Writes what is not there yet, and says what comes next.
pub fn run(arguments: &InitArguments) -> Ended {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(Refusal::usage(format!("{}: there is no such folder", folder.display())));
    }
    let found = found::find(folder).map_err(|reasons| {
        Refusal::usage(format!(
            "no server was found in {}:\n  {}\njudge it by its command: scupper server -- COMMAND",
            folder.display(),
            reasons.join("\n  ")
        ))
    })?;
    let mut said = format!("{} tells of a server\n", found.file);
    for (name, text) in [(WORKFLOW, workflow(&found)), (BASELINE, Baseline::default().render())] {
        let state = match write_new(&folder.join(name), &text)? {
            true => "written",
            false => "is there, and was left as it is",
        };
        let _ = writeln!(said, "{name}: {state}");
    }
    let _ = write!(said, "next, here:\n{}", steps(&found));
    let _ = writeln!(said, "then put OWNER right in {WORKFLOW}, and commit both files");
    // A reader that has gone has seen enough.
    let _ = std::io::stdout().write_all(said.as_bytes());
    Ok(crate::report::event::codes::CLEAN)
}

/// Writes a file that is not there yet. False where there is one.
fn write_new(path: &Path, text: &str) -> Result<bool, Refusal> {
    let wrong = |error: std::io::Error| {
        Refusal::usage(format!("{}: cannot be written: {error}", path.display()))
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    match std::fs::File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(wrong),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(wrong(error)),
    }
}

/// What whoever has the folder does first.
fn steps(found: &Found) -> String {
    let mut text = String::new();
    for line in &found.prepare {
        let _ = writeln!(text, "  {line}");
    }
    let judged = match &found.subject {
        Subject::Command(words) => format!("-- {}", plan::shell_words(words)),
        Subject::Config => format!("--config {}", found.file),
    };
    let _ = match &found.subject {
        Subject::Command(_) => writeln!(text, "  scupper server --baseline {BASELINE} {judged}"),
        Subject::Config => writeln!(text, "  scupper server {judged} --baseline {BASELINE}"),
    };
    text
}

fn workflow(found: &Found) -> String {
    let mut text = HEAD.to_owned();
    for line in &found.prepare {
        let _ = writeln!(text, "      - run: {line}");
    }
    text.push_str(ACTION);
    let mut block = |key: &str, lines: &[&str]| {
        let _ = writeln!(text, "          {key}: |");
        for line in lines {
            let _ = writeln!(text, "            {line}");
        }
    };
    let mut options = vec!["--baseline", BASELINE];
    match &found.subject {
        Subject::Command(words) => {
            block("command", &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        Subject::Config => options.extend(["--config", found.file]),
    }
    block("options", &options);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_the_rest_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("package.json"), r#"{"bin": "a.js"}"#).expect("a file");
        std::fs::write(folder.path().join(BASELINE), "# mine\nknown = []\n").expect("a file");
        let arguments = InitArguments { folder: folder.path().to_owned() };

        assert_eq!(run(&arguments).ok(), Some(0));

        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("a file");
        assert!(text(BASELINE).starts_with("# mine"));
        let (_, made) = text(WORKFLOW)
            .split_once("steps:\n")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("steps");
        insta::assert_snapshot!(made, @r"
              - uses: actions/checkout@v5
                with:
                  persist-credentials: false
              - run: npm install
              # Findings that are known stand in the baseline, each with a reason and an end.
              - uses: OWNER/scupper/ci@v0.1.0
                with:
                  command: |
                    node
                    a.js
                  options: |
                    --baseline
                    scupper-baseline.toml
        ");
        assert!(Baseline::parse(&Baseline::default().render()).is_ok_and(|known| known.is_empty()));
    }

    #[test]
    fn a_file_of_servers_is_judged_as_such() {
        let found = Found { file: ".mcp.json", prepare: vec![], subject: Subject::Config };
        assert!(workflow(&found).ends_with("            --config\n            .mcp.json\n"));
        assert_eq!(
            steps(&found),
            "  scupper server --config .mcp.json --baseline scupper-baseline.toml\n"
        );
    }
}
