//! Lines out of bytes, bounded. Pure.

use std::collections::VecDeque;

/// A buffer that one long line made larger than this is given back.
pub(super) const KEPT_CAPACITY_BYTES: usize = 1024 * 1024;

/// A line was longer than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Collects bytes and gives out whole lines, never holding more than one line above what came in.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the lines not yet given out begin.
    start: usize,
    /// No newline before this position.
    searched: usize,
    limit_bytes: usize,
}

impl LineBuffer {
    /// Gives out lines of at most so many bytes.
    pub fn new(limit_bytes: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, searched: 0, limit_bytes }
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
            if self.bytes.is_empty() && self.bytes.capacity() > KEPT_CAPACITY_BYTES {
                self.bytes = Vec::new();
            }
        }
        self.bytes.extend_from_slice(bytes);
    }

    #[cfg(feature = "sabotage")]
    pub(super) fn is_in_a_line(&self) -> bool {
        self.start < self.bytes.len()
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    /// [`TooLong`], from then on.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let newline = self.bytes[self.searched..].iter().position(|b| *b == b'\n');
        let end = newline.map_or(self.bytes.len(), |at| self.searched + at);
        if end - self.start > self.limit_bytes {
            return Err(TooLong);
        }
        if newline.is_none() {
            self.searched = end;
            return Ok(None);
        }
        let line = &self.bytes[self.start..end];
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

/// What is known of a server's stderr.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StderrTail {
    /// The latest lines, oldest first; a long one is cut and ends in `…`.
    pub lines: Vec<String>,
    /// How many earlier lines were let go.
    pub dropped_lines: u64,
}

/// The latest lines of a stream, each cut at a limit.
#[derive(Debug)]
pub struct LineRing {
    lines: VecDeque<String>,
    dropped_lines: u64,
    partial: Vec<u8>,
    partial_cut: bool,
    capacity: usize,
    line_limit_bytes: usize,
}

impl LineRing {
    /// Keeps so many lines of so many bytes.
    pub fn new(capacity: usize, line_limit_bytes: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            dropped_lines: 0,
            partial: Vec::new(),
            partial_cut: false,
            capacity,
            line_limit_bytes,
        }
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        if let Some(first) = pieces.next() {
            self.extend_partial(first);
        }
        for piece in pieces {
            self.end_line();
            self.extend_partial(piece);
        }
    }

    /// The tail, with the unfinished last line if there is one.
    pub fn tail(&self) -> StderrTail {
        let mut lines: Vec<String> = self.lines.iter().cloned().collect();
        if !self.partial.is_empty() {
            lines.push(self.partial_text());
        }
        StderrTail { lines, dropped_lines: self.dropped_lines }
    }

    fn extend_partial(&mut self, piece: &[u8]) {
        let room = self.line_limit_bytes - self.partial.len();
        self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
        self.partial_cut |= piece.len() > room;
    }

    fn end_line(&mut self) {
        let line = self.partial_text();
        self.partial.clear();
        self.partial_cut = false;
        self.lines.push_back(line);
        while self.lines.len() > self.capacity {
            self.lines.pop_front();
            self.dropped_lines += 1;
        }
    }

    fn partial_text(&self) -> String {
        let text = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let mut text = String::from_utf8_lossy(text).into_owned();
        if self.partial_cut {
            text.push('…');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_whatever_the_pieces() {
        let text = b"one\r\n\ntwo\nthree";
        for size in 1..text.len() {
            let mut buffer = LineBuffer::new(100);
            let mut lines = Vec::new();
            for piece in text.chunks(size) {
                buffer.push(piece);
                while let Some(line) = buffer.next_line().unwrap() {
                    lines.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(lines, ["one", "", "two"], "pieces of {size}");
        }
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_byte_more_does_not() {
        let mut buffer = LineBuffer::new(4);
        buffer.push(b"1234\n12345");
        assert_eq!(buffer.next_line(), Ok(Some(&b"1234"[..])));
        assert_eq!(buffer.next_line(), Err(TooLong));
    }

    #[test]
    fn the_ring_keeps_the_latest_lines_and_cuts_long_ones() {
        let mut ring = LineRing::new(2, 5);
        ring.push(b"first\nsec");
        ring.push(b"ond\nthird\nunfin");
        let tail = ring.tail();
        assert_eq!(tail.lines, ["secon…", "third", "unfin"]);
        assert_eq!(tail.dropped_lines, 1);
    }
}
