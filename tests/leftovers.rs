//! Restores over homes that are hard to replace: files that cannot be removed, folders that cannot
//! be exchanged.

#![allow(
    clippy::print_stdout,
    reason = "what was skipped is shown when a test fails, or with --nocapture"
)]

use crate::support::aftermath::{home_tree, stray_files};
use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::{Mount, run_limited};
use crate::support::injection::{can_inject, traced};
use crate::support::sample::{
    FIRST, backup, comparable, put, put_at, rollout, sample_home, sample_home_at, text,
};
use crate::support::skips::skip;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file with the immutable flag. Dropping it clears the flag.
struct Immutable(PathBuf);

impl Immutable {
    /// Sets the flag. If the system does not support it, skips the test and returns `None`.
    fn new(path: &Path) -> Option<Self> {
        let made = Command::new("chattr").arg("+i").arg(path).output();
        let made = made.is_ok_and(|o| o.status.success());
        if !made {
            skip("chattr", "files cannot be made immutable on this system");
        }
        made.then(|| Self(path.parent().expect("a folder").to_path_buf()))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let parent = self.0.parent().expect("a folder");
        let parent = parent.parent().expect("the user's home");
        let _ = Command::new("chattr")
            .args(["-R", "-i"])
            .arg(parent)
            .output();
    }
}

#[test]
fn an_old_home_that_cannot_be_removed_blocks_no_command() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, "mine/fixed.txt", "fixed");
    let archive = text(&backup(&env, &[]));
    let before = home_tree(&env);
    let Some(_immutable) = Immutable::new(&env.codex_home().join("mine/fixed.txt")) else {
        return;
    };
    put(&env, "AGENTS.md", "changed");
    let run = env.run(["restore", &archive, "--json"]).code(0);
    let note = run.json()["notes"].to_string();
    assert!(note.contains("could not be removed"), "{run}");
    assert_same_tree(&before, &home_tree(&env));
    // The old home is renamed, so that no command waits for its removal, and `doctor` names it.
    let remains = env.path("home/..codex.codex-manager-restore.old-1");
    assert!(note.contains("restore.old-1"), "{note}");
    assert!(remains.join("new/mine/fixed.txt").exists());
    for args in [
        &["list-backups"][..],
        &["recommend"],
        &["backup", "--no-status"],
    ] {
        let run = env.run(args);
        assert!(!run.stderr.contains("interrupted"), "{run}");
    }
    let run = env.run(["doctor"]);
    assert!(run.stdout.contains("restore.old-1"), "{run}");
    // The next leftover gets another number.
    put(&env, "AGENTS.md", "changed");
    let _ = env.run(["restore", &archive]).code(0);
    assert_same_tree(&before, &home_tree(&env));
}

#[test]
fn read_only_folders_are_replaced_and_removed() {
    let env = TestEnv::new();
    sample_home(&env);
    let skill = put(&env, "skills/fixed/deeper/SKILL.md", "fixed");
    let folders = [skill.parent().unwrap(), skill.ancestors().nth(2).unwrap()];
    for folder in folders {
        fs::set_permissions(folder, Permissions::from_mode(0o555)).expect("set");
    }
    let _ = env.run_unprivileged(&["backup", "--no-status"]).code(0);
    let before = home_tree(&env);
    put(&env, "AGENTS.md", "changed");
    for _ in 0..2 {
        let _ = env.run_unprivileged(&["restore", "latest"]).code(0);
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
    }
    let agents = Path::new("AGENTS.md");
    assert_eq!(home_tree(&env).0[agents], before.0[agents]);
}

#[test]
fn a_file_that_can_be_neither_read_nor_linked_stays_and_the_others_are_restored() {
    if !rustix::process::geteuid().is_root() {
        skip("root", "the owner of files cannot be changed");
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let theirs = put(&env, "skills/theirs/SKILL.md", "theirs");
    let whole = text(&backup(&env, &[]));
    std::os::unix::fs::chown(&theirs, Some(12_345), Some(12_345)).expect("chown");
    fs::set_permissions(&theirs, Permissions::from_mode(0o600)).expect("set");
    let powerless = |args: &[&str]| {
        let none = ["--bounding-set", "-all", "--inh-caps", "-all"];
        let program = env!("CARGO_BIN_EXE_codex-manager");
        env.run_unprivileged_program("setpriv", &[&none[..], &[program], args].concat())
    };
    let run = powerless(&["backup", "--no-status", "--json"]).code(6);
    assert!(run.stderr.contains("skills/theirs/SKILL.md"), "{run}");
    let without = run.json()["archive"].as_str().expect("a name").to_owned();
    let before = home_tree(&env);
    for args in [
        &["restore", &without][..],
        &["restore", &without, "--merge"],
    ] {
        put(&env, "AGENTS.md", "changed");
        fs::remove_file(env.codex_home().join(rollout(FIRST))).expect("remove");
        put(&env, "rules/added.rules", "added");
        let _ = powerless(args).code(0);
        let _ = fs::remove_file(env.codex_home().join("rules/added.rules"));
        let _ = fs::remove_dir(env.codex_home().join("rules"));
        assert_same_tree(&before, &home_tree(&env));
        assert_eq!(theirs.metadata().expect("stat").uid(), 12_345);
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
    }
    // The safety backup cannot read the file that would be replaced.
    let run = powerless(&["restore", &whole]).code(5);
    assert!(run.stderr.contains("skills/theirs/SKILL.md"), "{run}");
    assert_same_tree(&before, &home_tree(&env));
}

/// Runs the command with a limit on open files.
fn run_with_files(env: &TestEnv, files: usize, args: &[&str]) -> Run {
    Run::of_output(run_limited(env, &format!("ulimit -n {files}"), args))
}

#[test]
fn folders_deeper_than_the_descriptor_limit_are_restored_and_removed() {
    const FILES: usize = 128;
    let env = TestEnv::new();
    sample_home(&env);
    let deep = format!("skills/{}SKILL.md", "d/".repeat(3 * FILES));
    put(&env, &deep, "deep");
    let _ = run_with_files(&env, FILES, &["backup", "--no-status"]).code(0);
    let before = home_tree(&env);
    put(&env, "AGENTS.md", "changed");
    let _ = run_with_files(&env, FILES, &["restore", "latest"]).code(0);
    assert_same_tree(&before, &home_tree(&env));
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
}

#[test]
fn a_low_descriptor_limit_is_reported_and_leaves_no_files() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let there = env.path("there");
    let to = text(&there);
    let commands = [
        &["backup", "--no-status"][..],
        &["verify", &archive],
        &["restore", &archive, "--to", &to],
        &["restore", &archive],
    ];
    for args in commands {
        let (mut failed, mut done) = (0, 0);
        for files in 4..=40 {
            put(&env, "AGENTS.md", files.to_string());
            let before = home_tree(&env);
            let run = run_with_files(&env, files, args);
            // The loader may fail if other threads of this process use most descriptors.
            if run.stderr.contains("error while loading shared libraries") {
                continue;
            }
            let context = format!("{files} files, {args:?}\n{run}");
            assert!(!run.stderr.contains("panicked"), "{context}");
            assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{context}");
            if run.code == 0 {
                done += 1;
            } else {
                assert!((1..=6).contains(&run.code), "{context}");
                // `verify` names the reason in its table, without an error line.
                let named =
                    run.stderr.contains("error: ") || run.stdout.contains("Too many open files");
                // With a lower limit the program cannot be loaded.
                assert!(named || run.code == 6 || files < 6, "{context}");
                assert_same_tree(&before, &home_tree(&env));
                assert!(!there.exists(), "{context}");
                failed += 1;
            }
            if there.exists() {
                fs::remove_dir_all(&there).expect("remove");
            }
        }
        assert!(failed > 0 && done > 0, "{args:?}: {failed} {done}");
    }
}

#[test]
fn restore_leftovers_in_mounted_sessions_are_not_archived() {
    let env = TestEnv::new();
    let sessions = env.codex_home().join("sessions");
    fs::create_dir_all(env.path("volume")).expect("folder");
    let Some(_mount) = Mount::bind(&env.path("volume"), &sessions) else {
        return;
    };
    sample_home(&env);
    put(&env, "sessions/fixed/file.txt", "fixed");
    let archive = text(&backup(&env, &[]));
    let before = home_tree(&env);
    let Some(immutable) = Immutable::new(&sessions.join("fixed/file.txt")) else {
        return;
    };
    let remains = sessions.join(".codex-manager-restore.old-1");
    let with_second = |args: &[&str]| {
        put(&env, rollout(FIRST), "changed\n");
        env.run([&["restore", &archive], args].concat()).code(0)
    };
    let run = with_second(&["--json"]);
    assert!(
        run.json()["notes"].to_string().contains("restore.old-1"),
        "{run}"
    );
    assert!(remains.exists());
    // A backup or another restore does not treat the leftover as a conversation.
    let second = text(&backup(&env, &[]));
    let list = Command::new("tar").args(["-tzf", &second]).output();
    let list = String::from_utf8(list.expect("tar").stdout).expect("text");
    assert!(list.contains("sessions/fixed/file.txt"), "{list}");
    assert!(!list.contains("restore.old"), "{list}");
    drop(immutable);
    fs::remove_dir_all(&remains).expect("remove");
    let _ = with_second(&[]);
    assert_same_tree(&before, &home_tree(&env));
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
}

#[test]
fn two_links_of_a_home_to_one_folder_are_restored() {
    let env = TestEnv::new();
    let codex = sample_home(&env);
    let place = env.path("disk/shared");
    fs::create_dir_all(&place).expect("folder");
    for name in ["skills", "prompts"] {
        let _ = fs::remove_dir_all(codex.join(name));
        std::os::unix::fs::symlink(&place, codex.join(name)).expect("link");
    }
    put(&env, "skills/one/SKILL.md", "one");
    let archive = text(&backup(&env, &[]));
    let (before, there) = (home_tree(&env), env.tree("disk"));
    put(&env, "skills/one/SKILL.md", "changed");
    let _ = env.run(["restore", &archive]).code(0);
    assert_same_tree(&before, &home_tree(&env));
    assert_same_tree(&there, &env.tree("disk"));
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
}

#[test]
fn linked_conversations_are_restored_if_their_parent_is_read_only() {
    let env = TestEnv::on_disk();
    let sessions = sample_home(&env).join("sessions");
    let place = env.path("disk/conversations");
    fs::create_dir(env.path("disk")).expect("folder");
    fs::rename(&sessions, &place).expect("move");
    std::os::unix::fs::symlink(&place, &sessions).expect("link");
    let archive = text(&backup(&env, &[]));
    let (before, there) = (home_tree(&env), env.tree("disk"));
    put(&env, rollout(FIRST), "changed\n");
    put(&env, "sessions/2026/11/added.txt", "added");
    let read_only = Permissions::from_mode(0o555);
    fs::set_permissions(env.path("disk"), read_only).expect("set");
    let run = env.run_unprivileged(&["restore", &archive]);
    let ours = Permissions::from_mode(0o755);
    fs::set_permissions(env.path("disk"), ours).expect("set");
    let _ = run.code(0);
    assert_same_tree(&before, &home_tree(&env));
    assert_same_tree(&there, &env.tree("disk"));
    assert_eq!(fs::read_link(&sessions).expect("a link"), place);
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
}

/// Mounts an overlay at `merged` over `lower`.
fn mount_overlay(env: &TestEnv) -> Option<Mount> {
    Mount::overlay(&env.path(""), &env.path("merged"))
}

/// Returns the number of exchange calls that the command makes in `merged`.
fn count_exchanges(env: &TestEnv, args: &[&str]) -> usize {
    let options = ["-e", "trace=renameat2"].map(str::to_owned);
    let (output, log) = traced(env, &options, args);
    assert!(output.status.success(), "{output:?}");
    let require_in_home = |line: &&str| {
        // strace splits the line of a call if another thread does something meanwhile.
        let is_done = line.ends_with("= 0") || line.ends_with("<unfinished ...>");
        line.contains("RENAME_EXCHANGE") && is_done && !line.contains("try-")
    };
    log.lines().filter(require_in_home).count()
}

#[test]
fn a_home_in_the_upper_overlay_layer_is_exchanged_as_a_whole() {
    if !can_inject() {
        return;
    }
    let mut env = TestEnv::on_disk();
    let Some(_mount) = mount_overlay(&env) else {
        return;
    };
    let home = env.path("merged/.codex");
    env.set("CODEX_HOME", &home);
    sample_home_at(&home);
    let archive = text(&backup(&env, &[]));
    let before = env.tree("merged");
    fs::write(home.join("AGENTS.md"), "changed").expect("write");
    fs::write(home.join("history.jsonl"), "changed\n").expect("write");
    fs::set_permissions(home.join("rules"), Permissions::from_mode(0o700)).expect("set");
    fs::create_dir_all(home.join("prompts/added")).expect("folder");
    fs::write(home.join("prompts/added/one.md"), "added").expect("write");
    let folder = home.metadata().expect("stat").ino();
    let exchanges = count_exchanges(&env, &["restore", &archive]);
    // Rarely, strace shows no call of a thread that has just started.
    assert!(exchanges <= 1, "{exchanges}");
    assert_ne!(home.metadata().expect("stat").ino(), folder);
    let after = env.tree("merged");
    assert_same_tree(&comparable(&before), &comparable(&after));
}

#[test]
fn a_home_in_both_overlay_layers_is_restored() {
    let mut env = TestEnv::on_disk();
    sample_home_at(&env.path("lower/.codex"));
    fs::create_dir_all(env.path("lower/.codex/skills/theirs")).expect("folder");
    let Some(_mount) = mount_overlay(&env) else {
        return;
    };
    let home = env.path("merged/.codex");
    env.set("CODEX_HOME", &home);
    for number in 0..30 {
        let name = format!("sessions/2026/11/{number}.txt");
        put_at(&home, name, "printed");
        put_at(&home, format!("skills/mine/more/{number}.md"), "more");
    }
    put_at(&home, "memories/one.md", "kept");
    let archive = text(&backup(&env, &[]));
    let before = env.tree("merged");
    for number in 0..30 {
        let name = format!("sessions/2026/11/{number}.txt");
        put_at(&home, name, "changed");
        fs::remove_file(home.join(format!("skills/mine/more/{number}.md"))).expect("remove");
    }
    put_at(&home, "sessions/2027/added.txt", "added");
    put_at(&home, "prompts/added/one.md", "added");
    put_at(&home, "mine/kept.md", "the user's");
    let _ = env.run(["restore", &archive]).code(0);
    let mut after = env.tree("merged");
    let kept = after.only(&[".codex/mine"]);
    assert_eq!(kept.0.len(), 2, "{kept:?}");
    after.0.retain(|path, _| !path.starts_with(".codex/mine"));
    // Files are exchanged one by one, so their folders stay.
    for empty in ["sessions/2027", "prompts/added", "prompts"] {
        after.0.remove(&Path::new(".codex").join(empty));
    }
    assert_same_tree(&comparable(&before), &comparable(&after));
}

#[test]
fn a_home_in_the_lower_overlay_layer_is_restored() {
    let mut env = TestEnv::on_disk();
    sample_home_at(&env.path("lower/.codex"));
    let Some(_mount) = mount_overlay(&env) else {
        return;
    };
    let home = env.path("merged/.codex");
    env.set("CODEX_HOME", &home);
    let archive = text(&backup(&env, &[]));
    let before = env.tree("merged/.codex");
    fs::write(home.join("AGENTS.md"), "changed").expect("write");
    let _ = env.run(["restore", &archive]).code(0);
    let after = env.tree("merged/.codex");
    assert_same_tree(&comparable(&before), &comparable(&after));
}
