//! The sweep of many idle sessions, by a clock that stands still until nobody has anything to do: what
//! is measured is work alone. By a real clock the ends are spread over time on purpose, 5 ms after each
//! sixteen.

use std::time::{Duration, Instant};

use benches::effort::Effort;
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_server::session::SessionManager;
use scupper_core::census::Census;
use scupper_core::session::{Cause, Sessions, Settings};

use crate::{Notes, us};

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// How often the sweeper looks, and how long a session may be idle; both by the clock that is set.
const TICK: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(300);

/// One sweep, of `n` sessions.
struct Swept {
    /// To look at all of them, when none is due.
    look: Duration,
    /// To end all of them.
    end: Duration,
}

pub(crate) fn measure(effort: Effort, notes: &mut Notes) {
    let sizes = match effort {
        Effort::Test | Effort::List => &[10][..],
        _ => &[10, 1000, 100_000],
    };
    for &size in sizes {
        let (full, quick) = if size < 100_000 { (20, 3) } else { (3, 1) };
        let swept: Vec<Swept> = (0..effort.samples(full, quick)).map(|_| sweep(size)).collect();
        let mut add = |figure, of: &dyn Fn(&Swept) -> f64| {
            let samples: Vec<f64> = swept.iter().map(of).collect();
            notes.add("core", "sweep-idle", size, figure, &samples);
        };
        add("look_us", &|swept| us(swept.look));
        add("end_us", &|swept| us(swept.end));
        add("end_us_per_session", &|swept| us(swept.end) / size as f64);
    }
}

fn sweep(size: usize) -> Swept {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime needs only an epoll instance");
    runtime.block_on(async {
        let census = Census::new();
        let settings = Settings {
            session_limit: size,
            sweep_interval: TICK,
            idle_limit: IDLE,
            // The shortest limit sets the pace of the sweeper.
            handshake_limit: IDLE,
            ..Settings::default()
        };
        let sessions = Sessions::start(settings, &census).expect("inside a runtime");
        let registry = sessions.registry();
        let mut transports = Vec::new();
        for _ in 0..size {
            let (id, transport) = registry.create_session().await.expect("within the limit");
            let initialized: ClientJsonRpcMessage =
                serde_json::from_str(INITIALIZED).expect("a message");
            registry.accept_message(&id, initialized).await.expect("accepted");
            transports.push(transport);
        }
        // By half a tick, so that the looks come between ours.
        tokio::time::sleep(TICK / 2).await;
        let began = Instant::now();
        tokio::time::sleep(TICK).await;
        let look = began.elapsed();
        assert_eq!(sessions.statistics().closed(), 0, "none is due");
        tokio::time::sleep(IDLE - TICK * 2).await;

        // They are due at one of the next two looks, and then end sixteen at a time.
        let pauses = u32::try_from(size / 16 + 1).unwrap_or(u32::MAX);
        let began = Instant::now();
        tokio::time::sleep(TICK * 2 + Duration::from_millis(10) * pauses).await;
        let end = began.elapsed();
        let statistics = sessions.statistics();
        assert_eq!(statistics.closed(), size as u64, "{statistics}");
        assert!(sessions.removals().iter().all(|removal| removal.cause == Cause::Idle));
        drop(transports);
        drop(registry);
        let closed = sessions.close().await;
        assert!(closed.is_complete(), "{closed}");
        assert!(census.is_empty(), "{census}");
        Swept { look, end }
    })
}
