//! TLS, with the roots of Mozilla.

use std::{io, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, RootCertStore, pki_types::ServerName},
};

use super::{error::Unreached, socket::Socket, target::Target};

pub(super) use tokio_rustls::client::TlsStream;

/// The handshake on a fresh socket.
pub(super) async fn handshake(
    target: &Target,
    socket: Socket,
) -> Result<TlsStream<Socket>, Unreached> {
    let failed = |source| Unreached {
        doing: format!("the TLS handshake with {}", target.authority()),
        source,
    };
    let name = ServerName::try_from(target.host().to_owned())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // Named, because a program that turns on another one of rustls has no default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(failed)
}
