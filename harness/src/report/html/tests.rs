//! What is in the page, without a browser; `tests/html` opens it in one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::ledger::verdict::{CaseReport, Verdict};
use crate::report::event::{Gated, codes};
use crate::report::samples;

/// A few cases of different kinds, one of them with lives.
fn small() -> Report {
    let mut cases = samples::cases();
    cases[3].lives = samples::lives();
    cases.remove(2);
    let summary = samples::summary(cases, codes::LEAK);
    Report::new(&samples::info(5), Some(&samples::subject()), &[], &summary)
}

/// So many cases, each with a finding of a cause of its own.
fn large(number: usize) -> Report {
    let template = &small().cases[2];
    let case = |n: usize| {
        let id = format!("sweep/to-server/after-{n}");
        let mut case = CaseReport { id: id.clone(), ..template.clone() };
        case.repeat = format!("scupper server --only {id} -- node dist/index.js");
        case.findings.truncate(1);
        case.findings[0].birth_step.name = format!("call tool-of-this-case-{n}");
        case.findings[0].evidence[0] = format!("fd {n}  pipe:[{n}]  write end");
        case
    };
    let summary = samples::summary((0..number).map(case).collect(), codes::LEAK);
    Report::new(&samples::info(number), Some(&samples::subject()), &[], &summary)
}

/// The data behind the table.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("type=\"application/json\">").expect("data");
    serde_json::from_str(rest.split_once("</script>").expect("its end").0).expect("JSON")
}

/// Elements and texts, a line each, without style, script and data.
fn outline(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").expect("a style");
    let (_, rest) = rest.split_once("</style>").expect("its end");
    let (body, _) = rest.split_once("<script").expect("a script");
    let page = format!("{head}{body}").replace('>', ">\n").replace('<', "\n<");
    let lines = page.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.filter(|line| !line.starts_with("</")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_small_run_as_a_page() {
    let mut report = small();
    report.cases.retain(|case| ["stdio/half-close", "stdio/clean-close"].contains(&&*case.id));
    let page = render(&report).replace(POLICY, "POLICY");
    insta::assert_snapshot!(outline(&page));
}

#[test]
fn the_policy_names_this_script_and_this_style() {
    for (text, word) in [(SCRIPT, "script-src"), (STYLE, "style-src")] {
        let hash = STANDARD.encode(Sha256::digest(text));
        let expected = format!("{word} 'sha256-{hash}'");
        assert!(POLICY.contains(&expected), "put this into POLICY: {expected}");
        // What is inlined must end where its element ends.
        assert!(!text.contains("</script") && !text.contains("</style") && !text.contains("<!--"));
    }
}

#[test]
fn nothing_of_the_subject_is_markup_or_ends_the_script() {
    let hostile =
        "</script><img src=x onerror=alert(1)> \" onclick=\"x ' & <!-- \u{202e}\u{2028}\u{1b}]0;x";
    let mut report = small();
    report.run.subject = hostile.into();
    report.run.repeat = hostile.into();
    report.notes = vec![hostile.into()];
    for case in &mut report.cases {
        case.id.push_str(hostile);
        case.notes = vec![hostile.into()];
        case.why = hostile.into();
        case.lives = samples::lives();
        case.lives.listed[0].what = hostile.into();
        for finding in &mut case.findings {
            finding.what = hostile.into();
            finding.evidence = vec![hostile.into()];
            finding.birth_step.name = hostile.into();
        }
    }
    let page = render(&report);
    let plain = render(&small());
    for tag in ["<script", "</script", "<img", "<!--", "onclick=\"", "onerror"] {
        let times = |page: &str| page.matches(tag).count();
        let said = if tag == "onerror" {
            times(&page) - page.matches("onerror=alert").count()
        } else {
            times(&page)
        };
        assert_eq!(said, times(&plain), "{tag}");
    }
    assert!(!page.contains(['\u{202e}', '\u{2028}', '\u{1b}']));
    let words = data(&page)["words"].to_string();
    assert!(words.contains("</script><img src=x onerror=alert(1)>"), "the text itself is kept");
}

#[test]
fn three_thousand_findings_stay_under_three_megabytes_and_none_is_lost() {
    let report = large(3_000);
    let page = render(&report);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    let data = data(&page);
    assert_eq!(data["cases"].as_array().expect("cases").len(), 3_000);
    assert_eq!(page.matches("<span class=\"tag\">leak.fd</span>").count(), 3_000);
    let whole = |case: &&Value| case["more"].is_object();
    let whole = data["cases"].as_array().expect("cases").iter().filter(whole).count();
    assert!(whole > 1_000, "{whole} cases can be opened");
    assert!(page.contains(&format!("Of {} cases there is only a line here", 3_000 - whole)));
}

#[test]
fn whatever_comes_the_page_stays_small_and_says_what_it_leaves_out() {
    let mut report = large(4_000);
    for case in &mut report.cases {
        case.id.push_str(&"<".repeat(300));
        case.findings[0].blame = format!("{}{}", case.id, "&".repeat(500));
    }
    report.notes = (0..500).map(|n| format!("{}{n}x", "&".repeat(n))).collect();
    let page = render(&report);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("cases are left out of this page"));
    assert!(page.contains("more, which the JSON report has"));
}

#[test]
fn the_same_report_is_the_same_page() {
    let report = samples::everything();
    assert_eq!(render(&report), render(&report));
    let read = Report::parse(&report.to_json()).expect("our own report");
    assert_eq!(render(&read), render(&report));
}

#[test]
fn nothing_is_loaded() {
    let page = render(&samples::everything());
    assert!(page.contains(&format!("content=\"{POLICY}\"")), "the policy");
    // The one address is the name of SVG, which nobody fetches.
    let addresses: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at..]).collect();
    for address in
        addresses.iter().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
    {
        assert!(address.starts_with("http://www.w3.org/2000/svg\""), "{}", &address[..60]);
    }
    for word in
        [" src=", "url(", "@import", "fetch(", "XMLHttpRequest", "WebSocket", "innerHTML", "eval("]
    {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn a_crash_is_a_note_of_its_case_and_of_the_run() {
    let page = render(&small());
    let said = "the server crashed when its end came: SIGABRT in 1 life";
    assert!(
        page.contains(&format!("<li>{said}")) && data(&page)["words"].to_string().contains(said)
    );
    let mut report = samples::nothing();
    report.files.insert("stdio/clean-close".into(), "scenarios/a.toml".into());
    assert!(render(&report).contains("scenarios/a.toml"));
}

#[test]
fn no_credential_is_written() {
    assert!(!render(&samples::everything()).contains("abc123"));
    let mut summary = samples::summary(samples::cases(), codes::LEAK);
    summary.cases[0].lives = samples::lives();
    summary.cases[0].lives.listed[0].what = "pid 1 (node x.js --token abc123)".into();
    let report = Report::new(&samples::info(6), None, &[], &summary);
    assert!(render(&report).contains("--token [redacted]"));
    assert!(!render(&report).contains("abc123"));
}

#[test]
fn the_verdict_is_that_of_the_gate_and_what_is_known_is_told_as_such() {
    let word = |report: &Report| {
        let page = render(report);
        let (_, rest) = page.split_once("<strong>").expect("a verdict");
        rest.split_once("</strong>").expect("its end").0.to_owned()
    };
    assert_eq!(word(&samples::nothing()), "Clean");
    assert_eq!(word(&small()), "Leak");
    assert_eq!(word(&samples::everything()), "Invalid");
    let mut accepted = samples::nothing();
    accepted.gate = Some(Gated { accepted: 2, ..Gated::default() });
    assert_eq!(word(&accepted), "Clean, 2 accepted by the baseline");
    let mut expected = samples::nothing();
    expected.cases[0].expected = Some(Verdict::Clean);
    assert_eq!(word(&expected), "As expected");
    expected.exit_code = codes::INTERRUPTED;
    assert_eq!(word(&expected), "Interrupted");
}
