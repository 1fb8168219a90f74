//! A host that is a subreaper (or PID 1) inherits the helpers of its servers, and reaps them. In a
//! binary of its own, because the setting is the whole process's.

mod support;

use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid},
};
use scupper_core::{
    census::Census,
    stdio::{Rung, Settings},
};
use support::*;

/// ECHILD if no descendant of any kind is left: no child, no zombie, no adopted orphan.
#[track_caller]
fn assert_no_descendant() {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    assert_eq!(waitid(WaitId::All, options).err(), Some(Errno::CHILD));
}

#[test]
fn a_subreaper_is_left_without_any_descendant() {
    set_child_subreaper(Some(getpid())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let census = Census::new();
        let helpers = "for i in 1 2 3; do (sleep 4730 & sleep 4730 & wait) & done; (sleep 0 &)";

        let (client, handle) = connect(&responder(helpers, ""), &census).await;
        let teardown = within(handle.close()).await;
        assert_no_descendant();
        assert!(!teardown.was_forced() && teardown.is_complete(), "{teardown}");
        within(client.waiting()).await.unwrap();

        let stubborn = format!("trap '' TERM; {helpers}; while :; do sleep 1; done");
        let (transport, handle) = spawn(&sh(&stubborn), &census);
        let teardown = within(handle.close()).await;
        assert_no_descendant();
        assert!(teardown.at(Rung::Reaped).is_some(), "{teardown}");
        drop(transport);

        let (transport, handle) = spawn(&sh(&stubborn), &census);
        drop(transport);
        assert_no_descendant();
        assert!(handle.outcome().unwrap().is_complete());
        // One that left the group is found by its cookie, and its corpse is ours to take too.
        let settings = Settings { sweep_cookie: true, ..brisk() };
        let server = responder("(setsid sleep 4731 & echo left >&2)", "").with_settings(settings);
        let (transport, handle) = spawn(&server, &census);
        said(&handle, "left").await;
        let teardown = within(handle.close()).await;
        drop(transport);
        assert_no_descendant();
        assert!(teardown.is_complete(), "{teardown}");

        settle("rows", || (census.is_empty(), census.to_string())).await;
    });
}
