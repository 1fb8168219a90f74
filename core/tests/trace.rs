//! Silent by default; with a subscriber, one line for each server opened, closed, killed, dropped.

mod support;

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use scupper_core::census::Census;
use support::*;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Keeps the message of every event of this crate from INFO upwards.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic while held"))
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("scupper_core") && *metadata.level() <= Level::INFO
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut message = Message(event.metadata().level().to_string());
        event.record(&mut message);
        self.0.lock().expect("no panic while held").push(message.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let text = format!(" {value:?}");
            let words: Vec<&str> = text.split(": server").collect();
            self.0.push_str(words[0]);
        }
    }
}

#[test]
fn each_server_opened_closed_killed_or_dropped_is_one_line() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let census = Census::new();
        let (transport, handle) = spawn(&responder("", ""), &census);
        let _ = within(handle.close()).await;
        let _ = within(handle.close()).await;
        drop(transport);
        assert_eq!(lines.take(), ["INFO server opened", "INFO server closed"]);

        let (transport, handle) = spawn(&sh("exec sleep 1000"), &census);
        let _ = handle.kill();
        drop(transport);
        assert_eq!(lines.take(), ["INFO server opened", "WARN server killed"]);

        let (transport, _handle) = spawn(&sh("exec sleep 1000"), &census);
        drop(transport);
        assert_eq!(
            lines.take(),
            ["INFO server opened", "WARN dropped without close", "WARN server killed"]
        );
    });
}
