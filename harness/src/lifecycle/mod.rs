//! Lifecycles as data: the steps and the places they come from. Pure.

pub mod scenario;
pub mod step;
