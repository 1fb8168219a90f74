//! The core's host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ClientRequest, PingRequest};
use scupper_core::admin::{self, Admin};
use scupper_core::census::Census;
use scupper_core::guard::{Guard, GuardProgram, GuardSettings, run_if_asked};
use scupper_core::host::{Era, Host as CoreHost, HostError, OnDuplicate, Restart, ServerSpec};
use scupper_core::http::{HttpServer, HttpSettings};
use scupper_core::process::Command;
use scupper_core::scope::{TaskError, TaskScope};
use scupper_core::stdio::StdioServer;
use serde_json::Value;

use super::super::seam::{Acting, Books, Host, Reach, Server, Settings};
use super::census::CensusBooks;

/// Longest time for a request.
const CALL: Duration = Duration::from_secs(20);
/// How long a task that takes no notice of its end is waited for, before it is aborted.
const OVERSTAY: Duration = Duration::from_millis(100);
/// Longest time for a shutdown, before it kills.
const SHUTDOWN: Duration = Duration::from_secs(15);

pub(super) struct OurHost {
    host: CoreHost,
    /// What ends the scope that the host is used in, if it is.
    scope: Mutex<Option<Acting>>,
    name: String,
    connect: Duration,
    step: Duration,
    era: Era,
    strays: bool,
    /// Of a task that takes no notice of its end, if it is to have one.
    beside: Option<Arc<TaskScope>>,
    admin: Mutex<Option<Admin>>,
    /// Ended after the host, whose servers it watches over: the fields are dropped in this order.
    guard: Mutex<Option<Guard>>,
}

impl OurHost {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let census = Census::new();
        // Main has begun with this line; here it gives the proof of it.
        let guard_settings = || GuardSettings::new(GuardProgram::Own(run_if_asked()));
        let guard = (settings.text("guard") == "yes")
            .then(|| Guard::start(guard_settings(), &census))
            .transpose()
            .map_err(|error| error.to_string())?;
        let restart = (settings.text("restart") == "yes")
            .then(|| Restart { first_pause: Duration::from_millis(50), ..Default::default() });
        let core = scupper_core::host::Settings {
            census,
            restart,
            guard: guard.as_ref().map(|guard| guard.handle().clone()),
            ..Default::default()
        };
        let (host, scope) = match settings.text("scoped") {
            "yes" => scoped(core),
            _ => (CoreHost::new(core), None),
        };
        let beside = (settings.text("overstays") == "yes").then(|| {
            let scope = Arc::new(TaskScope::new("beside", host.census()));
            // A scope that has just been made takes tasks.
            let _ = scope.spawn("overstays", std::future::pending::<Result<(), TaskError>>());
            scope
        });
        let admin = (settings.text("admin") == "yes")
            .then(|| Admin::start(&host, admin::Settings::default()))
            .transpose()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            host,
            scope: Mutex::new(scope),
            beside,
            era: if settings.text("era") == "initialize" {
                Era::Initialize
            } else {
                Era::default()
            },
            strays: settings.text("strays") == "yes",
            name: settings.name.clone(),
            connect: settings.duration("connect-timeout"),
            step: settings.duration("step-timeout"),
            admin: Mutex::new(admin),
            guard: Mutex::new(guard),
        })
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
                    sweep_cookie: self.strays,
                    ..Default::default()
                };
                let command = Command::new(program).args(arguments);
                let spec: ServerSpec = StdioServer::new(command).with_settings(settings).into();
                Ok(spec.with_era(self.era))
            }
            Reach::Http(url) => {
                let settings = HttpSettings { connect_wait: self.connect, ..Default::default() };
                let server = HttpServer::new(url).map_err(|error| error.to_string())?;
                Ok(ServerSpec::from(server.with_settings(settings)).with_era(self.era))
            }
        }
    }
}

/// A host in a scope of its own, and what has the scope return. Dropped, the scope is cancelled.
fn scoped(settings: scupper_core::host::Settings) -> (CoreHost, Option<Acting>) {
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let lent = Arc::new(Mutex::new(None));
    let lending = Arc::clone(&lent);
    let mut scope = Box::pin(CoreHost::scope(settings.clone(), move |host| async move {
        *lock(&lending) = Some(host);
        // Whoever is gone has left.
        let _ = left.await;
    }));
    // The work of the scope begins with its first poll, and lends the host.
    let begun = scope.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let host = lock(&lent).take();
    match (begun, host) {
        (Poll::Pending, Some(host)) => {
            let leaving: Acting = Box::pin(async move {
                // The scope waits for it.
                let _ = leave.send(());
                let ((), shutdown) = scope.await;
                if shutdown.left.is_empty() { Ok(()) } else { Err(shutdown.to_string()) }
            });
            (host, Some(leaving))
        }
        // A scope that has not begun has nothing to end.
        _ => (CoreHost::new(settings), None),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
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
        Box::pin(async move { host.call_tool(&server, params).await.map(drop).map_err(words) })
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
        Box::pin(async move {
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
        let scope = lock(&self.scope).take();
        let beside = self.beside.clone();
        let (admin, guard) = (lock(&self.admin).take(), lock(&self.guard).take());
        Box::pin(async move {
            if let Some(admin) = admin {
                let _ = admin.close().await;
            }
            if let Some(beside) = beside {
                beside.close(OVERSTAY).await;
            }
            let ended = match scope {
                Some(scope) => scope.await,
                None => {
                    let shutdown = host.shutdown(SHUTDOWN).await;
                    if shutdown.left.is_empty() { Ok(()) } else { Err(shutdown.to_string()) }
                }
            };
            let _ = guard.map(Guard::close);
            ended
        })
    }

    fn books(&self) -> Box<dyn Books> {
        let census = self.host.census().clone();
        Box::new(CensusBooks { census, keeper: format!("host {}", self.name) })
    }
}
