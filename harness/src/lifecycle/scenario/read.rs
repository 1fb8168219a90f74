//! Typed reading of spanned TOML. A wrong value leaves a mistake and a stand-in, so that reading
//! goes on and finds the other mistakes; stand-ins never leave [`parse`](super::parse()).

use std::{ops::Range, time::Duration};

use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    check::limits,
    mistake::{Mistake, list, nearest},
};

/// Keys that stand at the top of a file.
pub(super) const TOP: &[&str] =
    &["id", "why", "rule", "era", "subject", "script", "step", "expect"];

/// The mistakes so far.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) mistakes: Vec<Mistake>,
}

/// A TOML table and how to speak of it.
#[derive(Clone)]
pub(super) struct Table<'t> {
    pub(super) keys: &'t DeTable<'t>,
    /// Where to point when a key is missing.
    pub(super) span: Range<usize>,
    /// Such as ``step `call` ``.
    pub(super) name: String,
}

type Item<'t> = &'t Spanned<DeValue<'t>>;

impl<'t> Table<'t> {
    pub(super) fn get(&self, key: &str) -> Option<Item<'t>> {
        self.keys.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }
}

impl Reader {
    pub(super) fn mistake(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.mistakes.push(Mistake::new(span, message, label, help));
    }

    /// Every key of the table is one of `valid`.
    pub(super) fn only(&mut self, table: &Table<'_>, valid: &[&str]) {
        for key in table.keys.keys() {
            let word: &str = key.get_ref();
            if valid.contains(&word) {
                continue;
            }
            let near = nearest(word, valid);
            let label = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "not known here".to_owned(),
            };
            let place = match word {
                "step" if near.is_none() => {
                    "; steps inside a step are for `repeat`, [[step.step]], and for the branches of \
                     `concurrently`, [[step.branch.step]]"
                        .to_owned()
                }
                _ if near.is_none() && TOP.contains(&word) => {
                    format!("; `{word}` belongs to the top of the file, above the first [table]")
                }
                _ => String::new(),
            };
            self.mistake(
                key.span(),
                format!("unknown key `{}` in {}", shortened(word), table.name),
                label,
                format!("{} takes {}{place}", table.name, list(valid)),
            );
        }
    }

    /// The value of a key that must be there.
    pub(super) fn required<'t>(
        &mut self,
        table: &Table<'t>,
        key: &str,
        example: &str,
    ) -> Option<Item<'t>> {
        let item = table.get(key);
        if item.is_none() {
            self.mistake(
                table.span.clone(),
                format!("{} has no `{key}`", table.name),
                format!("`{key}` is missing"),
                format!("add {example}"),
            );
        }
        item
    }

    fn wrong_type(&mut self, item: Item<'_>, key: &str, expected: &str, example: &str) {
        let found = item.get_ref().type_str();
        let article = if matches!(found, "integer" | "array") { "an" } else { "a" };
        self.mistake(
            item.span(),
            format!("`{key}` must be {expected}, not {article} {found}"),
            format!("expected {expected}"),
            format!("for example {example}"),
        );
    }

    pub(super) fn string(&mut self, item: Item<'_>, key: &str, example: &str) -> String {
        match item.get_ref() {
            DeValue::String(text) => text.to_string(),
            _ => {
                self.wrong_type(item, key, "a string", example);
                String::new()
            }
        }
    }

    pub(super) fn required_string(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
    ) -> String {
        match self.required(table, key, example) {
            Some(item) => self.string(item, key, example),
            None => String::new(),
        }
    }

    pub(super) fn optional_string(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
    ) -> Option<String> {
        table.get(key).map(|item| self.string(item, key, example))
    }

    pub(super) fn bool_or(&mut self, table: &Table<'_>, key: &str, default: bool) -> bool {
        match table.get(key).map(|item| (item, item.get_ref())) {
            None => default,
            Some((_, DeValue::Boolean(value))) => *value,
            Some((item, _)) => {
                self.wrong_type(item, key, "true or false", &format!("{key} = {}", !default));
                default
            }
        }
    }

    /// A number that does not fit becomes `u32::MAX`, which [`check`](super::check()) turns down.
    pub(super) fn number(&mut self, item: Item<'_>, key: &str, example: &str) -> u32 {
        match item.get_ref() {
            DeValue::Integer(digits) => {
                u32::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(u32::MAX)
            }
            _ => {
                self.wrong_type(item, key, "a whole number", example);
                1
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        item: Item<'_>,
        key: &str,
        words: &[(&'static str, T)],
        stand_in: T,
    ) -> T {
        let example = format!("{key} = \"{}\"", words[0].0);
        let DeValue::String(found) = item.get_ref() else {
            self.wrong_type(item, key, "a string", &example);
            return stand_in;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == found) {
            return *value;
        }
        let spellings: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let label = match nearest(found, &spellings) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "not known".to_owned(),
        };
        self.mistake(
            item.span(),
            format!("`{key}` cannot be \"{}\"", shortened(found)),
            label,
            format!("`{key}` is one of {}", list(&spellings)),
        );
        stand_in
    }

    /// `500ms`, `2s`, `1m`. What is too long for a number becomes the longest duration, which
    /// [`check`](super::check()) turns down.
    pub(super) fn duration(&mut self, table: &Table<'_>, key: &str) -> Option<Duration> {
        let item = table.get(key)?;
        let example = format!("{key} = \"500ms\", \"2s\" or \"1m\"");
        let DeValue::String(text) = item.get_ref() else {
            self.wrong_type(item, key, "a string with a unit", &example);
            return None;
        };
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(unit_at);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => 0,
        };
        if digits.is_empty() || unit_ms == 0 {
            self.mistake(
                item.span(),
                format!("\"{}\" is not a duration", shortened(text)),
                "expected a whole number and ms, s or m",
                format!("for example {example}"),
            );
            return None;
        }
        let millis = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_ms));
        Some(millis.map_or(Duration::MAX, Duration::from_millis))
    }

    /// A table that is the value of `key`.
    pub(super) fn table<'t>(
        &mut self,
        item: Item<'t>,
        key: &str,
        example: &str,
        name: impl Into<String>,
    ) -> Option<Table<'t>> {
        match item.get_ref() {
            DeValue::Table(keys) => Some(Table { keys, span: item.span(), name: name.into() }),
            _ => {
                self.wrong_type(item, key, "a table", example);
                None
            }
        }
    }

    /// The elements of an array that is the value of `key`.
    pub(super) fn array<'t>(
        &mut self,
        item: Item<'t>,
        key: &str,
        expected: &str,
        example: &str,
    ) -> &'t [Spanned<DeValue<'t>>] {
        match item.get_ref() {
            DeValue::Array(elements) => elements,
            _ => {
                self.wrong_type(item, key, expected, example);
                &[]
            }
        }
    }

    /// What stands for a JSON value: the same in TOML, or a string of JSON, for what TOML cannot
    /// say (null, very large integers).
    pub(super) fn json(&mut self, item: Item<'_>, key: &str) -> Value {
        let DeValue::String(text) = item.get_ref() else {
            return self.json_of_toml(item, key, 1);
        };
        serde_json::from_str(text).unwrap_or_else(|error| {
            self.mistake(
                item.span(),
                format!("`{key}` is a string, so it must be JSON, and it is not: {error}"),
                "not JSON",
                format!(
                    "for example {key} = {{ text = \"hello\" }}, or {key} = '{{\"text\": null}}'"
                ),
            );
            Value::Object(Map::new())
        })
    }

    fn json_of_toml(&mut self, item: Item<'_>, key: &str, depth: usize) -> Value {
        if depth > limits::VALUE_DEPTH {
            self.mistake(
                item.span(),
                format!("`{key}` is nested too deep"),
                "too deep",
                format!("at most {} levels", limits::VALUE_DEPTH),
            );
            return Value::Null;
        }
        let number = match item.get_ref() {
            DeValue::Table(keys) => {
                let pairs = keys.iter().map(|(name, value)| {
                    (name.get_ref().to_string(), self.json_of_toml(value, key, depth + 1))
                });
                return Value::Object(pairs.collect());
            }
            DeValue::Array(elements) => {
                let values = elements.iter().map(|value| self.json_of_toml(value, key, depth + 1));
                return Value::Array(values.collect());
            }
            DeValue::String(text) => return Value::String(text.to_string()),
            DeValue::Boolean(value) => return Value::Bool(*value),
            DeValue::Integer(digits) => {
                i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(Number::from)
            }
            DeValue::Float(digits) => {
                digits.as_str().parse::<f64>().ok().and_then(Number::from_f64)
            }
            DeValue::Datetime(_) => None,
        };
        number.map(Value::Number).unwrap_or_else(|| {
            self.mistake(
                item.span(),
                format!("`{key}` holds a value that JSON does not have"),
                format!("{} without a JSON form", item.get_ref().type_str()),
                format!(
                    "quote it, or write all of `{key}` as a string of JSON: {key} = '{{\"n\": 1}}'"
                ),
            );
            Value::Null
        })
    }
}

/// What the top table is called in messages.
pub(super) const FILE: &str = "the file";

/// A word from the file, short enough for a message.
pub(super) fn shortened(word: &str) -> String {
    let shown = |c: char| match c {
        '\'' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    let mut short: String = word.chars().take(40).map(shown).collect();
    if word.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}
