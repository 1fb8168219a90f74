//! Connections over stdio, with fakes as their servers.

use std::time::Duration;

use rmcp::model::CallToolRequestParams;
use rmcp::{Peer, RoleClient};
use scupper_core::process::Command;
use scupper_core::stdio::{Settings, StdioClient, StdioServer, Teardown};
use serde_json::json;

use crate::operation::{Made, Making, Slot, World, holds, words};

/// One that does everything right.
pub(super) const PLAIN: &[&str] = &["plain"];
/// Ends upon SIGTERM only.
pub(super) const STAYS: &[&str] = &["ignores-eof"];
const DEAF: &[&str] = &["ignores-eof-and-term"];
const LEAVES_A_HELPER: &[&str] = &["helper-same-group", "at=start"];
const DIES: &[&str] = &["exits-before-initialize"];
pub(super) const DIES_AT_ONCE: &[&str] = DIES;
const SILENT: &[&str] = &["never-answers"];

/// Graces that a test can wait for.
pub(super) fn brisk() -> Settings {
    Settings {
        first_grace: Duration::from_millis(60),
        second_grace: Duration::from_millis(60),
        ..Settings::default()
    }
}

/// A fake; its graces are long where it is to end by itself, so that a slow host changes nothing.
pub(super) fn server(world: &World, fake: &[&str]) -> StdioServer {
    let command = Command::new(&world.scupper).arg("fake").args(fake);
    let server = StdioServer::new(command);
    if fake == PLAIN { server } else { server.with_settings(brisk()) }
}

type Client = StdioClient<()>;

async fn connected(world: &World, fake: &[&str]) -> Result<Client, String> {
    server(world, fake).connect((), &world.census).await.map_err(words)
}

fn ended(teardown: &Teardown) -> Result<(), String> {
    holds(teardown.is_complete(), || teardown.to_string())
}

async fn close_what_is_there(slot: Slot<Client>) -> Result<(), String> {
    match slot.take() {
        Some(client) => ended(&client.close().await),
        None => Ok(()),
    }
}

pub(super) fn connect(world: World) -> Making {
    Box::pin(async move {
        let slot = Slot::new();
        let made = slot.clone();
        let work = async move {
            made.put(connected(&world, PLAIN).await?);
            Ok(())
        };
        Ok(Made::new(work, close_what_is_there(slot)))
    })
}

pub(super) fn connect_to_one_that_dies(world: World) -> Making {
    Box::pin(async move {
        Ok(Made::alone(async move {
            let connected = connected(&world, DIES).await;
            holds(connected.is_err(), || "it did not die".to_owned())
        }))
    })
}

pub(super) fn connect_in_vain(world: World) -> Making {
    Box::pin(async move {
        let settings = Settings { connect_wait: Duration::from_millis(60), ..brisk() };
        let server = server(&world, SILENT).with_settings(settings);
        Ok(Made::alone(async move {
            let connected = server.connect((), &world.census).await;
            holds(connected.is_err(), || "it answered".to_owned())
        }))
    })
}

pub(super) async fn echo(peer: &Peer<RoleClient>) -> Result<(), String> {
    tool(peer, "echo", json!({"text": "again"})).await
}

pub(super) async fn tool(
    peer: &Peer<RoleClient>,
    name: &'static str,
    arguments: serde_json::Value,
) -> Result<(), String> {
    peer.call_tool(params(name, arguments)).await.map(drop).map_err(words)
}

pub(super) fn params(name: &'static str, arguments: serde_json::Value) -> CallToolRequestParams {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    CallToolRequestParams::new(name).with_arguments(arguments)
}

/// The connection serves as before, and ends in order.
async fn go_on(client: Client) -> Result<(), String> {
    echo(&client).await?;
    ended(&client.close().await)
}

pub(super) fn call(world: World) -> Making {
    Box::pin(async move {
        let client = connected(&world, PLAIN).await?;
        let peer = Peer::clone(&client);
        Ok(Made::new(async move { echo(&peer).await }, go_on(client)).transient())
    })
}

pub(super) fn long_call(world: World) -> Making {
    Box::pin(async move {
        let client = connected(&world, PLAIN).await?;
        let peer = Peer::clone(&client);
        let work = async move { tool(&peer, "sleep", json!({"ms": 15})).await };
        Ok(Made::new(work, go_on(client)).transient())
    })
}

fn closing(world: World, fake: &'static [&'static str]) -> Making {
    Box::pin(async move {
        let client = connected(&world, fake).await?;
        Ok(Made::alone(async move { ended(&client.close().await) }))
    })
}

pub(super) fn close(world: World) -> Making {
    closing(world, PLAIN)
}

pub(super) fn close_of_one_that_stays(world: World) -> Making {
    closing(world, STAYS)
}

pub(super) fn close_of_a_deaf_one(world: World) -> Making {
    closing(world, DEAF)
}

pub(super) fn close_with_a_helper(world: World) -> Making {
    closing(world, LEAVES_A_HELPER)
}

pub(super) fn close_by_handle(world: World) -> Making {
    Box::pin(async move {
        let client = connected(&world, PLAIN).await?;
        let handle = client.handle().clone();
        let work = async move { ended(&handle.close().await) };
        Ok(Made::new(work, async move { ended(&client.close().await) }))
    })
}
