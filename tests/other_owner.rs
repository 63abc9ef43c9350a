//! Commands that root runs in the home of a user, as with `sudo` and in containers.

use crate::support::conversations::{Conversation, id, write};
use crate::support::env::TestEnv;
use crate::support::injection::{can_inject, traced};
use crate::support::pair::{Pair, SKILL};
use crate::support::sample::{FIRST, backup, put, rollout, sample_home, text};
use crate::support::skips::skip;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
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
fn each_form_of_a_restore_leaves_the_home_to_its_owner_although_the_folder_above_is_of_root() {
    if !is_root() {
        return;
    }
    for args in [
        &[][..],
        &["--merge"],
        &["--session", FIRST],
        &["--only", "skills"],
        &["--only", "state_5.sqlite"],
    ] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        let archive = text(&backup(&env, &[]));
        put(&env, "skills/mine/SKILL.md", "changed");
        fs::remove_dir_all(home.join("sessions/2026")).unwrap();
        give_away(&home);
        let other = home.join("skills/mine/yarn.lock");
        fs::write(&other, "changed").unwrap();
        lchown(&other, Some(USER + 1), None).unwrap();
        let _ = env
            .run([&["restore", &archive, "--yes"][..], args].concat())
            .code(0);
        // A replaced file keeps an owner of its own.
        assert_eq!(other.metadata().unwrap().uid(), USER + 1, "{args:?}");
        lchown(&other, Some(USER), None).unwrap();
        assert_given(&home);
    }
}

#[test]
fn the_user_recovers_a_restore_of_root_that_was_killed() {
    if !is_root() || !can_inject() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env).canonicalize().unwrap();
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    for folder in [&home, &env.manager_home()] {
        give_away(folder);
    }
    // The folder above the home stays root's.
    fs::set_permissions(env.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let kill = "inject=renameat2:signal=KILL";
    let options = ["-P", &text(&home), "-e", "trace=renameat2", "-e", kill];
    let args = ["restore", &archive, "--yes"];
    let (output, log) = traced(&env, &options.map(str::to_owned), &args);
    assert!(!output.status.success(), "{log}");
    assert_given(&env.path("home/..codex.codex-manager-restore"));

    let [user, group] = [USER, GROUP].map(|id| id.to_string());
    let program = env!("CARGO_BIN_EXE_codex-manager");
    let mut as_user = env.other_program("setpriv");
    as_user.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
    let run = as_user.args([program, "list-backups"]).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let agents = fs::read_to_string(home.join("AGENTS.md")).unwrap();
    assert!(["changed", "be brief\n"].contains(&&*agents), "{agents}");
    let _ = env.run(args).code(0);
    assert_given(&home);
}

#[test]
fn root_follows_no_journal_of_another_user_and_none_to_files_of_others() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env).canonicalize().unwrap();
    let _ = env.run(["backup", "--no-status"]).code(0);
    let roots = env.write("roots/file", "root's");
    give_away(&env.path("home"));
    give_away(&env.path("roots"));
    let staging = env.path("home/..codex.codex-manager-restore");
    let journal = |folder: &Path, folders: &[&Path], live: &Path| {
        let step = json!({
            "live": live, "staged": folder.join("1"), "live_id": null, "staged_id": null,
        });
        let journal = json!({
            "schema": 1, "state": "committing", "home": home, "begun": [0], "folders": folders,
            "steps": [step],
        });
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
        fs::write(folder.join("journal.json"), journal.to_string()).unwrap();
        give_away(folder);
    };
    let refused = |reason: &str| {
        let run = env.run(["backup", "--no-status"]);
        assert!(run.code != 0 && run.stderr.contains(reason), "{run}");
        let run = env.run(["list-backups"]).code(0);
        assert!(run.stderr.contains(reason), "{run}");
    };

    let own_file = home.join("AGENTS.md");
    journal(&staging, &[&staging], &own_file);
    lchown(&staging, Some(USER + 1), None).unwrap();
    refused("of the owner of the home");
    assert!(staging.join("journal.json").exists());
    lchown(&staging, Some(USER), None).unwrap();
    let _ = env.run(["list-backups"]).code(0);
    assert!(!staging.exists());

    journal(&staging, &[&staging], &roots);
    refused("outside of the changed folders");
    fs::remove_dir_all(&staging).unwrap();

    // The user may create a folder of this name in a folder that belongs to another one.
    let beside_roots = env.path("roots/.codex-manager-restore");
    fs::create_dir(&beside_roots).unwrap();
    give_away(&env.path("roots"));
    lchown(env.path("roots"), Some(0), None).unwrap();
    let in_manager_home = env.manager_home().join("tmp/.vacuum.codex-manager-journal");
    for folder in [&staging, &in_manager_home] {
        journal(folder, &[folder, &beside_roots], &roots);
        refused("of the owner of the home");
        assert!(beside_roots.exists());
        fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(fs::read_to_string(roots).unwrap(), "root's");
}

#[test]
fn a_restore_into_a_folder_of_a_user_and_behind_a_link_is_the_users() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let disk = env.path("disk/sessions");
    fs::create_dir(env.path("disk")).unwrap();
    fs::rename(home.join("sessions"), &disk).unwrap();
    symlink(&disk, home.join("sessions")).unwrap();
    fs::write(
        disk.join(rollout(FIRST).strip_prefix("sessions").unwrap()),
        "",
    )
    .unwrap();
    give_away(&home);
    give_away(&disk);
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    assert!(home.join("sessions").is_symlink());
    assert_given(&home);
    assert_given(&disk);

    fs::create_dir(env.path("theirs")).unwrap();
    give_away(&env.path("theirs"));
    let copy = text(&env.path("theirs/copy"));
    let _ = env.run(["restore", &archive, "--to", &copy]).code(0);
    assert_given(&env.path("theirs"));
}

#[test]
fn an_owner_that_a_restore_cannot_keep_is_named_once() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let skill = put(&env, "skills/mine/SKILL.md", "changed");
    lchown(&skill, Some(USER), Some(GROUP)).unwrap();
    let none = ["--bounding-set", "-all", "--inh-caps", "-all"];
    let program = env!("CARGO_BIN_EXE_codex-manager");
    let args = [program, "restore", &archive, "--yes"];
    let run = env
        .run_unprivileged_program("setpriv", &[&none[..], &args].concat())
        .code(0);
    let said = run.stderr.matches("could not be kept").count()
        + run.stdout.matches("could not be kept").count();
    assert_eq!(said, 1, "{run}");
    assert_eq!(
        fs::read_to_string(home.join("skills/mine/SKILL.md")).unwrap(),
        "# mine\n"
    );
}

/// Replaces `name` in the home by a link of the user to an entry of root with this content.
fn link_to_roots(env: &TestEnv, name: &str) -> std::path::PathBuf {
    let (link, target) = (env.codex_home().join(name), env.path("roots"));
    fs::create_dir_all(&target).unwrap();
    fs::rename(&link, target.join(name)).unwrap();
    symlink(target.join(name), &link).unwrap();
    lchown(&link, Some(USER), Some(GROUP)).unwrap();
    target.join(name)
}

#[test]
fn root_archives_nothing_behind_a_link_of_a_user_to_files_of_root() {
    if !is_root() {
        return;
    }
    for (name, inner) in [
        ("sessions", "sessions/2026"),
        ("state_5.sqlite", "state_5.sqlite"),
        ("config.toml", "config.toml"),
        ("notes.txt", "notes.txt"),
    ] {
        let env = TestEnv::new();
        sample_home(&env);
        let target = link_to_roots(&env, name);
        let run = env.run(["backup", "--no-status", "--json"]).code(6);
        assert!(run.stderr.contains("root does not follow"), "{name}: {run}");
        let archive = run.json()["archive"].as_str().unwrap().to_owned();
        let copy = env.path("copy");
        let _ = env.run(["restore", &archive, "--to", &text(&copy)]);
        assert!(!copy.join(inner).exists(), "{name}");
        if name == "sessions" {
            let run = env.run(["export", FIRST, "--out", "exported.md"]);
            assert!(run.code != 0 && !env.path("exported.md").exists(), "{run}");
        }

        // A link of the same user to files of the user leads to another disk.
        give_away(&env.path("roots"));
        let _ = env.run(["backup", "--no-status"]).code(0);
        // Through a second link of the user, it may lead anywhere again.
        fs::remove_file(env.codex_home().join(name)).unwrap();
        let second = env.path("second");
        symlink(&target, &second).unwrap();
        symlink(&second, env.codex_home().join(name)).unwrap();
        for link in [&second, &env.codex_home().join(name)] {
            lchown(link, Some(USER), Some(GROUP)).unwrap();
        }
        lchown(&target, Some(0), Some(0)).unwrap();
        let _ = env.run(["backup", "--no-status"]).code(6);
    }
}

#[test]
fn root_restores_syncs_and_rebuilds_nothing_behind_a_link_of_a_user_to_files_of_root() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let target = link_to_roots(&env, "skills");
    let before = all_below(&target);
    let run = env.run(["restore", &archive, "--yes"]).code(5);
    assert!(run.stderr.contains("skills"), "{run}");
    let run = env
        .run(["restore", &archive, "--only", "skills", "--yes"])
        .code(5);
    assert!(run.stderr.contains("remove the link"), "{run}");
    // Another part does not need the link.
    put(&env, "AGENTS.md", "changed");
    let _ = env
        .run(["restore", &archive, "--only", "AGENTS.md"])
        .code(0);
    assert_eq!(all_below(&target), before);

    let history = link_to_roots(&env, "history.jsonl");
    let (text_before, link) = (
        fs::read(&history).unwrap(),
        env.codex_home().join("history.jsonl"),
    );
    let _ = env.run(["history", "rebuild", "--yes"]);
    assert_eq!(fs::read(&history).unwrap(), text_before);
    assert!(link.is_symlink());

    let pair = Pair::synced(&[(SKILL, "one")]);
    let (skills, elsewhere) = (pair.home("b").join("skills"), pair.0.path("roots"));
    fs::rename(&skills, &elsewhere).unwrap();
    symlink(&elsewhere, &skills).unwrap();
    lchown(&skills, Some(USER), None).unwrap();
    pair.put("a", SKILL, "two, longer");
    pair.apply("a");
    let _ = pair.run("b", &["run", "--apply", "--json"]);
    assert_eq!(
        fs::read_to_string(elsewhere.join("mine/SKILL.md")).unwrap(),
        "one"
    );
}

#[test]
fn root_refuses_a_codex_home_that_is_a_link_of_a_user_to_a_folder_of_root() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::rename(&home, env.path("roots")).unwrap();
    symlink(env.path("roots"), &home).unwrap();
    lchown(&home, Some(USER), None).unwrap();
    for args in [&["backup", "--no-status"][..], &["sessions"]] {
        let run = env.run(args).code(5);
        assert!(run.stderr.contains("root does not follow"), "{run}");
    }
    lchown(&home, Some(0), None).unwrap();
    let _ = env.run(["backup", "--no-status"]).code(0);

    // A link of the same user is followed.
    give_away(&env.path("roots"));
    lchown(&home, Some(USER), None).unwrap();
    put(&env, "AGENTS.md", "changed");
    let _ = env.run(["restore", "latest", "--yes"]).code(0);
    assert!(home.is_symlink());
    assert_given(&env.path("roots"));
    assert_eq!(
        fs::read_to_string(home.join("AGENTS.md")).unwrap(),
        "be brief\n"
    );
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
