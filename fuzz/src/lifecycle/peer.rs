//! The other end of a connection, byte by byte.

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

/// How long a peer waits for the pipe.
const PATIENCE: Duration = Duration::from_millis(20);
/// How much of what it hears a peer keeps.
const HEARD_BYTES: usize = 64 * 1024;

/// What a client says.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Initialize,
    Initialized,
    Call(&'static str, u8),
    Cancel(u8),
    Ping(u8),
    /// Anything, as a line.
    Noise(Vec<u8>),
}

impl<'a> Arbitrary<'a> for Message {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let id = |u: &mut Unstructured<'a>| u.int_in_range(1..=4_u8);
        Ok(match u.int_in_range(0..=9_u8)? {
            0 | 1 => Self::Initialize,
            2 | 3 => Self::Initialized,
            4..=6 => {
                let tool = u.choose(&["echo", "put", "wait", "panic", "none"])?;
                Self::Call(tool, id(u)?)
            }
            7 => Self::Cancel(id(u)?),
            8 => Self::Ping(id(u)?),
            _ => Self::Noise(u.bytes(u.len().min(8))?.to_vec()),
        })
    }
}

impl Message {
    fn line(&self) -> Vec<u8> {
        let text = match self {
            Self::Initialize => r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"peer","version":"0"}}}"#.to_owned(),
            Self::Initialized => r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
            Self::Call(tool, id) => format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
            ),
            Self::Cancel(id) => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ),
            Self::Ping(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#),
            Self::Noise(bytes) => {
                let mut bytes = bytes.clone();
                bytes.push(b'\n');
                return bytes;
            }
        };
        let mut line = text.into_bytes();
        line.push(b'\n');
        line
    }
}

pub(super) struct Peer {
    stream: Option<DuplexStream>,
    /// It has stopped in the middle of a message.
    is_mute: bool,
    heard: Vec<u8>,
}

impl Peer {
    pub(super) fn new(stream: DuplexStream) -> Self {
        Self { stream: Some(stream), is_mute: false, heard: Vec::new() }
    }

    /// Says something, whole or up to a byte; where the pipe is full, as much as there is room for.
    pub(super) async fn send(&mut self, message: &Message, cut: Option<usize>) {
        let Some(stream) = &mut self.stream else { return };
        if self.is_mute {
            return;
        }
        let line = message.line();
        let said = &line[..cut.unwrap_or(line.len()).min(line.len())];
        let went = timeout(PATIENCE, stream.write_all(said)).await;
        self.is_mute = said.len() < line.len() || went.is_err();
        self.receive().await;
    }

    pub(super) async fn receive(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut piece = [0; 1024];
        while let Ok(Ok(count @ 1..)) = timeout(PATIENCE, stream.read(&mut piece)).await {
            let room = HEARD_BYTES.saturating_sub(self.heard.len());
            self.heard.extend_from_slice(&piece[..count.min(room)]);
        }
    }

    pub(super) async fn half_close(&mut self) {
        self.is_mute = true;
        if let Some(stream) = &mut self.stream {
            stream.shutdown().await.ok();
        }
    }

    pub(super) fn leave(&mut self) {
        self.stream = None;
    }

    /// A call of it was answered.
    pub(super) fn was_active(&self) -> bool {
        self.heard.windows(4).any(|four| four == b"done")
    }
}
