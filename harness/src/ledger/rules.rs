//! The rules of the protocol that a lifecycle can break, and how each can be seen from outside.
//!
//! The texts are ours, with the key words of RFC 2119 as the specification has them. An id is
//! `<revision> <page> <id>`, such as `2026-07-28 stdio N9`.

mod table;

pub use table::RULES;

use crate::lifecycle::step::Era;

/// One rule of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `<revision> <page> <id>`, such as `2026-07-28 stdio N9`.
    pub id: &'static str,
    /// The era whose cases it judges.
    pub era: Era,
    /// What it asks for, in sentences.
    pub text: &'static str,
    /// Where a breach shows; empty where nothing shows it from outside.
    pub observed: &'static [Sight],
}

/// Where a breach of a rule shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// In the bytes between client and server.
    Wire,
    /// In the process table: /proc, pidfd, wait status.
    Process,
    /// Only with help of the subject: a tool that leaves a mark, a line on stderr.
    SideChannel,
}

impl Sight {
    /// As lists spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Sight::Wire => "wire",
            Sight::Process => "process",
            Sight::SideChannel => "side channel",
        }
    }
}

impl std::fmt::Display for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rule of that id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

impl Rule {
    /// The first sentence as a fragment: no capital, no full stop.
    pub fn summary(&self) -> String {
        let sentence = match self.text.split_once(". ") {
            Some((first, _)) => first,
            None => self.text.trim_end_matches('.'),
        };
        let mut rest = sentence.chars();
        match (rest.next(), rest.clone().next()) {
            // "The", "A server", but not "HTTP" or "SHOULD".
            (Some(first), second) if !second.is_some_and(char::is_uppercase) => {
                first.to_lowercase().chain(rest).collect()
            }
            _ => sentence.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Revision, page, letters and number of an id: `N10` comes after `N9`.
    fn key(id: &str) -> (&str, &str, &str, u32) {
        let [revision, page, name] = id.split(' ').collect::<Vec<_>>()[..] else {
            panic!("`{id}` is not `<revision> <page> <id>`");
        };
        let digits = name.find(|c: char| c.is_ascii_digit()).expect("a rule's id ends in a number");
        (revision, page, &name[..digits], name[digits..].parse().expect("a number"))
    }

    #[test]
    fn ids_are_canonical_unique_and_sorted() {
        let keys: Vec<_> = RULES.iter().map(|rule| key(rule.id)).collect();
        for pair in keys.windows(2) {
            assert!(pair[0] < pair[1], "{:?} stands before {:?}", pair[0], pair[1]);
        }
    }

    #[test]
    fn an_id_begins_with_the_revision_of_its_era() {
        for rule in RULES {
            assert_eq!(key(rule.id).0, rule.era.revision(), "{}", rule.id);
        }
    }

    #[test]
    fn every_text_obliges_or_permits_in_whole_sentences() {
        for rule in RULES {
            let binding = ["MUST", "SHOULD", "MAY"].iter().any(|word| rule.text.contains(word));
            assert!(binding || rule.id.ends_with(" X3"), "{} binds nobody", rule.id);
            assert!(rule.text.ends_with('.'), "{}", rule.id);
            assert!(!rule.text.contains("  "), "{} has a torn line", rule.id);
        }
    }

    #[test]
    fn the_rule_on_end_of_stdin_binds_servers_of_the_modern_era_only() {
        let exit = rule("2026-07-28 stdio N9").expect("N9 is in the table");
        assert_eq!(exit.summary(), "the server SHOULD exit promptly when its stdin ends");
        assert_eq!(exit.observed, [Sight::Process]);
        assert!(rule("2025-11-25 stdio N9").is_none());
    }

    #[test]
    fn a_summary_keeps_words_that_are_written_in_capitals() {
        let http = rule("2025-11-25 lifecycle X3").expect("X3 is in the table");
        assert!(http.summary().starts_with("HTTP shutdown"), "{}", http.summary());
    }
}
