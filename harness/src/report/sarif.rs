//! A run as SARIF 2.1.0, for code scanning.
//!
//! A finding has no line of source. Its place is its lifecycle and step, as logical locations, and as
//! a file the scenario that plays it, where there is one; else a path that does not exist,
//! `scupper/<case>`, because some readers refuse a result without one. Pids and counts are in the
//! texts and never in a fingerprint.

use serde_json::{Value, json};

use super::json::Report;
use super::problem::{Level, Problem, Sort, problems};
use crate::report::event::codes;

/// Where the form is described.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// Most results of one run: readers drop what comes after.
const RESULTS: usize = 5_000;
/// Name of our fingerprint; another meaning gets another number.
const FINGERPRINT: &str = "scupper/v1";

/// The report as SARIF, pretty, with a newline at the end.
pub fn render(report: &Report) -> String {
    let all = problems(report);
    let (results, notices): (Vec<&Problem>, Vec<&Problem>) =
        all.iter().partition(|problem| problem.case.is_some());
    let mut notices: Vec<Value> = notices.into_iter().map(notification).collect();
    if let Some(more) = results.len().checked_sub(RESULTS).filter(|more| *more > 0) {
        notices.push(json!({
            "level": "warning",
            "message": { "text": format!("and {more} more results: the JSON report has them all") },
        }));
    }
    let sorts: Vec<Sort> = Sort::all().collect();
    let mut invocation = json!({
        "executionSuccessful": matches!(report.exit_code, codes::CLEAN | codes::LEAK),
        "exitCode": report.exit_code,
        "toolExecutionNotifications": notices,
    });
    if let Some(begun) = &report.begun {
        invocation["startTimeUtc"] = json!(begun);
    }
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "scupper",
                "semanticVersion": report.run.version,
                "rules": sorts.iter().map(|sort| rule(*sort)).collect::<Vec<_>>(),
            } },
            "invocations": [invocation],
            "automationDetails": { "id": format!("scupper/{}/", report.run.mode) },
            "results": results
                .iter()
                .take(RESULTS)
                .map(|problem| result(report, problem, &sorts))
                .collect::<Vec<_>>(),
        }],
    });
    let mut text = serde_json::to_string_pretty(&log).unwrap_or_default();
    text.push('\n');
    text
}

fn rule(sort: Sort) -> Value {
    let level = match sort {
        Sort::Advisory(_) => "note",
        _ => "error",
    };
    json!({
        "id": sort.id(),
        "shortDescription": { "text": sort.summary() },
        "fullDescription": { "text": sort.summary() },
        "help": { "text": sort.help() },
        "defaultConfiguration": { "level": level },
        "properties": { "tags": ["mcp", "resource-leak"] },
    })
}

fn result(report: &Report, problem: &Problem, sorts: &[Sort]) -> Value {
    let Some(case) = problem.case else { return Value::Null };
    let step = problem.finding.map(|finding| &finding.due_step);
    let step = step.or_else(|| case.failure.as_ref().map(|failure| &failure.step));
    let mut logical = vec![json!({ "fullyQualifiedName": case.lifecycle, "kind": "lifecycle" })];
    logical.extend(step.map(|step| {
        json!({
            "name": step.name,
            "fullyQualifiedName": format!("{}/{}", case.lifecycle, step.name),
            "kind": "step",
        })
    }));
    let text = std::iter::once(&problem.title).chain(&problem.details);
    let text = text.map(String::as_str).collect::<Vec<_>>().join("\n");
    let mut properties = json!({
        "case": case.id,
        "subject": case.subject,
        "era": case.era,
        "verdict": case.verdict,
        "tier": case.tier,
        "repeat": case.repeat,
    });
    if let Some(finding) = problem.finding {
        properties["finding"] = json!(finding);
    }
    // What a baseline accepts is no open result.
    let suppressions: Vec<Value> = problem
        .known
        .iter()
        .map(|reason| json!({ "kind": "external", "justification": reason }))
        .collect();
    json!({
        "suppressions": suppressions,
        "ruleId": problem.sort.id(),
        "ruleIndex": sorts.iter().position(|sort| *sort == problem.sort),
        "level": match problem.level { Level::Error => "error", Level::Note => "note" },
        "message": { "text": text },
        "partialFingerprints": { FINGERPRINT: problem.fingerprint },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&report.place_of(case)) },
                "region": { "startLine": 1 },
            },
            "logicalLocations": logical,
        }],
        "properties": properties,
    })
}

/// What is wrong with the run itself is no result of it.
fn notification(problem: &Problem) -> Value {
    let text = std::iter::once(&problem.title).chain(&problem.details);
    json!({
        "level": "error",
        "message": { "text": text.map(String::as_str).collect::<Vec<_>>().join("\n") },
        "descriptor": { "id": problem.sort.id() },
    })
}

/// A path as a reference: relative to where the run began, or absolute.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{samples, schema};

    #[test]
    fn everything_in_sarif() {
        let text = render(&samples::everything());
        let mut log: Value = serde_json::from_str(&text).expect("JSON");
        // A rule of each form, and a result of each form.
        let run = &mut log["runs"][0];
        run["tool"]["driver"]["rules"].as_array_mut().expect("rules").truncate(1);
        let results = run["results"].as_array_mut().expect("results");
        results.retain(|result| {
            ["leak.session", "unmet", "unknown"].iter().any(|id| result["ruleId"] == *id)
        });
        insta::assert_snapshot!(serde_json::to_string_pretty(&log).expect("JSON"));
    }

    #[test]
    fn a_log_is_valid_by_the_public_schema() {
        let text = include_str!("../../schema/others/sarif-2.1.0.schema.json");
        let schema: Value = serde_json::from_str(text).expect("a schema is JSON");
        for report in [samples::everything(), samples::nothing()] {
            let log: Value = serde_json::from_str(&render(&report)).expect("JSON");
            assert_eq!(schema::errors(&schema, &log), [""; 0]);
        }
        // The validator itself: what is not allowed is told.
        let mut log: Value = serde_json::from_str(&render(&samples::everything())).expect("JSON");
        log["runs"][0]["results"][0]["level"] = json!("fatal");
        log["runs"][0]["invocations"][0]["colour"] = json!("red");
        log["runs"][0]["tool"]["driver"]["name"] = Value::Null;
        assert_eq!(schema::errors(&schema, &log).len(), 3);
    }

    #[test]
    fn a_rule_is_told_by_id_and_by_place_and_every_fingerprint_is_the_findings() {
        let log: Value = serde_json::from_str(&render(&samples::everything())).expect("JSON");
        let run = &log["runs"][0];
        let results = run["results"].as_array().expect("results");
        for result in results {
            let place = result["ruleIndex"].as_u64().expect("a rule of ours") as usize;
            assert_eq!(run["tool"]["driver"]["rules"][place]["id"], result["ruleId"]);
            assert_eq!(result["partialFingerprints"][FINGERPRINT].as_str().map(str::len), Some(16));
        }
        assert_eq!(results.len(), 10);
    }

    #[test]
    fn a_path_is_a_reference() {
        assert_eq!(uri("a b/ü.toml"), "a%20b/%C3%BC.toml");
        assert_eq!(uri("/a#b"), "file:///a%23b");
    }

    #[test]
    fn no_credential_is_written() {
        assert!(!render(&samples::everything()).contains("abc123"));
    }
}
