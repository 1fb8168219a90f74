//! The list of fakes over stdio. That of fakes over HTTP is in `http`.

use std::time::Duration;

use super::{
    ending::{
        BusyUntilDone, CrashAtByte, ExitsBeforeInitialize, IgnoresEof, IgnoresEofAndTerm, SlowExit,
        TimerAfterCall,
    },
    flood::{EndlessLine, FloodsStderr, FloodsStdout},
    growth::{FdSwap, KeepsPerCall, LeaksOnCancel, TempfilePerCall, ThreadPerCall, Together},
    helper::{HELPER_OPTIONS, Helper, Tie},
    http,
    launcher::{Gateway, HoldsStdin, Wrapper},
    lock::LockFile,
    options::{FakeError, Settings, nearest},
    process::{ChildPerCall, ForksWithoutEnd, LeaksMidMessage, LeavesHelper, Zombie},
    server::{Fault, Plain},
    wire::{
        Banner, ClosesStdout, Garbage, HalfALine, InvalidUtf8, NeverAnswers, OneEra, StopsReading,
    },
};
use crate::lifecycle::{scenario::FakeSpec, step::Era};

/// A fake, as `scupper list fakes` shows it.
#[derive(Debug)]
pub struct FakeInfo {
    /// As in `scupper fake NAME`.
    pub name: &'static str,
    /// What it does wrong, in a line.
    pub about: &'static str,
    /// Its `KEY=VALUE` options: key, default, what it sets.
    pub options: &'static [(&'static str, &'static str, &'static str)],
    /// Whether `--fixed` makes it a clean twin.
    pub has_twin: bool,
    pub(super) build: Build,
    pub(super) twin: Twin,
}

/// What makes a server the fake, by transport.
#[derive(Debug, Clone, Copy)]
pub(super) enum Build {
    Stdio(fn(&Settings) -> Result<Box<dyn Fault>, FakeError>),
    Http(http::registry::Build),
}

/// What `--fixed` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twin {
    /// There is nothing to fix.
    None,
    /// Doing it right is doing nothing special: the plain server.
    Plain,
    /// The same work, done right.
    Own,
}

impl FakeInfo {
    const fn new(
        name: &'static str,
        about: &'static str,
        twin: Twin,
        build: fn(&Settings) -> Result<Box<dyn Fault>, FakeError>,
    ) -> Self {
        Self::over(name, about, twin, Build::Stdio(build))
    }

    /// One that speaks the transport of its build.
    pub(super) const fn over(
        name: &'static str,
        about: &'static str,
        twin: Twin,
        build: Build,
    ) -> Self {
        Self { name, about, options: &[], has_twin: !matches!(twin, Twin::None), build, twin }
    }

    /// Whether its twin does the same work in the right way, and is not just the plain server.
    pub fn has_own_twin(&self) -> bool {
        self.twin == Twin::Own
    }

    pub(super) const fn with(
        mut self,
        options: &'static [(&'static str, &'static str, &'static str)],
    ) -> Self {
        self.options = options;
        self
    }
}

const INNER: (&str, &str, &str) = ("inner", "plain", "the fake it starts");
const AT: (&str, &str, &str) = ("at", "call", "starts it at `start`, or at the first `call`");

/// Every fake over stdio, by what is wrong with it: nothing, its end, what it leaves, how it grows, its words.
#[rustfmt::skip]
pub const FAKES: &[FakeInfo] = &[
    FakeInfo::new("plain", "has no fault: a small server that does everything right", Twin::None,
        |_| Ok(Box::new(Plain))),

    FakeInfo::new("ignores-eof", "stays alive when stdin ends; SIGTERM ends it", Twin::Plain,
        |_| Ok(Box::new(IgnoresEof))),
    FakeInfo::new("ignores-eof-and-term", "stays alive when stdin ends and upon SIGTERM; only SIGKILL ends it", Twin::Plain,
        |_| Ok(Box::new(IgnoresEofAndTerm))),
    FakeInfo::new("timer-after-call", "stays alive when stdin ends, once echo was called; SIGTERM ends it", Twin::Plain,
        |_| Ok(Box::new(TimerAfterCall::default()))),
    FakeInfo::new("slow-exit", "exits some time after stdin has ended", Twin::Plain,
        |s| Ok(Box::new(SlowExit { delay: Duration::from_millis(s.parsed("ms", MS)?) })))
        .with(&[("ms", "1500", "milliseconds it takes")]),
    FakeInfo::new("busy-until-done", "finishes sleeps in flight after stdin has ended, then exits", Twin::Plain,
        |_| Ok(Box::new(BusyUntilDone))),
    FakeInfo::new("exits-before-initialize", "prints an error to stderr and exits with 1 before it reads anything", Twin::Own,
        |s| Ok(Box::new(ExitsBeforeInitialize { fixed: s.fixed(), message: s.text("message").into() })))
        .with(&[("message", "error: API_KEY is not set", "what it prints")]),
    FakeInfo::new("crash-at-byte", "dies within its answer to the handshake", Twin::Plain,
        |s| Ok(Box::new(CrashAtByte { byte: s.parsed("byte", COUNT)? })))
        .with(&[("byte", "40", "bytes of the answer it writes first")]),
    FakeInfo::new("wrapper", "a launcher that dies of SIGTERM and leaves the server it started", Twin::Own,
        Wrapper::build)
        .with(&[INNER]),
    FakeInfo::new("wrapper-holds-stdin", "a launcher that keeps the server's stdin open after its own has ended, and waits", Twin::Own,
        HoldsStdin::build)
        .with(&[INNER]),
    FakeInfo::new("gateway", "relays to a server of its own and leaves it when the client has gone", Twin::Own,
        Gateway::build)
        .with(&[("inner", "ignores-eof", "the fake it relays to")]),

    FakeInfo::new("helper-setsid", "leaves a helper in a session of its own when it exits", Twin::Own,
        |s| LeavesHelper::build(s, Tie::OwnSession))
        .with(&[AT]),
    FakeInfo::new("helper-double-fork", "leaves a helper that daemonized: in a session of its own, its parent gone", Twin::Own,
        |s| LeavesHelper::build(s, Tie::DoubleFork))
        .with(&[AT]),
    FakeInfo::new("helper-same-group", "leaves a helper in its own process group when it exits", Twin::Own,
        |s| LeavesHelper::build(s, Tie::Group))
        .with(&[AT]),
    FakeInfo::new("helper-holds-stdout", "leaves a helper that has its stdout, so that the client never sees it end", Twin::Own,
        |s| LeavesHelper::build(s, Tie::Stdout))
        .with(&[AT]),
    FakeInfo::new("leaks-mid-message", "leaves a helper when stdin ends between a message and its newline", Twin::Plain,
        |_| Ok(Box::new(LeaksMidMessage))),
    FakeInfo::new("forks-without-end", "leaves a tree of processes that fork and fork again, up to a cap", Twin::Own,
        ForksWithoutEnd::build)
        .with(&[("cap", "200", "processes at which it stops, 1000 at most")]),
    FakeInfo::new("child-per-call", "starts a child at each echo call that ends only with the server", Twin::Own,
        |s| Ok(Box::new(ChildPerCall::new(s.fixed())))),
    FakeInfo::new("zombie", "starts a child at each echo call and never reaps it", Twin::Own,
        |s| Ok(Box::new(Zombie { fixed: s.fixed() }))),

    FakeInfo::new("fd-per-call", "opens a descriptor at each echo call and never closes it", Twin::Own,
        |s| Ok(Box::new(KeepsPerCall::fd(s.fixed())))),
    FakeInfo::new("fd-swap", "closes one descriptor and leaks another at each echo call, so that their number stays", Twin::Own,
        |s| Ok(Box::new(FdSwap::new(s.fixed())))),
    FakeInfo::new("leaks-every-tenth", "opens a descriptor at every tenth echo call and never closes it", Twin::Own,
        |s| Ok(Box::new(KeepsPerCall::every_tenth(s.fixed())))),
    FakeInfo::new("leaks-on-cancel", "keeps a descriptor for each call that is cancelled while in flight", Twin::Own,
        |s| Ok(Box::new(LeaksOnCancel::new(s.fixed())))),
    FakeInfo::new("listener-per-call", "listens on another port of 127.0.0.1 at each echo call and never stops", Twin::Own,
        |s| Ok(Box::new(KeepsPerCall::listener(s.fixed())))),
    FakeInfo::new("memory-per-call", "keeps some memory at each echo call", Twin::Own,
        |s| Ok(Box::new(KeepsPerCall::memory(s.fixed(), s.parsed("kib", "a number of KiB, 65535 at most")?))))
        .with(&[("kib", "1024", "KiB it keeps of each call")]),
    FakeInfo::new("thread-per-call", "starts a thread at each echo call that never ends", Twin::Own,
        |s| Ok(Box::new(ThreadPerCall { fixed: s.fixed() }))),
    FakeInfo::new("tempfile-per-call", "leaves a file in TMPDIR at each echo call", Twin::Own,
        |s| Ok(Box::new(TempfilePerCall { fixed: s.fixed() }))),
    FakeInfo::new("lock-file", "leaves its lock file in TMPDIR when it exits, and does not start where there is one", Twin::Own,
        |s| Ok(Box::new(LockFile { fixed: s.fixed() }))),
    FakeInfo::new("canary", "leaks every kind in one life: descriptor, thread, child, zombie and file at each echo call, and a helper", Twin::Own,
        |s| Ok(Box::new(canary(s.fixed())))),

    FakeInfo::new("never-answers", "reads everything and answers nothing", Twin::Plain,
        |_| Ok(Box::new(NeverAnswers))),
    FakeInfo::new("banner-before-json", "greets on stdout before its first message", Twin::Own,
        |s| Ok(Box::new(Banner { fixed: s.fixed() }))),
    FakeInfo::new("garbage", "answers every request with a line that is not JSON", Twin::Plain,
        |_| Ok(Box::new(Garbage))),
    FakeInfo::new("invalid-utf8", "answers every request with a line that is not UTF-8", Twin::Plain,
        |_| Ok(Box::new(InvalidUtf8))),
    FakeInfo::new("half-a-line", "writes half of its first answer and never the rest", Twin::Plain,
        |_| Ok(Box::new(HalfALine::default()))),
    FakeInfo::new("closes-stdout-stays", "closes its stdout instead of answering, and stays until stdin ends", Twin::Plain,
        ClosesStdout::build)
        .with(&[("at", "start", "instead of its first answer (`start`), or of that to a `call`")]),
    FakeInfo::new("endless-line", "begins its first answer and never ends the line", Twin::Plain,
        |s| Ok(Box::new(EndlessLine { bytes: s.parsed("bytes", COUNT)?, begun: false })))
        // Twice the longest line the Rust SDK takes.
        .with(&[("bytes", "33554432", "how long the line gets; 0: until stdin ends")]),
    FakeInfo::new("stops-reading-stdin", "stops reading after tools/list, so that it never sees stdin end", Twin::Plain,
        |_| Ok(Box::new(StopsReading))),
    FakeInfo::new("floods-stdout", "notifies as fast as it is read, from the handshake on, until stdin ends", Twin::Plain,
        |_| Ok(Box::new(FloodsStdout::default()))),
    FakeInfo::new("floods-stderr", "fills stderr before it answers an echo call", Twin::Own,
        FloodsStderr::build)
        // Well over the 64 KiB that a pipe holds.
        .with(&[
            ("lines", "2000", "lines each time, of 80 bytes or so"),
            ("at", "call", "before it reads anything (`start`), or before it answers a `call`"),
        ]),
    FakeInfo::new("wrong-era", "serves one era of the protocol only", Twin::Plain,
        |s| Ok(Box::new(OneEra(ERAS[s.one_of("era", &ERAS.map(Era::revision))?]))))
        .with(&[("era", "2026-07-28", "the era it serves: 2026-07-28 or 2025-11-25")]),
];

const ERAS: [Era; 2] = [Era::Modern, Era::Legacy];
const MS: &str = "a number of milliseconds";
const COUNT: &str = "a whole number";

/// What the fakes start as their helper; nobody else has a use for it.
static HELPER: FakeInfo = FakeInfo::new(
    "helper",
    "internal: a process that another fake starts and leaves",
    Twin::None,
    Helper::build,
)
.with(HELPER_OPTIONS);

/// The fake of this name, if it is one that is listed.
pub(super) fn find(name: &str) -> Option<&'static FakeInfo> {
    FAKES.iter().find(|info| info.name == name)
}

/// The fault that makes a server the wanted fake.
pub(super) fn build(spec: &FakeSpec) -> Result<Box<dyn Fault>, FakeError> {
    let internal = (spec.name == HELPER.name).then_some(&HELPER);
    let info =
        find(&spec.name).or(internal).ok_or_else(|| match http::registry::find(&spec.name) {
            Some(_) => FakeError::HttpOnly { name: spec.name.clone() },
            None => FakeError::UnknownName {
                name: spec.name.clone(),
                nearest: nearest(&spec.name, FAKES.iter().map(|info| info.name)),
            },
        })?;
    let settings = Settings::new(info, spec)?;
    // Built even where the plain server runs instead, so that a wrong value is refused all the same.
    let Build::Stdio(build) = info.build else {
        unreachable!("every fake of this list speaks stdio");
    };
    let fault = build(&settings)?;
    Ok(if spec.fixed && info.twin == Twin::Plain { Box::new(Plain) } else { fault })
}

/// One leak of each kind. The helper is started first and only once.
fn canary(fixed: bool) -> Together {
    Together(vec![
        Box::new(LeavesHelper::new(fixed, Tie::OwnSession)),
        Box::new(KeepsPerCall::fd(fixed)),
        Box::new(ThreadPerCall { fixed }),
        Box::new(ChildPerCall::new(fixed)),
        Box::new(Zombie { fixed }),
        Box::new(TempfilePerCall { fixed }),
    ])
}
