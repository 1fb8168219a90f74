//! What a store of cursors holds, read by a connection of our own: a file of SQLite, a Redis. Nothing
//! is asked of the process that is judged.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::ledger::snapshot::{Facts, Identity};

/// How long a Redis may take to answer.
const ASKED: Duration = Duration::from_secs(2);
/// Longest answer of a Redis that is read, in bytes.
const ANSWER_LIMIT: u64 = 16 << 20;
/// Most rows of one store.
const ROWS: usize = 10_000;

/// What a reader of SQLite files is told, and what it answers: the rows, or why there are none.
pub type Rows = Result<Vec<String>, String>;

/// Reads files of SQLite for another process, path after path, until stdin ends. A process that has
/// such a file open cannot look itself: descriptors and locks of one file are one thing to SQLite.
pub fn serve() -> io::Result<u8> {
    for path in io::stdin().lock().lines() {
        let mut line = serde_json::to_vec(&sqlite(Path::new(&path?)))?;
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()?;
    }
    Ok(0)
}

/// Every row of every table that has cursors: by its rowid, for the schema is the subject's own.
fn sqlite(path: &Path) -> Rows {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let words = |error: rusqlite::Error| format!("reading {}: {error}", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).map_err(words)?;
    database.busy_timeout(ASKED).map_err(words)?;
    let mut found = Vec::new();
    for table in tables(&database).map_err(words)? {
        found.extend(rows(&database, &table).map_err(words)?);
    }
    Ok(found)
}

fn tables(database: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut names = database.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%cursor%' ORDER BY name",
    )?;
    names.query_map([], |row| row.get(0))?.collect()
}

fn rows(database: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let quoted = table.replace('"', "\"\"");
    let mut ids = database.prepare(&format!("SELECT rowid FROM \"{quoted}\" LIMIT {ROWS}"))?;
    ids.query_map([], |row| Ok(format!("{table} {}", row.get::<_, i64>(0)?)))?.collect()
}

/// Every key, with how long it has to live.
///
/// # Errors
/// It does not answer, or with something else.
pub fn redis(address: &str, store: &str) -> Result<Vec<(Identity, Facts)>, String> {
    let words = |error: io::Error| format!("asking the Redis at {address}: {error}");
    let mut redis = Redis::connect(address).map_err(words)?;
    let mut found = Vec::new();
    for key in redis.list(&["KEYS", "*"]).map_err(words)?.into_iter().take(ROWS) {
        let left_ms = redis.number(&["PTTL", &key]).map_err(words)?;
        let words = match left_ms {
            // Gone in between.
            -2 => continue,
            -1 => "a key of Redis that never expires".to_owned(),
            left_ms => format!("a key of Redis that expires in {left_ms} ms"),
        };
        let identity = Identity::Cursor { store: store.to_owned(), id: key };
        found.push((identity, Facts::Kept { words, opened_at: None }));
    }
    Ok(found)
}

/// As much of a client as is needed to look: RESP over a socket.
struct Redis(BufReader<TcpStream>);

impl Redis {
    fn connect(address: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(ASKED))?;
        socket.set_write_timeout(Some(ASKED))?;
        Ok(Self(BufReader::new(socket)))
    }

    fn send(&mut self, words: &[&str]) -> io::Result<()> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(text.as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        Read::take(&mut self.0, ANSWER_LIMIT).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn number(&mut self, words: &[&str]) -> io::Result<i64> {
        self.send(words)?;
        self.length(':')
    }

    fn list(&mut self, words: &[&str]) -> io::Result<Vec<String>> {
        self.send(words)?;
        (0..self.length('*')?).map(|_| self.text()).collect()
    }

    fn text(&mut self) -> io::Result<String> {
        let length = u64::try_from(self.length('$')?).unwrap_or(0).min(ANSWER_LIMIT);
        let mut bytes = Vec::new();
        Read::take(&mut self.0, length).read_to_end(&mut bytes)?;
        self.line()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn length(&mut self, sort: char) -> io::Result<i64> {
        let line = self.line()?;
        let number = line.strip_prefix(sort).and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| io::Error::other(format!("it answered `{line}`")))
    }
}
