//! What an answer never repeats: the values that servers were given in `env` and `headers`.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::host::{Host, ServerSpec};

/// Shorter values are words like `1`, `true` and `/root`, which text is full of.
const SHORTEST: usize = 6;

/// The secrets of each server. Their values go nowhere but into [`hide`](Self::hide).
#[derive(Default)]
pub(super) struct Secrets(BTreeMap<Arc<str>, Vec<(String, String)>>);

impl Secrets {
    /// Those of all servers there are now.
    pub(super) fn of(host: &Host) -> Self {
        let mut secrets = Self::default();
        secrets.learn_all(host);
        secrets
    }

    /// Those of servers that have come meanwhile, too.
    pub(super) fn learn_all(&mut self, host: &Host) {
        for (server, spec) in host.specs() {
            self.learn(server, &spec);
        }
    }

    pub(super) fn learn(&mut self, server: Arc<str>, spec: &ServerSpec) {
        let known = self.0.entry(server).or_default();
        for secret in spec.secrets() {
            if secret.1.len() >= SHORTEST && !known.contains(&secret) {
                known.push(secret);
            }
        }
        // The longest first: one may hold another.
        known.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    }

    /// Puts names for values wherever text about a server, which is an object with its `name`, holds
    /// one of its secrets. Names and keys stay.
    pub(super) fn hide(&self, value: &mut Value) {
        self.hide_for(&[], value);
    }

    /// The same where the server is known from elsewhere.
    pub(super) fn hide_of(&self, server: &str, value: &mut Value) {
        self.hide_for(self.of_server(server), value);
    }

    fn of_server(&self, server: &str) -> &[(String, String)] {
        self.0.get(server).map_or(&[], Vec::as_slice)
    }

    fn hide_for(&self, of: &[(String, String)], value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(hidden) = hidden(of, text) {
                    *text = hidden;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide_for(of, item)),
            Value::Object(members) => {
                let own =
                    members.get("name").and_then(Value::as_str).map(|name| self.of_server(name));
                let of = own.filter(|own| !own.is_empty()).unwrap_or(of);
                for (_, member) in members.iter_mut().filter(|(key, _)| *key != "name") {
                    self.hide_for(of, member);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn hidden<'a>(secrets: &[(String, String)], text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for (label, value) in secrets {
        if text.contains(value.as_str()) {
            text = Cow::Owned(text.replace(value.as_str(), &format!("[{label}]")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::process::Command;

    #[test]
    fn values_of_the_environment_give_way_to_their_names() {
        let command =
            Command::new("x").env("KEY", "sk-123456").env("LONG", "sk-1234567").env("ONE", "1");
        let mut secrets = Secrets::default();
        secrets.learn("alpha".into(), &ServerSpec::stdio(command));
        let mut value = json!({ "servers": [
            { "name": "alpha", "why": ["sk-1234567 or sk-123456 is wrong, 1 is right"] },
            { "name": "sk-123456", "why": "sk-123456" },
        ]});
        secrets.hide(&mut value);
        assert_eq!(
            value,
            json!({ "servers": [
                { "name": "alpha", "why": ["[env LONG] or [env KEY] is wrong, 1 is right"] },
                { "name": "sk-123456", "why": "sk-123456" },
            ]})
        );
        let mut error = json!({ "error": { "what": "its stderr: sk-123456" } });
        secrets.hide_of("alpha", &mut error);
        assert_eq!(error, json!({ "error": { "what": "its stderr: [env KEY]" } }));
    }
}
