//! The servers of a generated lifecycle: tasks at the other end of a pair of streams in memory.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scupper_core::stream::{StreamServer, StreamSettings};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use crate::lifecycle::generate::{Peer, Word};

/// Longer than any message, and shorter than what does not fit into the streams at once.
pub(super) const LINE_LIMIT_BYTES: usize = 4 * 1024;
/// What fits into a stream that nobody reads.
const STREAM_BYTES: usize = 8 * 1024;
/// How long a late answer takes.
const LATE: Duration = Duration::from_millis(100);

/// What the lifecycle has a peer do.
pub(super) enum Order {
    End,
    Say(Word),
}

/// The peers that were opened under one name, those that have ended included.
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<Mutex<Vec<UnboundedSender<Order>>>>);

impl Peers {
    pub(super) fn order(&self, order: fn(Word) -> Order, word: Word) {
        self.list().retain(|peer| peer.send(order(word)).is_ok());
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<UnboundedSender<Order>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server for the host, behind which is this peer.
    pub(super) fn server(&self, peer: Peer, settings: StreamSettings) -> StreamServer {
        let peers = self.clone();
        let open = move || {
            let peers = peers.clone();
            async move { peers.open(peer).await }
        };
        StreamServer::new("peer", open).with_settings(settings)
    }

    async fn open(
        &self,
        peer: Peer,
    ) -> io::Result<(ReadHalf<DuplexStream>, WriteHalf<DuplexStream>)> {
        match peer {
            Peer::NotOpened => return Err(io::ErrorKind::ConnectionRefused.into()),
            Peer::NeverOpened => std::future::pending::<()>().await,
            // Without the hook that would print it: nobody is to look for a mistake here.
            Peer::PanicsOpening => std::panic::resume_unwind(Box::new("panics, as it should")),
            _ => {}
        }
        let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
        let (sender, orders) = unbounded_channel();
        self.list().push(sender);
        let (reader, writer) = tokio::io::split(theirs);
        let late = VecDeque::new();
        let side = Side { peer, writer, answers: 0, late, is_done_with_handshake: false };
        tokio::spawn(side.live(BufReader::new(reader), orders));
        Ok(tokio::io::split(ours))
    }
}

/// The far side of a connection.
struct Side {
    peer: Peer,
    writer: WriteHalf<DuplexStream>,
    answers: u32,
    /// Answers that are due later.
    late: VecDeque<(Instant, String)>,
    is_done_with_handshake: bool,
}

/// What becomes of a peer after a line.
#[derive(PartialEq)]
enum After {
    Lives,
    Dies,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
}

impl Side {
    /// Lives until it is told to end, its input ends, or its nature has it die. Dropped, both
    /// streams end.
    async fn live(
        mut self,
        mut reader: BufReader<ReadHalf<DuplexStream>>,
        mut orders: UnboundedReceiver<Order>,
    ) {
        let mut line = Vec::new();
        let mut has_ended = false;
        loop {
            let reads = !has_ended && self.reads();
            let due = self.late.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None | Some(Order::End) => return,
                    Some(Order::Say(word)) => self.say(word).await,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some((_, answer)) = self.late.pop_front() {
                        self.write(answer.as_bytes()).await;
                    }
                }
                read = reader.read_until(b'\n', &mut line), if reads => {
                    if !matches!(read, Ok(1..)) {
                        if self.peer != Peer::Lingers {
                            return;
                        }
                        has_ended = true;
                        continue;
                    }
                    if self.answer(&line).await == After::Dies {
                        return;
                    }
                    line.clear();
                }
            }
        }
    }

    fn reads(&self) -> bool {
        match self.peer {
            Peer::Deaf => false,
            Peer::StopsReading => !self.is_done_with_handshake,
            _ => true,
        }
    }

    async fn answer(&mut self, line: &[u8]) -> After {
        let Ok(Request { id: Some(id), method: Some(method) }) = serde_json::from_slice(line)
        else {
            return After::Lives;
        };
        let body = match method {
            "initialize" if self.peer == Peer::Refuses => {
                r#""error":{"code":-32000,"message":"not with you"}"#
            }
            "initialize" => {
                r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"peer","version":"1.0"}}"#
            }
            "tools/list" => {
                r#""result":{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}"#
            }
            "tools/call" => r#""result":{"content":[{"type":"text","text":"echo"}]}"#,
            "ping" => r#""result":{}"#,
            _ => r#""error":{"code":-32601,"message":"no such method"}"#,
        };
        let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{body}}}\n");
        let is_first = method == "initialize";
        match self.peer {
            Peer::Silent => return After::Lives,
            Peer::HangsOnCall if method == "tools/call" => return After::Lives,
            Peer::DiesOnCall if method == "tools/call" => return After::Dies,
            Peer::DiesAt(bytes) => {
                self.write(&answer.as_bytes()[..usize::from(bytes).min(answer.len() - 1)]).await;
                return After::Dies;
            }
            Peer::DiesEarly if is_first => {
                self.write(answer.as_bytes()).await;
                return After::Dies;
            }
            Peer::Garbage => self.write(b"Server listening on stdio\n").await,
            Peer::HalfLine if self.answers == 0 => {
                self.write(&answer.as_bytes()[..answer.len() / 2]).await;
            }
            Peer::HalfLine => {}
            Peer::LongLine => self.write(&[b'x'; LINE_LIMIT_BYTES + 4096]).await,
            Peer::Late => self.late.push_back((Instant::now() + LATE, answer)),
            _ => self.write(answer.as_bytes()).await,
        }
        self.answers += 1;
        self.is_done_with_handshake |= method == "tools/list";
        After::Lives
    }

    async fn say(&mut self, word: Word) {
        let line: &[u8] = match word {
            Word::ToolsChanged => {
                b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n"
            }
            Word::Log => {
                b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"all is well\"}}\n"
            }
            Word::Garbage => b"no message at all\n",
            Word::HalfLine => b"{\"jsonrpc\":\"2.0\",",
            Word::LongLine => &[b'x'; LINE_LIMIT_BYTES + 1],
            Word::Ping => b"{\"jsonrpc\":\"2.0\",\"id\":7001,\"method\":\"ping\"}\n",
        };
        self.write(line).await;
    }

    /// Whoever does not read is told nothing.
    async fn write(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).await;
    }
}
