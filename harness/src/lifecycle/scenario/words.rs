//! The names of steps and their keys.

use crate::lifecycle::step::Action;

/// A kind of step: its name in `do`, and its own keys.
pub(super) type Shape = (&'static str, &'static [&'static str]);

/// Keys of every step.
pub(super) const COMMON: &[&str] = &["do", "connection", "within", "fails"];

/// Every kind of step.
pub(super) const STEPS: &[Shape] = &[
    ("open", &[]),
    ("handshake", &["until"]),
    ("call", &["tool", "arguments", "wait"]),
    ("request", &["method", "params", "wait"]),
    ("list-all", &["method", "pages"]),
    ("notify", &["method", "params"]),
    ("send", &["text", "payload", "upto"]),
    ("read", &["what", "messages"]),
    ("half-close", &["stream"]),
    ("close", &[]),
    ("drop", &[]),
    ("cancel", &[]),
    ("kill", &["whom"]),
    ("signal", &["signal", "whom"]),
    ("stall", &["stream"]),
    ("resume", &["stream"]),
    ("cut", &["stream", "bytes"]),
    ("pause", &["time"]),
    ("hold-stdin", &[]),
    ("release-stdin", &[]),
    ("wait-for", &["condition", "stderr"]),
    ("concurrently", &["branch"]),
    ("repeat", &["times", "step"]),
    ("shutdown", &[]),
    ("start", &["options"]),
    ("add", &["server", "fixed", "options", "transport", "replace", "wait"]),
    ("remove", &[]),
    ("health", &[]),
    ("listen", &[]),
    ("delete", &[]),
    ("reset", &[]),
    ("silence", &[]),
    ("abandon", &[]),
    ("join", &["session-of"]),
    ("flood", &["method", "times"]),
    ("trickle", &["text", "payload", "pause"]),
];

/// What a step is called in the key `do`.
pub(super) fn verb(action: &Action) -> &'static str {
    match action {
        Action::Open => "open",
        Action::Handshake { .. } => "handshake",
        Action::Call { .. } => "call",
        Action::Request { .. } => "request",
        Action::ListAll { .. } => "list-all",
        Action::Notify { .. } => "notify",
        Action::Send { .. } => "send",
        Action::Read { .. } => "read",
        Action::HalfClose { .. } => "half-close",
        Action::Close => "close",
        Action::Drop => "drop",
        Action::Cancel => "cancel",
        Action::Kill { .. } => "kill",
        Action::Signal { .. } => "signal",
        Action::Stall { .. } => "stall",
        Action::Resume { .. } => "resume",
        Action::Cut { .. } => "cut",
        Action::Pause { .. } => "pause",
        Action::HoldStdin => "hold-stdin",
        Action::ReleaseStdin => "release-stdin",
        Action::WaitFor { .. } => "wait-for",
        Action::Concurrently { .. } => "concurrently",
        Action::Repeat { .. } => "repeat",
        Action::Shutdown => "shutdown",
        Action::Start { .. } => "start",
        Action::Add { .. } => "add",
        Action::Remove => "remove",
        Action::Health => "health",
        Action::Listen => "listen",
        Action::Delete => "delete",
        Action::Reset => "reset",
        Action::Silence => "silence",
        Action::Abandon => "abandon",
        Action::Join { .. } => "join",
        Action::Flood { .. } => "flood",
        Action::Trickle { .. } => "trickle",
    }
}
