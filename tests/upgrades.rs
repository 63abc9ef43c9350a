//! Homes that Codex 0.169 and the newest Codex use in turn. The newest one adds migrations to the databases.

use crate::support::lab::{Lab, messages, rollout};
use crate::support::real_codex::RealCodex;
use crate::support::two_machines::TwoMachines;
use rusqlite::Connection;
use std::fs;

const OLDER: &str = "0.169.0";

#[test]
fn an_archive_of_the_newest_codex_is_restored_and_repaired_under_an_older_one() {
    let (Some(mut lab), Some(newest)) = (Lab::of_version(OLDER), RealCodex::get()) else {
        return;
    };
    let (home, older) = (lab.home(), lab.codex);
    let first = lab.say("first");
    lab.codex = newest;
    lab.resume(&home, &first, "upgraded");
    let second = lab.say("second");
    let archive = lab.back_up();
    fs::remove_dir_all(&home).expect("remove");

    // The manager finds the older Codex on its path.
    lab.codex = older;
    let archive = archive.to_str().expect("text");
    let _ = lab.manager(["restore", archive, "--yes"]).code(0);
    for id in [&first, &second] {
        lab.resume(&home, id, "downgraded");
    }
    let prompts = ["first", "upgraded", "downgraded"];
    assert_eq!(lab.user_messages(&home, &first), prompts);
    let _ = lab.manager(["history", "check"]).code(0);

    let database = Connection::open(home.join("state_5.sqlite")).expect("open");
    assert_eq!(database.execute("DELETE FROM threads", []), Ok(2));
    drop(database);
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    let mut all = [first, second];
    all.sort();
    assert_eq!(lab.listed_ids(&home), all);

    // The older Codex creates the database, the newest one migrates it.
    fs::remove_file(home.join("state_5.sqlite")).expect("remove");
    for suffix in ["wal", "shm"] {
        let _ = fs::remove_file(home.join(format!("state_5.sqlite-{suffix}")));
    }
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    lab.codex = newest;
    assert_eq!(lab.listed_ids(&home), all);
    lab.resume(&home, &all[1], "upgraded again");
    let _ = lab.manager(["history", "check"]).code(0);
}

#[test]
fn machines_with_two_versions_of_codex_continue_a_conversation() {
    let (Some(mut two), Some(older)) = (TwoMachines::new(), RealCodex::of_version(OLDER)) else {
        return;
    };
    let (a, b, newest) = (two.lab.home(), two.b.clone(), two.lab.codex);
    two.lab.codex = older;
    let own = two.lab.say_in(&b, "at home on b");
    two.lab.codex = newest;
    let id = two.lab.say("one");
    two.sync(&["a", "b"]);
    two.lab.codex = older;
    two.lab.resume(&b, &id, "two");
    assert_eq!(two.lab.user_messages(&b, &id), ["one", "two"]);
    two.sync(&["b", "a"]);
    two.lab.codex = newest;
    two.lab.resume(&a, &id, "three");
    two.lab.resume(&a, &own, "on a");
    two.sync(&["a", "b"]);
    for (home, codex) in [(&a, newest), (&b, older)] {
        two.lab.codex = codex;
        assert_eq!(messages(&rollout(home, &id)), ["one", "two", "three"]);
        assert_eq!(messages(&rollout(home, &own)), ["at home on b", "on a"]);
        let mut all = [own.clone(), id.clone()];
        all.sort();
        assert_eq!(two.lab.listed_ids(home), all);
    }
}
