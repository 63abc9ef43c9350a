//! Commands on every system: runs natively on Linux, macOS and Windows, and for Windows under wine.
//!
//! Uses no system call of one family and no file of another test target. Each test builds its homes and
//! starts the program as a child.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes and for clocks are the program's, not its tests'"
)]

mod accounts;
mod archives;
mod conversations;
mod history;
mod machine;
mod storage;
mod sync;
