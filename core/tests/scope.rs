//! A scope ends all its tasks and tells how each one ended.

use std::{future::pending, time::Duration};

use scupper_core::{
    census::Census,
    scope::{Ending, ScopeError, TaskOutcome, TaskScope},
};

const SOON: Duration = Duration::from_millis(50);

fn ending<'a>(outcomes: &'a [TaskOutcome], name: &str) -> &'a Ending {
    &outcomes
        .iter()
        .find(|outcome| &*outcome.name == name)
        .unwrap_or_else(|| panic!("no outcome of {name}"))
        .ending
}

#[tokio::test]
async fn close_waits_and_tells_every_ending() {
    let census = Census::new();
    let scope = TaskScope::new("test", &census);
    let token = scope.token().clone();
    scope.spawn("finishes", async { Ok(()) }).unwrap();
    scope.spawn("fails", async { Err("broken".into()) }).unwrap();
    scope.spawn("panics", async { panic!("at the disco") }).unwrap();
    scope
        .spawn("obeys", async move {
            token.cancelled().await;
            Ok(())
        })
        .unwrap();
    scope.spawn("overstays", pending()).unwrap();
    assert_eq!((scope.len(), census.len()), (5, 5), "{census}");
    assert!(!scope.is_empty() && !census.is_empty(), "{census}");
    tokio::task::yield_now().await;

    let outcomes = scope.close(SOON).await;

    assert_eq!(outcomes.len(), 5);
    assert!(matches!(ending(&outcomes, "finishes"), Ending::Finished));
    assert!(matches!(ending(&outcomes, "fails"), Ending::Failed(e) if e.to_string() == "broken"));
    assert!(matches!(ending(&outcomes, "panics"), Ending::Panicked(m) if m == "at the disco"));
    assert!(matches!(ending(&outcomes, "obeys"), Ending::Cancelled));
    assert!(matches!(ending(&outcomes, "overstays"), Ending::Aborted));
    assert!(outcomes[0].spawned_at.file().ends_with("scope.rs"));
    assert!(scope.is_empty() && census.is_empty(), "{census}");
    assert!(scope.close(SOON).await.is_empty(), "told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_blocks_its_thread_is_reported_and_stays_in_the_census() {
    let census = Census::new();
    let scope = TaskScope::new("test", &census);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    scope
        .spawn("blocks", async move {
            blocked.recv().ok();
            Ok(())
        })
        .unwrap();
    while !census.rows().iter().any(|row| &*row.name == "blocks") {
        tokio::task::yield_now().await;
    }

    let outcomes = scope.close(SOON).await;

    assert!(matches!(ending(&outcomes, "blocks"), Ending::TimedOut | Ending::Aborted));
    drop(release);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !census.is_empty() {
        assert!(std::time::Instant::now() < deadline, "{census}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn readiness_reaches_the_caller() {
    let census = Census::new();
    let scope = TaskScope::new("test", &census);
    let ready = scope
        .start("listener", |ready| async move {
            tokio::task::yield_now().await;
            ready.signal();
            Ok(())
        })
        .unwrap();
    ready.await.unwrap();
    scope.close(SOON).await;
}

#[tokio::test]
async fn an_error_before_readiness_reaches_the_caller() {
    let census = Census::new();
    let scope = TaskScope::new("test", &census);
    let ready = scope.start("listener", |_ready| async { Err("address in use".into()) }).unwrap();
    let error = ready.await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "task `listener` ended before it was ready: failed: address in use"
    );
    assert!(matches!(error, ScopeError::NotReady { source: Some(_), .. }));

    let panics = scope.start("panics", |_ready| async { panic!("early") }).unwrap();
    let error = panics.await.unwrap_err().to_string();
    assert!(error.ends_with("panicked: early"), "{error}");
    scope.close(SOON).await;
}

#[tokio::test]
async fn a_cancelled_scope_takes_no_tasks() {
    let census = Census::new();
    let scope = TaskScope::new("test", &census);
    scope.cancel();
    let error = scope.spawn("late", async { Ok(()) }).unwrap_err();
    assert_eq!(error.to_string(), "spawning task `late`: scope `test` is closed");
    assert!(census.is_empty());
}

#[tokio::test]
async fn a_dropped_scope_aborts_its_tasks() {
    let census = Census::new();
    let scope = TaskScope::new("test", &census);
    scope.spawn("forever", pending()).unwrap();
    drop(scope);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !census.is_empty() {
        assert!(std::time::Instant::now() < deadline, "{census}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn outside_a_runtime_spawning_is_an_error_and_a_runtime_that_ends_is_an_abort() {
    let census = Census::new();
    let scope = TaskScope::new("test", &census);
    let error = scope.spawn("early", async { Ok(()) }).unwrap_err();
    assert!(matches!(error, ScopeError::NoRuntime { .. }), "{error}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { scope.spawn("forever", pending()).unwrap() });
    drop(runtime);
    assert!(census.is_empty(), "{census}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcomes = runtime.block_on(scope.close(SOON));
    assert!(matches!(ending(&outcomes, "forever"), Ending::Aborted));
}

#[test]
fn the_census_tells_what_is_alive_and_where_it_was_opened() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let census = Census::new();
        assert_eq!(census.to_string(), "nothing is alive");
        let scope = TaskScope::new("fleet", &census);
        scope.spawn("gardener", pending()).unwrap();
        let line = line!() - 1;
        let text = census.to_string();
        assert!(text.starts_with("1 alive\ntask        gardener"), "{text}");
        assert!(text.contains(&format!("scope.rs:{line}:")), "{text}");
        scope.close(SOON).await;
    });
}
