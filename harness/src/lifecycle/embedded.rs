//! Hosts and services that are played inside the cell: our core, and what stands in for somebody
//! else's software with the leaks that it had. Their names and options; what they do is code.

/// A host or a service, as `scupper list subjects` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedInfo {
    /// As in `host = "NAME"` or `service = "NAME"`.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// Its `KEY=VALUE` options: key, default, what it sets.
    pub options: &'static [(&'static str, &'static str, &'static str)],
}

/// Our own, of either sort.
pub const OURS: &str = "core";

/// Hosts of MCP servers.
pub const HOSTS: &[EmbeddedInfo] = &[
    EmbeddedInfo { name: OURS, about: "our core's host of named servers", options: HOST_OPTIONS },
    EmbeddedInfo {
        name: "chat-client",
        about: "keeps every session and child it ever opened, and one error ends its clean-up",
        options: HOST_OPTIONS,
    },
    EmbeddedInfo {
        name: "cross-task",
        about: "ends a client in another task than the one that opened it, which is refused",
        options: HOST_OPTIONS,
    },
    EmbeddedInfo {
        name: "multiplexer",
        about: "never reaps a child, never closes a pipe, removes nothing",
        options: HOST_OPTIONS,
    },
];

/// Streamable HTTP servers with sessions.
pub const SERVICES: &[EmbeddedInfo] = &[
    EmbeddedInfo {
        name: OURS,
        about: "our core's sessions below rmcp's Streamable HTTP server",
        options: SERVICE_OPTIONS,
    },
    EmbeddedInfo {
        name: "sse-ping",
        about: "pings each stream from a task that outlives its client, and never shuts down",
        options: SERVICE_OPTIONS,
    },
    EmbeddedInfo {
        name: "cursor-server",
        about: "forgets a session's cursors, and keeps the session when a step of its end fails",
        options: SERVICE_OPTIONS,
    },
];

type Options = &'static [(&'static str, &'static str, &'static str)];

const HOST_OPTIONS: Options = &[
    ("connect-timeout", "10s", "how long a server may take until it is ready"),
    ("step-timeout", "500ms", "how long each rung of a shutdown waits"),
    ("scoped", "no", "`yes`: it is used in a scope, whose end its shutdown is"),
    ("restart", "no", "`yes`: servers that die are started again, after a pause"),
    ("era", "auto", "`initialize`: the era of sessions, also where a server has the newer one"),
    ("strays", "no", "`yes`: helpers that left the group of their server are swept as well"),
    ("overstays", "no", "`yes`: a task of the host's takes no notice of its end, and is aborted"),
    (
        "guard",
        "no",
        "`yes`: a guard process watches over its servers, until the host has ended them",
    ),
    ("admin", "no", "`yes`: its admin API listens, on a port of 127.0.0.1, until the host ends"),
];

const SERVICE_OPTIONS: Options = &[
    ("idle", "300ms", "a session that nothing was heard of for so long is swept"),
    ("sweep", "50ms", "how often is looked for idle sessions"),
    ("keep-alive", "50ms", "how often a stream is pinged"),
    ("write-timeout", "500ms", "how long a client may leave what was sent to it unread"),
    ("handshake-timeout", "500ms", "how long a session may take to be ready"),
    ("max-sessions", "64", "sessions at once"),
    ("tools", "12", "tools that are listed, three to a page"),
    ("payload-kib", "100", "size of what a cursor holds"),
    ("cursors", "memory", "where cursors are kept: `memory`, `sqlite` or `redis`"),
    (
        "cursor-ttl",
        "10m",
        "how long a cursor lives; one of 5s or less is due with the list that gave it",
    ),
    ("failing-step", "none", "`devtools` has a step of a session's end fail, `cursors` its store"),
];

/// The one of this name.
pub fn find(all: &'static [EmbeddedInfo], name: &str) -> Option<&'static EmbeddedInfo> {
    all.iter().find(|info| info.name == name)
}
