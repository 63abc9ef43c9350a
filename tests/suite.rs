//! The one test harness: a module for each command or promise.

#![cfg(unix)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests prepare their worlds directly"
)]
#![allow(
    dead_code,
    reason = "the support is made for all tests, present and coming"
)]

mod architecture;
mod child;
mod cooldown;
mod daemon;
mod full_disk;
mod hostile;
mod killed;
mod mock_backend;
mod normalize;
mod odd_homes;
mod probe;
mod process;
mod program;
mod promises;
mod python_manager;
mod recommend;
mod restoring;
mod status;
mod support;
mod together;
