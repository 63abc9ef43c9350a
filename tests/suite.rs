//! The one test harness: a module for each command or promise.

mod support;
