//! From TOML to the subject of a scenario.

use std::collections::BTreeMap;

use toml::{Spanned, de::DeValue};

use super::{
    Embedded, FakeSpec, HttpServer, HttpStart, Subject,
    read::{Reader, Table},
};

impl Reader {
    pub(super) fn subject(&mut self, top: &Table<'_>) -> Subject {
        const EXAMPLE: &str = "[subject] with fake = \"ignores-eof\"";
        let stand_in = Subject::Command(Vec::new());
        let Some(item) = self.required(top, "subject", EXAMPLE) else { return stand_in };
        let Some(table) = self.table(item, "subject", EXAMPLE, "[subject]") else {
            return stand_in;
        };
        match self.one_of(
            &table,
            &["fake", "command", "core", "host", "service", "client", "fake-client"],
            "fake = \"ignores-eof\"",
        ) {
            Some(key @ ("command" | "fake")) if table.has("url") => {
                let own: &[&str] =
                    if key == "fake" { &["fake", "fixed", "options"] } else { &["command"] };
                self.only(&table, &[own, &["url", "session-ttl", "headers"]].concat());
                let start = match key {
                    "fake" => HttpStart::Fake(self.fake(&table, "fake")),
                    _ => HttpStart::Command(self.command(&table, "command")),
                };
                Subject::Http(self.http(&table, start))
            }
            Some("command") => {
                self.only(&table, &["command"]);
                Subject::Command(self.command(&table, "command"))
            }
            Some("core") => {
                self.only(&table, &["core", "fixed", "options"]);
                Subject::Core(self.fake(&table, "core"))
            }
            Some("host") => {
                self.only(&table, &["host", "options"]);
                Subject::Host(self.embedded(&table, "host"))
            }
            Some("service") => {
                self.only(&table, &["service", "options"]);
                Subject::Service(self.embedded(&table, "service"))
            }
            Some(key @ ("client" | "fake-client")) => {
                Subject::Client(Box::new(self.client(top, &table, key)))
            }
            Some(_) => {
                self.only(&table, &["fake", "fixed", "options"]);
                Subject::Fake(self.fake(&table, "fake"))
            }
            None => {
                self.only(
                    &table,
                    &[
                        "fake",
                        "command",
                        "core",
                        "host",
                        "service",
                        "client",
                        "fake-client",
                        "fixed",
                        "options",
                    ],
                );
                stand_in
            }
        }
    }

    pub(super) fn command(&mut self, table: &Table<'_>, key: &str) -> Vec<String> {
        let example = match key {
            "command" => "command = [\"node\", \"server.js\"]",
            "client" => "client = [\"python\", \"client.py\", \"{command}\", \"{args}\"]",
            _ => "rounds-arg = [\"--rounds={rounds}\"]",
        };
        let Some(item) = table.get(key) else { return Vec::new() };
        let words = self.array(item, key, "an array of strings", example);
        words.iter().map(|word| self.string(word, key, example)).collect()
    }

    fn http(&mut self, table: &Table<'_>, start: HttpStart) -> HttpServer {
        const HEADERS: &str = "headers = [\"Authorization: Bearer $TOKEN\"]";
        let url = self.required_string(table, "url", "url = \"http://127.0.0.1:{port}/mcp\"");
        let session_ttl = self.duration(table, "session-ttl");
        let headers = match table.get("headers") {
            None => Vec::new(),
            Some(item) => {
                let items = self.array(item, "headers", "an array of strings", HEADERS);
                items.iter().map(|item| self.string(item, "headers", HEADERS)).collect()
            }
        };
        HttpServer { start, url, session_ttl, headers }
    }

    pub(super) fn fake(&mut self, table: &Table<'_>, key: &str) -> FakeSpec {
        let name = self.required_string(table, key, &format!("{key} = \"ignores-eof\""));
        let fixed = self.bool_or(table, "fixed", false);
        let options = table.get("options").map(|item| self.options(item)).unwrap_or_default();
        FakeSpec { name, fixed, options }
    }

    fn embedded(&mut self, table: &Table<'_>, key: &str) -> Embedded {
        let name = self.required_string(table, key, &format!("{key} = \"core\""));
        let options = table.get("options").map(|item| self.options(item)).unwrap_or_default();
        Embedded { name, options }
    }

    pub(super) fn options(&mut self, item: &Spanned<DeValue<'_>>) -> BTreeMap<String, String> {
        const EXAMPLE: &str = "options = { ms = \"50\" }";
        let Some(table) = self.table(item, "options", EXAMPLE, "options") else {
            return BTreeMap::new();
        };
        let mut options = BTreeMap::new();
        for (name, value) in table.keys {
            let name = name.get_ref().to_string();
            let value = self.string(value, &name, EXAMPLE);
            options.insert(name, value);
        }
        options
    }
}
