//! What the admin API bounds: sizes, times, connections, and its own end.

#[path = "support/asking.rs"]
mod asking;
mod support;

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use asking::*;
use scupper_core::{
    admin::{Admin, AdminError, Figure, Settings, Token},
    census::Kind,
    host::Host,
};
use support::{assert_empty, cancelled_after, eventually, hosted, settle, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

fn start_with(host: &Host, change: impl FnOnce(&mut Settings)) -> Admin {
    let mut settings = settings();
    change(&mut settings);
    Admin::start(host, settings).expect("started")
}

const SHORT: Duration = Duration::from_millis(50);

async fn end(admin: Admin, host: &Host) -> u64 {
    let closed = within(admin.close()).await;
    assert!(closed.is_complete(), "{closed}");
    assert_empty(host.census());
    closed.cut
}

/// Reads until the connection ends. `Err` when it was reset.
async fn gone(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.map_err(|error| error.kind())
}

async fn count(at: SocketAddr, sample: &str) -> f64 {
    metric(&get(at, "/metrics").await.body, sample)
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_413() {
    let host = hosted::host();
    let admin = start_with(&host, |settings| settings.body_limit_bytes = 1000);
    let at = admin.address();
    let fits = ask(at, "POST", "/mcp/servers", &" ".repeat(1000)).await;
    assert_eq!(fits.status, 400);
    let too_large = ask(at, "POST", "/mcp/servers", &" ".repeat(1001)).await;
    assert_eq!(too_large.status, 413);
    assert!(too_large.trouble().contains("1000 bytes"));
    // Far more than any buffer holds, and its client reads only when it has sent everything.
    let huge = ask(at, "POST", "/mcp/servers", &" ".repeat(20_000_000)).await;
    assert_eq!(huge.status, 413);
    // In chunks, whose length nobody announces.
    let head = request("POST", "/mcp/servers", "")
        .replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let chunks = format!("{head}{}0\r\n\r\n", format!("1f4\r\n{}\r\n", " ".repeat(500)).repeat(3));
    assert_eq!(exchange(at, &chunks).await.unwrap().status, 413);
    assert_eq!(end(admin, &host).await, 0);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut() {
    let host = hosted::host();
    let admin = start_with(&host, |settings| settings.read_wait = Duration::from_secs(1));
    let at = admin.address();
    let whole = request("POST", "/mcp/servers", "{\"name\":\"a\"}");
    let mut streams = Vec::new();
    for sent in ["", "POST /mcp", &whole[..whole.len() - 1], &whole[..whole.len() - 14]] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        streams.push((sent, stream));
    }
    for (sent, mut stream) in streams {
        assert_eq!(gone(&mut stream).await, Err(ErrorKind::ConnectionReset), "{sent}");
    }
    assert_eq!(count(at, "scupper_admin_cut_total").await, 4.0);
    assert_eq!(end(admin, &host).await, 4);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let host = hosted::host();
    let large = || vec![Figure::gauge("large", "x".repeat(30_000_000)).of(1)];
    let admin = start_with(&host, |settings| {
        settings.write_wait = SHORT;
        settings.figures = vec![Arc::new(large)];
    });
    let at = admin.address();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    stream.write_all(request("GET", "/metrics", "").as_bytes()).await.unwrap();
    let connected = || host.census().rows().iter().filter(|row| row.kind == Kind::Socket).count();
    settle("the connection taken", || (connected() == 2, host.census().clone())).await;
    settle("the connection cut", || (connected() == 1, host.census().clone())).await;
    assert_eq!(gone(&mut stream).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(end(admin, &host).await, 1);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_504_and_leaves_nothing() {
    let host = hosted::host();
    let admin = start_with(&host, |settings| settings.request_wait = SHORT);
    let at = admin.address();
    let slow = post(at, &shell("mute", "read -r line; exec sleep 1000")).await;
    assert_eq!(slow.status, 504);
    slow.trouble();
    // The server is being removed; its end is its own.
    settle("the server gone", || (host.servers().is_empty(), format!("{host:?}"))).await;
    assert_eq!(host.statistics().failed, 1);
    end(admin, &host).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_server_along() {
    let host = hosted::host();
    let admin = start(&host);
    let entry = shell("mute", "read -r line; exec sleep 1000").to_string();
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    stream.write_all(request("POST", "/mcp/servers", &entry).as_bytes()).await.unwrap();
    settle("the server there", || (host.servers().len() == 1, format!("{host:?}"))).await;
    drop(stream);
    settle("the server gone", || (host.servers().is_empty(), format!("{host:?}"))).await;
    end(admin, &host).await;
}

#[tokio::test]
async fn more_connections_than_the_limit_are_answered_503_and_far_more_are_reset() {
    let host = hosted::host();
    let admin = start_with(&host, |settings| settings.connection_limit = 2);
    let at = admin.address();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    let busy = get(at, "/mcp/servers").await;
    assert_eq!(busy.status, 503);
    assert!(busy.head.contains("retry-after: 1"), "{busy:?}");
    busy.trouble();
    for _ in 0..2 {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    let mut one_more = TcpStream::connect(at).await.unwrap();
    assert_eq!(gone(&mut one_more).await, Err(ErrorKind::ConnectionReset));
    drop(held);
    let open = || host.census().rows().iter().filter(|row| row.kind == Kind::Socket).count();
    settle("the held connections gone", || (open() == 1, host.census().clone())).await;
    assert_eq!(count(at, "scupper_admin_refused_total").await, 4.0);
    end(admin, &host).await;
}

#[tokio::test]
async fn figures_that_panic_cost_one_request() {
    let host = hosted::host();
    let admin = start_with(&host, |settings| {
        settings.figures = vec![Arc::new(|| panic!("a figure of the test"))];
    });
    let at = admin.address();
    let answer = get(at, "/metrics").await;
    assert_eq!(answer.status, 500);
    answer.trouble();
    assert_eq!(get(at, "/mcp/servers").await.status, 200);
    end(admin, &host).await;
}

#[tokio::test]
async fn close_lets_a_request_be_answered_and_cuts_the_idle_at_once() {
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    let mut idle = TcpStream::connect(at).await.unwrap();
    idle.write_all(b"GET /metr").await.unwrap();
    // Answers once it is asked a second time, which is when the file is there.
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let script =
        format!("until test -e {}; do sleep 0.01; done\n{}", open.display(), hosted::HOSTED);
    let adding = tokio::spawn(async move { post(at, &shell("late", &script)).await });
    settle("the server there", || (host.servers().len() == 1, format!("{host:?}"))).await;
    let closing = tokio::spawn(admin.close());
    assert_eq!(gone(&mut idle).await, Err(ErrorKind::ConnectionReset));
    settle("not listening", || {
        let socket = std::net::TcpStream::connect(at);
        (socket.is_err(), socket.is_ok())
    })
    .await;
    assert!(!closing.is_finished());
    std::fs::write(open, "").unwrap();
    assert_eq!(within(adding).await.unwrap().status, 201);
    let closed = within(closing).await.unwrap();
    assert!(closed.is_complete() && closed.cut == 0, "{closed}");
    assert_eq!(closed.answered, 1);
    within(host.shutdown(hosted::ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn close_cuts_what_overstays_and_says_so() {
    let host = hosted::host();
    let admin = start_with(&host, |settings| settings.close_wait = SHORT);
    let at = admin.address();
    let entry = shell("mute", "read -r line; exec sleep 1000").to_string();
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request("POST", "/mcp/servers", &entry).as_bytes()).await.unwrap();
    settle("the server there", || (host.servers().len() == 1, format!("{host:?}"))).await;
    let closed = within(admin.close()).await;
    assert_eq!(closed.cut, 1, "{closed}");
    assert!(closed.to_string().contains("aborted"), "{closed}");
    assert_eq!(gone(&mut stream).await, Err(ErrorKind::ConnectionReset));
    settle("the server gone", || (host.census().is_empty(), host.census().clone())).await;
}

#[test]
fn a_drop_ends_everything_and_is_recorded() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let guard = runtime.enter();
    let host = hosted::host();
    let admin = start(&host);
    let at = admin.address();
    let _held = std::net::TcpStream::connect(at).unwrap();
    drop(admin);
    eventually("everything gone", || (host.census().is_empty(), host.census().clone()));
    assert!(std::net::TcpStream::connect(at).is_err());
    assert_eq!(&*host.census().drops()[0].name, "admin API");
    assert_eq!(host.census().dropped_without_close(), 1);
    drop(guard);
}

#[test]
fn a_runtime_that_goes_away_takes_the_sockets_along() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let host = hosted::host();
    let admin = runtime.block_on(async { start(&host) });
    let at = admin.address();
    let _held = std::net::TcpStream::connect(at).unwrap();
    drop(runtime);
    assert_empty(host.census());
    assert!(std::net::TcpStream::connect(at).is_err());
    drop(admin);
}

#[tokio::test]
async fn what_cannot_start_leaves_nothing() {
    let host = hosted::host();
    let admin = start(&host);
    let port = admin.address().port();
    let again = Admin::start(&host, Settings { port, ..Settings::default() }).unwrap_err();
    assert!(matches!(again, AdminError::Bind { .. }), "{again}");
    assert!(again.to_string().contains(&format!("127.0.0.1:{port}")), "{again}");
    end(admin, &host).await;
    within(host.shutdown(hosted::ENOUGH)).await;
    let late = Admin::start(&host, settings()).unwrap_err();
    assert!(matches!(late, AdminError::NotSpawned { .. }), "{late}");
    assert_empty(host.census());
}

#[test]
fn without_a_runtime_there_is_no_admin() {
    let host = hosted::host();
    let error = Admin::start(&host, settings()).unwrap_err();
    assert!(matches!(error, AdminError::NotSpawned { .. }), "{error}");
    assert_empty(host.census());
}

#[tokio::test]
async fn each_admin_makes_a_token_of_its_own_and_prints_it_nowhere() {
    let host = hosted::host();
    let one = Admin::start(&host, Settings::default()).unwrap();
    let other = Admin::start(&host, Settings::default()).unwrap();
    assert_ne!(one.token().reveal(), other.token().reveal());
    assert!(!format!("{one:?}").contains(one.token().reveal()));
    let with = |token: &Token| request("GET", "/metrics", "").replace(TOKEN, token.reveal());
    assert_eq!(exchange(one.address(), &with(one.token())).await.unwrap().status, 200);
    assert_eq!(exchange(one.address(), &with(other.token())).await.unwrap().status, 401);
    assert!(within(one.close()).await.is_complete());
    end(other, &host).await;
}

#[tokio::test]
async fn a_close_that_is_cancelled_anywhere_leaves_nothing() {
    for polls in 0..6 {
        let host = hosted::host();
        let admin = start(&host);
        let at = admin.address();
        let mut idle = TcpStream::connect(at).await.unwrap();
        let answered = get(at, "/metrics").await;
        assert_eq!(answered.status, 200);
        let closing = cancelled_after(polls, admin.close()).await;
        settle("everything gone", || (host.census().is_empty(), host.census().clone())).await;
        assert_eq!(gone(&mut idle).await, Err(ErrorKind::ConnectionReset), "{polls} polls");
        assert!(TcpStream::connect(at).await.is_err());
        // What had ended by then needed no backstop.
        let drops = host.census().dropped_without_close();
        assert!(drops == 0 || closing.is_err(), "{polls} polls");
    }
}
