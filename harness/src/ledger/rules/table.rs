//! The texts, in our words, by revision, then page, then id.

use super::{
    Rule,
    Sight::{Process, SideChannel, Wire},
};
use crate::lifecycle::step::Era::{Legacy, Modern};

macro_rules! rules {
    ($($era:ident $revision:literal {
        $($id:literal [$($observed:ident),*] $text:literal;)*
    })*) => {
        &[$($(Rule {
            id: concat!($revision, " ", $id),
            era: $era,
            text: $text,
            observed: &[$($observed),*],
        }),*),*]
    };
}

/// Every rule, the older revision first.
pub const RULES: &[Rule] = rules! {
    Legacy "2025-11-25" {
        "cancellation C1" [Wire]
            "A cancellation MUST name only a request that was sent in the same direction and is \
             believed to be in flight.";
        "cancellation C2" [Wire]
            "The client MUST NOT cancel `initialize`.";
        "cancellation C3" [Wire]
            "A task-augmented request MUST be cancelled by `tasks/cancel`, not by a notification.";
        "cancellation C4" [SideChannel, Wire]
            "The receiver of a cancellation SHOULD stop the work, free its resources and not \
             respond.";
        "cancellation C5" [Wire]
            "The receiver MAY ignore a cancellation whose request is unknown, complete or cannot \
             be cancelled.";
        "cancellation C6" [Wire]
            "The sender of a cancellation SHOULD ignore a response that arrives afterwards.";
        "cancellation C7" [Wire]
            "Both sides MUST handle the race of response and cancellation gracefully. Neither \
             crashes, neither hangs.";
        "cancellation C8" [Wire]
            "An invalid cancellation SHOULD be ignored.";

        "http H6" [Wire]
            "The server MAY close the connection of a stream once it has sent an event id. The \
             client SHOULD then reconnect, and MUST respect `retry`.";
        "http H7" [SideChannel]
            "A disconnect SHOULD NOT be read as a cancellation. To cancel, the client SHOULD send \
             the notification.";
        "http H12" [Wire]
            "The server MAY end a session at any time and then MUST answer 404 to its id. The \
             client, on 404, MUST initialize anew without an id.";
        "http H13" [Wire]
            "A client that is done with a session SHOULD send DELETE. The server MAY answer 405.";

        "lifecycle L1" [Wire]
            "Initialization MUST be the first interaction: the client MUST send `initialize` with \
             version, capabilities and client information.";
        "lifecycle L2" [Wire]
            "The server MUST answer `initialize` with its capabilities and information. The \
             client then MUST send `notifications/initialized`.";
        "lifecycle L3" [Wire]
            "The client SHOULD NOT send requests other than ping before the server has answered \
             `initialize`.";
        "lifecycle L4" [Wire]
            "The server SHOULD NOT send requests other than ping and logging before it received \
             `notifications/initialized`.";
        "lifecycle L5" [Wire, Process]
            "The client MUST offer a version that it supports, and the server MUST echo it or \
             name another that it supports. A client that cannot speak the one named SHOULD \
             disconnect.";
        "lifecycle L7" [Wire]
            "Both sides MUST keep to the negotiated version and capabilities.";
        "lifecycle T1" [Wire]
            "Every request SHOULD have a timeout. When it passes, the sender SHOULD send a \
             cancellation and stop waiting.";
        "lifecycle T2" [Wire]
            "Timeouts SHOULD be configurable per request. Progress MAY reset the clock, and a \
             hard maximum SHOULD hold regardless.";
        "lifecycle X1" [Process]
            "The client SHOULD end a stdio server by closing its stdin, waiting, then SIGTERM, \
             then SIGKILL, each after a reasonable time.";
        "lifecycle X2" [Wire, Process]
            "The server MAY begin the shutdown by closing its stdout and exiting.";
        "lifecycle X3" [Wire]
            "HTTP shutdown is the closing of the connections. There is no message for it.";

        "pagination A1" [Wire]
            "A cursor is opaque: the client MUST NOT parse, modify or persist it across sessions.";
        "pagination A2" [Wire]
            "The server SHOULD give stable cursors and answer -32602 to an invalid one.";

        "ping P1" [Wire]
            "The receiver of a ping MUST answer promptly with an empty result. Without an answer \
             the sender MAY call the connection stale, end it and reconnect.";

        "progress G1" [Wire]
            "Progress MUST name the token of an active request, MUST increase and MUST stop once \
             the request is complete.";

        "stdio F1" [Wire]
            "Messages MUST be UTF-8.";
        "stdio F2" [Wire]
            "Messages are delimited by newlines and MUST NOT contain any.";
        "stdio F3" [Wire]
            "The server MUST NOT write anything to its stdout that is not a message.";
        "stdio F4" [Wire]
            "The client MUST NOT write anything to the server's stdin that is not a message.";
        "stdio F5" [Wire]
            "The server MAY write UTF-8 text to its stderr for logging.";
        "stdio F6" [Wire]
            "The client MAY capture, forward or ignore the server's stderr and SHOULD NOT take it \
             for a sign of errors.";

        "tasks K1" [Wire]
            "A task MUST report createdAt, lastUpdatedAt and ttl. After its ttl the receiver MAY \
             delete it.";
        "tasks K2" [Wire]
            "`tasks/cancel` MUST set the task to cancelled before it is answered, and the task \
             MUST stay so. For a task that has ended the answer MUST be -32602.";
    }

    Modern "2026-07-28" {
        "basic N1" [SideChannel]
            "The server MUST NOT rely on earlier requests of the same connection.";
        "basic N2" [Wire, Process]
            "The server SHOULD NOT require that related operations come by the same connection or \
             process.";
        "basic N3" [Process]
            "The client SHOULD NOT make a task, a thread or a conversation the lifetime of the \
             stdio process.";
        "basic N4" [Wire]
            "State that spans requests MUST be named by an explicit identifier in each of them.";

        "cancellation C1" [Wire]
            "A cancellation MUST name only a request that the client sent and believes to be in \
             flight. One from the server MUST name a `subscriptions/listen`.";
        "cancellation C4" [SideChannel, Wire]
            "The server SHOULD, on a cancellation, stop the work, free its resources and not \
             respond.";
        "cancellation C5" [Wire]
            "The server MAY ignore a cancellation whose request is unknown, complete or cannot be \
             cancelled.";
        "cancellation C6" [Wire]
            "The client SHOULD ignore a response that arrives after its cancellation.";
        "cancellation C7" [Wire]
            "Both sides MUST handle the race of response and cancellation gracefully. Neither \
             crashes, neither hangs.";
        "cancellation C8" [Wire]
            "An invalid cancellation SHOULD be ignored.";

        "http N13" [Wire]
            "The server SHOULD answer 405 to GET and DELETE. It mints no session id and ignores \
             those it is sent.";
        "http N15" [Wire]
            "A response stream carries the notifications of its request, then the response, which \
             SHOULD end it. The server MUST NOT send requests on it.";
        "http N16" [SideChannel]
            "The server MUST take the closing of the response stream for the cancellation of its \
             request. It SHOULD stop the work and MUST send no more for it.";

        "mrtr M1" [SideChannel]
            "The server MUST NOT assume that the client comes back with the input it asked for. \
             Nothing may be held for it without bound.";

        "pagination A1" [Wire]
            "A cursor is opaque: the client MUST NOT parse, modify or persist it. The empty \
             string is a cursor like any other.";
        "pagination A2" [Wire]
            "The server SHOULD answer -32602 to an invalid cursor.";

        "stdio F1" [Wire]
            "Messages MUST be UTF-8.";
        "stdio F2" [Wire]
            "Messages are delimited by newlines and MUST NOT contain any.";
        "stdio F3" [Wire]
            "The server MUST NOT write anything to its stdout that is not a message.";
        "stdio F4" [Wire]
            "The client MUST NOT write anything to the server's stdin that is not a message.";
        "stdio F5" [Wire]
            "The server MAY write UTF-8 text to its stderr for logging.";
        "stdio F6" [Wire]
            "The client MAY capture, forward or ignore the server's stderr and SHOULD NOT take it \
             for a sign of errors.";
        "stdio N5" [Wire]
            "The client MUST NOT write responses, since no server sends requests.";
        "stdio N6" [Wire]
            "The server MUST NOT write requests.";
        "stdio N7" [Wire, SideChannel]
            "To cancel, the client MUST send `notifications/cancelled`. The server SHOULD stop \
             the work as soon as practical and MUST send nothing further for the request.";
        "stdio N8" [Process]
            "The client SHOULD end the server by closing its stdin, waiting, and terminating it \
             by force if it has not exited in reasonable time. On POSIX that is SIGTERM, then \
             SIGKILL.";
        "stdio N9" [Process]
            "The server SHOULD exit promptly when its stdin ends. It is the primary signal of a \
             graceful shutdown and the only portable one.";
        "stdio N10" [Process, Wire]
            "The server MAY begin the shutdown by closing its stdout and exiting.";
        "stdio N11" [Process, Wire]
            "A client whose server exited unexpectedly SHOULD restart it. Requests in flight are \
             lost, and subscriptions must be listened to anew.";
        "stdio N12" [Wire]
            "A client of both eras SHOULD probe with `server/discover` first. Its fallback MUST \
             NOT depend on one error code, and silence for a reasonable time means legacy.";

        "subscriptions S1" [Wire]
            "The server MUST send `notifications/cancelled` for a subscription that it tears \
             down, or SHOULD end it with a result. Either is taken, one is asked for.";
    }
};
