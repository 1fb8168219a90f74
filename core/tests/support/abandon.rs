//! Sessions opened and abandoned in four ways, by clients in processes of their own, beside a healthy
//! one; shared by a test that does it in small and an example that does it whole.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, NumberOrString,
        ProgressNotificationParam, ProgressToken, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    transport::StreamableHttpServerConfig,
};
use rustix::{
    net::sockopt,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use scupper_core::{
    census::{Census, Kind},
    session::{ListenerSettings, Server, Sessions, Settings, Statistics},
};

/// How a client abandons its sessions. Each has a stream open at that moment.
const WAYS: [(&str, &str); 4] = [
    ("no-delete", "closes its sockets and sends no DELETE"),
    ("reset", "resets its sockets"),
    // Its kernel goes on acknowledging: the hardest case, for TCP finds nothing wrong.
    ("half-open", "keeps its sockets, reads nothing and writes nothing, no FIN"),
    ("stalled", "asks for more than its sockets take, and does not read"),
];
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"abandons","version":"0"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const ECHO: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;
const FLOOD: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"flood","arguments":{},"_meta":{"progressToken":7}}}"#;
/// Between two calls of the healthy session, and between two sessions of an abandoning process: not a
/// wait for anything.
const PACE: Duration = Duration::from_millis(10);
const OPENING_PACE: Duration = Duration::from_millis(25);
/// How long after everything should be gone it may still be there before this gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) sessions: usize,
    pub(crate) idle_limit: Duration,
    pub(crate) opening_took: Duration,
    pub(crate) peak: Peak,
    /// From the last abandoned session to everything as it was before.
    pub(crate) drained_after: Duration,
    pub(crate) statistics: Statistics,
    pub(crate) cut: BTreeMap<String, u64>,
    pub(crate) healthy: Healthy,
    /// What is not as before, in words; empty if all is.
    pub(crate) left: String,
    pub(crate) closed: String,
    pub(crate) census_at_end: String,
}

/// The most that was alive.
#[derive(Debug)]
pub(crate) struct Peak {
    pub(crate) descriptors: usize,
    pub(crate) tasks: usize,
    pub(crate) rows: usize,
}

/// Calls of the session beside them, from before the first abandoned one to the end.
#[derive(Debug, Default)]
pub(crate) struct Healthy {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) longest: Duration,
    /// By how much its pauses took longer than they should, which is the host's doing alone.
    pub(crate) overslept_p99: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} sessions, idle limit {:?}", self.sessions, self.idle_limit)?;
        for (way, what) in WAYS {
            writeln!(f, "  {} {way}: {what}", self.sessions / WAYS.len())?;
        }
        writeln!(
            f,
            "opened in {:.1} s; then {} descriptors, {} tasks, {} rows in the census",
            self.opening_took.as_secs_f64(),
            self.peak.descriptors,
            self.peak.tasks,
            self.peak.rows
        )?;
        writeln!(f, "all gone {:.1} s after the last", self.drained_after.as_secs_f64())?;
        writeln!(f, "sessions: {}; {:?}", self.statistics, self.statistics.removed)?;
        writeln!(f, "connections cut: {:?}", self.cut)?;
        writeln!(
            f,
            "healthy session: {} calls, {} failed, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; \
             its pauses overslept by {:.1} ms at p99",
            self.healthy.calls,
            self.healthy.failures,
            self.healthy.p50.as_secs_f64() * 1e3,
            self.healthy.p99.as_secs_f64() * 1e3,
            self.healthy.longest.as_secs_f64() * 1e3,
            self.healthy.overslept_p99.as_secs_f64() * 1e3
        )?;
        let left = if self.left.is_empty() { "nothing" } else { &self.left };
        writeln!(f, "left of descriptors, tasks and rows: {left}")?;
        writeln!(f, "close: {}", self.closed)?;
        write!(f, "census: {}", self.census_at_end)
    }
}

/// Opens and abandons so many sessions and waits until everything is as before. `client` makes the
/// command of a client process out of its arguments, which [`client`] gets.
pub(crate) async fn judge(
    sessions: usize,
    idle_limit: Duration,
    client: impl Fn(&[String]) -> Command,
) -> Figures {
    raise_descriptor_limit();
    let census = Census::new();
    let server = serve(&census, sessions, idle_limit).await;
    let each = (sessions / WAYS.len()).to_string();
    let address = server.address().to_string();
    let start = |way: &str| Peer::start(client(&[way.to_owned(), address.clone(), each.clone()]));
    let mut healthy = start("healthy");
    let mut abandoning: Vec<Peer> = WAYS.iter().map(|(way, _)| start(way)).collect();
    healthy.say("go");
    healthy.hear().await;
    let before = Snapshot::quiet(&census).await;

    let began = Instant::now();
    for peer in &mut abandoning {
        peer.say("go");
    }
    for peer in &mut abandoning {
        assert_eq!(peer.hear().await, "abandoned");
    }
    let opening_took = began.elapsed();
    let at_peak = Snapshot::take(&census);
    let peak = Peak {
        descriptors: at_peak.descriptors.len(),
        tasks: at_peak.tasks,
        rows: at_peak.rows.len(),
    };
    let began = Instant::now();
    let left = loop {
        let now = Snapshot::take(&census);
        if now == before {
            break String::new();
        }
        if began.elapsed() > idle_limit + PATIENCE {
            break now.beyond(&before);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let drained_after = began.elapsed();
    healthy.stop();
    let line = healthy.hear().await;
    let statistics = server.sessions().statistics();
    let cut = server.connections().cut.iter().map(|(why, n)| (why.to_string(), *n)).collect();
    let closed = server.close().await;
    Figures {
        sessions,
        idle_limit,
        opening_took,
        peak,
        drained_after,
        statistics,
        cut,
        healthy: Healthy::parse(&line),
        left,
        closed: closed.to_string(),
        census_at_end: census.to_string(),
    }
}

async fn serve(census: &Census, sessions: usize, idle_limit: Duration) -> Server {
    let settings = Settings {
        session_limit: sessions + 16,
        idle_limit,
        queue_limit: 8,
        stalled_write_limit: idle_limit / 2,
        ..Settings::default()
    };
    let listening = ListenerSettings {
        idle_limit,
        stalled_write_limit: idle_limit / 2,
        send_buffer_bytes: Some(16 << 10),
        ..ListenerSettings::default()
    };
    let sessions = Sessions::start(settings, census).expect("in a runtime");
    let mcp = sessions.service(|| Ok(Tools), StreamableHttpServerConfig::default());
    let app = axum::Router::new().nest_service("/mcp", mcp);
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    Server::serve(socket, app, sessions, listening, census).expect("served")
}

#[derive(Clone, Copy)]
struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if params.name == "flood" {
            for _ in 0..100 {
                let token = ProgressToken(NumberOrString::Number(7));
                let progress = ProgressNotificationParam::new(token, 1.0);
                let message = "x".repeat(8 << 10);
                // A client that is gone is no failure of the tool.
                context.peer.notify_progress(progress.with_message(message)).await.ok();
            }
        }
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }
}

/// Descriptors, tasks and rows of this process.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    descriptors: BTreeMap<i32, PathBuf>,
    tasks: usize,
    rows: Vec<(Kind, String)>,
}

impl Snapshot {
    fn take(census: &Census) -> Self {
        let descriptors = std::fs::read_dir("/proc/self/fd")
            .expect("/proc/self/fd")
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let number = entry.file_name().to_str()?.parse().ok()?;
                let target = std::fs::read_link(entry.path()).ok()?;
                // That of this very listing.
                (!target.starts_with("/proc")).then_some((number, target))
            })
            .collect();
        let mut rows: Vec<_> =
            census.rows().iter().map(|row| (row.kind, row.name.to_string())).collect();
        rows.sort();
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        Self { descriptors, tasks, rows }
    }

    /// At a moment when the healthy session waits between two calls.
    async fn quiet(census: &Census) -> Self {
        let mut same = 0;
        let mut last = Self::take(census);
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = Self::take(census);
            let calling =
                now.rows.iter().any(|(kind, name)| *kind == Kind::Stream || name == "call_tool");
            same = if now == last && !calling { same + 1 } else { 0 };
            if same == 3 {
                return now;
            }
            last = now;
        }
    }

    fn beyond(&self, before: &Self) -> String {
        let descriptors: Vec<_> = self
            .descriptors
            .iter()
            .filter(|(number, target)| before.descriptors.get(number) != Some(target))
            .collect();
        let rows: Vec<_> = self.rows.iter().filter(|row| !before.rows.contains(row)).collect();
        format!(
            "{} descriptors {descriptors:?}; {} tasks, {} before; {} rows {rows:?}",
            descriptors.len(),
            self.tasks,
            before.tasks,
            rows.len()
        )
    }
}

/// A client process, which ends when its standard input does.
struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Peer {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let (said, lines) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            // What a test harness prints around it is not for us.
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for line in
                lines.filter_map(|line| line.split_once("> ").map(|(_, said)| said.to_owned()))
            {
                said.send(line).ok();
            }
        });
        Self { child, stdin, lines }
    }

    fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("open");
        writeln!(stdin, "{line}").expect("a client that reads");
    }

    async fn hear(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE * 2, self.lines.recv()).await;
        line.expect("a line in time").expect("a client that lives")
    }

    fn stop(&mut self) {
        self.say("stop");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stdin = None;
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Healthy {
    fn of(taken: Vec<Duration>, overslept: Vec<Duration>, failures: u64) -> Self {
        Self {
            calls: taken.len() as u64,
            failures,
            p50: percentile(&taken, 50),
            p99: percentile(&taken, 99),
            longest: percentile(&taken, 100),
            overslept_p99: percentile(&overslept, 99),
        }
    }

    fn parse(line: &str) -> Self {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [calls, failures, p50, p99, longest, overslept] = numbers[..] else {
            panic!("not six figures: {line}");
        };
        let micros = Duration::from_micros;
        Self {
            calls,
            failures,
            p50: micros(p50),
            p99: micros(p99),
            longest: micros(longest),
            overslept_p99: micros(overslept),
        }
    }
}

fn percentile(taken: &[Duration], percent: usize) -> Duration {
    let mut sorted = taken.to_vec();
    sorted.sort();
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

/// The client process: its way, the server's address, how many sessions. Waits for a line, does what
/// it is for, says so, and stays until its standard input ends or speaks again.
pub(crate) fn client(arguments: &[String]) {
    raise_descriptor_limit();
    let [way, address, count] = arguments else { panic!("way, address, count: {arguments:?}") };
    let address: SocketAddr = address.parse().expect("an address");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    if way == "healthy" {
        return be_healthy(address);
    }
    // On a network these would run elsewhere; here they leave the processor to the server.
    rustix::process::nice(10).expect("lower is always allowed");
    let count: usize = count.parse().expect("a number");
    let mut kept = Vec::new();
    for _ in 0..count {
        kept.extend(abandon(way, address));
        std::thread::sleep(OPENING_PACE);
    }
    println!("> abandoned");
    std::io::stdin().read_line(&mut line).expect("the end");
    drop(kept);
}

/// Opens one session, and abandons it in this way; what is returned stays open.
fn abandon(way: &str, address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("connected");
    let session = handshake(&mut stream);
    if way == "stalled" {
        sockopt::set_socket_recv_buffer_size(&stream, 4 << 10).expect("set");
        send(&mut stream, "POST", Some(&session), FLOOD);
    } else {
        send(&mut stream, "GET", Some(&session), "");
    }
    // The head of the answer: the stream is open.
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    match way {
        "no-delete" => None,
        "reset" => {
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
            None
        }
        _ => Some(stream),
    }
}

/// Calls until told to stop; then tells how long calls took, in microseconds.
fn be_healthy(address: SocketAddr) {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    std::thread::spawn(move || {
        std::io::stdin().read_line(&mut String::new()).ok();
        stop.store(true, Relaxed);
    });
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_nodelay(true).expect("set");
    let session = handshake(&mut stream);
    println!("> healthy");
    let (mut taken, mut overslept, mut failures) = (Vec::new(), Vec::new(), 0);
    while !stopped.load(Relaxed) {
        let began = Instant::now();
        send(&mut stream, "POST", Some(&session), ECHO);
        let answer = read_answer(&mut stream);
        taken.push(began.elapsed());
        failures += u64::from(!answer.contains("done"));
        let paused = Instant::now();
        std::thread::sleep(PACE);
        overslept.push(paused.elapsed().saturating_sub(PACE));
    }
    let figures = Healthy::of(taken, overslept, failures);
    println!(
        "> {} {} {} {} {} {}",
        figures.calls,
        figures.failures,
        figures.p50.as_micros(),
        figures.p99.as_micros(),
        figures.longest.as_micros(),
        figures.overslept_p99.as_micros()
    );
}

fn handshake(stream: &mut TcpStream) -> String {
    send(stream, "POST", None, INITIALIZE);
    let answer = read_answer(stream);
    let session = answer
        .lines()
        .find_map(|line| line.strip_prefix("mcp-session-id: "))
        .unwrap_or_else(|| panic!("no session in {answer}"))
        .to_owned();
    send(stream, "POST", Some(&session), INITIALIZED);
    let answer = read_answer(stream);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    session
}

fn send(stream: &mut TcpStream, method: &str, session: Option<&str>, body: &str) {
    let session = session.map_or(String::new(), |id| format!("Mcp-Session-Id: {id}\r\n"));
    let request = format!(
        "{method} /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{session}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("written");
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

/// Head and body, chunks as they came.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = read_head(stream);
    if !answer.contains("transfer-encoding: chunked") {
        return answer;
    }
    let mut buffer = [0; 4096];
    while !answer.ends_with("\r\n0\r\n\r\n") {
        let read = stream.read(&mut buffer).expect("a body");
        assert!(read > 0, "ended in the middle of {answer}");
        answer.push_str(std::str::from_utf8(&buffer[..read]).expect("ASCII"));
    }
    answer
}

/// As many descriptors as the host allows without asking.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum");
}
