//! A run as it happens, one JSON object a line: `{"event": "case-ended", "at_ms": 4711, …}`. For runs of
//! hours, whose report comes last or, where they are killed, never.

use serde_json::{Map, Value, json};

use super::event::{Event, RunSummary};
use super::json::Totals;
use super::redact;

/// The line of an event, without its end; `at_ms` counts from the start of the run.
///
/// What is said in one event is not repeated in another: the last one has only counts.
pub fn line(event: &Event, at_ms: u64) -> String {
    let (name, rest) = match event {
        Event::RunStarted(info) => ("run-started", whole(&redact::run(info))),
        Event::ServerStarted(server) => ("server-started", json!({"name": server.name})),
        Event::SubjectSeen(subject) => ("subject-seen", whole(&redact::subject(subject))),
        Event::Planned(cases) => ("planned", json!({"cases": cases})),
        Event::CaseStarted { id } => ("case-started", json!({"id": id})),
        Event::LeftOut { id } => ("left-out", json!({"id": id})),
        Event::Swept { done, planned, suspects, .. } => {
            ("swept", json!({"done": done, "planned": planned, "suspects": suspects}))
        }
        Event::LifeEnded { id } => ("life-ended", json!({"id": id})),
        Event::Looked(case) => ("looked", json!({"case": redact::case(case)})),
        Event::CaseEnded(case) => ("case-ended", json!({"case": redact::case(case)})),
        Event::CanaryEnded(canary) => ("canary-ended", whole(canary)),
        Event::Note(note) => ("note", json!({"note": redact::redact(note)})),
        Event::Gated(gated) => ("gated", whole(gated)),
        Event::RunEnded(summary) => ("run-ended", ended(summary)),
    };
    let mut object = Map::new();
    object.insert("event".into(), name.into());
    object.insert("at_ms".into(), at_ms.into());
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
    Value::Object(object).to_string()
}

fn ended(summary: &RunSummary) -> Value {
    json!({
        "verdict": summary.verdict,
        "totals": Totals::of(&summary.cases),
        "not_judged": summary.not_judged.len(),
        "exit_code": summary.exit_code,
        "interrupted": summary.interrupted,
    })
}

fn whole(part: &impl serde::Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn a_run_line_by_line() {
        let case = samples::cases().remove(1);
        let summary = samples::summary(vec![case.clone()], 1);
        let events = [
            Event::RunStarted(samples::info(1)),
            Event::CaseStarted { id: case.id.clone() },
            Event::Note("GITHUB_TOKEN=abc is set".into()),
            Event::CaseEnded(Box::new(case.clone())),
            Event::RunEnded(summary),
        ];
        let lines: Vec<String> = events.iter().zip(1..).map(|(one, at)| line(one, at)).collect();
        assert!(
            lines.iter().all(|line| !line.contains('\n') && !line.contains("abc")),
            "{lines:?}"
        );
        let ended: Value = serde_json::from_str(&lines[3]).expect("JSON");
        assert_eq!(ended["case"], json!(redact::case(&case)));
        let short = lines.iter().map(|line| line.chars().take(90).collect::<String>());
        insta::assert_snapshot!(short.collect::<Vec<_>>().join("\n"), @r#"
        {"at_ms":1,"cases":1,"event":"run-started","mode":"server","repeat":"scupper server --seed
        {"at_ms":2,"event":"case-started","id":"stdio/half-close"}
        {"at_ms":3,"event":"note","note":"GITHUB_TOKEN=[redacted] is set"}
        {"at_ms":4,"case":{"crashes":[],"cycles":0,"era":"2025-11-25","expected":null,"failure":nu
        {"at_ms":5,"event":"run-ended","exit_code":1,"interrupted":false,"not_judged":0,"totals":{
        "#);
    }
}
