//! Where the API listens, and its waits and limits.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{MoreFigures, Token};

/// Where the API listens, and its waits and limits. Make one with [`Default`] and change what
/// differs.
#[derive(Clone)]
pub struct Settings {
    /// The port on 127.0.0.1. Default 0: any that is free; [`Admin::address`](super::Admin::address)
    /// tells it.
    pub port: u16,
    /// Listens on this address instead of 127.0.0.1. Whoever can reach it and has the token can start
    /// any program as the user of this process, and the token crosses the network in the clear: put a
    /// TLS proxy or a tunnel in front. Default: none.
    pub expose_on: Option<IpAddr>,
    /// What a request has to carry as `Authorization: Bearer …`. Default: a random one is made;
    /// [`Admin::token`](super::Admin::token) tells it.
    pub token: Option<Token>,
    /// Names, without port, that a `Host` header may have beside `localhost`, loopback addresses and
    /// the address listened on. Other names are refused, because a page in a browser can make its own
    /// name lead here (DNS rebinding). Default: none.
    pub hosts: Vec<String>,
    /// The longest body of a request, in bytes. Default 256 KiB.
    pub body_limit_bytes: usize,
    /// How long a client may take to send its request, from the accepted connection to the end of the
    /// body. Default 10 s.
    pub read_wait: Duration,
    /// How long a request may take to be answered, before it is answered 504. A `POST` that has not
    /// made its server ready by then removes it. Default 60 s.
    pub request_wait: Duration,
    /// How long a client may take to read its answer and close the connection. Default 10 s.
    pub write_wait: Duration,
    /// How many connections are served at once. As many again are answered 503; more are reset.
    /// Default 64.
    pub connection_limit: usize,
    /// How long [`close`](super::Admin::close) lets requests be answered before it cuts them. Default
    /// 5 s.
    pub close_wait: Duration,
    /// Figures of the program's own, beside those of the host, for `/metrics` and `/mcp/census`.
    /// Default: none.
    pub figures: Vec<MoreFigures>,
}

impl Settings {
    pub(super) fn address(&self) -> SocketAddr {
        let address = self.expose_on.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        SocketAddr::new(address, self.port)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 0,
            expose_on: None,
            token: None,
            hosts: Vec::new(),
            body_limit_bytes: 256 * 1024,
            read_wait: Duration::from_secs(10),
            request_wait: Duration::from_secs(60),
            write_wait: Duration::from_secs(10),
            connection_limit: 64,
            close_wait: Duration::from_secs(5),
            figures: Vec::new(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address())
            .field("token", &self.token)
            .field("hosts", &self.hosts)
            .field("body_limit_bytes", &self.body_limit_bytes)
            .field("read_wait", &self.read_wait)
            .field("request_wait", &self.request_wait)
            .field("write_wait", &self.write_wait)
            .field("connection_limit", &self.connection_limit)
            .field("close_wait", &self.close_wait)
            .field("figures", &self.figures.len())
            .finish()
    }
}
