//! What is wrong with a scenario file, where, and what would be right.

use std::{fmt, ops::Range, sync::Arc};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use thiserror::Error;

/// A file that is no scenario. Holds every mistake found, in the order of the file.
#[derive(Debug, Error)]
#[error("{}", self.headline())]
pub struct ScenarioError {
    text: NamedSource<Arc<str>>,
    /// At least one.
    mistakes: Vec<Mistake>,
}

/// One mistake in a scenario file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// A few words at the place itself.
    pub label: String,
    /// Bytes of the file.
    pub span: SourceSpan,
    /// What would be right.
    pub help: Option<String>,
}

impl ScenarioError {
    /// Most mistakes that one error lists.
    pub const MISTAKES: usize = 20;

    /// `mistakes` holds at least one.
    pub(super) fn new(path: &str, text: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.span.offset());
        mistakes.truncate(Self::MISTAKES);
        Self { text: NamedSource::new(path, text.into()), mistakes }
    }

    /// Every mistake, in the order of the file; never empty.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// One error for every mistake, so that each is shown with its own path and line.
    pub fn each(&self) -> impl Iterator<Item = ScenarioError> {
        self.mistakes
            .iter()
            .map(|mistake| Self { text: self.text.clone(), mistakes: vec![mistake.clone()] })
    }

    /// The line of the first mistake, from 1.
    pub fn line(&self) -> usize {
        let before = &self.text.inner().as_bytes()[..self.mistakes[0].span.offset()];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// For places that show no source, so it names path and line itself.
    fn headline(&self) -> String {
        let more = match self.mistakes.len() {
            1 => String::new(),
            2 => " (and 1 more mistake)".to_owned(),
            count => format!(" (and {} more mistakes)", count - 1),
        };
        format!("{}:{}: {}{more}", self.text.name(), self.line(), self.mistakes[0])
    }
}

/// The first mistake; [`ScenarioError::each`] has the others.
impl Diagnostic for ScenarioError {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.mistakes[0].labels()
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.mistakes[0].help()
    }
}

impl Diagnostic for Mistake {
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some(self.label.clone()), self.span);
        Some(Box::new(std::iter::once(label)))
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }
}

impl Mistake {
    pub(super) fn new(
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let help = help.into();
        Self {
            message: message.into(),
            label: label.into(),
            span: span.into(),
            help: (!help.is_empty()).then_some(help),
        }
    }
}

/// The word that was likely meant, where one is near enough to be worth guessing.
pub fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let far = (word.chars().count().min(40) / 3).max(1);
    words
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words, case and the
/// kind of dash not counted.
fn distance(left: &str, right: &str) -> usize {
    let plain = |word: &str| -> Vec<char> {
        let dashed = |c: char| if matches!(c, '_' | ' ') { '-' } else { c.to_ascii_lowercase() };
        word.chars().take(64).map(dashed).collect()
    };
    let (left, right) = (plain(left), plain(right));
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in 0..=left.len() {
        for j in 0..=right.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substituted = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                let best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped =
                    i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
                if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[left.len()][right.len()]
}

/// `` `a`, `b`, `c` ``
pub(super) fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
