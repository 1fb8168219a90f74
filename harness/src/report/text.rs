//! Text for people: made harmless, cut, wrapped, counted.

pub(super) use crate::spelled::count;

/// Longest piece of a subject's own text that is shown, in characters.
pub(super) const LONGEST_LINE: usize = 200;

/// One line that is safe to print: colours go, control characters, invisible and direction-changing
/// ones are escaped, and what is too long is cut, between words where there are some.
pub(super) fn sanitise(text: &str, longest: usize) -> String {
    let mut out = String::with_capacity(text.len().min(longest));
    let mut rest = text.trim_end();
    let mut count = 0;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = after_color(rest) {
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        count += 1;
        if count > longest {
            let whole_words = out.rfind(' ').filter(|space| c != ' ' && space * 2 > out.len());
            out.truncate(whole_words.unwrap_or(out.len()));
            out.push('…');
            break;
        }
        match c {
            '\t' => out.push(' '),
            c if c.is_control() || is_invisible(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// What follows, where a text begins with a sequence that sets a colour: `ESC [ 1 ; 31 m`.
fn after_color(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    parameters
        .trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ';' | ':'))
        .strip_prefix('m')
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Cut to `width` characters, the last one an ellipsis where something is missing; between words
/// where the last word is not most of it.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let end = text.char_indices().nth(width.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    let kept = match text[..end].rfind(' ') {
        Some(space) if !text[end..].starts_with(' ') && space * 2 > end => &text[..space],
        _ => &text[..end],
    };
    format!("{}…", kept.trim_end_matches([' ', ',']))
}

/// Broken at spaces into lines of at most `width` characters. A longer word stays whole, so that
/// paths and commands can be copied. There is always a first line, and its indentation stays.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let words = text.trim_start_matches(' ');
    let mut line = " ".repeat(text.len() - words.len());
    let mut lines = Vec::new();
    let mut is_begun = false;
    for word in words.split(' ') {
        if is_begun && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
            is_begun = false;
        }
        if !is_begun && word.is_empty() {
            continue;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    lines.push(line);
    lines
}

/// A duration as people read one: `4.2 ms`, `532 ms`, `6.00 s`, `125 s`.
pub(super) fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 99_950.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{:.0} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let hostile = "a\u{1b}[2J\u{1b}[1;31mred\u{1b}[m\u{7}\r\nnext\u{202e}txt.exe\u{9b}1m\t.\n";
        let shown = sanitise(hostile, LONGEST_LINE);
        assert_eq!(shown, r"a\u{1b}[2Jred\u{7}\r\nnext\u{202e}txt.exe\u{9b}1m .");
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(sanitise(&"x".repeat(1_000_000), 3), "xxx…");
        assert_eq!(sanitise("one two three", 9), "one two…");
        assert_eq!(sanitise("one two three", 7), "one two…");
        assert_eq!(cut("stdio/clean-close", 8), "stdio/c…");
        assert_eq!(cut("short", 8), "short");
        assert_eq!(cut("one two, three", 12), "one two…");
        assert_eq!(cut("one two three", 8), "one two…");
    }

    #[test]
    fn lines_break_at_spaces_and_words_stay_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a /very/long/path b", 4), ["a", "/very/long/path", "b"]);
        assert_eq!(wrap("  at main  ok", 9), ["  at main", "ok"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn figures_are_short() {
        let figures = [0.04, 4.21, 16.0, 999.7, 6000.0, 99_960.0].map(duration);
        assert_eq!(figures, ["0.0 ms", "4.2 ms", "16 ms", "1.0 s", "6.0 s", "100 s"]);
    }
}
