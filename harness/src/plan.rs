//! Lifecycle × subject × seed -> cases. Pure.

use std::collections::BTreeSet;

use crate::cell::protocol::{CaseOrder, Learned, Patience, SubjectOrder};
use crate::ledger::snapshot::Kind;
use crate::lifecycle::battery::{self, Call, Discover, Knowledge};
use crate::lifecycle::scenario::{Expectation, FakeSpec, Scenario, Subject};
use crate::lifecycle::step::{Era, EraChoice, Lifecycle};

/// Cycles of reconnecting and of calling where the user names none.
pub const CYCLES: u32 = 20;
/// How long a server may take to answer the handshake where the user says nothing.
pub const START_TIMEOUT_MS: u64 = 30_000;

/// The unit that is judged and repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What the cell is told.
    pub order: CaseOrder,
    /// What should come of it, where somebody said.
    pub expect: Option<Expectation>,
}

/// What the user chose, for all cases alike.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Ids to judge, exact or by a prefix that ends at a slash; all where empty.
    pub only: Vec<String>,
    /// Ids to leave out, likewise.
    pub skip: Vec<String>,
    /// Kinds to judge.
    pub kinds: BTreeSet<Kind>,
    /// Cycles, the warm-up not counted.
    pub cycles: u32,
    /// Which era to speak.
    pub era: EraChoice,
    /// The user's own bound for what is due, in milliseconds.
    pub leak_timeout_ms: Option<u64>,
    /// How long a server may take to answer the handshake, in milliseconds.
    pub start_timeout_ms: u64,
    /// Calls that the user allows beyond those that are safe.
    pub calls: Vec<Call>,
    /// Path of this program, to start fakes.
    pub program: String,
}

impl Choices {
    /// Whether a lifecycle is among those to judge.
    pub fn wants(&self, id: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|name| names_id(name, id));
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }

    /// Names of the user that fit none of these ids.
    pub fn unmatched<'a>(&'a self, ids: &[&str]) -> Vec<&'a str> {
        let fits = |name: &&String| !ids.iter().any(|id| names_id(name, id));
        self.only.iter().chain(&self.skip).filter(fits).map(String::as_str).collect()
    }
}

/// `stdio/churn` and `churn` name stdio/churn; `stdio` and `stdio/` name all below.
fn names_id(name: &str, id: &str) -> bool {
    let name = name.trim_end_matches('/');
    id == name
        || id.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
        || id.strip_suffix(name).is_some_and(|rest| rest.ends_with('/'))
}

/// The first look at a server, from which the rest of the battery is made.
pub fn first_look(command: &[String], choices: &Choices, era: Era) -> Case {
    let mut case = server_case(battery::first_look(), command, choices, era);
    case.order.first_look = true;
    case
}

/// The rest of the battery.
pub fn battery(command: &[String], choices: &Choices, learned: &Learned, era: Era) -> Vec<Case> {
    let callable = learned.tools.iter().filter(|tool| tool.callable);
    let safe =
        callable.map(|tool| Call { tool: tool.name.clone(), arguments: tool.arguments.clone() });
    let mut calls: Vec<Call> = choices.calls.clone();
    for call in safe {
        if !calls.iter().any(|chosen| chosen.tool == call.tool) {
            calls.push(call);
        }
    }
    // The user's own call first, then one that surely lasts, then any.
    let mut lasting = learned.tools.iter().filter(|tool| tool.callable).filter_map(|tool| {
        Some(Call { tool: tool.name.clone(), arguments: tool.lasting.clone()? })
    });
    let in_flight =
        choices.calls.first().cloned().or_else(|| lasting.next()).or(calls.first().cloned());
    // A user who names an era wants that one and no other.
    let other_era = learned
        .eras
        .iter()
        .copied()
        .find(|other| *other != era)
        .filter(|_| choices.era == EraChoice::Auto);
    let discover = match learned.discover_is_answered {
        true => Discover::Answered,
        false => Discover::Ignored,
    };
    let discover = (era == Era::Legacy && learned.initialize_after_discover).then_some(discover);
    let known = Knowledge { calls, in_flight, cycles: choices.cycles, other_era, discover };
    battery::stdio(&known)
        .into_iter()
        .filter(|lifecycle| lifecycle.id != battery::FIRST_LOOK && choices.wants(&lifecycle.id))
        .map(|lifecycle| {
            let era = match lifecycle.era {
                EraChoice::Auto => era,
                EraChoice::Legacy => Era::Legacy,
                EraChoice::Modern => Era::Modern,
            };
            let mut case = server_case(lifecycle, command, choices, era);
            case.order.launchers = Some(learned.launchers.len());
            if choices.leak_timeout_ms.is_none() {
                case.order.patience = Patience::calibrated(learned.exit_ms.unwrap_or(0));
            }
            case.order.patience = case.order.patience.with_start(learned.start_ms);
            case
        })
        .collect()
}

/// The whole battery, for messages and lists.
pub fn whole_battery() -> Vec<Lifecycle> {
    battery::stdio(&Knowledge::of_any(CYCLES))
}

/// How many lifecycles are to be judged, where that does not depend on the server.
pub fn planned(choices: &Choices) -> Option<usize> {
    let wanted = |known: &Knowledge| {
        battery::stdio(known).iter().filter(|lifecycle| choices.wants(&lifecycle.id)).count()
    };
    let least = wanted(&Knowledge { cycles: CYCLES, ..Knowledge::default() });
    (least == wanted(&Knowledge::of_any(CYCLES))).then_some(least)
}

fn server_case(lifecycle: Lifecycle, command: &[String], choices: &Choices, era: Era) -> Case {
    let words = shell_words(command);
    let repeat = server_command(Some(&lifecycle.id), command, choices);
    let subject = SubjectOrder::Server { command: command.to_vec() };
    let mut case = case(lifecycle, subject, words, choices, era, repeat);
    case.order.for_any_server = true;
    case
}

/// The command that judges a server the same way again, of one lifecycle or all that were chosen.
pub fn server_command(only: Option<&str>, command: &[String], choices: &Choices) -> String {
    let mut words: Vec<String> = vec!["scupper".into(), "server".into()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    match only {
        Some(id) => option("--only", id.to_owned()),
        None => {
            choices.only.iter().for_each(|id| option("--only", id.clone()));
            choices.skip.iter().for_each(|id| option("--skip", id.clone()));
        }
    }
    if choices.kinds.len() < Kind::ALL.len() {
        let kinds: Vec<&str> = choices.kinds.iter().map(|kind| kind.as_str()).collect();
        option("--probe", kinds.join(","));
    }
    if choices.cycles != CYCLES {
        option("--cycles", choices.cycles.to_string());
    }
    if choices.era != EraChoice::Auto {
        option("--era", choices.era.as_str().to_owned());
    }
    if let Some(bound) = choices.leak_timeout_ms {
        option("--leak-timeout", format!("{bound}ms"));
    }
    if choices.start_timeout_ms != START_TIMEOUT_MS {
        option("--start-timeout", format!("{}ms", choices.start_timeout_ms));
    }
    for Call { tool, arguments } in &choices.calls {
        let plain = arguments.as_object().is_some_and(serde_json::Map::is_empty);
        option("--call", if plain { tool.clone() } else { format!("{tool}={arguments}") });
    }
    words.push("--".into());
    words.extend(command.iter().cloned());
    shell_words(&words)
}

/// A scenario from a file as a case.
pub fn scenario(scenario: &Scenario, path: &str, choices: &Choices) -> Case {
    let (subject, words) = match &scenario.subject {
        Subject::Command(command) => {
            (SubjectOrder::Server { command: command.clone() }, shell_words(command))
        }
        Subject::Fake(fake) => {
            let command = fake_command(&choices.program, fake);
            (SubjectOrder::Server { command }, fake_words(fake))
        }
        Subject::Core(peer) => {
            let command = fake_command(&choices.program, peer);
            let plain = FakeSpec { name: "plain".into(), ..FakeSpec::default() };
            let warm_up = fake_command(&choices.program, &plain);
            (SubjectOrder::Core { command, warm_up }, format!("core, facing {}", fake_words(peer)))
        }
    };
    let era = match (choices.era, scenario.lifecycle.era) {
        (EraChoice::Auto, EraChoice::Modern) | (EraChoice::Modern, EraChoice::Auto) => Era::Modern,
        (_, EraChoice::Modern) => Era::Modern,
        _ => Era::Legacy,
    };
    let repeat = format!("scupper run {path}");
    let mut case = case(scenario.lifecycle.clone(), subject, words, choices, era, repeat);
    case.expect = Some(scenario.expect.clone());
    case
}

/// The canary and its clean twin.
pub fn canary(choices: &Choices) -> [Case; 2] {
    [false, true].map(|fixed| {
        let fake = FakeSpec { name: "canary".into(), fixed, ..FakeSpec::default() };
        let command = fake_command(&choices.program, &fake);
        let words = fake_words(&fake);
        let subject = SubjectOrder::Server { command };
        let mut case = case(battery::canary(), subject, words, choices, Era::Legacy, String::new());
        if !fixed {
            // What leaks on purpose is not waited for; only the twin needs patience.
            case.order.patience = Patience::fixed(CANARY_PATIENCE_MS);
        }
        case
    })
}

/// How long the canary's leaks are waited for.
const CANARY_PATIENCE_MS: u64 = 1_000;

fn case(
    lifecycle: Lifecycle,
    subject: SubjectOrder,
    subject_words: String,
    choices: &Choices,
    era: Era,
    repeat: String,
) -> Case {
    let patience = match choices.leak_timeout_ms {
        Some(bound) => Patience::fixed(bound),
        None => Patience::calibrated(0),
    };
    let order = CaseOrder {
        id: lifecycle.id.clone(),
        lifecycle,
        subject,
        subject_words,
        era,
        first_look: false,
        launchers: None,
        kinds: choices.kinds.clone(),
        patience,
        start_timeout_ms: choices.start_timeout_ms,
        for_any_server: false,
        repeat,
    };
    Case { order, expect: None }
}

/// Command line of a fake.
pub fn fake_command(program: &str, fake: &FakeSpec) -> Vec<String> {
    let mut command = vec![program.to_owned()];
    command.extend(fake_arguments(fake));
    command
}

fn fake_words(fake: &FakeSpec) -> String {
    format!("scupper {}", shell_words(&fake_arguments(fake)))
}

fn fake_arguments(fake: &FakeSpec) -> Vec<String> {
    let mut arguments = vec!["fake".to_owned(), fake.name.clone()];
    if fake.fixed {
        arguments.push("--fixed".to_owned());
    }
    arguments.extend(fake.options.iter().map(|(key, value)| format!("{key}={value}")));
    arguments
}

/// Words as a shell would take them back.
pub fn shell_words(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%{}".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_named_whole_by_folder_or_by_last_part() {
        assert!(names_id("stdio/churn", "stdio/churn"));
        assert!(names_id("churn", "stdio/churn"));
        assert!(names_id("stdio/", "stdio/churn"));
        assert!(names_id("stdio", "stdio/churn"));
        assert!(!names_id("chur", "stdio/churn"));
        assert!(!names_id("std", "stdio/churn"));
    }

    #[test]
    fn the_command_that_repeats_a_case_names_all_that_shapes_it() {
        let call = |arguments| Call { tool: "t".into(), arguments };
        let mut choices = Choices {
            only: vec!["stdio".into()],
            skip: Vec::new(),
            kinds: Kind::ALL.iter().copied().collect(),
            cycles: CYCLES,
            era: EraChoice::Auto,
            leak_timeout_ms: None,
            start_timeout_ms: START_TIMEOUT_MS,
            calls: Vec::new(),
            program: String::new(),
        };
        let command = ["server".to_owned()];
        let said = server_command(None, &command, &choices);
        assert_eq!(said, "scupper server --only stdio -- server");
        choices.cycles = 6;
        choices.kinds = [Kind::Process, Kind::Fd].into();
        choices.era = EraChoice::Modern;
        choices.leak_timeout_ms = Some(500);
        choices.calls = vec![call(serde_json::json!({})), call(serde_json::json!({ "ms": 3 }))];
        let said = server_command(Some("stdio/churn"), &command, &choices);
        assert_eq!(
            said,
            "scupper server --only stdio/churn --probe process,fd --cycles 6 --era 2026-07-28 \
             --leak-timeout 500ms --call t --call 't={\"ms\":3}' -- server"
        );
    }

    #[test]
    fn words_survive_the_way_through_a_shell() {
        let words = ["sh", "-c", "exec 'my server'; true"].map(str::to_owned);
        assert_eq!(shell_words(&words), r"sh -c 'exec '\''my server'\''; true'");
    }
}
