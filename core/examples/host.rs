//! Opens the servers of an `mcpServers` file, lists their tools, calls one, and shuts down:
//! `cargo run -p scupper-core --example host -- FILE [TOOL [ARGUMENTS AS JSON]]`.

use std::{error::Error, path::Path, time::Duration};

use rmcp::model::CallToolRequestParams;
use scupper_core::host::{Host, OnDuplicate, Settings, config};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: host FILE [TOOL [ARGUMENTS AS JSON]]")?;
    let tool = arguments.next();
    let input = arguments.next().unwrap_or_else(|| "{}".to_owned());
    let servers = config::read(Path::new(&file))?;

    let (result, shutdown) = Host::scope(Settings::default(), |host| async move {
        for server in servers.into_iter().filter(|server| !server.is_disabled) {
            let name = server.name.clone();
            if let Err(error) = host.add(server.name, server.spec, OnDuplicate::Refuse).await {
                eprintln!("{name}: {}", chain(&error));
            }
        }
        for (server, tool) in host.tools() {
            println!("{server}: {}", tool.name);
        }
        if let Some(tool) = tool {
            call(&host, tool, &input).await?;
        }
        Ok::<(), Box<dyn Error>>(())
    })
    .await;
    println!("{shutdown}");
    result
}

async fn call(host: &Host, tool: String, input: &str) -> Result<(), Box<dyn Error>> {
    let owners = host.servers_with_tool(&tool);
    let server = owners.first().ok_or_else(|| format!("no server has a tool `{tool}`"))?;
    let params = CallToolRequestParams::new(tool).with_arguments(serde_json::from_str(input)?);
    let answer = tokio::time::timeout(Duration::from_secs(60), host.call_tool(server, params));
    println!("{}", serde_json::to_string_pretty(&answer.await??)?);
    Ok(())
}

/// An error with everything that caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
