//! An HTTP API to look at a host and change it.
