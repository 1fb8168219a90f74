//! Generated lifecycles, as `scupper campaign` plays them: a host with servers that misbehave and a
//! service with sessions and cursors, in memory and on a paused clock. After every step the census must
//! agree with a model of what is alive, and at the end no task and no descriptor may be left.
//!
//! Four bytes are a step and every string of bytes is a lifecycle, so that nothing is lost on inputs
//! that are none, and a finding here is one there: both print the same code.

use std::{
    sync::Once,
    time::{Duration, Instant},
};

use harness::{
    lifecycle::{generate::lifecycle_of, shrink::shrink},
    subject::generated::{Disagreement, run},
};

use crate::{Reach, bounded::descriptors};

/// How many lifecycles, and how long, the search for the shortest that fails may take.
const TRIES: usize = 5000;
const SEARCH: Duration = Duration::from_secs(8);

/// Bytes as a lifecycle.
pub(crate) fn lifecycle(data: &[u8]) -> Reach {
    static WARM: Once = Once::new();
    // What is opened once for the whole process is nobody's leak.
    WARM.call_once(|| drop(run(&lifecycle_of(&[0; 4]))));
    let lifecycle = lifecycle_of(data);
    let before = descriptors();
    let played = run(&lifecycle).unwrap_or_else(|found| fail(&found));
    assert_eq!(descriptors(), before, "descriptors before and after\n{lifecycle}");
    Reach::active_if(played.reached > 0)
}

/// Tells what was found first: the search may itself end the process.
fn fail(found: &Disagreement) -> ! {
    eprintln!("found {found}\nlooking for the shortest lifecycle that fails");
    let began = Instant::now();
    let shortest =
        shrink(&found.lifecycle, TRIES, |tried| began.elapsed() < SEARCH && run(tried).is_err());
    let code = shortest.code();
    let found = run(&shortest).err().map_or_else(|| found.clone(), |shorter| *shorter);
    panic!(
        "{found}\nagain: SCUPPER_LIFECYCLE={code} cargo test -p harness --test generated -- \
         one_lifecycle"
    );
}
