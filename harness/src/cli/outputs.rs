//! Reports as files: where each form goes, and how it gets there.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Refusal;
use crate::report::json::Report;
use crate::report::{github, gitlab, html, junit, sarif};

/// The variable in which GitHub says where a step's summary goes.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Which reports are written, and where to.
#[derive(Debug, Clone, Default, Args)]
pub struct Outputs {
    /// Write a report as JSON
    #[arg(long, value_name = "PATH")]
    pub json: Option<PathBuf>,
    /// Write a report as one HTML page that loads nothing: findings, timelines, a table to sort and filter
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,
    /// Write a report as JUnit XML: a test suite for each subject, a test case for each case
    #[arg(long, value_name = "PATH")]
    pub junit: Option<PathBuf>,
    /// Write a report as SARIF 2.1.0, for code scanning
    #[arg(long, value_name = "PATH")]
    pub sarif: Option<PathBuf>,
    /// Write a report as GitLab's code quality JSON
    #[arg(long, value_name = "PATH")]
    pub gitlab: Option<PathBuf>,
    /// Annotate on GitHub: workflow commands on stdout, at most ten, and a summary where
    /// GITHUB_STEP_SUMMARY says
    #[arg(long)]
    pub github: bool,
}

/// A report in one form.
type Render = fn(&Report) -> String;
/// One of them: its option, and where it goes.
type Output<'a> = (&'static str, &'a Path, Render);

impl Outputs {
    fn each(&self) -> impl Iterator<Item = Output<'_>> {
        let all: [(&'static str, &Option<PathBuf>, Render); 5] = [
            ("--json", &self.json, Report::to_json),
            ("--html", &self.html, html::render),
            ("--junit", &self.junit, junit::render),
            ("--sarif", &self.sarif, sarif::render),
            ("--gitlab", &self.gitlab, gitlab::render),
        ];
        all.into_iter()
            .filter_map(|(option, path, render)| Some((option, path.as_deref()?, render)))
    }

    /// On GitHub, asks that nothing which comes now is taken for a command.
    pub fn hold_commands(&self) {
        if self.github {
            github::hold_commands();
        }
    }

    /// Empties the files, so that what cannot be written is found out now and not after minutes of
    /// work, and no older report is taken for that of a run that was killed.
    pub fn begin(&self) -> Result<(), Refusal> {
        self.check()?;
        for (option, path, _) in self.each() {
            std::fs::write(path, "").map_err(|error| {
                Refusal::usage(format!("{option} {}: cannot write there: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    /// Refuses one path for two forms.
    fn check(&self) -> Result<(), Refusal> {
        let mut taken: Vec<(&str, &Path)> = Vec::new();
        for (option, path, _) in self.each() {
            if let Some((other, _)) =
                taken.iter().find(|(_, one)| *one == path && (path.is_file() || !path.exists()))
            {
                return Err(Refusal::usage(format!(
                    "{option} {}: {other} goes there as well; give each a path of its own",
                    path.display()
                )));
            }
            taken.push((option, path));
        }
        Ok(())
    }

    /// Writes all of them, the others also where one cannot be written.
    pub fn write(&self, report: &Report) -> Result<(), Refusal> {
        self.check()?;
        let mut ended = Ok(());
        for (option, path, render) in self.each() {
            if let Err(error) = replace(path, &render(report)) {
                ended = ended.and(Err(Refusal::ours(format!(
                    "{option} {}: cannot write the report there: {error}",
                    path.display()
                ))));
            }
        }
        if self.github {
            github::annotate(report);
            if let Some(path) = std::env::var_os(SUMMARY).filter(|path| !path.is_empty()) {
                let path = PathBuf::from(path);
                if let Err(error) = append_summary(&path, report) {
                    ended = ended.and(Err(Refusal::ours(format!(
                        "--github: {SUMMARY}={}: cannot write the summary there: {error}",
                        path.display()
                    ))));
                }
            }
        }
        ended
    }
}

/// Appends to what earlier commands of the step have said, within the limit that all share.
fn append_summary(path: &Path, report: &Report) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    let said = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(github::summary(report, github::SUMMARY.saturating_sub(said)).as_bytes())
}

/// Puts a text in a file's place at once: whoever reads it sees the old one or the new one. What is no
/// plain file, such as a pipe or `/dev/stdout`, is written to as it is.
pub fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // A link stays, and what it leads to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let known = std::fs::metadata(path);
    if known.as_ref().is_ok_and(|known| !known.is_file()) {
        return std::fs::write(path, text);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if known.is_err() {
        // It comes to be with the permissions that the user's mask gives.
        std::fs::write(path, "")?;
    }
    let permissions = std::fs::metadata(path)?.permissions();
    let Ok(mut file) = tempfile::Builder::new().prefix(".scupper-report-").tempfile_in(folder)
    else {
        // The file may be written to, its folder may not.
        return std::fs::write(path, text);
    };
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(permissions)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_report_takes_the_place_of_another_at_once_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("report.json");
        std::fs::write(&path, "an old one that is longer").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        replace(&link, "new").expect("a place");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "new");
        assert!(link.is_symlink());
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 2);
    }

    #[test]
    fn a_summary_is_appended_within_the_limit_of_the_step() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("summary.md");
        let report = crate::report::samples::everything();
        append_summary(&path, &report).expect("a place");
        let first = std::fs::read_to_string(&path).expect("a file");
        append_summary(&path, &report).expect("a place");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), format!("{first}{first}"));
        std::fs::write(&path, "x".repeat(github::SUMMARY)).expect("a place");
        append_summary(&path, &report).expect("a place");
        let length = std::fs::metadata(&path).expect("a file").len();
        assert_eq!(length, github::SUMMARY as u64);
    }

    #[test]
    fn two_forms_at_one_path_are_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = Some(folder.path().join("report"));
        let outputs = Outputs { json: path.clone(), junit: path, ..Outputs::default() };
        let refused = outputs.begin().expect_err("one would take the other's place");
        assert!(refused.message.contains("--json goes there as well"), "{}", refused.message);
    }
}
