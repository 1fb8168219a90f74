//! The HTML report in a real browser: it is opened, filtered and read with the keyboard, and nothing in
//! it complains. Without Chromium, which ci/setup installs, these tests print that they were skipped and
//! pass, unless SCUPPER_REQUIRE_REAL_SERVERS is set.

#[expect(dead_code, reason = "the tests of the whole program use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod browser;

use std::sync::OnceLock;

use browser::Browser;
use harness::ledger::history::Growth;
use harness::ledger::snapshot::Kind;
use harness::report::html;
use harness::report::json::{Report, Totals};
use serde_json::json;
use support::{Run, SCUPPER};

/// A run on a server that never sees the end of its stdin: its report, and its page. One for all tests.
fn leaky() -> &'static (Report, String) {
    static RUN: OnceLock<(Report, String)> = OnceLock::new();
    RUN.get_or_init(|| {
        let options = ["server", "--json", "{home}/report.json", "--html", "{home}/report.html"];
        let only = ["--only", "clean-close,sigterm-idle,churn", "--cycles", "6"];
        let fake = ["--leak-timeout", "1s", "--", SCUPPER, "fake", "ignores-eof"];
        let ended = Run::start(&[&options[..], &only, &fake].concat(), &[]).end();
        assert_eq!(ended.code, 1, "{}{}", ended.stdout, ended.stderr);
        (ended.report(), ended.file("report.html"))
    })
}

/// The leaking case of a run so many times, each with a cause of its own.
fn many(number: usize) -> Report {
    let mut report = leaky().0.clone();
    let leak = report.cases.iter().find(|case| !case.findings.is_empty()).expect("a leak").clone();
    report.cases = (0..number)
        .map(|n| {
            let mut case = leak.clone();
            case.id = format!("stdio/case-{n}");
            case.repeat = case.repeat.replace(&leak.id, &case.id);
            case.findings[0].birth_step.name = format!("call tool-{n}");
            case
        })
        .collect();
    report.totals = Totals::of(&report.cases);
    report
}

#[test]
fn a_leak_is_found_by_filter_and_opened_with_the_keyboard() {
    let Some(program) = browser::installed() else { return };
    let mut browser = Browser::start(&program);
    browser.open(&leaky().1);
    assert_eq!(
        browser.value("document.querySelector('.verdict strong').textContent"),
        json!("Leak")
    );
    browser.until("document.querySelectorAll('#case-table tbody tr').length === 3");
    // By cause: the button of a finding leaves its two cases, and can be taken back.
    browser.value("document.querySelector('button.only').focus()");
    browser.press("Enter");
    browser.until("document.querySelectorAll('#case-table tbody tr').length === 2");
    browser.press("Enter");
    browser.until("document.querySelectorAll('#case-table tbody tr').length === 3");
    // By text: one case is left, and the count says so.
    browser.value("document.getElementById('filter-text').focus()");
    browser.type_text("churn");
    browser.until("document.querySelectorAll('#case-table tbody tr').length === 1");
    let count = browser.value("document.getElementById('filter-count').textContent");
    assert_eq!(count, json!("1 of 3 cases"));
    // The button of the case is opened with Enter, and stays in focus.
    browser.value("document.querySelector('#case-table .case').focus()");
    browser.press("Enter");
    browser.until("document.querySelector('tr.detail svg.timeline') !== null");
    assert_eq!(
        browser.value("document.activeElement.getAttribute('aria-expanded')"),
        json!("true")
    );
    // The process that was left runs off the end in red; its case says what to do, and how it grew.
    browser.until("document.querySelectorAll('tr.detail svg.timeline path.bar.bad').length === 1");
    browser.until("document.querySelector('tr.detail svg.timeline .due') !== null");
    let shown = browser.value("document.querySelector('tr.detail').innerText");
    let shown = shown.as_str().unwrap_or_default();
    let flat = "the same after every cycle: process 1, fd 3";
    let repeat = "scupper server --only stdio/churn";
    for said in ["outlived the close of its connection", flat, repeat] {
        assert!(shown.contains(said), "{said} is not in {shown}");
    }
    assert_eq!(browser.errors, [""; 0]);
}

#[test]
fn a_link_opens_its_case_and_columns_sort() {
    let Some(program) = browser::installed() else { return };
    let mut report = many(250);
    let points = (1..=20).map(|cycle| (cycle, u64::from(cycle) + 17)).collect();
    report.cases[201].lives.growth = vec![Growth { kind: Kind::Fd, place: "3".into(), points }];
    let mut browser = Browser::start(&program);
    browser.open(&html::render(&report));
    // It opens what is far down the table, and whatever the filter hides.
    browser.value("document.getElementById('filter-text').focus()");
    browser.type_text("no such case");
    browser.until("document.querySelectorAll('#case-table tbody tr').length === 0");
    browser.value("location.hash = '#case=stdio/case-201'");
    browser.until("document.activeElement.textContent === 'stdio/case-201'");
    browser.until("document.querySelector('tr.detail svg.timeline') !== null");
    let plot = browser.value("document.querySelector('tr.detail figure').innerText");
    assert!(plot.to_string().contains("fd: 18 after cycle 1, 37 after 20"), "{plot}");
    // Verdicts come first, the worst on top; the head of a column turns it round.
    let sorted = "document.querySelector('thead [aria-sort]').textContent";
    assert_eq!(browser.value(sorted), json!("Verdict ↓"));
    browser.value("document.querySelector('thead button').focus()");
    browser.press("Enter");
    assert_eq!(browser.value(sorted), json!("Case ↑"));
    let first = "document.querySelector('#case-table .case').textContent";
    assert_eq!(browser.value(first), json!("stdio/case-0"));
    browser.press("Enter");
    assert_eq!(browser.value(first), json!("stdio/case-99"));
    assert_eq!(browser.errors, [""; 0]);
}

/// How soon it is painted is told and not judged: hosts are shared.
#[test]
fn three_thousand_findings_fit_in_three_megabytes_and_are_all_there() {
    let Some(program) = browser::installed() else { return };
    let page = html::render(&many(3_000));
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    let mut browser = Browser::start(&program);
    let paint =
        "((performance.getEntriesByName('first-contentful-paint')[0] || {}).startTime || 0)";
    browser.open(&page);
    browser.until(&format!("{paint} > 0"));
    let painted = browser.value(paint).as_f64().expect("a time");
    browser.until("document.getElementById('filter-count').textContent === '3000 cases'");
    println!("{} bytes, first paint after {painted:.0} ms", page.len());
    assert_eq!(browser.errors, [""; 0]);
}

#[test]
fn it_fits_a_phone_and_can_be_read_without_a_script() {
    let Some(program) = browser::installed() else { return };
    let mut browser = Browser::start(&program);
    let phone = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
    browser.ask("Emulation.setDeviceMetricsOverride", phone);
    browser.open(&leaky().1);
    browser.value("document.querySelector('#case-table .case').click()");
    browser.until("document.querySelector('svg.timeline') !== null");
    let wide = browser.value("document.documentElement.scrollWidth");
    assert_eq!(wide, json!(390), "wider than the screen");
    browser.ask("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.open(&leaky().1);
    // Asked of the document itself, as no script answers any more.
    let text = browser.ask("DOM.getDocument", json!({ "depth": -1 })).to_string();
    for said in ["Leak", "outlived the close of its connection", "need JavaScript"] {
        assert!(text.contains(said), "{said}");
    }
    assert!(!text.contains("of 3 cases") && !text.contains("3 cases"), "a script ran");
    assert_eq!(browser.errors, [""; 0]);
}
