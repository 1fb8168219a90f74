//! Streamable HTTP as bytes on sockets, for peers: no runtime, nothing shared with what is judged.
//!
//! - [`message`]: heads and bodies of HTTP/1.1, as far as peers need them.
//! - [`report`]: what the HTTP server of a judged client tells the cell.
//! - [`response`]: a response as it comes in, piece by piece, with the events in it.
//! - [`control`]: what the cell tells the process of its clients, and what it hears back.
//! - [`meter`]: how many bytes pass, and where they are cut.
//! - [`clients`]: that process: every client of a server, so that none of their sockets is in the
//!   cell's own table; [`client`] is one of them, on `exchange` and `stream`.

pub mod client;
pub mod clients;
pub mod control;
mod exchange;
pub mod message;
pub mod meter;
pub mod report;
pub mod response;
mod stream;
