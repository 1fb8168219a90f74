//! `KEY=VALUE` options of a fake, checked before anything runs.

use std::str::FromStr;

use super::registry::FakeInfo;
use crate::lifecycle::scenario::FakeSpec;

/// Why a fake was not run: its name or options are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FakeError {
    /// There is none of this name.
    #[error("no fake is called `{name}`{}; `scupper list fakes` names them", did_you_mean(.nearest))]
    UnknownName {
        /// What was asked for.
        name: String,
        /// The name it was probably meant to be.
        nearest: Option<&'static str>,
    },
    /// It has no clean twin.
    #[error("fake `{name}` has no clean twin; leave out --fixed")]
    NoTwin {
        /// Which fake.
        name: &'static str,
    },
    /// It has a fault of stdio.
    #[error("fake `{name}` speaks stdio only; `scupper list fakes` says which speak HTTP")]
    StdioOnly {
        /// Which fake.
        name: String,
    },
    /// It has a fault of HTTP.
    #[error("fake `{name}` speaks HTTP only; add --http PORT (0: any that is free)")]
    HttpOnly {
        /// Which fake.
        name: String,
    },
    /// It has no such option.
    #[error("fake `{name}` has no option `{key}`{}; {}", did_you_mean(.nearest), known_options(.known))]
    UnknownOption {
        /// Which fake.
        name: &'static str,
        /// What was asked for.
        key: String,
        /// The option it was probably meant to be.
        nearest: Option<&'static str>,
        /// The options it has.
        known: Vec<&'static str>,
    },
    /// The option is known, its value is not one.
    #[error("option `{key}` of fake `{name}` must be {wanted}, not `{value}`")]
    BadValue {
        /// Which fake.
        name: &'static str,
        /// Which option.
        key: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        wanted: String,
    },
}

fn did_you_mean(nearest: &Option<&str>) -> String {
    nearest.map(|nearest| format!(" (did you mean `{nearest}`?)")).unwrap_or_default()
}

fn known_options(known: &[&str]) -> String {
    if known.is_empty() { "it has none".into() } else { format!("it has {}", known.join(", ")) }
}

/// What a fake is built from: every option with a value, given or default.
pub(super) struct Settings<'a> {
    info: &'static FakeInfo,
    spec: &'a FakeSpec,
}

impl<'a> Settings<'a> {
    /// Refuses options the fake does not have.
    pub(super) fn new(info: &'static FakeInfo, spec: &'a FakeSpec) -> Result<Self, FakeError> {
        if spec.fixed && !info.has_twin {
            return Err(FakeError::NoTwin { name: info.name });
        }
        let known: Vec<_> = info.options.iter().map(|(key, _, _)| *key).collect();
        if let Some(key) = spec.options.keys().find(|key| !known.contains(&key.as_str())) {
            let nearest = nearest(key, known.iter().copied());
            return Err(FakeError::UnknownOption {
                name: info.name,
                key: key.clone(),
                nearest,
                known,
            });
        }
        Ok(Self { info, spec })
    }

    /// Whether the clean twin is wanted.
    pub(super) fn fixed(&self) -> bool {
        self.spec.fixed
    }

    /// An option as text.
    pub(super) fn text(&self, key: &str) -> &str {
        self.spec.options.get(key).map_or_else(|| self.row(key).1, String::as_str)
    }

    /// An option as a number or the like.
    pub(super) fn parsed<T: FromStr>(&self, key: &str, wanted: &str) -> Result<T, FakeError> {
        self.text(key).parse().map_err(|_| self.bad_value(key, wanted))
    }

    /// An option that takes one of a few words: which of them, by position.
    pub(super) fn one_of(&self, key: &str, words: &[&str]) -> Result<usize, FakeError> {
        let value = self.text(key);
        let found = words.iter().position(|word| *word == value);
        found.ok_or_else(|| self.bad_value(key, &words.join(" or ")))
    }

    /// The complaint about an option's value.
    pub(super) fn bad_value(&self, key: &str, wanted: &str) -> FakeError {
        FakeError::BadValue {
            name: self.info.name,
            key: self.row(key).0,
            value: self.text(key).to_owned(),
            wanted: wanted.to_owned(),
        }
    }

    fn row(&self, key: &str) -> (&'static str, &'static str) {
        let row = self.info.options.iter().find(|(known, _, _)| *known == key);
        row.map(|(key, default, _)| (*key, *default)).expect("a fake reads only options it has")
    }
}

/// The candidate that takes the fewest edits, if those are few for its length.
pub(super) fn nearest(
    wrong: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    candidates
        .map(|candidate| (edits(wrong, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements between two words (Levenshtein), a row at a time.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}
