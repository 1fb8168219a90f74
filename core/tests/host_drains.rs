//! What a host process holds after many servers: nothing it did not hold before.

#[path = "support/alone.rs"]
mod alone;
#[path = "support/footprint.rs"]
mod footprint;
mod support;

use std::time::{Duration, Instant};

use footprint::Footprint;
use scupper_core::{
    census::Census,
    host::{ConnectionEnd, Host, OnDuplicate, ServerSpec, ServerState, Settings},
    process::Command,
    stdio,
};
use support::{hosted::*, *};

fn with(census: Census) -> Host {
    Host::new(Settings { census, ..Settings::default() })
}

/// The fifth report: five cycles of servers that fail to start, fail to initialize, and die, and a
/// duplicate in each.
#[test]
fn fifteen_creations_in_five_cycles_leave_the_descriptors_unmoved() {
    let name = "fifteen_creations_in_five_cycles_leave_the_descriptors_unmoved";
    alone::alone(name, async |census| {
        let host = with(census);
        let mut seen = Vec::new();
        for _ in 0..5 {
            let missing = ServerSpec::stdio(Command::new("no-such-program"));
            within(host.add("missing", missing, OnDuplicate::Refuse)).await.unwrap_err();
            let mute = script("echo 'cannot initialize' >&2; exit 1");
            within(host.add("mute", mute, OnDuplicate::Refuse)).await.unwrap_err();
            add(&host, "mortal", hosted("sleep 4790 &", "")).await;
            within(host.add("mortal", hosted("", ""), OnDuplicate::Refuse)).await.unwrap_err();
            within(host.call_tool("mortal", tool("die"))).await.unwrap_err();
            until(&host, "mortal", |state| matches!(state, ServerState::Dead { .. })).await;
            let dropped = within(host.health()).await.dropped;
            assert_eq!(&*dropped[0].server, "mortal");
            assert_empty(host.census());
            seen.push(alone::descriptors());
        }
        assert!(seen.iter().all(|descriptors| *descriptors == seen[0]), "{seen:?}");
        let statistics = host.statistics();
        assert_eq!(
            (statistics.created, statistics.failed, statistics.refused, statistics.stale),
            (15, 10, 5, 5)
        );
    });
}

#[test]
fn what_is_held_after_hundreds_of_cycles_is_what_was_held_after_ten() {
    let name = "what_is_held_after_hundreds_of_cycles_is_what_was_held_after_ten";
    alone::alone(name, async |census| {
        let host = with(census);
        let tasks = Footprint::take().tasks;
        let mut before = None;
        for cycle in 1..=200 {
            add(&host, "alpha", hosted("", "")).await;
            assert!(call(&host, "alpha", "echo").await.starts_with("pid"));
            assert!(within(host.remove("alpha")).await.unwrap().is_clean());
            assert_empty(host.census());
            if cycle == 10 {
                // A task that has ended is counted until its thread has let go of it.
                settle("ended", || {
                    let now = Footprint::take();
                    (now.tasks == tasks, format!("{now:?}"))
                })
                .await;
                before = Some(Footprint::take());
            }
        }
        settle("as after ten", || {
            let now = Footprint::take();
            (Some(&now) == before.as_ref(), format!("{now:?}, {before:?} before"))
        })
        .await;
        assert_eq!(host.statistics().teardowns.count, 200);
    });
}

#[test]
fn fifty_servers_end_in_the_time_of_the_slowest() {
    let name = "fifty_servers_end_in_the_time_of_the_slowest";
    alone::alone(name, async |census| {
        let host = with(census);
        let grace = Duration::from_millis(500);
        let settings =
            stdio::Settings { first_grace: grace, second_grace: grace, ..Default::default() };
        for number in 0..50 {
            let after = if number % 2 == 0 { "" } else { "while :; do sleep 1; done" };
            let spec = scripted(&format!("{HOSTED}\n{after}"), settings);
            within(host.add(format!("server {number}"), spec, OnDuplicate::Refuse)).await.unwrap();
        }
        let began = Instant::now();
        let shutdown = within(host.shutdown(LONG)).await;
        let took = began.elapsed();

        assert_empty(host.census());
        assert_eq!(shutdown.servers.len(), 50);
        assert!(shutdown.overran.is_empty(), "{shutdown}");
        let ends: Vec<_> =
            shutdown.servers.iter().map(|end| end.connection.as_ref().unwrap()).collect();
        assert!(ends.iter().all(|end| end.is_complete()), "{shutdown}");
        let sum: Duration = ends.into_iter().map(ConnectionEnd::took).sum();
        println!("50 servers in {took:?}, one after the other {sum:?}");
        assert!(took < sum / 2, "{took:?}, and one after the other {sum:?}");
    });
}
