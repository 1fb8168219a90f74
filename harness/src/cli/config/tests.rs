use std::path::PathBuf;

use super::*;

fn around(variables: &[(&str, &str)]) -> Surroundings {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Surroundings {
        environment,
        here: PathBuf::from("/"),
        workspace: PathBuf::from("/home/me/work"),
    }
}

fn described(entry: &Entry) -> &Described {
    entry.server.as_ref().unwrap_or_else(|obstacle| panic!("{}: {}", entry.name, obstacle.why))
}

fn only(text: &str, variables: &[(&str, &str)]) -> Entry {
    let mut entries = read("servers.json", text, &around(variables)).expect("a good file");
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn obstacle(text: &str) -> Obstacle {
    only(text, &[]).server.expect_err("it cannot be judged")
}

#[test]
fn servers_stand_in_the_order_of_the_file_whoever_wrote_it() {
    let servers = r#"{"zeta": {"command": "a"}, "alpha": {"type": "stdio", "command": "b"}}"#;
    for text in [
        format!(r#"{{"mcpServers": {servers}}}"#),
        format!(r#"{{"inputs": [], "servers": {servers}}}"#),
        format!(r#"{{"editor.fontSize": 12, "mcp": {{"servers": {servers}}}}}"#),
    ] {
        let entries = read("servers.json", &text, &around(&[])).expect("a good file");
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["zeta", "alpha"], "{text}");
    }
}

#[test]
fn comments_and_trailing_commas_are_allowed_and_strings_are_left_alone() {
    let text = "\u{feff}{ // one\n \"mcpServers\": { /* two,\n} */ \"a\": {\"command\": \"x//y\", \
                \"args\": [\"/*\", \"*/,}\", ], }, }, }";
    let entry = only(text, &[]);
    assert_eq!(described(&entry).launch.command, ["x//y", "/*", "*/,}"]);
}

#[test]
fn environment_folder_and_arguments_are_filled_and_shown_as_written() {
    let text = r#"{"mcpServers": {"a": {
        "command": "${BIN}/server", "args": ["--token", "${env:TOKEN}", "${LEVEL:-info}", "$HOME", "${x y}"],
        "env": {"API_KEY": "${TOKEN}", "RETRIES": 3, "DEBUG": true}, "cwd": "${/}"}}}"#;
    let entry = only(text, &[("BIN", "/opt"), ("TOKEN", "abcd1234")]);
    let described = described(&entry);
    let launch = &described.launch;
    assert_eq!(launch.command, ["/opt/server", "--token", "abcd1234", "info", "$HOME", "${x y}"]);
    assert_eq!(launch.directory.as_deref(), Some("/"));
    let environment: Vec<(&str, &str)> =
        launch.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(environment, [("API_KEY", "abcd1234"), ("DEBUG", "true"), ("RETRIES", "3")]);
    assert_eq!(described.written[2], "${env:TOKEN}");
    let mut said = "server --token abcd1234 in /opt".to_owned();
    described.secrets.hide(&mut said);
    assert_eq!(said, "server --token [redacted] in /opt");
}

#[test]
fn the_workspace_is_above_the_folder_of_an_editor() {
    let of = |file: &str| Surroundings::of(std::path::Path::new(file)).workspace;
    assert_eq!(of("/home/me/work/.vscode/mcp.json"), PathBuf::from("/home/me/work"));
    assert_eq!(of("/home/me/work/.mcp.json"), PathBuf::from("/home/me/work"));
    let text = r#"{"servers": {"a": {"command": "${workspaceFolder}/x"}}}"#;
    assert_eq!(described(&only(text, &[])).launch.command, ["/home/me/work/x"]);
}

#[test]
fn what_cannot_be_judged_says_why_and_whose_turn_it_is() {
    for (entry, for_now, said) in [
        (r#"{"url": "https://host/mcp"}"#, true, "a URL (http)"),
        (r#"{"type": "sse", "url": "https://host/sse"}"#, true, "a URL (sse)"),
        (r#"{"command": "a", "args": ["${TOKEN}"]}"#, false, "the variable TOKEN is not set"),
        (r#"{"command": "a", "env": {"K": "${input:key}"}}"#, false, "nobody can be asked"),
        (r#"{"command": "a", "envFile": ".env"}"#, false, "`envFile` is not read"),
        (r#"{"command": "a", "cwd": "no/such/folder"}"#, false, "no folder here: no/such/folder"),
    ] {
        let obstacle = obstacle(&format!(r#"{{"mcpServers": {{"a": {entry}}}}}"#));
        assert_eq!(obstacle.for_now, for_now, "{entry}");
        assert!(obstacle.why.contains(said), "{entry}: {}", obstacle.why);
    }
}

#[test]
fn a_server_may_be_disabled() {
    for flag in [r#""disabled": true"#, r#""enabled": false"#] {
        let text = format!(r#"{{"mcpServers": {{"a": {{"command": "x", {flag}}}}}}}"#);
        assert!(only(&text, &[]).disabled);
    }
}

/// Each case has a folder of its own for temporary files, or nothing left there would be seen.
#[test]
fn variables_that_a_cell_sets_itself_are_left_out_and_told() {
    let text = r#"{"mcpServers": {"a": {"command": "x", "env": {"TMPDIR": "/tmp", "A": "1"}}}}"#;
    let entry = only(text, &[]);
    assert_eq!(described(&entry).launch.environment.len(), 1);
    assert!(described(&entry).notes[0].contains("TMPDIR"));
}

/// They are the server's own: the next one is read as if nothing were.
#[test]
fn mistakes_of_an_entry_are_told_all_at_once_with_their_places() {
    let text = r#"{
  "mcpServers": {
    "a": { "command": ["npx"], "args": "x" },
    "b": { "args": ["x"], "disabled": true },
    "c": { "command": "true", "args": ["x", 3], "disabled": "no" },
    "d": 7,
    "e": { "command": "true" }
  }
}"#;
    let entries = read("f", text, &around(&[])).expect("a file of servers");
    let told = |entry: &Entry| match &entry.server {
        Ok(_) => format!("{} is well", entry.name),
        Err(obstacle) if obstacle.for_now => format!("{} is for now", entry.name),
        Err(obstacle) => obstacle.why.clone(),
    };
    let told: Vec<String> = entries.iter().map(told).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    f:3:23: `command` of server `a` is a list; expected the program as a string: "npx"; f:3:40: `args` of server `a` is a string; expected a list of strings: ["-y", "PACKAGE"]
    f:4:10: server `b` has neither `command` nor `url` (it has args, disabled); expected "command": "npx", "args": ["-y", "PACKAGE"]
    f:5:45: item 2 of `args` of server `c` is a number; expected a list of strings: ["-y", "PACKAGE"]; f:5:61: `disabled` of server `c` is a string; expected true or false
    f:6:10: server `d` is a number; expected an object with a `command`, such as {"command": "npx", "args": ["-y", "PACKAGE"]}
    e is well
    "#);
    let disabled: Vec<bool> = entries.iter().map(|entry| entry.disabled).collect();
    assert_eq!(disabled, [false, true, false, false, false]);
}

#[test]
fn a_name_twice_is_a_mistake_of_the_file() {
    let text = r#"{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}"#;
    let said = read("f", text, &around(&[])).expect_err("which one is meant?");
    assert_eq!(said, "f:1:45: `mcpServers` has `a` twice; leave one out");
}

#[test]
fn what_is_no_file_of_servers_says_what_one_looks_like() {
    let said = |text: &str| read("f", text, &around(&[])).expect_err("it is none");
    insta::assert_snapshot!(
        [said("{\"mcpServers\": {"), said("[]"), said("{\"mcpservers\": {}}"), said("")].join("\n"),
        @r#"
    f:1:16: this is no JSON: EOF while parsing an object
    f:1:1: the file is a list; expected an object such as {"mcpServers": {"NAME": {"command": "npx", "args": ["-y", "PACKAGE"]}}}
    f:1:1: there is no `mcpServers` (VS Code: `servers`) here; expected an object such as {"mcpServers": {"NAME": {"command": "npx", "args": ["-y", "PACKAGE"]}}}
    f:1:1: this is no JSON: EOF while parsing a value
    "#
    );
}
