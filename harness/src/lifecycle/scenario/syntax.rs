//! What is wrong with a text that is no TOML, in words for whoever has not written much of it.

use toml::de::Error;

use super::{mistake::Mistake, read::shortened};

/// The first mistake in a text that is no TOML: the reader of TOML goes no further.
pub(super) fn mistake(text: &str, error: &Error) -> Mistake {
    let span = error.span().unwrap_or(text.len()..text.len());
    let found = text.get(span.clone()).unwrap_or_default().trim();
    if error.message().contains("duplicate key") {
        let (first, help) = match first_line(text, span.start, found) {
            Some(line) => (
                format!("first in line {line}"),
                format!("keep one of them: line {line}, or this one"),
            ),
            None => ("a second time".to_owned(), "keep one of them".to_owned()),
        };
        let message = format!("`{}` is there twice", shortened(found));
        let list = "; of [[…]] there can be several, of [table] only one";
        return Mistake::new(span, message, first, help + list);
    }
    if found == "null" || found.starts_with("null\n") {
        return Mistake::new(
            span,
            "TOML has no null",
            "not a value of TOML",
            "leave the key out; in `arguments` and `params` a string of JSON may hold one: \
             arguments = '{\"filter\": null}'",
        );
    }
    Mistake::new(
        span,
        error.message(),
        "not TOML from here on",
        "a key and its value look like tool = \"echo\", with text in quotes; a step starts with [[step]]",
    )
}

/// The line, from 1, where a key or a table of this name stands before; none where it is not at the
/// beginning of a line.
fn first_line(text: &str, at: usize, name: &str) -> Option<usize> {
    let is_header = |line: &str| line.trim_start().starts_with('[');
    let before = text.get(..at)?;
    let here = before.rsplit('\n').next()?;
    let lines: Vec<&str> = before.lines().collect();
    let above = if before.ends_with('\n') { &lines[..] } else { lines.split_last()?.1 };
    let found = if is_header(here) {
        let names =
            |line: &&str| is_header(line) && line.trim().trim_matches(['[', ']']).trim() == name;
        above.iter().position(names)
    } else {
        // Keys of another table may have the same name.
        let from = above.iter().rposition(|line| is_header(line)).map_or(0, |header| header + 1);
        let is_it = |line: &&str| {
            let rest = line.trim_start().strip_prefix(name).map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with(['=', '.']))
        };
        above[from..].iter().position(is_it).map(|index| from + index)
    };
    found.map(|index| index + 1)
}
