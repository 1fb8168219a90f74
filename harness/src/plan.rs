//! Lifecycle × subject × seed -> cases. Pure.
//!
//! - [`campaign`]: generated lifecycles as cases.
//! - [`client`]: the cases of `scupper client`; here are those of servers and scenarios.
//! - [`http`]: those of `scupper server --http`.
//! - [`sweep`]: those of the byte sweep.
//! - [`order`]: which of them begins first.

pub mod campaign;
pub mod client;
pub mod http;
pub mod order;
pub mod sweep;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cell::protocol::{CaseOrder, Launch, Learned, Patience, Role, SubjectOrder, SweepOrder};
use crate::ledger::rise;
use crate::ledger::snapshot::Kind;
use crate::lifecycle::battery::{self, Call, Discover, Knowledge};
use crate::lifecycle::scenario::{
    Embedded, Expectation, FakeSpec, Scenario, Subject, duration_word,
};
use crate::lifecycle::step::{Action, Era, EraChoice, Lifecycle, Step};
pub use crate::spelled::shell_words;
use sweep::Extent;

/// Cycles of reconnecting and of calling where the user names none.
pub const CYCLES: u32 = 20;
/// How long a server may take to answer the handshake where the user says nothing.
pub const START_TIMEOUT_MS: u64 = 30_000;

/// The mode of `scupper replay`.
pub const REPLAY: &str = "replay";

/// The unit that is judged and repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What the cell is told.
    pub order: CaseOrder,
    /// What should come of it, where somebody said.
    pub expect: Option<Expectation>,
}

impl Case {
    /// How many lives its cell looks at one after the other; none where it judges one.
    pub fn lives(&self) -> usize {
        match &self.order.sweep {
            Some(SweepOrder::Screen(lives)) => lives.len(),
            _ => 0,
        }
    }
}

/// A server to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How it is started.
    pub launch: Launch,
    /// The same for people: as it was written, before any variable was put in.
    pub words: String,
    /// Where it is described, if it was not given as a command line.
    pub entry: Option<Entry>,
}

/// A server's place in a file of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file, as the user named it.
    pub file: String,
    /// The server's name there.
    pub name: String,
}

impl Server {
    /// A server given as a command line.
    pub fn plain(command: &[String]) -> Self {
        Self { launch: Launch::plain(command), words: shell_words(command), entry: None }
    }

    /// The id of a case: among several servers, each has its own.
    pub fn case_id(&self, lifecycle: &str) -> String {
        match &self.entry {
            Some(entry) => format!("{}/{lifecycle}", entry.name),
            None => lifecycle.to_owned(),
        }
    }
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
    /// The byte sweep in place of the battery, and how much of it.
    pub sweep: Option<Extent>,
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
pub fn names_id(name: &str, id: &str) -> bool {
    let name = name.trim_end_matches('/');
    id == name
        || id.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
        || id.strip_suffix(name).is_some_and(|rest| rest.ends_with('/'))
}

/// The first look at a server, from which the rest of the battery is made.
pub fn first_look(server: &Server, choices: &Choices, era: Era) -> Case {
    let mut case = server_case(battery::first_look(), server, choices, era);
    case.order.first_look = true;
    case
}

/// The rest of the battery.
pub fn battery(server: &Server, choices: &Choices, learned: &Learned, era: Era) -> Vec<Case> {
    battery::stdio(&knowledge(choices, learned, era))
        .into_iter()
        .filter(|lifecycle| lifecycle.id != battery::FIRST_LOOK && choices.wants(&lifecycle.id))
        .map(|lifecycle| {
            let era = match lifecycle.era {
                EraChoice::Auto => era,
                EraChoice::Legacy => Era::Legacy,
                EraChoice::Modern => Era::Modern,
            };
            let mut case = server_case(lifecycle, server, choices, era);
            calibrate(&mut case, choices, learned);
            case
        })
        .collect()
}

/// What a server that was looked at is asked and told.
fn knowledge(choices: &Choices, learned: &Learned, era: Era) -> Knowledge {
    let calls = calls(choices, learned);
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
    Knowledge { calls, in_flight, cycles: choices.cycles, other_era, discover }
}

/// Calls that may be made: those that the user names, and those that are safe.
fn calls(choices: &Choices, learned: &Learned) -> Vec<Call> {
    let callable = learned.tools.iter().filter(|tool| tool.callable);
    let safe =
        callable.map(|tool| Call { tool: tool.name.clone(), arguments: tool.arguments.clone() });
    let mut calls: Vec<Call> = choices.calls.clone();
    for call in safe {
        if !calls.iter().any(|chosen| chosen.tool == call.tool) {
            calls.push(call);
        }
    }
    calls
}

/// Gives a case what the first look at its server has learned: how long an end takes there, and who
/// stands between client and server.
pub fn calibrate(case: &mut Case, choices: &Choices, learned: &Learned) {
    case.order.launchers = Some(learned.launchers.len());
    if choices.leak_timeout_ms.is_none() {
        case.order.patience = Patience::calibrated(learned.exit_ms.unwrap_or(0));
    }
    case.order.patience = case.order.patience.with_start(learned.start_ms);
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

fn server_case(lifecycle: Lifecycle, server: &Server, choices: &Choices, era: Era) -> Case {
    let repeat = server_command(Some(&lifecycle.id), server, choices);
    let subject = SubjectOrder::Server(server.launch.clone());
    let id = server.case_id(&lifecycle.id);
    let mut case = case(lifecycle, subject, server.words.clone(), choices, era, repeat);
    case.order.id = id;
    case.order.for_any_server = true;
    case
}

/// The command that judges a server the same way again, of one lifecycle or all that were chosen.
pub fn server_command(only: Option<&str>, server: &Server, choices: &Choices) -> String {
    let mut words: Vec<String> = vec!["scupper".into(), "server".into()];
    if let Some(entry) = &server.entry {
        words.extend(["--config".to_owned(), entry.file.clone(), entry.name.clone()]);
    }
    words.extend(chosen(only, choices));
    let mut said = shell_words(&words);
    if server.entry.is_none() {
        // The words of a server are quoted already.
        said.push_str(" -- ");
        said.push_str(&server.words);
    }
    said
}

/// The command that judges the servers of a file again, those named or all.
pub fn config_command(file: &str, names: &[String], choices: &Choices) -> String {
    let words = ["scupper", "server", "--config", file].map(str::to_owned);
    shell_words(&[words.to_vec(), names.to_vec(), chosen(None, choices)].concat())
}

/// The options that were chosen, all that shapes a case.
fn chosen(only: Option<&str>, choices: &Choices) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut option = |name: &str, value: String| {
        words.push(name.to_owned());
        words.extend((!value.is_empty()).then_some(value));
    };
    if let Some(extent) = &choices.sweep {
        option("--torture", String::new());
        if let (None, Some(bytes)) = (only, extent.shallow) {
            option("--shallow", bytes.to_string());
        }
        if let (None, Some((part, of))) = (only, extent.shard) {
            option("--shard", format!("{part}/{of}"));
        }
    }
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
        option("--leak-timeout", duration_word(Duration::from_millis(bound)));
    }
    if choices.start_timeout_ms != START_TIMEOUT_MS {
        let start = Duration::from_millis(choices.start_timeout_ms);
        option("--start-timeout", duration_word(start));
    }
    for Call { tool, arguments } in &choices.calls {
        let plain = arguments.as_object().is_some_and(serde_json::Map::is_empty);
        option("--call", if plain { tool.clone() } else { format!("{tool}={arguments}") });
    }
    words
}

/// A scenario from a file as a case.
pub fn scenario(scenario: &Scenario, mode: &str, path: &str, choices: &Choices) -> Case {
    let (subject, words) = match &scenario.subject {
        Subject::Command(command) => {
            (SubjectOrder::Server(Launch::plain(command)), shell_words(command))
        }
        Subject::Fake(fake) => {
            let launch = Launch::plain(&fake_command(&choices.program, fake));
            (SubjectOrder::Server(launch), fake_words(fake))
        }
        Subject::Client(spec) => client::of_scenario(spec, &choices.program),
        Subject::Http(server) => http::of_scenario(server, choices),
        Subject::Host(host) => embedded(Role::Host, host, &choices.program),
        Subject::Service(service) => embedded(Role::Service, service, &choices.program),
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
    // The file is the choice.
    let all = Choices { only: Vec::new(), skip: Vec::new(), ..choices.clone() };
    let repeat = scenarios_command(mode, &[path.to_owned()], &all);
    let mut case = case(scenario.lifecycle.clone(), subject, words, choices, era, repeat);
    case.expect = Some(scenario.expect.clone());
    if let (Subject::Core(_), Some(Extent { shallow, .. })) = (&scenario.subject, choices.sweep) {
        case.order.sweep = Some(SweepOrder::Polls { shallow });
    }
    // What is replayed was found by a lifecycle that was made for any server, and is judged as then.
    case.order.for_any_server =
        mode == REPLAY && matches!(scenario.subject, Subject::Command(_) | Subject::Http(_));
    case
}

fn embedded(role: Role, spec: &Embedded, program: &str) -> (SubjectOrder, String) {
    let sort = match role {
        Role::Host => "host",
        Role::Service => "service",
    };
    let Embedded { name, options } = spec;
    let mut words = vec![sort.to_owned(), name.clone()];
    words.extend(options.iter().map(|(key, value)| format!("{key}={value}")));
    let order = SubjectOrder::Embedded {
        role,
        name: name.clone(),
        options: options.clone(),
        program: program.to_owned(),
    };
    (order, shell_words(&words))
}

/// The command that plays scenario files the same way again; the lifecycles themselves are in them.
pub fn scenarios_command(mode: &str, paths: &[String], choices: &Choices) -> String {
    // A scenario states its own calls and cycles.
    let choices = Choices { calls: Vec::new(), cycles: CYCLES, ..choices.clone() };
    let start = ["scupper", mode].map(str::to_owned).to_vec();
    shell_words(&[start, chosen(None, &choices), paths.to_vec()].concat())
}

/// The canary and its clean twin.
pub fn canary(choices: &Choices) -> [Case; 2] {
    let fake = FakeSpec { name: "canary".into(), ..FakeSpec::default() };
    with_twin(battery::canary(), &fake, choices)
}

/// The canary of memory and its clean twin, which shows how much memory gains on this host by itself.
pub fn memory_canary(choices: &Choices) -> [Case; 2] {
    let options = [("kib".to_owned(), MEMORY_CANARY_KIB.to_string())].into();
    let fake = FakeSpec { name: "memory-per-call".into(), options, ..FakeSpec::default() };
    let mut cases = with_twin(battery::memory_canary(rise::LEAST_CYCLES), &fake, choices);
    for case in &mut cases {
        case.order.kinds = [Kind::Memory].into();
    }
    cases
}

/// Whether memory is weighed in a case again and again, in one life.
pub fn weighs_memory(case: &Case) -> bool {
    let again = |step: &Step| match &step.action {
        Action::Repeat { steps, .. } => !steps.iter().any(|step| step.action == Action::Open),
        _ => false,
    };
    // A server over HTTP lives on while its clients come and go.
    let over_http = matches!(case.order.subject, SubjectOrder::HttpServer(_));
    let repeats = |step: &Step| matches!(step.action, Action::Repeat { .. });
    let steps = &case.order.lifecycle.steps;
    case.order.kinds.contains(&Kind::Memory)
        && (steps.iter().any(again) || (over_http && steps.iter().any(repeats)))
}

fn with_twin(lifecycle: Lifecycle, fake: &FakeSpec, choices: &Choices) -> [Case; 2] {
    [false, true].map(|fixed| {
        let fake = FakeSpec { fixed, ..fake.clone() };
        let launch = Launch::plain(&fake_command(&choices.program, &fake));
        let words = fake_words(&fake);
        let subject = SubjectOrder::Server(launch);
        let lifecycle = lifecycle.clone();
        let mut case = case(lifecycle, subject, words, choices, Era::Legacy, String::new());
        if !fixed {
            // What leaks on purpose is not waited for; only the twin needs patience.
            case.order.patience = Patience::fixed(CANARY_PATIENCE_MS);
        }
        case
    })
}

/// What the canary of memory keeps of each call, in KiB: twenty times what is seen at least, so that it is
/// seen where memory comes in huge pages of 2 MiB, or only the resident set can be read.
const MEMORY_CANARY_KIB: u32 = 256;
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
        sweep: None,
    };
    Case { order, expect: None }
}

/// Command line of a fake.
pub fn fake_command(program: &str, fake: &FakeSpec) -> Vec<String> {
    let mut command = vec![program.to_owned()];
    command.extend(fake.arguments());
    command
}

fn fake_words(fake: &FakeSpec) -> String {
    format!("scupper {}", shell_words(&fake.arguments()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(super) fn choices() -> Choices {
        Choices {
            only: Vec::new(),
            skip: Vec::new(),
            kinds: Kind::ALL.iter().copied().collect(),
            cycles: CYCLES,
            era: EraChoice::Auto,
            leak_timeout_ms: None,
            start_timeout_ms: START_TIMEOUT_MS,
            calls: Vec::new(),
            program: String::new(),
            sweep: None,
        }
    }

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
        let mut choices = Choices { only: vec!["stdio".into()], ..choices() };
        let server = Server::plain(&["server".to_owned()]);
        let said = server_command(None, &server, &choices);
        assert_eq!(said, "scupper server --only stdio -- server");
        choices.cycles = 6;
        choices.kinds = [Kind::Process, Kind::Fd].into();
        choices.era = EraChoice::Modern;
        choices.leak_timeout_ms = Some(500);
        choices.calls = vec![call(serde_json::json!({})), call(serde_json::json!({ "ms": 3 }))];
        let said = server_command(Some("stdio/churn"), &server, &choices);
        assert_eq!(
            said,
            "scupper server --only stdio/churn --probe process,fd --cycles 6 --era 2026-07-28 \
             --leak-timeout 500ms --call t --call 't={\"ms\":3}' -- server"
        );
    }

    #[test]
    fn a_case_is_given_the_time_that_its_server_takes_unless_the_user_says_how_much() {
        let learned = Learned {
            exit_ms: Some(1_500),
            start_ms: 800,
            launchers: vec!["npx".into()],
            ..Learned::default()
        };
        for (given, bound_ms) in [(None, 15_000), (Some(500), 500)] {
            let choices = Choices { leak_timeout_ms: given, ..choices() };
            let server = Server::plain(&["server".to_owned()]);
            let mut case = first_look(&server, &choices, Era::Legacy);
            calibrate(&mut case, &choices, &learned);
            let Patience { bound_ms: bound, fixed, start_ms } = case.order.patience;
            assert_eq!((bound, fixed, start_ms), (bound_ms, given.is_some(), 2_400));
            assert_eq!(case.order.launchers, Some(1));
        }
    }

    #[test]
    fn cases_of_several_servers_have_ids_and_commands_of_their_own() {
        let entry = Entry { file: "my servers.json".into(), name: "a b".into() };
        let server = Server { entry: Some(entry), ..Server::plain(&["server".to_owned()]) };
        let case = first_look(&server, &choices(), Era::Legacy);
        assert_eq!(case.order.id, "a b/stdio/clean-close");
        let repeat = "scupper server --config 'my servers.json' 'a b' --only stdio/clean-close";
        assert_eq!(case.order.repeat, repeat);
        let names = ["a b".to_owned()];
        let all = config_command("my servers.json", &names, &choices());
        assert_eq!(all, "scupper server --config 'my servers.json' 'a b'");
    }

    #[test]
    fn the_command_that_repeats_a_scenario_is_quoted_and_names_what_shapes_it() {
        let choices = Choices {
            skip: vec!["stdio".into()],
            leak_timeout_ms: Some(500),
            cycles: 7,
            ..choices()
        };
        let said = scenarios_command(REPLAY, &["my case.toml".to_owned()], &choices);
        assert_eq!(said, "scupper replay --skip stdio --leak-timeout 500ms 'my case.toml'");
    }

    #[test]
    fn words_survive_the_way_through_a_shell() {
        let words = ["sh", "-c", "exec 'my server'; true"].map(str::to_owned);
        assert_eq!(shell_words(&words), r"sh -c 'exec '\''my server'\''; true'");
    }
}
