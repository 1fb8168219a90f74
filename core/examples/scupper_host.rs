//! A host of the servers in an mcpServers file, with the admin API on.
//!
//! ```text
//! cargo run -p scupper-core --example scupper-host -- --config mcp.json [--port N] [--token-file PATH]
//! ```
//!
//! Prints on stdout where the API listens and where its token is, then what becomes of each server.
//! The token is that of the variable `SCUPPER_ADMIN_TOKEN`; without it one is made and written to a
//! file that only this user can read, which goes when the host ends. SIGINT or SIGTERM shuts
//! everything down in order and prints how each server ended; the second one forces.

use std::{
    error::Error,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use futures::future::join_all;
use scupper_core::{
    admin::{self, Admin, Token},
    host::{
        self, Host, OnDuplicate,
        config::{self, Configured},
    },
};
use tokio::signal::unix::{Signal, SignalKind, signal};

const TOKEN_VARIABLE: &str = "SCUPPER_ADMIN_TOKEN";
const USAGE: &str = "usage: scupper-host --config FILE [--port N] [--token-file PATH]";

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scupper-host: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs until it is told to end; `false` if something is left then.
pub(crate) async fn run(arguments: impl Iterator<Item = String>) -> Result<bool, Box<dyn Error>> {
    let options = Options::of(arguments)?;
    let servers = config::read(&options.config)
        .map_err(|error| format!("{}: {}", options.config.display(), with_sources(error)))?;
    let mut signals = Signals::listen()?;
    let host = Host::new(host::Settings::default());
    let token = match std::env::var(TOKEN_VARIABLE) {
        Ok(token) => Some(Token::new(token)?),
        Err(_) => None,
    };
    let is_made = token.is_none();
    let admin = Admin::start(
        &host,
        admin::Settings { port: options.port, token, ..admin::Settings::default() },
    )?;
    let file = match is_made {
        true => Some(TokenFile::write(options.token_file, admin.token())?),
        false => None,
    };
    println!("admin API: http://{}", admin.address());
    match &file {
        Some(file) => println!("token: in {}", file.0.display()),
        None => println!("token: as {TOKEN_VARIABLE} says"),
    }

    let all_added = async {
        let wanted = servers.into_iter().filter(|server| !server.is_disabled);
        join_all(wanted.map(|server| add(&host, server))).await;
        std::future::pending().await
    };
    tokio::select! {
        () = signals.next() => {}
        () = all_added => {}
    }
    println!("ending; once more to force it");
    let mut ending =
        pin!(async { tokio::join!(admin.close(), host.shutdown(host.settings().shutdown_wait)) });
    let (closed, shutdown) = tokio::select! {
        ended = &mut ending => ended,
        () = signals.next() => {
            host.shutdown(Duration::ZERO).await;
            ending.await
        }
    };
    println!("{closed}\n{shutdown}");
    Ok(closed.is_complete() && shutdown.left.is_empty())
}

async fn add(host: &Host, server: Configured) {
    let name = server.name;
    match host.add(name.as_str(), server.spec, OnDuplicate::Refuse).await {
        Ok(_) => println!("server `{name}` is ready"),
        Err(error) => println!("server `{name}` is not there: {}", with_sources(error)),
    }
}

/// An error and what caused it, in one line.
fn with_sources(error: impl Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

struct Options {
    config: PathBuf,
    port: u16,
    token_file: Option<PathBuf>,
}

impl Options {
    fn of(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut config, mut port, mut token_file) = (None, 0, None);
        while let Some(option) = arguments.next() {
            let value =
                arguments.next().ok_or_else(|| format!("{option} needs a value; {USAGE}"))?;
            match &*option {
                "--config" => config = Some(value.into()),
                "--port" => {
                    port = value.parse().map_err(|_| format!("{value} is no port; {USAGE}"))?
                }
                "--token-file" => token_file = Some(value.into()),
                _ => return Err(format!("{option} is not known; {USAGE}").into()),
            }
        }
        let config = config.ok_or_else(|| format!("no --config; {USAGE}"))?;
        Ok(Self { config, port, token_file })
    }
}

/// Either signal, as often as it comes.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A file that only this user can read; removed with this value.
struct TokenFile(PathBuf);

impl TokenFile {
    fn write(path: Option<PathBuf>, token: &Token) -> Result<Self, Box<dyn Error>> {
        let path = path.unwrap_or_else(|| {
            let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let name = format!("scupper-host-{}.token", std::process::id());
            directory.unwrap_or_else(std::env::temp_dir).join(name)
        });
        // One that is there already may be somebody else's, and readable.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| format!("making the token file {}: {error}", path.display()))?;
        let file_of_token = Self(path);
        file.write_all(token.reveal().as_bytes())?;
        Ok(file_of_token)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
