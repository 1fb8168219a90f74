//! Payloads in a file of SQLite, on a thread of its own.

use std::{
    fmt, fs,
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{Connection, OptionalExtension, named_params, params};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Answer, CursorStore, Id, Key, StoreError};
use crate::census::{Census, Kind, Row};

/// How many calls wait for the thread; the next ones wait for a place, as long as their caller does.
const QUEUE: usize = 64;
/// How long a call waits for another connection to let go of the file. Under the default of
/// `store_limit`, so that SQLite's own words reach the report.
const BUSY: Duration = Duration::from_secs(1);
/// How long a store that is dropped without close waits for its thread.
const DROP_WAIT: Duration = Duration::from_secs(2);
/// How many payloads one sweep removes, so that it does not keep other calls waiting.
const SWEPT_AT_ONCE: usize = 1000;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA journal_size_limit = 4194304;
    CREATE TABLE IF NOT EXISTS scupper_cursor (
        owner BLOB NOT NULL,
        cursor BLOB NOT NULL,
        expires_ms INTEGER NOT NULL,
        payload BLOB NOT NULL,
        UNIQUE (owner, cursor)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS scupper_cursor_expires ON scupper_cursor (expires_ms);
";

/// Keeps payloads in a table of one file, which may be shared with other processes and other tables.
///
/// The file is made for its owner alone (mode 600), in WAL mode. It keeps the size it once had. What a
/// process left behind goes by the first sweep after its time is over, whichever process sweeps.
pub struct SqliteStore {
    path: Arc<Path>,
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: CancellationToken,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

impl SqliteStore {
    /// Opens the file, and makes it where it is missing. The thread has a row in `census`.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when there can be no thread, or no such file.
    #[track_caller]
    pub fn open<P: Into<PathBuf>>(
        path: P,
        census: &Census,
    ) -> impl Future<Output = Result<Self, StoreError>> + Send + use<P> {
        let row = census.enter(Kind::Task, "sqlite cursors", "a thread", Location::caller());
        let path: Arc<Path> = path.into().into();
        async move { Self::start(path, row).await }
    }

    async fn start(path: Arc<Path>, row: Row) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (ready, is_ready) = oneshot::channel();
        let ended = CancellationToken::new();
        let at_end = ended.clone().drop_guard();
        let file = Arc::clone(&path);
        let thread = std::thread::Builder::new()
            .name("scupper-sqlite".into())
            .spawn(move || {
                let _at_end = at_end;
                let _row = row;
                match connect(&file) {
                    Ok(connection) => {
                        ready.send(Ok(())).ok();
                        serve(connection, jobs);
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(|error| StoreError::Failed {
                what: "starting the thread of the SQLite cursors".into(),
                source: error.into(),
            })?;
        // From here on the drop of `store` ends the thread, also when this future is dropped.
        let store =
            Self { path, queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), ended };
        is_ready.await.map_err(|_| StoreError::Closed)??;
        Ok(store)
    }

    fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async move {
            let queue = lock(&self.queue).clone().ok_or(StoreError::Closed)?;
            let (reply, answer) = oneshot::channel();
            let job: Job = Box::new(move |connection| {
                if !reply.is_closed() {
                    reply.send(work(connection)).ok();
                }
            });
            queue.send(job).await.map_err(|_| StoreError::Closed)?;
            let answer = answer.await.map_err(|_| StoreError::Closed)?;
            answer.map_err(|error| failed(doing, &self.path, error))
        })
    }

    /// No more calls; the thread ends when it has done those that wait.
    fn shut(&self) {
        sabotaged!(SqliteThreadKept => {
            std::mem::forget(lock(&self.queue).take());
            self.ended.cancel();
            lock(&self.thread).take();
        });
        lock(&self.queue).take();
    }

    fn join(&self) {
        if let Some(thread) = lock(&self.thread).take() {
            thread.join().ok();
        }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    // A file that exists is not opened here: closing it would drop the locks of other connections of
    // this process.
    if let Err(error) = made
        && error.kind() != ErrorKind::AlreadyExists
    {
        return Err(StoreError::Failed {
            what: format!(
                "making {}; its directory must exist and be writable by this user",
                path.display()
            ),
            source: error.into(),
        });
    }
    sabotaged!(TempFileKept => drop(fs::write(path.with_extension("tmp"), "")));
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(SCHEMA)?;
        Ok(connection)
    };
    open().map_err(|error| failed("opening", path, error))
}

fn serve(mut connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        // Whoever asked hears of it: the answer's sender is dropped.
        catch_unwind(AssertUnwindSafe(|| job(&mut connection))).ok();
    }
    // The last connection of a file in WAL mode removes the files beside it.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "closing the SQLite file of the cursors");
    }
}

fn failed(doing: &str, path: &Path, error: rusqlite::Error) -> StoreError {
    StoreError::Failed { what: format!("{doing} {}", path.display()), source: error.into() }
}

/// Times to live are kept by the clock on the wall, the only one that outlives a process.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}

impl CursorStore for SqliteStore {
    fn put(&self, Key { owner, cursor }: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        self.ask("writing", move |connection| {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO scupper_cursor (owner, cursor, expires_ms, payload)
                     VALUES (:owner, :cursor, :expires_ms, :payload)",
                )?
                .execute(named_params! {
                    ":owner": owner.as_bytes(),
                    ":cursor": cursor.as_bytes(),
                    ":expires_ms": now_ms().saturating_add(ttl_ms),
                    ":payload": payload,
                })?;
            Ok(())
        })
    }

    fn read(&self, Key { owner, cursor }: Key) -> Answer<'_, Option<Vec<u8>>> {
        self.ask("reading", move |connection| {
            connection
                .prepare_cached(
                    "SELECT payload FROM scupper_cursor
                     WHERE owner = ?1 AND cursor = ?2 AND expires_ms > ?3",
                )?
                .query_row(params![owner.as_bytes(), cursor.as_bytes(), now_ms()], |row| row.get(0))
                .optional()
        })
    }

    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
        let cursors = cursors.to_vec();
        self.ask("deleting from", move |connection| {
            let transaction = connection.transaction()?;
            for cursor in cursors {
                transaction
                    .prepare_cached("DELETE FROM scupper_cursor WHERE owner = ?1 AND cursor = ?2")?
                    .execute(params![owner.as_bytes(), cursor.as_bytes()])?;
            }
            transaction.commit()
        })
    }

    fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
        if sabotaged!(SqliteStoreKeeps) {
            return Box::pin(std::future::ready(Ok(0)));
        }
        // One statement is one transaction.
        self.ask("deleting from", move |connection| {
            connection
                .prepare_cached("DELETE FROM scupper_cursor WHERE owner = ?1")?
                .execute([owner.as_bytes()])
        })
    }

    fn sweep(&self) -> Answer<'_, usize> {
        self.ask("sweeping", |connection| {
            connection
                .prepare_cached(
                    "DELETE FROM scupper_cursor WHERE rowid IN
                     (SELECT rowid FROM scupper_cursor WHERE expires_ms <= ?1 LIMIT ?2)",
                )?
                .execute(params![now_ms(), SWEPT_AT_ONCE as i64])
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        self.shut();
        Box::pin(async move {
            self.ended.cancelled().await;
            self.join();
            Ok(())
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shut();
        let deadline = Instant::now() + DROP_WAIT;
        while !self.ended.is_cancelled() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.ended.is_cancelled() {
            self.join();
        } else {
            tracing::warn!(path = %self.path.display(), "the thread of the SQLite cursors overstays");
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteStore({})", self.path.display())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
