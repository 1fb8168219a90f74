//! `scupper server`: the first look, then the battery made from what it learned.

use super::Ended;
use super::Refusal;
use super::arguments::ServerArguments;
use super::session::Session;
use crate::cell::protocol::Learned;
use crate::gate::exit::Mode;
use crate::lifecycle::battery::FIRST_LOOK;
use crate::lifecycle::step::{Era, EraChoice, Lifecycle};
use crate::plan::{self, Case, Choices};
use crate::report::event::{Event, RunInfo, SubjectInfo};

/// Judges a stdio server.
pub fn run(arguments: &ServerArguments) -> Ended {
    let choices = arguments.common.choices(&arguments.calls)?;
    let lifecycles = plan::whole_battery();
    let ids: Vec<&str> = lifecycles.iter().map(|lifecycle| lifecycle.id.as_str()).collect();
    let unmatched = choices.unmatched(&ids);
    if !unmatched.is_empty() {
        return Err(Refusal::usage(format!(
            "no lifecycle is called {}; see `scupper list lifecycles`",
            unmatched.join(" or ")
        )));
    }
    let words = plan::shell_words(&arguments.command);
    let info = RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: "server".to_owned(),
        subject: words.clone(),
        cases: plan::planned(&choices).unwrap_or(0),
        seed: arguments.common.seed,
        repeat: plan::server_command(None, &arguments.command, &choices),
    };
    let mut session = Session::begin(&arguments.common, Mode::Verdicts, info)?;
    let era = match arguments.common.era {
        EraChoice::Modern => Era::Modern,
        EraChoice::Auto | EraChoice::Legacy => Era::Legacy,
    };
    let mut first = plan::first_look(&arguments.command, &choices, era);
    let mut learned = session.judge_first(&first);
    if learned.is_none() && choices.era == EraChoice::Auto && session.speaks_other_era() {
        first = plan::first_look(&arguments.command, &choices, Era::Modern);
        session.forget_first();
        learned = session.judge_first(&first);
    }
    let Some(learned) = learned else {
        // Without a first answer there is nothing to judge; the report says why.
        return session.end();
    };
    let era = first.order.era;
    session.on(Event::SubjectSeen(introduce(&learned)));
    let has_safe_call = learned.tools.iter().any(|tool| tool.callable);
    if !has_safe_call && choices.calls.is_empty() && choices.wants("stdio/churn") {
        session.on(Event::Note(
            "no tool is marked read-only and closed-world, so only lists were asked for; name tools \
             that may be called with --call TOOL=JSON"
                .to_owned(),
        ));
    }
    if !choices.wants(FIRST_LOOK) {
        session.forget_first();
    }
    let cases = plan::battery(&arguments.command, &choices, &learned, era);
    for note in left_out(&lifecycles, &cases, &choices, &learned) {
        session.on(Event::Note(note));
    }
    session.on(Event::Planned(cases.len() + usize::from(choices.wants(FIRST_LOOK))));
    session.judge(1, cases, &choices);
    session.end()
}

/// What was wanted and cannot be played on this server, and why.
fn left_out(
    whole: &[Lifecycle],
    cases: &[Case],
    choices: &Choices,
    learned: &Learned,
) -> Vec<String> {
    let played = |id: &str| id == FIRST_LOOK || cases.iter().any(|case| case.order.id == id);
    let missing = whole.iter().map(|lifecycle| lifecycle.id.as_str());
    let missing = missing.filter(|id| choices.wants(id) && !played(id));
    // What a server need not do is worth a word only to those who asked for it.
    let asked_for = !choices.only.is_empty();
    let legacy_alone = learned.eras == [Era::Legacy];
    let silent =
        "the server does not answer initialize after server/discover on the same connection";
    missing
        .filter_map(|id| match id {
            "stdio/discover-first" if legacy_alone => {
                Some(format!("{id} left out: {silent}; a client of both eras has to start it anew"))
            }
            "stdio/discover-first" if asked_for => Some(format!("{id} left out: {silent}")),
            "stdio/both-eras" if asked_for => {
                Some(format!("{id} left out: one era was chosen, or the server speaks one alone"))
            }
            _ => None,
        })
        .collect()
}

fn introduce(learned: &Learned) -> SubjectInfo {
    let callable = learned.tools.iter().filter(|tool| tool.callable);
    SubjectInfo {
        name: learned.name.clone(),
        version: learned.version.clone(),
        eras: learned.eras.iter().map(|era| era.revision().to_owned()).collect(),
        tools: learned.tools.iter().map(|tool| tool.name.clone()).collect(),
        callable: callable.map(|tool| tool.name.clone()).collect(),
        launchers: learned.launchers.clone(),
        start_ms: learned.start_ms,
        exit_ms: learned.exit_ms,
    }
}
