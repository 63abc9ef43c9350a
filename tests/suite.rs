//! The one test harness: a module for each command or promise.

#![cfg(unix)]
#![allow(
    dead_code,
    reason = "the support is made for all tests, present and coming"
)]

mod mock_backend;
mod support;
