//! A scenario of a client: who it is, which servers it is given, and what is done to it. Its steps
//! are its own, so the file has a `[script]` instead.

mod service;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use toml::{Spanned, de::DeValue};

use super::{
    FakeSpec,
    check::{Checker, Part, limits},
    read::{Reader, Table, shortened},
    render::{Page, array, string},
};
use crate::{
    ledger::snapshot::Kind,
    lifecycle::{
        client::{
            Attack, ConfigStyle, Deed, Instead, MOST_ROUNDS, Moment, Played, ROUNDS, RoundsBy,
            Script, Unanswered,
        },
        step::Era,
        sweep::{Fault, WIRE, Wire},
    },
};

/// A client or host, and what it is given to do with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSpec {
    /// Which one.
    pub client: WhichClient,
    /// How it is told of its servers by a file.
    pub style: ConfigStyle,
    /// How it is told to do its work again, where it lives on.
    pub rounds_by: Option<RoundsBy>,
    /// Its servers or its service, and what is done to it.
    pub script: Script,
}

/// Which client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhichClient {
    /// Any, by its command line with its placeholders.
    Command(Vec<String>),
    /// One of our misbehaving ones, or its clean twin.
    Fake(FakeSpec),
}

/// Most servers of a script.
const SERVERS: usize = 8;
/// Places of a command line that stand for one server.
const OF_ONE: [&str; 3] = ["{server}", "{command}", "{args}"];
/// How a message may begin that a client sends first.
const SENDS: &str = "client sends ";

/// Keys of `[subject]`, beside those that name a client.
const SUBJECT: [&str; 3] = ["config-style", "long-lived", "rounds-arg"];

impl ClientSpec {
    /// What reports of it call its steps.
    pub(super) fn step_names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = [
            "start client",
            "client sends initialize",
            "client sends server/discover",
            "client at rest",
            "end of client's stdin",
            "SIGTERM to client",
            "client exits",
            "client is killed",
        ]
        .map(str::to_owned)
        .into();
        match self.script.servers.len() {
            _ if self.script.service.is_some() => {
                names.extend(service::STEPS.map(str::to_owned));
            }
            0 | 1 => drop(names.insert("client starts server".to_owned())),
            many => names.extend((1..=many).map(|number| format!("client starts server {number}"))),
        }
        if let Some(Attack { deed, .. }) = self.script.attack
            && deed != Deed::EndStdin
        {
            names.insert(format!("{deed} to client"));
        }
        names.extend(self.script.rounds.map(|rounds| format!("repeat {rounds}")));
        names
    }

    /// Whether a report of it may name this step.
    pub(super) fn may_name(&self, step: &str) -> bool {
        step.strip_prefix(SENDS).is_some_and(|method| !method.is_empty())
            || self.step_names().contains(step)
    }

    fn is_told(&self, place: &str) -> bool {
        match &self.client {
            WhichClient::Command(words) => words.iter().any(|word| word.contains(place)),
            // Ours are told of their servers by a file, and of rounds by an option.
            WhichClient::Fake(spec) => {
                place == "{config}" || spec.options.values().any(|value| value.contains(place))
            }
        }
    }
}

impl Reader {
    /// The client of a `[subject]`, under this key, with the `[script]` of the file.
    pub(super) fn client(&mut self, top: &Table<'_>, subject: &Table<'_>, key: &str) -> ClientSpec {
        let client = match key {
            "client" => {
                self.only(subject, &[&["client"], &SUBJECT[..]].concat());
                WhichClient::Command(self.command(subject, "client"))
            }
            _ => {
                self.only(subject, &[&["fake-client", "fixed", "options"], &SUBJECT[..]].concat());
                WhichClient::Fake(self.fake(subject, "fake-client"))
            }
        };
        let style = subject.get("config-style").map_or(ConfigStyle::default(), |item| {
            self.word(item, "config-style", words!(ConfigStyle), ConfigStyle::default())
        });
        let rounds_by =
            match (self.bool_or(subject, "long-lived", false), subject.get("rounds-arg")) {
                (true, Some(item)) => {
                    self.mistake(
                    item.span(),
                    "[subject] has both `long-lived` and `rounds-arg`",
                    "one too many",
                    "a client does its work again for each line on its stdin, or as often as its \
                     words say",
                );
                    None
                }
                (true, None) => Some(RoundsBy::Lines),
                (false, Some(_)) => Some(RoundsBy::Words(self.command(subject, "rounds-arg"))),
                (false, None) => None,
            };
        ClientSpec { client, style, rounds_by, script: self.script(top) }
    }

    fn script(&mut self, top: &Table<'_>) -> Script {
        const EXAMPLE: &str = "[[script.server]] with fake = \"ignores-eof\", or [script.service] for a \
                               client over HTTP";
        let mut script = Script::default();
        let Some(item) = self.required(top, "script", EXAMPLE) else { return script };
        let Some(table) = self.table(item, "script", EXAMPLE, "[script]") else { return script };
        self.only(&table, &["server", "service", "attack", "moment", "rounds"]);
        script.rounds = table.get("rounds").map(|item| self.number(item, "rounds", "rounds = 20"));
        if self.both(&table, ["attack", "moment"], "attack = \"SIGTERM\" and moment = \"busy\"") {
            script.attack = Some(Attack {
                deed: self.required_word(&table, "attack", words!(Deed), Deed::Terminate),
                moment: self.required_word(&table, "moment", words!(Moment), Moment::Starting),
            });
        }
        if let Some(item) = table.get("service") {
            let example = "[script.service] with fault = \"redirects\"";
            let service = self.table(item, "service", example, "[script.service]");
            script.service = service.map(|table| self.service(&table));
            if !table.has("server") {
                return script;
            }
        }
        let Some(item) = self.required(&table, "server", EXAMPLE) else { return script };
        for item in self.array(item, "server", "a list of tables, written [[…]]", EXAMPLE) {
            if let Some(table) = self.table(item, "server", EXAMPLE, "[[script.server]]") {
                script.servers.push(self.played(&table));
            }
        }
        script
    }

    fn played(&mut self, table: &Table<'_>) -> Played {
        self.only(table, &["fake", "fixed", "options", "request", "instead", "era", "wire"]);
        let example = "request = \"tools/call\" and instead = \"die\"";
        let unanswered = self.both(table, ["request", "instead"], example).then(|| Unanswered {
            method: self.required_string(table, "request", "request = \"tools/call\""),
            instead: self.required_word(table, "instead", words!(Instead), Instead::Hold),
        });
        Played {
            fake: self.fake(table, "fake"),
            unanswered,
            era: self.only_era(table),
            wire: table.get("wire").and_then(|item| self.wire(item)),
        }
    }

    fn only_era(&mut self, table: &Table<'_>) -> Option<Era> {
        let eras = &[("2025-11-25", Era::Legacy), ("2026-07-28", Era::Modern)];
        table.get("era").map(|item| self.word(item, "era", eras, Era::Legacy))
    }

    fn wire(&mut self, item: &Spanned<DeValue<'_>>) -> Option<Wire> {
        const EXAMPLE: &str = "wire = \"dies:to-client:152\"";
        let text = self.string(item, "wire", EXAMPLE);
        let wire = Wire::parse(&format!("{WIRE}{text}"));
        if wire.is_none() && item.get_ref().is_str() {
            self.mistake(
                item.span(),
                format!("\"{}\" is nothing that a wire does", shortened(&text)),
                "expected a fault, a direction and a number of bytes",
                format!(
                    "for example {EXAMPLE}; the faults are {}, the directions to-client and \
                     from-client",
                    Fault::ALL.iter().map(|fault| fault.as_str()).collect::<Vec<_>>().join(", ")
                ),
            );
        }
        wire
    }

    /// Whether two keys are there that need each other.
    fn both(&mut self, table: &Table<'_>, keys: [&'static str; 2], example: &str) -> bool {
        for (here, other) in [(0, 1), (1, 0)] {
            if let (Some((key, _)), false) =
                (table.keys.get_key_value(keys[here]), table.has(keys[other]))
            {
                self.mistake(
                    key.span(),
                    format!("{} has `{}` and no `{}`", table.name, keys[here], keys[other]),
                    format!("`{}` is missing", keys[other]),
                    format!("the two belong together, for example {example}"),
                );
            }
        }
        keys.iter().all(|key| table.has(key))
    }
}

impl Checker {
    pub(super) fn client(&mut self, spec: &ClientSpec) {
        self.at(Part::Key("subject"), |checker| {
            match &spec.client {
                WhichClient::Command(words) => checker.command("client", words),
                WhichClient::Fake(fake) => checker.fake_spec("fake-client", fake),
            }
            if let Some(RoundsBy::Words(words)) = &spec.rounds_by {
                checker.rounds_words(spec, words);
            }
        });
        self.at(Part::Key("script"), |checker| {
            match &spec.script.service {
                Some(service) => checker.service(spec, service),
                None => checker.script(spec),
            }
            if let Some(rounds) = spec.script.rounds {
                checker.rounds(spec, rounds);
            }
        });
    }

    fn rounds_words(&mut self, spec: &ClientSpec, words: &[String]) {
        let tells = |word: &String| word.contains(ROUNDS);
        if !words.iter().any(tells) && !spec.is_told(ROUNDS) {
            self.problem_at(
                "rounds-arg",
                "no word of it says how many",
                format!("write {ROUNDS} for the number, such as [\"--rounds={ROUNDS}\"]"),
            );
        }
        if words.iter().any(|word| word.contains('\0')) {
            self.problem_at(
                "rounds-arg",
                "`rounds-arg` has a NUL byte",
                "no program can be given one; leave it out",
            );
        }
    }

    fn script(&mut self, spec: &ClientSpec) {
        let script = &spec.script;
        if script.servers.is_empty() || script.servers.len() > SERVERS {
            self.problem_at(
                "server",
                format!("a client has from 1 to {SERVERS} servers here"),
                "write one [[script.server]] for each, in the order in which it is told of them",
            );
        }
        let only_one = OF_ONE.iter().any(|place| spec.is_told(place)) && !spec.is_told("{config}");
        if script.servers.len() > 1 && only_one {
            self.problem_at(
                "server",
                "this client is told of one server only",
                "in its command, {config} is a file that names all; {server}, {command} and {args} \
                 are the first one's",
            );
        }
        self.at(Part::Key("server"), |checker| {
            for (index, server) in script.servers.iter().enumerate() {
                checker.at(Part::Index(index), |checker| {
                    checker.fake_spec("fake", &server.fake);
                    if let Some(request) = &server.unanswered {
                        checker.text("request", &request.method, limits::NAME);
                    }
                });
            }
        });
        let holds = |server: &Played| {
            server.unanswered.as_ref().is_some_and(|request| request.instead == Instead::Hold)
        };
        let is_busy = script.attack.is_some_and(|attack| attack.moment == Moment::Busy);
        if is_busy && !script.servers.first().is_some_and(holds) {
            self.problem_at(
                "moment",
                "no request is in flight for long enough",
                "give the first server request = \"tools/call\" and instead = \"hold\"",
            );
        }
    }

    fn rounds(&mut self, spec: &ClientSpec, rounds: u32) {
        if !(limits::GROWTH - 1..=MOST_ROUNDS).contains(&rounds) {
            self.problem_at(
                "rounds",
                format!("`rounds` must be from {} to {MOST_ROUNDS}", limits::GROWTH - 1),
                "fewer are no trend; for example rounds = 20",
            );
        }
        let is_struck = spec.script.attack.is_some() || spec.script.servers.len() > 1;
        if spec.script.service.is_none() && is_struck {
            self.problem_at(
                "rounds",
                "rounds are of a client with one server, to which nothing is done",
                "take out `attack` and `moment`, or `rounds`, and all servers but one",
            );
        }
        if spec.rounds_by.is_none() && !spec.is_told(ROUNDS) {
            self.problem_at(
                "rounds",
                "this client is not told how often to do its work",
                format!(
                    "write {ROUNDS} for the number in its words, or give [subject] long-lived = \
                     true or rounds-arg = [\"--rounds={ROUNDS}\"]"
                ),
            );
        }
    }

    /// What is never found in a client.
    pub(super) fn kind_of_client(&mut self, spec: &ClientSpec, kind: Kind) {
        if spec.script.service.is_some() {
            return self.kind_over_http(spec, kind);
        }
        let is_judged = match kind {
            Kind::Process | Kind::Zombie | Kind::Fd => true,
            Kind::Thread => spec.script.rounds.is_some(),
            _ => false,
        };
        if !is_judged {
            self.problem_at(
                "kind",
                format!("a {kind} is not looked for in a client"),
                "of clients, processes, zombies and descriptors are judged, and over rounds threads",
            );
        }
    }
}

impl Page {
    pub(super) fn client(&mut self, spec: &ClientSpec) {
        match &spec.client {
            WhichClient::Command(words) => {
                self.pair("client", &array(words.iter().map(|w| string(w))))
            }
            WhichClient::Fake(fake) => self.fake("fake-client", fake),
        }
        if spec.style != ConfigStyle::default() {
            self.pair("config-style", &string(spec.style.as_str()));
        }
        match &spec.rounds_by {
            Some(RoundsBy::Lines) => self.pair("long-lived", "true"),
            Some(RoundsBy::Words(words)) => {
                self.pair("rounds-arg", &array(words.iter().map(|w| string(w))));
            }
            None => {}
        }
    }

    pub(super) fn script(&mut self, script: &Script) {
        if script.attack.is_some() || script.rounds.is_some() {
            self.header("[script]");
        }
        if let Some(Attack { moment, deed }) = script.attack {
            self.pair("attack", &string(deed.as_str()));
            self.pair("moment", &string(moment.as_str()));
        }
        if let Some(rounds) = script.rounds {
            self.pair("rounds", &rounds.to_string());
        }
        if let Some(service) = &script.service {
            self.service(service);
        }
        for Played { fake, unanswered, era, wire } in &script.servers {
            self.header("[[script.server]]");
            self.fake("fake", fake);
            if let Some(Unanswered { method, instead }) = unanswered {
                self.pair("request", &string(method));
                self.pair("instead", &string(instead.as_str()));
            }
            if let Some(era) = era {
                self.pair("era", &string(era.revision()));
            }
            if let Some(wire) = wire {
                self.pair("wire", &string(wire.word().trim_start_matches(WIRE)));
            }
        }
    }
}
