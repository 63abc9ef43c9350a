//! Homes whose parts lie elsewhere: databases by `sqlite_home`, conversations behind a link, the home
//! itself behind one.

use crate::support::env::assert_same_tree;
use crate::support::lab::{Lab, rollout, rows, said};
use crate::support::sign_in::{SignIn, signed_in_home};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Puts the databases into a folder beside the home, by config.toml.
fn databases_apart(lab: &Lab) -> PathBuf {
    let (config, folder) = (lab.home().join("config.toml"), lab.world.path("databases"));
    let text = fs::read_to_string(&config).expect("config.toml");
    let line = format!("sqlite_home = \"{}\"\n", folder.display());
    fs::write(&config, line + &text).expect("write");
    folder
}

fn has_databases(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|e| e.path().extension().is_some_and(|x| x == "sqlite"))
}

#[test]
fn databases_that_lie_apart_come_back_where_codex_looks_for_them() {
    let Some(lab) = Lab::new() else { return };
    let (home, databases) = (lab.home(), databases_apart(&lab));
    let id = lab.say("one");
    assert!(databases.join("state_5.sqlite").exists() && !has_databases(&home));
    let _ = lab.back_up();
    lab.go_on(&home, &id, "later");

    let done = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert!(!has_databases(&home));
    assert_eq!(rows(&databases), [(id.clone(), rollout(&home, &id))]);
    assert_eq!(lab.shown(&home, &id), ["one"]);
    let safety = done["safety_backup"].as_str().expect("a safety backup");
    let _ = lab.manager(["restore", safety]).code(0);
    assert_eq!(lab.shown(&home, &id), ["one", "later"]);

    // The home alone is lost, then all of it.
    fs::remove_dir_all(&home).expect("lose the home");
    // Without a config.toml here only the archive says where the databases go: that wants consent.
    let _ = lab.manager(["restore", "latest"]).code(5);
    let done = lab
        .manager(["restore", "latest", "--yes", "--json"])
        .code(0)
        .json();
    assert!(done["safety_backup"].is_string(), "{done}");
    assert_eq!(lab.shown(&home, &id), ["one"]);
    for folder in [&home, &databases] {
        fs::remove_dir_all(folder).expect("lose it");
    }
    let _ = lab.manager(["restore", "latest", "--yes"]).code(0);
    assert_eq!(rows(&databases), [(id.clone(), rollout(&home, &id))]);
    lab.go_on(&home, &id, "two");
    assert_eq!(lab.shown(&home, &id), ["one", "two"]);
}

#[test]
fn a_conversation_put_back_alone_is_forgotten_by_databases_that_lie_apart() {
    let Some(lab) = Lab::new() else { return };
    let (home, databases) = (lab.home(), databases_apart(&lab));
    let (id, other) = (lab.say("one"), lab.say("other"));
    let _ = lab.back_up();
    lab.go_on(&home, &id, "later");
    assert_eq!(lab.shown(&home, &id), ["one", "later"]);
    let done = lab
        .manager(["restore", "latest", "--session", &id, "--json"])
        .code(0)
        .json();
    let shown = lab.shown(&home, &id);
    assert!(!shown.contains(&"later".to_owned()), "{shown:?}");
    assert_eq!(lab.shown(&home, &other), ["other"]);
    lab.go_on(&home, &id, "instead");
    assert_eq!(lab.shown(&home, &id), ["one", "instead"]);
    assert!(!has_databases(&home));

    let safety = done["safety_backup"].as_str().expect("a safety backup");
    let _ = lab.manager(["restore", safety]).code(0);
    lab.go_on(&home, &id, "and on");
    assert_eq!(lab.shown(&home, &id), ["one", "later", "and on"]);
    assert_eq!(rows(&databases).len(), 2);

    // Archived since: the row out there follows too.
    let _ = lab
        .codex
        .run(&home, &lab.backend, &["archive", &id])
        .expect_success();
    let _ = lab.manager(["restore", "latest", "--session", &id]).code(0);
    lab.go_on(&home, &id, "again");
    assert_eq!(lab.shown(&home, &id), ["one", "again"]);
}

#[test]
fn databases_that_lie_apart_are_inside_a_home_of_its_own_elsewhere() {
    let Some(lab) = Lab::new() else { return };
    let (home, databases) = (lab.home(), databases_apart(&lab));
    let id = lab.say("one");
    let _ = lab.back_up();
    let before = (lab.world.tree("home/.codex"), lab.world.tree("databases"));
    let _ = lab.manager(["restore", "latest", "--to", "clone"]).code(0);
    let clone = lab.world.path("clone");
    assert_eq!(rows(&clone), [(id.clone(), rollout(&clone, &id))]);
    lab.go_on(&clone, &id, "two");
    assert_eq!(said(&rollout(&clone, &id)), ["one", "two"]);
    assert_same_tree(&before.0, &lab.world.tree("home/.codex"));
    assert_same_tree(&before.1, &lab.world.tree("databases"));
    assert!(databases.is_dir() && home.is_dir());
}

#[test]
fn databases_named_by_the_environment_are_taken_and_the_danger_elsewhere_is_said() {
    let Some(mut lab) = Lab::new() else { return };
    let (home, databases) = (lab.home(), lab.world.path("databases"));
    fs::create_dir(&databases).expect("a folder");
    let exec = |args: &[&str]| {
        let args = [&["exec"], args].concat();
        let run = lab.codex.start_with(&home, &lab.backend, &args, |command| {
            command.env("CODEX_SQLITE_HOME", &databases);
        });
        let done = run.finish(Duration::from_secs(30)).expect_success();
        done.session_id().expect("a session id").to_owned()
    };
    let id = exec(&["--skip-git-repo-check", "one"]);
    lab.world.set("CODEX_SQLITE_HOME", &databases);
    assert!(databases.join("state_5.sqlite").exists() && !has_databases(&home));
    let _ = lab.back_up();
    let before = (lab.world.tree("home/.codex"), lab.world.tree("databases"));

    let args = ["restore", "latest", "--to", "clone"];
    let done = lab.manager(args).code(0);
    assert!(done.stderr.contains("CODEX_SQLITE_HOME is set"), "{done}");
    let clone = lab.world.path("clone");
    lab.go_on(&clone, &id, "two");
    assert_eq!(said(&rollout(&clone, &id)), ["one", "two"]);
    assert_same_tree(&before.0, &lab.world.tree("home/.codex"));
    assert_same_tree(&before.1, &lab.world.tree("databases"));

    fs::remove_dir_all(&home).expect("lose the home");
    fs::remove_dir_all(&databases).expect("and the databases");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(rows(&databases), [(id.clone(), rollout(&home, &id))]);
    assert_eq!(exec(&["resume", "--skip-git-repo-check", &id, "three"]), id);
    assert_eq!(said(&rollout(&home, &id)), ["one", "three"]);
}

#[test]
fn databases_that_another_home_shares_are_not_replaced() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    // Bob's home keeps its rows in Alice's databases.
    let bobs = lab.world.path("bob");
    signed_in_home(&bobs, &lab.backend, &SignIn::bob());
    let config = bobs.join("config.toml");
    let text = fs::read_to_string(&config).expect("config.toml");
    let line = format!("sqlite_home = \"{}\"\n", home.display());
    fs::write(&config, line + &text).expect("write");
    let hers = lab.say("hers");
    let his = lab.say_in(&bobs, "his");
    assert_eq!(rows(&home).len(), 2);

    let args = ["--codex-home", "bob"];
    let _ = lab
        .manager([&args[..], &["backup", "--no-status"]].concat())
        .code(0);
    let before = (lab.world.tree("home/.codex"), lab.world.tree("bob"));
    let _ = lab
        .manager([&args[..], &["restore", "latest"]].concat())
        .code(5);
    assert_same_tree(&before.0, &lab.world.tree("home/.codex"));
    assert_same_tree(&before.1, &lab.world.tree("bob"));
    lab.go_on(&bobs, &his, "his still");
    lab.go_on(&home, &hers, "hers still");
}

#[test]
fn conversations_behind_a_link_are_put_back_through_it() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let disk = lab.world.path("disk/conversations");
    fs::create_dir_all(&disk).expect("a folder");
    symlink(&disk, home.join("sessions")).expect("link");
    let id = lab.say("one");
    let _ = lab.back_up();
    let before = lab.world.tree("disk");
    lab.go_on(&home, &id, "later");
    let extra = lab.say("extra");

    let _ = lab.manager(["restore", "latest"]).code(0);
    assert!(home.join("sessions").is_symlink());
    assert_same_tree(&before, &lab.world.tree("disk"));
    assert_eq!(lab.listed(&home), [&*id]);
    assert!(
        !before
            .0
            .keys()
            .any(|path| path.to_string_lossy().contains(&extra))
    );
    lab.go_on(&home, &id, "two");
    assert_eq!(lab.shown(&home, &id), ["one", "two"]);

    // Where the link is gone there is a folder.
    fs::remove_dir_all(&home).expect("lose the home");
    fs::remove_dir_all(lab.world.path("disk")).expect("and the disk");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert!(home.join("sessions").is_dir() && !home.join("sessions").is_symlink());
    lab.go_on(&home, &id, "three");
    assert_eq!(lab.shown(&home, &id), ["one", "three"]);
}

#[test]
fn a_home_behind_a_link_stays_behind_it() {
    let Some(lab) = Lab::new() else { return };
    let (home, real) = (lab.home(), lab.world.path("disk/codex"));
    fs::create_dir_all(lab.world.path("disk")).expect("a folder");
    fs::rename(&home, &real).expect("move the home");
    symlink(&real, &home).expect("link");
    let id = lab.say("one");
    let named = rows(&home);
    let _ = lab.back_up();
    lab.go_on(&home, &id, "later");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert!(home.is_symlink());
    assert_eq!(rows(&home), named);
    lab.go_on(&home, &id, "two");
    assert_eq!(lab.shown(&home, &id), ["one", "two"]);
    assert_eq!(said(&rollout(&real, &id)), ["one", "two"]);
}
