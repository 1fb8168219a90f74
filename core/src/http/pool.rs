//! hyper's pool of connections, with its tasks in a scope of ours.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::rt::Executor;
use hyper_util::{client::legacy, rt::TokioTimer};

use super::{HttpSettings, dial::Dial};
use crate::scope::TaskScope;

/// hyper panics below this.
const SMALLEST_HEADER_LIMIT_BYTES: usize = 8 * 1024;

pub(super) type Pool = legacy::Client<Dial, Full<Bytes>>;

/// A pool without a socket as yet.
pub(super) fn open(dial: Dial, scope: Arc<TaskScope>, settings: &HttpSettings) -> Pool {
    legacy::Client::builder(Tasks(scope))
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(settings.idle_wait)
        .pool_max_idle_per_host(settings.max_requests)
        .http1_max_buf_size(settings.header_limit_bytes.max(SMALLEST_HEADER_LIMIT_BYTES))
        .build(dial)
}

/// Where hyper's tasks run. They end when the scope is cancelled, whatever they are at.
#[derive(Clone)]
struct Tasks(Arc<TaskScope>);

impl Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for Tasks {
    fn execute(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        sabotaged!(HttpTasksKept => {
            tokio::spawn(task);
            crate::sabotage::hold_in_a_task(());
            return;
        });
        let cancelled = self.0.token().clone().cancelled_owned();
        let task = async move {
            tokio::select! {
                biased;
                () = cancelled => {}
                () = task => {}
            }
            Ok(())
        };
        if let Err(error) = self.0.spawn("http", task) {
            tracing::trace!(%error, "hyper's task was not needed any more");
        }
    }
}
