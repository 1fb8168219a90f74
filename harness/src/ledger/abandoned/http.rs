//! The same of a client over HTTP. Its server is ours and goes on without it: what it leaves is a
//! session there, and sockets of its own while it lives. Pure.

use super::super::snapshot::Kind;
use super::super::verdict::{Class, Culprit};
use super::Judgement;
use crate::lifecycle::step::Era;

const H6: &str = "2025-11-25 http H6";
const H12: &str = "2025-11-25 http H12";
const H13: &str = "2025-11-25 http H13";

/// How a client parted from its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting<'a> {
    /// It exited, and by its code all was well; or it began another session.
    Well,
    /// The same, though its server did not do what it was asked for.
    WellAllTheSame,
    /// It exited with an error.
    Failed,
    /// It was sent this signal, and did not exit as if all were well.
    Signalled(&'a str),
}

/// A session that nobody ended. Nothing of the client's is left, but its server was never told: it is
/// the client's leak where the client says itself that it ended well, and an advisory where it may not
/// have come to that.
pub fn session(parting: Parting<'_>) -> Judgement {
    let (class, how) = match parting {
        Parting::Well => (Class::Leak, "ended well and sent no DELETE for it".to_owned()),
        Parting::WellAllTheSame => {
            (Class::Advisory, "was failed by its server, and sent no DELETE for it".to_owned())
        }
        Parting::Failed => {
            (Class::Advisory, "ended with an error, and sent no DELETE for it".to_owned())
        }
        Parting::Signalled(signal) => {
            (Class::Advisory, format!("was sent {signal}, and ended without a DELETE for it"))
        }
    };
    Judgement {
        class,
        culprit: Culprit::Client,
        blame: format!("the client began it, {how}"),
        rule: Some(H13),
        hurts: "each life of the client leaves one more session at its server, which keeps it until \
                its idle time-out (5 minutes with rmcp, 30 with the Python SDK), or for ever",
        remedy: "send DELETE with the session's id before the connection is closed, on the error \
                 paths too; with the TypeScript SDK that is terminateSession() before close()",
    }
}

/// A response that the client still reads, or keeps, of a session that it has ended.
pub fn stream() -> Judgement {
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame:
            "the client has ended the session and keeps the connection on which its events came; \
                a server need not end it"
                .to_owned(),
        rule: None,
        hurts: "a client that lives on keeps one more socket for each session that it has ended, and \
                its server another",
        remedy: "cancel the request for the stream, or close its response, when the session is ended",
    }
}

/// The same stream again and again.
pub fn reconnects() -> Judgement {
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: "the server ended the stream and asked for a second before the next attempt \
                (`retry: 1000`); the client did not wait"
            .to_owned(),
        rule: Some(H6),
        hurts: "every attempt takes a port of the host for a minute (TIME_WAIT), and a server that \
                restarts is met by all of its clients at once",
        remedy: "wait before each attempt as long as `retry` says, longer each time, and give up in \
                 the end",
    }
}

/// The same request again and again, whatever comes of it.
pub fn repeats() -> Judgement {
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame:
            "each of these was answered with a failure or a redirect, and the client asked again \
                without a pause"
                .to_owned(),
        rule: None,
        hurts: "a server in trouble is asked more than one that is well, and the client is busy with \
                nothing",
        remedy: "put a bound on attempts and on redirects, and wait between them",
    }
}

/// A session that is dead, and that the client still uses.
pub fn dead_session() -> Judgement {
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: "the server answered 404 to it, and the client goes on with the same id".to_owned(),
        rule: Some(H12),
        hurts: "after a restart of its server the client never recovers: all that it asks is in vain",
        remedy: "on 404 forget the id and initialize anew without one, or tell whoever asked and end",
    }
}

/// The client itself, which stays when it is told to end.
pub fn client(signal: &str, streams: usize, in_flight: usize) -> Judgement {
    let open = match (streams, in_flight) {
        (0, 0) => String::new(),
        (0, 1) => "; one request has no answer yet".to_owned(),
        (0, many) => format!("; {many} requests have no answer yet"),
        (1, _) => "; one stream of events is still open".to_owned(),
        (many, _) => format!("; {many} streams of events are still open"),
    };
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: format!("it was sent {signal} itself and stayed{open}"),
        rule: None,
        hurts: "who started it has to send SIGKILL, which lets it end none of its sessions",
        remedy: "put a bound on every wait of the shutdown: for answers, for the end of streams, and \
                 for the answer to DELETE",
    }
}

/// A client that waits, though its server is gone. Time alone says that it would wait on, so it is
/// advisory.
pub fn waiting(era: Era) -> Judgement {
    Judgement {
        class: Class::Advisory,
        culprit: Culprit::Client,
        blame:
            "after a good life it ended by itself; here its server is gone, nothing can come any \
                more, and it stays"
                .to_owned(),
        rule: (era == Era::Legacy).then_some("2025-11-25 lifecycle T1"),
        hurts: "who started the client waits with it, for ever where nobody looks",
        remedy: "take the end of a connection for the end of the request on it, put a bound on \
                 attempts, and give each request a time-out; --leak-timeout waits longer for a \
                 client that tries again later",
    }
}

/// What a client that lives on has more of with every round.
pub fn grown(kind: Kind) -> Judgement {
    let (hurts, remedy) = match kind {
        Kind::Session => {
            let session = session(Parting::Well);
            (session.hurts, session.remedy)
        }
        Kind::Process | Kind::Zombie => (
            "a client that lives for days collects processes until the host has no room for more",
            "end and wait for every process that a round starts",
        ),
        Kind::Fd => (
            "a client that lives on ends with \"too many open files\"",
            "close the HTTP client and its responses with the session, on the error paths too, or \
             share one HTTP client among all sessions",
        ),
        _ => (
            "each thread keeps its stack, and the host's limit on threads comes nearer",
            "let the threads that serve a session end with it",
        ),
    };
    Judgement {
        class: Class::Leak,
        culprit: Culprit::Client,
        blame: "every round is a connection that was made and closed, and nothing of it should be \
                left when the next one begins"
            .to_owned(),
        rule: (kind == Kind::Session).then_some(H13),
        hurts,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_where_the_client_says_itself_that_all_was_well() {
        assert_eq!(session(Parting::Well).class, Class::Leak);
        let others = [Parting::WellAllTheSame, Parting::Failed, Parting::Signalled("SIGTERM")];
        for parting in others {
            let judged = session(parting);
            assert_eq!((judged.class, judged.culprit), (Class::Advisory, Culprit::Client));
            assert_eq!(judged.rule, Some(H13));
        }
    }

    #[test]
    fn every_rule_is_in_the_book() {
        for rule in [H6, H12, H13] {
            assert!(crate::ledger::rules::RULES.iter().any(|one| one.id == rule), "{rule}");
        }
    }
}
