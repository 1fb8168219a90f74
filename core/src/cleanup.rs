//! The end of a session as a list of named steps, each isolated, bounded and reported.
