//! The core's host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ClientRequest, PingRequest};
use scupper_core::census::Census;
use scupper_core::host::{Host as CoreHost, HostError, OnDuplicate, ServerSpec};
use scupper_core::http::{HttpClient, HttpServer, HttpSettings};
use scupper_core::process::Command;
use scupper_core::stdio::StdioServer;
use serde_json::Value;

use super::super::seam::{Acting, Books, Host, Reach, Server, Settings};
use super::census::CensusBooks;

/// Longest time for a request.
const CALL: Duration = Duration::from_secs(20);
/// Longest time for a shutdown, before it kills.
const SHUTDOWN: Duration = Duration::from_secs(15);

pub(super) struct OurHost {
    host: CoreHost,
    /// HTTP servers stand beside the host's own until it takes them.
    web: Arc<Web>,
    name: String,
    connect: Duration,
    step: Duration,
}

type Web = tokio::sync::Mutex<BTreeMap<String, HttpClient<()>>>;

impl OurHost {
    pub(super) fn new(settings: &Settings) -> Self {
        let core = scupper_core::host::Settings { census: Census::new(), ..Default::default() };
        Self {
            host: CoreHost::new(core),
            web: Arc::default(),
            name: settings.name.clone(),
            connect: settings.duration("connect-timeout"),
            step: settings.duration("step-timeout"),
        }
    }

    fn spec(&self, reach: &Reach) -> Result<ServerSpec, String> {
        match reach {
            Reach::Stdio(command) => {
                let [program, arguments @ ..] = command.as_slice() else {
                    return Err("no command".to_owned());
                };
                let settings = scupper_core::stdio::Settings {
                    connect_wait: self.connect,
                    probe_wait: self.connect / 2,
                    first_grace: self.step,
                    second_grace: self.step,
                    ..Default::default()
                };
                let command = Command::new(program).args(arguments);
                Ok(StdioServer::new(command).with_settings(settings).into())
            }
            Reach::Http(_) => Err("not a server of the host".to_owned()),
        }
    }
}

/// An error with all that caused it.
fn words(error: HostError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

impl Host for OurHost {
    fn add(&self, server: Server) -> Acting {
        if let Reach::Http(url) = &server.reach {
            let settings = HttpSettings { connect_wait: self.connect, ..Default::default() };
            let (url, web, census) =
                (url.clone(), Arc::clone(&self.web), self.host.census().clone());
            return Box::pin(async move {
                let reached = HttpServer::new(&url).map_err(|error| error.to_string())?;
                let client = reached.with_settings(settings).connect((), &census).await;
                let client = client.map_err(|error| error.to_string())?;
                web.lock().await.insert(server.name, client);
                Ok(())
            });
        }
        let (host, spec) = (self.host.clone(), self.spec(&server.reach));
        let again = if server.replace { OnDuplicate::Replace } else { OnDuplicate::Refuse };
        Box::pin(async move { host.add(server.name, spec?, again).await.map(drop).map_err(words) })
    }

    fn call(&self, server: &str, tool: &str, arguments: Value) -> Acting {
        let (host, server) = (self.host.clone(), server.to_owned());
        let mut params = CallToolRequestParams::new(tool.to_owned());
        if let Value::Object(arguments) = arguments {
            params = params.with_arguments(arguments);
        }
        let web = Arc::clone(&self.web);
        Box::pin(async move {
            if let Some(client) = web.lock().await.get(&server) {
                return client.call_tool(params).await.map(drop).map_err(|error| error.to_string());
            }
            host.call_tool(&server, params).await.map(drop).map_err(words)
        })
    }

    fn request(&self, server: &str, method: &str) -> Acting {
        let (host, server, method) = (self.host.clone(), server.to_owned(), method.to_owned());
        Box::pin(async move {
            let asked = host.with_peer(&server, CALL, |peer| async move {
                if method == "tools/list" {
                    return peer.list_all_tools().await.map(drop);
                }
                let ping = ClientRequest::PingRequest(PingRequest::default());
                peer.send_request(ping).await.map(drop)
            });
            asked.await.map_err(words)
        })
    }

    fn remove(&self, server: &str) -> Acting {
        let (host, server) = (self.host.clone(), server.to_owned());
        let web = Arc::clone(&self.web);
        Box::pin(async move {
            let client = web.lock().await.remove(&server);
            if let Some(client) = client {
                drop(client.close().await);
                return Ok(());
            }
            match host.remove(&server).await {
                Some(_) => Ok(()),
                None => Err(format!("no server is called {server}")),
            }
        })
    }

    fn health(&self) -> Acting {
        let host = self.host.clone();
        Box::pin(async move {
            let _ = host.health().await;
            Ok(())
        })
    }

    fn shutdown(&self) -> Acting {
        let host = self.host.clone();
        let web = Arc::clone(&self.web);
        Box::pin(async move {
            for client in std::mem::take(&mut *web.lock().await).into_values() {
                drop(client.close().await);
            }
            let shutdown = host.shutdown(SHUTDOWN).await;
            if shutdown.left.is_empty() { Ok(()) } else { Err(shutdown.to_string()) }
        })
    }

    fn books(&self) -> Box<dyn Books> {
        let census = self.host.census().clone();
        Box::new(CensusBooks { census, keeper: format!("host {}", self.name) })
    }
}
