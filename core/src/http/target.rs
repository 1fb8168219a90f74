//! The address of a server and the headers that go to it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::HttpServerError;

/// What the transport sets itself.
const OWN_HEADERS: [&str; 12] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "transfer-encoding",
    "upgrade",
];

/// An endpoint: http or https, with a host.
#[derive(Debug)]
pub(super) struct Target {
    url: Arc<str>,
    uri: Uri,
    host: String,
    port: u16,
    https: bool,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, HttpServerError> {
        let given = url;
        // A query may hold a key, and what cannot be parsed a password: neither is shown.
        let url = match url.split_once('?') {
            Some((endpoint, _)) => format!("{endpoint}?…"),
            None => url.to_owned(),
        };
        let wrong = |why: &str| HttpServerError::Url { url: url.clone(), why: why.to_owned() };
        let uri: Uri = given.parse().map_err(|error: http::uri::InvalidUri| {
            let url = if url.contains('@') { "(not shown)".to_owned() } else { url.clone() };
            HttpServerError::Url { url, why: error.to_string() }
        })?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(HttpServerError::Credentials { host: authority.host().to_owned() });
        }
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "tls") => true,
            Some(scheme) => {
                return Err(HttpServerError::Scheme { scheme: scheme.to_owned(), url });
            }
            None => return Err(wrong("it has no scheme")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("its host is empty"));
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self { url: url.into(), host, port, https, uri })
    }

    /// As it was given, its query left out.
    pub(super) fn url(&self) -> &Arc<str> {
        &self.url
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Without the brackets of an IPv6 address.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they are in the URL.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or(&*self.host, |authority| authority.as_str())
    }

    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is https then"))]
    pub(super) fn is_https(&self) -> bool {
        self.https
    }
}

/// Puts a header in. Its value is secret: no trace and no `Debug` shows it.
pub(super) fn put_header(
    headers: &mut HeaderMap,
    name: &str,
    value: &str,
) -> Result<(), HttpServerError> {
    let wrong = |why| HttpServerError::Header { name: name.to_owned(), why };
    let parsed = HeaderName::try_from(name).map_err(|_| wrong("this is no name of a header"))?;
    if OWN_HEADERS.contains(&parsed.as_str()) || parsed.as_str().starts_with("mcp-param-") {
        return Err(wrong("the transport sets it itself"));
    }
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| wrong("its value has characters that no header may have"))?;
    value.set_sensitive(true);
    headers.insert(parsed, value);
    Ok(())
}

/// Puts a bearer token in.
pub(super) fn put_token(headers: &mut HeaderMap, token: &str) -> Result<(), HttpServerError> {
    put_header(headers, header::AUTHORIZATION.as_str(), &format!("Bearer {}", token.trim()))
}
