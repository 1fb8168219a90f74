//! `scupper server --config FILE [NAME]…`: the servers of a file, one after the other.

use std::fs;

use crate::support::{Ended, Run, SCUPPER};
use harness::ledger::verdict::Verdict;

/// Two quick lifecycles, and a leak is not waited for long.
const QUICK: [&str; 6] =
    ["--only", "clean-close", "--only", "sigterm-idle", "--leak-timeout", "1s"];

/// A run on a file of servers. In its text, `{scupper}` is the program; [`HOME`](crate::support::HOME) in it and
/// in the words is a folder that is there.
fn judged(text: &str, words: &[&str], environment: &[(&str, &str)]) -> Ended {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let path = folder.path().to_str().expect("a UTF-8 path");
    let text = text.replace("{scupper}", SCUPPER).replace(crate::support::HOME, path);
    fs::write(folder.path().join("servers.json"), text).expect("a file of servers");
    let file = format!("{path}/servers.json");
    let start = ["server", "--json", "{home}/report.json", "--config", &file];
    Run::start(&[&start, &QUICK[..], words].concat(), environment).end()
}

fn in_full(ended: &Ended) -> String {
    format!("exit code {}\n{}{}", ended.code, ended.stdout, ended.stderr)
}

const SERVERS: &str = r#"{
    // as hosts keep it
    "mcpServers": {
        "good": {"command": "{scupper}", "args": ["fake", "plain"]},
        "remote": {"url": "https://127.0.0.1/mcp"},
        "off": {"command": "{scupper}", "args": ["fake", "plain"], "disabled": true},
        "bad": {"command": "{scupper}", "args": ["fake", "helper-setsid", "at=start"]},
        "gone": {"command": "{scupper}", "args": ["fake", "exits-before-initialize"]},
    },
}"#;

#[test]
fn all_servers_are_judged_in_their_order_with_one_summary() {
    let ended = judged(SERVERS, &[], &[]);
    assert_eq!(ended.code, 1, "{}", in_full(&ended));
    let report = ended.report();
    let servers: Vec<(&str, Option<Verdict>, Option<u8>)> = report
        .servers
        .iter()
        .map(|server| (server.name.as_str(), server.verdict, server.exit_code))
        .collect();
    let expected = [
        ("good", Some(Verdict::Clean), Some(0)),
        ("remote", None, None),
        ("off", None, None),
        ("bad", Some(Verdict::Leak), Some(1)),
        ("gone", Some(Verdict::Failed), Some(3)),
    ];
    assert_eq!(servers, expected, "{}", in_full(&ended));
    let ids: Vec<&str> = report.cases.iter().map(|case| case.id.as_str()).collect();
    let expected = [
        "good/stdio/clean-close",
        "good/stdio/sigterm-idle",
        "bad/stdio/clean-close",
        "bad/stdio/sigterm-idle",
        "gone/stdio/clean-close",
    ];
    assert_eq!(ids, expected, "{}", in_full(&ended));
    assert!(report.cases.iter().all(|case| case.id.ends_with(&case.lifecycle)));
    assert!(report.canary.is_some_and(|canary| canary.holds()));
    // The summary has a line for each, and each had its heading.
    for line in ["good    clean    2 clean", "bad     leak     2 leak", "gone    failed   1 failed"]
    {
        assert!(ended.stdout.contains(line), "{line:?} is not in:\n{}", ended.stdout);
    }
    for line in
        ["remote  -        not judged: it is reached at a URL", "off     -        not judged"]
    {
        assert!(ended.stdout.contains(line), "{line:?} is not in:\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains(&format!("\ngood: {SCUPPER} fake plain\n")), "{}", ended.stdout);
}

#[test]
fn servers_that_are_named_are_judged_even_if_disabled() {
    let ended = judged(SERVERS, &["off", "good"], &[]);
    assert_eq!(ended.code, 0, "{}", in_full(&ended));
    let names: Vec<String> = ended.report().servers.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["good", "off"]);
}

#[test]
fn nothing_judged_is_never_green() {
    // What one asks for by name must come to a verdict.
    for names in [&["remote"][..], &["good", "remote"], &["gone"], &["good", "gone"]] {
        let ended = judged(SERVERS, names, &[]);
        assert_eq!(ended.code, 3, "{names:?}: {}", in_full(&ended));
    }
    let unset = r#"{"servers": {
        "good": {"command": "{scupper}", "args": ["fake", "plain"]},
        "needs": {"command": "{scupper}", "env": {"K": "${SCUPPER_TEST_NO_SUCH_VARIABLE}"}}}}"#;
    let ended = judged(unset, &[], &[]);
    assert_eq!(ended.code, 3, "{}", in_full(&ended));
    assert!(ended.stdout.contains("SCUPPER_TEST_NO_SUCH_VARIABLE is not set"), "{}", ended.stdout);
    let remote = r#"{"mcpServers": {"remote": {"type": "http", "url": "https://127.0.0.1/mcp"}}}"#;
    let ended = judged(remote, &[], &[]);
    assert_eq!(ended.code, 3, "{}", in_full(&ended));
}

/// A mistake in one entry takes nothing from the others, and the run is not green.
#[test]
fn a_bad_entry_is_that_server_s_alone() {
    let text = r#"{"mcpServers": {
        "bare": {"args": ["x"]},
        "good": {"command": "{scupper}", "args": ["fake", "plain"]}}}"#;
    let ended = judged(text, &[], &[]);
    assert_eq!(ended.code, 3, "{}", in_full(&ended));
    let codes: Vec<Option<u8>> = ended.report().servers.iter().map(|one| one.exit_code).collect();
    assert_eq!(codes, [Some(3), Some(0)], "{}", in_full(&ended));
    let why = "servers.json:2:17: server `bare` has neither `command` nor `url`";
    let why_not = ended.report().servers[0].not_judged.clone().unwrap_or_default();
    assert!(why_not.contains(why), "{}", in_full(&ended));
}

#[test]
fn the_command_that_is_offered_repeats_a_case() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("my servers.json");
    let text = SERVERS.replace("{scupper}", SCUPPER).replace("\"bad\"", "\"my bad\"");
    fs::write(&file, text).expect("a file of servers");
    let file = file.to_str().expect("a UTF-8 path");
    let words = ["server", "--json", "{home}/report.json", "--config", file, "my bad"];
    let ended = Run::start(&[&words, &QUICK[..]].concat(), &[]).end();
    let repeat = ended.report().cases[1].repeat.clone();
    let rest = repeat.strip_prefix("scupper ").expect("a command of this program");
    let again = std::process::Command::new("sh")
        .args(["-c", &format!("'{SCUPPER}' {rest} --no-progress")])
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert_eq!(again.status.code(), Some(1), "{repeat}\n{said}");
    assert!(said.contains("leak     stdio/sigterm-idle"), "{repeat}\n{said}");
    assert!(said.contains("\n1 case in "), "{repeat}\n{said}");
}

/// The server checks by itself that it got what its entry says.
#[test]
fn a_server_has_the_environment_and_the_folder_of_its_entry() {
    let text = r#"{"mcpServers": {"a": {
        "command": "sh",
        "args": ["-c", "test \"$MODE\" = careful && test \"$KEPT\" = yes && test \"$PWD\" = \"$1\" && test -n \"$TMPDIR\" && test \"$TMPDIR\" != /tmp && exec {scupper} fake plain", "sh", "{home}"],
        "env": {"MODE": "careful", "TMPDIR": "/tmp"},
        "cwd": "{home}"}}}"#;
    let ended = judged(text, &[], &[("KEPT", "yes"), ("MODE", "other")]);
    assert_eq!(ended.code, 0, "{}", in_full(&ended));
    assert!(ended.stdout.contains("its TMPDIR is not used"), "{}", ended.stdout);
}

#[test]
fn credentials_of_an_entry_are_in_no_report() {
    // The shell outlives its server, so that its command line is told; and the server tells a value
    // by itself, in another form than that of a variable.
    let text = r#"{"mcpServers": {
        "leaky": {
            "command": "sh",
            "args": ["-c", "{scupper} fake plain; sleep 1000", "sh", "${SCUPPER_TEST_LICENCE}"],
            "env": {"API_KEY": "hunter2-of-env"}},
        "telling": {
            "command": "sh", "args": ["-c", "echo \"refused: $API_KEY\" >&2; exit 1"],
            "env": {"API_KEY": "hunter2-of-env"}}}}"#;
    let ended = judged(text, &[], &[("SCUPPER_TEST_LICENCE", "Hunter2-of-args")]);
    assert_eq!(ended.code, 1, "{}", in_full(&ended));
    let json = ended.file("report.json");
    for said in [&ended.stdout, &ended.stderr, &json] {
        assert!(!said.to_lowercase().contains("hunter2"), "{said}");
    }
    assert!(ended.stdout.contains("refused: [redacted]"), "{}", ended.stdout);
    assert!(ended.stdout.contains("${SCUPPER_TEST_LICENCE}"), "{}", ended.stdout);
}

#[test]
fn cases_that_a_scenario_can_tell_are_kept_below_the_name_of_their_server() {
    let text = r#"{"mcpServers": {
        "a/b": {"command": "{scupper}", "args": ["fake", "ignores-eof"]},
        "env": {"command": "{scupper}", "args": ["fake", "ignores-eof"], "env": {"A": "1"}}}}"#;
    let ended = judged(text, &["--keep", "{home}/kept"], &[]);
    assert_eq!(ended.code, 1, "{}", in_full(&ended));
    let kept = ended.file("kept/a-b/stdio/clean-close.toml");
    assert!(kept.contains("id = \"a-b/stdio/clean-close\""), "{kept}\n{}", in_full(&ended));
    assert!(ended.stdout.contains("env/stdio/clean-close: not kept"), "{}", in_full(&ended));
}

#[test]
fn wrong_usage_exits_2_and_teaches() {
    for (words, said) in [
        (&["god"][..], &["no server `god`", "did you mean `good`?"][..]),
        (&["elsewhere"], &["no server `elsewhere`", "good, remote, off, bad, gone"]),
    ] {
        let ended = judged(SERVERS, words, &[]);
        let fits = said.iter().all(|word| ended.stderr.contains(word));
        assert!(ended.code == 2 && ended.stdout.is_empty() && fits, "{}", in_full(&ended));
    }
    let ended = judged("{\n  \"mcpServers\": [7]\n}", &[], &[]);
    let place = "servers.json:2:17: `mcpServers` is a list";
    assert!(ended.code == 2 && ended.stderr.contains(place), "{}", in_full(&ended));
    for (words, said) in [
        (&["server", "--config", "{home}/none.json"][..], "none.json: No such file"),
        (&["server", "npx", "thing"], "scupper server -- npx thing"),
        (&["server", "--config", "x", "--", "true"], "cannot be used with"),
    ] {
        let ended = Run::start(words, &[]).end();
        let fits = ended.code == 2 && ended.stdout.is_empty() && ended.stderr.contains(said);
        assert!(fits, "{words:?}: {}", in_full(&ended));
    }
}
