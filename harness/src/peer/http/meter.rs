//! Counts the bytes of one client, over all its connections, and lets no more of them pass than it is
//! told: the byte sweep cuts there.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::control::Passing;
use crate::lifecycle::sweep::Works;

/// Most ends of messages that are written down, each way.
const ENDS: usize = 10_000;

/// The bytes of a cut have passed: the client says nothing more, and is no worse for it.
#[derive(Debug, thiserror::Error)]
#[error("the client was cut here")]
pub struct WasCut;

impl WasCut {
    /// As an error of whatever was being written or read.
    pub fn error() -> io::Error {
        io::Error::other(WasCut)
    }

    /// Whether this is one.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<WasCut>())
    }
}

/// What has passed so far.
#[derive(Debug)]
pub struct Meter(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    sent: u64,
    read: u64,
    most_sent: Option<u64>,
    most_read: Option<u64>,
    /// The bytes of a cut have passed.
    is_cut: bool,
    works: Option<Works>,
}

impl Meter {
    /// Nothing has passed yet.
    pub fn new(passing: Passing) -> Self {
        let mut passed = Passed::default();
        match passing {
            Passing::All => {}
            Passing::Counted => passed.works = Some(Works::default()),
            Passing::Requests(most) => passed.most_sent = Some(most),
            Passing::Responses(most) => passed.most_read = Some(most),
        }
        passed.is_cut = [passed.most_sent, passed.most_read].contains(&Some(0));
        Self(Mutex::new(passed))
    }

    /// Whoever panicked has left every count as it was.
    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of so many bytes may be sent.
    pub fn may_send(&self, wanted: usize) -> usize {
        let passed = self.lock();
        room(passed.most_sent, passed.sent, wanted)
    }

    /// So many were, of a request whose parts end at these places in it. An error where that was the
    /// last byte.
    pub fn sent(&self, count: usize, ends: &[u64]) -> io::Result<()> {
        let mut passed = self.lock();
        let before = passed.sent;
        if let Some(works) = &mut passed.works {
            note(&mut works.to, before, ends);
        }
        passed.sent += count as u64;
        if passed.most_sent.is_some_and(|most| passed.sent >= most) {
            passed.is_cut = true;
            return Err(WasCut::error());
        }
        Ok(())
    }

    /// How many bytes may be read, where there is room for so many.
    pub fn may_read(&self, wanted: usize) -> usize {
        let passed = self.lock();
        room(passed.most_read, passed.read, wanted)
    }

    /// So many were, and something ends at these places in them. An error where that was the last
    /// byte.
    pub fn read(&self, count: usize, ends: &[u64]) -> io::Result<()> {
        let mut passed = self.lock();
        let before = passed.read;
        if let Some(works) = &mut passed.works {
            note(&mut works.from, before, ends);
        }
        passed.read += count as u64;
        if passed.most_read.is_some_and(|most| passed.read >= most) {
            passed.is_cut = true;
            return Err(WasCut::error());
        }
        Ok(())
    }

    /// From now on it may read again.
    pub fn read_on(&self) {
        self.lock().most_read = None;
    }

    /// From now on everything passes.
    pub fn pass_on(&self) {
        let mut passed = self.lock();
        (passed.most_sent, passed.most_read) = (None, None);
    }

    /// Something ended so many bytes before the last one that was read.
    pub fn read_ends(&self, beyond: u64) {
        let mut passed = self.lock();
        let end = passed.read.saturating_sub(beyond);
        if let Some(works) = &mut passed.works
            && works.from.last().is_none_or(|last| *last < end)
        {
            note(&mut works.from, end, &[0]);
        }
    }

    /// Whether the bytes of a cut have passed.
    pub fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// What was counted.
    pub fn works(&self) -> Option<Works> {
        self.lock().works.clone()
    }
}

fn room(most: Option<u64>, passed: u64, wanted: usize) -> usize {
    let left = most.map_or(u64::MAX, |most| most.saturating_sub(passed));
    usize::try_from(left).map_or(wanted, |left| wanted.min(left))
}

fn note(all: &mut Vec<u64>, before: u64, ends: &[u64]) {
    for end in ends {
        if all.len() < ENDS && all.last() != Some(&(before + end)) {
            all.push(before + end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_bytes_of_a_cut_pass() {
        let meter = Meter::new(Passing::Requests(5));
        assert_eq!((meter.may_send(3), meter.may_read(3)), (3, 3));
        assert!(meter.sent(3, &[2, 4]).is_ok() && meter.read(9, &[]).is_ok());
        assert_eq!((meter.may_send(3), meter.is_cut()), (2, false));
        assert!(WasCut::is(&meter.sent(2, &[1, 2]).expect_err("the last one")));
        assert_eq!((meter.may_send(1), meter.is_cut()), (0, true));
        let from = Meter::new(Passing::Responses(0));
        assert_eq!((from.is_cut(), from.may_read(1), from.may_send(1)), (true, 0, 1));
        from.read_on();
        assert_eq!(from.may_read(1), 1);
        meter.pass_on();
        assert_eq!(meter.may_send(3), 3);
    }

    #[test]
    fn what_is_counted_has_its_ends_in_order() {
        let meter = Meter::new(Passing::Counted);
        assert!(meter.sent(10, &[7, 10]).is_ok() && meter.sent(5, &[5]).is_ok());
        assert!(meter.read(4, &[]).is_ok() && meter.read(4, &[2, 2, 4]).is_ok());
        let works = meter.works().expect("it was counted");
        assert_eq!((works.to, works.from), (vec![7, 10, 15], vec![6, 8]));
        // What was read along with it is the beginning of the next.
        assert!(meter.read(10, &[]).is_ok());
        meter.read_ends(3);
        meter.read_ends(3);
        assert_eq!(meter.works().map(|works| works.from), Some(vec![6, 8, 15]));
    }
}
