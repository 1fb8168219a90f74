//! JSON whose values know where they stand, so that what is said of one names line and column.
//! Comments and trailing commas are allowed, as VS Code allows them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most mistakes that are told at once.
const MOST_MISTAKES: usize = 20;

/// A value of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'t> {
    /// Its own text, a part of the whole.
    raw: &'t RawValue,
}

/// The members of an object, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Object<'t> {
    pub(super) members: Vec<(String, Value<'t>)>,
}

/// What is wrong with the file. Its text is not repeated: it may hold credentials.
#[derive(Debug)]
pub(super) struct Mistakes<'p> {
    path: &'p str,
    text: &'p str,
    /// Line and column from 1, and what is wrong there.
    found: Vec<(usize, usize, String)>,
}

/// Parses the text; what is no JSON is a mistake.
pub(super) fn parse<'t>(plain: &'t str, mistakes: &mut Mistakes<'_>) -> Option<Value<'t>> {
    match serde_json::from_str::<&RawValue>(plain) {
        Ok(raw) => Some(Value { raw }),
        Err(error) => {
            let said = error.to_string();
            let cause = said.split(" at line ").next().unwrap_or(&said);
            let message = format!("this is no JSON: {cause}");
            mistakes.found.push((error.line().max(1), error.column().max(1), message));
            None
        }
    }
}

/// The text with comments, trailing commas and a byte order mark blanked out; every other byte stays
/// where it is.
pub(super) fn without_comments(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut comma = None;
    let mut at = 0;
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes[..3].fill(b' ');
    }
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                comma = None;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'/' if matches!(bytes.get(at + 1), Some(b'/' | b'*')) => {
                let end = comment_end(&bytes, at);
                for byte in &mut bytes[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
                continue;
            }
            b',' => comma = Some(at),
            b'}' | b']' => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        at += 1;
    }
    // Only whole characters were blanked out.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where the comment ends that begins here.
fn comment_end(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start + 2..];
    let length = match bytes[start + 1] {
        b'/' => rest.iter().position(|byte| *byte == b'\n'),
        _ => rest.windows(2).position(|pair| pair == b"*/").map(|length| length + 2),
    };
    length.map_or(bytes.len(), |length| start + 2 + length)
}

impl<'t> Value<'t> {
    /// What JSON calls it.
    fn form(self) -> &'static str {
        match self.raw.get().as_bytes().first() {
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    /// Reads it as something; what it is not is a mistake.
    fn read<T: Deserialize<'t>>(
        self,
        what: &str,
        wanted: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<T> {
        serde_json::from_str(self.raw.get())
            .inspect_err(|_| {
                let message = format!("{what} is {}; expected {wanted}", self.form());
                mistakes.push(self, message);
            })
            .ok()
    }

    pub(super) fn object(
        self,
        what: &str,
        wanted: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<Object<'t>> {
        let object: Object<'t> = self.read(what, wanted, mistakes)?;
        for (at, (name, value)) in object.members.iter().enumerate() {
            if object.members[..at].iter().any(|(earlier, _)| earlier == name) {
                mistakes.push(*value, format!("{what} has `{name}` twice; leave one out"));
            }
        }
        Some(object)
    }

    pub(super) fn string(
        self,
        what: &str,
        wanted: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<String> {
        self.read(what, wanted, mistakes)
    }

    pub(super) fn boolean(
        self,
        what: &str,
        wanted: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<bool> {
        self.read(what, wanted, mistakes)
    }

    pub(super) fn strings(
        self,
        what: &str,
        wanted: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<Vec<String>> {
        let items: Vec<&'t RawValue> = self.read(what, wanted, mistakes)?;
        let strings: Vec<Option<String>> = items
            .into_iter()
            .enumerate()
            .map(|(at, raw)| {
                Value { raw }.string(&format!("item {} of {what}", at + 1), wanted, mistakes)
            })
            .collect();
        strings.into_iter().collect()
    }

    /// An object of strings; hosts take numbers and booleans by their text.
    pub(super) fn texts(
        self,
        what: &str,
        wanted: &str,
        mistakes: &mut Mistakes<'_>,
    ) -> Option<Vec<(String, String)>> {
        let object = self.object(what, wanted, mistakes)?;
        let texts: Vec<Option<(String, String)>> = object
            .members
            .into_iter()
            .map(|(name, value)| {
                let text = match value.form() {
                    "a number" | "true or false" => value.raw.get().to_owned(),
                    _ => value.string(&format!("`{name}` in {what}"), wanted, mistakes)?,
                };
                Some((name, text))
            })
            .collect();
        texts.into_iter().collect()
    }
}

impl<'t> Object<'t> {
    pub(super) fn get(&self, key: &str) -> Option<Value<'t>> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, raw)) = map.next_entry::<String, &'de RawValue>()? {
                    members.push((name, Value { raw }));
                }
                Ok(Object { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'p> Mistakes<'p> {
    pub(super) fn new(path: &'p str, text: &'p str) -> Self {
        Self { path, text, found: Vec::new() }
    }

    /// Notes what is wrong with a value, which is a part of the text.
    pub(super) fn push(&mut self, value: Value<'_>, message: String) {
        let start = value.raw.get().as_ptr() as usize;
        let at = start.saturating_sub(self.text.as_ptr() as usize).min(self.text.len());
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.found.push((line, column, message));
    }

    /// Ok where nothing is wrong, or else all that is, in the order of the file.
    pub(super) fn none(mut self) -> Result<(), String> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort();
        let mut said: Vec<String> = self
            .found
            .iter()
            .take(MOST_MISTAKES)
            .map(|(line, column, message)| format!("{}:{line}:{column}: {message}", self.path))
            .collect();
        if self.found.len() > MOST_MISTAKES {
            said.push(format!("… and {} more", self.found.len() - MOST_MISTAKES));
        }
        Err(said.join("\n"))
    }
}
