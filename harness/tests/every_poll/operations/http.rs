//! Connections over HTTP, with the reference server in another process.

use rmcp::{Peer, RoleClient};
use scupper_core::host::{Host, OnDuplicate, ServerSpec, Settings};
use scupper_core::http::{HttpClient, HttpServer, HttpTeardown};
use serde_json::json;

use super::stdio::{echo, tool};
use crate::operation::{Made, Making, Slot, World, holds, words};

type Client = HttpClient<()>;

async fn connected(world: &World) -> Result<Client, String> {
    let server = HttpServer::new(&world.url).map_err(words)?;
    server.connect((), &world.census).await.map_err(words)
}

fn ended(teardown: &HttpTeardown) -> Result<(), String> {
    holds(teardown.is_complete(), || teardown.to_string())
}

pub(super) fn connect(world: World) -> Making {
    Box::pin(async move {
        let slot: Slot<Client> = Slot::new();
        let made = slot.clone();
        let work = async move {
            made.put(connected(&world).await?);
            Ok(())
        };
        let end = async move {
            match slot.take() {
                Some(client) => ended(&client.close().await),
                None => Ok(()),
            }
        };
        Ok(Made::new(work, end))
    })
}

/// The connection serves as before, and ends in order.
async fn go_on(client: Client) -> Result<(), String> {
    echo(&client).await?;
    ended(&client.close().await)
}

pub(super) fn call(world: World) -> Making {
    Box::pin(async move {
        let client = connected(&world).await?;
        let peer: Peer<RoleClient> = Peer::clone(&client);
        Ok(Made::new(async move { echo(&peer).await }, go_on(client)))
    })
}

pub(super) fn long_call(world: World) -> Making {
    Box::pin(async move {
        let client = connected(&world).await?;
        let peer: Peer<RoleClient> = Peer::clone(&client);
        let work = async move { tool(&peer, "sleep", json!({"ms": 15})).await };
        Ok(Made::new(work, go_on(client)))
    })
}

pub(super) fn close(world: World) -> Making {
    Box::pin(async move {
        let client = connected(&world).await?;
        echo(&client).await?;
        Ok(Made::alone(async move { ended(&client.close().await) }))
    })
}

pub(super) fn close_by_handle(world: World) -> Making {
    Box::pin(async move {
        let client = connected(&world).await?;
        let handle = client.handle().clone();
        let work = async move { ended(&handle.close().await) };
        // Cut off, it ends on the spot, perhaps without a word to the server; here it has ended.
        let end = async move {
            let teardown = client.close().await;
            holds(teardown.problems.is_empty(), || teardown.to_string())
        };
        Ok(Made::new(work, end))
    })
}

pub(super) fn add(world: World) -> Making {
    Box::pin(async move {
        let settings = Settings { census: world.census.clone(), ..Settings::default() };
        let host = Host::new(settings);
        let adding = host.clone();
        let work = async move {
            let spec = ServerSpec::http(&world.url).map_err(words)?;
            adding.add("far", spec, OnDuplicate::Refuse).await.map(drop).map_err(words)
        };
        Ok(Made::new(work, super::host::shut_down(host)))
    })
}

pub(super) fn remove(world: World) -> Making {
    Box::pin(async move {
        let settings = Settings { census: world.census.clone(), ..Settings::default() };
        let host = Host::new(settings);
        let spec = ServerSpec::http(&world.url).map_err(words)?;
        host.add("far", spec, OnDuplicate::Refuse).await.map_err(words)?;
        let from = host.clone();
        let work = async move {
            let end = from.remove("far").await.ok_or("there was none")?;
            holds(end.is_clean(), || end.to_string())
        };
        Ok(Made::new(work, super::host::shut_down(host)))
    })
}
