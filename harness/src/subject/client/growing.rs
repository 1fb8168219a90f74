//! What grew with a client's rounds, by what one look after the other sees while its last server, or
//! its last request, keeps it waiting.
//!
//! What is there in the first look is given time to go away. A client that leaves within that time
//! takes everything with it, and then there is no telling what would have stayed: that is no leak,
//! and it is not clean either.

/// One look.
#[derive(Debug)]
pub(super) struct Look<T> {
    /// It saw the client alive, and whoever starts its servers.
    pub(super) running: bool,
    /// It saw the same twice.
    pub(super) firm: bool,
    /// What has grown by then.
    pub(super) grown: Vec<T>,
}

/// What came of all looks so far.
#[derive(Debug)]
pub(super) struct Growing<T> {
    grown: Vec<T>,
    last: Seen,
}

/// What the last look saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// There was none yet.
    Unseen,
    Something,
    /// Nothing, and whether that is to be believed.
    Nothing {
        firm: bool,
    },
    /// No client, and nothing after that counts.
    Left,
}

/// What is to be said in the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Grew<T> {
    /// Nothing stayed.
    Nothing,
    /// This stayed.
    This(Vec<T>),
    /// The client has left, and had this until then, as far as it was seen.
    Unknown(Vec<T>),
}

impl<T> Growing<T> {
    pub(super) fn new() -> Self {
        Self { grown: Vec::new(), last: Seen::Unseen }
    }

    /// Takes in a look; whether there is nothing to wait for.
    pub(super) fn see(&mut self, look: Look<T>) -> bool {
        let nothing_before = matches!(self.last, Seen::Nothing { .. });
        let is_known = match self.last {
            Seen::Left => true,
            Seen::Nothing { firm } => firm && !look.running,
            Seen::Unseen | Seen::Something => false,
        };
        if !is_known {
            self.last = match (look.running, look.grown.is_empty()) {
                (false, _) => Seen::Left,
                (true, true) => Seen::Nothing { firm: look.firm || nothing_before },
                (true, false) => {
                    // As it is now: a look later the ledger may have lost it.
                    self.grown = look.grown;
                    Seen::Something
                }
            };
        }
        self.last != Seen::Something
    }

    /// What is to be said when the time is over.
    pub(super) fn end(self) -> Grew<T> {
        match self.last {
            Seen::Nothing { .. } => Grew::Nothing,
            Seen::Something => Grew::This(self.grown),
            Seen::Unseen | Seen::Left => Grew::Unknown(self.grown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look that saw the client, and so many things.
    const fn saw(things: usize) -> (bool, bool, usize) {
        (true, true, things)
    }
    /// The same, and what it saw had changed meanwhile.
    const UNSURE: (bool, bool, usize) = (true, false, 0);
    /// A look that saw no client.
    const GONE: (bool, bool, usize) = (false, true, 0);

    fn end_of(looks: &[(bool, bool, usize)]) -> Grew<usize> {
        let mut growing = Growing::new();
        for (running, firm, things) in looks.iter().copied() {
            growing.see(Look { running, firm, grown: (0..things).collect() });
        }
        growing.end()
    }

    #[test]
    fn a_client_that_leaves_before_the_time_is_over_is_neither_clean_nor_to_blame() {
        assert_eq!(end_of(&[saw(2), GONE]), Grew::Unknown(vec![0, 1]));
        assert_eq!(end_of(&[saw(2), saw(1), GONE, GONE]), Grew::Unknown(vec![0]));
        // A look is no proof where nobody was there, nor where much changed meanwhile.
        assert_eq!(end_of(&[GONE, GONE]), Grew::Unknown(vec![]));
        assert_eq!(end_of(&[UNSURE, GONE]), Grew::Unknown(vec![]));
        assert_eq!(end_of(&[saw(1), UNSURE, GONE]), Grew::Unknown(vec![0]));
    }

    #[test]
    fn what_stays_until_the_time_is_over_is_told_and_what_goes_away_is_not() {
        assert_eq!(end_of(&[saw(1), saw(2)]), Grew::This(vec![0, 1]));
        assert_eq!(end_of(&[saw(2), saw(0), saw(0)]), Grew::Nothing);
        assert_eq!(end_of(&[UNSURE, UNSURE, GONE]), Grew::Nothing);
        // Nothing was left to see before it went.
        assert_eq!(end_of(&[saw(0), GONE]), Grew::Nothing);
        assert_eq!(end_of(&[saw(1), saw(0), GONE, GONE]), Grew::Nothing);
    }
}
