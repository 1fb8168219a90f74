//! Which cursors may be read at a moment, and which must be.

use scupper_core::cursor::{CursorError, Settings, Statistics, WhenFull};
use tokio::time::Instant;

/// A cursor that was given out.
pub(super) struct Known {
    pub(super) cursor: String,
    pub(super) session: u8,
    /// Which of the sessions of this name.
    life: u64,
    payload: Vec<u8>,
    /// It was born between these two.
    began: Instant,
    confirmed: Instant,
    /// How many puts its session had seen.
    puts: u64,
    is_removed: bool,
}

#[derive(Clone, Copy)]
struct Open {
    life: u64,
    puts: u64,
}

/// What is known of all sessions.
pub(super) struct Model {
    settings: Settings,
    open: [Option<Open>; 4],
    lives: u64,
    known: Vec<Known>,
    /// How many reads brought a payload.
    pub(super) read: u64,
}

impl Model {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, open: [None; 4], lives: 0, known: Vec::new(), read: 0 }
    }

    pub(super) fn opened(&mut self, session: u8, result: Result<(), CursorError>) {
        let open = &mut self.open[usize::from(session)];
        match result {
            Ok(()) => {
                assert!(open.is_none(), "a session was opened twice");
                self.lives += 1;
                *open = Some(Open { life: self.lives, puts: 0 });
            }
            Err(CursorError::SessionExists { .. }) => assert!(open.is_some(), "it is not open"),
            Err(error) => panic!("opening a session: {error}"),
        }
    }

    pub(super) fn ended(&mut self, session: u8) {
        self.open[usize::from(session)] = None;
    }

    pub(super) fn open_sessions(&self) -> usize {
        self.open.iter().flatten().count()
    }

    /// A payload that no other put has.
    pub(super) fn begin_put(&mut self, session: u8, size: usize) -> Vec<u8> {
        if let Some(open) = &mut self.open[usize::from(session)] {
            open.puts += 1;
        }
        let mark = u8::try_from(self.known.len() % 256).unwrap_or_default();
        vec![mark; size]
    }

    /// How a put went; `None` when it was dropped.
    pub(super) fn put(
        &mut self,
        session: u8,
        payload: Vec<u8>,
        began: Instant,
        result: Option<Result<String, CursorError>>,
    ) {
        let open = self.open[usize::from(session)];
        match result {
            Some(Ok(cursor)) => {
                let open = open.expect("a cursor was given to a session that is open");
                self.known.push(Known {
                    cursor,
                    session,
                    life: open.life,
                    payload,
                    began,
                    confirmed: Instant::now(),
                    puts: open.puts,
                    is_removed: false,
                });
            }
            Some(Err(CursorError::NoSession { .. })) => assert!(open.is_none(), "it is open"),
            Some(Err(CursorError::PayloadTooLarge { bytes, limit })) => assert!(bytes > limit),
            Some(Err(CursorError::SessionFull { .. })) => {
                assert_eq!(self.settings.when_full, WhenFull::Refuse, "it evicts");
            }
            Some(Err(CursorError::TotalFull { held, bytes, limit })) => {
                assert!(held + bytes > limit, "{held} and {bytes} are within {limit}");
            }
            Some(Err(CursorError::Store { .. })) | None => {}
            Some(Err(error)) => panic!("putting a cursor: {error}"),
        }
    }

    /// One of those that were given out.
    pub(super) fn known(&self, which: u8) -> Option<&Known> {
        // The latest first: they are the ones that are still there.
        self.known.iter().rev().cycle().nth(usize::from(which) % self.known.len().max(1))
    }

    pub(super) fn removed(&mut self, cursor: &str) {
        for known in self.known.iter_mut().filter(|known| known.cursor == cursor) {
            known.is_removed = true;
        }
    }

    /// A read as this session brought this. `is_sound` says that the store worked.
    pub(super) fn judge_read(
        &mut self,
        session: u8,
        cursor: &str,
        is_sound: bool,
        result: Result<Vec<u8>, CursorError>,
    ) {
        let Some(known) = self.known.iter().find(|known| known.cursor == cursor) else { return };
        let open = self.open[usize::from(session)];
        let is_its_own = open.is_some_and(|open| open.life == known.life);
        let now = Instant::now();
        let ttl = self.settings.ttl;
        match result {
            Ok(payload) => {
                assert!(is_its_own, "read by a session that it was not given to");
                assert!(!known.is_removed, "read after it was removed");
                assert!(now < known.confirmed + ttl, "read after its time");
                assert_eq!(payload, known.payload, "not what was put");
                self.read += 1;
            }
            Err(CursorError::Unknown { .. }) => {
                let later = open.map_or(0, |open| open.puts.saturating_sub(known.puts));
                let room = self.settings.cursors_per_session as u64;
                let is_kept = self.settings.when_full == WhenFull::Refuse || later < room;
                let must = is_its_own
                    && !known.is_removed
                    && is_kept
                    && now < known.began + ttl
                    && is_sound;
                assert!(!must, "a cursor that is alive was not found, after {later} later puts");
            }
            Err(CursorError::Store { .. }) => {}
            Err(error) => panic!("reading a cursor: {error}"),
        }
    }

    pub(super) fn check_limits(&self, held: &Statistics) {
        let limit = self.settings.cursors_per_session * self.open_sessions();
        assert!(held.cursors <= limit, "{} cursors, at most {limit} are allowed", held.cursors);
        assert!(held.bytes <= self.settings.total_bytes, "{} bytes are held", held.bytes);
        let remembered = self.settings.remembered_sessions;
        assert!(held.waiting <= remembered, "{} sessions wait, {remembered} may", held.waiting);
    }
}
