//! Where an HTTP server is reached: a URL, taken apart, and which of the two ways over HTTP it speaks.
//! Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In a URL, a command or a variable: a free port, chosen anew for each life of a server.
pub const PORT: &str = "{port}";
/// The port of `http://` where a URL names none.
const DEFAULT_PORT: u16 = 80;

/// A URL in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an address, as it is written; of an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, with the leading slash.
    pub path: String,
}

/// The two ways over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
    /// One endpoint for POST, GET and DELETE.
    #[default]
    Streamable,
    /// A stream of events by GET, which names the endpoint for POST (revision 2024-11-05).
    Sse,
}

/// Why a text is no URL of a server to judge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// TLS.
    #[error(
        "{0} is behind TLS, which scupper does not speak: traffic is to be exact to the byte. Let the \
         server listen without TLS (http://) for the time of the run"
    )]
    Tls(String),
    /// Another scheme, or none.
    #[error("{0:?} is no http:// URL; write http://127.0.0.1:{{port}}/mcp")]
    Scheme(String),
    /// A host that is none.
    #[error("{0:?} names no host; write http://127.0.0.1:{{port}}/mcp")]
    Host(String),
    /// A port that is none.
    #[error("{0:?}: {1:?} is no port; write a number from 1 to 65535, or {{port}}")]
    Port(String, String),
}

impl Endpoint {
    /// Takes a URL apart.
    pub fn parse(url: &str) -> Result<Self, NoEndpoint> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| NoEndpoint::Scheme(url.to_owned()))?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(NoEndpoint::Tls(url.to_owned())),
            _ => return Err(NoEndpoint::Scheme(url.to_owned())),
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        let no_host = || NoEndpoint::Host(url.to_owned());
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or_else(no_host)?;
                (host, rest.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(no_host());
        }
        if path.chars().any(|c| c.is_ascii_whitespace() || c.is_ascii_control()) {
            return Err(NoEndpoint::Scheme(url.to_owned()));
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(text) => match text.parse() {
                Ok(port @ 1..) => port,
                _ => return Err(NoEndpoint::Port(url.to_owned(), text.to_owned())),
            },
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host: host.to_owned(), port, path })
    }

    /// The endpoint of a URL whose [`PORT`] is this.
    pub fn at(url: &str, port: u16) -> Result<Self, NoEndpoint> {
        Self::parse(&url.replace(PORT, &port.to_string()))
    }

    /// What stands in a `Host` header.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Another place of the same server, as a server names it: a path, or a whole URL.
    #[must_use]
    pub fn beside(&self, place: &str) -> Self {
        match Self::parse(place) {
            Ok(whole) => whole,
            Err(_) if place.starts_with('/') => Self { path: place.to_owned(), ..self.clone() },
            Err(_) => {
                let folder = self.path.split('?').next().unwrap_or_default();
                let folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
                Self { path: format!("{folder}/{place}"), ..self.clone() }
            }
        }
    }
}

/// Name and value of a header as it is written: `Name: value`.
pub fn header_parts(text: &str) -> Result<(&str, &str), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| format!("`{text}` is no header; write `Name: value`"))?;
    let (name, value) = (name.trim(), value.trim());
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err(format!("`{name}` is no name of a header"));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("the value of header `{name}` holds a control character"));
    }
    Ok((name, value))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_put_together_again() {
        for (url, host, port, path) in [
            ("http://127.0.0.1:3001/mcp", "127.0.0.1", 3001, "/mcp"),
            ("HTTP://localhost/mcp?x=1#y", "localhost", 80, "/mcp?x=1"),
            ("http://[::1]:80", "::1", 80, "/"),
            ("http://a.test:9?q", "a.test", 9, "/?q"),
        ] {
            let endpoint = Endpoint::parse(url).expect(url);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port), "{url}");
            assert_eq!(endpoint.path, path, "{url}");
            assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_words() {
        let said = |url: &str| Endpoint::parse(url).expect_err(url).to_string();
        assert!(said("https://a/mcp").contains("TLS"), "{}", said("https://a/mcp"));
        assert!(said("127.0.0.1:80").contains("no http:// URL"));
        assert!(said("http://:80/").contains("no host"));
        assert!(said("http://a:99999/").contains("\"99999\" is no port"));
        assert!(said("http://a:{port}/").contains("is no port"));
        assert!(said("http://a b/").contains("no host"));
        assert!(said("http://a/b c").contains("no http:// URL"));
    }

    #[test]
    fn a_server_names_another_place_by_path_or_by_url() {
        let base = Endpoint::at("http://localhost:{port}/v1/sse", 7).expect("a URL");
        let at = |place: &str| base.beside(place).to_string();
        assert_eq!(at("/messages?id=1"), "http://localhost:7/messages?id=1");
        assert_eq!(at("messages"), "http://localhost:7/v1/messages");
        assert_eq!(at("http://127.0.0.1:8/m"), "http://127.0.0.1:8/m");
    }
}
