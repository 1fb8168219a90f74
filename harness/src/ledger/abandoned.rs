//! Whose duty the end of what a client has left behind was (design: rules of judgement, 6). The
//! subject is the client here, and its servers are ours. Pure.

pub mod http;

use super::snapshot::{Kind, ProcessId};
use super::verdict::{Class, Culprit, Holder};
use crate::lifecycle::client::{Deed, rule};
use crate::lifecycle::step::Era;

/// How the client came to leave something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It exited, by itself or because it was asked to.
    Exited,
    /// It was sent SIGKILL, by which nobody can do anything more.
    Killed,
    /// While it ended its servers it was sent a signal, and died of it, as by default.
    Struck(Deed),
    /// It lives on, and has nothing more to do.
    AtRest,
}

/// A server that outlived its client, or the end that its client gave it.
#[derive(Debug)]
pub struct Stay<'a> {
    /// How the client left it.
    pub departure: Departure,
    /// The server has seen the end of its stdin.
    pub stdin_ended: bool,
    /// The signals that reached the server, in order.
    pub signals: &'a [String],
    /// Others that hold the write end of its stdin.
    pub writers: &'a [Holder],
    /// How many processes could not be read while looking for these.
    pub writers_unread: usize,
    /// The process between client and server, where there is one, and whether it is gone.
    pub wrapper: Option<(ProcessId, bool)>,
    /// By which era's rules.
    pub era: Era,
}

/// Whose fault something is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Leak or advisory.
    pub class: Class,
    /// Whose duty.
    pub culprit: Culprit,
    /// Why this culprit.
    pub blame: String,
    /// The rule it breaks, if one does.
    pub rule: Option<&'static str>,
    /// Why it hurts.
    pub hurts: &'static str,
    /// What to change.
    pub remedy: &'static str,
}

const HURTS: &str =
    "each life of the client leaves one more server, and nobody is left who could end it";

/// A server that lives.
pub fn server(stay: &Stay<'_>) -> Judgement {
    if let (false, Some(holder)) = (stay.stdin_ended, stay.writers.first()) {
        return Judgement {
            class: Class::Leak,
            culprit: Culprit::Client,
            blame: format!(
                "its stdin has not ended: pid {} ({}) still has the write end, which only the \
                 client can have given it",
                holder.pid, holder.command
            ),
            rule: Some(rule(stay.era)),
            hurts: HURTS,
            remedy: "close the write end in every process that is started, or open it \
                     close-on-exec: while anybody has it, the server's stdin does not end",
        };
    }
    if stay.departure == Departure::Killed {
        let seen = if stay.stdin_ended { "saw its stdin end and stayed" } else { "stayed" };
        return Judgement {
            class: Class::Advisory,
            culprit: Culprit::Server,
            blame: format!(
                "the client was sent SIGKILL and could do nothing more; the server {seen}"
            ),
            rule: (stay.era == Era::Modern && stay.stdin_ended).then_some("2026-07-28 stdio N9"),
            hurts: HURTS,
            remedy: "exit when stdin ends",
        };
    }
    if let (Departure::Struck(signal), true) =
        (stay.departure, stay.stdin_ended || !stay.signals.is_empty())
    {
        return Judgement {
            class: Class::Advisory,
            culprit: Culprit::Server,
            blame: format!(
                "the client was in the middle of ending it when it was sent {signal} and died of it, as \
                 by default; {}, and the server stayed",
                seen(stay)
            ),
            rule: (stay.era == Era::Modern && stay.stdin_ended).then_some("2026-07-28 stdio N9"),
            hurts: HURTS,
            remedy: "exit when stdin ends; a client that wants to be safe from such a server \
                     catches the signal and goes on with its ladder, up to SIGKILL",
        };
    }
    let left = match stay.departure {
        Departure::AtRest => "the client lives on and does nothing more about it",
        _ => "the client exited without it",
    };
    let (blame, remedy) = match (stay.signals.last(), stay.wrapper) {
        (None, Some((wrapper, true))) => (
            format!(
                "{left}: {}, and no signal reached it; the process between them, pid {}, is gone",
                seen(stay),
                wrapper.pid
            ),
            "start the server in a process group of its own and signal that group: a signal to a \
             shell or a launcher does not reach what it started",
        ),
        (None, _) => (
            format!("{left}: {}, and no signal came after that", seen(stay)),
            "after the end of stdin wait for the server's exit, then send SIGTERM, then SIGKILL, \
             and do not return before it is reaped",
        ),
        (Some(signal), _) => (
            format!("{left}: {}, then {signal} came, and no SIGKILL after that", seen(stay)),
            "a server that stays upon SIGTERM has to be sent SIGKILL before the client goes",
        ),
    };
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame,
        rule: Some(rule(stay.era)),
        hurts: HURTS,
        remedy,
    }
}

fn seen(stay: &Stay<'_>) -> String {
    match (stay.stdin_ended, stay.writers_unread) {
        (true, _) => "it saw the end of its stdin".to_owned(),
        (false, 0) => "it did not see its stdin end".to_owned(),
        (false, unread) => format!(
            "it did not see its stdin end (who has the write end is not known: {unread} processes \
             could not be read)"
        ),
    }
}

/// A helper that outlived the server that started it.
pub fn helper(of: Option<ProcessId>) -> Judgement {
    let by = of.map(|server| format!(", pid {},", server.pid)).unwrap_or_default();
    Judgement {
        class: Class::Advisory,
        culprit: Culprit::Server,
        blame: format!(
            "the server{by} started it and ended without it; no rule obliges the client to end it"
        ),
        rule: None,
        hurts: "no SDK sweeps what its servers leave, so each life of such a server leaves one \
                more; a client that swept would be safe from it",
        remedy: "a client that wants to be safe starts each server in a process group of its own, \
                 or in a cgroup, and ends what is left of it also after a graceful exit",
    }
}

/// A process of the client's own, or one between it and its servers, that outlived it.
pub fn companion(departure: Departure) -> Judgement {
    let (class, blame) = match departure {
        Departure::Killed => (
            Class::Advisory,
            "the client started it and was sent SIGKILL, by which it could do nothing more",
        ),
        _ => (Class::Leak, "the client started it and exited without it"),
    };
    Judgement {
        class,
        culprit: Culprit::Client,
        blame: blame.to_owned(),
        rule: None,
        hurts: "each life of the client leaves one more process",
        remedy: "end and wait for every process that the client starts, or give it a pipe whose \
                 end tells it to go",
    }
}

/// The client proper, left by the launcher that was started and signalled. It counts where the case
/// is about signals; elsewhere the signal only ended a case in which the client waited.
pub fn behind_launcher(departure: Departure, signal: &str, about_signals: bool) -> Judgement {
    let class = match departure {
        Departure::Exited if about_signals => Class::Leak,
        _ => Class::Advisory,
    };
    Judgement {
        class,
        culprit: Culprit::Launcher,
        blame: format!(
            "the launcher was sent {signal}, died of it and left the client that it had started"
        ),
        rule: None,
        hurts: "who signals the one process that was started leaves the client running, and all \
                its servers",
        remedy: "start the client directly, or through a launcher that replaces itself (exec) or \
                 passes signals on",
    }
}

/// The client itself, which stays when it is told to end.
pub fn client(signal: &str, open: usize) -> Judgement {
    let servers = match open {
        0 => String::new(),
        1 => "; the stdin of one server is still open, and a server waits for its end".to_owned(),
        number => format!("; the stdin of {number} servers is still open"),
    };
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: format!("it was sent {signal} itself and stayed{servers}"),
        rule: None,
        hurts: "who started it has to send SIGKILL, which lets it end none of its servers",
        remedy: "close the servers' stdins before waiting for their exit, and put a bound on every \
                 wait of the shutdown",
    }
}

/// A client that waits, though no server is left to wait for; with the era by whose rules a request
/// is in flight. Time alone says that it would wait on, so it is advisory.
pub fn waiting(in_flight: Option<Era>) -> Judgement {
    Judgement {
        class: Class::Advisory,
        culprit: Culprit::Client,
        blame:
            "after a good life it ended by itself; here its server is dead, nothing can come any \
                more, and it stays"
                .to_owned(),
        rule: in_flight.filter(|era| *era == Era::Legacy).map(|_| "2025-11-25 lifecycle T1"),
        hurts: "who started the client waits with it, for ever where nobody looks",
        remedy: "take the end of the server's stdout for the end of every request that is in \
                 flight, and give each request a time-out; --leak-timeout waits longer for a client \
                 that tries again later",
    }
}

/// A server that is dead and that the client, which lives on, has not waited for.
pub fn zombie() -> Judgement {
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: "it is the client's child, it is dead, and the client has not waited for it"
            .to_owned(),
        rule: None,
        hurts: "each dead server keeps its entry in the process table until the client ends",
        remedy: "wait for each server that was started (waitpid, Child::wait, an exit listener), \
                 however it ended",
    }
}

/// Descriptors of the client's that a server was born with.
pub fn inherited() -> Judgement {
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: "a server is given its three streams; what else it was born with, the client left \
                open for it"
            .to_owned(),
        rule: None,
        hurts: "a pipe or socket does not end while any process has a copy of it: the other \
                server waits for the end of its stdin, and a port stays taken",
        remedy: "open every descriptor close-on-exec (O_CLOEXEC, SOCK_CLOEXEC, pipe2), or close \
                 all but three in the child (close_range)",
    }
}

/// What a client that lives on has more of with every round.
pub fn grown(kind: Kind) -> Judgement {
    let (hurts, remedy) = match kind {
        Kind::Process => (
            "a client that lives for days collects processes until the host has no room for more",
            "end and wait for each server when its session is closed, on the error paths too",
        ),
        Kind::Zombie => {
            let zombie = zombie();
            (zombie.hurts, zombie.remedy)
        }
        Kind::Fd => (
            "a client that lives on ends with \"too many open files\"",
            "close all three pipes of a server when its session is closed, on the error paths too",
        ),
        _ => (
            "each thread keeps its stack, and the host's limit on threads comes nearer",
            "let the threads that read from a server end with it",
        ),
    };
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: "every round is a server that was started and ended, and nothing of it should be \
                left when the next one begins"
            .to_owned(),
        rule: None,
        hurts,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launcher_counts_only_where_a_signal_was_the_point() {
        let class = |departure, about| behind_launcher(departure, "a signal", about).class;
        assert_eq!(class(Departure::Exited, true), Class::Leak);
        // The client waited, and the signal was the way to end the case.
        assert_eq!(class(Departure::Exited, false), Class::Advisory);
        assert_eq!(class(Departure::Killed, true), Class::Advisory);
    }

    fn stay(departure: Departure) -> Stay<'static> {
        Stay {
            departure,
            stdin_ended: true,
            signals: &[],
            writers: &[],
            writers_unread: 0,
            wrapper: None,
            era: Era::Legacy,
        }
    }

    #[test]
    fn a_server_that_is_left_is_the_clients() {
        let judged = server(&stay(Departure::Exited));
        assert_eq!((judged.class, judged.culprit), (Class::Leak, Culprit::Client));
        assert_eq!(judged.rule, Some("2025-11-25 lifecycle X1"));
        let modern = server(&Stay { era: Era::Modern, ..stay(Departure::AtRest) });
        assert_eq!(modern.rule, Some("2026-07-28 stdio N8"));
    }

    #[test]
    fn a_server_that_outlives_a_killed_client_is_its_own_doing() {
        let judged = server(&stay(Departure::Killed));
        assert_eq!((judged.class, judged.culprit), (Class::Advisory, Culprit::Server));
    }

    #[test]
    fn a_client_that_dies_in_its_ladder_shares_the_fault_and_one_that_leaves_it_does_not() {
        let struck = stay(Departure::Struck(Deed::Terminate));
        let judged = server(&struck);
        assert_eq!((judged.class, judged.culprit), (Class::Advisory, Culprit::Server));
        assert!(judged.blame.contains("SIGTERM and died of it"), "{}", judged.blame);
        // Nothing was done to end it yet, so it was not in the middle of that.
        let judged = server(&Stay { stdin_ended: false, ..struck });
        assert_eq!((judged.class, judged.culprit), (Class::Leak, Culprit::Client));
    }

    #[test]
    fn a_write_end_that_somebody_has_is_the_clients_even_when_it_was_killed() {
        let writers = [Holder { pid: 7, command: "worker".into(), holds: "write end".into() }];
        let judged =
            server(&Stay { stdin_ended: false, writers: &writers, ..stay(Departure::Killed) });
        assert_eq!((judged.class, judged.culprit), (Class::Leak, Culprit::Client));
        assert!(judged.blame.contains("pid 7 (worker)"), "{}", judged.blame);
    }

    #[test]
    fn the_remedy_is_the_rung_that_was_missing() {
        let wrapper = Some((ProcessId { pid: 5, start_time: 1 }, true));
        let by_wrapper = server(&Stay { wrapper, ..stay(Departure::Exited) });
        assert!(by_wrapper.remedy.contains("process group"), "{}", by_wrapper.remedy);
        let signals = ["SIGTERM".to_owned()];
        let by_term = server(&Stay { signals: &signals, wrapper, ..stay(Departure::Exited) });
        assert!(by_term.remedy.contains("SIGKILL"), "{}", by_term.remedy);
        assert!(by_term.blame.contains("SIGTERM came"), "{}", by_term.blame);
    }

    #[test]
    fn what_a_well_ended_server_leaves_is_not_the_clients() {
        let judged = helper(None);
        assert_eq!((judged.class, judged.culprit), (Class::Advisory, Culprit::Server));
    }
}
