//! A server behind a pair of streams: whatever ends the connection, both streams are dropped.

use std::{future::pending, io, sync::Arc, time::Duration};

use rmcp::{ServerHandler, ServiceExt};
use scupper_core::{
    census::Census,
    host::{ConnectionEnd, Host, HostError, OnDuplicate, ServerSpec, Settings},
    stream::{StreamCause, StreamConnectError, StreamServer, StreamSettings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::yield_now,
};

#[derive(Clone)]
struct Demo;

impl ServerHandler for Demo {}

type Halves = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

fn settings() -> StreamSettings {
    StreamSettings {
        connect_wait: Duration::from_secs(5),
        end_grace: Duration::from_secs(1),
        line_limit_bytes: 1000,
        ..StreamSettings::default()
    }
}

/// A server whose far ends come out of the channel.
fn raw() -> (StreamServer, UnboundedReceiver<DuplexStream>) {
    let (sender, far) = unbounded_channel();
    let open = move || std::future::ready(Ok(opened(&sender)));
    (StreamServer::new("raw", open).with_settings(settings()), far)
}

fn opened(far: &UnboundedSender<DuplexStream>) -> Halves {
    let (ours, theirs) = duplex(4096);
    far.send(theirs).expect("the test waits for it");
    split(ours)
}

fn demo() -> StreamServer {
    let open = || async {
        let (ours, theirs) = duplex(4096);
        tokio::spawn(async move {
            let served = Demo.serve(theirs).await.expect("a handshake");
            served.waiting().await
        });
        io::Result::Ok(split(ours))
    };
    StreamServer::new("demo", open).with_settings(settings())
}

/// Waits on the paused clock until no task has anything to do.
async fn quiet() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn is_over(mut far: DuplexStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_millis(1), far.read_to_end(&mut rest)).await;
    read.is_ok() && far.write_all(b"x").await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_both_sides_and_every_close_tells_the_same() {
    let census = Census::new();
    let client = demo().connect((), &census).await.expect("connected");
    let handle = client.handle().clone();
    assert_eq!(census.len(), 1, "{census}");
    let (end, other) = tokio::join!(client.close(), handle.close());
    assert_eq!((end.cause, end.peer_ended), (StreamCause::Closed, true), "{end}");
    assert_eq!(end.to_string(), other.to_string());
    assert!(census.is_empty(), "{census}");
    assert_eq!(census.dropped_without_close(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_end_its_stream_is_not_waited_for_longer_than_the_grace() {
    let census = Census::new();
    let (server, mut far) = raw();
    let (transport, handle) = server.open(&census).await.expect("opened");
    let end = handle.close().await;
    assert_eq!((end.peer_ended, end.took), (false, settings().end_grace), "{end}");
    drop(transport);
    assert!(is_over(far.recv().await.expect("the far end")).await);
    assert!(census.is_empty(), "{census}");
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_close_that_is_waiting() {
    let census = Census::new();
    let (server, _far) = raw();
    let (_transport, handle) = server.open(&census).await.expect("opened");
    let closing = tokio::spawn({
        let handle = handle.clone();
        async move { handle.close().await }
    });
    quiet().await;
    assert!(!closing.is_finished());
    handle.kill();
    quiet().await;
    assert!(closing.is_finished(), "it waits for a stream that is gone");
    assert!(census.is_empty(), "{census}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_close_a_dropped_transport_and_a_dropped_connect_end_it_on_the_spot() {
    let census = Census::new();
    let (server, mut far) = raw();
    let (transport, handle) = server.open(&census).await.expect("opened");
    assert!(
        tokio::time::timeout(Duration::from_millis(10), handle.close()).await.is_err(),
        "nobody ends the other side"
    );
    assert!(census.is_empty(), "{census}");
    drop(transport);
    assert_eq!(census.dropped_without_close(), 0, "somebody had begun to close it");

    let (transport, _handle) = server.open(&census).await.expect("opened");
    drop(transport);
    assert!(census.is_empty(), "{census}");
    assert_eq!(census.dropped_without_close(), 1);

    let connecting = server.connect((), &census);
    assert!(tokio::time::timeout(Duration::from_millis(10), connecting).await.is_err());
    assert!(census.is_empty(), "{census}");
    while let Ok(far) = far.try_recv() {
        assert!(is_over(far).await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_server_fails_the_handshake_and_leaves_nothing() {
    let census = Census::new();
    let (server, mut far) = raw();
    let silent = server.connect((), &census).await.expect_err("nobody answers");
    assert!(
        matches!(silent, StreamConnectError::TimedOut { doing: "the handshake", .. }),
        "{silent}"
    );
    drop(far.try_recv());

    let speaking = tokio::spawn(async move {
        let mut far = far.recv().await.expect("opened again");
        far.write_all(&[b'x'; 2000]).await.expect("read");
    });
    let long = server.connect((), &census).await.expect_err("no message");
    let StreamConnectError::Handshake { ended, .. } = &long else { panic!("{long}") };
    assert_eq!(ended.cause, StreamCause::LineTooLong(1000));
    speaking.await.expect("it spoke");

    let refused = StreamServer::new("refused", || async {
        Err::<Halves, _>(io::ErrorKind::ConnectionRefused.into())
    });
    let refused = refused.connect((), &census).await.expect_err("refused");
    assert!(matches!(refused, StreamConnectError::Open { .. }), "{refused}");
    let never = StreamServer::new("never", pending::<io::Result<Halves>>);
    let never = never.with_settings(settings()).connect((), &census).await.expect_err("never");
    assert!(never.to_string().contains("opening its streams"), "{never}");
    assert!(census.is_empty(), "{census}");
}

#[tokio::test(start_paused = true)]
async fn a_host_takes_it_like_any_other_server() {
    let census = Census::new();
    let host = Host::new(Settings { census: census.clone(), ..Settings::default() });
    host.add("demo", ServerSpec::from(demo()), OnDuplicate::Refuse).await.expect("added");
    let (server, mut far) = raw();
    let add = host.add("raw", server, OnDuplicate::Refuse);
    let failed = add.await.expect_err("it never answers");
    assert!(matches!(failed, HostError::Stream(_)), "{failed}");
    assert!(is_over(far.recv().await.expect("the far end")).await);
    let ended = host.remove("demo").await.expect("it was there");
    assert!(matches!(&ended.connection, Some(ConnectionEnd::Stream(end)) if end.peer_ended));
    assert!(ended.is_clean(), "{ended}");
    assert!(census.is_empty(), "{census}");
}

/// Found by a generated lifecycle: the close waited for a stream that the drop had taken away.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_dropped_while_a_server_is_removed_leaves_nothing() {
    let census = Census::new();
    let host = Host::new(Settings { census: census.clone(), ..Settings::default() });
    let open = || async {
        let (ours, theirs) = duplex(4096);
        tokio::spawn(async move {
            let (input, output) = split(theirs);
            let served = Demo.serve((input, output)).await;
            // It never lets go of its streams.
            pending::<()>().await;
            drop(served);
        });
        io::Result::Ok(split(ours))
    };
    let lingers = StreamServer::new("lingers", open);
    host.add("lingers", lingers, OnDuplicate::Refuse).await.expect("added");
    let shared = Arc::new(host);
    let removing = tokio::spawn({
        let host = Arc::clone(&shared);
        async move { host.remove("lingers").await }
    });
    yield_now().await;
    removing.abort();
    drop(shared);
    quiet().await;
    assert!(census.is_empty(), "{census}");
}
