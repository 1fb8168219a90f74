//! The core, over stdio and over HTTP.

use std::time::{Duration, Instant};

use benches::mark::{Mark, VARIABLE};
use futures::future::join_all;
use scupper_core::census::Census;
use scupper_core::http::{HttpServer, HttpSettings};
use scupper_core::process::Command;
use scupper_core::stdio::{Rung, Settings, StdioServer, Teardown};
use tokio::runtime::Runtime;

use crate::servers::HttpPeer;
use crate::subject::{Case, End, Ended, PEER, Subject, WAIT, prepare, timed};

pub(crate) struct Stdio<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) census: Census,
    pub(crate) sweep_cookie: bool,
}

impl Subject for Stdio<'_> {
    fn name(&self) -> &str {
        if self.sweep_cookie { "core-stdio-cookie" } else { "core-stdio" }
    }

    /// The cookie makes a difference where somebody left the group, and costs where nobody did.
    fn plays(&self, case: Case, _at_once: usize) -> bool {
        case != SILENT && (!self.sweep_cookie || ["plain", "helper-setsid"].contains(&case.server))
    }

    fn end(&mut self, case: Case, at_once: usize) -> Ended {
        let mark = Mark::fresh();
        let settings = Settings {
            first_grace: WAIT,
            second_grace: WAIT,
            sweep_cookie: self.sweep_cookie,
            ..Settings::default()
        };
        let command = Command::new(PEER).arg(case.server).env(VARIABLE, mark.value());
        let server = StdioServer::new(command).with_settings(settings);
        let census = &self.census;
        let ended = self.runtime.block_on(async {
            let opening = (0..at_once).map(|_| async {
                let client = server.connect((), census).await.expect("the handshake is answered");
                let in_flight = prepare(&client, case).await;
                (client, in_flight)
            });
            let (clients, _in_flight): (Vec<_>, Vec<_>) =
                join_all(opening).await.into_iter().unzip();
            let carriers = mark.carriers();
            let began = Instant::now();
            let closing = clients.into_iter().map(|client| timed(began, client.close()));
            let closed = join_all(closing).await;
            let whole = began.elapsed();
            let left = carriers.alive();
            let rungs = closed.iter().map(|(took, teardown)| rungs(teardown, *took)).collect();
            Ended { whole, each: closed.iter().map(|(took, _)| *took).collect(), rungs, left }
        });
        assert!(census.is_empty(), "{census}");
        ended
    }
}

/// Reaped first where the kernel can ask a group without its leader (Linux 6.9); before, the group is
/// swept first, and what is empty stays empty: then from reaped to empty is no time at all.
fn rungs(teardown: &Teardown, took: Duration) -> Vec<(&'static str, Duration)> {
    assert!(teardown.is_complete(), "{teardown}");
    let at = |rung| teardown.at(rung).unwrap_or_else(|| panic!("no {rung}: {teardown}"));
    let (exited, swept, reaped) = (at(Rung::Exited), at(Rung::Swept), at(Rung::Reaped));
    vec![
        ("eof_to_exit_ms", exited),
        ("exit_to_reaped_ms", reaped.saturating_sub(exited)),
        ("reaped_to_empty_ms", swept.saturating_sub(reaped)),
        ("empty_to_return_ms", took.saturating_sub(swept.max(reaped))),
    ]
}

pub(crate) struct Http<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) census: Census,
    pub(crate) server: &'a HttpPeer,
}

/// Over HTTP the host has no process to end. What ends badly is a server that answers nothing.
pub(crate) const SILENT: Case = Case { server: "silent", end: End::Forced(1) };

impl Subject for Http<'_> {
    fn name(&self) -> &str {
        "core-http"
    }

    fn leaves(&self) -> &'static str {
        "left_sessions"
    }

    fn plays(&self, case: Case, _at_once: usize) -> bool {
        case == SILENT || case.server == "plain" || case.is_busy()
    }

    fn end(&mut self, case: Case, at_once: usize) -> Ended {
        let settings = HttpSettings { delete_wait: WAIT, ..HttpSettings::default() };
        let server = HttpServer::new(self.server.url()).expect("a URL").with_settings(settings);
        let census = &self.census;
        let ended = self.runtime.block_on(async {
            let opening = (0..at_once).map(|_| async {
                let client = server.connect((), census).await.expect("the handshake is answered");
                let in_flight = prepare(&client, case).await;
                (client, in_flight)
            });
            let (clients, _in_flight): (Vec<_>, Vec<_>) =
                join_all(opening).await.into_iter().unzip();
            let frozen = (case == SILENT).then(|| self.server.freeze());
            let began = Instant::now();
            let closing = clients.into_iter().map(|client| timed(began, client.close()));
            let closed = join_all(closing).await;
            let whole = began.elapsed();
            drop(frozen);
            let left = closed.iter().filter(|(_, teardown)| !teardown.session.is_settled()).count();
            let each = closed.iter().map(|(took, _)| *took).collect();
            Ended { whole, each, rungs: Vec::new(), left }
        });
        assert!(census.is_empty(), "{census}");
        ended
    }
}
