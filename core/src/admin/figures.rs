//! Figures: what is counted, for the census and the metrics alike.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::{kernel, serve::Counts};
use crate::{
    census::{Census, Kind},
    host::Statistics,
    lifecycle::State,
};

/// Figures of the program's own, read at each request. It must not block.
pub type MoreFigures = Arc<dyn Fn() -> Vec<Figure> + Send + Sync>;

/// One figure, or one for each value of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name: letters, digits and `_`, without the `_total` of a counter.
    pub name: String,
    /// What it counts, as a sentence without its period.
    pub help: String,
    /// What may become of it.
    pub kind: FigureKind,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// What may become of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// It goes up and down.
    Gauge,
    /// It only goes up.
    Counter,
}

/// One value of a figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Name and value of its label, if it has one. Values should be few.
    pub label: Option<(String, String)>,
    /// The value.
    pub value: u64,
}

impl Figure {
    /// A figure that goes up and down, without values yet.
    pub fn gauge(name: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name: name.into(), help: help.into(), kind: FigureKind::Gauge, samples: Vec::new() }
    }

    /// A figure that only goes up, without values yet.
    pub fn counter(name: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind: FigureKind::Counter, ..Self::gauge(name, help) }
    }

    /// Its one value; `None` for one that could not be read, which is not zero.
    #[must_use]
    pub fn of(mut self, value: impl Into<Option<u64>>) -> Self {
        self.samples.extend(value.into().map(|value| Sample { label: None, value }));
        self
    }

    /// A value for each value of a label.
    #[must_use]
    pub fn by<L: ToString>(
        mut self,
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> Self {
        self.samples.extend(
            values.into_iter().map(|(of, value)| Sample {
                label: Some((label.to_owned(), of.to_string())),
                value,
            }),
        );
        self
    }

    /// Can Prometheus read it? A name that is none would spoil the others.
    pub(super) fn is_valid(&self) -> bool {
        let is_name = |name: &str| {
            let mut characters = name.chars();
            characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
                && characters.all(|next| next.is_ascii_alphanumeric() || next == '_')
        };
        let labels = self.samples.iter().filter_map(|sample| sample.label.as_ref());
        is_name(&self.name) && labels.into_iter().all(|(name, _)| is_name(name))
    }
}

/// All figures, those of the program last. A name that stands twice counts once, the first time.
pub(super) fn all(
    statistics: &Statistics,
    census: &Census,
    counts: &Counts,
    more: &[MoreFigures],
) -> Vec<Figure> {
    let mut figures = of_host(statistics);
    figures.extend(of_census(census));
    figures.extend(of_process());
    figures.extend(of_admin(counts));
    figures.extend(more.iter().flat_map(|more| more()));
    let mut names = std::collections::BTreeSet::new();
    figures.retain(|figure| {
        let is_kept = figure.is_valid() && names.insert(figure.name.clone());
        if !is_kept {
            tracing::warn!(name = figure.name, "left out a figure: no valid name, or there twice");
        }
        is_kept
    });
    figures
}

fn of_host(statistics: &Statistics) -> Vec<Figure> {
    let count =
        |name: &str, help: &str, value| Figure::counter(format!("scupper_{name}"), help).of(value);
    vec![
        Figure::gauge("scupper_servers", "Servers of the host by what they are doing").by(
            "state",
            [
                ("connecting", statistics.connecting),
                ("ready", statistics.ready),
                ("restarting", statistics.restarting),
                ("dead", statistics.dead),
                ("closing", statistics.closing),
            ],
        ),
        count("servers_created", "Servers that were taken in", statistics.created),
        count("servers_failed", "Servers that never got ready", statistics.failed),
        count("servers_removed", "Servers that were removed on purpose", statistics.removed),
        count("servers_stale", "Dead servers that a check of health dropped", statistics.stale),
        count("servers_died", "How often a server died", statistics.died),
        count("servers_restarted", "How often one was started again", statistics.restarted),
        count("servers_refused", "Servers that were not taken in", statistics.refused),
        count("servers_dropped", "Servers that were dropped without close", statistics.dropped),
        count("connections_closed", "Connections that have ended", statistics.teardowns.count),
        count("connections_forced", "Ends of connections that needed force", statistics.forced),
        count(
            "processes_swept",
            "Helpers that servers left behind and that were killed",
            statistics.swept,
        ),
    ]
}

fn of_census(census: &Census) -> Vec<Figure> {
    let mut connections: BTreeMap<&str, u64> = BTreeMap::new();
    let states = State::ALL.map(|state| state.to_string());
    // A closed connection has no row; how many have closed is a counter.
    for state in states.iter().filter(|state| **state != State::Closed.to_string()) {
        connections.insert(state, 0);
    }
    let kinds = [
        Kind::Process,
        Kind::Connection,
        Kind::Task,
        Kind::Server,
        Kind::Session,
        Kind::Stream,
        Kind::Socket,
        Kind::Cursor,
        Kind::Guard,
    ];
    let mut alive: BTreeMap<Kind, u64> = kinds.into_iter().map(|kind| (kind, 0)).collect();
    let rows = census.rows();
    for row in &rows {
        *alive.entry(row.kind).or_default() += 1;
        if row.kind == Kind::Connection
            && let Some(count) = connections.get_mut(&*row.state)
        {
            *count += 1;
        }
    }
    let tasks = alive.get(&Kind::Task).copied();
    vec![
        Figure::gauge("scupper_connections", "Connections to servers by state")
            .by("state", connections),
        Figure::gauge("scupper_alive", "Rows of the census by kind").by("kind", alive),
        Figure::gauge("scupper_tasks", "Tasks that the host has spawned").of(tasks),
        Figure::counter(
            "scupper_dropped_without_close",
            "Things dropped that should have been closed",
        )
        .of(census.dropped_without_close()),
    ]
}

fn of_process() -> Vec<Figure> {
    vec![
        Figure::gauge("process_open_fds", "Open descriptors of this process")
            .of(kernel::open_fds()),
        Figure::gauge("process_max_fds", "How many descriptors it may have").of(kernel::max_fds()),
        Figure::gauge("scupper_children", "Children of this process, zombies too")
            .of(kernel::children()),
        Figure::gauge("scupper_runtime_tasks", "Tasks of the runtime").of(kernel::runtime_tasks()),
    ]
}

fn of_admin(counts: &Counts) -> Vec<Figure> {
    use std::sync::atomic::Ordering::Relaxed;
    let count = |name: &str, help: &str, value| {
        Figure::counter(format!("scupper_admin_{name}"), help).of(value)
    };
    let open = u64::try_from(counts.open()).ok();
    vec![
        Figure::gauge("scupper_admin_connections", "Open connections of the admin API").of(open),
        count("accepted", "Connections that the admin API accepted", counts.accepted.load(Relaxed)),
        count("not_accepted", "How often an accept failed", counts.not_accepted.load(Relaxed)),
        count("answered", "Requests that it answered", counts.answered.load(Relaxed)),
        count("refused", "Connections it refused at its limit", counts.refused.load(Relaxed)),
        count("cut", "Connections it cut for being too slow", counts.cut.load(Relaxed)),
    ]
}

/// Name to value, or to an object of label to value.
pub(super) fn to_json(figures: &[Figure]) -> Value {
    let shown = figures.iter().map(|figure| {
        let value = match &figure.samples[..] {
            [Sample { label: None, value }] => Value::from(*value),
            [] => Value::Null,
            samples => Value::Object(
                samples
                    .iter()
                    .map(|sample| {
                        let label = sample.label.as_ref().map_or("", |(_, label)| label);
                        (label.to_owned(), sample.value.into())
                    })
                    .collect(),
            ),
        };
        (figure.name.clone(), value)
    });
    Value::Object(shown.collect::<Map<_, _>>())
}
