//! Vault commands that are killed at random moments, and concurrent ones. The tests print the seed.

use crate::support::env::TestEnv;
use crate::support::faults::{Dice, run_ends_before_kill};
use crate::support::pauses::{EVENT_LIMIT, poll};
use crate::support::sample::{put, sample_home, sample_home_at};
use crate::support::{restic, variables};
use crate::vault::set_up;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Default number of kills of each command.
const KILLS: u64 = 10;

/// Number of kills of the restic of each command.
const RESTIC_KILLS: u64 = 3;

/// Default number of rounds in which four homes use one vault.
const ROUNDS: u64 = 3;

/// Returns a home of 8 MB with a vault and one snapshot.
fn vault_env(dice: &mut Dice) -> Option<TestEnv> {
    restic::program()?;
    let mut env = TestEnv::new();
    sample_home(&env);
    for i in 0..8 {
        grow(&env, dice, i);
    }
    set_up(&mut env);
    env.unset("CODEX_MANAGER_NOW");
    let _ = env.run(["vault", "backup"]).code(0);
    Some(env)
}

/// Writes a file of 1 MB that does not compress.
fn grow(env: &TestEnv, dice: &mut Dice, number: u64) {
    let bytes: Vec<u8> = (0..1 << 17)
        .flat_map(|_| dice.below(u64::MAX).to_le_bytes())
        .collect();
    put(env, format!("sessions/2026/11/17/big-{number}.bin"), bytes);
}

/// Asserts that every snapshot can be restored and that no temporary file remains.
#[track_caller]
fn assert_intact(env: &TestEnv, least: usize) {
    let run = env.run(["vault", "check", "--read-data", "--json"]).code(0);
    assert_eq!(run.json()["ok"], true);
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    let snapshots = json["snapshots"].as_array().unwrap();
    assert!(snapshots.len() >= least, "{json}");
    for snapshot in snapshots {
        let id = snapshot["id"].as_str().unwrap();
        let _ = env.run(["vault", "drill", id]).code(0);
    }
    let _ = env.run(["vault", "backup"]).code(0);
    assert_no_leftovers(env);
}

/// Asserts that no staging folder, unpacked archive or copy of a login is left.
#[track_caller]
fn assert_no_leftovers(env: &TestEnv) {
    let left = env.tree("home/.codex-manager");
    let is_debris = |path: &&std::path::PathBuf| {
        let text = path.to_string_lossy();
        text.contains("staging-") || text.contains("vault/import") || text.ends_with("auth.json")
    };
    let stray_files: Vec<_> = left.0.keys().filter(is_debris).collect();
    assert!(stray_files.is_empty(), "{stray_files:?}");
}

/// Runs the command. Returns the time that it takes, in microseconds.
fn run_time(env: &TestEnv, args: &[&str]) -> u64 {
    let began = Instant::now();
    let _ = env.run(args);
    u64::try_from(began.elapsed().as_micros()).unwrap()
}

fn kill_at_random(
    env: &TestEnv,
    dice: &mut Dice,
    args: &[&str],
    mut before: impl FnMut(&mut Dice, u64),
) {
    let whole = run_time(env, args);
    for i in 0..variables::sequences(KILLS) {
        before(dice, i);
        let delay = Duration::from_micros(dice.below(whole));
        let _ = run_ends_before_kill(env, args, delay);
    }
}

#[test]
fn i2_a_killed_vault_backup_loses_no_snapshot_and_leaves_no_files() {
    let mut dice = Dice::new();
    let Some(env) = vault_env(&mut dice) else {
        return;
    };
    kill_at_random(&env, &mut dice, &["vault", "backup"], |dice, i| {
        grow(&env, dice, i % 8);
    });
    assert_intact(&env, 1);
}

#[test]
fn i2_a_killed_forget_keeps_the_snapshots_to_keep() {
    let mut dice = Dice::new();
    let Some(env) = vault_env(&mut dice) else {
        return;
    };
    let args = ["vault", "forget", "--keep-last", "1", "--yes"];
    kill_at_random(&env, &mut dice, &args, |dice, i| {
        grow(&env, dice, i % 8);
        let _ = env.run(["vault", "backup"]).code(0);
    });
    assert_intact(&env, 1);
    let _ = env.run(args).code(0);
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    assert_eq!(json["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn i2_a_killed_import_loses_no_snapshot_and_leaves_no_files() {
    let mut dice = Dice::new();
    let Some(env) = vault_env(&mut dice) else {
        return;
    };
    let archive = crate::support::sample::backup(&env, &[]);
    let archive = archive.to_str().unwrap().to_owned();
    // An import takes about as long, and only the first one copies something.
    let whole = run_time(&env, &["vault", "drill"]);
    for _ in 0..variables::sequences(KILLS) {
        let delay = Duration::from_micros(dice.below(whole));
        let _ = run_ends_before_kill(&env, &["vault", "import", &archive], delay);
    }
    let _ = env.run(["vault", "import", &archive]).code(0);
    assert_intact(&env, 2);
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    let of_archive = json["snapshots"].as_array().unwrap().iter();
    let count = of_archive
        .filter(|s| s["bytes"] != json["snapshots"][0]["bytes"])
        .count();
    assert!(count <= 2, "one snapshot for one archive: {json}");
}

/// Kills the restic of a command after `delay`, at the latest when the command ends. Returns the exit code
/// of the command.
fn restic_killed_after(env: &TestEnv, args: &[&str], delay: Duration) -> Option<i32> {
    let mut command = env.command(args);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    let pid = child.id();
    let begun = Instant::now();
    let code = poll(EVENT_LIMIT, || {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        let threads = threads.into_iter().flatten().flatten();
        let children = threads.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
        let restic: Vec<i32> = children
            .flat_map(|text| {
                text.split(' ')
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        if let (true, [restic, ..]) = (begun.elapsed() >= delay, &restic[..]) {
            let restic = rustix::process::Pid::from_raw(*restic).unwrap();
            let _ = rustix::process::kill_process(restic, rustix::process::Signal::KILL);
            return Some(child.wait().unwrap().code());
        }
        None
    });
    code.expect("the command ends")
}

#[test]
fn i2_a_killed_restic_loses_no_snapshot_and_leaves_no_files() {
    let mut dice = Dice::new();
    if !cfg!(target_os = "linux") {
        return;
    }
    let Some(env) = vault_env(&mut dice) else {
        return;
    };
    let archive = crate::support::sample::backup(&env, &[]);
    let commands = [
        &["vault", "backup"][..],
        &["vault", "import", archive.to_str().unwrap()],
        &["vault", "forget", "--keep-last", "1", "--yes"],
    ];
    // A delay within the time of a whole command, or every restic ends before it is killed.
    let whole = run_time(&env, &["vault", "backup"]);
    let mut killed = 0;
    for i in 0..variables::sequences(RESTIC_KILLS) {
        for args in commands {
            grow(&env, &mut dice, i % 8);
            // The first one is killed as soon as it runs.
            let delay = Duration::from_micros(if killed == 0 { 0 } else { dice.below(whole) });
            let code = restic_killed_after(&env, args, delay);
            assert!(matches!(code, Some(0 | 1)), "{code:?} {args:?}");
            killed += u64::from(code == Some(1));
            assert_no_leftovers(&env);
        }
        let _ = env.run(["vault", "backup"]).code(0);
    }
    assert!(killed > 0, "no restic was killed while it ran");
    assert_intact(&env, 1);
}

#[test]
fn list_removes_copies_of_logins_from_the_tree_of_a_killed_vault_backup() {
    let env = TestEnv::new();
    let tree = env.manager_home().join("vault/tree");
    let login = tree.join("account-sessions/1/auth.json");
    let kept = tree.join("sessions/2026/x.jsonl");
    for path in [&login, &kept, &tree.join("auth.json")] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    let _ = env.run(["list"]).code(0);
    assert!(kept.exists() && !login.exists());
    assert_no_leftovers(&env);
}

#[test]
fn i10_concurrent_backups_and_forgets_lose_no_snapshot() {
    let mut dice = Dice::new();
    let Some(mut env) = vault_env(&mut dice) else {
        return;
    };
    let homes = ["a", "b", "c", "d"];
    for name in homes {
        sample_home_at(&env.path(name));
        // Each process has its own manager home; all use the same vault.
        let manager = env.path(&format!("{name}-manager"));
        fs::create_dir(&manager).unwrap();
        let config = env.manager_home().join("config.toml");
        fs::copy(config, manager.join("config.toml")).unwrap();
    }
    let mut notes = BTreeMap::new();
    for _ in 0..variables::sequences(ROUNDS) {
        let mut running = Vec::new();
        for (i, name) in homes.into_iter().enumerate() {
            let text = dice.below(u64::MAX).to_string();
            fs::write(env.path(name).join("notes.txt"), &text).unwrap();
            notes.insert(name, text);
            env.set("CODEX_HOME", env.path(name));
            env.set("CODEX_MANAGER_HOME", env.path(&format!("{name}-manager")));
            let forget = [
                "vault",
                "forget",
                "--keep-last",
                "1",
                "--yes",
                "--timeout",
                "120",
            ];
            let backup = ["vault", "backup", "--timeout", "120"];
            let of_round = [Some(&backup[..]), (i % 2 == 0).then_some(&forget[..])];
            for args in of_round.into_iter().flatten() {
                let mut command = env.command(args);
                let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
                running.push(child.spawn().unwrap());
            }
        }
        for child in running {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{stderr}");
        }
    }
    env.unset("CODEX_HOME").unset("CODEX_MANAGER_HOME");
    let _ = env.run(["vault", "check", "--read-data"]).code(0);
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    let mut saved_notes = BTreeSet::new();
    for snapshot in json["snapshots"].as_array().unwrap() {
        let id = snapshot["id"].as_str().unwrap();
        let _ = env.run(["vault", "drill", id]).code(0);
        saved_notes.insert(env.run(["vault", "cat", id, "notes.txt"]).code(0).stdout);
    }
    for (home, text) in notes {
        assert!(saved_notes.contains(&text), "the last snapshot of {home}");
    }
}
