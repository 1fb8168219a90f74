//! What grew with a client's rounds, by what one look after the other sees while its last server, or
//! its last request, keeps it waiting.
//!
//! What is there in the first look is given time to go away. A client that leaves within that time
//! takes everything with it, and then there is no telling what would have stayed: that is no leak,
//! and it is not clean either. Many let go of things just before they exit, so what has gone away
//! once the client waits no more has gone only if the client is still there when the time is over.

/// One look.
#[derive(Debug)]
pub(super) struct Look<T> {
    /// It saw the client alive, and whoever starts its servers.
    pub(super) running: bool,
    /// It saw the same twice.
    pub(super) firm: bool,
    /// It saw the client still wait for its answer, with all that it waits by.
    pub(super) waiting: bool,
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
                (true, true) => Seen::Nothing {
                    firm: (look.firm || nothing_before) && (look.waiting || self.grown.is_empty()),
                },
                (true, false) => {
                    // As it is now: a look later the ledger may have lost it.
                    self.grown = look.grown;
                    Seen::Something
                }
            };
        }
        matches!(self.last, Seen::Nothing { firm: true } | Seen::Left)
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

    /// A look that saw the client wait, and so many things.
    fn saw(things: usize) -> Look<usize> {
        Look { running: true, firm: true, waiting: true, grown: (0..things).collect() }
    }

    /// One during which something changed, and that saw nothing.
    fn unsure() -> Look<usize> {
        Look { firm: false, ..saw(0) }
    }

    /// One that saw a client which has given up waiting, and so many things.
    fn gave_up(things: usize) -> Look<usize> {
        Look { waiting: false, ..saw(things) }
    }

    /// One that saw no client.
    fn gone() -> Look<usize> {
        Look { running: false, waiting: false, ..saw(0) }
    }

    fn end_of<const N: usize>(looks: [Look<usize>; N]) -> Grew<usize> {
        let mut growing = Growing::new();
        for look in looks {
            growing.see(look);
        }
        growing.end()
    }

    #[test]
    fn a_client_that_leaves_before_the_time_is_over_is_neither_clean_nor_to_blame() {
        assert_eq!(end_of([saw(2), gone()]), Grew::Unknown(vec![0, 1]));
        assert_eq!(end_of([saw(2), saw(1), gone(), gone()]), Grew::Unknown(vec![0]));
        // It has let go of them as it left.
        assert_eq!(end_of([saw(2), gave_up(0), gave_up(0), gone()]), Grew::Unknown(vec![0, 1]));
        // A look is no proof where nobody was there, nor where much changed meanwhile.
        assert_eq!(end_of([gone(), gone()]), Grew::Unknown(vec![]));
        assert_eq!(end_of([unsure(), gone()]), Grew::Unknown(vec![]));
        assert_eq!(end_of([saw(1), unsure(), gone()]), Grew::Unknown(vec![0]));
    }

    #[test]
    fn what_stays_until_the_time_is_over_is_told_and_what_goes_away_is_not() {
        assert_eq!(end_of([saw(1), saw(2)]), Grew::This(vec![0, 1]));
        assert_eq!(end_of([saw(1), gave_up(2)]), Grew::This(vec![0, 1]));
        assert_eq!(end_of([saw(2), saw(0), saw(0)]), Grew::Nothing);
        assert_eq!(end_of([saw(2), gave_up(0), gave_up(0)]), Grew::Nothing);
        assert_eq!(end_of([unsure(), unsure(), gone()]), Grew::Nothing);
        // Nothing was left to see before it went.
        assert_eq!(end_of([saw(0), gone()]), Grew::Nothing);
        assert_eq!(end_of([saw(1), saw(0), gone(), gone()]), Grew::Nothing);
    }

    #[test]
    fn nothing_more_is_waited_for_where_all_is_known() {
        let mut growing = Growing::new();
        assert!(!growing.see(saw(1)));
        // It may be about to leave.
        assert!(!growing.see(gave_up(0)));
        assert!(growing.see(saw(0)));
        assert!(growing.see(gone()));
        assert_eq!(growing.end(), Grew::Nothing);
    }
}
