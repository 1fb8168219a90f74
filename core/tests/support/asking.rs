//! A client of the admin API on a bare socket, one request per connection.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses a part of it, so an expectation would fail in some"
)]

use std::net::SocketAddr;

use scupper_core::{
    admin::{Admin, Settings, Token},
    host::Host,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{hosted::HOSTED, within};

pub(crate) const TOKEN: &str = "0123456789abcdef";

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its error, every part of which says something.
    #[track_caller]
    pub(crate) fn trouble(&self) -> String {
        let error = self.json()["error"].take();
        assert_eq!(error["status"], self.status);
        for part in ["what", "cause", "do"] {
            assert!(error[part].as_str().is_some_and(|text| text.len() > 10), "{part}: {error}");
        }
        error["what"].as_str().expect("what").to_owned()
    }
}

pub(crate) fn settings() -> Settings {
    Settings { token: Some(Token::new(TOKEN).expect("a token")), ..Settings::default() }
}

pub(crate) fn start(host: &Host) -> Admin {
    Admin::start(host, settings()).expect("started")
}

/// Sends the bytes and reads until the connection ends. `Err` when it was reset.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    read_answer(&mut stream).await
}

pub(crate) async fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut text = Vec::new();
    within(stream.read_to_end(&mut text)).await?;
    let text = String::from_utf8(text).expect("UTF-8");
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text));
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.expect("a status"),
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

/// A request as it should be.
pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    exchange(address, &request(method, path, body)).await.expect("an answer")
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "").await
}

pub(crate) async fn post(address: SocketAddr, entry: &Value) -> Answer {
    ask(address, "POST", "/mcp/servers", &entry.to_string()).await
}

pub(crate) async fn remove(address: SocketAddr, name: &str) -> Answer {
    ask(address, "DELETE", &format!("/mcp/servers/{name}"), "").await
}

/// An entry for a shell script.
pub(crate) fn shell(name: &str, script: &str) -> Value {
    json!({ "name": name, "command": "sh", "args": ["-c", script] })
}

/// An entry for a whole server.
pub(crate) fn server(name: &str) -> Value {
    shell(name, HOSTED)
}

/// The value of one sample of the metrics, named as it stands there.
#[track_caller]
pub(crate) fn metric(text: &str, sample: &str) -> f64 {
    let line =
        text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == sample));
    let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    value.unwrap_or_else(|| panic!("no {sample} in\n{text}"))
}
