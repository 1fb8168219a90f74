//! How much a run is to take: the arguments that criterion knows, for the loops that are our own.

/// `cargo bench`, with `-- --quick`, or with `-- --test`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Everything, with as many samples as a median and a 99th percentile want.
    Full,
    /// `--quick`: few samples.
    Quick,
    /// `--test`, or no `--bench` as under `cargo test`: once, to see that it works. Nothing is kept.
    Test,
    /// `--list`: nothing is measured.
    List,
}

impl Effort {
    /// What this program was asked for.
    pub fn of_this_run() -> Effort {
        let words: Vec<String> = std::env::args().skip(1).collect();
        Effort::of(&words)
    }

    /// Whether this program is to measure what criterion does not: not where a filter was given that
    /// names something else.
    pub fn is_for(self, bench: &str) -> bool {
        let words: Vec<String> = std::env::args().skip(1).collect();
        self != Effort::List && filter(&words).is_none_or(|filter| bench.contains(filter))
    }

    fn of(words: &[String]) -> Effort {
        let said = |flag: &str| words.iter().any(|word| word == flag);
        if said("--list") {
            Effort::List
        } else if said("--test") || !said("--bench") {
            Effort::Test
        } else if said("--quick") {
            Effort::Quick
        } else {
            Effort::Full
        }
    }

    /// The number of samples for this effort; one for a test, and none for a list.
    pub fn samples(self, full: usize, quick: usize) -> usize {
        match self {
            Effort::Full => full,
            Effort::Quick => quick,
            Effort::Test => 1,
            Effort::List => 0,
        }
    }
}

/// The word that is neither a flag nor the value of one.
fn filter(words: &[String]) -> Option<&str> {
    const ALONE: &[&str] =
        &["--bench", "--exact", "--list", "--noplot", "--quick", "--quiet", "--test", "--verbose"];
    let mut before = "--bench";
    for word in words {
        if !word.starts_with('-') && (ALONE.contains(&before) || !before.starts_with("--")) {
            return Some(word);
        }
        before = word;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Effort {
        Effort::of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_say_how_much_is_measured() {
        assert_eq!(of("--bench"), Effort::Full);
        assert_eq!(of("--quick --bench"), Effort::Quick);
        assert_eq!(of("--test --bench"), Effort::Test);
        assert_eq!(of(""), Effort::Test, "cargo test runs a benchmark without --bench");
        assert_eq!(of("--list --bench"), Effort::List);
    }

    #[test]
    fn filter_is_told_from_the_value_of_a_flag() {
        let of = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            filter(&words).map(str::to_owned)
        };
        assert_eq!(of("--quick core --bench"), Some("core".to_owned()));
        assert_eq!(of("core --bench"), Some("core".to_owned()));
        assert_eq!(of("--sample-size 10 --bench"), None);
        assert_eq!(of("--bench"), None);
    }
}
