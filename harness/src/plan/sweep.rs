//! The cases of the byte sweep. Pure.

use serde_json::Value;

use super::client::{self, Client, Transport};
use super::{Case, Choices, Server, calibrate, calls, http, server_case};
use crate::cell::protocol::{Learned, Life, Patience, SweepOrder};
use crate::lifecycle::step::{Action, Era, Lifecycle, Step};
use crate::lifecycle::sweep::{self, Point, Side, Works};

/// What a first look at a life of the sweep waits for before it calls in a closer one, at least.
const SCREEN_FLOOR_MS: u64 = 500;
/// The same as a multiple of how long a clean exit took.
const SCREEN_FACTOR: u64 = 3;
/// How much work one cell gets, in milliseconds as far as they are known before.
const CELL_WORK_MS: u64 = 1_500;
/// Most lives of one cell.
const CELL_LIVES: u64 = 32;
/// What a life costs beside the start and the exit of its server, in milliseconds.
const LIFE_COST_MS: u64 = 15;
/// The same of an HTTP server: the process of its clients, and a port that is waited for.
const HTTP_LIFE_COST_MS: u64 = 60;

/// How much of the sweep is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Bytes of a sample; all where none is named.
    pub shallow: Option<usize>,
    /// Which part, from 1, of how many.
    pub shard: Option<(usize, usize)>,
}

/// What is swept: the cases of its points.
pub trait Sweep {
    /// Who is judged.
    fn side(&self) -> Side;
    /// What the user chose.
    fn choices(&self) -> &Choices;
    /// The clean life of which every byte is counted.
    fn counted(&self) -> Case;
    /// One point, judged by itself.
    fn judged(&self, point: &Point) -> Case;
    /// About how long one life takes, in milliseconds.
    fn life_ms(&self) -> u64;
    /// The id of a case: among several servers, each has its own.
    fn case_id(&self, lifecycle: &str) -> String;

    /// All points, for a first look: many in a cell where that is possible, or else each judged.
    fn screens(&self, points: &[Point]) -> Vec<Case> {
        points.iter().map(|point| self.judged(point)).collect()
    }

    /// The points that are wanted.
    fn points(&self, works: &Works, extent: Extent) -> Vec<Point> {
        let all: Vec<Point> = sweep::points(self.side(), works, extent.shallow)
            .into_iter()
            .filter(|point| wants(self.choices(), point))
            .collect();
        match extent.shard {
            Some((part, of)) => sweep::shard(&all, part, of).to_vec(),
            None => all,
        }
    }
}

fn wants(choices: &Choices, point: &Point) -> bool {
    let id = point.id();
    let named = |names: &[String]| {
        names.iter().any(|name| super::names_id(name, &id) || sweep::is_in_range(name, point))
    };
    (choices.only.is_empty() || named(&choices.only)) && !named(&choices.skip)
}

/// A server whose client goes wrong after every byte.
#[derive(Debug)]
pub struct OfServer<'a> {
    /// Who is judged.
    pub server: &'a Server,
    /// What the user chose.
    pub choices: &'a Choices,
    /// What the first look learned.
    pub learned: &'a Learned,
    /// The era that is spoken.
    pub era: Era,
}

/// The first call: the user's own, or one that is safe and does not last, or a list of tools.
fn first_call(choices: &Choices, learned: &Learned) -> Step {
    let lasting =
        |name: &str| learned.tools.iter().any(|tool| tool.name == name && tool.lasting.is_some());
    let all = calls(choices, learned);
    let brief = all.iter().find(|call| !lasting(&call.tool));
    let chosen = choices.calls.first().or(brief).or(all.first());
    Step::new(match chosen {
        Some(call) => {
            Action::Call { tool: call.tool.clone(), arguments: call.arguments.clone(), wait: true }
        }
        None => Action::Request { method: "tools/list".into(), params: Value::Null, wait: true },
    })
}

/// Many points in a cell, for a first look that does not wait long.
fn screens(
    points: &[Point],
    life_ms: u64,
    learned: &Learned,
    judged: impl Fn(&Point) -> Case,
) -> Vec<Case> {
    let lives = (CELL_WORK_MS / life_ms.max(1)).clamp(1, CELL_LIVES);
    points
        .chunks(usize::try_from(lives).unwrap_or(1))
        .map(|points| {
            let mut case = judged(&points[0]);
            let screen = learned.exit_ms.unwrap_or(0).saturating_mul(SCREEN_FACTOR);
            let floor = SCREEN_FLOOR_MS.min(case.order.patience.bound_ms);
            let bound_ms = screen.clamp(floor, case.order.patience.bound_ms);
            case.order.patience = Patience { bound_ms, ..case.order.patience };
            let lives =
                points.iter().map(|point| Life { lifecycle: judged(point).order.lifecycle });
            case.order.sweep = Some(SweepOrder::Screen(lives.collect()));
            case
        })
        .collect()
}

impl OfServer<'_> {
    fn case(&self, lifecycle: Lifecycle) -> Case {
        let mut case = server_case(lifecycle, self.server, self.choices, self.era);
        calibrate(&mut case, self.choices, self.learned);
        case
    }
}

impl Sweep for OfServer<'_> {
    fn side(&self) -> Side {
        Side::Server
    }

    fn choices(&self) -> &Choices {
        self.choices
    }

    fn counted(&self) -> Case {
        let mut case = self.case(sweep::measured(&first_call(self.choices, self.learned)));
        case.order.sweep = Some(SweepOrder::Measure);
        // It is no point that could be named.
        case.order.repeat = super::server_command(None, self.server, self.choices);
        case
    }

    fn judged(&self, point: &Point) -> Case {
        self.case(point.lifecycle(&first_call(self.choices, self.learned)))
    }

    fn life_ms(&self) -> u64 {
        self.learned.start_ms + self.learned.exit_ms.unwrap_or(0) + LIFE_COST_MS
    }

    fn case_id(&self, lifecycle: &str) -> String {
        self.server.case_id(lifecycle)
    }

    fn screens(&self, points: &[Point]) -> Vec<Case> {
        screens(points, self.life_ms(), self.learned, |point| self.judged(point))
    }
}

/// An HTTP server whose client goes wrong after every byte.
#[derive(Debug)]
pub struct OfHttpServer<'a> {
    /// Who is judged.
    pub server: &'a http::Server,
    /// What the user chose.
    pub choices: &'a Choices,
    /// What the first look learned.
    pub learned: &'a Learned,
}

impl OfHttpServer<'_> {
    fn case(&self, lifecycle: Lifecycle) -> Case {
        http::learned_case(lifecycle, self.server, self.choices, self.learned)
    }
}

impl Sweep for OfHttpServer<'_> {
    fn side(&self) -> Side {
        Side::HttpServer
    }

    fn choices(&self) -> &Choices {
        self.choices
    }

    fn counted(&self) -> Case {
        let call = first_call(self.choices, self.learned);
        let mut case = self.case(sweep::http::measured(&call, http::era_of(self.learned)));
        case.order.sweep = Some(SweepOrder::Measure);
        // It is no point that could be named.
        case.order.repeat = http::command(None, self.server, self.choices);
        case
    }

    fn judged(&self, point: &Point) -> Case {
        let call = first_call(self.choices, self.learned);
        self.case(sweep::http::lifecycle(point, &call, http::era_of(self.learned)))
    }

    fn life_ms(&self) -> u64 {
        // Most lives abandon a session, whose time is waited for, and as long again.
        let ttl = self.server.session_ttl_ms.map_or(0, |ttl| ttl.saturating_mul(2));
        self.learned.start_ms + self.learned.exit_ms.unwrap_or(0) + ttl + HTTP_LIFE_COST_MS
    }

    fn case_id(&self, lifecycle: &str) -> String {
        lifecycle.to_owned()
    }

    fn screens(&self, points: &[Point]) -> Vec<Case> {
        screens(points, self.life_ms(), self.learned, |point| self.judged(point))
    }
}

/// A client whose server goes wrong after every byte. Clients take their time to start, so each point is
/// judged in a cell of its own at once.
#[derive(Debug)]
pub struct OfClient<'a> {
    /// Who is judged.
    pub client: &'a Client,
    /// How it speaks with its server.
    pub transport: Transport,
    /// What the user chose.
    pub choices: &'a Choices,
    /// What the first look learned.
    pub learned: &'a Learned,
}

impl Sweep for OfClient<'_> {
    fn side(&self) -> Side {
        Side::Client
    }

    fn choices(&self) -> &Choices {
        self.choices
    }

    fn counted(&self) -> Case {
        let mut case = client::counted(self.client, self.transport, self.choices, self.learned);
        case.order.sweep = Some(SweepOrder::Measure);
        case.order.repeat = client::command(None, self.client, self.choices);
        case
    }

    fn judged(&self, point: &Point) -> Case {
        client::cut(self.client, self.transport, self.choices, self.learned, point)
    }

    fn life_ms(&self) -> u64 {
        // A client's ladder begins with a wait.
        self.learned.start_ms + self.learned.exit_ms.unwrap_or(1_000) + LIFE_COST_MS
    }

    fn case_id(&self, lifecycle: &str) -> String {
        lifecycle.to_owned()
    }
}
