//! Probes: each reads one kind of resource; what cannot be read is a value of its own.
