//! An optional process that outlives the host and ends the servers it left.
