//! What SQLite and Redis do beside the battery: hang, fail, come back, outlive the process that used
//! them.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use scupper_core::{
    census::Census,
    cursor::{CursorError, Cursors, RedisSettings, RedisStore, Settings, SqliteStore},
};

#[path = "support/redis_server.rs"]
mod redis_server;
use redis_server::RedisServer;

const LONG: Duration = Duration::from_secs(20);

/// No sweep but those that a test asks for.
fn calm() -> Settings {
    Settings {
        ttl: Duration::from_secs(3600),
        store_limit: LONG,
        sweep_interval: Duration::from_secs(3600),
        ..Settings::default()
    }
}

async fn sqlite(file: &Path, settings: Settings, census: &Census) -> Cursors {
    let store = SqliteStore::open(file, census).await.expect("a file");
    Cursors::open(store, settings, census).expect("opened")
}

fn count(connection: &rusqlite::Connection) -> i64 {
    connection
        .query_row("SELECT count(*) FROM scupper_cursor", [], |row| row.get(0))
        .expect("counted")
}

/// Sweeps until nothing waits.
async fn catches_up(cursors: &Cursors) {
    let deadline = Instant::now() + LONG;
    loop {
        let report = cursors.sweep().await;
        if report.failure.is_none() && cursors.statistics().waiting == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{report:?}");
    }
}

#[tokio::test]
async fn a_file_that_another_connection_locks_is_reported_and_swept_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cursors.db");
    let census = Census::new();
    let cursors = sqlite(&file, calm(), &census).await;
    cursors.open_session("s1").expect("opened");
    let cursor = cursors.put("s1", "page").await.expect("kept");

    let other = rusqlite::Connection::open(&file).expect("a second connection");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let error = cursors.put("s1", "another").await.expect_err("locked").to_string();
    assert!(error.contains("keeping a cursor: writing"), "{error}");
    assert!(error.contains("cursors.db: database is locked"), "{error}");
    assert_eq!(cursors.read("s1", &cursor).await.expect("readers do not wait"), b"page");
    let error = cursors.end_session("s1").await.expect_err("locked");
    assert!(matches!(error, CursorError::LeftToSweep { cursors: 2, .. }), "{error}");
    assert_eq!(count(&other), 1);
    other.execute_batch("COMMIT").expect("released");

    catches_up(&cursors).await;
    assert_eq!(count(&other), 0);
    assert!(cursors.close().await.is_complete());
    assert!(census.is_empty(), "{census}");
}

#[tokio::test]
async fn a_closed_file_is_private_and_stands_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cursors.db");
    let census = Census::new();
    let cursors = sqlite(&file, calm(), &census).await;
    cursors.open_session("s1").expect("opened");
    cursors.put("s1", vec![7; 100 * 1024]).await.expect("kept");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(cursors.close().await.is_complete());
    let left: Vec<_> = std::fs::read_dir(&directory)
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["cursors.db"], "no -wal and no -shm");
}

#[tokio::test]
async fn a_file_that_cannot_be_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let census = Census::new();
    let missing = directory.path().join("missing/cursors.db");
    let error = SqliteStore::open(&missing, &census).await.expect_err("no directory").to_string();
    assert!(error.contains("missing/cursors.db; its directory must exist"), "{error}");
    let text = directory.path().join("text");
    std::fs::write(&text, "this is not a database, and long enough to be looked at".repeat(20))
        .expect("written");
    let error = SqliteStore::open(&text, &census).await.expect_err("no database").to_string();
    assert!(error.contains("file is not a database"), "{error}");
    assert!(census.is_empty(), "{census}");
}

#[tokio::test]
async fn every_key_of_redis_ends_by_itself_and_carries_no_session() {
    let Some(server) =
        RedisServer::start("every_key_of_redis_ends_by_itself_and_carries_no_session")
    else {
        return;
    };
    let census = Census::new();
    let store = RedisStore::open(RedisSettings::new(server.url()), &census).await.expect("Redis");
    let cursors = Cursors::open(store, calm(), &census).expect("opened");
    cursors.open_session("secret-session").expect("opened");
    for _ in 0..3 {
        cursors.put("secret-session", "page").await.expect("kept");
    }
    let keys = server.keys();
    assert_eq!(keys.len(), 4, "three payloads and their index: {keys:?}");
    for key in &keys {
        assert!((1..=3_600_000).contains(&server.time_left(key)), "{key}");
        assert!(key.starts_with("scupper:{") && !key.contains("secret"), "{key}");
    }
    assert_eq!(cursors.end_session("secret-session").await.expect("ended"), 3);
    assert_eq!(server.keys(), Vec::<String>::new());
    assert!(cursors.close().await.is_complete());
    assert!(census.is_empty(), "{census}");
}

#[tokio::test]
async fn a_redis_that_freezes_keeps_no_session_and_is_swept_when_it_thaws() {
    let Some(server) =
        RedisServer::start("a_redis_that_freezes_keeps_no_session_and_is_swept_when_it_thaws")
    else {
        return;
    };
    let census = Census::new();
    let response_limit = Duration::from_millis(200);
    let settings = RedisSettings { response_limit, ..RedisSettings::new(server.url()) };
    let store = RedisStore::open(settings, &census).await.expect("Redis");
    let cursors = Cursors::open(store, calm(), &census).expect("opened");
    cursors.open_session("s1").expect("opened");
    cursors.put("s1", "page").await.expect("kept");
    server.freeze();
    let error = cursors.end_session("s1").await.expect_err("frozen");
    assert!(error.to_string().ends_with("no answer within 200 ms"), "{error}");
    assert!(matches!(error, CursorError::LeftToSweep { .. }), "{error}");
    assert!(cursors.sweep().await.failure.is_some());
    let deadline = Instant::now() + LONG;
    while census.rows().iter().any(|row| &*row.name == "redis connection") {
        assert!(Instant::now() < deadline, "a connection without answers is given up: {census}");
        tokio::task::yield_now().await;
    }
    server.thaw();
    catches_up(&cursors).await;
    assert_eq!(server.keys(), Vec::<String>::new());
    assert!(cursors.close().await.is_complete());
    assert!(census.is_empty(), "{census}");
}

#[tokio::test]
async fn a_redis_that_dies_is_an_error_and_one_that_comes_back_is_used_again() {
    let Some(mut server) =
        RedisServer::start("a_redis_that_dies_is_an_error_and_one_that_comes_back_is_used_again")
    else {
        return;
    };
    let census = Census::new();
    let settings = RedisSettings::new(server.url());
    let store = RedisStore::open(settings.clone(), &census).await.expect("Redis");
    let cursors = Cursors::open(store, calm(), &census).expect("opened");
    for session in ["s1", "s2"] {
        cursors.open_session(session).expect("opened");
    }
    let cursor = cursors.put("s1", "page").await.expect("kept");
    let lost = cursors.put("s2", "page").await.expect("kept");

    server.kill();

    let error = cursors.end_session("s1").await.expect_err("dead");
    assert!(matches!(error, CursorError::LeftToSweep { .. }), "{error}");
    let error = cursors.read("s2", &lost).await.expect_err("dead").to_string();
    assert!(error.contains("connecting to Redis at 127.0.0.1:"), "{error}");
    let refused = RedisStore::open(settings, &census).await.expect_err("dead").to_string();
    assert!(refused.contains("is it running") && refused.contains("refused"), "{refused}");

    server.start_again();

    catches_up(&cursors).await;
    for (session, cursor) in [("s1", &cursor), ("s2", &lost)] {
        let error = cursors.read(session, cursor).await.expect_err("Redis forgot it");
        assert!(matches!(error, CursorError::Unknown { .. }), "{error}");
    }
    let again = cursors.put("s2", "page").await.expect("a new connection");
    assert_eq!(cursors.read("s2", &again).await.expect("read"), b"page");
    assert!(cursors.close().await.is_complete());
    assert!(census.is_empty(), "{census}");
    assert_eq!(server.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_url_of_no_redis_is_an_error_that_shows_no_password() {
    let census = Census::new();
    for url in ["no url", "rediss://u:hush@127.0.0.1:1/0", "redis://u:hush@127.0.0.1:1/0"] {
        let settings = RedisSettings::new(url);
        assert!(!format!("{settings:?}").contains("hush"));
        let error = RedisStore::open(settings, &census).await.expect_err("nothing there");
        assert!(error.to_string().contains("Redis"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
    assert!(census.is_empty(), "{census}");
}

/// Set for the process that the next test kills; says which stores to fill.
const OWNER: &str = "SCUPPER_TEST_CURSOR_OWNER";

/// The test is its own child: it fills the stores, says so, and waits for SIGKILL.
#[tokio::test]
async fn what_a_killed_owner_leaves_ends_with_its_time() {
    const NAME: &str = "what_a_killed_owner_leaves_ends_with_its_time";
    if let Ok(places) = std::env::var(OWNER) {
        return fill_and_wait(&places).await;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cursors.db");
    let server = RedisServer::start(NAME);
    let url = server.as_ref().map(RedisServer::url).unwrap_or_default();
    let mut owner = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(OWNER, format!("{}\n{url}", file.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(owner.stdout.take().expect("a pipe")).lines();
    let filled =
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("both are filled")));
    owner.kill().expect("killed");
    owner.wait().expect("reaped");
    assert!(filled.is_some(), "the owner ended by itself");

    let deadline = Instant::now() + LONG;
    if let Some(server) = &server {
        for key in server.keys() {
            // -2: its time was over between the two questions.
            let left = server.time_left(&key);
            assert!(left == -2 || (0..=TTL.as_millis() as i64).contains(&left), "{key}: {left} ms");
        }
        while !server.keys().is_empty() {
            assert!(Instant::now() < deadline, "{:?}", server.keys());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let census = Census::new();
    let cursors = sqlite(&file, calm(), &census).await;
    let mut left_behind = 0;
    while left_behind < 3 {
        let report = cursors.sweep().await;
        assert!(report.failure.is_none() && Instant::now() < deadline, "{report:?}");
        left_behind += report.left_behind;
    }
    assert_eq!(left_behind, 3);
    assert!(cursors.close().await.is_complete());
    assert_eq!(count(&rusqlite::Connection::open(&file).expect("a file")), 0);
}

/// How long the killed owner's cursors live.
const TTL: Duration = Duration::from_secs(2);

async fn fill_and_wait(places: &str) {
    let (file, url) = places.split_once('\n').expect("two lines");
    let census = Census::new();
    let settings = Settings { ttl: TTL, ..calm() };
    let mut held = vec![sqlite(Path::new(file), settings.clone(), &census).await];
    if !url.is_empty() {
        let store = RedisStore::open(RedisSettings::new(url), &census).await.expect("Redis");
        held.push(Cursors::open(store, settings, &census).expect("opened"));
    }
    for cursors in &held {
        cursors.open_session("s1").expect("opened");
        for _ in 0..3 {
            cursors.put("s1", "page").await.expect("kept");
        }
    }
    println!("both are filled");
    tokio::time::sleep(LONG).await;
    panic!("nobody killed the owner");
}
