//! `scupper replay` judges a kept case as it was judged when it was kept.

use std::fs;
use std::process::Command;

use crate::support::{Run, SCUPPER};
use harness::ledger::verdict::Verdict;

#[test]
fn a_kept_case_is_red_until_the_leak_is_mended() {
    let folder = tempfile::Builder::new().prefix("scupper-test-").tempdir().expect("a directory");
    let place = folder.path().to_str().expect("a UTF-8 path");
    let (script, kept) = (format!("{place}/my server"), format!("{place}/kept"));
    let write = |fake: &str| {
        fs::write(&script, format!("exec {SCUPPER} fake {fake}\n")).expect("a server");
    };
    write("ignores-eof");
    let options = ["--only", "clean-close", "--leak-timeout", "1s", "--keep", &kept];
    let found = Run::server(&options, &["sh", &script], &[]).end();
    assert_eq!(found.code, 1, "{}{}", found.stdout, found.stderr);
    let case = format!("{kept}/stdio/clean-close.toml");
    let replay = |options: &[&str]| {
        let words = ["replay", "--json", "{home}/report.json", &case];
        Run::start(&[&words[..], options].concat(), &[]).end()
    };
    let red = replay(&["--leak-timeout", "1s"]);
    // The command that a report offers is quoted and names the options.
    let repeat = red.report().cases[0].repeat.clone();
    let rest = repeat.strip_prefix("scupper replay --leak-timeout 1s ").expect(&repeat);
    assert!(rest.ends_with("/kept/stdio/clean-close.toml"), "{repeat}");
    let again = Command::new("sh")
        .args(["-c", &format!("'{SCUPPER}' {} --no-progress", &repeat["scupper ".len()..])])
        .output()
        .expect("a shell");
    assert_eq!(again.status.code(), Some(1), "{repeat}");
    write("ignores-eof --fixed");
    let green = replay(&[]);
    assert_eq!((red.code, green.code), (1, 0), "{}{}", red.stdout, green.stdout);
    assert_eq!(red.report().cases[0].verdict, Verdict::Leak);
}
