//! The figures of the program's own HTTP server.

use std::sync::Arc;

use super::{Figure, MoreFigures};
use crate::session::{Cause, Cut, ListenerStatistics, Registry, Server, Statistics};

/// The figures of a server's sessions and connections, for
/// [`Settings::figures`](super::Settings::figures).
pub fn figures_of_server(server: &Server) -> MoreFigures {
    let (sessions, connections) = (server.sessions().registry(), server.listener().reader());
    Arc::new(move || {
        let mut figures = of_sessions(&sessions.statistics());
        figures.extend(of_connections(&connections()));
        figures
    })
}

/// The figures of sessions behind a listener of one's own.
pub fn figures_of_sessions(sessions: &Arc<Registry>) -> MoreFigures {
    let sessions = Arc::clone(sessions);
    Arc::new(move || of_sessions(&sessions.statistics()))
}

fn of_sessions(statistics: &Statistics) -> Vec<Figure> {
    let count = |name: &str, help: &str, value: u64| {
        Figure::counter(format!("scupper_sessions_{name}"), help).of(value)
    };
    let removed = |cause: Cause| (cause, statistics.removed.get(&cause).copied().unwrap_or(0));
    vec![
        Figure::gauge("scupper_sessions", "HTTP sessions by state").by(
            "state",
            [
                ("connecting", number(statistics.connecting)),
                ("active", number(statistics.active)),
                ("closing", number(statistics.closing)),
            ],
        ),
        Figure::gauge("scupper_session_streams", "Streams that a client reads")
            .of(number(statistics.streams)),
        count("created", "HTTP sessions ever begun", statistics.created),
        Figure::counter("scupper_sessions_removed", "HTTP sessions that are gone, by cause")
            .by("cause", Cause::ALL.map(removed)),
        count("refused", "Requests refused because a limit was reached", statistics.refused),
        count("swept", "HTTP sessions that the sweeper removed", statistics.swept),
        count("stale", "Those among them that were idle", statistics.stale),
        count("cut", "Streams cut because their client did not read", statistics.cut),
    ]
}

fn of_connections(statistics: &ListenerStatistics) -> Vec<Figure> {
    let count = |name: &str, help: &str, value: u64| {
        Figure::counter(format!("scupper_listener_{name}"), help).of(value)
    };
    let cut = |why: Cut| (why, statistics.cut.get(&why).copied().unwrap_or(0));
    vec![
        Figure::gauge("scupper_listener_connections", "Open connections of clients")
            .of(number(statistics.open)),
        count("accepted", "Connections of clients that were accepted", statistics.accepted),
        count("refused", "Connections refused at the limit", statistics.refused),
        Figure::counter("scupper_listener_cut", "Connections that were cut, by reason")
            .by("why", Cut::ALL.map(cut)),
    ]
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
