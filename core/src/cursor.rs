//! Server-side pagination state that belongs to a session and goes with it.
