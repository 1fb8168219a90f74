//! The list of fake clients over HTTP.

use super::super::registry::{FakeClientError, Rounds};
use crate::lifecycle::{client::ROUNDS, scenario::FakeSpec};

/// What is wrong with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It sends no DELETE.
    ForgetsDelete,
    /// It ends its session and keeps the stream of its events.
    KeepsStream,
    /// It opens the stream again as soon as it has ended, for ever.
    Reconnects,
    /// It goes on with a session to which the server has answered 404.
    KeepsOldSession,
    /// It waits, before it ends, for the end of every stream that an answer came on.
    WaitsForStreams,
    /// It keeps the connection of one request of each session.
    KeepsSocket,
    /// Where an answer ends in its middle, it leaves a process behind.
    LeavesHelper,
    /// It keeps a stream, leaves a second session, a process and a zombie.
    All,
}

/// How a client deals with its server.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pub(super) fault: Fault,
    /// Waits to be told to end.
    pub(super) stays: bool,
    /// Ends its session before that, and not after.
    pub(super) ends_first: bool,
    /// Starts processes of its own.
    pub(super) has_helpers: bool,
    /// Does all of its work so many times, or once for each line on its stdin.
    pub(super) rounds: Rounds,
}

/// A fake client over HTTP, as `scupper list fake-clients` shows it.
#[derive(Debug)]
pub struct HttpFakeClientInfo {
    /// As in `scupper fake-client NAME --url URL`.
    pub name: &'static str,
    /// What it does wrong, in a line.
    pub about: &'static str,
    /// Its fault; with `--fixed` it has none, and stays as long.
    fault: Fault,
    stays: bool,
}

/// Every fake client over HTTP.
#[rustfmt::skip]
pub const HTTP_FAKE_CLIENTS: &[HttpFakeClientInfo] = &[
    HttpFakeClientInfo { name: "plain", about: "has no fault: closes its stream, deletes its session and exits", fault: Fault::None, stays: false },
    HttpFakeClientInfo { name: "host", about: "has no fault, and stays with its session until its stdin ends or SIGTERM comes", fault: Fault::None, stays: true },
    HttpFakeClientInfo { name: "forgets-delete", about: "closes its connections, and leaves its session to the server", fault: Fault::ForgetsDelete, stays: false },
    HttpFakeClientInfo { name: "keeps-stream", about: "deletes its session, keeps the stream of its events, and lives on", fault: Fault::KeepsStream, stays: true },
    HttpFakeClientInfo { name: "reconnects-without-end", about: "opens its stream again the moment it has ended, for ever", fault: Fault::Reconnects, stays: true },
    HttpFakeClientInfo { name: "keeps-old-session", about: "goes on with a session to which the server has answered 404", fault: Fault::KeepsOldSession, stays: true },
    HttpFakeClientInfo { name: "hangs-on-open-stream", about: "has its answers, and ends only when the server ends their streams", fault: Fault::WaitsForStreams, stays: true },
    HttpFakeClientInfo { name: "leaks-socket", about: "keeps the connection of a request, one more with every round", fault: Fault::KeepsSocket, stays: false },
    HttpFakeClientInfo { name: "leaves-helper-mid-answer", about: "leaves a process where an answer ends between its head and the end of its body", fault: Fault::LeavesHelper, stays: false },
    HttpFakeClientInfo { name: "canary", about: "leaks every kind: a stream, a session, a process and a zombie", fault: Fault::All, stays: true },
];

/// How this client deals with its server.
pub(super) fn build(spec: &FakeSpec) -> Result<Habits, FakeClientError> {
    let info = HTTP_FAKE_CLIENTS.iter().find(|info| info.name == spec.name);
    let info = info.ok_or_else(|| FakeClientError::UnknownName(spec.name.clone()))?;
    let mut stays = info.stays;
    let mut rounds = Rounds::Number(1);
    for (key, value) in &spec.options {
        let unknown = || FakeClientError::UnknownOption(format!("{key}={value}"));
        match key.as_str() {
            "stays" => stays = value.parse().map_err(|_| unknown())?,
            "rounds" if value == "lines" => rounds = Rounds::Lines,
            // As a scenario says it, where the number is not known yet.
            "rounds" if value == ROUNDS => {}
            "rounds" => rounds = Rounds::Number(value.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        }
    }
    let fault = if spec.fixed { Fault::None } else { info.fault };
    let is_canary = info.fault == Fault::All;
    Ok(Habits {
        fault,
        // The canary's twin has nothing to stay for.
        stays: stays && !(is_canary && spec.fixed),
        // What it has left is seen while it lives on.
        ends_first: matches!(info.fault, Fault::KeepsStream | Fault::All),
        has_helpers: is_canary,
        rounds,
    })
}
