//! With which SDK a server was written, and the lines of source that mend a leak there.
//!
//! The lines are examples, in the words of that SDK; they stand below a finding's remedy, which holds
//! for every server.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::snapshot::Kind;
use super::verdict::{Culprit, Finding};

/// The SDKs that are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Sdk {
    /// `mcp` of PyPI, and what is built on it.
    Python,
    /// `@modelcontextprotocol/sdk` of npm, and what is built on it.
    Typescript,
    /// The crate `rmcp`.
    Rmcp,
    /// `github.com/modelcontextprotocol/go-sdk`.
    Go,
}

impl Sdk {
    /// By what a server answers to `initialize` or `server/discover`, and the name of the program that
    /// answers (the last part of its first argument). None where these do not agree on one.
    ///
    /// Python's says `"listChanged": false` of all that it has; rmcp gives its own name unless told
    /// another; Go's has `logging` and says `"listChanged": true`. What Node runs is taken for the
    /// TypeScript SDK: the lines are Node's own but for `server.close()`.
    pub fn recognise(answer: &Value, program: &str) -> Option<Self> {
        let capabilities = &answer["capabilities"];
        let lists = |changed: bool| {
            let mut features = ["tools", "prompts", "resources"].iter();
            features.any(|feature| capabilities[*feature]["listChanged"] == changed)
        };
        let is = |names: &[&str]| names.iter().any(|name| program.starts_with(name));
        if is(&["python", "pypy"]) {
            return lists(false).then_some(Self::Python);
        }
        if is(&["node", "bun", "deno", "tsx"]) {
            return capabilities.is_object().then_some(Self::Typescript);
        }
        if is(&["java", "dotnet", "ruby", "php", "beam", "perl", "sh", "bash"]) {
            return None;
        }
        if answer["serverInfo"]["name"] == "rmcp" {
            return Some(Self::Rmcp);
        }
        (lists(true) && capabilities["logging"].is_object()).then_some(Self::Go)
    }

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "Python SDK",
            Self::Typescript => "TypeScript SDK",
            Self::Rmcp => "rmcp",
            Self::Go => "Go SDK",
        }
    }

    /// The lines that mend a leak of a server, where there are some to show.
    pub fn lines(self, finding: &Finding) -> &'static [&'static str] {
        if finding.culprit != Culprit::Server {
            return &[];
        }
        let Some(mistake) = Mistake::of(finding) else { return &[] };
        match self {
            Self::Python => python(mistake),
            Self::Typescript => typescript(mistake),
            Self::Rmcp => rmcp(mistake),
            Self::Go => go(mistake),
        }
    }
}

/// What was forgotten, as far as the lines differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// The server stays when its stdin ends.
    Stays,
    /// It stays when it is sent a signal.
    Deaf,
    /// It leaves a process that it started.
    Helper,
    /// It does not wait for one that has died.
    Unreaped,
    /// A descriptor stays open.
    Open,
    /// A thread stays.
    Thread,
    /// A session outlives its DELETE.
    Session,
    /// A session outlives its client, which never deleted it.
    Abandoned,
    /// A temporary file stays.
    File,
}

impl Mistake {
    fn of(finding: &Finding) -> Option<Self> {
        Some(match finding.kind {
            Kind::Process if finding.what.starts_with("the server") => {
                if finding.due_step.name.starts_with("signal") { Self::Deaf } else { Self::Stays }
            }
            Kind::Process => Self::Helper,
            Kind::Zombie => Self::Unreaped,
            Kind::Fd => Self::Open,
            Kind::Thread => Self::Thread,
            Kind::Session if finding.what.contains("abandoned") => Self::Abandoned,
            Kind::Session => Self::Session,
            Kind::File => Self::File,
            Kind::Task | Kind::Cursor | Kind::Entry | Kind::Memory => return None,
        })
    }
}

fn python(mistake: Mistake) -> &'static [&'static str] {
    match mistake {
        Mistake::Stays => &[
            "@asynccontextmanager",
            "async def lifespan(server):",
            "    worker = start_worker()",
            "    try:",
            "        yield worker",
            "    finally:",
            "        worker.stop()  # a thread that is no daemon keeps Python alive after run()",
            "mcp = MCPServer(\"name\", lifespan=lifespan)  # FastMCP before 2.0",
        ],
        Mistake::Deaf => {
            &["signal.signal(signal.SIGTERM, signal.SIG_DFL)  # or end the process in your handler"]
        }
        Mistake::Helper => &[
            "@asynccontextmanager",
            "async def lifespan(server):",
            "    helper = await asyncio.create_subprocess_exec(*command)",
            "    try:",
            "        yield helper",
            "    finally:",
            "        helper.terminate()",
            "        await helper.wait()",
            "mcp = MCPServer(\"name\", lifespan=lifespan)  # FastMCP before 2.0",
        ],
        Mistake::Unreaped => &["await helper.wait()  # or subprocess.run(...), which waits"],
        Mistake::Open => &[
            "with open(path) as file: ...",
            "async with httpx.AsyncClient() as client: ...  # not one client for each call",
        ],
        Mistake::Thread => {
            &["pool = ThreadPoolExecutor(max_workers=4)  # one for the server, not for each call"]
        }
        Mistake::Session => &[],
        Mistake::Abandoned => {
            &["app = mcp.streamable_http_app(session_idle_timeout=300)  # seconds"]
        }
        Mistake::File => &["with tempfile.TemporaryDirectory() as folder: ..."],
    }
}

fn typescript(mistake: Mistake) -> &'static [&'static str] {
    match mistake {
        Mistake::Stays => &[
            "process.stdin.on(\"close\", async () => {",
            "  await server.close();",
            "  process.exit(0); // a timer, a socket or a child would keep Node alive",
            "});",
        ],
        Mistake::Deaf => &[
            "process.once(\"SIGTERM\", async () => {",
            "  await server.close();",
            "  process.exit(0); // a handler takes the place of the default, which ends Node",
            "});",
        ],
        Mistake::Helper => &[
            "const helper = spawn(command, args);",
            "process.stdin.on(\"close\", () => helper.kill());",
            "process.once(\"SIGTERM\", () => { helper.kill(); process.exit(0); });",
        ],
        // Node waits for its children by itself.
        Mistake::Unreaped => &[],
        Mistake::Open => &[
            "const file = await fs.open(path);",
            "try { await use(file); } finally { await file.close(); }",
        ],
        Mistake::Thread => {
            &["try { await answerOf(worker); } finally { await worker.terminate(); }"]
        }
        Mistake::Session => &[
            "const transport = new StreamableHTTPServerTransport({",
            "  sessionIdGenerator: randomUUID,",
            "  onsessioninitialized: (id) => { sessions.set(id, transport); },",
            "  onsessionclosed: (id) => { sessions.delete(id); },",
            "});",
            "transport.onclose = () => { sessions.delete(transport.sessionId); };",
        ],
        Mistake::Abandoned => &[
            "const seen = new Map(); // the time of each session's last request",
            "app.use((request, _response, next) => {",
            "  const id = request.headers[\"mcp-session-id\"];",
            "  if (id) seen.set(id, Date.now());",
            "  next();",
            "});",
            "// in onsessioninitialized: sessions.set(id, transport); seen.set(id, Date.now());",
            "setInterval(() => {",
            "  for (const [id, at] of seen)",
            "    if (Date.now() - at > 300_000) { seen.delete(id); sessions.get(id)?.close(); }",
            "}, 1_000).unref();",
        ],
        Mistake::File => {
            &["try { await use(path); } finally { await fs.rm(path, { force: true }); }"]
        }
    }
}

fn rmcp(mistake: Mistake) -> &'static [&'static str] {
    match mistake {
        Mistake::Stays => &[
            "server.serve(rmcp::transport::stdio()).await?.waiting().await?; // the end of stdin",
            "token.cancel(); // for every task that you spawned",
            "std::process::exit(0); // a runtime waits for what runs in spawn_blocking",
        ],
        Mistake::Deaf => &[
            "let mut term = tokio::signal::unix::signal(SignalKind::terminate())?;",
            "tokio::select! {",
            "    ended = service.waiting() => { ended?; }",
            "    _ = term.recv() => {} // once asked for, SIGTERM ends nothing by itself",
            "}",
        ],
        Mistake::Helper => &[
            "let mut helper = tokio::process::Command::new(program).kill_on_drop(true).spawn()?;",
            "service.waiting().await?;",
            "helper.kill().await?; // kills it, and waits for it",
        ],
        Mistake::Unreaped => &["helper.wait().await?;"],
        Mistake::Abandoned => &[
            "let mut sessions = LocalSessionManager::default();",
            "sessions.session_config.keep_alive = Some(Duration::from_secs(300));",
        ],
        Mistake::File => &["let file = tempfile::NamedTempFile::new()?; // removed when dropped"],
        Mistake::Session | Mistake::Open | Mistake::Thread => &[],
    }
}

fn go(mistake: Mistake) -> &'static [&'static str] {
    match mistake {
        Mistake::Stays => &[
            "err := server.Run(ctx, &mcp.StdioTransport{}) // returns when stdin ends",
            "cancel() // for every goroutine; wait for none of them without a limit",
        ],
        Mistake::Deaf => &[
            "ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)",
            "defer stop()",
            "err := server.Run(ctx, &mcp.StdioTransport{})",
        ],
        Mistake::Helper => &[
            "helper := exec.CommandContext(ctx, name, args...)",
            "// after server.Run has returned:",
            "cancel()",
            "helper.Wait()",
        ],
        Mistake::Unreaped => &["helper.Wait() // after each Start"],
        Mistake::Open => &["defer file.Close()", "defer response.Body.Close()"],
        Mistake::Abandoned => &["&mcp.StreamableHTTPOptions{SessionTimeout: 5 * time.Minute}"],
        Mistake::File => &["defer os.RemoveAll(folder)"],
        Mistake::Session | Mistake::Thread => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::samples;

    #[test]
    fn an_sdk_is_known_by_its_answer_and_its_program() {
        let python = json!({"capabilities": {"tools": {"listChanged": false}}});
        let changes = json!({"capabilities": {"tools": {"listChanged": true}}});
        let go = json!({"capabilities": {"logging": {}, "tools": {"listChanged": true}}});
        let rmcp = json!({"capabilities": {"tools": {}}, "serverInfo": {"name": "rmcp"}});
        let nothing = json!({});
        for (answer, program, sdk) in [
            (&python, "python3.11", Some(Sdk::Python)),
            (&changes, "python3", None),
            (&changes, "node", Some(Sdk::Typescript)),
            (&nothing, "node", None),
            (&go, "my-server", Some(Sdk::Go)),
            (&go, "java", None),
            (&rmcp, "my-server", Some(Sdk::Rmcp)),
            (&changes, "my-server", None),
            (&nothing, "", None),
        ] {
            assert_eq!(Sdk::recognise(answer, program), sdk, "{program}: {answer}");
        }
    }

    #[test]
    fn every_sdk_mends_a_server_that_stays_or_leaves_a_helper_or_keeps_sessions() {
        let mut finding = samples::cases().remove(1).findings.remove(0);
        finding.culprit = Culprit::Server;
        for sdk in [Sdk::Python, Sdk::Typescript, Sdk::Rmcp, Sdk::Go] {
            for (what, step) in
                [("the server", "close"), ("the server", "signal TERM"), ("a helper", "close")]
            {
                (finding.kind, finding.what, finding.due_step.name) =
                    (Kind::Process, what.to_owned(), step.to_owned());
                let lines = sdk.lines(&finding);
                assert!(!lines.is_empty(), "{sdk:?}: {what} at {step}");
                assert!(lines.iter().all(|line| line.len() <= 92), "{sdk:?}: {what} at {step}");
            }
        }
        for sdk in [Sdk::Python, Sdk::Typescript, Sdk::Rmcp, Sdk::Go] {
            finding.kind = Kind::Session;
            finding.what = "an abandoned session still answers after its time".into();
            let mend = sdk.lines(&finding).join("\n");
            let is_by_time = ["idle_timeout", "setInterval", "keep_alive", "SessionTimeout"];
            assert!(is_by_time.iter().any(|word| mend.contains(word)), "{sdk:?}: {mend}");
        }
        finding.culprit = Culprit::Client;
        assert!(Sdk::Python.lines(&finding).is_empty(), "nothing of a client's is the server's");
    }
}
