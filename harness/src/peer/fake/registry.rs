//! The list of fakes.

use std::time::Duration;

use super::{
    ending::{
        BusyUntilDone, CrashAtByte, ExitsBeforeInitialize, IgnoresEof, IgnoresEofAndTerm, SlowExit,
    },
    growth::{FdPerCall, FdSwap, TempfilePerCall, ThreadPerCall, Together},
    helper::{Helper, Session},
    launcher::Wrapper,
    options::{FakeError, Settings, nearest},
    process::{ChildPerCall, LeavesHelper, Zombie},
    server::{Fault, Plain},
    wire::{Banner, EndlessLine, FloodsStderr, Garbage, NeverAnswers, OneEra, StopsReading},
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
    build: Build,
    twin: Twin,
}

type Build = fn(&Settings) -> Result<Box<dyn Fault>, FakeError>;

/// What `--fixed` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    /// There is nothing to fix.
    None,
    /// Doing it right is doing nothing special: the plain server.
    Plain,
    /// The same work, done right.
    Own,
}

impl FakeInfo {
    const fn new(name: &'static str, about: &'static str, twin: Twin, build: Build) -> Self {
        Self { name, about, options: &[], has_twin: !matches!(twin, Twin::None), build, twin }
    }

    const fn with(
        mut self,
        options: &'static [(&'static str, &'static str, &'static str)],
    ) -> Self {
        self.options = options;
        self
    }
}

const AT: (&str, &str, &str) = ("at", "call", "starts it at `start`, or at the first `call`");

/// Every fake, by what is wrong with it: nothing, its end, what it leaves, how it grows, its words.
#[rustfmt::skip]
pub const FAKES: &[FakeInfo] = &[
    FakeInfo::new("plain", "nothing: a small server that does everything right", Twin::None,
        |_| Ok(Box::new(Plain))),

    FakeInfo::new("ignores-eof", "stays alive when stdin ends; SIGTERM ends it", Twin::Plain,
        |_| Ok(Box::new(IgnoresEof))),
    FakeInfo::new("ignores-eof-and-term", "stays alive when stdin ends and upon SIGTERM; only SIGKILL ends it", Twin::Plain,
        |_| Ok(Box::new(IgnoresEofAndTerm))),
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
        .with(&[("inner", "plain", "the fake it starts")]),

    FakeInfo::new("helper-setsid", "leaves a helper in a session of its own when it exits", Twin::Own,
        |s| LeavesHelper::build(s, Session::Own))
        .with(&[AT]),
    FakeInfo::new("helper-same-group", "leaves a helper in its own process group when it exits", Twin::Own,
        |s| LeavesHelper::build(s, Session::Servers))
        .with(&[AT]),
    FakeInfo::new("child-per-call", "starts a child at each echo call that ends only with the server", Twin::Own,
        |s| Ok(Box::new(ChildPerCall::new(s.fixed())))),
    FakeInfo::new("zombie", "starts a child at each echo call and never reaps it", Twin::Own,
        |s| Ok(Box::new(Zombie { fixed: s.fixed() }))),

    FakeInfo::new("fd-per-call", "opens a descriptor at each echo call and never closes it", Twin::Own,
        |s| Ok(Box::new(FdPerCall::new(s.fixed())))),
    FakeInfo::new("fd-swap", "closes one descriptor and leaks another at each echo call, so that their number stays", Twin::Own,
        |s| Ok(Box::new(FdSwap::new(s.fixed())))),
    FakeInfo::new("thread-per-call", "starts a thread at each echo call that never ends", Twin::Own,
        |s| Ok(Box::new(ThreadPerCall { fixed: s.fixed() }))),
    FakeInfo::new("tempfile-per-call", "leaves a file in TMPDIR at each echo call", Twin::Own,
        |s| Ok(Box::new(TempfilePerCall { fixed: s.fixed() }))),
    FakeInfo::new("canary", "leaks every kind in one life: descriptor, thread, child, zombie and file at each echo call, and a helper", Twin::Own,
        |s| Ok(Box::new(canary(s.fixed())))),

    FakeInfo::new("never-answers", "reads everything and answers nothing", Twin::Plain,
        |_| Ok(Box::new(NeverAnswers))),
    FakeInfo::new("banner-before-json", "greets on stdout before its first message", Twin::Own,
        |s| Ok(Box::new(Banner { fixed: s.fixed() }))),
    FakeInfo::new("garbage", "answers every request with a line that is not JSON", Twin::Plain,
        |_| Ok(Box::new(Garbage))),
    FakeInfo::new("endless-line", "begins its first answer and never ends the line", Twin::Plain,
        |s| Ok(Box::new(EndlessLine { bytes: s.parsed("bytes", COUNT)?, begun: false })))
        // Twice the longest line the Rust SDK takes.
        .with(&[("bytes", "33554432", "how long the line gets")]),
    FakeInfo::new("stops-reading-stdin", "stops reading after tools/list, so that it never sees stdin end", Twin::Plain,
        |_| Ok(Box::new(StopsReading))),
    FakeInfo::new("floods-stderr", "fills stderr before it answers an echo call", Twin::Own,
        FloodsStderr::build)
        // Well over the 64 KiB that a pipe holds.
        .with(&[("lines", "2000", "lines at each call, of 80 bytes or so")]),
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
.with(&[
    ("setsid", "false", "moves to a session of its own first: true or false"),
    ("until", "killed", "stays until `killed`, until `stdin-ends`, or only until `started`"),
]);

/// The fake of this name, if it is one that is listed.
pub(super) fn find(name: &str) -> Option<&'static FakeInfo> {
    FAKES.iter().find(|info| info.name == name)
}

/// The fault that makes a server the wanted fake.
pub(super) fn build(spec: &FakeSpec) -> Result<Box<dyn Fault>, FakeError> {
    let internal = (spec.name == HELPER.name).then_some(&HELPER);
    let info = find(&spec.name).or(internal).ok_or_else(|| FakeError::UnknownName {
        name: spec.name.clone(),
        nearest: nearest(&spec.name, FAKES.iter().map(|info| info.name)),
    })?;
    let settings = Settings::new(info, spec)?;
    // Built even where the plain server runs instead, so that a wrong value is refused all the same.
    let fault = (info.build)(&settings)?;
    Ok(if spec.fixed && info.twin == Twin::Plain { Box::new(Plain) } else { fault })
}

/// One leak of each kind. The helper is started first and only once.
fn canary(fixed: bool) -> Together {
    Together(vec![
        Box::new(LeavesHelper::new(fixed, Session::Own)),
        Box::new(FdPerCall::new(fixed)),
        Box::new(ThreadPerCall { fixed }),
        Box::new(ChildPerCall::new(fixed)),
        Box::new(Zombie { fixed }),
        Box::new(TempfilePerCall { fixed }),
    ])
}
