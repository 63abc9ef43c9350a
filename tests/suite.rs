//! The one test harness: a module for each command or promise.

mod daemon;
mod probe;
mod status;
mod support;
