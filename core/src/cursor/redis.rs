//! Payloads in Redis, under keys that end by themselves.

use std::{error::Error, fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    RedisResult, Script, aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::Mutex,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Answer, CursorStore, Id, Key, StoreError};
use crate::{
    census::Census,
    scope::{ScopeError, TaskScope},
};

/// A payload and its place in the index of its owner, which lives as long as the longest of them.
const PUT: &str = "
    redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
    redis.call('SADD', KEYS[1], ARGV[1])
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
    end
    return 0
";
/// All payloads of an owner and their index, in one go as every script; ARGV[1] begins their keys.
const REMOVE_OWNER: &str = "
    local removed = 0
    for _, cursor in ipairs(redis.call('SMEMBERS', KEYS[1])) do
        removed = removed + redis.call('UNLINK', ARGV[1] .. cursor)
    end
    redis.call('UNLINK', KEYS[1])
    return removed
";

/// Which Redis, and how.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]` or `redis+unix:///path`. No TLS.
    pub url: String,
    /// What every key begins with. Default `scupper`.
    pub prefix: String,
    /// How long a call may take, with the connection it may have to open; after that the connection is
    /// given up. Keep it under [`store_limit`](super::Settings::store_limit). Default 1 s.
    pub response_limit: Duration,
}

impl RedisSettings {
    /// The defaults for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: "scupper".into(), response_limit: Duration::from_secs(1) }
    }
}

/// The URL may hold a password.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("prefix", &self.prefix)
            .field("response_limit", &self.response_limit)
            .finish_non_exhaustive()
    }
}

/// Keeps payloads in Redis 6 or newer, over one connection that is opened again after it broke.
///
/// Every key has a time to live, the index of an owner included, so that nothing stays whatever becomes
/// of this process. A payload whose connection broke while it was on its way may be stored after its
/// owner was removed: nobody can read it, and its time ends it.
pub struct RedisStore {
    info: ConnectionInfo,
    address: String,
    settings: RedisSettings,
    put: Script,
    remove_owner: Script,
    link: Mutex<Option<Link>>,
    scope: TaskScope,
}

#[derive(Clone)]
struct Link {
    connection: MultiplexedConnection,
    /// Cancelled when the task that drives the connection has ended, and to end it.
    ended: CancellationToken,
}

impl RedisStore {
    /// Connects. The task that drives the connection has a row in `census`.
    ///
    /// # Errors
    /// [`StoreError::Failed`] for a URL that is none and a server that is not there;
    /// [`StoreError::TimedOut`].
    pub async fn open(settings: RedisSettings, census: &Census) -> Result<Self, StoreError> {
        let info = settings.url.as_str().into_connection_info().map_err(|error| {
            let what = "reading the URL of Redis; it looks like redis://127.0.0.1:6379/0".into();
            StoreError::Failed { what, source: error.into() }
        })?;
        let store = Self {
            address: info.addr().to_string(),
            info,
            settings,
            put: Script::new(PUT),
            remove_owner: Script::new(REMOVE_OWNER),
            link: Mutex::new(None),
            scope: TaskScope::new("redis cursors", census),
        };
        store.ask(async |mut link| redis::cmd("PING").query_async::<()>(&mut link).await).await?;
        Ok(store)
    }

    fn index(&self, owner: Id) -> String {
        // The braces keep an owner's keys on one node of a cluster.
        format!("{}:{{{owner}}}:cursors", self.settings.prefix)
    }

    fn payload(&self, owner: Id, cursor: impl fmt::Display) -> String {
        format!("{}:{{{owner}}}:cursor:{cursor}", self.settings.prefix)
    }

    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let limit = self.settings.response_limit;
        let mut used = None;
        let answer = timeout(limit, async {
            let link = used.insert(self.link().await?);
            let answer = question(link.connection.clone()).await;
            // What the server refuses says nothing against the connection.
            if answer.as_ref().is_err_and(RedisError::is_unrecoverable_error) {
                link.ended.cancel();
            }
            answer.map_err(|error| self.failed("asking", error))
        });
        let Ok(answer) = answer.await else {
            if let Some(link) = used {
                link.ended.cancel();
            }
            return Err(StoreError::TimedOut(limit));
        };
        answer
    }

    /// The connection, opened where there is none.
    async fn link(&self) -> Result<Link, StoreError> {
        let mut link = self.link.lock().await;
        if self.scope.token().is_cancelled() {
            return Err(StoreError::Closed);
        }
        if let Some(link) = link.as_ref().filter(|link| !link.ended.is_cancelled()) {
            return Ok(link.clone());
        }
        *link = None;
        let opened = match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|error| self.failed("connecting to", error))?;
                stream.set_nodelay(true).ok();
                self.drive(stream).await?
            }
            ConnectionAddr::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|error| self.failed("connecting to", error))?;
                self.drive(stream).await?
            }
            _ => return Err(self.failed("connecting to", "there is no TLS in this client")),
        };
        Ok(link.insert(opened).clone())
    }

    async fn drive<S>(&self, stream: S) -> Result<Link, StoreError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The limit is that of `ask`, which also gives the connection up.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let redis = self.info.redis_settings();
        let (connection, driver) = MultiplexedConnection::new_with_config(redis, stream, config)
            .await
            .map_err(|error| self.failed("logging in to", error))?;
        let ended = self.scope.token().child_token();
        let until = ended.clone();
        let spawned = self.scope.spawn("redis connection", async move {
            let _at_end = until.clone().drop_guard();
            until.run_until_cancelled(driver).await;
            Ok(())
        });
        match spawned {
            Ok(()) => Ok(Link { connection, ended }),
            Err(ScopeError::Closed { .. }) => Err(StoreError::Closed),
            Err(error) => Err(self.failed("connecting to", error)),
        }
    }

    fn failed(&self, doing: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        let what =
            format!("{doing} Redis at {}; is it running, and is the URL right", self.address);
        StoreError::Failed { what, source: source.into() }
    }
}

impl CursorStore for RedisStore {
    fn put(&self, Key { owner, cursor }: Key, payload: Vec<u8>, ttl: Duration) -> Answer<'_, ()> {
        Box::pin(self.ask(async move |mut link| {
            self.put
                .key(self.index(owner))
                .key(self.payload(owner, cursor))
                .arg(cursor.to_string())
                .arg(payload)
                .arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1))
                .invoke_async(&mut link)
                .await
        }))
    }

    fn read(&self, Key { owner, cursor }: Key) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(self.ask(async move |mut link| {
            redis::cmd("GET").arg(self.payload(owner, cursor)).query_async(&mut link).await
        }))
    }

    fn remove<'a>(&'a self, owner: Id, cursors: &'a [Id]) -> Answer<'a, ()> {
        Box::pin(self.ask(async move |mut link| {
            if cursors.is_empty() {
                return Ok(());
            }
            let mut transaction = redis::pipe();
            transaction.atomic();
            for cursor in cursors {
                transaction.cmd("UNLINK").arg(self.payload(owner, cursor)).ignore();
                transaction.cmd("SREM").arg(self.index(owner)).arg(cursor.to_string()).ignore();
            }
            transaction.query_async(&mut link).await
        }))
    }

    fn remove_owner(&self, owner: Id) -> Answer<'_, usize> {
        Box::pin(self.ask(async move |mut link| {
            self.remove_owner
                .key(self.index(owner))
                .arg(self.payload(owner, ""))
                .invoke_async(&mut link)
                .await
        }))
    }

    fn sweep(&self) -> Answer<'_, usize> {
        // Redis does it.
        Box::pin(std::future::ready(Ok(0)))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.scope.cancel();
            self.scope.close(self.settings.response_limit).await;
            *self.link.lock().await = None;
            Ok(())
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisStore({})", self.address)
    }
}
