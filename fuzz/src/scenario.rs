//! The scenario parser: no text makes it panic, an error can be shown, and what it accepts passes the
//! check and is the same when written and read again.

use harness::lifecycle::scenario::{check, parse, render};

use crate::Reach;

/// Any bytes, most of which are no scenario.
pub(crate) fn scenario(data: &[u8]) -> Reach {
    let Ok(text) = std::str::from_utf8(data) else { return Reach::Rejected };
    let scenario = match parse("scenarios/fuzz/input.toml", text) {
        Ok(scenario) => scenario,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            for mistake in error.mistakes() {
                let end = mistake.span.offset() + mistake.span.len();
                assert!(end <= text.len(), "{mistake} points past the end");
            }
            return Reach::Rejected;
        }
    };
    assert_eq!(check(&scenario), [], "accepted, and wrong");
    let rendered = render(&scenario);
    match parse("elsewhere.toml", &rendered) {
        Ok(again) => {
            assert_eq!(again, scenario, "changed by being written and read:\n{rendered}");
            assert_eq!(render(&again), rendered);
        }
        Err(error) => panic!("written so that it cannot be read: {error}\n{rendered}"),
    }
    Reach::Active
}
