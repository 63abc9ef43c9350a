//! I2: commands that are killed at random moments.
//!
//! The tests print the seed of the moments.

#![allow(
    clippy::print_stdout,
    reason = "how often each state was met is shown when a test fails, or with --nocapture"
)]

use crate::support::aftermath::{home_tree, stray_files};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::{Dice, Mount, run_ends_before_kill};
use crate::support::pauses::vary;
use crate::support::sample::{
    FIRST, backup, line, put, rollout, sample_home, sample_home_at, text,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The number of kills per test. [`faults`](crate::faults) kills at each call that changes a disk.
const KILLS: usize = 15;

/// Adds `mib` MiB of incompressible bytes, so that a backup takes a while.
fn grow(env: &TestEnv, dice: &mut Dice, mib: u64) {
    for i in 0..mib {
        let bytes = dice.bytes(1 << 20);
        put(env, format!("sessions/2026/11/17/big-{i}.bin"), bytes);
    }
}

#[test]
fn i2_a_killed_backup_loses_nothing_and_its_temp_files_are_removed() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    sample_home(&env);
    grow(&env, &mut dice, 16);
    let before = home_tree(&env);
    let began = Instant::now();
    let good = text(&backup(&env, &[]));
    let whole = u64::try_from(began.elapsed().as_micros()).expect("short");
    for _ in 0..KILLS {
        let delay = Duration::from_micros(dice.below(whole * 11 / 10));
        let _ = run_ends_before_kill(&env, &["backup", "--no-status"], delay);
        let _ = env.run(["recommend"]);
    }
    assert_same_tree(&before, &home_tree(&env));
    // Every published archive is valid.
    let run = env.run(["verify", &good]).code(0);
    assert!(run.stdout.contains("ok"), "{run}");
    let list = env.run(["list-backups", "--json"]).code(0).json();
    for row in list["backups"].as_array().expect("list") {
        let problem = row["problem"].as_str().unwrap_or_default();
        assert!(
            problem.is_empty() || problem.starts_with("no sidecar"),
            "{row}"
        );
    }
    let _ = env.run(["verify", "--all", "--repair"]).code(0);
    let _ = backup(&env, &[]);
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
}

/// Kills restores of `archive` and of the current state alternately, at random moments.
fn kill_restores(env: &TestEnv, dice: &mut Dice, archive: &str, kills: usize, also: &str) {
    let both = |env: &TestEnv| (home_tree(env), env.tree(also));
    // The two permitted states.
    let changed = both(env);
    let began = Instant::now();
    let run = env.run(["restore", archive, "--json"]).code(0).json();
    let whole = u64::try_from(began.elapsed().as_micros()).expect("short");
    let archived = both(env);
    assert_ne!(changed.0, archived.0);
    let undo = text(
        &env.manager_home()
            .join("backups")
            .join(run["safety_backup"].as_str().expect("a safety backup")),
    );
    let mut seen = (0, 0);
    let mut is_archived = true;
    for i in 0..kills {
        let target = if is_archived { &undo } else { archive };
        let delay = Duration::from_micros(whole / 3 + dice.below(whole));
        let _ = run_ends_before_kill(env, &["restore", target, "--no-safety-backup"], delay);
        // Any command finishes or undoes it, even one that only reads.
        let command = [
            &["recommend"][..],
            &["list-backups"],
            &["cooldown"],
            &["doctor"],
        ][i % 4];
        let run = env.run(command);
        assert!(!run.stderr.contains("damaged") && run.code != 1, "{run}");
        let now = both(env);
        is_archived = now == archived;
        if is_archived {
            seen.0 += 1;
        } else {
            assert_same_tree(&changed.0, &now.0);
            assert_same_tree(&changed.1, &now.1);
            seen.1 += 1;
        }
        assert_eq!(stray_files(env), Vec::<PathBuf>::new(), "after {command:?}");
    }
    println!(
        "{} runs ended with the archive's state, {} with the other one",
        seen.0, seen.1
    );
    let _ = env.run(["verify", archive, &undo]).code(0);
    // No lock is left held.
    let _ = env.run(["restore", archive]).code(0);
    assert_eq!(both(env), archived);
    let _ = backup(env, &[]);
    assert_eq!(stray_files(env), Vec::<PathBuf>::new());
}

fn change(env: &TestEnv) {
    put(env, rollout(FIRST), line(5));
    put(env, "AGENTS.md", "changed");
    put(env, "skills/more/SKILL.md", "new");
    fs::remove_file(env.codex_home().join("version.json")).expect("remove");
}

#[test]
fn i2_a_killed_restore_leaves_the_old_or_the_new_home() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    sample_home(&env);
    grow(&env, &mut dice, 16);
    let archive = text(&backup(&env, &[]));
    change(&env);
    kill_restores(&env, &mut dice, &archive, KILLS, "none");
}

#[test]
fn i2_a_killed_restore_through_a_link_leaves_the_old_or_the_new_state_on_both_disks() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let home = sample_home(&env);
    grow(&env, &mut dice, 4);
    fs::create_dir(env.path("disk")).expect("folder");
    fs::rename(home.join("sessions"), env.path("disk/conversations")).expect("move");
    symlink(env.path("disk/conversations"), home.join("sessions")).expect("link");
    let archive = text(&backup(&env, &[]));
    change(&env);
    kill_restores(&env, &mut dice, &archive, 12, "disk");
}

#[test]
fn i2_a_killed_restore_of_a_mounted_home_leaves_the_old_or_the_new_home() {
    for kind in ["tmpfs", "bind"] {
        let mut dice = Dice::new();
        let env = TestEnv::new();
        let home = env.codex_home();
        let mount = if kind == "bind" {
            fs::create_dir(env.path("volume")).expect("folder");
            Mount::bind(&env.path("volume"), &home)
        } else {
            Mount::tmpfs(&home, 200 << 10)
        };
        let Some(_mount) = mount else { return };
        sample_home_at(&home);
        let archive = text(&backup(&env, &[]));
        change(&env);
        kill_restores(&env, &mut dice, &archive, 12, "none");
    }
}

#[test]
fn i2_a_killed_restore_into_mounted_conversations_leaves_the_old_or_the_new_state_and_the_mount() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let home = env.codex_home();
    fs::create_dir_all(env.path("volume")).expect("folder");
    let Some(_mount) = Mount::bind(&env.path("volume"), &home.join("sessions")) else {
        return;
    };
    sample_home_at(&home);
    let archive = text(&backup(&env, &[]));
    change(&env);
    kill_restores(&env, &mut dice, &archive, 12, "volume");
    assert!(env.path("volume/2026").is_dir());
}

#[test]
fn i2_a_killed_restore_leaves_home_and_outside_databases_in_the_same_state() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::create_dir(env.path("databases")).expect("folder");
    put(
        &env,
        "config.toml",
        format!("sqlite_home = {:?}\n", text(&env.path("databases"))),
    );
    fs::rename(
        home.join("state_5.sqlite"),
        env.path("databases/state_5.sqlite"),
    )
    .expect("move");
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    let connection =
        rusqlite::Connection::open(env.path("databases/state_5.sqlite")).expect("open");
    connection
        .execute("UPDATE threads SET title='changed'", [])
        .expect("change");
    connection.close().expect("close");
    let titles = |env: &TestEnv| -> (String, String) {
        let path = env.path("databases/state_5.sqlite");
        let uri = format!("file:{}?immutable=1", path.display());
        let flags =
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
        let connection = rusqlite::Connection::open_with_flags(uri, flags).expect("open");
        let title = connection.query_row("SELECT max(title) FROM threads", [], |r| r.get(0));
        (
            title.expect("a title"),
            fs::read_to_string(env.codex_home().join("AGENTS.md")).expect("read"),
        )
    };
    let old = titles(&env);
    let run = env.run(["restore", &archive, "--json"]).code(0).json();
    let new = titles(&env);
    assert_eq!(new, ("a title".to_owned(), "be brief\n".to_owned()));
    let undo = text(
        &env.manager_home()
            .join("backups")
            .join(run["safety_backup"].as_str().expect("a safety backup")),
    );
    for _ in 0..12 {
        let target = if titles(&env) == new { &undo } else { &archive };
        let delay = Duration::from_micros(5_000 + dice.below(60_000));
        let _ = run_ends_before_kill(&env, &["restore", target, "--no-safety-backup"], delay);
        let _ = env.run(["recommend"]);
        let now = titles(&env);
        assert!(now == old || now == new, "{now:?}");
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
    }
}

#[test]
fn i2_a_restore_killed_while_another_starts_blocks_no_later_restore() {
    // Started while the first is running, so that no command recovers in between.
    let mut dice = Dice::new();
    let env = TestEnv::new();
    sample_home(&env);
    grow(&env, &mut dice, 4);
    let archive = text(&backup(&env, &[]));
    change(&env);
    let changed = home_tree(&env);
    let began = Instant::now();
    let run = env.run(["restore", &archive, "--json"]).code(0).json();
    let whole = u64::try_from(began.elapsed().as_micros()).expect("short");
    let undo = text(
        &env.manager_home()
            .join("backups")
            .join(run["safety_backup"].as_str().expect("a safety backup")),
    );
    for _ in 0..6 {
        let mut first = env
            .command(["restore", &undo, "--no-safety-backup"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start");
        vary(Duration::from_micros(dice.below(whole)));
        let mut second = env
            .command(["restore", &undo, "--no-safety-backup"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start");
        vary(Duration::from_micros(dice.below(whole / 2)));
        let _ = first.kill();
        let _ = first.wait();
        let _ = second.wait();
        let _ = env.run(["restore", &undo, "--no-safety-backup"]).code(0);
        assert_same_tree(&changed, &home_tree(&env));
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
    }
}
