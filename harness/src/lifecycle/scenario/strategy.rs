//! Any scenario that passes the check, for property tests.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value};

use super::{
    ClientSpec, Expectation, ExpectedFinding, FakeSpec, Part, Scenario, Subject, WhichClient,
    check, expected::names,
};
use crate::{
    ledger::{
        snapshot::Kind,
        verdict::{Class, Culprit, Verdict},
    },
    lifecycle::{
        client::{
            Attack, ConfigStyle, Deed, MOST_ROUNDS, Moment, RoundsBy, Script,
            http::{Fault, Service},
        },
        step::{
            Action, Condition, Era, EraChoice, HandshakePoint, Lifecycle, MAIN, Payload, Read,
            Signal, Step, Stream, Whom,
        },
    },
};

/// Any scenario that passes the check.
pub(crate) fn scenario() -> impl Strategy<Value = Scenario> {
    (lifecycle(), subject(), expectation()).prop_map(|(lifecycle, subject, expect)| {
        let wanted: Vec<ExpectedFinding> = expect.findings.clone();
        let mut scenario = Scenario { lifecycle, subject, expect };
        for finding in &mut scenario.expect.findings {
            (finding.birth_step, finding.due_step) = (None, None);
            let kept = matches!(finding.kind, Kind::Session | Kind::Cursor | Kind::Entry);
            let task = finding.kind == Kind::Task && !matches!(scenario.subject, Subject::Core(_));
            if kept || task {
                finding.kind = Kind::Thread;
            }
        }
        prune(&mut scenario);
        name_steps(&mut scenario, &wanted);
        scenario
    })
}

/// Any of a client over HTTP that passes the check.
pub(crate) fn client_over_http() -> impl Strategy<Value = Scenario> {
    let at =
        prop_oneof![select(vec!["tools/call", "DELETE", "GET"]).prop_map(str::to_owned), text()];
    let era = option::of(select(vec![Era::Legacy, Era::Modern]));
    let attack = (select(Moment::ALL), select(Deed::ALL));
    let attack = attack.prop_map(|(moment, deed)| Attack { moment, deed });
    let wanted = (select(Fault::ALL), option::of(at), era, option::of(attack));
    let rounds = option::of(5..=MOST_ROUNDS);
    let finding = option::of(select(vec![Kind::Session, Kind::Fd, Kind::Process, Kind::Zombie]));
    (lifecycle(), subject(), wanted, rounds, finding).prop_map(
        |(lifecycle, who, wanted, rounds, kind)| {
            let (fault, at, era, attack) = wanted;
            let (fault, at) = match attack.map(|attack| attack.moment) {
                // The request in whose midst it happens is held.
                Some(Moment::Starting | Moment::Busy | Moment::Closing) => {
                    let at = at.filter(|at| Fault::Holds.may_strike_at(at));
                    (Fault::Holds, at.or(Some("tools/call".to_owned())))
                }
                _ => (fault, at.filter(|at| fault.may_strike_at(at))),
            };
            let rounds = rounds.filter(|_| attack.is_none() && fault == Fault::None);
            let service = Some(Service { fault, at, era, wire: None });
            let client = match who {
                Subject::Command(mut words) => {
                    words.insert(0, "client".into());
                    words.push("{url}".into());
                    WhichClient::Command(words)
                }
                Subject::Fake(spec) | Subject::Core(spec) => WhichClient::Fake(spec),
                other => panic!("the strategy makes no {other:?}"),
            };
            let spec = ClientSpec {
                client,
                style: ConfigStyle::default(),
                rounds_by: rounds.map(|_| RoundsBy::Lines),
                script: Script { service, attack, rounds, servers: Vec::new() },
            };
            let findings = kind.map(|kind| ExpectedFinding {
                class: Class::Leak,
                kind,
                culprit: Some(Culprit::Client),
                birth_step: Some("client opens a stream".into()),
                due_step: spec.step_names().pop_last(),
            });
            let findings: Vec<ExpectedFinding> = findings.into_iter().collect();
            let verdict = if findings.is_empty() { Verdict::Clean } else { Verdict::Leak };
            Scenario {
                lifecycle: Lifecycle { era: EraChoice::Auto, steps: Vec::new(), ..lifecycle },
                subject: Subject::Client(Box::new(spec)),
                expect: Expectation { verdict, findings },
            }
        },
    )
}

/// Has findings name steps that are there, where they are wanted to name one.
fn name_steps(scenario: &mut Scenario, wanted: &[ExpectedFinding]) {
    let names: Vec<String> = names(&scenario.lifecycle.steps).into_iter().collect();
    let one = |text: &Option<String>| Some(names[text.as_ref()?.len() % names.len()].clone());
    for (index, wanted) in wanted.iter().enumerate() {
        scenario.expect.findings[index].birth_step = one(&wanted.birth_step);
        scenario.expect.findings[index].due_step = one(&wanted.due_step);
        if !check(scenario).is_empty() {
            // Due at a repeat that is too short to judge growth.
            scenario.expect.findings[index].due_step = None;
        }
    }
}

/// Takes out the steps that the check turns down: an arbitrary list rarely passes whole.
fn prune(scenario: &mut Scenario) {
    loop {
        let problems = check(scenario);
        let Some(problem) = problems.first() else { return };
        let steps = &mut scenario.lifecycle.steps;
        match &problem.place.0[..] {
            [Part::Key("step")] => steps.push(Step::new(Action::Open)),
            [Part::Key("step"), place @ ..] => remove(steps, place),
            _ => panic!("the strategy makes a bad scenario: {problem}"),
        }
    }
}

/// The step that a place below a list of steps is in, or its nearest.
fn remove(steps: &mut Vec<Step>, place: &[Part]) {
    let Some(Part::Index(index)) = place.first() else { panic!("no step at {place:?}") };
    match (&mut steps[*index].action, &place[1..]) {
        (Action::Repeat { steps, .. }, [Part::Key("step"), inner @ ..]) => remove(steps, inner),
        (
            Action::Concurrently { branches },
            [Part::Key("branch"), Part::Index(branch), rest @ ..],
        ) => match rest {
            [Part::Key("step"), inner @ ..] => remove(&mut branches[*branch], inner),
            _ => drop(branches.remove(*branch)),
        },
        _ => drop(steps.remove(*index)),
    }
}

fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    let id = "[a-z0-9][a-z0-9._-]{0,8}(/[a-z0-9][a-z0-9._-]{0,8}){0,2}";
    let why = text().prop_map(|text| format!("Why {text}"));
    let era = select(EraChoice::ALL);
    (id, why, option::of(text()), era, steps()).prop_map(|(id, why, rule, era, steps)| Lifecycle {
        id,
        why,
        rule,
        era,
        steps,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = leaf().prop_recursive(3, 24, 4, |inner| {
        let list = || vec(inner.clone(), 1..4);
        let repeat = (1..20u32, list()).prop_map(|(times, steps)| Action::Repeat { times, steps });
        let branches = vec(list(), 1..3).prop_map(|branches| Action::Concurrently { branches });
        (option::of(within()), prop_oneof![repeat, branches])
            .prop_map(|(within, action)| Step { within, ..Step::new(action) })
    });
    vec(step, 0..12).prop_map(|mut steps| {
        // Without an open at the start nearly every list would be pruned to nothing.
        steps.insert(0, Step::new(Action::Open));
        steps
    })
}

fn leaf() -> impl Strategy<Value = Step> {
    let connection = prop_oneof![4 => Just(MAIN), 1 => Just("b"), 1 => Just("c-2.x_")];
    (connection, option::of(within()), action()).prop_map(|(connection, within, action)| Step {
        within,
        ..Step::new(action).on(connection)
    })
}

fn within() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1..600_000u64,
        (1..600u64).prop_map(|s| s * 1_000),
        (1..=10u64).prop_map(|m| m * 60_000)
    ]
    .prop_map(Duration::from_millis)
}

fn action() -> impl Strategy<Value = Action> {
    let simple = select(vec![
        Action::Open,
        Action::Open,
        Action::Open,
        Action::Close,
        Action::Drop,
        Action::Cancel,
        Action::HoldStdin,
        Action::ReleaseStdin,
        Action::Shutdown,
    ]);
    let stream = || select(vec![Stream::Stdin, Stream::Stdout, Stream::Stderr]);
    let whom = || select(Whom::ALL);
    let params =
        || prop_oneof![Just(Value::Null), object(), vec(value(), 0..3).prop_map(Value::Array)];
    let messaging = prop_oneof![
        select(HandshakePoint::ALL).prop_map(|until| Action::Handshake { until }),
        (text(), object(), any::<bool>()).prop_map(|(tool, arguments, wait)| Action::Call {
            tool,
            arguments,
            wait
        }),
        (text(), params(), any::<bool>()).prop_map(|(method, params, wait)| Action::Request {
            method,
            params,
            wait
        }),
        (text(), 1..10_000u32).prop_map(|(method, pages)| Action::ListAll { method, pages }),
        (text(), params()).prop_map(|(method, params)| Action::Notify { method, params }),
        (payload(), option::of(0..2_000usize)).prop_map(|(payload, upto)| {
            let most = match &payload {
                Payload::Text(text) => text.len().max(1),
                Payload::Handshake => 2_000,
            };
            Action::Send { payload, upto: upto.map(|upto| upto % most + 1) }
        }),
        prop_oneof![Just(Read::Answers), Just(Read::End), (1..10_000u32).prop_map(Read::Messages)]
            .prop_map(|what| Action::Read { what }),
    ];
    let process = prop_oneof![
        whom().prop_map(|whom| Action::Kill { whom }),
        (select(Signal::ALL), whom()).prop_map(|(signal, whom)| Action::Signal { signal, whom }),
        stream().prop_map(|stream| Action::HalfClose { stream }),
        stream().prop_map(|stream| Action::Stall { stream }),
        stream().prop_map(|stream| Action::Resume { stream }),
        (stream(), 0..2_000u64).prop_map(|(stream, bytes)| Action::Cut { stream, bytes }),
        (0..10_000u64).prop_map(|ms| Action::Pause { time: Duration::from_millis(ms) }),
        prop_oneof![
            Just(Condition::Exited),
            Just(Condition::Gone),
            text().prop_map(Condition::Stderr)
        ]
        .prop_map(|condition| Action::WaitFor { condition }),
    ];
    prop_oneof![simple, messaging, process]
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![Just(Payload::Handshake), text().prop_map(Payload::Text)]
}

fn object() -> impl Strategy<Value = Value> {
    let pairs = vec((prop_oneof!["[a-z_]{0,6}", text()], value()), 0..4);
    pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>()))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec((text(), inner), 0..3)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    let options = vec(("[a-z-]{1,8}", prop_oneof![Just(String::new()), text()]), 0..3);
    let spec =
        ("[a-z][a-z0-9-]{0,12}", any::<bool>(), options).prop_map(|(name, fixed, options)| {
            let options: BTreeMap<String, String> =
                options.into_iter().map(|(name, value)| (name, value.replace('\0', ""))).collect();
            FakeSpec { name, fixed, options }
        });
    let command = vec(text().prop_map(|word| word.replace('\0', "0")), 1..4);
    prop_oneof![
        spec.clone().prop_map(Subject::Fake),
        spec.prop_map(Subject::Core),
        command.prop_map(Subject::Command),
    ]
}

fn expectation() -> impl Strategy<Value = Expectation> {
    let verdict = select(vec![Verdict::Clean, Verdict::Leak, Verdict::Failed, Verdict::Unknown]);
    (verdict, vec(finding(), 0..3)).prop_map(|(verdict, mut findings)| {
        for finding in &mut findings {
            if verdict == Verdict::Clean || finding.kind == Kind::Memory {
                finding.class = Class::Advisory;
            }
        }
        if verdict == Verdict::Leak && findings.iter().all(|found| found.class != Class::Leak) {
            findings.push(ExpectedFinding {
                class: Class::Leak,
                kind: Kind::Process,
                culprit: None,
                birth_step: None,
                due_step: None,
            });
        }
        Expectation { verdict, findings }
    })
}

fn finding() -> impl Strategy<Value = ExpectedFinding> {
    let class = select(vec![Class::Leak, Class::Advisory]);
    let culprit = option::of(select(Culprit::ALL));
    (class, select(Kind::ALL), culprit, option::of(text()), option::of(text())).prop_map(
        |(class, kind, culprit, birth_step, due_step)| ExpectedFinding {
            class,
            kind,
            culprit,
            birth_step,
            due_step,
        },
    )
}

/// Words, and what makes trouble in quotes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z/]{1,12}",
        1 => "\\PC{1,12}",
        1 => vec(select(vec!["'", "''", "\"", "\"\"\"", "\\", "\n", "\r\n", "\t", "\0", "\u{7f}", "x"]), 1..8)
            .prop_map(|parts| parts.concat()),
        1 => vec(any::<char>(), 1..8).prop_map(String::from_iter),
    ]
}
