//! `storage`: `shrink`, `expand`, `trash`, `undelete`, `vacuum`.

use crate::machine::{Machine, id, rollout, text};

#[test]
fn compressed_conversations_become_plain_again() {
    let machine = Machine::with_conversations();
    machine.install_codex();
    let before = machine.conversations();
    let path = machine.home(&rollout(1));
    let changed = path.metadata().unwrap().modified().unwrap();
    machine.succeed(&[
        "storage",
        "shrink",
        "--session",
        &id(1),
        "--session",
        &id(2),
    ]);
    assert!(!path.exists());
    assert!(machine.home(&(rollout(1) + ".zst")).exists());
    let found = machine.succeed(&["find", "parser", "--json"]).stdout;
    assert!(found.contains(&id(1)), "{found}");
    machine.succeed(&["storage", "expand"]);
    assert_eq!(machine.conversations(), before);
    assert_eq!(path.metadata().unwrap().modified().unwrap(), changed);
}

#[test]
fn trashed_conversations_are_restored_with_their_rows_until_the_trash_is_emptied() {
    let machine = Machine::with_conversations();
    let (before, rows) = (machine.conversations(), machine.rows());
    machine.succeed(&["storage", "trash", &id(2)]);
    assert!(!machine.home(&rollout(2)).exists());
    assert_eq!(machine.rows().len(), 2);
    machine.succeed(&["storage", "undelete", &id(2)]);
    assert_eq!(machine.conversations(), before);
    assert_eq!(machine.rows(), rows);
    machine.succeed(&["storage", "trash", &id(3)]);
    machine.succeed(&["storage", "trash", "--empty-trash"]);
    assert_ne!(machine.run(&["storage", "undelete", &id(3)]).code, 0);
    assert_eq!(machine.read(&rollout(1)), text(1));
}

#[test]
fn a_vacuum_shrinks_the_database() {
    let machine = Machine::with_conversations();
    let path = machine.home("state_5.sqlite");
    let size = || path.metadata().unwrap().len();
    let database = rusqlite::Connection::open(&path).unwrap();
    let fill = "CREATE TABLE old(x); INSERT INTO old VALUES(zeroblob(3000000)); DROP TABLE old;";
    database.execute_batch(fill).unwrap();
    database.close().unwrap();
    let (before, rows) = (size(), machine.rows());
    machine.succeed(&["storage", "vacuum"]);
    assert!(size() < before / 2, "{} of {before}", size());
    assert_eq!(machine.rows(), rows);
}
