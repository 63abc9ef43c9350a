//! Faults of a vault: each has a separate error, loses no snapshot and leaves no restic process.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::{Dice, Mount};
use crate::support::pauses::wait_until;
use crate::support::sample::{FIRST, line, put, rollout, sample_home};
use crate::support::{restic, write_program};
use crate::vault::set_up;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Maximum time for an event that normally takes a moment.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a sample home with a vault and one snapshot.
pub(crate) fn vault_env() -> Option<TestEnv> {
    restic::program()?;
    let mut env = TestEnv::new();
    sample_home(&env);
    set_up(&mut env);
    let _ = env.run(["vault", "backup"]).code(0);
    Some(env)
}

/// Puts a restic on PATH that runs `script` for `verb`, and the real restic otherwise. The script calls
/// the real one by `real`.
pub(crate) fn replace_verb(env: &TestEnv, verb: &str, script: &str) {
    let text = format!(
        "#!/bin/sh\nreal() {{ /usr/bin/restic \"$@\"; }}\n\
         if [ \"$1\" = {verb} ]; then\n{script}\nfi\nexec /usr/bin/restic \"$@\"\n"
    );
    write_program(&env.path("bin/restic"), &text);
}

#[track_caller]
pub(crate) fn assert_error(run: &Run, error: &str) {
    assert!(run.stderr.contains(&format!("error: {error}")), "{run}");
    assert!(run.stderr.contains("hint: "), "{run}");
    assert!(!run.stderr.contains("Usage:"), "{run}");
}

/// Asserts that the vault has this many snapshots, all intact.
#[track_caller]
pub(crate) fn assert_intact(env: &TestEnv, snapshots: usize) {
    let _ = fs::remove_file(env.path("bin/restic"));
    let run = env.run(["vault", "check", "--read-data"]).code(0);
    drop(run);
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    assert_eq!(json["snapshots"].as_array().unwrap().len(), snapshots);
    let _ = env.run(["vault", "drill"]).code(0);
}

#[test]
fn files_that_grow_while_restic_reads_are_captured_in_their_former_state() {
    let Some(env) = vault_env() else { return };
    let path = put(&env, rollout(FIRST), line(1).repeat(3));
    crate::support::sample::set_time(&path, 1_790_000_000, 0);
    // Half a line is written before restic reads, once.
    let script = format!(
        "if [ ! -e \"$HOME/grown\" ]; then touch \"$HOME/grown\"; printf '{{\"half' >> '{}'; fi",
        path.display()
    );
    replace_verb(&env, "backup", &script);
    let json = env.run(["vault", "backup", "--json"]).code(0).json();
    assert!(env.path("home/grown").exists());
    let id = json["snapshot"].as_str().unwrap().to_owned();
    let shown = rollout(FIRST).display().to_string();
    let text = env.run(["vault", "cat", &id, &shown]).code(0).stdout;
    assert_eq!(text, line(1).repeat(3));
    // The snapshot with half a line was removed.
    assert_intact(&env, 2);
    let kept = fs::read_to_string(&path).unwrap();
    assert!(kept.ends_with("{\"half"), "the rollout is unchanged");
}

#[test]
fn a_restic_that_makes_no_progress_is_ended() {
    let Some(env) = vault_env() else { return };
    let script = "trap 'touch \"$HOME/asked\"; exit 130' INT\n\
         echo $$ > \"$HOME/pid\"\nwhile :; do sleep 0.05; done";
    replace_verb(&env, "backup", script);
    let begun = Instant::now();
    let run = env.run(["vault", "backup", "--timeout", "1"]).code(1);
    assert_error(&run, "restic made no progress for 1 s and was ended");
    assert!(
        begun.elapsed() < EVENT_TIMEOUT,
        "the wait for restic is too long"
    );
    assert!(
        env.path("home/asked").exists(),
        "restic got no SIGINT first"
    );
    assert_intact(&env, 1);
}

#[test]
fn an_interrupt_ends_restic_too() {
    let Some(env) = vault_env() else { return };
    let script = "trap 'touch \"$HOME/asked\"; exit 130' INT\n\
         echo $$ > \"$HOME/pid.new\"; mv \"$HOME/pid.new\" \"$HOME/pid\"\n\
         while :; do sleep 0.05; done";
    replace_verb(&env, "backup", script);
    let mut command = env.command(["vault", "backup"]);
    let child = command.stderr(Stdio::piped()).stdout(Stdio::piped());
    let child = child.spawn().unwrap();
    wait_until("restic starts", || env.path("home/pid").exists());
    let pid = rustix::process::Pid::from_child(&child);
    // The signal goes to this process only, as with `kill`.
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(env.path("home/asked").exists());
    let restic: i32 = fs::read_to_string(env.path("home/pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let restic = rustix::process::Pid::from_raw(restic).unwrap();
    assert!(
        rustix::process::test_kill_process(restic).is_err(),
        "restic still runs"
    );
    assert_intact(&env, 1);
}

#[test]
fn a_restic_that_is_killed_loses_nothing() {
    let Some(env) = vault_env() else { return };
    for (verb, args) in [
        ("version", &["vault", "snapshots"][..]),
        ("backup", &["vault", "backup"]),
        ("snapshots", &["vault", "snapshots"]),
        ("dump", &["vault", "restore", "latest"]),
        ("check", &["vault", "check"]),
    ] {
        replace_verb(&env, verb, "kill -9 $$");
        let run = env.run(args).code(1);
        assert_error(&run, "restic was killed");
        assert!(run.stderr.contains("ended by a signal"), "{run}");
    }
    assert_intact(&env, 1);
}

#[test]
fn i3_a_full_storage_keeps_the_earlier_snapshots() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    sample_home(&env);
    let Some(_disk) = Mount::tmpfs(&env.path("small"), 2048) else {
        return;
    };
    restic::new_repository(&env.path("small/vault"));
    env.set("RESTIC_PASSWORD", restic::PASSWORD);
    let _ = env.run(["vault", "init", "small/vault"]).code(0);
    let _ = env.run(["vault", "backup"]).code(0);
    put_noise(&env, 8 << 20);
    let before = env.tree("home/.codex");
    let run = env.run(["vault", "backup"]).code(1);
    assert_error(&run, "no space left: [ROOT]/small/vault");
    assert_same_tree(&before, &env.tree("home/.codex"));
    fs::remove_file(env.codex_home().join("skills/mine/noise.bin")).unwrap();
    assert_intact(&env, 1);
}

#[test]
fn i3_a_vault_backup_with_a_full_manager_disk_makes_no_snapshot() {
    let Some(mut env) = vault_env() else { return };
    let Some(_disk) = Mount::tmpfs(&env.path("small"), 1024) else {
        return;
    };
    let manager = env.path("small/manager");
    fs::create_dir(&manager).unwrap();
    fs::copy(
        env.manager_home().join("config.toml"),
        manager.join("config.toml"),
    )
    .unwrap();
    // Copied, because hard links between disks are impossible.
    put_noise(&env, 4 << 20);
    let usual = env.manager_home();
    env.set("CODEX_MANAGER_HOME", &manager);
    let run = env.run(["vault", "backup"]).code(1);
    assert!(run.stderr.contains("No space left on device"), "{run}");
    let left = env.tree("small/manager/vault/tree");
    let files: Vec<_> = left
        .0
        .iter()
        .filter(|(_, text)| text.starts_with("file"))
        .collect();
    assert!(files.is_empty(), "{files:?}");
    env.set("CODEX_MANAGER_HOME", usual);
    assert_intact(&env, 1);
}

#[test]
fn i3_a_restore_drill_export_or_import_with_a_full_disk_changes_nothing() {
    let Some(mut env) = vault_env() else { return };
    put_noise(&env, 4 << 20);
    let _ = env.run(["vault", "backup"]).code(0);
    let Some(_disk) = Mount::tmpfs(&env.path("small"), 1024) else {
        return;
    };
    let manager = env.path("small/manager");
    fs::create_dir(&manager).unwrap();
    let config = env.manager_home().join("config.toml");
    fs::copy(config, manager.join("config.toml")).unwrap();
    let archive = crate::support::sample::backup(&env, &[]);
    let before = env.tree("home/.codex");
    let usual = env.manager_home();
    env.set("CODEX_MANAGER_HOME", &manager);
    for args in [
        &["vault", "restore", "latest"][..],
        &["vault", "drill"],
        &["vault", "export", "latest"],
        &["vault", "import", archive.to_str().unwrap()],
    ] {
        let run = env.run(args);
        assert_ne!(run.code, 0, "{run}");
        assert!(run.stderr.contains("No space left on device"), "{run}");
        assert_same_tree(&before, &env.tree("home/.codex"));
        let left = env.tree("small/manager");
        let big = left.0.values().filter(|text| text.len() > 100_000);
        assert_eq!(big.count(), 0, "{run}");
    }
    env.set("CODEX_MANAGER_HOME", usual);
    assert_intact(&env, 2);
}

/// Writes a file that does not compress.
fn put_noise(env: &TestEnv, bytes: usize) {
    let mut dice = Dice::seeded(7);
    let words = (0..bytes / 8).flat_map(|_| dice.below(u64::MAX).to_le_bytes());
    put(env, "skills/mine/noise.bin", words.collect::<Vec<_>>());
}

#[test]
fn no_snapshot_of_changed_files_remains_if_the_repeated_run_of_restic_fails() {
    let Some(env) = vault_env() else { return };
    let path = put(&env, rollout(FIRST), line(1).repeat(3));
    crate::support::sample::set_time(&path, 1_790_000_000, 0);
    let script = format!(
        "if [ -e \"$HOME/grown\" ]; then echo 'Fatal: connection refused' >&2; exit 1; fi\n\
         touch \"$HOME/grown\"; printf '{{\"half' >> '{}'",
        path.display()
    );
    replace_verb(&env, "backup", &script);
    let run = env.run(["vault", "backup"]).code(1);
    assert_error(&run, "the vault cannot be reached");
    assert_intact(&env, 1);
}

#[test]
fn missing_and_damaged_repositories_have_different_errors() {
    let Some(env) = vault_env() else { return };
    let vault = env.path("vault");
    // The repository is partly replicated: its index has not arrived.
    let away = env.path("away");
    fs::rename(vault.join("index"), &away).unwrap();
    let run = env
        .run(["vault", "restore", "latest", "--to", "new"])
        .code(1);
    assert_error(&run, "data of the vault is missing or damaged");
    assert!(run.stderr.contains("wait for it to finish"), "{run}");
    assert!(!env.path("new").exists());
    let check = env.run(["vault", "check", "--json"]).code(5).json();
    assert_eq!(check["ok"], false);
    fs::rename(&away, vault.join("index")).unwrap();
    assert_intact(&env, 1);
    fs::rename(&vault, &away).unwrap();
    for args in [
        &["vault", "backup"][..],
        &["vault", "snapshots"],
        &["vault", "check"],
    ] {
        let run = env.run(args).code(1);
        assert_error(&run, "no repository at this URL: [ROOT]/vault");
        let (first, _) = run.stderr.split_once("vault init URL").expect("a hint");
        assert!(first.contains("if its disk is not mounted"), "{run}");
    }
    fs::rename(&away, &vault).unwrap();
    assert_intact(&env, 1);
}

#[test]
fn an_unreachable_server_is_reported_without_credentials() {
    let Some(env) = vault_env() else { return };
    let url = "rest:http://me:hunter2@127.0.0.1:9/";
    let run = env.run(["vault", "snapshots", "--repo", url]).code(1);
    assert_error(
        &run,
        "the vault cannot be reached: rest:http://[redacted]@127.0.0.1:9/",
    );
    assert!(!run.stderr.contains("hunter2"), "{run}");
}
