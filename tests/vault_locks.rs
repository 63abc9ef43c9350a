//! Locks of killed restic processes, and files that a killed backup leaves in the manager home.

use crate::support::env::TestEnv;
use crate::support::pauses::wait_until;
use crate::support::sample::{FIRST, put, rollout, set_time};
use crate::support::{create_pipe, write_program};
use crate::vault::{backup, snapshots};
use crate::vault_faults::{assert_error, assert_intact, replace_verb, vault_env};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

const FORGET: [&str; 5] = ["vault", "forget", "--keep-last", "1", "--yes"];

/// Returns the number of locks. restic writes them under another name first.
fn locks(env: &TestEnv) -> usize {
    let entries = fs::read_dir(env.path("vault/locks")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.len() == 64).count()
}

/// Returns a home with two snapshots, of which `forget` removes one.
fn env_of_two_snapshots() -> Option<TestEnv> {
    let mut env = vault_env()?;
    env.unset("CODEX_MANAGER_NOW");
    backup(&env);
    Some(env)
}

/// Starts restic itself, which holds its lock while it reads from a pipe.
fn start_plain_restic(env: &TestEnv) -> Child {
    let mut command = env.other_program("/usr/bin/restic");
    let child = command
        .args(["backup", "--stdin"])
        .env("RESTIC_REPOSITORY", env.path("vault"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("restic locks", || locks(env) > 0);
    child
}

/// Starts `vault backup` with a restic that never ends. Returns both processes when restic holds its lock.
fn start_endless_backup(env: &TestEnv) -> (Child, Pid) {
    let fifo = env.path("home/fifo");
    create_pipe(&fifo).unwrap();
    // restic reads from the FIFO and keeps the manager's file list open as descriptor 3. Because its input is
    // not the manager's pipe, restic does not end with the manager.
    let script = "echo $$ > \"$HOME/pid.new\"; mv \"$HOME/pid.new\" \"$HOME/pid\"\n\
         exec /usr/bin/restic backup --stdin >/dev/null 2>&1 3<&0 <> \"$HOME/fifo\"";
    replace_verb(env, "backup", script);
    let mut command = env.command(["vault", "backup"]);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = quiet.spawn().unwrap();
    wait_until("restic locks", || locks(env) > 0);
    let pid = fs::read_to_string(env.path("home/pid")).unwrap();
    fs::remove_file(env.path("bin/restic")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap());
    (child, pid.unwrap())
}

/// Kills the orphan `pid` and waits for its end.
fn kill_orphan(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
    wait_until("it is gone", || {
        let process = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
        let is_zombie = fs::read_to_string(process.join("stat")).is_ok_and(|s| s.contains(") Z "));
        // The files of a process stay open until its last thread has ended.
        let threads = fs::read_dir(process.join("task")).map_or(0, Iterator::count);
        test_kill_process(pid).is_err() || is_zombie && threads <= 1
    });
}

#[test]
fn the_lock_of_a_killed_restic_is_removed() {
    let Some(env) = env_of_two_snapshots() else {
        return;
    };
    let (mut manager, restic) = start_endless_backup(&env);
    kill_process(restic, Signal::KILL).unwrap();
    assert_eq!(manager.wait().unwrap().code(), Some(1));
    assert!(locks(&env) > 0, "the killed restic left no lock");
    // Removing snapshots needs an exclusive lock of the repository.
    let run = env.run(FORGET).code(0);
    assert!(run.stdout.contains("1 snapshot removed"), "{run}");
    assert_eq!(locks(&env), 0);
    assert_intact(&env, 1);
}

#[test]
fn the_lock_is_removed_if_the_manager_was_killed_before_its_restic() {
    let Some(env) = env_of_two_snapshots() else {
        return;
    };
    let (mut manager, restic) = start_endless_backup(&env);
    manager.kill().unwrap();
    manager.wait().unwrap();
    let waiting = [&FORGET[..], &["--timeout", "3"]].concat();
    let run = env.run(waiting).code(1);
    assert_error(&run, "another process has locked the vault");
    assert!(locks(&env) > 0, "restic still runs");
    kill_orphan(restic);
    let _ = env.run(FORGET).code(0);
    assert_eq!(locks(&env), 0);
    assert_intact(&env, 1);
}

#[test]
fn the_lock_of_a_restic_that_the_manager_did_not_start_is_kept() {
    let Some(env) = env_of_two_snapshots() else {
        return;
    };
    // A restic that this program did not start, and that is not visible, may run in a container.
    let mut foreign = start_plain_restic(&env);
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    let waiting = [&FORGET[..], &["--timeout", "3"]].concat();
    let run = env.run(waiting).code(1);
    assert_error(&run, "another process has locked the vault");
    assert!(run.stderr.contains("restic unlock"), "{run}");
    assert_eq!(locks(&env), 1);
    assert_eq!(snapshots(&env).len(), 2);
    // Backups use a shared lock.
    backup(&env);
    let unlocked = crate::vault::run_restic(&env, &["unlock"]).code(0);
    drop(unlocked);
    let _ = env.run(FORGET).code(0);
    assert_intact(&env, 1);
}

#[test]
fn the_lock_of_a_restic_that_the_manager_did_not_start_is_removed_after_30_minutes() {
    let Some(env) = env_of_two_snapshots() else {
        return;
    };
    for (minutes, code) in [(29, 1), (31, 0)] {
        let _ = fs::remove_file(env.path("home/unlocked"));
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in\n\
             forget) [ -e \"$HOME/unlocked\" ] || {{ echo 'repository is already locked' >&2; exit 11; }} ;;\n\
             list) echo 0123abcd; exit ;;\n\
             cat) printf '{{\"time\":\"%s\",\"hostname\":\"%s\",\"pid\":1}}' \
             \"$(date -u -d '-{minutes} minutes' +%FT%TZ)\" \"$(uname -n)\"; exit ;;\n\
             unlock) touch \"$HOME/unlocked\" ;;\nesac\nexec /usr/bin/restic \"$@\"\n"
        );
        write_program(&env.path("bin/restic"), &script);
        let _ = env
            .run([&FORGET[..], &["--timeout", "2"]].concat())
            .code(code);
        assert_eq!(env.path("home/unlocked").exists(), code == 0);
    }
    assert_intact(&env, 1);
}

#[test]
fn the_next_command_removes_what_a_killed_restore_downloaded() {
    let Some(env) = vault_env() else { return };
    let script =
        "case \"$*\" in *manifest.json) ;; *) touch \"$HOME/begun\"; exec sleep 600 ;; esac";
    replace_verb(&env, "dump", script);
    for args in [&["vault", "drill"][..], &["vault", "restore", "latest"]] {
        let _ = fs::remove_file(env.path("home/begun"));
        let mut command = env.command(args);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = quiet.spawn().unwrap();
        wait_until("it downloads", || env.path("home/begun").exists());
        let restic = crate::vault_s3::child_of(child.id());
        let staging = || {
            let left = env.tree("home/.codex-manager");
            let names = left.0.into_keys().map(|p| p.display().to_string());
            names.filter(|name| name.contains("staging-")).count()
        };
        let _ = env.run(["list"]).code(0);
        assert!(staging() > 0, "the folder of a running command was removed");
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = env.run(["list"]).code(0);
        assert_eq!(staging(), 0);
        kill_orphan(Pid::from_raw(restic.cast_signed()).unwrap());
    }
}

#[test]
fn the_next_command_removes_the_secrets_that_a_killed_backup_left() {
    let Some(env) = vault_env() else { return };
    put(&env, ".credentials.json", "{}");
    let path = env.codex_home().join(rollout(FIRST));
    set_time(&path, 1_790_000_000, 0);
    let (mut manager, restic) = start_endless_backup(&env);
    let copies = ["auth.json", ".credentials.json", "state_5.sqlite"];
    let left = || env.tree("home/.codex-manager/vault/tree");
    // Copies of a running backup stay.
    let _ = env.run(["list"]).code(0);
    assert_eq!(left().only(&copies).0.len(), copies.len());
    manager.kill().unwrap();
    manager.wait().unwrap();
    // restic may still read them.
    let _ = env.run(["list"]).code(0);
    assert_eq!(left().only(&copies).0.len(), copies.len());
    kill_orphan(restic);
    put(&env, "../.codex-manager/vault/import/auth.json", "{}");
    let _ = env.run(["list"]).code(0);
    let tree = left();
    assert!(tree.only(&copies).0.is_empty(), "{tree:?}");
    assert!(
        tree.0.contains_key(&rollout(FIRST)),
        "the hard links were removed: {tree:?}"
    );
    assert!(!env.manager_home().join("vault/import").exists());
}

#[test]
fn files_of_a_restic_that_outlives_a_killed_manager_are_kept() {
    let Some(env) = vault_env() else { return };
    // This restic reads late, and does not end by SIGPIPE.
    let script = "touch \"$HOME/begun\"\nwhile [ ! -e \"$HOME/go\" ]; do sleep 0.05; done\n\
         exec /usr/bin/restic \"$@\" > \"$HOME/made\" 2>&1";
    replace_verb(&env, "backup", script);
    let mut command = env.command(["vault", "backup"]);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    wait_until("restic starts", || env.path("home/begun").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(env.path("bin/restic")).unwrap();
    let _ = env.run(["list"]).code(0);
    // The next backup waits for it.
    let stderr = fs::File::create(env.path("stderr")).unwrap();
    let mut command = env.command(["vault", "backup"]);
    let next = command.stdout(Stdio::null()).stderr(stderr);
    let mut next = next.spawn().unwrap();
    wait_until("the next backup waits", || {
        let text = fs::read_to_string(env.path("stderr"));
        text.is_ok_and(|text| text.contains("waiting for"))
    });
    env.write("home/go", "");
    assert!(next.wait().unwrap().success());
    let made = snapshots(&env);
    assert_eq!(made.len(), 3, "{made:?}");
    for snapshot in made {
        let _ = env
            .run(["vault", "drill", snapshot["id"].as_str().unwrap()])
            .code(0);
    }
}
