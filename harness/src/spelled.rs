//! One spelling for the words of scenario files and reports, for those of command lines, and for things
//! that are counted.

/// Gives enums their spelling, all their values in order, and Display.
macro_rules! spelled {
    ($($type:ident { $($variant:ident = $text:literal),+ $(,)? })+) => {$(
        impl $type {
            /// As scenario files and reports spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            /// Every spelling, in order.
            pub const ALL: &'static [$type] = &[$(Self::$variant),+];
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}

/// Words as a shell would take them back.
pub fn shell_words(words: &[String]) -> String {
    let quoted = words.iter().map(|word| match is_plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// No shell takes it for more than it is. A brace within a word is for some the first of a list.
fn is_plain(word: &str) -> bool {
    let bare = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')).unwrap_or(word);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    !bare.is_empty() && bare.chars().all(plain) && (bare == word || !bare.contains(','))
}

/// `1 leak`, `2 leaks`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match (number, noun) {
        (1, noun) => format!("1 {noun}"),
        (number, noun) if noun.ends_with('s') => format!("{number} {noun}es"),
        (number, noun) if noun.ends_with('y') => {
            format!("{number} {}ies", &noun[..noun.len() - 1])
        }
        (number, noun) => match noun.strip_suffix("fe") {
            Some(stem) => format!("{number} {stem}ves"),
            None => format!("{number} {noun}s"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_pasted_into_a_shell() {
        let said = |word: &str| shell_words(&[word.to_owned()]);
        for plain in ["stdio/churn", "--only", "{port}", "{args}", "A=b,c", "http://x:1/mcp"] {
            assert_eq!(said(plain), plain);
        }
        for (word, quoted) in [
            ("http://127.0.0.1:{port}/mcp", "'http://127.0.0.1:{port}/mcp'"),
            ("PORT={port}", "'PORT={port}'"),
            ("{a,b}", "'{a,b}'"),
            ("{}", "'{}'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(said(word), quoted);
        }
    }

    #[test]
    fn nouns_are_counted() {
        assert_eq!(count(1, "advisory"), "1 advisory");
        assert_eq!(count(2, "advisory"), "2 advisories");
        assert_eq!(count(0, "process"), "0 processes");
        assert_eq!([count(1, "life"), count(2, "life")], ["1 life", "2 lives"]);
    }
}
