//! A file of MCP servers, as hosts keep it: `mcpServers` (Claude, Cursor and most others) or
//! `servers` (VS Code), also below `mcp` in VS Code's settings.
//!
//! - [`read()`]: from text to [`Entry`]s, or what is wrong with the file, and where.
//! - `located`: JSON whose values know where they stand.
//! - `variables`: what is put in for `${…}`.

mod located;
mod variables;

use std::collections::BTreeMap;

use located::{Mistakes, Object, Value};
pub use variables::Surroundings;

use crate::cell::protocol::Launch;
use crate::report::Secrets;

/// Largest file, in bytes.
pub const FILE_LIMIT: u64 = 4 << 20;

/// Variables of an entry that a cell sets itself: each case has its own folder for temporary files,
/// in which what is left is found, and its own marks.
const OURS: &[&str] = &["TMPDIR", crate::cell::CELL_COOKIE, crate::cell::CONNECTION_COOKIE];

/// A server of the file.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The file says that hosts leave it out.
    pub disabled: bool,
    /// How it is started, or why it cannot be judged.
    pub server: Result<Described, Obstacle>,
}

/// Why a server of the file cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// In words.
    pub why: String,
    /// No host could change that: scupper judges no such server yet. Anything else is for the user
    /// to put right, and no run without it is green.
    pub for_now: bool,
}

/// A stdio server as its entry describes it.
#[derive(Debug)]
pub struct Described {
    /// How it is started.
    pub launch: Launch,
    /// Program and arguments as they are written, before anything was put in.
    pub written: Vec<String>,
    /// What no report may show.
    pub secrets: Secrets,
    /// Worth saying.
    pub notes: Vec<String>,
}

/// Reads the servers of a file, in its order; or says why it is no such file. A mistake in an entry is
/// that server's alone: the others are judged all the same.
pub fn read(path: &str, text: &str, around: &Surroundings) -> Result<Vec<Entry>, String> {
    let plain = located::without_comments(text);
    let mut mistakes = Mistakes::new(path, &plain);
    let members = located::parse(&plain, &mut mistakes)
        .and_then(|root| Some(servers(root, &mut mistakes)?.members))
        .unwrap_or_default();
    mistakes.none()?;
    let entry = |(name, value)| entry(name, value, around, Mistakes::new(path, &plain));
    Ok(members.into_iter().map(entry).collect())
}

/// The object that holds the servers.
fn servers<'t>(root: Value<'t>, mistakes: &mut Mistakes<'_>) -> Option<Object<'t>> {
    const WANTED: &str = "an object such as {\"mcpServers\": {\"NAME\": {\"command\": \"npx\", \
                          \"args\": [\"-y\", \"PACKAGE\"]}}}";
    let root_object = root.object("the file", WANTED, mistakes)?;
    for path in [&["mcpServers"][..], &["servers"], &["mcp", "servers"]] {
        let mut at = root_object.clone();
        let found = path.iter().try_fold(None, |_, key| {
            let value = at.get(key)?;
            let object =
                value.object(&format!("`{key}`"), "an object, a member for each server", mistakes);
            at = object.clone().unwrap_or_default();
            Some(object)
        });
        if let Some(object) = found {
            return object;
        }
    }
    mistakes.push(
        root,
        format!("there is no `mcpServers` (VS Code: `servers`) here; expected {WANTED}"),
    );
    None
}

/// One member of the object.
fn entry(
    name: String,
    value: Value<'_>,
    around: &Surroundings,
    mut mistakes: Mistakes<'_>,
) -> Entry {
    let wanted = "an object with a `command`, such as {\"command\": \"npx\", \"args\": [\"-y\", \
                  \"PACKAGE\"]}";
    let mut disabled = false;
    let read =
        value.object(&format!("server `{name}`"), wanted, &mut mistakes).and_then(|object| {
            disabled = is_disabled(&name, &object, &mut mistakes);
            server(&name, value, &object, around, &mut mistakes)
        });
    let put_right = |why: String| Obstacle { why, for_now: false };
    let server = match mistakes.none() {
        Err(said) => Err(put_right(said.replace('\n', "; "))),
        Ok(()) => read.unwrap_or_else(|| Err(put_right("its entry cannot be read".to_owned()))),
    };
    Entry { name, disabled, server }
}

/// Whether hosts leave the server out.
fn is_disabled(name: &str, object: &Object<'_>, mistakes: &mut Mistakes<'_>) -> bool {
    let mut flag = |key: &str| {
        let what = format!("`{key}` of server `{name}`");
        object.get(key).and_then(|value| value.boolean(&what, "true or false", mistakes))
    };
    flag("disabled").unwrap_or(false) || !flag("enabled").unwrap_or(true)
}

/// The server that an entry describes; none where there is a mistake in it.
fn server(
    name: &str,
    value: Value<'_>,
    object: &Object<'_>,
    around: &Surroundings,
    mistakes: &mut Mistakes<'_>,
) -> Option<Result<Described, Obstacle>> {
    let of = |key: &str| format!("`{key}` of server `{name}`");
    let url = ["url", "serverUrl", "httpUrl"].iter().find(|key| object.get(key).is_some());
    let kind = object
        .get("type")
        .and_then(|value| value.string(&of("type"), "a string: \"stdio\"", mistakes));
    let remote = kind.as_deref().is_some_and(|kind| kind != "stdio");
    let Some(command) = object.get("command") else {
        if url.is_none() && !remote {
            let known: Vec<&str> =
                object.members.iter().map(|(key, _)| key.as_str()).take(8).collect();
            let has = match known.as_slice() {
                [] => "it is empty".to_owned(),
                known => format!("it has {}", known.join(", ")),
            };
            mistakes.push(
                value,
                format!(
                    "server `{name}` has neither `command` nor `url` ({has}); expected \
                     \"command\": \"npx\", \"args\": [\"-y\", \"PACKAGE\"]"
                ),
            );
            return None;
        }
        let how = kind.filter(|_| remote).unwrap_or_else(|| "http".to_owned());
        let why = format!(
            "it is reached at a URL ({how}), and only servers that are started by a command can \
             be judged so far"
        );
        return Some(Err(Obstacle { why, for_now: true }));
    };
    let program = command.string(&of("command"), "the program as a string: \"npx\"", mistakes);
    let arguments = match object.get("args") {
        None => Some(Vec::new()),
        Some(value) => {
            value.strings(&of("args"), "a list of strings: [\"-y\", \"PACKAGE\"]", mistakes)
        }
    };
    let environment = match object.get("env") {
        None => Some(Vec::new()),
        Some(value) => {
            value.texts(&of("env"), "an object of strings: {\"API_KEY\": \"${API_KEY}\"}", mistakes)
        }
    };
    let directory = object
        .get("cwd")
        .and_then(|value| value.string(&of("cwd"), "a folder as a string", mistakes));
    let written = [vec![program?], arguments?].concat();
    if written[0].trim().is_empty() {
        mistakes.push(command, format!("{} is empty; expected a program: \"npx\"", of("command")));
        return None;
    }
    let described = match object.get("envFile") {
        Some(_) => Err("its `envFile` is not read; put its variables into `env`, or into the \
                        environment of scupper, and leave `envFile` out"
            .to_owned()),
        None => describe(written, environment?, directory, around),
    };
    Some(described.map_err(|why| Obstacle { why, for_now: false }))
}

/// Puts in what variables stand for.
fn describe(
    written: Vec<String>,
    environment: Vec<(String, String)>,
    directory: Option<String>,
    around: &Surroundings,
) -> Result<Described, String> {
    let mut secrets = Secrets::default();
    let mut notes = Vec::new();
    let mut fill = |text: &str| -> Result<String, String> {
        let filled = around.fill(text)?;
        for (name, value) in &filled.put_in {
            secrets.add(name, value);
        }
        Ok(filled.text)
    };
    let command = written.iter().map(|word| fill(word)).collect::<Result<Vec<String>, String>>()?;
    let directory = directory.map(|directory| fill(&directory)).transpose()?;
    let filled: Vec<(String, String)> = environment
        .into_iter()
        .map(|(name, value)| Ok((name, fill(&value)?)))
        .collect::<Result<_, String>>()?;
    let mut environment = BTreeMap::new();
    for (name, value) in filled {
        if OURS.contains(&name.as_str()) {
            notes.push(format!("its {name} is not used: each case has one of its own"));
            continue;
        }
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("its `env` has a variable that no process can have: {name:?}"));
        }
        secrets.add(&name, &value);
        environment.insert(name, value);
    }
    if let Some(directory) = &directory
        && !around.is_folder(directory)
    {
        return Err(format!("its `cwd` is no folder here: {directory}"));
    }
    let launch = Launch { command, environment, directory };
    Ok(Described { launch, written, secrets, notes })
}

#[cfg(test)]
mod tests;
