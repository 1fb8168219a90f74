//! What was seen, in the words of a finding or a failure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use signal_hook::low_level::signal_name;

use super::connection::NoAnswer;
use crate::ledger::blame::Roles;
use crate::ledger::diff::Ledger;
use crate::ledger::snapshot::{Facts, FdKind, Identity, Kind, ProcessId};
use crate::ledger::trend::{Growth, Pattern, Rounds};
use crate::ledger::verdict::{Class, Culprit, Finding, StepRef};
use crate::lifecycle::step::{Action, Era, Step};
use crate::peer::client::LINE_LIMIT;
use crate::peer::link::Heard;
use crate::probe::holder;
use crate::probe::socket;

/// Longest command line in a sentence, in characters.
const COMMAND: usize = 80;
/// Lines of evidence for one kind of thing.
const LINES: usize = 3;

/// Things that grew with the cycles of a repeat.
pub fn of_growth(
    growth: &Growth,
    repeat: &StepRef,
    rounds: Rounds,
    patience: Duration,
    ledger: &Ledger,
    roles: &Roles,
) -> Finding {
    let count = growth.identities.len();
    let owner = growth.identities.first().and_then(Identity::owner);
    // Who made it: a process its parent, everything else the process that has it.
    let maker = owner.and_then(|owner| match growth.kind {
        Kind::Process | Kind::Zombie => ledger.parent(owner),
        _ => Some(owner),
    });
    let by_launcher = maker.is_some_and(|maker| roles.launchers.contains(&maker));
    let culprit = if by_launcher { Culprit::Launcher } else { Culprit::Server };
    let mut evidence = vec![format!(
        "{count} born in {} and alive {:.1} s later: what a cache or a pool holds stops growing",
        cycles_of(&growth.pattern, rounds),
        patience.as_secs_f64()
    )];
    if growth.late > 0 {
        evidence.push(format!(
            "{} of them came after the last answer of a round: something goes on after a call",
            growth.late
        ));
    }
    for identity in growth.identities.iter().take(LINES) {
        let step = ledger.birth(identity).map(|step| format!("  since {step}"));
        evidence.push(format!("{}{}", thing(identity, ledger), step.unwrap_or_default()));
    }
    if count > LINES {
        evidence.push(format!("and {} more like it", count - LINES));
    }
    let held = growth.identities.first().filter(|identity| {
        matches!(identity, Identity::Fd { kind: FdKind::Pipe | FdKind::Socket, .. })
    });
    let held = held.map(|identity| holder::holders(identity, Duration::from_secs(1)));
    let (hurts, remedy) = words_of(growth.kind);
    let blame = match (owner, maker) {
        (Some(owner), Some(maker)) => {
            let keeps = if maker == owner { " and keeps them" } else { "" };
            let words = command(ledger, maker);
            format!("pid {} ({words}) made each of them{keeps}", maker.pid)
        }
        (Some(_), None) => "they came to be below the server".to_owned(),
        (None, _) => "nothing but the server worked in this directory".to_owned(),
    };
    Finding {
        class: Class::Leak,
        kind: growth.kind,
        what: format!("{count} {}, {}", plural(growth), pace(&growth.pattern, rounds)),
        identities: growth.identities.iter().take(Finding::IDENTITIES).cloned().collect(),
        count,
        birth_step: growth.step.clone(),
        due_step: StepRef { cycle: None, ..repeat.clone() },
        culprit,
        blame,
        rule: None,
        hurts: hurts.to_owned(),
        site: None,
        holders_unread: held.as_ref().map_or(0, |held| held.unread),
        holders: held.map(|held| held.holders).unwrap_or_default(),
        evidence,
        remedy: remedy.to_owned(),
    }
}

/// The first request of a cycle that nobody waits for: while later steps are played it is being worked
/// on.
pub fn unawaited(repeat: &StepRef, steps: &[Step]) -> Option<StepRef> {
    let index = steps.iter().position(|step| {
        matches!(
            step.action,
            Action::Call { wait: false, .. } | Action::Request { wait: false, .. }
        )
    })?;
    let place = format!("{}.{}", repeat.place, index + 1);
    Some(StepRef { place, name: steps[index].action.name(), cycle: None })
}

/// What came at a later step than a request that nobody waited for may be that request's doing: the
/// birth step alone would point at an innocent one.
pub fn beside(request: &StepRef, found: &Finding) -> Option<String> {
    let birth = &found.birth_step;
    (birth.cycle.is_some() && birth.place != request.place).then(|| {
        format!(
            "{request} was not waited for: what was first seen at {birth} may have come of its work"
        )
    })
}

/// How fast it grows.
fn pace(pattern: &Pattern, rounds: Rounds) -> String {
    match pattern {
        Pattern::EveryCycle => "one more with every cycle".to_owned(),
        Pattern::EveryRound(_) => format!("some more with every {} cycles", rounds.length),
    }
}

/// The cycles in which it grew.
fn cycles_of(pattern: &Pattern, rounds: Rounds) -> String {
    let judged = rounds.cycles;
    match pattern {
        Pattern::EveryCycle => format!("{judged} of {judged} cycles after a warm-up"),
        Pattern::EveryRound(born) => {
            let born: Vec<String> = born.iter().map(usize::to_string).collect();
            let (number, length) = (born.len(), rounds.length);
            format!("{number} rounds of {length} cycles after a warm-up ({})", born.join(", "))
        }
    }
}

fn plural(growth: &Growth) -> String {
    let kinds: BTreeSet<FdKind> = growth
        .identities
        .iter()
        .filter_map(|identity| match identity {
            Identity::Fd { kind, .. } => Some(*kind),
            _ => None,
        })
        .collect();
    let of = match kinds.iter().collect::<Vec<_>>().as_slice() {
        [FdKind::File] => " on files",
        [FdKind::Pipe] => " on pipes",
        [FdKind::Socket] => " on sockets",
        [FdKind::Eventfd] => " on eventfds",
        [FdKind::Epoll] => " on epoll instances",
        [FdKind::Timerfd] => " on timers",
        [FdKind::Inotify] => " on inotify instances",
        [FdKind::Pidfd] => " on processes",
        [FdKind::Memfd] => " on memory files",
        _ => "",
    };
    match growth.kind {
        Kind::Process => "processes".into(),
        Kind::Zombie => "zombies".into(),
        Kind::Fd => format!("descriptors{of}"),
        Kind::Thread => "threads".into(),
        Kind::Task => "tasks".into(),
        Kind::Session => "sessions".into(),
        Kind::Cursor => "cursors".into(),
        Kind::Entry => "entries".into(),
        Kind::File => "temporary files".into(),
        Kind::Memory => "KiB of memory".into(),
    }
}

/// Why a thing of this kind hurts that is left, and what to change.
pub fn words_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Process => (
            "a server that lives for days collects processes until the host has no room for more",
            "end and wait for each child process when the call that needed it is done",
        ),
        Kind::Zombie => (
            "each dead child keeps its entry in the process table until the server ends",
            "wait for each child process (waitpid, Child::wait, an exit listener)",
        ),
        Kind::Fd => (
            "a server that lives on ends with \"too many open files\"",
            "close what a call opens when the call is done, on its error paths too",
        ),
        Kind::Thread => (
            "each thread keeps its stack, and the host's limit on threads comes nearer",
            "let threads end with the call that started them, or use a pool with a bound",
        ),
        Kind::Task => {
            ("a task that nobody joins keeps what it holds", "join or abort tasks where they end")
        }
        Kind::Session => (
            "whoever keeps a session keeps what it holds, for each client that has gone",
            "end each session on one path, whoever ends it: DELETE, idle limit, shutdown",
        ),
        Kind::Cursor => (
            "a page that nobody will ask for takes memory or disk until somebody deletes it",
            "invalidate a session's cursors when the session goes, whatever else fails",
        ),
        Kind::Entry => (
            "what stays in the books of a host keeps tools, tokens and messages alive",
            "take the entry out on the one path that ends its connection",
        ),
        Kind::File => (
            "the temporary directory fills up over many calls or lives",
            "remove temporary files when the call that made them is done, or when the server ends",
        ),
        Kind::Memory => ("the server grows without bound", "look for what each call keeps"),
    }
}

/// A thing in words.
pub fn thing(identity: &Identity, ledger: &Ledger) -> String {
    match identity {
        Identity::Process(id) => format!("pid {} ({})", id.pid, command(ledger, *id)),
        Identity::Fd { owner, number, kind, target, extra, .. } => {
            let extra = if extra.is_empty() { String::new() } else { format!(" ({extra})") };
            let target = match kind {
                FdKind::Socket => socket::describe(identity),
                _ => target.clone(),
            };
            format!("fd {number} of pid {}: {target}{extra}", owner.pid)
        }
        Identity::Thread { owner, tid, .. } => format!("thread {tid} of pid {}", owner.pid),
        Identity::Task { id } => format!("task {id}"),
        Identity::Session { keeper, id } => format!("session {id} of {keeper}"),
        Identity::Cursor { store, id } => format!("cursor {id} in {store}"),
        Identity::Entry { registry, key } => format!("{key} in {registry}"),
        Identity::File { path, .. } => path.clone(),
    }
}

pub(super) fn command(ledger: &Ledger, id: ProcessId) -> String {
    let words = ledger.command(id).unwrap_or_default().join(" ");
    if !words.is_empty() {
        let end = if words.chars().nth(COMMAND).is_some() { "…" } else { "" };
        return words.chars().take(COMMAND).collect::<String>() + end;
    }
    // A zombie has no command line any more, only its name.
    match ledger.last().things.get(&Identity::Process(id)) {
        Some(Facts::Process(facts)) => facts.name.clone(),
        _ => "command unknown".into(),
    }
}

/// Why a command could not be started.
pub fn not_started(words: &str, cause: &str) -> String {
    let guess = if cause.contains("os error 2") || cause.contains("No such file") {
        "; is it installed, spelled right and on PATH?"
    } else if cause.contains("os error 13") || cause.contains("ermission denied") {
        "; is it executable?"
    } else {
        ""
    };
    format!("could not start {words}: {cause}{guess}")
}

/// A value of the server's in a sentence: its beginning.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut cut: String = text.chars().take(500).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// Why a handshake did not come about.
pub fn no_handshake(
    era: Era,
    answer: &Result<Result<Value, Value>, NoAnswer>,
    heard: &Heard,
) -> String {
    let request = match era {
        Era::Legacy => "initialize",
        Era::Modern => "server/discover",
    };
    let noise = heard.noise_lines;
    match answer {
        Ok(Ok(_)) => format!(
            "stdout carried {} before the answer to {request}: a banner or a log line belongs on \
             stderr, for stdout holds MCP messages and nothing else",
            counted(noise, "line that is no message", "lines that are no messages")
        ),
        Ok(Err(error)) => format!(
            "{request} was answered with an error: {}; if the server speaks another era, say \
             so with --era",
            short(error)
        ),
        Err(NoAnswer::Exited(_, Some(signal))) if crash(*signal).is_some() => format!(
            "the server {} before it answered {request}: it crashed; start it by hand, or in a \
             debugger",
            exit_words(None, Some(*signal))
        ),
        Err(NoAnswer::Exited(code, signal)) => format!(
            "the server {} before it answered {request}; is something missing that it needs, such \
             as an argument, a file or a variable?",
            exit_words(*code, *signal)
        ),
        Err(NoAnswer::StdoutEnded) => {
            format!("the server closed its stdout before it answered {request}, and stays")
        }
        Err(NoAnswer::TooLong(bytes)) => format!(
            "no answer to {request} came, but a line of {} MiB or more did, and scupper reads no \
             message longer than {} MiB; does the server end each message with a newline?",
            bytes >> 20,
            LINE_LIMIT >> 20
        ),
        Err(NoAnswer::Late) => match crooked_line(heard) {
            Some(crooked) => format!("no answer to {request} came in time: {crooked}"),
            None if noise > 0 => format!(
                "no answer to {request} came, but {} of other text did: is this an MCP server \
                 that speaks over stdio?",
                counted(noise, "line", "lines")
            ),
            None => format!(
                "no answer to {request} in time and nothing else on stdout: is this an MCP server \
                 that speaks over stdio, and does it need an argument for that?"
            ),
        },
        Err(NoAnswer::ClientGone) => "the client process is gone".to_owned(),
        Err(NoAnswer::Cut) => "the life was cut before its answer".to_owned(),
    }
}

/// Why an answer to the first request of a handshake is none.
pub fn no_introduction(era: Era, result: &Value) -> String {
    let (request, missing) = match era {
        Era::Legacy => ("initialize", "no protocolVersion"),
        Era::Modern => ("server/discover", "not 2026-07-28 among its supportedVersions"),
    };
    format!(
        "the answer to {request} names {missing}: {}; is this an MCP server, and does it speak \
         another era (--era)?",
        short(result)
    )
}

/// Why a request stayed without an answer.
pub fn no_answer(what: &str, cause: &NoAnswer, heard: &Heard) -> String {
    match cause {
        NoAnswer::TooLong(_) => format!("{what} was not answered in time"),
        NoAnswer::Late => match crooked_line(heard) {
            Some(crooked) => format!("{what} was not answered in time: {crooked}"),
            None => format!("{what} was not answered in time"),
        },
        NoAnswer::Exited(code, signal) => {
            format!("the server {} while {what} was to be answered", exit_words(*code, *signal))
        }
        NoAnswer::StdoutEnded => {
            format!("the server closed its stdout instead of answering {what}")
        }
        NoAnswer::Cut => format!("the life was cut before {what} was answered"),
        NoAnswer::ClientGone => match &heard.write_failed {
            Some(cause) => format!("{what} could not be sent: {cause}"),
            None => format!("the client process is gone, so {what} has no answer"),
        },
    }
}

/// What is wrong with a line of stdout that is no message, where its bytes show it.
fn crooked_line(heard: &Heard) -> Option<String> {
    if heard.not_utf8 > 0 {
        return Some(format!(
            "stdout carried {} not UTF-8, as messages have to be; does the server write in the \
             encoding of its locale?",
            counted(heard.not_utf8, "line that is", "lines that are")
        ));
    }
    heard.begun.as_ref().map(|_| {
        "stdout carried the beginning of a line and not its end; does the server write a newline \
         after each message, and flush its stdout?"
            .to_owned()
    })
}

/// A line that may have been an answer and could not be read as one.
pub fn too_long(bytes: u64) -> String {
    format!(
        "a line of {} MiB came, and scupper reads no message longer than {} MiB; ask for less at \
         once, or page the result",
        bytes >> 20,
        LINE_LIMIT >> 20
    )
}

/// A number with the fitting one of two nouns.
pub fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// How a process ended, in words.
pub fn exit_words(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("was ended by {name}"),
            None => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The name of a signal that nobody sends to end a process: it tells of a crash.
pub fn crash(signal: i32) -> Option<&'static str> {
    const CRASHES: [&str; 8] =
        ["SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGXCPU"];
    signal_name(signal).filter(|name| CRASHES.contains(name))
}

/// The last lines of what a server wrote that is no message.
pub fn last_output(heard: &Heard) -> Vec<String> {
    let stderr = heard.stderr.iter().map(|line| format!("stderr: {line}"));
    let noise = heard.noise.iter().map(|line| format!("stdout: {line}"));
    let begun = heard.begun.iter().map(|text| format!("stdout, no newline yet: {text}"));
    let mut lines: Vec<String> = noise.chain(begun).chain(stderr).collect();
    let surplus = lines.len().saturating_sub(12);
    lines.drain(..surplus);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::diff::tests::{process, snapshot, step};

    fn id(pid: i32) -> ProcessId {
        ProcessId { pid, start_time: u64::from(pid.cast_unsigned()) }
    }

    #[test]
    fn a_crash_is_told_from_an_end_that_somebody_made() {
        assert_eq!(crash(6), Some("SIGABRT"));
        assert_eq!(crash(11), Some("SIGSEGV"));
        assert_eq!((crash(15), crash(9), crash(64)), (None, None, None));
        assert_eq!(exit_words(None, Some(9)), "was ended by SIGKILL");
        assert_eq!(exit_words(None, Some(64)), "was ended by signal 64");
    }

    #[test]
    fn what_came_beside_a_request_is_told_with_it() {
        let call =
            |wait| Step::new(Action::Call { tool: "sleep".into(), arguments: Value::Null, wait });
        let repeat = step("3", None);
        assert_eq!(unawaited(&repeat, &[call(true), call(true)]), None);
        let request =
            unawaited(&repeat, &[call(true), call(false)]).expect("one is not waited for");
        assert_eq!(request.to_string(), "step 3.2, call sleep");
        let born = |place| {
            let growth = Growth {
                kind: Kind::Process,
                step: step(place, Some(2)),
                identities: vec![Identity::Process(id(9))],
                pattern: Pattern::EveryCycle,
                late: 0,
            };
            let rounds = Rounds { length: 20, cycles: 20 };
            let ledger = Ledger::default();
            of_growth(&growth, &repeat, rounds, Duration::ZERO, &ledger, &Roles::default())
        };
        assert_eq!(beside(&request, &born("3.2")), None, "it is named already");
        let told = beside(&request, &born("3.4")).expect("it came later");
        assert!(told.starts_with("step 3.2, call sleep was not waited for"), "{told}");
    }

    #[test]
    fn children_that_pile_up_are_their_parents() {
        let mut ledger = Ledger::default();
        let all = [process(1, 0), process(2, 1), process(3, 2), process(4, 1)];
        ledger.record(&step("1", None), snapshot(all));
        let roles = Roles { launchers: vec![id(1)], ..Roles::default() };
        let culprit = |pid| {
            let growth = Growth {
                kind: Kind::Process,
                step: step("1.1", Some(2)),
                identities: vec![Identity::Process(id(pid))],
                pattern: Pattern::EveryCycle,
                late: 0,
            };
            let rounds = Rounds { length: 20, cycles: 5 };
            of_growth(&growth, &step("1", None), rounds, Duration::ZERO, &ledger, &roles).culprit
        };
        assert_eq!(culprit(3), Culprit::Server);
        assert_eq!(culprit(4), Culprit::Launcher);
    }
}
