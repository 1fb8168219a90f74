//! Waits, limits and habits of a host, with their defaults.

use std::time::Duration;

use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, RootsCapabilities};

use crate::{census::Census, guard::GuardHandle};

/// What a host does with all its servers. Make one with [`Default`] and change what differs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The inventory of everything the host opens. Default: one of its own.
    pub census: Census,
    /// What the host tells servers of itself. Default: this crate's name, version and roots.
    pub client: ClientConfig,
    /// How long a call, a prompt or a read may take. Default 60 s.
    pub call_wait: Duration,
    /// How long fetching all lists of a server may take, each time. Default 10 s.
    pub catalog_wait: Duration,
    /// How many pages of each list are fetched. Default 100.
    pub catalog_pages: usize,
    /// How many tools, resources, templates and prompts of a server are kept, of each. Default 10,000.
    pub catalog_items: usize,
    /// How long a removal waits for the end of a server beyond the waits of its own settings, before
    /// its task is aborted, which kills. Also how long a shutdown that has overrun its deadline waits
    /// for what it kills. Default 5 s.
    pub force_wait: Duration,
    /// How long the shutdown at the end of a [scope](super::Host::scope) may take before it kills.
    /// Default 15 s.
    pub shutdown_wait: Duration,
    /// Whether servers that die are started again. Default: no. A [spec](super::ServerSpec) may
    /// differ.
    pub restart: Option<Restart>,
    /// How many log messages (`notifications/message`) of each connection are kept, the latest ones.
    /// Default 64.
    pub messages: usize,
    /// The process that ends stdio servers when this process dies without a word. Default: none.
    pub guard: Option<GuardHandle>,
    /// How many servers there may be at once. Default 1024.
    pub server_limit: usize,
    /// How many events wait for a listener that does not read them; it misses the older ones then.
    /// Default 256.
    pub event_backlog: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            census: Census::new(),
            client: ClientConfig::new(
                with_roots(),
                Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            ),
            call_wait: Duration::from_secs(60),
            catalog_wait: Duration::from_secs(10),
            catalog_pages: 100,
            catalog_items: 10_000,
            force_wait: Duration::from_secs(5),
            shutdown_wait: Duration::from_secs(15),
            restart: None,
            messages: 64,
            guard: None,
            server_limit: 1024,
            event_backlog: 256,
        }
    }
}

/// Deprecated by SEP-2577; older servers ask for them.
fn with_roots() -> ClientCapabilities {
    let mut roots = RootsCapabilities::default();
    roots.list_changed = Some(true);
    let mut capabilities = ClientCapabilities::default();
    capabilities.roots = Some(roots);
    capabilities
}

/// When and how often a server that died is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// How often in a row. Default 5.
    pub attempts: u32,
    /// The pause before the first restart; doubled for each further one. Default 200 ms.
    pub first_pause: Duration,
    /// The longest pause. Default 30 s.
    pub longest_pause: Duration,
    /// A server that was ready for so long starts a new row of attempts. Default 60 s.
    pub stable_after: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
            stable_after: Duration::from_secs(60),
        }
    }
}

impl Restart {
    /// The pause before restart `attempt`, counted from 1; `None` past the cap.
    pub fn pause(&self, attempt: u32) -> Option<Duration> {
        if attempt == 0 || attempt > self.attempts {
            return None;
        }
        let doubled = 1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX);
        Some(self.first_pause.saturating_mul(doubled).min(self.longest_pause))
    }
}

/// What [`add`](super::Host::add) does with a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It refuses.
    Refuse,
    /// It closes the old server, waits for its end, and then opens the new one.
    Replace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_at_the_cap() {
        let restart = Restart {
            attempts: 4,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(300),
            ..Restart::default()
        };
        let pauses: Vec<_> = (0..=5).map(|attempt| restart.pause(attempt)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [None, ms(100), ms(200), ms(300), ms(300), None]);
        assert!(Restart { attempts: u32::MAX, ..restart }.pause(4_000_000_000).is_some());
    }
}
