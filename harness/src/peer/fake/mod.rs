//! Misbehaving servers and their clean twins.
