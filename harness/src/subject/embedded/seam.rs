//! What a host and a service are to the engine. Futures borrow nothing, so that several can be
//! under way at once and any of them can be dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;

use crate::ledger::snapshot::{Facts, Identity};
use crate::lifecycle::scenario::duration_ms;

/// Something that is being done; the error says in words why it did not come about.
pub(super) type Acting<T = ()> = Pin<Box<dyn Future<Output = Result<T, String>>>>;

/// A server that a host is given.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// Its name in the host.
    pub(super) name: String,
    /// Where it is.
    pub(super) reach: Reach,
    /// End the one of the same name first; without it, the name is to be free.
    pub(super) replace: bool,
}

/// Where a server is.
#[derive(Debug, Clone)]
pub(super) enum Reach {
    /// To be started, program and arguments.
    Stdio(Vec<String>),
    /// Running, at this address.
    Http(String),
}

/// A host of named servers. Dropping it is dropping it without close.
pub(super) trait Host {
    /// Connects to a server until both sides are ready.
    fn add(&self, server: Server) -> Acting;
    /// Calls a tool of a server.
    fn call(&self, server: &str, tool: &str, arguments: Value) -> Acting;
    /// Asks a server for something else: `tools/list` or `ping`.
    fn request(&self, server: &str, method: &str) -> Acting;
    /// Lets go of a server.
    fn remove(&self, server: &str) -> Acting;
    /// Looks after all servers, and drops the dead.
    fn health(&self) -> Acting;
    /// Lets go of everything.
    fn shutdown(&self) -> Acting;
    /// What is kept, told also when the host is gone.
    fn books(&self) -> Box<dyn Books>;
}

/// A Streamable HTTP server with sessions, at `/mcp`.
pub(super) trait Service {
    /// `127.0.0.1:PORT`.
    fn address(&self) -> String;
    /// Lets go of everything.
    fn shutdown(&self) -> Acting;
    /// What is kept, told also when the service is gone.
    fn books(&self) -> Box<dyn Books>;
}

/// What a host or a service keeps: sessions, cursors, entries. Holds none of it alive.
pub(in crate::subject) trait Books {
    /// Everything kept now.
    fn kept(&self) -> Vec<(Identity, Facts)>;
    /// Pids of the children that it lists, where it lists children.
    fn children(&self) -> Option<BTreeSet<i32>> {
        None
    }
}

/// Options of a host or a service, checked with the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// Its name in the lifecycle.
    pub(super) name: String,
    /// Of the subject and of its start.
    pub(super) options: BTreeMap<String, String>,
    /// Where a database file may be.
    pub(super) sqlite: PathBuf,
    /// Where a Redis is, `127.0.0.1:PORT`.
    pub(super) redis: Option<String>,
}

impl Settings {
    /// An option as it stands in the file or in the list of options.
    pub(super) fn text(&self, key: &str) -> &str {
        use crate::lifecycle::embedded::{HOSTS, SERVICES};
        let given = self.options.get(key).map(String::as_str);
        // All of one sort have the same options.
        let mut known = [HOSTS[0].options, SERVICES[0].options].concat().into_iter();
        given
            .or_else(|| known.find(|(name, _, _)| *name == key).map(|(_, default, _)| default))
            .unwrap_or_default()
    }

    /// An option that is a duration.
    pub(super) fn duration(&self, key: &str) -> Duration {
        Duration::from_millis(duration_ms(self.text(key)).unwrap_or(0))
    }

    /// An option that is a number.
    pub(super) fn number(&self, key: &str) -> usize {
        self.text(key).parse().unwrap_or(0)
    }
}
