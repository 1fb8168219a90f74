//! Who may ask: the right `Host`, and the token.

use std::net::IpAddr;

use http::{HeaderMap, Request, StatusCode, header, uri::Authority};

use super::{Settings, Token, trouble::Trouble};

/// Lets a request in, or says why not, before its body is read.
#[derive(Debug)]
pub(super) struct Gate {
    token: Token,
    hosts: Vec<String>,
    exposed: Option<IpAddr>,
}

impl Gate {
    pub(super) fn new(settings: &Settings, token: Token) -> Self {
        let hosts = settings.hosts.iter().map(|host| host.to_lowercase()).collect();
        Self { token, hosts, exposed: settings.expose_on }
    }

    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Trouble> {
        self.check_host(request)?;
        self.check_token(request.headers())
    }

    fn check_host<B>(&self, request: &Request<B>) -> Result<(), Trouble> {
        let mut named = request.headers().get_all(header::HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
            _ => None,
        };
        let is_known = |authority: &Authority| self.knows(authority.host());
        if host.as_ref().is_some_and(is_known) && request.uri().authority().is_none_or(is_known) {
            return Ok(());
        }
        Err(Trouble::new(
            StatusCode::FORBIDDEN,
            match &host {
                Some(host) => {
                    format!("the request is for host `{}`, which is not this one", host.host())
                }
                None => "the request has no Host header, or not one that can be read".to_owned(),
            },
            "another name was used for this machine, or a page in a browser tries to reach it (DNS \
             rebinding)",
            "ask http://127.0.0.1 or http://localhost, or let the program list the name \
             (`Settings::hosts`)",
        ))
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.to_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost"
            || address.is_ok_and(|address| address.is_loopback() || self.exposed == Some(address))
            || self.hosts.contains(&host)
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Trouble> {
        let offered = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let bearer = offered.and_then(|offered| match offered.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(token),
            _ => None,
        });
        let what = match (offered, bearer) {
            (_, Some(token)) if self.token.is(token.trim_ascii()) => return Ok(()),
            (_, Some(_)) => "the token is not the one of this API",
            (Some(_), None) => "the Authorization header is not of the scheme Bearer",
            (None, None) => "the request has no Authorization header",
        };
        Err(Trouble::new(
            StatusCode::UNAUTHORIZED,
            what,
            "the token was left out, or is that of an earlier run: unless it is set, each run makes \
             another",
            "send `Authorization: Bearer TOKEN`, with the token that the program was given or told \
             at its start",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn gate(settings: &Settings) -> Gate {
        Gate::new(settings, Token::new(TOKEN).unwrap())
    }

    fn status(gate: &Gate, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri("/metrics");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match gate.admit(&request.body(()).unwrap()) {
            Ok(()) => 200,
            Err(trouble) => trouble.status.as_u16(),
        }
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        let settings = Settings {
            hosts: vec!["Box.Example".to_owned()],
            expose_on: Some("192.0.2.1".parse().unwrap()),
            ..Settings::default()
        };
        let gate = gate(&settings);
        let bearer = ("authorization", "Bearer 0123456789abcdef");
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:80",
            "127.0.0.2",
            "[::1]:80",
            "192.0.2.1",
            "box.example:9",
        ] {
            assert_eq!(status(&gate, &[("host", host), bearer]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.2",
            "0.0.0.0",
            "",
            "a b",
            "127.0.0.1@evil.example",
        ] {
            assert_eq!(status(&gate, &[("host", host), bearer]), 403, "{host}");
        }
        assert_eq!(status(&gate, &[bearer]), 403);
        assert_eq!(status(&gate, &[("host", "localhost"), ("host", "evil.example"), bearer]), 403);
    }

    #[test]
    fn the_host_of_an_absolute_uri_counts_too() {
        let request = Request::builder()
            .uri("http://evil.example/metrics")
            .header("host", "localhost")
            .header("authorization", "Bearer 0123456789abcdef");
        let gate = gate(&Settings::default());
        let refused = gate.admit(&request.body(()).unwrap()).unwrap_err();
        assert_eq!(refused.status, 403);
    }

    #[test]
    fn only_the_whole_token_lets_in() {
        let gate = gate(&Settings::default());
        let with = |value: &str| status(&gate, &[("host", "localhost"), ("authorization", value)]);
        assert_eq!(with("Bearer 0123456789abcdef"), 200);
        assert_eq!(with("bearer 0123456789abcdef "), 200);
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert_eq!(with(value), 401, "{value}");
        }
        assert_eq!(status(&gate, &[("host", "localhost")]), 401);
    }
}
