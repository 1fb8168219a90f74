//! The sweeper: one task that looks at all sessions now and then, and at lost ones at once.

use std::{
    ops::ControlFlow,
    sync::{Arc, Weak},
    time::Duration,
};

use rmcp::{
    model::{ClientJsonRpcMessage, PingRequest, RequestId, ServerJsonRpcMessage, ServerRequest},
    transport::common::server_side_http::ServerSseMessage,
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Cause, record::Finding, registry::Shared};
use crate::scope::TaskError;

/// Begins the id of every question, so that its answer is known.
const QUESTION: &str = "scupper-are-you-there-";

/// How many sessions are ended or asked in one go, and how long others are served before the next.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

/// Sweeps until the token is cancelled.
pub(super) async fn sweep(
    shared: Weak<Shared>,
    alarm: Arc<Notify>,
    token: CancellationToken,
    tick: Duration,
) -> Result<(), TaskError> {
    let mut ticks = interval_at(Instant::now() + tick, tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut question: u64 = 0;
    loop {
        let due = tokio::select! {
            biased;
            () = token.cancelled() => return Ok(()),
            () = alarm.notified() => false,
            _ = ticks.tick() => true,
        };
        let Some(shared) = shared.upgrade() else {
            return Ok(());
        };
        for id in shared.take_lost() {
            let lost = shared.open_session(&id).and_then(|session| session.lost());
            shared.remove(&id, lost.unwrap_or(Cause::Service));
        }
        if due && look(&shared, &mut question, &token).await.is_break() {
            return Ok(());
        }
    }
}

/// Looks at all sessions. Many that went silent together do not all end at once, because requests of
/// others would wait behind their ends.
async fn look(
    shared: &Arc<Shared>,
    question: &mut u64,
    token: &CancellationToken,
) -> ControlFlow<()> {
    let now = Instant::now();
    let mut touched = 0;
    for session in shared.all() {
        match session.judge(&shared.settings, now) {
            Finding::InUse => continue,
            Finding::Over(cause) => {
                shared.remove(&session.id, cause);
            }
            Finding::Silent => {
                *question += 1;
                session.asked(now);
                session.outbox.push(ask(*question));
            }
        }
        touched += 1;
        if touched % AT_ONCE == 0 {
            tokio::select! {
                biased;
                () = token.cancelled() => return ControlFlow::Break(()),
                () = sleep(PAUSE) => {}
            }
        }
    }
    ControlFlow::Continue(())
}

fn ask(number: u64) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::request(
        ServerRequest::PingRequest(PingRequest::default()),
        RequestId::String(format!("{QUESTION}{number}").into()),
    )
}

/// Is this a question of the sweeper?
pub(super) fn is_question(event: &ServerSseMessage) -> bool {
    match event.message.as_deref() {
        Some(ServerJsonRpcMessage::Request(request)) => is_ours(&request.id),
        _ => false,
    }
}

/// Is this the answer to one? The service never asked, so it is not told.
pub(super) fn is_answer(message: &ClientJsonRpcMessage) -> bool {
    match message {
        ClientJsonRpcMessage::Response(response) => is_ours(&response.id),
        ClientJsonRpcMessage::Error(error) => error.id.as_ref().is_some_and(is_ours),
        _ => false,
    }
}

fn is_ours(id: &RequestId) -> bool {
    matches!(id, RequestId::String(id) if id.starts_with(QUESTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_server(json: &str) -> ServerSseMessage {
        ServerSseMessage::from_message(serde_json::from_str(json).expect("a message"))
    }

    fn from_client(json: &str) -> ClientJsonRpcMessage {
        serde_json::from_str(json).expect("a message")
    }

    #[test]
    fn a_question_and_its_answers_are_told_from_what_the_service_says() {
        assert!(is_question(&ServerSseMessage::from_message(ask(3))));
        for other in [
            r#"{"jsonrpc":"2.0","id":"3","method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
        ] {
            assert!(!is_question(&from_server(other)), "{other}");
        }
        let (result, error) = (r#""result":{}"#, r#""error":{"code":-32601,"message":"no"}"#);
        for what in [result, error] {
            let answer =
                |id: &str| from_client(&format!(r#"{{"jsonrpc":"2.0","id":{id},{what}}}"#));
            assert!(is_answer(&answer(&format!("\"{QUESTION}3\""))), "{what}");
            assert!(!is_answer(&answer("3")), "{what}");
        }
        assert!(!is_answer(&from_client(r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#)));
    }
}
