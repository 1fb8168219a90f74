//! The one task of a connection.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::unix::pipe,
};

use super::{Connection, lock};
use crate::scope::TaskError;

/// Drains stderr as long as there is any, awaits the pidfd, and once the connection has ended reads
/// stdout and throws it away, so that a server that wants to say goodbye does not hang on a full pipe.
pub(super) async fn attend(connection: Arc<Connection>) -> Result<(), TaskError> {
    let _unattended = connection.unattended.clone().drop_guard();
    let mut torn = pin!(connection.torn.cancelled());
    let mut ended = pin!(connection.ended.cancelled());
    let mut chunk = vec![0; 8192];
    std::future::poll_fn(|cx| {
        if torn.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !connection.exited.is_cancelled() {
            let exit = lock(&connection.ladder).poll_exited(cx);
            if let Poll::Ready(result) = exit {
                if let Err(error) = result {
                    return Poll::Ready(Err(error.into()));
                }
                lock(&connection.ladder).show_exit();
                connection.exited.cancel();
            }
        }
        drain_stderr(&connection, cx, &mut chunk);
        if ended.as_mut().poll(cx).is_ready() {
            discard_stdout(&connection, cx, &mut chunk);
        }
        Poll::Pending
    })
    .await
}

fn drain_stderr(connection: &Connection, cx: &mut Context<'_>, chunk: &mut [u8]) {
    let mut stderr = lock(&connection.stderr);
    let stderr = &mut *stderr;
    while let Some(pipe) = &mut stderr.pipe {
        match poll_read(pipe, cx, chunk) {
            Poll::Pending => return,
            Poll::Ready(Ok(bytes)) if bytes > 0 => stderr.ring.push(&chunk[..bytes]),
            Poll::Ready(_) => {
                sabotaged!(StderrKept => crate::sabotage::keep_copy(&*pipe));
                stderr.pipe = None;
            }
        }
    }
}

fn discard_stdout(connection: &Connection, cx: &mut Context<'_>, chunk: &mut [u8]) {
    let mut slot = lock(&connection.stdout);
    while let Some(pipe) = slot.as_mut() {
        match poll_read(pipe, cx, chunk) {
            Poll::Pending => return,
            Poll::Ready(Ok(bytes)) if bytes > 0 => {}
            Poll::Ready(_) => {
                sabotaged!(StdoutKept => std::mem::forget(slot.take()));
                *slot = None;
            }
        }
    }
}

pub(super) fn poll_read(
    pipe: &mut pipe::Receiver,
    cx: &mut Context<'_>,
    chunk: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(chunk);
    Pin::new(pipe).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
}
