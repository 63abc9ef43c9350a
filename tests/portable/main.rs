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

#[test]
fn the_documentation_names_the_number_of_tests() {
    let sources = [
        include_str!("accounts.rs"),
        include_str!("archives.rs"),
        include_str!("conversations.rs"),
        include_str!("history.rs"),
        include_str!("storage.rs"),
        include_str!("sync.rs"),
    ];
    let others: usize = sources
        .iter()
        .map(|text| text.matches("#[test]").count())
        .sum();
    let named = format!("`tests/portable` ({} tests)", others + 1);
    assert!(
        include_str!("../../docs/windows.md").contains(&named),
        "{named}"
    );
}
