//! One thing to tell, laid out as a good compiler does: title, place, what was seen, remarks.

use anstyle::{AnsiColor, Style};

use super::text::{LONGEST_LINE, sanitise, wrap};

/// Longest title, in characters: a failure says what happened and what to change.
const LONGEST_TITLE: usize = 4 * LONGEST_LINE;

/// Bold.
pub(super) const BOLD: Style = Style::new().bold();
/// What is well.
pub(super) const GREEN: Style = AnsiColor::Green.on_default().bold();
/// What makes a run red.
pub(super) const RED: Style = AnsiColor::Red.on_default().bold();
/// What does not, yet is worth a look.
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
/// What could not be seen.
pub(super) const MAGENTA: Style = AnsiColor::Magenta.on_default().bold();
/// Lines and signs that only lead the eye.
pub(super) const FRAME: Style = AnsiColor::BrightBlue.on_default().bold();
/// What may be skipped.
pub(super) const DIM: Style = Style::new().dimmed();

/// How wide and whether in colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) width: usize,
    pub(super) color: bool,
}

impl Page {
    /// The text in a style, or plain.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// A block under construction. All text is made safe here; but for [`Block::list`], nowhere
/// else on its way.
pub(super) struct Block {
    page: Page,
    text: String,
}

impl Block {
    /// Begins with `tag: title`.
    pub(super) fn new(page: Page, style: Style, tag: &str, title: &str) -> Self {
        let mut block = Self { page, text: String::new() };
        let title = sanitise(title, LONGEST_TITLE);
        let mut lines = wrap(&format!("{tag}: {title}"), page.width).into_iter();
        let first = lines.next().unwrap_or_default();
        let rest = first.strip_prefix(tag).unwrap_or_default();
        block.push(&page.paint(style, tag), &page.paint(BOLD, rest));
        for line in lines {
            block.push("  ", &page.paint(BOLD, &line));
        }
        block
    }

    /// `  --> where it happened`
    pub(super) fn place(&mut self, text: &str) {
        self.hang(&["  ", "-->", " "], "", &[sanitise(text, 2 * LONGEST_LINE)]);
    }

    /// An empty line of the frame.
    pub(super) fn gap(&mut self) {
        let bar = self.page.paint(FRAME, "|");
        self.push("   ", &bar);
    }

    /// `   | what was seen`, at most `most` lines.
    pub(super) fn seen(&mut self, lines: &[String], most: usize) {
        for line in lines.iter().take(most) {
            let safe = sanitise(line, LONGEST_LINE);
            let indent = safe.len() - safe.trim_start_matches(' ').len() + 2;
            let bar = self.page.paint(FRAME, "|");
            for (at, part) in wrap(&safe, self.page.width.saturating_sub(5)).iter().enumerate() {
                let indent = " ".repeat(if at == 0 { 0 } else { indent });
                self.push(&format!("   {bar} {indent}"), part);
            }
        }
        if let Some(more) = lines.len().checked_sub(most).filter(|more| *more > 0) {
            self.seen(&[format!("… and {more} more")], 1);
        }
    }

    /// Lines to be copied: outside the frame, and never wrapped.
    pub(super) fn verbatim(&mut self, lines: &[&str]) {
        for line in lines {
            self.push("", &sanitise(line, LONGEST_LINE));
        }
    }

    /// `   = label: remark`
    pub(super) fn remark(&mut self, label: &str, text: &str) {
        self.remarks(label, &[text.to_owned()], 1);
    }

    /// `   = label: remark`, and under it further ones, at most `most`.
    pub(super) fn remarks(&mut self, label: &str, texts: &[String], most: usize) {
        let longest = 2 * LONGEST_LINE;
        let mut lines: Vec<String> =
            texts.iter().take(most).map(|text| sanitise(text, longest)).collect();
        if texts.len() > most {
            lines.push(format!("… and {} more", texts.len() - most));
        }
        self.hang(&["   ", "=", " "], label, &lines);
    }

    /// `   = label: items`, all of them; each has been made safe and short.
    pub(super) fn list(&mut self, label: &str, items: &str) {
        self.hang(&["   ", "=", " "], label, &[items.to_owned()]);
    }

    /// Lines of source below a remark, never wrapped, so that they can be copied.
    pub(super) fn source(&mut self, lines: &[&str]) {
        for line in lines {
            self.push(&" ".repeat("   = mend: ".len()), line);
        }
    }

    /// `   = repeat: command`, in one line however long, so that it can be copied.
    pub(super) fn repeat(&mut self, command: &str) {
        let sign = self.page.paint(FRAME, "=");
        let label = self.page.paint(BOLD, "repeat:");
        self.push(&format!("   {sign} {label} "), &sanitise(command, 2000));
    }

    /// The block, with an empty line after it.
    pub(super) fn finish(mut self) -> String {
        self.text.push('\n');
        self.text
    }

    /// A sign, a label and texts that hang under themselves.
    fn hang(&mut self, [before, sign, after]: &[&str; 3], label: &str, texts: &[String]) {
        let label = if label.is_empty() { String::new() } else { format!("{label}: ") };
        let indent = before.len() + sign.len() + after.len() + label.len();
        let sign = self.page.paint(FRAME, sign);
        let painted = self.page.paint(BOLD, label.trim_end());
        let space = if label.is_empty() { "" } else { " " };
        let mut start = format!("{before}{sign}{after}{painted}{space}");
        for text in texts {
            for line in wrap(text, self.page.width.saturating_sub(indent)) {
                self.push(&start, &line);
                start = " ".repeat(indent);
            }
        }
    }

    fn push(&mut self, start: &str, rest: &str) {
        self.text.push_str(start);
        self.text.push_str(rest);
        let kept = self.text.trim_end_matches(' ').len();
        self.text.truncate(kept);
        self.text.push('\n');
    }
}
