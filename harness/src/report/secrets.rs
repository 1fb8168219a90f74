//! What a run knows to be secret, wherever it turns up: values of a server's own environment.

use super::event::SubjectInfo;
use super::redact::{REDACTED, each_text, is_credential};
use crate::ledger::verdict::CaseReport;

/// Shortest value that is looked for without a credential's name.
const TELLING: usize = 6;
/// Shortest value that is looked for at all; shorter ones would be found in every word.
const SHORTEST: usize = 3;
/// What stands where a text was cut.
const CUT: char = '…';

/// Values that no report may show.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// Longest first, so that none is hidden in part.
    values: Vec<String>,
}

impl Secrets {
    /// Takes in the value of a variable, if it is one to hide. A path, a plain word and a short value
    /// stay, unless the name says that they are a credential: too much would be illegible without
    /// them.
    pub fn add(&mut self, name: &str, value: &str) {
        let value = value.trim();
        let path = value.starts_with(['/', '~', '.']);
        let plain = value.chars().all(|c| c.is_ascii_lowercase());
        let telling = value.len() >= TELLING && !path && !plain;
        if value.len() < SHORTEST || !(telling || names_secret(name)) {
            return;
        }
        self.values.push(value.to_owned());
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self.values.dedup();
    }

    /// Takes in a value that is a credential, whatever it looks like, and each part of it that could
    /// stand alone.
    pub fn add_credential(&mut self, value: &str) {
        let parts = value.split_whitespace().filter(|part| part.len() >= TELLING);
        let parts = parts.filter(|part| part.chars().any(|c| !c.is_ascii_alphabetic()));
        let whole = Some(value.trim()).filter(|value| value.len() >= SHORTEST);
        self.values.extend(parts.chain(whole).map(str::to_owned));
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self.values.dedup();
    }

    /// Takes in those of another server.
    pub fn extend(&mut self, others: &Self) {
        self.values.extend(others.values.iter().cloned());
        self.values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.values.dedup();
    }

    /// Hides them in a text.
    pub fn hide(&self, text: &mut String) {
        for value in &self.values {
            if text.contains(value.as_str()) {
                *text = replaced(text, value);
            }
            while let Some(start) = cut_short(text, value) {
                *text = text.replace(&start, &format!("{REDACTED}{CUT}"));
            }
        }
    }

    /// Hides them in everything that a case tells.
    pub fn hide_in_case(&self, case: &mut CaseReport) {
        if !self.values.is_empty() {
            each_text(case, &mut |text| self.hide(text));
        }
    }

    /// Hides them in what a server said of itself.
    pub fn hide_in_subject(&self, subject: &mut SubjectInfo) {
        for text in [&mut subject.name, &mut subject.version] {
            self.hide(text);
        }
        subject.launchers.iter_mut().for_each(|text| self.hide(text));
    }
}

/// Whether a variable or a header of this name holds a credential, by any of its words: wider than for flags, because an
/// environment is where credentials live.
pub fn names_secret(name: &str) -> bool {
    const WORDS: &[&str] =
        &["KEY", "TOKEN", "SECRET", "PASS", "PASSWORD", "PWD", "AUTH", "CREDENTIALS", "DSN", "PAT"];
    let upper = name.to_ascii_uppercase();
    is_credential(name) || upper.split(['_', '-']).any(|word| WORDS.contains(&word))
}

/// The start of the value with the mark that something was cut behind it, if the text has that: a
/// long command is cut wherever its limit falls.
fn cut_short(text: &str, value: &str) -> Option<String> {
    let ends = value.char_indices().map(|(at, _)| at).filter(|at| *at >= SHORTEST);
    let starts = ends.map(|end| format!("{}{CUT}", &value[..end]));
    if text.contains(CUT) { starts.rev().find(|start| text.contains(start.as_str())) } else { None }
}

/// The text with the mark in place of the value; a short one only where it is a word of its own.
fn replaced(text: &str, value: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, found) = rest.split_at(at);
        let after = &found[value.len()..];
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let before_it = before.chars().next_back().or(out.chars().next_back());
        let part = value.len() < TELLING && (joins(before_it) || joins(after.chars().next()));
        out.push_str(before);
        out.push_str(if part { value } else { REDACTED });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(variables: &[(&str, &str)], text: &str) -> String {
        let mut secrets = Secrets::default();
        variables.iter().for_each(|(name, value)| secrets.add(name, value));
        let mut text = text.to_owned();
        secrets.hide(&mut text);
        text
    }

    #[test]
    fn values_of_an_environment_are_hidden_wherever_they_turn_up() {
        let known = [("API_KEY", "abcd1234"), ("DB", "p0stgres!"), ("DB_PASS", "cat")];
        assert_eq!(
            hidden(&known, "stderr: bad key abcd1234, using p0stgres!x with cat"),
            "stderr: bad key [redacted], using [redacted]x with [redacted]"
        );
    }

    #[test]
    fn a_value_that_holds_another_is_hidden_whole() {
        let known = [("A", "secret-1"), ("B", "secret-1-and-more")];
        assert_eq!(hidden(&known, "secret-1-and-more secret-1"), "[redacted] [redacted]");
    }

    #[test]
    fn what_is_left_of_a_value_that_was_cut_is_hidden() {
        let text = "the launcher (sh -c x abcd12…) and (y abc…)";
        let hidden = hidden(&[("API_KEY", "abcd1234")], text);
        assert_eq!(hidden, "the launcher (sh -c x [redacted]…) and (y [redacted]…)");
    }

    #[test]
    fn what_says_nothing_is_kept() {
        let known = [("LOG_LEVEL", "warning"), ("PORT", "8080"), ("HOME", "/home/me"), ("X", "")];
        let text = "a warning on port 8080 in /home/me";
        assert_eq!(hidden(&known, text), text);
        assert_eq!(hidden(&[("DB_PASS", "cat")], "concatenate"), "concatenate");
    }
}
