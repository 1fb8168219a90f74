//! Lines out of a byte stream, each bounded. Public for the fuzz targets alone.

use std::os::fd::BorrowedFd;

/// Most bytes of one read: what a pipe holds unless it was made larger.
const CHUNK: usize = 64 << 10;

/// Lines out of a byte stream, each bounded.
pub struct Lines {
    buffer: Vec<u8>,
    /// Bytes of the current line that were read and not kept.
    skipped: u64,
    limit: usize,
}

impl Lines {
    /// Keeps so many bytes of each line.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), skipped: 0, limit }
    }

    /// Reads what is there, at most as much as a pipe holds: whoever reads has other things to do,
    /// too, and what is left wakes it again. Hands over whole lines with their full lengths and
    /// returns the number of bytes read.
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        ended: &mut bool,
        each: impl FnMut(&[u8], u64),
    ) -> u64 {
        self.read_at_most(CHUNK, fd, ended, each)
    }

    /// The same, and no more than so many bytes, of which there must be one.
    pub(super) fn read_at_most(
        &mut self,
        most: usize,
        fd: BorrowedFd<'_>,
        ended: &mut bool,
        mut each: impl FnMut(&[u8], u64),
    ) -> u64 {
        let mut chunk = vec![0_u8; most.min(CHUNK)];
        let count = match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut chunk)) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN) => return 0,
            Err(_) => 0,
        };
        *ended |= count == 0;
        self.take(&chunk[..count], &mut each);
        if *ended && (!self.buffer.is_empty() || self.skipped > 0) {
            self.finish(&mut each);
        }
        count as u64
    }

    /// The kept start and the length so far of a line that is over the limit and has not ended.
    pub(super) fn too_long(&self) -> Option<(&[u8], u64)> {
        let length = self.buffer.len() as u64 + self.skipped;
        (self.skipped > 0).then_some((self.buffer.as_slice(), length))
    }

    /// What was kept of a line that has not ended; none between two lines.
    pub fn begun(&self) -> Option<&[u8]> {
        (!self.buffer.is_empty()).then_some(self.buffer.as_slice())
    }

    /// Takes in bytes, and hands over the lines that end in them.
    pub fn take(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8], u64)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end]);
            self.finish(each);
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.buffer.len()).min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..room]);
        self.skipped += (bytes.len() - room) as u64;
    }

    fn finish(&mut self, each: &mut impl FnMut(&[u8], u64)) {
        let length = self.buffer.len() as u64 + self.skipped;
        // A cut line is no message any more; a mark in front makes sure that it is not read as one.
        if self.skipped > 0 {
            self.buffer.insert(0, b'~');
        }
        if length > 0 {
            each(&self.buffer, length);
        }
        self.buffer.clear();
        self.buffer.shrink_to(CHUNK);
        self.skipped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(limit: usize, chunks: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let mut lines = Lines::new(limit);
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.take(chunk, &mut |line: &[u8], length| seen.push((line.to_vec(), length)));
        }
        seen
    }

    #[test]
    fn lines_are_the_same_however_they_are_split() {
        let whole = lines_of(100, &[b"one\ntwo\nthree\n"]);
        for cut in 0..14 {
            let (left, right) = b"one\ntwo\nthree\n".split_at(cut);
            assert_eq!(lines_of(100, &[left, right]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_that_has_not_ended_is_known_while_it_lasts() {
        let mut lines = Lines::new(100);
        for (bytes, begun) in [("on", Some("on")), ("e\n", None), ("two\nth", Some("th"))] {
            lines.take(bytes.as_bytes(), &mut |_: &[u8], _| {});
            assert_eq!(lines.begun(), begun.map(str::as_bytes), "after {bytes:?}");
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_its_length_is_told() {
        assert_eq!(lines_of(4, &[b"0123456789", b"\n"]), vec![(b"~0123".to_vec(), 10)]);
    }
}
