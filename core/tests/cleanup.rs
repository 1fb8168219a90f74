//! Ending a session is a list of steps, and no step can spoil the others.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use scupper_core::{
    census::{Census, Kind},
    cleanup::{CleanupPlan, CleanupReport, StepEnding},
};
use tokio::time::{Instant, timeout};

/// What a step returns.
type Done = Result<(), scupper_core::scope::TaskError>;

const SECOND: Duration = Duration::from_secs(1);

/// Every step appends its name, so that order and presence are proven by one list.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn write(&self, line: &'static str) {
        self.0.lock().expect("no step panics while it writes").push(line);
    }

    fn lines(&self) -> Vec<&'static str> {
        self.0.lock().expect("no step panics while it writes").clone()
    }
}

/// Writes its line when it is dropped.
struct Dropped(Log, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.write(self.1);
    }
}

fn ending<'a>(report: &'a CleanupReport, name: &str) -> &'a StepEnding {
    &report.steps.iter().find(|step| &*step.name == name).expect("an outcome of each step").ending
}

#[tokio::test(start_paused = true)]
async fn every_step_runs_in_order_whatever_became_of_the_others() {
    let log = Log::default();
    let [a, b, c, d, e, f] = std::array::from_fn(|_| log.clone());
    let mut plan = CleanupPlan::new()
        .step("lock", SECOND, || async move {
            a.write("lock");
            Ok(())
        })
        .step("cursors", SECOND, || async move {
            b.write("cursors");
            Err("the store is gone".into())
        })
        .step("browser", SECOND, || async move {
            c.write("browser");
            panic!("page crashed")
        })
        .step("devtools", SECOND, move || {
            d.write("devtools");
            panic!("before the first await");
            #[expect(unreachable_code, reason = "it gives the closure its type")]
            std::future::ready(Ok(()))
        })
        .step("upload", 3 * SECOND, || async move {
            let _held = Dropped(e, "upload dropped");
            pending().await
        })
        .step("directory", SECOND, || async move {
            f.write("directory");
            Ok(())
        });
    let begin = Instant::now();

    let report = plan.run().await;

    assert_eq!(begin.elapsed().as_secs(), 3, "only the step that hangs takes its limit");
    let order = ["lock", "cursors", "browser", "devtools", "upload dropped", "directory"];
    assert_eq!(log.lines(), order);
    let names: Vec<&str> = report.steps.iter().map(|step| &*step.name).collect();
    assert_eq!(names, ["lock", "cursors", "browser", "devtools", "upload", "directory"]);
    assert!(matches!(ending(&report, "lock"), StepEnding::Ended));
    assert!(
        matches!(ending(&report, "cursors"), StepEnding::Failed(e) if e.to_string() == "the store is gone")
    );
    assert!(matches!(ending(&report, "browser"), StepEnding::Panicked(m) if m == "page crashed"));
    assert!(
        matches!(ending(&report, "devtools"), StepEnding::Panicked(m) if m == "before the first await")
    );
    assert!(matches!(ending(&report, "upload"), StepEnding::TimedOut));
    assert!(matches!(ending(&report, "directory"), StepEnding::Ended));
    assert_eq!(report.steps[4].took.as_secs(), 3);
    assert!(!report.is_complete());
    let text = report.to_string();
    assert!(text.starts_with("2 of 6 steps ended\nlock"), "{text}");
    assert!(text.contains("failed: the store is gone"), "{text}");

    let again = plan.run().await;
    assert!(again.is_complete() && again.steps.is_empty(), "told once: {again}");
}

#[tokio::test(start_paused = true)]
async fn no_step_and_no_plan_waits_longer_than_a_day() {
    let mut plan =
        CleanupPlan::new().within(Duration::MAX).step("hangs", Duration::MAX, pending::<Done>);
    assert_eq!(format!("{plan:?}"), r#"CleanupPlan { remaining: ["hangs"], ended: [] }"#);
    let begin = Instant::now();

    let report = plan.run().await;

    assert_eq!(begin.elapsed().as_secs(), 24 * 60 * 60);
    assert!(matches!(ending(&report, "hangs"), StepEnding::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn past_the_total_bound_steps_that_need_not_wait_still_do_their_work() {
    let log = Log::default();
    let (quick, slow) = (log.clone(), log.clone());
    let mut plan = CleanupPlan::new()
        .within(2 * SECOND)
        .step("hangs", Duration::MAX, pending)
        .step("slow", SECOND, || async move {
            slow.write("slow begins");
            tokio::time::sleep(SECOND).await;
            slow.write("slow ends");
            Ok(())
        })
        .step("quick", SECOND, || async move {
            quick.write("quick");
            Ok(())
        });
    let begin = Instant::now();

    let report = plan.run().await;

    assert_eq!(begin.elapsed().as_secs(), 2);
    assert_eq!(log.lines(), ["slow begins", "quick"]);
    assert!(matches!(ending(&report, "hangs"), StepEnding::TimedOut));
    assert!(matches!(ending(&report, "slow"), StepEnding::TimedOut));
    assert!(matches!(ending(&report, "quick"), StepEnding::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_goes_on_where_it_was() {
    let log = Log::default();
    let (first, second, third) = (log.clone(), log.clone(), log.clone());
    let (go, mut gone) = tokio::sync::oneshot::channel::<()>();
    let mut plan = CleanupPlan::new()
        .step("first", SECOND, || async move {
            first.write("first");
            Ok(())
        })
        .step("second", 10 * SECOND, || async move {
            second.write("second begins");
            (&mut gone).await?;
            second.write("second ends");
            Ok(())
        })
        .step("third", SECOND, || async move {
            third.write("third");
            Ok(())
        });

    timeout(SECOND, plan.run()).await.expect_err("the second step waits");
    assert_eq!(plan.remaining().collect::<Vec<_>>(), ["second", "third"]);
    go.send(()).unwrap();
    let report = plan.run().await;

    assert_eq!(log.lines(), ["first", "second begins", "second ends", "third"], "each step once");
    assert!(report.is_complete() && report.steps.len() == 3, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_resumed_step_keeps_its_deadline() {
    let mut plan = CleanupPlan::new().step("hangs", 3 * SECOND, pending);
    let begin = Instant::now();
    for _ in 0..2 {
        timeout(SECOND, plan.run()).await.expect_err("the limit is not over");
    }
    let report = plan.run().await;
    assert_eq!(begin.elapsed().as_secs(), 3, "{report}");
    assert!(matches!(ending(&report, "hangs"), StepEnding::TimedOut));
}

#[tokio::test]
async fn a_panic_in_the_drop_of_a_step_does_not_stop_the_next() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    let log = Log::default();
    let next = log.clone();
    let mut plan = CleanupPlan::new()
        .step("bomb", Duration::from_millis(5), || {
            let bomb = Bomb;
            async move {
                let _armed = &bomb;
                pending().await
            }
        })
        .step("next", SECOND, || async move {
            next.write("next");
            Ok(())
        });
    let report = plan.run().await;
    assert!(matches!(ending(&report, "bomb"), StepEnding::TimedOut), "{report}");
    assert_eq!(log.lines(), ["next"]);
}

#[tokio::test]
async fn a_plan_dropped_with_steps_left_is_recorded() {
    let census = Census::new();
    let ended = CleanupPlan::new().recorded_in(&census, Kind::Session, "ended");
    drop(ended);
    let mut plan = CleanupPlan::new().recorded_in(&census, Kind::Session, "ran");
    plan.add("step", SECOND, || async { Ok(()) });
    assert!(plan.run().await.is_complete());
    drop(plan);
    assert_eq!(census.dropped_without_close(), 0);

    let mut plan = CleanupPlan::new().recorded_in(&census, Kind::Session, "cut off");
    plan.add("hangs", SECOND, pending);
    let mut run = Box::pin(plan.run());
    assert!(is_pending(&mut run).await, "it waits");
    drop(run);
    drop(plan);

    assert_eq!(census.dropped_without_close(), 1);
    let drops = census.drops();
    assert_eq!(drops.len(), 1);
    assert_eq!((drops[0].kind, &*drops[0].name), (Kind::Session, "cut off"));
    assert!(drops[0].opened_at.file().ends_with("cleanup.rs"));
}

/// Polls once: is it pending?
async fn is_pending<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}
