//! Two machines with the real Codex: two homes and a cloud folder.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use crate::support::lab::{messages, rollout, rollouts, rows};
use crate::support::two_machines::TwoMachines;
use std::fs;
use std::path::Path;

/// Conflicts end in favour of the cloud folder.
const PREFER_CLOUD: &str = "[conflict]\npolicy = \"prefer_cloud\"\n";

/// Returns the project folder that Codex's index has for a conversation.
fn cwd_of(home: &Path, id: &str) -> String {
    let database = crate::support::lab::open(&home.join("state_5.sqlite"));
    let sql = "SELECT cwd FROM threads WHERE id=?1";
    let row = database.query_row(sql, [id], |row| row.get(0));
    row.expect("a row")
}

#[test]
fn a_conversation_continues_on_both_machines() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    two.continue_in_turn();
}

#[test]
fn a_synced_conversation_has_its_name_and_mapped_folder_and_is_resumed_by_last_and_by_name() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    let own = lab.say_in(b, "at home on b");
    let gone = lab.say_in(b, "gone");
    fs::remove_file(rollout(b, &gone)).expect("remove");
    let id = lab.say("one");
    let params = serde_json::json!({"threadId": id, "name": "the plan"});
    lab.codex
        .app_server_request(&a, &lab.backend, "thread/name/set", params)
        .expect("set the name");
    let there = lab.home().parent().expect("a folder").to_path_buf();
    let cwd = |home: &Path, id: &str| -> (String, String) {
        let database = crate::support::lab::open(&home.join("state_5.sqlite"));
        let sql = "SELECT cwd, coalesce(name, '') FROM threads WHERE id=?1";
        let row = database.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?)));
        row.unwrap_or_else(|e| panic!("{id}: {e}, below {}", there.display()))
    };
    let (from, name) = cwd(&a, &id);
    let to = two.lab.world.path("mapped").to_string_lossy().into_owned();
    two.sync(&["a"]);
    two.configure(&format!("[[paths.map]]\nfrom = {from:?}\nto = {to:?}\n"));
    two.sync(&["b"]);
    // Before Codex has scanned the files.
    assert_eq!(cwd(b, &id), (to, name));
    assert_eq!(rows(b).len(), 3, "a row without a file is unchanged");
    two.configure("");
    // Without --all, Codex uses the folder stored in the conversation (0.169).
    let resumed = |which: &str, prompt: &str| -> String {
        let skip = "--skip-git-repo-check";
        let args = ["exec", "resume", "--all", skip, which, prompt];
        let done = lab.codex.run(b, &lab.backend, &args).expect_success();
        done.session_id().expect("an id").to_owned()
    };
    assert_eq!(resumed("--last", "the last"), id);
    assert_eq!(resumed("the plan", "by name"), id);
    assert_eq!(lab.user_messages(b, &id), ["one", "the last", "by name"]);
    let mut all = [own, id];
    all.sort();
    assert_eq!(lab.listed_ids(b), all);
}

#[test]
fn archiving_and_unarchiving_are_synced_to_codex() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    let id = lab.say("one");
    two.sync(&["a", "b"]);
    lab.resume(b, &id, "two");
    let codex = |home: &Path, word: &str| {
        lab.codex
            .run(home, &lab.backend, &[word, &id])
            .expect_success();
    };
    codex(b, "archive");
    two.sync(&["b", "a"]);
    assert_eq!(rollouts(&a).len(), 1);
    assert_eq!(lab.listed_ids(&a), [""; 0]);
    assert_eq!(rows(&a), [(id.clone(), rollout(&a, &id))]);
    codex(&a, "unarchive");
    two.sync(&["a", "b"]);
    assert_eq!(lab.listed_ids(b), [&*id]);
    lab.resume(b, &id, "three");
    assert_eq!(lab.user_messages(b, &id), ["one", "two", "three"]);
}

#[test]
fn keep_both_makes_two_conversations() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    two.configure(PREFER_CLOUD);
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    let id = lab.say("one");
    two.sync(&["a", "b"]);
    lab.resume(&a, &id, "on a");
    lab.resume(b, &id, "on b");
    two.sync(&["a", "b"]);
    // A's version continues without B's turns; B's version is kept.
    lab.resume(b, &id, "after");
    assert_eq!(lab.user_messages(b, &id), ["one", "on a", "after"]);
    let args = ["resolve", &id, "--keep", "both", "--json"];
    let done = two.run_sync("b", &args).code(0).json();
    let new = done["new_id"].as_str().expect("an id").to_owned();
    two.sync(&["b", "a"]);
    for home in [&a, b] {
        lab.resume(home, &new, "further");
        assert_eq!(messages(&rollout(home, &new)), ["one", "on b", "further"]);
        assert!(lab.listed_ids(home).contains(&new));
        // Lists and the commands of `find` show the beginnings of ids.
        assert_ne!(new[..13], id[..13]);
    }
}

#[test]
fn project_folders_are_mapped_only_in_the_index() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, b) = (&two.lab, &two.b);
    let id = lab.say("one");
    two.sync(&["a", "b"]);
    assert_eq!(lab.listed_ids(b), [&*id]);
    let before = fs::read(rollout(b, &id)).expect("read");
    let there = cwd_of(b, &id);
    two.configure(&format!(
        "[[paths.map]]\nfrom = {there:?}\nto = \"/home/me/work\"\n"
    ));
    two.sync(&["b"]);
    assert_eq!(cwd_of(b, &id), "/home/me/work");
    assert_eq!(fs::read(rollout(b, &id)).expect("read"), before);
}

#[test]
fn codex_resumes_conversations_of_a_mapped_folder_by_id_and_with_all() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, b) = (&two.lab, &two.b);
    lab.say_in(b, "at home on b");
    let id = lab.say("one");
    let from = cwd_of(&lab.home(), &id);
    let to = two.lab.world.path("mapped");
    fs::create_dir(&to).expect("folder");
    two.sync(&["a"]);
    two.configure(&format!("[[paths.map]]\nfrom = {from:?}\nto = {to:?}\n"));
    two.sync(&["b"]);
    assert_eq!(Path::new(&cwd_of(b, &id)), to);
    let resumed = |which: &[&str]| {
        let mut command = lab.codex.command(b, &lab.backend, &lab.world.path("home"));
        command.args(["exec", "resume", "--skip-git-repo-check"]);
        command.args(which).arg("go on").current_dir(&to);
        let done = command.output().expect("codex starts");
        let messages = String::from_utf8_lossy(&done.stderr).into_owned();
        messages.contains(&format!("session id: {id}"))
    };
    // Codex uses the folder stored in the conversation (0.169).
    assert!(!resumed(&["--last"]));
    assert!(resumed(&[&id]));
    assert!(resumed(&["--all", "--last"]));
    // After it was continued in this folder, it is stored there.
    assert!(resumed(&["--last"]));
}
