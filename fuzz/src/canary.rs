//! A body with a fault. It takes a few bytes in the right order to get there, which a fuzzer finds
//! within seconds by coverage and not by luck.

use crate::Reach;

/// Panics once the bytes begin with `leak`.
pub(crate) fn canary(data: &[u8]) -> Reach {
    let mut reached = Reach::Rejected;
    if data.first() == Some(&b'l') {
        reached = Reach::Active;
        if data.get(1) == Some(&b'e') && data.get(2) == Some(&b'a') {
            assert_ne!(data.get(3), Some(&b'k'), "the canary was caught, as it must be");
        }
    }
    reached
}
