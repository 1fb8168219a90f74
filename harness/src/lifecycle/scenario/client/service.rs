//! The part of a `[script]` that is of clients over HTTP: the server whose URL they are told of, and
//! what is wrong with it.

use super::{ClientSpec, Reader, WhichClient};
use crate::{
    ledger::snapshot::Kind,
    lifecycle::{
        client::{
            Moment, Script,
            http::{Fault, Service},
        },
        scenario::{
            check::{Checker, Part, limits},
            read::Table,
            render::{Page, string},
        },
    },
};

/// Keys of `[script.service]`.
const KEYS: [&str; 3] = ["fault", "at", "era"];
/// Places of a command line that stand for a server which the client starts.
const STARTED: [&str; 3] = ["{server}", "{command}", "{args}"];
/// What else a client over HTTP does that reports call a step.
pub(super) const STEPS: [&str; 6] = [
    "client opens a stream",
    "client ends its session",
    "client connects",
    "client keeps reconnecting",
    "client keeps asking",
    "client goes on with a dead session",
];

impl Reader {
    pub(super) fn service(&mut self, table: &Table<'_>) -> Service {
        self.only(table, &KEYS);
        // One without a fault is told by no key.
        let faults: Vec<(&str, Fault)> = Fault::ALL
            .iter()
            .filter(|fault| **fault != Fault::None)
            .map(|fault| (fault.as_str(), *fault))
            .collect();
        Service {
            fault: table
                .get("fault")
                .map_or(Fault::None, |item| self.word(item, "fault", &faults, Fault::None)),
            at: self.optional_string(table, "at", "at = \"tools/call\""),
            era: self.only_era(table),
            // No file tells a point of the byte sweep.
            wire: None,
        }
    }
}

impl Checker {
    /// What is wrong with a script of a client over HTTP.
    pub(super) fn service(&mut self, spec: &ClientSpec, service: &Service) {
        let Script { attack, rounds, servers, service: _ } = &spec.script;
        if !servers.is_empty() {
            self.problem_at(
                "service",
                "a client over HTTP starts no servers",
                "keep [script.service], for one that is told of a URL, or the [[script.server]]",
            );
        }
        if let WhichClient::Command(words) = &spec.client {
            let names = |place: &str| words.iter().any(|word| word.contains(place));
            if STARTED.into_iter().any(names) && !names("{url}") {
                self.problem_at(
                    "service",
                    "this client is told of a server that it starts",
                    "write {url} in its command, or {config} alone; or give it a [[script.server]] instead \
                     of [script.service]",
                );
            }
        }
        self.at(Part::Key("service"), |checker| checker.fault(service));
        // Until then the request has to wait, and so does the end of a session.
        let moment = attack.map(|attack| attack.moment).filter(|moment| *moment != Moment::Idle);
        if let Some(moment) = moment
            && (service.fault != Fault::Holds || service.at.is_none())
        {
            let at = match moment {
                Moment::Starting => "initialize",
                Moment::Closing => "DELETE",
                Moment::Busy | Moment::Idle => "tools/call",
            };
            self.problem_at(
                "moment",
                "no request is in flight for long enough",
                format!("give [script.service] fault = \"holds\" and at = \"{at}\""),
            );
        }
        if rounds.is_some() && (attack.is_some() || service.fault != Fault::None) {
            self.problem_at(
                "rounds",
                "rounds are of a client whose server has no fault, and to which nothing is done",
                "take out `attack` and `moment`, or `rounds`, and `fault` and `at`",
            );
        }
    }

    fn fault(&mut self, Service { fault, at, era: _, wire }: &Service) {
        if wire.is_some() {
            self.problem(
                "[script.service] is of a byte sweep, which no file tells",
                "repeat it by `scupper client --torture --only`",
            );
        }
        let Some(at) = at else { return };
        self.text("at", at, limits::NAME);
        if *fault == Fault::None {
            self.problem_at(
                "at",
                "[script.service] has `at` and no `fault`",
                "say what goes wrong at that request, for example fault = \"holds\"; or leave out `at`",
            );
        } else if !fault.may_strike_at(at) {
            self.problem_at(
                "at",
                format!("a server that {fault} does not do it at such a request"),
                match fault.strikes_at_any() {
                    true => {
                        "name a JSON-RPC method; holds and fails go with \"DELETE\", too, and fails \
                         with \"GET\""
                    }
                    false => "leave out `at`: it does so wherever it can",
                },
            );
        }
    }

    /// What is never found in a client over HTTP.
    pub(super) fn kind_over_http(&mut self, spec: &ClientSpec, kind: Kind) {
        let is_judged = match kind {
            Kind::Process | Kind::Zombie | Kind::Fd | Kind::Session => true,
            Kind::Thread => spec.script.rounds.is_some(),
            _ => false,
        };
        if !is_judged {
            self.problem_at(
                "kind",
                format!("a {kind} is not looked for in a client over HTTP"),
                "of clients over HTTP, processes, zombies, descriptors and sessions are judged, and \
                 over rounds threads",
            );
        }
    }
}

impl Page {
    pub(super) fn service(&mut self, Service { fault, at, era, wire: _ }: &Service) {
        self.header("[script.service]");
        if *fault != Fault::None {
            self.pair("fault", &string(fault.as_str()));
        }
        if let Some(at) = at {
            self.pair("at", &string(at));
        }
        if let Some(era) = era {
            self.pair("era", &string(era.revision()));
        }
    }
}
