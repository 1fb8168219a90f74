//! The sweeper by a clock that the test moves: the defaults are what the settings say.

#[path = "support/demo.rs"]
mod demo;
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::time::Duration;

use axum::body::Body;
use demo::Demo;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use raw::{INITIALIZE, INITIALIZED, call};
use rmcp::transport::StreamableHttpServerConfig;
use scupper_core::{
    census::Census,
    session::{Cause, Sessions, Settings},
};
use support::assert_empty;
use tokio::time::{Instant, sleep};
use tower::Service;

/// A request straight into the service, without a socket.
async fn post(app: &mut axum::Router, session: Option<&str>, body: &str) -> Response<Body> {
    let mut request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    app.call(request.body(Body::from(body.to_owned())).expect("a request"))
        .await
        .expect("an answer")
}

fn app(sessions: &Sessions, demo: &Demo) -> axum::Router {
    let demo = demo.clone();
    let mcp = sessions.service(move || Ok(demo.clone()), StreamableHttpServerConfig::default());
    axum::Router::new().nest_service("/mcp", mcp)
}

async fn initialize(app: &mut axum::Router) -> String {
    let answer = post(app, None, INITIALIZE).await;
    let session = answer.headers()["mcp-session-id"].to_str().expect("ASCII").to_owned();
    answer.into_body().collect().await.expect("whole");
    session
}

/// How long until the session is gone, by the paused clock.
async fn gone_after(sessions: &Sessions, cause: Cause) -> Duration {
    let began = Instant::now();
    loop {
        if let Some(removal) = sessions.removals().last() {
            assert_eq!(removal.cause, cause);
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(3600), "never swept");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_session_goes_after_five_minutes_by_default() {
    let census = Census::new();
    let sessions = Sessions::start(Settings::default(), &census).unwrap();
    let mut app = app(&sessions, &Demo::default());
    let session = initialize(&mut app).await;
    assert_eq!(post(&mut app, Some(&session), INITIALIZED).await.status(), StatusCode::ACCEPTED);
    let waited = gone_after(&sessions, Cause::Idle).await;
    let (least, most) = (Duration::from_secs(300), Duration::from_secs(331));
    assert!((least..most).contains(&waited), "{waited:?}");
    assert!(sessions.close().await.is_complete());
    drop(app);
    assert_empty(&census);
}

#[tokio::test(start_paused = true)]
async fn use_puts_the_sweep_off() {
    let census = Census::new();
    let sessions = Sessions::start(Settings::default(), &census).unwrap();
    let mut app = app(&sessions, &Demo::default());
    let session = initialize(&mut app).await;
    for id in 1..10 {
        sleep(Duration::from_secs(if id == 1 { 20 } else { 290 })).await;
        let answer = post(&mut app, Some(&session), &call(id, "echo")).await;
        assert_eq!(answer.status(), StatusCode::OK, "call {id}");
        answer.into_body().collect().await.expect("whole");
    }
    assert_eq!(sessions.statistics().swept, 0);
    let _ = sessions.close().await;
    drop(app);
    assert_empty(&census);
}

#[tokio::test(start_paused = true)]
async fn unfinished_handshake_goes_after_thirty_seconds_by_default() {
    let census = Census::new();
    let sessions = Sessions::start(Settings::default(), &census).unwrap();
    let mut app = app(&sessions, &Demo::default());
    initialize(&mut app).await;
    let waited = gone_after(&sessions, Cause::Handshake).await;
    assert!((30..=38).contains(&waited.as_secs()), "{waited:?}");
    let _ = sessions.close().await;
    drop(app);
    assert_empty(&census);
}

/// Requests of others would wait behind the ends of all of them.
#[tokio::test(start_paused = true)]
async fn many_sessions_that_are_due_end_sixteen_at_a_time() {
    let census = Census::new();
    let sessions = Sessions::start(Settings::default(), &census).unwrap();
    let mut app = app(&sessions, &Demo::default());
    for _ in 0..40 {
        initialize(&mut app).await;
    }
    // How many sessions each sweep took before others were served again.
    let mut ended = Vec::new();
    let began = Instant::now();
    while sessions.statistics().swept < 40 {
        assert!(began.elapsed() < Duration::from_secs(60), "{ended:?}");
        sleep(Duration::from_millis(1)).await;
        let swept = sessions.statistics().swept;
        if ended.last() != Some(&swept) && swept > 0 {
            ended.push(swept);
        }
    }
    assert_eq!(ended, [16, 32, 40]);
    let _ = sessions.close().await;
    drop(app);
    assert_empty(&census);
}

#[tokio::test(start_paused = true)]
async fn request_that_runs_keeps_its_session_for_an_hour_by_default() {
    let census = Census::new();
    let demo = Demo::default();
    let sessions = Sessions::start(Settings::default(), &census).unwrap();
    let mut app = app(&sessions, &demo);
    let session = initialize(&mut app).await;
    let stream = post(&mut app, Some(&session), &call(1, "wait")).await;
    sleep(Duration::from_secs(3590)).await;
    assert_eq!(sessions.statistics().swept, 0);
    let waited = gone_after(&sessions, Cause::Limit).await;
    assert!((10..=42).contains(&waited.as_secs()), "{waited:?}");
    drop(stream);
    let _ = sessions.close().await;
    drop(app);
    assert_empty(&census);
}

#[tokio::test(start_paused = true)]
async fn sweeper_ends_with_its_sessions() {
    let census = Census::new();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let sessions = Sessions::start(Settings::default(), &census).unwrap();
    assert_eq!(tasks(), before + 1);
    assert!(sessions.close().await.removals.is_empty());
    assert_eq!(tasks(), before);
    assert_empty(&census);
    let dropped = Sessions::start(Settings::default(), &census).unwrap();
    drop(dropped);
    support::settle("sweeper gone", || (tasks() == before, tasks())).await;
    assert_empty(&census);
}

/// Every request is dropped at each of its polls in turn, as when its connection breaks there.
#[tokio::test(start_paused = true)]
async fn request_dropped_at_any_poll_leaves_nothing() {
    let census = Census::new();
    let sessions = Sessions::start(Settings::default(), &census).unwrap();
    let mut app = app(&sessions, &Demo::default());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let (mut polls, mut finished) = (0, 0);
    while finished < 3 {
        finished = 0;
        let session = initialize(&mut app).await;
        for (id, body) in [(None, INITIALIZE), (Some(&*session), &*call(7, "echo"))] {
            let mut gone = app.clone();
            finished += usize::from(
                support::cancelled_after(polls, post(&mut gone, id, body)).await.is_ok(),
            );
        }
        let mut gone = app.clone();
        let delete = Request::delete("/mcp")
            .header("host", "localhost")
            .header("mcp-session-id", &session)
            .body(Body::empty())
            .expect("a request");
        finished += usize::from(support::cancelled_after(polls, gone.call(delete)).await.is_ok());
        polls += 1;
        assert!(polls < 100, "a request that never ends");
    }
    assert!(polls > 2, "nothing was dropped midway");
    // What was dropped in its handshake goes by itself, and so does what was never used.
    let gone = || {
        let statistics = sessions.statistics();
        (statistics.closed() == statistics.created, statistics)
    };
    let deadline = Instant::now() + Settings::default().handshake_limit * 2;
    while !gone().0 && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(gone().0, "{:?}", gone());
    support::settle("no tasks", || (tasks() == before, tasks())).await;
    assert!(sessions.close().await.is_complete());
    drop(app);
    assert_empty(&census);
}
