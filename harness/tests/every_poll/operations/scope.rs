//! Scopes of tasks, and cleanups.

use std::time::Duration;

use scupper_core::census::Kind;
use scupper_core::cleanup::CleanupPlan;
use scupper_core::scope::{Ready, TaskScope};

use crate::operation::{Made, Making, World, holds, words};

const LONG: Duration = Duration::from_secs(10);

/// A task that takes a moment to be ready and works until it is told to stop.
async fn work_until(
    token: tokio_util::sync::CancellationToken,
    ready: Ready,
) -> Result<(), scupper_core::scope::TaskError> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    ready.signal();
    token.cancelled().await;
    Ok(())
}

pub(super) fn start(world: World) -> Making {
    Box::pin(async move {
        let scope = std::sync::Arc::new(TaskScope::new("poll", &world.census));
        let starting = std::sync::Arc::clone(&scope);
        let work = async move {
            let token = starting.token().clone();
            let ready = starting.start("work", |ready| work_until(token, ready)).map_err(words)?;
            ready.await.map_err(words)
        };
        let end = async move {
            scope.close(LONG).await;
            holds(scope.is_empty(), || format!("{} tasks are left", scope.len()))
        };
        Ok(Made::new(work, end))
    })
}

pub(super) fn close(world: World) -> Making {
    Box::pin(async move {
        let scope = TaskScope::new("poll", &world.census);
        for name in ["one", "two"] {
            let token = scope.token().clone();
            scope
                .start(name, |ready| work_until(token, ready))
                .map_err(words)?
                .await
                .map_err(words)?;
        }
        // It does not hear that it should stop, and is aborted.
        scope.spawn("deaf", async { std::future::pending().await }).map_err(words)?;
        Ok(Made::alone(async move {
            let ended = scope.close(Duration::from_millis(5)).await;
            holds(ended.len() == 3, || format!("{} of three tasks", ended.len()))
        }))
    })
}

pub(super) fn cleanup(world: World) -> Making {
    Box::pin(async move {
        let pause = || async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        };
        let mut plan = CleanupPlan::new()
            .recorded_in(&world.census, Kind::Session, "poll")
            .step("one", LONG, pause)
            .step("two", LONG, pause);
        Ok(Made::alone(async move {
            let report = plan.run().await;
            holds(report.is_complete(), || report.to_string())
        }))
    })
}
