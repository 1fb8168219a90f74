//! The service's side of a session.

use std::{collections::VecDeque, sync::Arc};

use rmcp::{
    RoleServer,
    model::{
        CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage,
        ClientNotification, ServerJsonRpcMessage,
    },
    transport::Transport,
};
use tokio::sync::mpsc;

use super::{
    Cause,
    record::{SendError, Session},
};

/// What rmcp's service loop of one session reads from and writes to. It needs no task: the loop reads
/// the queue that requests fill, and writes into the queues that responses read.
#[derive(Debug)]
pub struct SessionTransport {
    session: Arc<Session>,
    inbound: mpsc::Receiver<ClientJsonRpcMessage>,
    /// Set when the session closes: a cancellation for each running request, because the loop would
    /// otherwise wait 5 s for their handlers.
    farewell: Option<VecDeque<ClientJsonRpcMessage>>,
}

impl SessionTransport {
    pub(super) fn new(
        session: Arc<Session>,
        inbound: mpsc::Receiver<ClientJsonRpcMessage>,
    ) -> Self {
        Self { session, inbound, farewell: None }
    }
}

impl Transport<RoleServer> for SessionTransport {
    type Error = SendError;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.session.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        if let Some(farewell) = &mut self.farewell {
            return farewell.pop_front();
        }
        tokio::select! {
            biased;
            () = self.session.closing.cancelled() => {
                let farewell = self.session.to_cancel().into_iter().map(cancellation).collect();
                self.farewell.insert(farewell).pop_front()
            }
            message = self.inbound.recv() => message,
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl Drop for SessionTransport {
    fn drop(&mut self) {
        let cause = if std::thread::panicking() { Cause::Panicked } else { Cause::Service };
        self.session.outbox.end();
        self.session.service_gone.cancel();
        self.session.lose(cause);
    }
}

fn cancellation(id: rmcp::model::RequestId) -> ClientJsonRpcMessage {
    let param = CancelledNotificationParam::new(Some(id), Some("the session has ended".to_owned()));
    ClientJsonRpcMessage::notification(ClientNotification::CancelledNotification(
        CancelledNotification::new(param),
    ))
}
