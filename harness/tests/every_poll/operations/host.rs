//! Hosts of named servers.

use std::time::Duration;

use scupper_core::host::{Host, OnDuplicate, ServerSpec, Settings, Shutdown};
use serde_json::json;

use super::stdio::{self, PLAIN, STAYS, params};
use crate::operation::{Made, Making, World, holds, words};

/// Longer than any of it takes.
const LONG: Duration = Duration::from_secs(15);

fn settings(world: &World) -> Settings {
    Settings { census: world.census.clone(), ..Settings::default() }
}

fn spec(world: &World, fake: &[&str]) -> ServerSpec {
    stdio::server(world, fake).into()
}

async fn take(host: &Host, world: &World, name: &str, fake: &[&str]) -> Result<(), String> {
    host.add(name, spec(world, fake), OnDuplicate::Refuse).await.map(drop).map_err(words)
}

/// A host with these servers.
async fn host(world: &World, servers: &[(&str, &[&str])]) -> Result<Host, String> {
    let host = Host::new(settings(world));
    for (name, fake) in servers {
        take(&host, world, name, fake).await?;
    }
    Ok(host)
}

fn nothing_left(shutdown: &Shutdown) -> Result<(), String> {
    let complete = |end: &scupper_core::host::ServerEnd| {
        end.connection.as_ref().is_none_or(scupper_core::host::ConnectionEnd::is_complete)
    };
    let good = shutdown.left.is_empty() && shutdown.servers.iter().all(|end| complete(end));
    holds(good, || shutdown.to_string())
}

pub(super) async fn shut_down(host: Host) -> Result<(), String> {
    nothing_left(&*host.shutdown(LONG).await)
}

pub(super) fn add(world: World) -> Making {
    Box::pin(async move {
        let host = host(&world, &[]).await?;
        let adding = host.clone();
        let work = async move { take(&adding, &world, "one", PLAIN).await };
        Ok(Made::new(work, shut_down(host)))
    })
}

pub(super) fn replace(world: World) -> Making {
    Box::pin(async move {
        let host = host(&world, &[("one", PLAIN)]).await?;
        let adding = host.clone();
        let work = async move {
            let added = adding.add("one", spec(&world, PLAIN), OnDuplicate::Replace).await;
            added.map(drop).map_err(words)
        };
        Ok(Made::new(work, shut_down(host)))
    })
}

pub(super) fn add_one_that_dies(world: World) -> Making {
    Box::pin(async move {
        let host = host(&world, &[]).await?;
        let adding = host.clone();
        let work = async move {
            let added = take(&adding, &world, "one", stdio::DIES_AT_ONCE).await;
            holds(added.is_err(), || "it did not die".to_owned())
        };
        Ok(Made::new(work, shut_down(host)).transient())
    })
}

async fn echo(host: &Host) -> Result<(), String> {
    let called = host.call_tool("one", params("echo", json!({"text": "again"}))).await;
    called.map(drop).map_err(words)
}

async fn go_on(host: Host) -> Result<(), String> {
    echo(&host).await?;
    shut_down(host).await
}

pub(super) fn call(world: World) -> Making {
    Box::pin(async move {
        let host = host(&world, &[("one", PLAIN)]).await?;
        let calling = host.clone();
        Ok(Made::new(async move { echo(&calling).await }, go_on(host)).transient())
    })
}

pub(super) fn health(world: World) -> Making {
    Box::pin(async move {
        let host = host(&world, &[("one", PLAIN), ("two", PLAIN)]).await?;
        let looking = host.clone();
        let work = async move {
            let dropped = looking.health().await.dropped;
            holds(dropped.is_empty(), || format!("{} of two were ill", dropped.len()))
        };
        Ok(Made::new(work, go_on(host)).transient())
    })
}

fn removing(world: World, fake: &'static [&'static str]) -> Making {
    Box::pin(async move {
        let host = host(&world, &[("one", PLAIN), ("two", fake)]).await?;
        let from = host.clone();
        let work = async move {
            let end = from.remove("two").await.ok_or("there was none")?;
            holds(end.connection.as_ref().is_some_and(|end| end.is_complete()), || end.to_string())
        };
        // The other is not touched.
        Ok(Made::new(work, go_on(host)))
    })
}

pub(super) fn remove(world: World) -> Making {
    removing(world, PLAIN)
}

pub(super) fn remove_one_that_stays(world: World) -> Making {
    removing(world, STAYS)
}

fn shutting_down(
    world: World,
    servers: &'static [(&'static str, &'static [&'static str])],
    deadline: Duration,
) -> Making {
    Box::pin(async move {
        let host = host(&world, servers).await?;
        let ending = host.clone();
        let work = async move { nothing_left(&*ending.shutdown(deadline).await) };
        Ok(Made::new(work, shut_down(host)))
    })
}

pub(super) fn shutdown(world: World) -> Making {
    shutting_down(world, &[("one", PLAIN), ("two", STAYS)], LONG)
}

pub(super) fn shutdown_that_overruns(world: World) -> Making {
    shutting_down(world, &[("one", PLAIN), ("two", STAYS)], Duration::from_millis(10))
}

pub(super) fn scope(world: World) -> Making {
    Box::pin(async move {
        Ok(Made::alone(async move {
            let inside = world.clone();
            let (called, shutdown) = Host::scope(settings(&world), |host| async move {
                take(&host, &inside, "one", PLAIN).await?;
                echo(&host).await
            })
            .await;
            called?;
            nothing_left(&shutdown)
        }))
    })
}
