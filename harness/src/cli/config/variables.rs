//! What hosts put in for `${…}` in the entries of their files.
//!
//! | form | who writes it | put in |
//! |---|---|---|
//! | `${NAME}`, `${NAME:-default}` | Claude Code | a variable of the environment |
//! | `${env:NAME}` | VS Code, Cursor | the same |
//! | `${workspaceFolder}`, `${workspaceFolderBasename}` | VS Code, Cursor | the folder that the file is about |
//! | `${userHome}`, `${cwd}`, `${pathSeparator}`, `${/}` | VS Code, Cursor | as they say |
//! | `${input:ID}` | VS Code | asked of its user, so nothing here |
//!
//! Anything else is left as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All that entries may refer to.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Where scupper was started.
    pub here: PathBuf,
    /// The folder that the file is about.
    pub workspace: PathBuf,
}

/// A text with everything put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    /// Variables of the environment that were put in, with their values.
    pub(super) put_in: Vec<(String, String)>,
}

impl Surroundings {
    /// Those of a file, as this process has them.
    pub fn of(file: &Path) -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        let folder = here.join(file.parent().unwrap_or(Path::new("")));
        let of_an_editor =
            folder.file_name().is_some_and(|name| name == ".vscode" || name == ".cursor");
        let workspace = match folder.parent() {
            Some(parent) if of_an_editor => parent.to_owned(),
            _ => folder,
        };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { environment, here, workspace }
    }

    /// Whether this is a folder, seen from where scupper was started.
    pub(super) fn is_folder(&self, path: &str) -> bool {
        self.here.join(path).is_dir()
    }

    /// Puts in everything that the text refers to, or says what is missing.
    pub(super) fn fill(&self, text: &str) -> Result<Filled, String> {
        let mut filled = Filled { text: String::new(), put_in: Vec::new() };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            filled.text.push_str(before);
            let Some((inner, behind)) = after.split_once('}') else {
                filled.text.push_str("${");
                rest = after;
                continue;
            };
            match self.value(inner)? {
                Some(Value::OfVariable(name, value)) => {
                    filled.text.push_str(&value);
                    filled.put_in.push((name, value));
                }
                Some(Value::Plain(value)) => filled.text.push_str(&value),
                None => filled.text.push_str(&format!("${{{inner}}}")),
            }
            rest = behind;
        }
        filled.text.push_str(rest);
        Ok(filled)
    }

    /// What stands for the words between the braces; none for a form that nobody knows.
    fn value(&self, inner: &str) -> Result<Option<Value>, String> {
        let path = |path: &Path| Ok(Some(Value::Plain(path.display().to_string())));
        match inner {
            "workspaceFolder" => return path(&self.workspace),
            "workspaceFolderBasename" => {
                return path(Path::new(self.workspace.file_name().unwrap_or_default()));
            }
            "cwd" => return path(&self.here),
            "userHome" => return self.variable("HOME", None, inner),
            "pathSeparator" | "/" => return Ok(Some(Value::Plain("/".to_owned()))),
            _ => {}
        }
        if let Some(input) = inner.strip_prefix("input:") {
            return Err(format!(
                "it needs ${{input:{input}}}, which an editor asks of its user, and nobody can be \
                 asked here; write ${{env:NAME}} in its place and set that variable"
            ));
        }
        if let Some(name) = inner.strip_prefix("env:") {
            return self.variable(name, None, inner);
        }
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_name { self.variable(name, default, inner) } else { Ok(None) }
    }

    fn variable(
        &self,
        name: &str,
        default: Option<&str>,
        inner: &str,
    ) -> Result<Option<Value>, String> {
        match (self.environment.get(name), default) {
            (Some(value), _) => Ok(Some(Value::OfVariable(name.to_owned(), value.clone()))),
            (None, Some(default)) => Ok(Some(Value::Plain(default.to_owned()))),
            (None, None) => Err(format!(
                "it needs ${{{inner}}}, and the variable {name} is not set here; set it, or write \
                 ${{{name}:-a default}} in its place"
            )),
        }
    }
}

/// What is put in.
enum Value {
    Plain(String),
    /// Name and value of a variable of the environment.
    OfVariable(String, String),
}
