//! `profile`, `use`, `list`, and the search for Codex.

use crate::machine::{Machine, login};
use std::fs;

#[test]
fn accounts_are_saved_and_switched() {
    let machine = Machine::with_conversations();
    machine.succeed(&["profile", "save", "private"]);
    let alice = machine.read("auth.json");
    machine.sign_in("bob");
    machine.succeed(&["profile", "save", "work"]);
    let bob = machine.read("auth.json");
    machine.succeed(&["use", "private"]);
    assert_eq!(machine.read("auth.json"), alice);
    machine.succeed(&["use", "work"]);
    assert_eq!(machine.read("auth.json"), bob);
    let list = machine.succeed(&["profile", "list", "--json"]).stdout;
    assert!(
        list.contains("alice@example.com") && list.contains("bob@example.com"),
        "{list}"
    );
    let current = machine.succeed(&["current", "--json"]).stdout;
    assert!(current.contains("bob@example.com"), "{current}");
}

#[test]
fn the_account_of_a_folder_is_set_by_its_path() {
    let machine = Machine::with_conversations();
    machine.succeed(&["profile", "save", "private"]);
    let key = format!("folders.{}", machine.path("two words").display());
    machine.succeed(&["config", "set", &key, "private"]);
    let value = machine.succeed(&["config", "get", &key]).stdout;
    assert_eq!(value.trim(), "private");
    let folder = machine.path("two words/below");
    fs::create_dir_all(&folder).unwrap();
    machine.install_codex();
    let plan = machine.run_in(&folder, &["launch", "--dry-run"]).code(0);
    let text = plan.stdout + &plan.stderr;
    assert!(text.contains("private"), "{text}");
    machine.succeed(&["config", "unset", &key]);
    let value = machine.succeed(&["config", "get", &key]).stdout;
    assert_eq!(value.trim(), "-");
}

#[test]
fn codex_is_found_on_the_path_and_started() {
    let machine = Machine::with_conversations();
    machine.succeed(&["profile", "save", "private"]);
    assert_ne!(machine.run(&["launch", "private"]).code, 0);
    machine.install_codex();
    let run = machine.succeed(&["launch", "private"]);
    assert!(run.stdout.contains("codex-cli 0.169.0"), "{}", run.stdout);
    let launches = machine.succeed(&["launches", "--json"]).json();
    assert_eq!(launches["sessions"][0]["exit_code"], 0, "{launches}");
}

#[test]
fn profile_undo_restores_a_removed_profile() {
    let machine = Machine::with_conversations();
    machine.succeed(&["profile", "save", "private"]);
    machine.succeed(&["profile", "rename", "private", "home"]);
    machine.succeed(&["profile", "remove", "home", "--yes"]);
    assert_ne!(machine.run(&["profile", "show", "home"]).code, 0);
    machine.succeed(&["profile", "undo"]);
    machine.succeed(&["profile", "show", "home"]);
}

#[test]
fn normalize_records_the_account_of_a_legacy_login_file() {
    let machine = Machine::with_conversations();
    fs::create_dir(machine.path("dumps")).unwrap();
    let dump = machine.path("dumps/21apr_carol@example.com_auth.json");
    fs::write(dump, login("carol")).unwrap();
    machine.succeed(&["normalize", "dumps"]);
    let cooldown = machine.succeed(&["cooldown", "--json"]).stdout;
    assert!(cooldown.contains("carol@example.com"), "{cooldown}");
}
