//! Commands that root runs in the home of a user, as with `sudo` and in containers.

use crate::support::conversations::{Conversation, id, write};
use crate::support::env::TestEnv;
use crate::support::pair::{Pair, SKILL};
use crate::support::sample::{put, sample_home};
use crate::support::skips::skip;
use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::Path;

const USER: u32 = 12_345;
const GROUP: u32 = 12_346;

/// Returns false if this process cannot give files to a user.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("root", "only root may give files away");
    }
    is_root
}

fn all_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![folder.to_path_buf()];
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(all_below(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all
}

fn give_away(folder: &Path) {
    for path in all_below(folder) {
        lchown(&path, Some(USER), Some(GROUP)).unwrap();
    }
}

#[track_caller]
fn assert_given(folder: &Path) {
    for path in all_below(folder) {
        let meta = path.symlink_metadata().unwrap();
        assert_eq!(
            (meta.uid(), meta.gid()),
            (USER, GROUP),
            "{}",
            path.display()
        );
    }
}

#[test]
fn files_that_root_creates_keep_the_owner_of_the_home() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    fs::remove_file(env.codex_home().join("state_5.sqlite")).unwrap();
    write(&env, &Conversation::new(1, 60, "one", "two"));
    write(&env, &Conversation::new(2, 60, "one", "two"));
    give_away(&env.path("home"));
    let _ = env.run(["backup", "--no-status"]).code(0);
    let _ = env.run(["find", "one"]).code(0);
    let _ = env.run(["config", "set", "color", "never"]).code(0);
    let _ = env.run(["profile", "save", "work"]).code(0);
    let skill = put(&env, "skills/s0/SKILL.md", "changed");
    lchown(skill, Some(USER), Some(GROUP)).unwrap();
    give_away(&env.codex_home());
    fs::remove_dir_all(env.codex_home().join("sessions")).unwrap();
    let _ = env.run(["restore", "latest", "--yes"]).code(0);
    let _ = env.run(["storage", "trash", &id(2), "--yes"]).code(0);
    assert!(env.manager_home().join("index").is_dir());
    assert_given(&env.path("home"));
}

#[test]
fn files_that_a_sync_of_root_creates_keep_the_owner_of_both_folders() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    pair.put("a", SKILL, "one");
    for folder in [pair.home("a"), pair.home("b"), pair.cloud()] {
        give_away(&folder);
    }
    pair.apply("a");
    pair.apply("b");
    pair.put("b", SKILL, "two");
    pair.apply("b");
    pair.apply("a");
    assert_eq!(pair.text("a", SKILL), "two");
    for folder in [pair.home("a"), pair.home("b"), pair.cloud()] {
        assert_given(&folder);
    }
}

#[test]
fn a_link_of_another_user_in_the_manager_home_is_refused() {
    if !is_root() {
        return;
    }
    for name in ["index", "tmp", "backups", "profiles"] {
        let env = TestEnv::new();
        sample_home(&env);
        let target = env.path("elsewhere");
        fs::create_dir(&target).unwrap();
        fs::create_dir_all(env.manager_home()).unwrap();
        let link = env.manager_home().join(name);
        symlink(&target, &link).unwrap();
        lchown(&link, Some(USER), Some(GROUP)).unwrap();
        for args in [
            &["backup", "--no-status"][..],
            &["find", "one"],
            &["profile", "list"],
        ] {
            let run = env.run(args).code(5);
            assert!(run.stderr.contains("a link of another user"), "{run}");
            assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{args:?}");
        }
        // A link of the same user leads to another disk.
        lchown(&link, Some(0), Some(0)).unwrap();
        let _ = env.run(["backup", "--no-status"]).code(0);
        let _ = env.run(["find", "one"]);
        assert!(link.is_symlink());
    }
}
