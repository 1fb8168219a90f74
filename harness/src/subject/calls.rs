//! Which tools are called again and again, and what came of it: for lifecycles that were made for any
//! server, whose tools nobody has chosen one by one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::ledger::trend;
use crate::lifecycle::step::{Action, Step};

/// Names of tools in a note.
const NAMES: usize = 8;

/// What is known of the calls of one case.
#[derive(Debug, Default)]
pub struct Calls {
    /// Tools that are not called any more.
    left_out: BTreeSet<String>,
    /// Those of them for which there was no time.
    crowded_out: BTreeSet<String>,
    /// How long the repeat may take that is being played.
    limit: Option<Duration>,
    /// What the calls of its first cycle have taken.
    first_cycle: Duration,
    /// What was lost by waiting for tools that gave no answer in time.
    lost: Duration,
    /// Some call was answered with more than an error.
    worked: bool,
    /// Tools of which a call was answered with an error.
    refused: BTreeSet<String>,
}

impl Calls {
    /// A repeat begins that may take so long.
    pub fn begin(&mut self, limit: Option<Duration>) {
        self.limit = limit;
        self.first_cycle = Duration::ZERO;
    }

    /// A step has been played, in this cycle.
    pub fn played(&mut self, step: &Step, cycle: Option<u32>, took: Duration) {
        if let (Action::Call { tool, .. }, Some(1)) = (&step.action, cycle)
            && !self.left_out.contains(tool)
        {
            self.first_cycle += took;
        }
    }

    /// Whether this tool is to be called now. Those for which the first cycle has no time are left
    /// out of all: a repeat is over in time only if the least cycles that growth needs are.
    pub fn wants(&mut self, tool: &str, cycle: Option<u32>) -> bool {
        let full = self.limit.is_some_and(|limit| {
            self.first_cycle >= limit / (trend::LEAST_CYCLES + 1) || self.lost >= limit
        });
        if cycle == Some(1) && full && !self.left_out.contains(tool) {
            self.left_out.insert(tool.to_owned());
            self.crowded_out.insert(tool.to_owned());
        }
        !self.left_out.contains(tool)
    }

    /// A tool gave no answer in this time.
    pub fn late(&mut self, tool: &str, waited: Duration) {
        self.left_out.insert(tool.to_owned());
        self.lost += waited;
    }

    /// An answer to a call of this tool came.
    pub fn answered(&mut self, tool: &str, answer: &Result<Value, Value>) {
        match answer {
            Ok(result) if result["isError"] != true => self.worked = true,
            _ => drop(self.refused.insert(tool.to_owned())),
        }
    }

    /// What is worth knowing of the calls.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.crowded_out.is_empty() {
            notes.push(format!(
                "no time to call all tools again and again: without {}; name those that matter with \
                 --call TOOL=JSON, they are called first",
                names(self.crowded_out.iter().map(String::as_str))
            ));
        }
        if !self.refused.is_empty() && !self.worked {
            notes.push(format!(
                "every call was answered with an error ({}), so that little of the server was at \
                 work; give arguments that it takes with --call TOOL=JSON",
                names(self.refused.iter().map(String::as_str))
            ));
        }
        notes
    }
}

fn names<'n>(all: impl ExactSizeIterator<Item = &'n str>) -> String {
    let more = all.len().saturating_sub(NAMES);
    let some = all.take(NAMES).collect::<Vec<_>>().join(", ");
    if more == 0 { some } else { format!("{some} and {more} more") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(tool: &str) -> Step {
        Step::new(Action::Call { tool: tool.into(), arguments: json!({}), wait: true })
    }

    #[test]
    fn tools_that_do_not_fit_into_the_first_cycle_are_left_out_of_all() {
        let mut calls = Calls::default();
        calls.begin(Some(Duration::from_secs(30)));
        for tool in ["a", "b"] {
            assert!(calls.wants(tool, Some(1)));
            calls.played(&call(tool), Some(1), Duration::from_millis(2_500));
        }
        assert!(!calls.wants("c", Some(1)));
        assert!(calls.wants("a", Some(2)) && !calls.wants("c", Some(2)));
        let [note] = &calls.notes()[..] else { panic!("{:?}", calls.notes()) };
        assert!(note.contains("without c;"), "{note}");
    }

    #[test]
    fn one_late_tool_takes_no_time_from_the_others_and_many_do() {
        let mut calls = Calls::default();
        calls.begin(Some(Duration::from_secs(30)));
        for tool in ["a", "b", "c", "d", "e", "f"] {
            assert!(calls.wants(tool, Some(1)), "{tool}");
            calls.late(tool, Duration::from_secs(5));
            calls.played(&call(tool), Some(1), Duration::from_secs(6));
        }
        assert!(!calls.wants("g", Some(1)));
    }

    #[test]
    fn errors_are_worth_a_note_when_there_is_nothing_else() {
        let mut calls = Calls::default();
        assert_eq!(calls.notes(), [""; 0]);
        calls.answered("b", &Ok(json!({ "isError": true })));
        calls.answered("a", &Err(json!({ "code": -32602 })));
        let [note] = &calls.notes()[..] else { panic!("{:?}", calls.notes()) };
        assert!(note.contains("(a, b)"), "{note}");
        calls.answered("a", &Ok(json!({ "content": [] })));
        assert_eq!(calls.notes(), [""; 0]);
    }

    #[test]
    fn a_note_names_a_few_tools() {
        let tools: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
        let said = names(tools.iter().map(String::as_str));
        assert_eq!(said, "t0, t1, t2, t3, t4, t5, t6, t7 and 2 more");
    }
}
