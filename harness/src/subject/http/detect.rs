//! Which era a server speaks, and which of the two ways over HTTP: asked by clients that leave
//! nothing behind.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Play;
use crate::ledger::verdict::{Failure, StepRef};
use crate::lifecycle::endpoint::Wire;
use crate::lifecycle::step::{Era, EraChoice};
use crate::peer::http::control::{Act, Passing, Place, Told};
use crate::peer::wire;
use crate::subject::learn::introduces;

/// The client that asks.
const ASKER: &str = "scupper-asks";
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// A server that listens and is not ready yet says so by these.
const NOT_READY: [u16; 3] = [502, 503, 504];

/// What one question came to.
#[derive(Default)]
struct Reply {
    told: Told,
    introduced: bool,
}

impl Play<'_> {
    /// Finds out what the server speaks, unless it is known.
    pub(super) fn detect(&mut self, at: &StepRef) -> Result<(), Box<Failure>> {
        if self.detected {
            return Ok(());
        }
        let wanted = self.order.lifecycle.era;
        let deadline = Instant::now() + Duration::from_millis(self.order.start_timeout_ms);
        let (modern, legacy) = loop {
            let modern = match wanted {
                EraChoice::Legacy => Reply::default(),
                _ => self.ask(Era::Modern, Wire::Streamable, at)?,
            };
            let legacy = match wanted {
                EraChoice::Modern => Reply::default(),
                _ => self.ask(Era::Legacy, Wire::Streamable, at)?,
            };
            let status = legacy.told.status.or(modern.told.status);
            let waits = status.is_some_and(|status| NOT_READY.contains(&status));
            if !waits || Instant::now() >= deadline {
                break (modern, legacy);
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut eras = Vec::new();
        eras.extend(legacy.introduced.then_some(Era::Legacy));
        eras.extend(modern.introduced.then_some(Era::Modern));
        if let Some(first) = eras.first() {
            self.era = *first;
            self.wire = Wire::Streamable;
        } else if wanted != EraChoice::Modern && self.ask(Era::Legacy, Wire::Sse, at)?.introduced {
            self.era = Era::Legacy;
            self.wire = Wire::Sse;
            eras.push(Era::Legacy);
        } else {
            let message = self.explain(&modern.told, &legacy.told);
            return Err(self.failure(at, message));
        }
        self.learned.eras = eras;
        self.traits().wire = self.wire;
        self.detected = true;
        Ok(())
    }

    /// The first request of an era; a session that comes of it is ended.
    fn ask(&mut self, era: Era, wire: Wire, at: &StepRef) -> Result<Reply, Box<Failure>> {
        let Some(life) = &self.life else { return Ok(Reply::default()) };
        let place = Place { endpoint: life.endpoint.clone(), wire, era, headers: self.headers() };
        let message = wire::first_request(era, 0);
        let mut tell = |act| self.obey(ASKER, act, ANSWER);
        let ask = || -> Result<Reply, String> {
            let opened = tell(Act::Open { place, passing: Passing::All })?;
            if opened.error.is_some() {
                return Ok(Reply { told: opened, introduced: false });
            }
            let told = tell(Act::Post { message, wait: true })?;
            let result = told.answer.as_ref().and_then(|answer| answer.get("result"));
            let introduced = result.is_some_and(|result| introduces(result, era));
            if introduced && era == Era::Legacy {
                let ready = wire::notification(era, "notifications/initialized", Value::Null);
                tell(Act::Post { message: ready, wait: true })?;
                tell(Act::Delete)?;
            }
            tell(Act::Drop)?;
            Ok(Reply { told, introduced })
        };
        ask().map_err(|message| self.failure(at, message))
    }

    /// Why a server that listens cannot be judged, and what to pass.
    fn explain(&self, modern: &Told, legacy: &Told) -> String {
        let url = self.life.as_ref().map(|life| life.endpoint.to_string()).unwrap_or_default();
        let told = if legacy == &Told::default() { modern } else { legacy };
        let tried = match self.order.lifecycle.era {
            EraChoice::Legacy => "POST initialize and GET",
            EraChoice::Modern => "POST server/discover",
            EraChoice::Auto => "POST server/discover, POST initialize and GET",
        };
        let said = told.body.as_ref().map(|body| format!(" ({})", brief(body))).unwrap_or_default();
        let cause = told.error.clone().unwrap_or_else(|| "it answered no such request".to_owned());
        match told.status {
            _ if told.no_http => format!(
                "{url} speaks no HTTP: {cause}. Does it want TLS? Let it listen without, for the time \
                 of the run"
            ),
            Some(status @ (401 | 403)) => format!(
                "{url} answered {status} to {tried}{said}: it wants to be told who asks. Pass what it \
                 wants by --header 'Authorization: Bearer $TOKEN', read from the variable TOKEN and \
                 shown nowhere"
            ),
            Some(404) => format!(
                "{url} answered 404 to {tried}{said}: the server runs, and not at this path; usual \
                 ones are /mcp and /sse"
            ),
            Some(405) => format!(
                "{url} answered 405 to POST, and its GET is no stream of events that names an \
                 endpoint{said}: is this the path of the MCP endpoint?"
            ),
            Some(status @ 500..) => format!(
                "{url} answered {status} to {tried}{said}: the server fails by itself; its last lines \
                 say why, or run it by hand"
            ),
            Some(status) => format!(
                "{url} answered {status} to {tried}{said}, and no MCP server does: is this its \
                 endpoint, and does it speak another era (--era)?"
            ),
            None => format!("{url} did not answer {tried}: {cause}"),
        }
    }
}

fn brief(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut cut: String = one_line.chars().take(120).collect();
    if cut.len() < one_line.len() {
        cut.push('…');
    }
    json!(cut).to_string()
}
