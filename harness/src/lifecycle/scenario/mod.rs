//! A lifecycle in a file: with subject, peer and expectation. The grammar is told in
//! `scenarios/README.md`.
//!
//! - [`parse()`]: from TOML, or every mistake in the file with its place
//! - [`parse_with()`]: the same, with what only the caller can know
//! - [`check()`]: what a well-formed scenario may still get wrong
//! - [`render()`]: back to TOML; `parse(render(s)) == s` for every scenario that passes the check
//!
//! Start with [`Scenario`], then `parse.rs`.

macro_rules! words {
    ($type:ty) => {
        &<$type>::ALL.iter().map(|value| (value.as_str(), *value)).collect::<Vec<_>>()
    };
}

mod check;
mod client;
mod embedded;
mod expected;
mod flow;
mod mistake;
mod nesting;
mod parse;
mod read;
mod render;
mod step;
#[cfg(test)]
mod strategy;
mod subject;
mod syntax;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use check::{Part, Place, Problem, check, limits};
pub use client::{ClientSpec, WhichClient};
#[cfg(feature = "core")]
pub(crate) use embedded::duration_ms;
#[cfg(feature = "core")]
pub(crate) use embedded::keeper;
pub use mistake::{Mistake, ScenarioError, nearest};
pub use parse::{parse, parse_with};
pub use render::{duration_word, render, render_finding};

pub use super::step::FakeSpec;
use super::step::Lifecycle;
use crate::ledger::{
    snapshot::Kind,
    verdict::{Class, Culprit, Verdict},
};

/// A lifecycle with whom it is played on and what should come of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// What is done.
    pub lifecycle: Lifecycle,
    /// Who is judged.
    pub subject: Subject,
    /// What should come of it.
    pub expect: Expectation,
}

/// Who is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// One of our misbehaving servers, or its clean twin.
    Fake(FakeSpec),
    /// Any server, by its command line.
    Command(Vec<String>),
    /// Any HTTP server, by how it is started and its URL.
    Http(HttpServer),
    /// Our connection core as the client, facing a server of ours.
    Core(FakeSpec),
    /// A host of MCP servers, facing servers of ours.
    Host(Embedded),
    /// A Streamable HTTP server with sessions, facing clients of ours.
    Service(Embedded),
    /// A client or host, which starts servers of ours.
    Client(Box<ClientSpec>),
}

/// An HTTP server: how it is started, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpServer {
    /// How it is started; `{port}` in it is a free port.
    pub start: HttpStart,
    /// Where it is reached, with the same placeholder.
    pub url: String,
    /// How long a session may live that no client uses.
    pub session_ttl: Option<Duration>,
    /// Headers of every request, such as `Authorization: Bearer $TOKEN`, the variable not put in.
    pub headers: Vec<String>,
}

/// What starts an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpStart {
    /// A command line.
    Command(Vec<String>),
    /// One of our servers, over HTTP.
    Fake(FakeSpec),
}

/// A host or a service that is played inside the cell: our core, or what stands in for somebody
/// else's software with the leaks it had.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Embedded {
    /// Its name: `core`, or one of [`super::embedded`].
    pub name: String,
    /// `KEY=VALUE` options.
    pub options: BTreeMap<String, String>,
}

/// What should come of a scenario. Strict both ways: a finding not listed fails it, and so does a
/// listed one that does not appear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Verdict,
    /// The findings.
    pub findings: Vec<ExpectedFinding>,
}

/// A finding that should appear; what is absent may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedFinding {
    /// Its class; leak where a file names none.
    pub class: Class,
    /// Its kind.
    pub kind: Kind,
    /// Whose duty it was.
    pub culprit: Option<Culprit>,
    /// Name of the step after which it was first seen, such as `call echo`.
    pub birth_step: Option<String>,
    /// Name of the step by which it should have been gone, such as `half-close stdin`.
    pub due_step: Option<String>,
}
