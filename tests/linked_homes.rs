//! Homes with parts at other places: databases in `sqlite_home`, linked conversations, a linked home.

use crate::rewinds::rewind;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::lab::{Lab, messages, rollout, rows};
use crate::support::sample::{
    self, FIRST, SECOND, alice, backup, put_at, sample_home_at, state_database, text,
};
use crate::support::sign_in::{SignIn, signed_in_home, write_auth};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Moves the databases into a folder beside the home and names it in config.toml.
fn move_databases_outside(lab: &Lab) -> PathBuf {
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
fn databases_outside_the_home_are_restored_where_codex_reads_them() {
    let Some(lab) = Lab::new() else { return };
    let (home, databases) = (lab.home(), move_databases_outside(&lab));
    let id = lab.say("one");
    assert!(databases.join("state_5.sqlite").exists() && !has_databases(&home));
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");

    let done = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert!(!has_databases(&home));
    assert_eq!(rows(&databases), [(id.clone(), rollout(&home, &id))]);
    assert_eq!(lab.user_messages(&home, &id), ["one"]);
    let safety = done["safety_backup"].as_str().expect("a safety backup");
    let _ = lab.manager(["restore", safety]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "later"]);

    // First only the home is lost, then also the databases.
    fs::remove_dir_all(&home).expect("lose the home");
    // Without a live config.toml only the archive names the folder, so `--yes` is needed.
    let _ = lab.manager(["restore", "latest"]).code(5);
    let done = lab
        .manager(["restore", "latest", "--yes", "--json"])
        .code(0)
        .json();
    assert!(done["safety_backup"].is_string(), "{done}");
    assert_eq!(lab.user_messages(&home, &id), ["one"]);
    for folder in [&home, &databases] {
        fs::remove_dir_all(folder).expect("remove");
    }
    let _ = lab.manager(["restore", "latest", "--yes"]).code(0);
    assert_eq!(rows(&databases), [(id.clone(), rollout(&home, &id))]);
    lab.resume(&home, &id, "two");
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
}

#[test]
fn a_conversation_restored_alone_is_shown_as_restored_with_databases_outside_the_home() {
    let Some(lab) = Lab::new() else { return };
    let (home, databases) = (lab.home(), move_databases_outside(&lab));
    let (id, other) = (lab.say("one"), lab.say("other"));
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");
    assert_eq!(lab.user_messages(&home, &id), ["one", "later"]);
    let done = lab
        .manager(["restore", "latest", "--session", &id, "--json"])
        .code(0)
        .json();
    let shown = lab.user_messages(&home, &id);
    assert!(!shown.contains(&"later".to_owned()), "{shown:?}");
    assert_eq!(lab.user_messages(&home, &other), ["other"]);
    lab.resume(&home, &id, "instead");
    assert_eq!(lab.user_messages(&home, &id), ["one", "instead"]);
    assert!(!has_databases(&home));

    let safety = done["safety_backup"].as_str().expect("a safety backup");
    let _ = lab.manager(["restore", safety]).code(0);
    lab.resume(&home, &id, "and on");
    assert_eq!(lab.user_messages(&home, &id), ["one", "later", "and on"]);
    assert_eq!(rows(&databases).len(), 2);

    // The conversation was archived later: the restore also changes the row in the outside database.
    let _ = lab
        .codex
        .run(&home, &lab.backend, &["archive", &id])
        .expect_success();
    let _ = lab.manager(["restore", "latest", "--session", &id]).code(0);
    lab.resume(&home, &id, "again");
    assert_eq!(lab.user_messages(&home, &id), ["one", "again"]);
}

#[test]
fn outside_databases_are_restored_inside_a_separate_home() {
    let Some(lab) = Lab::new() else { return };
    let (home, databases) = (lab.home(), move_databases_outside(&lab));
    let id = lab.say("one");
    let _ = lab.back_up();
    let before = (lab.world.tree("home/.codex"), lab.world.tree("databases"));
    let _ = lab.manager(["restore", "latest", "--to", "clone"]).code(0);
    let clone = lab.world.path("clone");
    assert_eq!(rows(&clone), [(id.clone(), rollout(&clone, &id))]);
    lab.resume(&clone, &id, "two");
    assert_eq!(messages(&rollout(&clone, &id)), ["one", "two"]);
    assert_same_tree(&before.0, &lab.world.tree("home/.codex"));
    assert_same_tree(&before.1, &lab.world.tree("databases"));
    assert!(databases.is_dir() && home.is_dir());
}

#[test]
fn databases_in_codex_sqlite_home_are_restored_and_restore_to_reports_that_the_variable_is_set() {
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
    lab.resume(&clone, &id, "two");
    assert_eq!(messages(&rollout(&clone, &id)), ["one", "two"]);
    assert_same_tree(&before.0, &lab.world.tree("home/.codex"));
    assert_same_tree(&before.1, &lab.world.tree("databases"));

    fs::remove_dir_all(&home).expect("lose the home");
    fs::remove_dir_all(&databases).expect("lose the databases");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(rows(&databases), [(id.clone(), rollout(&home, &id))]);
    assert_eq!(exec(&["resume", "--skip-git-repo-check", &id, "three"]), id);
    assert_eq!(messages(&rollout(&home, &id)), ["one", "three"]);
}

#[test]
fn databases_in_a_folder_of_the_home_are_archived_and_restored_with_it() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let config = home.join("config.toml");
    let text = fs::read_to_string(&config).expect("config.toml");
    fs::write(&config, format!("sqlite_home = \"db\"\n{text}")).expect("config.toml");
    let id = lab.say("one");
    assert!(home.join("db/state_5.sqlite").exists() && !has_databases(&home));
    assert_eq!(
        lab.manager(["sessions", "--json"]).code(0).json()["sessions"][0]["id"],
        *id
    );
    let _ = lab.back_up();
    let _ = lab.manager(["restore", "latest", "--to", "clone"]).code(0);
    lab.resume(&lab.world.path("clone"), &id, "two");
    fs::remove_dir_all(&home).expect("lose the home");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(rows(&home.join("db")), [(id.clone(), rollout(&home, &id))]);
    lab.resume(&home, &id, "three");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "three"]);
}

#[test]
fn databases_shared_with_another_home_are_not_replaced() {
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
    lab.resume(&bobs, &his, "his still");
    lab.resume(&home, &hers, "hers still");
}

#[test]
fn linked_conversations_are_restored_through_the_link_or_into_a_folder_if_it_is_gone() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let disk = lab.world.path("disk/conversations");
    fs::create_dir_all(&disk).expect("a folder");
    symlink(&disk, home.join("sessions")).expect("link");
    let id = lab.say("one");
    let _ = lab.back_up();
    let before = lab.world.tree("disk");
    lab.resume(&home, &id, "later");
    let extra = lab.say("extra");

    let _ = lab.manager(["restore", "latest"]).code(0);
    assert!(home.join("sessions").is_symlink());
    assert_same_tree(&before, &lab.world.tree("disk"));
    assert_eq!(lab.listed_ids(&home), [&*id]);
    assert!(
        !before
            .0
            .keys()
            .any(|path| path.to_string_lossy().contains(&extra))
    );
    lab.resume(&home, &id, "two");
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);

    // Without the link, a folder is created.
    fs::remove_dir_all(&home).expect("lose the home");
    fs::remove_dir_all(lab.world.path("disk")).expect("remove the disk");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert!(home.join("sessions").is_dir() && !home.join("sessions").is_symlink());
    lab.resume(&home, &id, "three");
    assert_eq!(lab.user_messages(&home, &id), ["one", "three"]);
}

#[test]
fn history_check_accepts_the_resolved_path_of_a_rollout_below_a_linked_folder() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let disk = lab.world.path("disk/conversations");
    fs::create_dir_all(&disk).expect("a folder");
    symlink(&disk, home.join("sessions")).expect("link");
    let id = lab.say("one");
    lab.resume(&home, &id, "two");
    rewind(&lab, &home, &id, 1);
    let recorded = rows(&home).remove(0).1;
    assert!(recorded.starts_with(&disk), "{}", recorded.display());
    let checked = lab.manager(["history", "check", "--json"]).code(0).json();
    assert_eq!(checked["listed"], 1, "{checked}");

    let _ = lab.back_up();
    lab.resume(&home, &id, "edited");
    let _ = lab.manager(["restore", "latest", "--yes"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    lab.resume(&home, &id, "again");
    assert_eq!(lab.user_messages(&home, &id), ["one", "again"]);
}

#[test]
fn a_linked_folder_without_files_stays_a_link() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let disk = lab.world.path("disk/conversations");
    fs::create_dir_all(&disk).expect("a folder");
    symlink(&disk, home.join("sessions")).expect("link");
    let id = lab.say("one");
    let archived = lab.codex.run(&home, &lab.backend, &["archive", &id]);
    let _ = archived.expect_success();
    let _ = lab.back_up();
    for more in [&["--merge"][..], &[]] {
        let args = [&["restore", "latest", "--yes"], more].concat();
        let _ = lab.manager(args).code(0);
        assert!(home.join("sessions").is_symlink(), "{more:?}");
        assert!(disk.is_dir(), "{more:?}");
    }
    let _ = lab.manager(["history", "check"]).code(0);
    let unarchived = lab.codex.run(&home, &lab.backend, &["unarchive", &id]);
    let _ = unarchived.expect_success();
    lab.resume(&home, &id, "two");
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
}

#[test]
fn a_restore_keeps_the_link_to_a_home() {
    let Some(lab) = Lab::new() else { return };
    let (home, real) = (lab.home(), lab.world.path("disk/codex"));
    fs::create_dir_all(lab.world.path("disk")).expect("a folder");
    fs::rename(&home, &real).expect("move the home");
    symlink(&real, &home).expect("link");
    let id = lab.say("one");
    let named = rows(&home);
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert!(home.is_symlink());
    assert_eq!(rows(&home), named);
    lab.resume(&home, &id, "two");
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
    assert_eq!(messages(&rollout(&real, &id)), ["one", "two"]);
}

/// Creates the sample home at `home`, with its database in `folder`, which config.toml names.
fn sample_with_databases_in(home: &Path, folder: &Path) -> PathBuf {
    sample_home_at(home);
    fs::remove_file(home.join("state_5.sqlite")).expect("remove");
    put_at(
        home,
        "config.toml",
        format!("sqlite_home = \"{}\"\n", folder.display()),
    );
    fs::create_dir_all(folder).expect("folder");
    let database = folder.join("state_5.sqlite");
    state_database(&database, home);
    database
}

#[test]
fn backup_and_restore_count_outside_databases_as_files() {
    let env = TestEnv::new();
    let home = env.codex_home();
    sample_with_databases_in(&home, &env.path("databases"));
    let planned = env.run(["backup", "--dry-run", "--json"]).code(0).json();
    let made = env.run(["backup", "--no-status", "--json"]).code(0).json();
    let members = std::process::Command::new("tar")
        .arg("tzf")
        .arg(
            env.manager_home()
                .join("backups")
                .join(made["archive"].as_str().unwrap()),
        )
        .output()
        .expect("tar");
    let listed = String::from_utf8(members.stdout).expect("text");
    let is_file = |line: &&str| !line.ends_with('/') && !line.ends_with("manifest.json");
    let files = listed.lines().filter(is_file).count();
    for counted in [&planned, &made] {
        assert_eq!(counted["files"], files, "{counted}");
    }
    // The id and the legacy login exist already.
    let plan = env
        .run(["restore", "latest", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_eq!(plan["files"], files - 2, "{plan}");
    let done = env
        .run(["restore", "latest", "--auth", "skip", "--json"])
        .code(0)
        .json();
    assert_eq!(done["files"], files - 3, "{done}");
    assert_eq!(
        done["bytes"].as_u64().unwrap() + fs::metadata(home.join("auth.json")).unwrap().len(),
        plan["bytes"].as_u64().unwrap(),
        "{done} {plan}"
    );
}

#[test]
fn restored_rows_in_outside_databases_point_into_the_target_home() {
    let mut env = TestEnv::new();
    let (home, other) = (env.codex_home(), env.path("other"));
    let folder = |env: &TestEnv, name: &str| env.path(name);
    sample_home_at(&other);
    fs::remove_file(other.join("state_5.sqlite")).expect("remove");
    let first = folder(&env, "first");
    fs::create_dir(&first).expect("folder");
    state_database(&first.join("state_5.sqlite"), &other);
    env.set("CODEX_SQLITE_HOME", &first);
    let archive = text(&backup(
        &env,
        &["--codex-home", other.to_str().expect("text")],
    ));
    write_auth(&home, &alice(0));
    let second = folder(&env, "second");
    env.set("CODEX_SQLITE_HOME", &second);
    let _ = env.run(["restore", &archive]).code(0);
    let expected = [FIRST, SECOND].map(|id| {
        (
            id.to_owned(),
            home.join(sample::rollout(id)).display().to_string(),
        )
    });
    assert_eq!(sample::rows(&second.join("state_5.sqlite")), expected);
}

#[test]
fn a_merge_keeps_rows_of_outside_databases() {
    let env = TestEnv::new();
    let home = env.codex_home();
    let database = sample_with_databases_in(&home, &env.path("databases"));
    let second = home.join(sample::rollout(SECOND));
    let held = fs::read(&second).expect("read");
    fs::remove_file(&second).expect("remove");
    let connection = rusqlite::Connection::open(&database).expect("open");
    let taken = connection.execute("DELETE FROM threads WHERE id=?1", [SECOND]);
    assert_eq!(taken.expect("deleted"), 1);
    connection.close().expect("close");
    let archive = text(&backup(&env, &[]));
    // A conversation that the archive does not have.
    fs::write(&second, held).expect("write");
    fs::remove_file(&database).expect("remove");
    state_database(&database, &home);
    let before = sample::rows(&database);
    assert_eq!(before.len(), 2);
    let _ = env.run(["restore", &archive, "--merge"]).code(0);
    assert!(second.exists());
    assert_eq!(sample::rows(&database), before);
}

#[test]
fn a_merge_that_moves_databases_into_the_home_keeps_no_wal_of_an_earlier_one() {
    let mut env = TestEnv::on_disk();
    let (home, folder) = (env.codex_home(), env.path("databases"));
    sample_home_at(&home);
    let database = home.join("state_5.sqlite");
    fs::create_dir(&folder).expect("folder");
    fs::rename(&database, folder.join("state_5.sqlite")).expect("move");
    env.set("CODEX_SQLITE_HOME", &folder);
    let archive = text(&backup(&env, &[]));
    env.unset("CODEX_SQLITE_HOME");

    // As a killed Codex leaves it, which used no other folder.
    state_database(&database, &home);
    let open = rusqlite::Connection::open(&database).expect("open");
    let rename = "PRAGMA wal_autocheckpoint=0; UPDATE threads SET title='a newer title'";
    open.execute_batch(rename).expect("update");
    let wal = home.join("state_5.sqlite-wal");
    let log = fs::read(&wal).expect("read");
    drop(open);
    fs::write(&wal, log).expect("write");

    let _ = env.run(["restore", &archive, "--merge"]).code(0);
    assert!(!wal.exists());
    assert_eq!(sample::rows(&database).len(), 2);
}

#[test]
fn a_restore_of_a_home_that_shares_databases_changes_no_rows_of_the_other_home() {
    let env = TestEnv::new();
    let (home, other) = (env.codex_home(), env.path("other"));
    let folder = env.path("databases");
    let database = sample_with_databases_in(&home, &folder);
    let rows = sample::rows(&database);
    // The other home has a conversation without a row.
    let id = "01a1f799-0000-7000-8000-0000000000bb";
    write_auth(&other, &alice(0));
    let settings = fs::read(home.join("config.toml")).expect("settings");
    put_at(&other, "config.toml", settings);
    put_at(&other, sample::rollout(id), sample::line(0));
    put_at(&other, "AGENTS.md", "be brief\n");
    let of_other = ["--codex-home", other.to_str().expect("text")];
    let archive = text(&backup(&env, &of_other));
    let run = |args: &[&str]| env.run([&of_other, args].concat());
    put_at(&other, "AGENTS.md", "changed\n");

    // A complete restore and a merge are refused, because the databases are shared.
    for more in [&[][..], &["--merge"]] {
        let refused = run(&[&["restore", &archive], more].concat()).code(5);
        assert!(refused.stderr.contains("shares the databases"), "{refused}");
        assert_eq!(sample::rows(&database), rows);
    }
    // The same for a partial restore, also if the archive has rows of the other home.
    for part in [
        &["--session", id][..],
        &["--only", "sessions"],
        &["--only", "AGENTS.md"],
    ] {
        fs::remove_dir_all(other.join("sessions")).expect("remove");
        let args = [&["restore", &archive], part].concat();
        let _ = run(&args).code(0);
        assert_eq!(sample::rows(&database), rows, "{part:?}");
        put_at(&other, sample::rollout(id), sample::line(0));
    }
    // A restore of the home with the rows keeps them.
    let own = text(&backup(&env, &[]));
    let _ = env.run(["restore", &own]).code(0);
    assert_eq!(sample::rows(&database), rows);
    assert!(other.join(sample::rollout(id)).exists());
}
