//! One HTTP request, and the head of its answer.

use std::{error::Error, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::ACCEPT};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;

use super::{
    connection::Connection,
    error::{RequestError, Unreached, chain},
};

impl Connection {
    /// Without a session, with the user's own headers.
    pub(super) fn bare_request(&self, method: Method) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = self.target.uri().clone();
        let mut headers = self.user_headers();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        *request.headers_mut() = headers;
        request
    }

    /// Sends, and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        wait: Duration,
        setting: &'static str,
    ) -> Result<Response<Incoming>, RequestError> {
        let method = request.method().clone();
        let url = Arc::clone(self.target.url());
        let Some(pool) = self.pool() else {
            return Err(RequestError::Ended(self.cause()));
        };
        match tokio::time::timeout(wait, pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.explain(method, error)),
            Err(_) => Err(RequestError::TimedOut {
                method,
                url,
                what: "no answer",
                waited: wait,
                setting,
            }),
        }
    }

    fn explain(&self, method: Method, error: legacy::Error) -> RequestError {
        let url = Arc::clone(self.target.url());
        if error.is_connect() {
            let unreached = error.source().and_then(|source| source.downcast_ref::<Unreached>());
            let source = match unreached {
                Some(unreached) => Unreached {
                    doing: unreached.doing.clone(),
                    source: io::Error::new(unreached.source.kind(), unreached.source.to_string()),
                },
                None => Unreached {
                    doing: format!("connecting to {}", self.target.authority()),
                    source: io::Error::other(chain(&error)),
                },
            };
            return RequestError::Unreachable { url, source };
        }
        let why = chain(&error);
        // hyper has a method to ask for this, but only for servers.
        if why.contains("message head is too large") {
            return RequestError::TooLarge {
                method,
                url,
                what: "the head of the answer",
                limit_bytes: self.settings.header_limit_bytes,
                setting: "header_limit_bytes",
            };
        }
        RequestError::Broken { method, url, why }
    }
}
