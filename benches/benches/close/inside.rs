//! Ends that the host survives.

use std::time::{Duration, Instant};

use benches::mark::{Mark, VARIABLE};
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, poll};
use rmcp::service::{ClientLifecycleMode, serve_client_with_lifecycle};
use rmcp::transport::TokioChildProcess;
use scupper_core::census::Census;
use scupper_core::process::Command;
use scupper_core::stdio::StdioServer;

use crate::{Ended, GONE_WAIT, LEFT_WAIT, PEER};

/// What is done to the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// They are dropped.
    Drop,
    /// Their close has begun and is dropped.
    CancelledClose,
    /// Tasks of a runtime have them, and the runtime is dropped.
    RuntimeShutdown,
}

impl Means {
    pub(crate) const ALL: [Means; 3] = [Means::Drop, Means::CancelledClose, Means::RuntimeShutdown];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Means::Drop => "drop",
            Means::CancelledClose => "cancelled-close",
            Means::RuntimeShutdown => "runtime-shutdown",
        }
    }
}

/// Whose clients they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Core,
    Rmcp,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Core => "core-stdio",
            Who::Rmcp => "rmcp",
        }
    }

    /// rmcp gives a stubborn server its fixed waits after a drop, too: six seconds.
    pub(crate) fn plays(self, server: &str, at_once: usize) -> bool {
        self == Who::Core || (server != "ignores-eof-and-term" && at_once == 1)
    }
}

/// A client, as far as it can be dropped and closed.
trait Client: Send {
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

struct Closable<C>(C);

impl Client for Closable<scupper_core::stdio::StdioClient<()>> {
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { drop(self.0.close().await) }.boxed()
    }
}

impl Client for Closable<rmcp::service::RunningService<rmcp::RoleClient, ()>> {
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move { drop(self.0.cancel().await) }.boxed()
    }
}

/// Connects so many clients, ends them by these means, and waits for their processes to be gone.
pub(crate) fn end(who: Who, means: Means, server: &str, at_once: usize) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll instance");
    let (mark, census) = (Mark::fresh(), Census::new());
    let clients = runtime.block_on(async {
        let opening = (0..at_once).map(|_| open(who, server, &mark, &census));
        join_all(opening).await
    });
    let carriers = mark.carriers();
    let (began, blocked);
    if means == Means::RuntimeShutdown {
        for client in clients {
            runtime.spawn(async move {
                let _client = client;
                std::future::pending::<()>().await
            });
        }
        began = Instant::now();
        drop(runtime);
        blocked = began.elapsed();
    } else {
        (began, blocked) = match means {
            Means::CancelledClose => runtime.block_on(cancelled_close(clients)),
            _ => {
                let _inside = runtime.enter();
                let began = Instant::now();
                drop(clients);
                (began, began.elapsed())
            }
        };
        if who == Who::Rmcp {
            runtime.block_on(async {
                // Its runtime lives on and does what the drop has begun.
                let deadline = Instant::now() + LEFT_WAIT;
                while carriers.alive() > 0 && Instant::now() < deadline {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
    }
    let wait = if who == Who::Core { GONE_WAIT } else { LEFT_WAIT };
    let ended = Ended { blocked: Some(blocked), ..Ended::of(carriers, began, wait) };
    // A drop without close is on record; nothing else may be left.
    assert!(who == Who::Rmcp || ended.left == 0, "{ended:?}, {census}");
    ended
}

async fn open(who: Who, server: &str, mark: &Mark, census: &Census) -> Box<dyn Client> {
    match who {
        Who::Core => {
            let command = Command::new(PEER).arg(server).env(VARIABLE, mark.value());
            let client = StdioServer::new(command).connect((), census).await;
            let client = client.expect("the handshake is answered");
            call_echo(&client).await;
            Box::new(Closable(client))
        }
        Who::Rmcp => {
            let mut command = tokio::process::Command::new(PEER);
            command.arg(server).env(VARIABLE, mark.value());
            let transport = TokioChildProcess::new(command).expect("the peer was built");
            let mode = ClientLifecycleMode::Initialize;
            let client = serve_client_with_lifecycle((), transport, mode).await;
            let client = client.expect("the handshake is answered");
            call_echo(&client).await;
            Box::new(Closable(client))
        }
    }
}

/// Fakes start their helper at the first call.
pub(crate) async fn call_echo(peer: &rmcp::Peer<rmcp::RoleClient>) {
    let arguments = serde_json::Map::from_iter([("text".to_owned(), "hello".into())]);
    let call = rmcp::model::CallToolRequestParams::new("echo").with_arguments(arguments);
    peer.call_tool(call).await.expect("the server answers");
}

/// Begins every close, then drops them all.
async fn cancelled_close(clients: Vec<Box<dyn Client>>) -> (Instant, Duration) {
    let mut closing = Box::pin(join_all(clients.into_iter().map(Client::close)));
    assert!(poll!(&mut closing).is_pending(), "no server ends within one poll");
    let began = Instant::now();
    drop(closing);
    (began, began.elapsed())
}
