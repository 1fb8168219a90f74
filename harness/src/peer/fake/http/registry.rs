//! The list of fakes over HTTP.

use std::time::Duration;

use super::{
    super::{
        options::{FakeError, Settings as Options, nearest},
        registry::{self, Build as Over, FakeInfo, Twin},
    },
    canary::Canary,
    ending::{
        BusyAtTerm, HelperKeepsPort, IgnoresTerm, SecondSignalHangs, SlowExit, WaitsForStreams,
    },
    fault::{Fault, Plain},
    gateway::Gateway,
    keeping::{ForgetsAbandoned, KeepsDeleted, KeepsPerSession},
    leaving::{ChildPerSubscription, HalfOpen, LeaksMidRequest, StreamStays},
    server::{Settings, Transport},
    stalling::{FinishesWriting, OneWriter},
    starting::{Answers500, ListensElsewhere, NeedsToken, NeverListens, NotFound, SpeaksTls},
    working::Works,
};
use crate::lifecycle::scenario::FakeSpec;

type Option3 = (&'static str, &'static str, &'static str);

const TTL: Option3 =
    ("ttl", "300000", "milliseconds after which an idle session is gone; 0: never");
const PAIR: Option3 =
    ("transport", "streamable", "`streamable`, or `sse` for the older pair of /sse and /messages");
const READ: Option3 =
    ("read-timeout", "30000", "longest pause in the middle of a request, in milliseconds; 0: none");
/// What makes a server the fake.
#[derive(Debug, Clone, Copy)]
pub(in crate::peer::fake) struct Build(fn(&Options) -> Result<Box<dyn Fault>, FakeError>);

const fn http(
    name: &'static str,
    about: &'static str,
    twin: Twin,
    build: fn(&Options) -> Result<Box<dyn Fault>, FakeError>,
) -> FakeInfo {
    FakeInfo::over(name, about, twin, Over::Http(Build(build))).with(&[TTL])
}

/// Every fake over HTTP, by what is wrong with it: nothing, what it keeps of a session, of a client
/// that left, of a call, its readers, its end, its backends, its start.
#[rustfmt::skip]
pub const HTTP_FAKES: &[FakeInfo] = &[
    http("plain", "has no fault: a small server of both eras that does everything right", Twin::None,
        |_| Ok(Box::new(Plain)))
        .with(&[TTL, PAIR, READ]),

    http("keeps-deleted-sessions", "answers DELETE with 200, and the session goes on", Twin::Plain,
        |_| Ok(Box::new(KeepsDeleted))),
    http("forgets-abandoned", "ends sessions upon DELETE and never otherwise: it has no idle limit", Twin::Own,
        |s| Ok(Box::new(ForgetsAbandoned { fixed: s.fixed() })))
        .with(&[("ttl", "1000", "milliseconds after which the twin ends an idle session")]),
    http("fd-per-session", "opens a descriptor for each session and keeps it", Twin::Own, KeepsPerSession::fd),
    http("keeps-sockets", "keeps the connection on which a session began after its client closed it", Twin::Plain, KeepsPerSession::socket),
    http("thread-per-session", "starts a thread for each session that stays", Twin::Own, KeepsPerSession::thread),
    http("child-per-session", "starts a child for each session that stays until the server ends", Twin::Own, KeepsPerSession::child),
    http("zombie-per-session", "starts a child for each session, which ends and is never reaped", Twin::Own, KeepsPerSession::zombie),
    http("tempfile-per-session", "writes a file in TMPDIR for each session and leaves it", Twin::Own, KeepsPerSession::tempfile),
    http("memory-per-session", "keeps some memory of each session", Twin::Own, KeepsPerSession::memory)
        .with(&[TTL, ("kib", "256", "how much, in KiB, 65536 at most")]),

    http("http-canary", "leaks every kind in one life: what each session opens, sessions themselves, and a helper", Twin::Own, Canary::build),

    http("stream-stays", "keeps the thread and the socket of a stream that its client closed or reset", Twin::Plain,
        |_| Ok(Box::new(StreamStays)))
        .with(&[TTL, PAIR]),
    http("child-per-subscription", "starts a child for each subscriptions/listen that stays when the stream is closed", Twin::Own,
        |s| Ok(Box::new(ChildPerSubscription { fixed: s.fixed() }))),
    http("half-open", "keeps the thread and the socket of a request that its client never finished and left", Twin::Plain,
        |_| Ok(Box::new(HalfOpen))),
    http("leaks-mid-request", "leaves a helper where its client goes between the head of a request and its body", Twin::Plain,
        |_| Ok(Box::new(LeaksMidRequest))),

    http("runs-on-after-cancel", "works on for a call that was cancelled", Twin::Own, Works::runs_on),
    http("stops-on-disconnect", "stops work for a call when its client disconnects, also where 2025-11-25 says not to", Twin::Own, Works::stops),

    http("stalled-reader-blocks", "answers nobody while one client does not read its answers", Twin::Own,
        |s| Ok(Box::new(OneWriter::new(s.fixed())))),
    http("stalled-at-term", "does not end while one client does not read its answers", Twin::Own,
        |s| Ok(Box::new(FinishesWriting::new(s.fixed())))),

    http("ignores-term", "stays alive upon SIGTERM and SIGINT; only SIGKILL ends it", Twin::Plain,
        |_| Ok(Box::new(IgnoresTerm))),
    http("ignores-term-with-stream", "does not end before every client has closed its stream", Twin::Plain,
        |_| Ok(Box::new(WaitsForStreams))),
    http("busy-at-term", "never ends when a call is in flight as it is told to", Twin::Plain,
        |_| Ok(Box::new(BusyAtTerm))),
    http("second-signal-hangs", "takes its time to end, and never does when it is told twice", Twin::Own,
        |s| Ok(Box::new(SecondSignalHangs { drain: ms(s, "ms")?, fixed: s.fixed() })))
        .with(&[TTL, ("ms", "300", "milliseconds it takes")]),
    http("slow-exit", "exits some time after it is told to", Twin::Plain,
        |s| Ok(Box::new(SlowExit { delay: ms(s, "ms")? })))
        .with(&[TTL, ("ms", "1500", "milliseconds it takes")]),
    http("helper-keeps-port", "leaves a helper that has its listening socket, so that nobody can have the port", Twin::Own,
        |s| Ok(Box::new(HelperKeepsPort::new(s.fixed())))),

    http("gateway", "starts a server over stdio for each session and leaves it when the client has gone", Twin::Own,
        |s| Ok(Box::new(Gateway { fixed: s.fixed() }))),

    http("never-listens", "runs and listens nowhere", Twin::Plain,
        |_| Ok(Box::new(NeverListens))),
    http("listens-elsewhere", "listens on another port than it was told", Twin::Plain,
        |_| Ok(Box::new(ListensElsewhere))),
    http("answers-500", "answers every request with 500", Twin::Plain,
        |_| Ok(Box::new(Answers500))),
    http("speaks-tls", "answers with a TLS alert and closes, whatever it is sent", Twin::Plain,
        |_| Ok(Box::new(SpeaksTls))),
    http("needs-token", "answers 401 unless it is sent its token", Twin::Plain, NeedsToken::build)
        .with(&[TTL, ("token", "open-sesame", "what `Authorization: Bearer` must say")]),
    http("not-found", "has its endpoint at /api/mcp and answers 404 elsewhere", Twin::Plain,
        |_| Ok(Box::new(NotFound))),
];

/// The fake of this name, if it is one that is listed.
pub(in crate::peer::fake) fn find(name: &str) -> Option<&'static FakeInfo> {
    HTTP_FAKES.iter().find(|info| info.name == name)
}

/// The fault that makes a server the wanted fake, and how the server is set.
pub(super) fn build(spec: &FakeSpec) -> Result<(Box<dyn Fault>, Settings), FakeError> {
    let Some(info) = find(&spec.name) else {
        return Err(match registry::find(&spec.name) {
            Some(_) => FakeError::StdioOnly { name: spec.name.clone() },
            None => FakeError::UnknownName {
                name: spec.name.clone(),
                nearest: nearest(&spec.name, HTTP_FAKES.iter().map(|info| info.name)),
            },
        });
    };
    let options = Options::new(info, spec)?;
    let has = |key| info.options.iter().any(|(known, _, _)| *known == key);
    let time = |key| Ok(Some(ms(&options, key)?).filter(|time| !time.is_zero()));
    let transport = has("transport").then(|| options.one_of("transport", &["streamable", "sse"]));
    let settings = Settings {
        transport: match transport.transpose()? {
            Some(1) => Transport::Pair,
            _ => Transport::Streamable,
        },
        ttl: time("ttl")?,
        read_timeout: if has("read-timeout") { time("read-timeout")? } else { None },
    };
    // Built even where the plain server runs instead, so that a wrong value is refused all the same.
    let Over::Http(Build(build)) = info.build else {
        unreachable!("every fake of this list speaks HTTP");
    };
    let fault = build(&options)?;
    let fault = if spec.fixed && info.twin == Twin::Plain { Box::new(Plain) } else { fault };
    Ok((fault, settings))
}

fn ms(options: &Options, key: &str) -> Result<Duration, FakeError> {
    options.parsed(key, "a number of milliseconds").map(Duration::from_millis)
}
