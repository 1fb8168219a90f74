//! A server of plain sockets and threads that does whatever a test wants, byte by byte.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

use serde_json::{Value, json};

/// One request, and the socket to answer it on.
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
    pub(crate) socket: TcpStream,
}

impl Exchange {
    /// The JSON-RPC method, or nothing.
    pub(crate) fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        self.socket.write_all(text.as_bytes())
    }

    /// A head without a length, so the body lasts until the socket ends.
    pub(crate) fn begin(&mut self, content_type: &str) -> io::Result<()> {
        self.send(&format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n"
        ))
    }

    pub(crate) fn status(&mut self, status: &str, headers: &str) -> io::Result<()> {
        self.send(&format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n"))
    }

    pub(crate) fn json(&mut self, headers: &str, body: &Value) -> io::Result<()> {
        let body = body.to_string();
        let length = body.len();
        self.send(&format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}content-length: \
             {length}\r\n\r\n{body}"
        ))
    }

    /// The answer to the request, whatever it was.
    pub(crate) fn result(&self, result: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.body["id"], "result": result })
    }

    /// What a well-behaved server of one session would do.
    pub(crate) fn behave(&mut self, session: &str) -> io::Result<()> {
        match (&*self.method, &*self.body["method"].as_str().unwrap_or_default().to_owned()) {
            ("POST", "initialize") => {
                let result = self.result(json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "rude", "version": "0" },
                }));
                self.json(&format!("mcp-session-id: {session}\r\n"), &result)
            }
            ("POST", "tools/list") => {
                let result = self.result(json!({ "tools": [] }));
                self.json("", &result)
            }
            ("POST", _) => self.status("202 Accepted", ""),
            ("GET", _) => self.status("405 Method Not Allowed", ""),
            _ => self.status("200 OK", ""),
        }
    }

    /// Keeps the socket open until the client closes it.
    pub(crate) fn hang(&mut self) -> io::Result<()> {
        let mut rest = [0; 1024];
        while self.socket.read(&mut rest)? > 0 {}
        Ok(())
    }
}

type Script = dyn Fn(&mut Exchange) -> io::Result<()> + Send + Sync;

/// The server, which ends with this value, sockets and threads included.
pub(crate) struct Rude {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    over: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
    log: Mutex<Vec<String>>,
}

impl Rude {
    /// Calls the script for each request. An error of it closes the socket.
    pub(crate) fn start(
        script: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            over: AtomicBool::new(false),
            sockets: Mutex::default(),
            log: Mutex::default(),
        });
        let listening = Arc::clone(&shared);
        let listener = std::thread::spawn(move || listening.listen(&listener));
        Self { address, shared, listener: Some(listener) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// What has been asked: HTTP method, JSON-RPC method.
    pub(crate) fn log(&self) -> Vec<String> {
        self.shared.log.lock().expect("the log").clone()
    }

    pub(crate) fn asked(&self, what: &str) -> usize {
        self.log().iter().filter(|line| *line == what).count()
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        for socket in listener.incoming() {
            if self.over.load(SeqCst) {
                break;
            }
            let Ok(socket) = socket else { continue };
            self.sockets.lock().expect("the sockets").push(socket.try_clone().expect("a clone"));
            let shared = Arc::clone(self);
            threads.push(std::thread::spawn(move || {
                // The client may be gone at any time.
                let _ = shared.serve(&socket);
                socket.shutdown(Shutdown::Both).ok();
            }));
        }
        for socket in &*self.sockets.lock().expect("the sockets") {
            socket.shutdown(Shutdown::Both).ok();
        }
        for thread in threads {
            thread.join().expect("no panic in a script");
        }
    }

    fn serve(&self, socket: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(socket.try_clone()?);
        loop {
            let Some(mut exchange) = read_request(&mut reader, socket)? else {
                return Ok(());
            };
            let line = format!("{} {}", exchange.method, exchange.rpc());
            self.log.lock().expect("the log").push(line.trim().to_owned());
            (self.script)(&mut exchange)?;
        }
    }
}

fn read_request(
    reader: &mut BufReader<TcpStream>,
    socket: &TcpStream,
) -> io::Result<Option<Exchange>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Some(Exchange { method, headers, body, socket: socket.try_clone()? }))
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        // Wakes the listener.
        TcpStream::connect(self.address).ok();
        if let Some(listener) = self.listener.take() {
            let joined = listener.join();
            if !std::thread::panicking() {
                joined.expect("the server ended well");
            }
        }
    }
}
