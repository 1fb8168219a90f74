//! A run as one page that needs nothing but itself: no network, no other file. `head` has the verdict,
//! `findings` what is wrong, each cause once; both can be read without a script. The table of cases and
//! what opens in it are drawn by the page's own script from what `data` has packed, because three
//! thousand timelines at once would take the browser seconds and the file megabytes.
//!
//! Whatever a subject says comes in as text: `maud` escapes it in the page, `data` in the script's
//! data, and the script itself makes text of it, never markup. Should anything slip through, the policy
//! in the head lets no other script run and nothing be loaded.

mod data;
mod findings;
mod head;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::json::Report;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page allows itself: its own script and its own style, by hash. A test keeps them current.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; \
                      script-src 'sha256-MQzNnICWowApQaCfekzm6iMvtDOZh48Go/GPsyRVrb8='; \
                      style-src 'sha256-T5iWebyXbE+/cRBDzzd6nZgoUXVR4k5YBfT2tJKFotw='";

/// Most bytes of the findings' part of the page, and of the data behind the table. With script, style
/// and head the page stays under 3 MB.
const FINDINGS_BYTES: usize = 1_000_000;
const DATA_BYTES: usize = 1_750_000;

/// The report as a page.
pub fn render(report: &Report) -> String {
    let groups = findings::groups(report);
    let data = data::pack(report, &groups, DATA_BYTES);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (head::title(report)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#cases" { "Skip to the table of cases" }
                main {
                    (head::verdict(report))
                    (findings::section(&groups, FINDINGS_BYTES))
                    (cases(report, &data))
                    (teardown())
                    (head::servers(report))
                    (head::notes(report))
                }
                (head::foot(report))
                script #data type="application/json" { (PreEscaped(&data.json)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string() + "\n"
}

/// The frame of the table, which the script fills.
fn cases(report: &Report, data: &data::Packed) -> Markup {
    html! {
        section #cases aria-labelledby="cases-title" {
            h2 #cases-title { "Cases" }
            @if report.cases.is_empty() {
                p.quiet { "No case was judged." }
            }
            noscript {
                p.quiet { "The table of cases and their timelines need JavaScript; what is above does not." }
            }
            form.filters #filters hidden role="search" aria-label="Filter the cases" {
                label { span { "Text" }
                    input #filter-text type="search" autocomplete="off" placeholder="id or finding";
                }
                label { span { "Verdict" } select #filter-verdict {} }
                label { span { "Kind" } select #filter-kind {} }
                button #filter-group type="button" hidden {}
                output #filter-count aria-live="polite" {}
            }
            div.scroll { table #case-table hidden {} }
            p #more hidden {}
            @if data.short > 0 {
                p.quiet {
                    "Of " (data.short) " cases there is only a line here, so that this page stays small; \
                     the JSON report has all of them."
                }
            }
            @if data.left_out > 0 {
                p.quiet { (data.left_out) " cases are left out of this page; the JSON report has them." }
            }
        }
    }
}

/// The frame of the plot of ends, likewise.
fn teardown() -> Markup {
    html! {
        section #teardown hidden aria-labelledby="teardown-title" {
            h2 #teardown-title { "How long each end took" }
            p.quiet {
                "A dot is a case: how long after its end was due the last of it had gone, by the rung that \
                 ended it. The line is the median."
            }
            div #teardown-plot {}
        }
    }
}

#[cfg(test)]
mod tests;
