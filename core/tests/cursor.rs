//! One battery over every store of cursors: memory, SQLite, Redis.

use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use rmcp::{ErrorData, model::ErrorCode};
use scupper_core::{
    census::Kind,
    cleanup::{CleanupPlan, StepEnding},
    cursor::{CursorError, Settings, WhenFull},
};

#[path = "support/cursor_home.rs"]
mod cursor_home;
#[path = "support/redis_server.rs"]
mod redis_server;
use cursor_home::{FAILS, HANGS, HOLDS, Home, LONG, Opened, PANICS, WORKS, calm};

/// The field report's payload.
const HUNDRED_KIB: usize = 100 * 1024;

/// Every test below, once for each store.
macro_rules! battery {
    ($($test:ident)*) => {
        mod memory { $(
            #[tokio::test]
            async fn $test() { super::$test(super::Home::memory()).await }
        )* }
        mod sqlite { $(
            #[tokio::test]
            async fn $test() { super::$test(super::Home::sqlite()).await }
        )* }
        mod redis { $(
            #[tokio::test]
            async fn $test() {
                let name = concat!("redis::", stringify!($test));
                if let Some(home) = super::Home::redis(name) { super::$test(home).await }
            }
        )* }
    };
}

battery! {
    a_cursor_is_read_by_its_own_session_as_often_as_it_likes
    unknown_and_foreign_cursors_cannot_be_told_apart
    an_expired_cursor_is_unknown_and_is_swept
    a_session_loses_its_oldest_cursor_beyond_its_limit
    limits_refuse_with_what_to_change
    five_cursors_of_100_kib_go_at_disconnect
    ending_session_1_leaves_session_2_its_3_of_3
    an_ended_session_takes_no_cursors_and_its_name_brings_none_back
    a_failing_store_keeps_no_session_and_the_sweep_catches_up
    a_session_that_ends_during_a_put_and_a_read_keeps_nothing_and_tells_nothing
    a_failed_put_is_unreadable_and_is_swept
    a_failed_removal_is_unreadable_and_is_swept
    sessions_that_wait_for_the_store_are_bounded
    a_future_dropped_at_any_poll_leaves_nothing
    the_cleanup_step_reports_and_the_steps_around_it_run
    close_empties_the_store_and_use_after_it_is_an_error
    dropped_without_close_is_recorded_and_the_rows_go
}

async fn a_cursor_is_read_by_its_own_session_as_often_as_it_likes(home: Home) {
    let opened = home.open(calm()).await;
    opened.cursors.open_session("s1").expect("opened");
    let every_byte: Vec<u8> = (0..=255).collect();
    let keeping = opened.cursors.put("s1", every_byte.clone());
    let line = line!() - 1;
    let cursor = keeping.await.expect("kept");
    let empty = opened.put("s1", "").await;
    for _ in 0..2 {
        assert_eq!(opened.cursors.read("s1", &cursor).await.expect("read"), every_byte);
        assert!(opened.cursors.read("s1", &empty).await.expect("read").is_empty());
    }
    assert_eq!((opened.rows(), home.count()), (2, 2), "{}", opened.census);
    let row = opened.census.rows().into_iter().find(|row| row.kind == Kind::Cursor).expect("a row");
    assert_eq!((&*row.name, &*row.state), ("s1", "256 bytes"));
    assert!(row.opened_at.file().ends_with("cursor.rs"), "{}", row.opened_at);
    assert_eq!(row.opened_at.line(), line);
    assert!(!opened.census.to_string().contains(&cursor), "a cursor is a secret");

    assert!(opened.cursors.remove("s1", &cursor).await.expect("removed"));
    assert!(!opened.cursors.remove("s1", &cursor).await.expect("nothing to remove"));
    assert!(opened.is_unknown("s1", &cursor).await);
    assert_eq!((opened.rows(), home.count()), (1, 1));
    opened.drains(&home).await;
}

async fn unknown_and_foreign_cursors_cannot_be_told_apart(home: Home) {
    let opened = home.open(calm()).await;
    for session in ["s1", "s2"] {
        opened.cursors.open_session(session).expect("opened");
    }
    let cursor = opened.put("s1", "mine").await;
    let spelled_otherwise = cursor.to_uppercase();
    let long = "a".repeat(1 << 20);
    let asked = [
        ("s2", &*cursor),
        ("s1", "0123456789abcdef0123456789abcdef"),
        ("s1", ""),
        ("s1", "*"),
        ("s1", &*long),
        ("never opened", &*cursor),
        ("s1", if spelled_otherwise == cursor { "none" } else { &*spelled_otherwise }),
    ];
    let mut answers = Vec::new();
    for (session, cursor) in asked {
        let error = opened.cursors.read(session, cursor).await.expect_err("not readable");
        answers.push(ErrorData::from(error));
        assert!(!opened.cursors.remove(session, cursor).await.expect("not removable"));
    }
    for answer in &answers {
        assert_eq!(answer.code, ErrorCode::INVALID_PARAMS);
        assert_eq!((&answer.message, &answer.data), (&answers[0].message, &None));
    }
    assert!(answers[0].message.contains("list again from the start"), "{}", answers[0].message);
    assert_eq!(opened.cursors.read("s1", &cursor).await.expect("still there"), b"mine");
    opened.drains(&home).await;
}

async fn an_expired_cursor_is_unknown_and_is_swept(home: Home) {
    let opened = home.open(Settings { ttl: Duration::from_millis(30), ..calm() }).await;
    opened.cursors.open_session("s1").expect("opened");
    let cursor = opened.put("s1", "short-lived").await;
    let deadline = Instant::now() + LONG;
    while !opened.is_unknown("s1", &cursor).await {
        assert!(Instant::now() < deadline, "it does not expire");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(opened.rows(), 1, "until the store has forgotten it: {}", opened.census);
    let report = opened.cursors.sweep().await;
    assert!(report.expired == 1 && report.failure.is_none(), "{report:?}");
    assert_eq!((opened.rows(), home.count()), (0, 0), "{}", opened.census);
    assert_eq!(opened.cursors.end_session("s1").await.expect("ended"), 0);
    opened.drains(&home).await;
}

async fn a_session_loses_its_oldest_cursor_beyond_its_limit(home: Home) {
    let opened = home.open(Settings { cursors_per_session: 3, ..calm() }).await;
    opened.cursors.open_session("s1").expect("opened");
    opened.cursors.open_session("s2").expect("opened");
    let others = opened.put("s2", "untouched").await;
    let mut cursors = Vec::new();
    for number in 0..5 {
        cursors.push(opened.put("s1", format!("page {number}")).await);
    }
    for (number, cursor) in cursors.iter().enumerate() {
        assert_eq!(opened.is_unknown("s1", cursor).await, number < 2, "page {number}");
    }
    assert!(opened.cursors.read("s2", &others).await.is_ok());
    assert_eq!((opened.rows(), home.count()), (4, 4));
    opened.drains(&home).await;
}

async fn limits_refuse_with_what_to_change(home: Home) {
    let settings = Settings {
        payload_bytes: 100,
        cursors_per_session: 2,
        when_full: WhenFull::Refuse,
        total_bytes: 250,
        ..calm()
    };
    let opened = home.open(settings).await;
    for session in ["s1", "s2"] {
        opened.cursors.open_session(session).expect("opened");
    }
    let refused = async |session, bytes: usize| {
        opened.cursors.put(session, vec![0; bytes]).await.expect_err("over a limit")
    };
    let error = refused("s1", 101).await;
    assert!(matches!(error, CursorError::PayloadTooLarge { bytes: 101, limit: 100 }), "{error}");
    assert!(error.to_string().contains("`payload_bytes`"), "{error}");

    opened.put("s1", [0; 100]).await;
    let second = opened.put("s1", [0; 100]).await;
    let error = refused("s1", 1).await;
    assert!(matches!(error, CursorError::SessionFull { limit: 2, .. }), "{error}");
    let error = refused("s2", 51).await;
    assert!(
        matches!(error, CursorError::TotalFull { held: 200, bytes: 51, limit: 250 }),
        "{error}"
    );
    assert_eq!((opened.rows(), home.count()), (2, 2));

    let answer = ErrorData::from(error);
    assert_eq!(answer.code, ErrorCode::INTERNAL_ERROR);
    assert!(!answer.message.contains("250"), "limits are for the operator: {}", answer.message);

    opened.put("s2", [0; 50]).await;
    assert!(opened.cursors.remove("s1", &second).await.expect("removed"));
    opened.put("s1", [0; 100]).await;
    assert_eq!(opened.cursors.end_session("s1").await.expect("ended"), 2);
    assert_eq!(opened.cursors.statistics().bytes, 50);
    opened.drains(&home).await;
}

/// Field report 3: five cursors of 100 KiB, all gone when their client is.
async fn five_cursors_of_100_kib_go_at_disconnect(home: Home) {
    let opened = home.open(calm()).await;
    opened.cursors.open_session("s1").expect("opened");
    let mut cursors = Vec::new();
    for number in 0..5u8 {
        cursors.push(opened.put("s1", vec![number; HUNDRED_KIB]).await);
    }
    for (number, cursor) in cursors.iter().enumerate() {
        let payload = opened.cursors.read("s1", cursor).await.expect("read");
        assert!(payload.len() == HUNDRED_KIB && payload.iter().all(|byte| *byte == number as u8));
    }
    assert_eq!((opened.rows(), home.count()), (5, 5), "{}", opened.census);
    assert_eq!(opened.cursors.statistics().bytes, 5 * HUNDRED_KIB);

    assert_eq!(opened.cursors.end_session("s1").await.expect("ended"), 5);

    assert_eq!((opened.rows(), home.count()), (0, 0), "{}", opened.census);
    assert_eq!(opened.cursors.statistics(), Default::default());
    for cursor in &cursors {
        assert!(opened.is_unknown("s1", cursor).await);
    }
    assert_eq!(opened.cursors.end_session("s1").await.expect("nothing to end"), 0);
    opened.drains(&home).await;
}

/// Field report 3: session 1 0 of 3, session 2 3 of 3.
async fn ending_session_1_leaves_session_2_its_3_of_3(home: Home) {
    let opened = home.open(calm()).await;
    let mut cursors = Vec::new();
    for session in ["s1", "s2"] {
        opened.cursors.open_session(session).expect("opened");
        for number in 0..3 {
            cursors.push((session, opened.put(session, format!("{session} {number}")).await));
        }
    }
    assert_eq!(opened.cursors.end_session("s1").await.expect("ended"), 3);
    let mut readable = Vec::new();
    for (session, cursor) in &cursors {
        if let Ok(payload) = opened.cursors.read(session, cursor).await {
            readable.push(String::from_utf8(payload).expect("text"));
        }
    }
    assert_eq!(readable, ["s2 0", "s2 1", "s2 2"]);
    assert_eq!((opened.rows(), home.count()), (3, 3));
    opened.drains(&home).await;
}

async fn an_ended_session_takes_no_cursors_and_its_name_brings_none_back(home: Home) {
    let opened = home.open(calm()).await;
    let error = opened.cursors.put("s1", "early").await.expect_err("not opened");
    assert!(matches!(error, CursorError::NoSession { .. }), "{error}");
    opened.cursors.open_session("s1").expect("opened");
    let error = opened.cursors.open_session("s1").expect_err("once");
    assert!(matches!(error, CursorError::SessionExists { .. }), "{error}");
    let old = opened.put("s1", "old").await;
    assert_eq!(opened.cursors.end_session("s1").await.expect("ended"), 1);
    let error = opened.cursors.put("s1", "late").await.expect_err("ended");
    assert!(matches!(error, CursorError::NoSession { .. }), "{error}");
    opened.cursors.open_session("s1").expect("opened again");
    assert!(opened.is_unknown("s1", &old).await);
    assert_eq!((opened.rows(), home.count()), (0, 0));
    opened.drains(&home).await;
}

async fn a_failing_store_keeps_no_session_and_the_sweep_catches_up(home: Home) {
    for position in [FAILS, HANGS, PANICS] {
        let limit = if position == HANGS { Duration::from_millis(50) } else { LONG };
        let opened = home.open(Settings { store_limit: limit, ..calm() }).await;
        opened.turn(WORKS);
        opened.cursors.open_session("s1").expect("opened");
        let mut cursor = opened.cursors.put("s1", "one").await;
        // A limit that is short enough to be waited for may be over on a busy machine.
        while cursor.is_err() {
            cursor = opened.cursors.put("s1", "one").await;
        }
        let cursor = cursor.expect("kept");
        opened.turn(position);

        let error = opened.cursors.end_session("s1").await.expect_err("the store does not work");

        let text = error.to_string();
        assert!(matches!(error, CursorError::LeftToSweep { cursors: 1.., .. }), "{text}");
        assert!(text.starts_with("session `s1` has ended, and up to "), "{text}");
        let why = ["", "the valve is shut", "no answer within 50 ms", "the valve broke"];
        assert!(text.ends_with(why[usize::from(position)]), "{text}");
        assert!(opened.is_unknown("s1", &cursor).await, "the session has ended");
        assert!(opened.cursors.put("s1", "late").await.is_err());
        assert_eq!(opened.rows(), 1, "what waits has a row: {}", opened.census);
        assert!(opened.census.to_string().contains("wait for the sweep"), "{}", opened.census);
        assert_eq!(opened.cursors.statistics().waiting, 1);
        assert!(home.count() >= 1);
        let report = opened.cursors.sweep().await;
        assert!(report.failure.is_some() && report.caught_up == 0, "{report:?}");

        opened.turn(WORKS);
        let deadline = Instant::now() + LONG;
        while opened.rows() > 0 {
            opened.cursors.sweep().await;
            assert!(Instant::now() < deadline, "{}", opened.census);
        }
        assert_eq!(home.count(), 0);
        assert_eq!(opened.cursors.statistics(), Default::default());
        let mut report = opened.cursors.close().await;
        while !report.is_complete() {
            assert!(Instant::now() < deadline, "{report:?}");
            report = opened.cursors.close().await;
        }
        assert!(opened.census.is_empty(), "{}", opened.census);
    }
}

async fn a_session_that_ends_during_a_put_and_a_read_keeps_nothing_and_tells_nothing(home: Home) {
    let opened = home.open(calm()).await;
    opened.cursors.open_session("s1").expect("opened");
    let first = opened.put("s1", "first").await;
    opened.turn(HOLDS);
    let cursors = &opened.cursors;
    let (put, read, removed, ()) = tokio::join!(
        cursors.put("s1", "second"),
        cursors.read("s1", &first),
        cursors.end_session("s1"),
        async {
            while cursors.statistics().sessions > 0 {
                tokio::task::yield_now().await;
            }
            opened.turn(WORKS);
        }
    );
    let error = put.expect_err("its session has ended");
    assert!(matches!(error, CursorError::NoSession { .. }), "{error}");
    let error = read.expect_err("its session has ended");
    assert!(matches!(error, CursorError::Unknown { .. }), "{error}");
    assert_eq!(removed.expect("ended"), 2, "the end comes after the put that was on its way");
    assert_eq!((opened.rows(), home.count()), (0, 0));
    opened.drains(&home).await;
}

async fn a_failed_removal_is_unreadable_and_is_swept(home: Home) {
    let opened = home.open(calm()).await;
    opened.cursors.open_session("s1").expect("opened");
    let cursor = opened.put("s1", "page").await;
    opened.turn(FAILS);
    let error = opened.cursors.remove("s1", &cursor).await.expect_err("the store fails");
    assert!(error.to_string().starts_with("removing a cursor: asking the test"), "{error}");
    opened.turn(WORKS);
    assert!(opened.is_unknown("s1", &cursor).await);
    assert_eq!((opened.rows(), home.count()), (1, 1), "{}", opened.census);
    assert_eq!(opened.cursors.sweep().await.expired, 1);
    assert_eq!((opened.rows(), home.count()), (0, 0));
    opened.drains(&home).await;
}

async fn a_failed_put_is_unreadable_and_is_swept(home: Home) {
    let opened = home.open(Settings { cursors_per_session: 2, ..calm() }).await;
    opened.cursors.open_session("s1").expect("opened");
    opened.turn(FAILS);
    for _ in 0..4 {
        let error = opened.cursors.put("s1", "lost").await.expect_err("the store fails");
        assert!(matches!(error, CursorError::Store { .. }), "{error}");
    }
    assert_eq!(opened.rows(), 2, "the store may hold what it did not confirm: {}", opened.census);
    opened.turn(WORKS);
    assert_eq!(opened.cursors.sweep().await.expired, 2);
    assert_eq!((opened.rows(), home.count()), (0, 0));
    opened.turn(FAILS);
    opened.cursors.put("s1", "lost").await.expect_err("the store fails");
    opened.cursors.put("s1", "lost").await.expect_err("the store fails");
    opened.turn(WORKS);
    let kept = opened.put("s1", "the lost ones make room").await;
    assert!(opened.cursors.read("s1", &kept).await.is_ok());
    assert_eq!((opened.rows(), home.count()), (1, 1));
    opened.drains(&home).await;
}

async fn sessions_that_wait_for_the_store_are_bounded(home: Home) {
    let opened = home.open(Settings { remembered_sessions: 2, ..calm() }).await;
    let names = ["s1", "s2", "s3", "s4", "s5"];
    for session in names {
        opened.cursors.open_session(session).expect("opened");
        opened.put(session, "page").await;
    }
    opened.turn(FAILS);
    for session in names {
        opened.cursors.end_session(session).await.expect_err("the store fails");
    }
    let statistics = opened.cursors.statistics();
    assert_eq!((statistics.waiting, statistics.given_up), (2, 3), "{statistics:?}");
    assert_eq!((statistics.bytes, opened.rows()), (2 * 4, 2));
    opened.turn(WORKS);
    let report = opened.cursors.sweep().await;
    assert!(report.caught_up == 2 && report.failure.is_none(), "{report:?}");
    assert_eq!((opened.rows(), home.count()), (0, 3), "three are left to their time to live");
    assert!(opened.cursors.close().await.is_complete());
    assert!(opened.census.is_empty());
}

/// Polls up to `polls` times, letting the others run between; then drops. Did it end before?
async fn drop_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        Poll::Pending
    })
    .await
}

async fn a_future_dropped_at_any_poll_leaves_nothing(home: Home) {
    let opened = home.open(calm()).await;
    let mut ended = 0;
    let mut polls = 0;
    while ended < 2 {
        opened.cursors.open_session("s1").expect("opened");
        opened.put("s1", "kept").await;
        let all_put = drop_after(polls, opened.cursors.put("s1", "dropped")).await;
        let all_gone = drop_after(polls, opened.cursors.end_session("s1")).await;
        ended = if all_put && all_gone { ended + 1 } else { 0 };
        assert!(opened.cursors.put("s1", "late").await.is_err(), "the session has ended");
        let report = opened.cursors.sweep().await;
        assert!(report.failure.is_none(), "{report:?}");
        assert_eq!((opened.rows(), home.count()), (0, 0), "after {polls} polls: {}", opened.census);
        polls += 1;
        assert!(polls < 100, "it does not end");
    }
    opened.drains(&home).await;
}

/// Field report 3: the emergency path. One step fails, the cursors' step cannot reach its store, and
/// the session goes all the same.
async fn the_cleanup_step_reports_and_the_steps_around_it_run(home: Home) {
    let opened = home.open(calm()).await;
    for (session, position) in [("works", WORKS), ("fails", FAILS)] {
        opened.cursors.open_session(session).expect("opened");
        opened.put(session, "page").await;
        opened.turn(position);
        let (done, is_done) = tokio::sync::oneshot::channel();
        let mut plan = CleanupPlan::new()
            .step("devtools", LONG, || async { Err("no page".into()) })
            .step("cursors", LONG, opened.cursors.cleanup_step(session))
            .step("browser", LONG, || async move {
                done.send(()).expect("awaited");
                Ok(())
            });
        let report = plan.run().await;
        is_done.await.expect("the step after it ran");
        match &report.steps[1].ending {
            StepEnding::Ended => assert_eq!(position, WORKS),
            StepEnding::Failed(error) => {
                assert_eq!(position, FAILS);
                assert!(error.to_string().contains("next sweep: asking the test"), "{error}");
            }
            ending => panic!("{ending}"),
        }
        assert!(opened.cursors.put(session, "late").await.is_err(), "the session has ended");
        opened.turn(WORKS);
    }
    assert_eq!(opened.cursors.sweep().await.caught_up, 1);
    opened.drains(&home).await;
}

async fn close_empties_the_store_and_use_after_it_is_an_error(home: Home) {
    let opened = home.open(calm()).await;
    for session in ["s1", "s2"] {
        opened.cursors.open_session(session).expect("opened");
        opened.put(session, "page").await;
    }
    let cursor = opened.put("s1", "page").await;
    let clone = opened.cursors.clone();

    let report = opened.cursors.close().await;

    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.removed, report.left), (3, 0));
    assert!(opened.census.is_empty(), "{}", opened.census);
    assert_eq!(home.count(), 0);
    let errors = [
        clone.open_session("s3").expect_err("closed"),
        clone.put("s1", "late").await.expect_err("closed"),
        clone.read("s1", &cursor).await.expect_err("closed"),
    ];
    for error in errors {
        assert!(matches!(error, CursorError::Closed), "{error}");
    }
    assert_eq!(clone.end_session("s1").await.expect("ended by the close"), 0);
    let again = clone.close().await;
    assert!(again.is_complete() && again.removed == 0, "{again:?}");
    drop((opened.cursors, clone));
    assert_eq!(opened.census.dropped_without_close(), 0);
}

async fn dropped_without_close_is_recorded_and_the_rows_go(home: Home) {
    let Opened { census, cursors, valve: _ } = home.open(calm()).await;
    cursors.open_session("s1").expect("opened");
    cursors.put("s1", "page").await.expect("kept");
    let step = cursors.cleanup_step("s1");
    drop(cursors);
    assert_eq!(census.dropped_without_close(), 0, "the step still holds them");
    drop(step);
    let drops = census.drops();
    assert_eq!(drops.len(), 1, "{drops:?}");
    assert_eq!((drops[0].kind, &*drops[0].name), (Kind::Cursor, "cursors"));
    assert!(census.rows().iter().all(|row| row.kind != Kind::Cursor), "{census}");
    let deadline = Instant::now() + LONG;
    while !census.is_empty() {
        assert!(Instant::now() < deadline, "{census}");
        tokio::task::yield_now().await;
    }
}
