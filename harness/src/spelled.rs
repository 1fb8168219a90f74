//! One spelling for the words of scenario files and reports, and for those of command lines.

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
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%{}".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
