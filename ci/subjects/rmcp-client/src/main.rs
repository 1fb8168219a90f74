//! A small client on rmcp: connects, lists, calls, closes.
//!
//! ```text
//! rmcp-client [--stay | --rounds N] URL
//! rmcp-client [--stay | --rounds N] COMMAND [ARGS]…
//! ```
//!
//! Over Streamable HTTP where the server is a URL. With `--stay` it keeps its connection until its
//! own stdin ends; with `--rounds` it does all of it N times.

use std::error::Error;

use rmcp::model::CallToolRequestParams;
use rmcp::service::RunningService;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{RoleClient, ServiceExt};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let stay = words.next_if_eq("--stay").is_some();
    let rounds = match words.next_if_eq("--rounds") {
        Some(_) => words.next().ok_or("--rounds needs a number")?.parse()?,
        None => 1,
    };
    let server = words.next().ok_or("a URL or a command is missing")?;
    let arguments: Vec<String> = words.collect();
    for _ in 0..rounds {
        let mut client = connect(&server, &arguments).await?;
        let worked = work(&client, stay).await;
        client.close().await?;
        worked?;
    }
    Ok(())
}

async fn connect(
    server: &str,
    arguments: &[String],
) -> Result<RunningService<RoleClient, ()>, Box<dyn Error>> {
    if server.starts_with("http://") {
        return Ok(().serve(StreamableHttpClientTransport::from_uri(server)).await?);
    }
    let mut command = Command::new(server);
    command.args(arguments);
    Ok(().serve(TokioChildProcess::new(command)?).await?)
}

async fn work(client: &RunningService<RoleClient, ()>, stay: bool) -> Result<(), Box<dyn Error>> {
    client.list_all_tools().await?;
    let text = [("text".to_owned(), "hello".into())].into_iter().collect();
    client.call_tool(CallToolRequestParams::new("echo").with_arguments(text)).await?;
    if stay {
        tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    }
    Ok(())
}
