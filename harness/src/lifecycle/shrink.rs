//! The shortest lifecycle that still fails, by leaving steps out and then making them simpler.

use super::generate::{Generated, lifecycle_of};

/// Shrinks `found`, which fails, asking `fails` at most `tries` times.
pub fn shrink(
    found: &Generated,
    tries: usize,
    mut fails: impl FnMut(&Generated) -> bool,
) -> Generated {
    let mut best = found.clone();
    let mut left = tries;
    let mut still = |candidate: &Generated| {
        if left == 0 {
            return false;
        }
        left -= 1;
        fails(candidate)
    };
    loop {
        let before = best.clone();
        leave_out(&mut best, &mut still);
        simplify(&mut best, &mut still);
        if best == before {
            return best;
        }
    }
}

/// Halves, quarters and so on, down to single steps.
fn leave_out(best: &mut Generated, still: &mut impl FnMut(&Generated) -> bool) {
    let mut length = best.steps.len();
    while length > 0 {
        let mut from = 0;
        while from < best.steps.len() {
            let mut shorter = best.clone();
            shorter.steps.drain(from..(from + length).min(best.steps.len()));
            if still(&shorter) {
                *best = shorter;
            } else {
                from += length;
            }
        }
        length /= 2;
    }
}

/// Each byte as low as it goes.
fn simplify(best: &mut Generated, still: &mut impl FnMut(&Generated) -> bool) {
    for at in 0..best.bytes().len() {
        let byte = best.bytes()[at];
        for lower in [0, byte / 2, byte.saturating_sub(1)] {
            let mut bytes = best.bytes();
            if lower >= bytes[at] {
                continue;
            }
            bytes[at] = lower;
            let simpler = lifecycle_of(&bytes);
            if still(&simpler) {
                *best = simpler;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::generate::{Act, of_seed};

    #[test]
    fn what_does_not_matter_is_left_out() {
        let has_both = |lifecycle: &Generated| {
            let at = |is: fn(&Act) -> bool| lifecycle.steps.iter().position(|step| is(&step.act));
            let add = at(|act| matches!(act, Act::Add { .. }));
            let remove = at(|act| matches!(act, Act::Remove(_)));
            add.zip(remove).is_some_and(|(add, remove)| add < remove)
        };
        let found = (0..).map(of_seed).find(|found| found.steps.len() > 12 && has_both(found));
        let shrunk = shrink(&found.expect("some seed has both"), 2000, has_both);
        assert_eq!(
            shrunk.to_string(),
            " 1. add server 0, which does all it should\n 2. remove server 0"
        );
    }

    #[test]
    fn it_asks_no_more_often_than_it_may() {
        let mut asked = 0;
        let found = of_seed(3);
        shrink(&found, 10, |_| {
            asked += 1;
            false
        });
        assert!(asked <= 10, "{asked}");
    }
}
