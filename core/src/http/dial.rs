//! From an address to something that HTTP can be spoken on.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

use super::{
    error::Unreached,
    socket::{Socket, Sockets},
    target::Target,
};

/// Makes sockets for hyper's pool. There is one server, so it does not look where hyper points.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) target: Arc<Target>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) wait: Duration,
}

impl Dial {
    async fn dial(self) -> Result<TokioIo<Wire>, Unreached> {
        match tokio::time::timeout(self.wait, self.reach()).await {
            Ok(result) => result,
            Err(_) => Err(Unreached {
                doing: format!("connecting to {}", self.target.authority()),
                source: io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not done within {:?} (`HttpSettings::socket_wait`)", self.wait),
                ),
            }),
        }
    }

    async fn reach(&self) -> Result<TokioIo<Wire>, Unreached> {
        let socket = self.connect().await?;
        #[cfg(feature = "tls")]
        if self.target.is_https() {
            let stream = super::tls::handshake(&self.target, socket).await?;
            return Ok(TokioIo::new(Wire::Tls(Box::new(stream))));
        }
        Ok(TokioIo::new(Wire::Plain(socket)))
    }

    /// Tries each of the host's addresses in turn.
    async fn connect(&self) -> Result<Socket, Unreached> {
        let host = self.target.host();
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, self.target.port()))
            .await
            .map_err(|source| Unreached { doing: format!("looking up `{host}`"), source })?
            .collect();
        let mut failure = None;
        for address in addresses {
            match self.sockets.connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(source) => {
                    failure = Some(Unreached { doing: format!("connecting to {address}"), source });
                }
            }
        }
        Err(failure.unwrap_or_else(|| Unreached {
            doing: format!("looking up `{host}`"),
            source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        }))
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Wire>;
    type Error = Unreached;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unreached>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreached>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

/// A socket, in the clear or under TLS.
pub(super) enum Wire {
    Plain(Socket),
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::TlsStream<Socket>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// The same operation on whichever it is.
macro_rules! on_either {
    ($wire:expr, $stream:ident => $operate:expr) => {
        match $wire.get_mut() {
            Wire::Plain($stream) => $operate,
            #[cfg(feature = "tls")]
            Wire::Tls($stream) => $operate,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_either!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Plain(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
