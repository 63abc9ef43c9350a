#![no_main]
//! Fuzzes the target `manifest` of `tests/support/fuzzing.rs`.

use codex_manager_fuzz::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::manifest(bytes));
