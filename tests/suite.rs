//! The one test harness: a module for each command or promise.

#![cfg(unix)]
#![allow(
    dead_code,
    reason = "the support is made for all tests, present and coming"
)]

mod backup_status;
mod busy_home;
mod cooldown;
mod daemon;
mod linked_homes;
mod mock_backend;
mod normalize;
mod probe;
mod process;
mod recommend;
mod restore_login;
mod restore_rollouts;
mod round_trip;
mod status;
mod support;
