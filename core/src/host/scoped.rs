//! A host that is closed at the end of a scope, however the scope ends.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use super::{Host, Settings, Shutdown, registry::Registry};

impl Host {
    /// Runs `work` with a host and then closes it: when `work` returns, also with an error, by a
    /// [`shutdown`](Self::shutdown) with [`Settings::shutdown_wait`]; so too when it panics, and the
    /// panic goes on then. When the future of the scope is dropped, everything is killed on the spot.
    /// Clones of the host that outlive the scope are closed.
    pub async fn scope<T, F>(settings: Settings, work: impl FnOnce(Host) -> F) -> (T, Arc<Shutdown>)
    where
        F: Future<Output = T>,
    {
        let host = Host::new(settings);
        let mut unclosed = Unclosed { registry: &host.owner.registry, is_closed: false };
        let result = {
            let mut work = pin!(async { work(host.clone()).await });
            std::future::poll_fn(|cx| {
                match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            })
            .await
        };
        let shutdown = host.shutdown(host.settings().shutdown_wait).await;
        unclosed.is_closed = true;
        match result {
            Ok(value) => (value, shutdown),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Held by a scope; dropped early, it kills everything.
struct Unclosed<'a> {
    registry: &'a Registry,
    is_closed: bool,
}

impl Drop for Unclosed<'_> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.registry.kill_all();
        }
    }
}
