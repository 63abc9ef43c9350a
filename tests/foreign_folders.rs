//! Folders of a Codex home that cannot be read or written: of another user, as a container makes them, read-only ones,
//! and homes on read-only disks.

use crate::history_check::{Home, id as number_id, relative};
use crate::support::conversations::{Conversation, id, write};
use crate::support::env::TestEnv;
use crate::support::faults::Mount;
use crate::support::injection::{can_inject, traced};
use crate::support::pair::{META, Pair, ROLLOUT, RUN_OF_B, SKILL};
use crate::support::sample::{FIRST, backup, put, rollout, sample_home, text};
use crate::support::skips::skip;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

const OTHER: u32 = 12_345;

/// Returns a text without the breaks of its lines.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// Creates a folder with a file, and gives it to another user with this mode. `None` without root.
fn foreign_folder(env: &TestEnv, name: &str, mode: u32) -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        skip("root", "only root may give files away");
        return None;
    }
    let file = put(env, format!("{name}/theirs.md"), "theirs");
    let folder = file.parent().expect("a folder").to_path_buf();
    chown(&folder, Some(OTHER), Some(OTHER)).expect("chown");
    set_mode(&folder, mode);
    Some(folder)
}

#[test]
fn each_form_of_a_restore_leaves_a_folder_that_cannot_be_read_as_it_is() {
    for (name, mode) in [
        ("skills/theirs", 0o700),
        ("skills/theirs", 0o744),
        ("sessions/2026/12", 0o700),
        ("data", 0o700),
    ] {
        let env = TestEnv::new();
        sample_home(&env);
        let Some(folder) = foreign_folder(&env, name, mode) else {
            return;
        };
        let run = env.run_unprivileged(&["backup", "--no-status"]).code(6);
        assert!(run.stderr.contains(name), "{run}");
        for args in [
            &[][..],
            &["--merge"],
            &["--session", FIRST],
            &["--only", "AGENTS.md"],
        ] {
            put(&env, "AGENTS.md", "changed");
            let conversation = env.codex_home().join(rollout(FIRST));
            let before = fs::read(&conversation).expect("read");
            fs::remove_file(&conversation).expect("remove");
            let all = [&["restore", "latest", "--yes"][..], args].concat();
            let run = env.run_unprivileged(&all).code(0);
            let is_whole = args.is_empty() || args == ["--merge"];
            assert_eq!(run.stderr.contains("had skipped a part"), is_whole, "{run}");
            // One sentence about one folder.
            assert!(!run.stderr.contains("cannot be read, so"), "{run}");
            let meta = folder.metadata().expect("stat");
            assert_eq!((meta.uid(), meta.mode() & 0o777), (OTHER, mode), "{run}");
            let theirs = fs::read_to_string(folder.join("theirs.md")).expect("read");
            assert_eq!(theirs, "theirs");
            if args != ["--only", "AGENTS.md"] {
                assert_eq!(fs::read(&conversation).expect("read"), before, "{run}");
            }
            if args != ["--session", FIRST] {
                assert_eq!(
                    fs::read_to_string(env.codex_home().join("AGENTS.md")).expect("read"),
                    "be brief\n"
                );
            }
            fs::write(&conversation, before).expect("write");
        }
    }
}

#[test]
fn a_restore_of_files_in_a_folder_that_cannot_be_read_names_the_command_that_mends_it() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, "skills/theirs/theirs.md", "mine");
    let archive = text(&backup(&env, &[]));
    let Some(folder) = foreign_folder(&env, "skills/theirs", 0o700) else {
        return;
    };
    for args in [&[][..], &["--merge"], &["--only", "skills"]] {
        let all = [&["restore", &archive, "--yes"][..], args].concat();
        let run = env.run_unprivileged(&all).code(5);
        assert!(run.stderr.contains("sudo chown -R"), "{run}");
        assert!(run.stderr.contains("skills/theirs"), "{run}");
    }
    put(&env, "AGENTS.md", "changed");
    let only = ["restore", &archive, "--only", "AGENTS.md"];
    let _ = env.run_unprivileged(&only).code(0);
    let run = env.run_unprivileged(&["doctor"]);
    let found = "cannot be listed: [ROOT]/home/.codex/skills/theirs";
    assert!(unwrapped(&run.stdout).contains(found), "{run}");
    assert_eq!(folder.metadata().expect("stat").uid(), OTHER);
}

#[test]
fn history_check_compares_the_conversations_of_all_other_folders() {
    let home = Home::new();
    let in_day = |day: &str, n| {
        let relative = relative(n).replace("01/02/", &format!("01/{day}/"));
        home.path(&relative)
    };
    for (n, day) in [(2, "03"), (3, "04")] {
        let moved = in_day(day, n);
        fs::create_dir_all(moved.parent().expect("a folder")).expect("folder");
        fs::rename(in_day("02", n), moved).expect("move");
    }
    home.sql(&format!(
        "UPDATE threads SET rollout_path=replace(rollout_path, '01/02', '01/04') WHERE id='{}'",
        number_id(3)
    ));
    let check = || {
        let run = home
            .env
            .run_unprivileged(&["history", "check", "--json"])
            .code(5);
        run.json()
    };
    let before = check();
    assert_eq!(before["on_disk"], 3, "{before}");
    assert_eq!(before["stale_path"][0]["id"], number_id(2), "{before}");
    // With and without the permission to examine its entries.
    for mode in [0o000, 0o311] {
        set_mode(&home.path("sessions/2026/01/04"), mode);
        let found = check();
        set_mode(&home.path("sessions/2026/01/04"), 0o755);
        assert_eq!(found["on_disk"], 2, "{found}");
        for kind in ["stale_path", "orphan_rows", "missing"] {
            assert_eq!(found[kind], before[kind], "{found}");
        }
        let damaged = found["damaged"].to_string();
        assert!(
            damaged.contains("2026/01/04") && damaged.contains("cannot list"),
            "{found}"
        );
    }
}

#[test]
fn a_sync_leaves_a_folder_that_cannot_be_read_alone_and_syncs_the_rest() {
    let pair = Pair::synced(&[(SKILL, "one"), (ROLLOUT, META)]);
    for folder in ["skills/mine", "sessions/2026/11/18"] {
        let path = pair.home("b").join(folder);
        let (file, other) = (path.join("new.md"), format!("rules/{}.rules", folder.len()));
        pair.put("a", &format!("{folder}/new.md"), "new");
        pair.put("a", &other, "new");
        pair.apply("a");
        set_mode(&path, 0o000);
        let run = pair.0.run_unprivileged(&RUN_OF_B);
        set_mode(&path, 0o755);
        let text = unwrapped(&format!("{run}"));
        assert!(text.contains("may not list"), "{run}");
        assert_eq!(pair.text("b", &other), "new", "{run}");
        assert!(!file.exists(), "{run}");
        // Nothing counts as deleted on this machine.
        pair.apply("a");
        assert_eq!(pair.text("a", SKILL), "one");
        assert_eq!(pair.text("a", ROLLOUT), META);
        assert_eq!(pair.text("b", ROLLOUT), META);
        pair.apply("b");
    }
}

#[test]
fn a_conversation_in_a_folder_that_cannot_be_read_does_not_count_as_deleted() {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    // Another machine archives it.
    let archived = ROLLOUT.replace("sessions/2026/11/18", "archived_sessions");
    fs::create_dir_all(pair.home("a").join("archived_sessions")).expect("folder");
    fs::rename(pair.home("a").join(ROLLOUT), pair.home("a").join(&archived)).expect("move");
    pair.apply("a");
    let day = pair.home("b").join("sessions/2026/11/18");
    set_mode(&day, 0o000);
    let _ = pair.0.run_unprivileged(&RUN_OF_B);
    set_mode(&day, 0o755);
    pair.apply("a");
    assert_eq!(pair.text("a", &archived), META);
    assert_eq!(pair.text("b", ROLLOUT), META);
}

#[test]
fn a_folder_that_fails_for_another_reason_stops_a_restore() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env).canonicalize().expect("home");
    let archive = text(&backup(&env, &[]));
    put(&env, "skills/other/SKILL.md", "changed");
    let folder = text(&home.join("skills/other"));
    let options = [
        "-P",
        &folder,
        "-e",
        "trace=openat",
        "-e",
        "inject=openat:error=EIO",
    ];
    let args = ["restore", &archive, "--yes"];
    let (output, log) = traced(&env, &options.map(str::to_owned), &args);
    assert!(!output.status.success(), "{log}");
    assert!(home.join("skills/other/SKILL.md").exists());
    let _ = env.run(args).code(0);
}

#[test]
fn a_few_files_are_restored_into_folders_without_write_permission() {
    for (folder, args) in [
        ("skills/mine", ["--only", "skills/mine/SKILL.md"]),
        ("sessions/2026/11/18", ["--session", FIRST]),
        // A folder above the missing one.
        ("sessions/2026", ["--session", FIRST]),
    ] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        let archive = text(&backup(&env, &[]));
        let missing = match args[0] {
            "--only" => home.join(args[1]),
            _ => home.join(rollout(FIRST)),
        };
        fs::remove_file(&missing).expect("remove");
        if folder == "sessions/2026" {
            fs::remove_dir_all(home.join("sessions/2026/11")).expect("remove");
        }
        set_mode(&home.join(folder), 0o555);
        let all = [&["restore", &archive, "--yes"][..], &args].concat();
        let run = env.run_unprivileged(&all).code(0);
        assert!(missing.exists(), "{run}");
        let mode = home.join(folder).metadata().expect("stat").mode();
        assert_eq!(mode & 0o777, 0o555, "{run}");
    }
}

#[test]
fn a_read_only_folder_that_cannot_be_exchanged_is_named_with_its_chmod() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    fs::remove_dir_all(home.join("skills/mine")).expect("remove");
    set_mode(&home.join("skills"), 0o555);
    // Nothing can be created beside the home, so its entries are exchanged one by one.
    set_mode(&env.path("home"), 0o555);
    let args = ["restore", &archive, "--yes", "--only", "skills"];
    let dry_run = [&args[..], &["--dry-run"]].concat();
    let count_archives = || {
        let backups = env.manager_home().join("backups");
        fs::read_dir(backups).expect("list").count()
    };
    let archives = count_archives();
    let refused = |hint: &str| {
        for args in [&args[..], &dry_run] {
            let run = env.run_unprivileged(args).code(5);
            assert!(unwrapped(&run.stderr).contains(hint), "{run}");
        }
        // A refusal leaves no safety backup.
        assert_eq!(count_archives(), archives);
    };
    refused("chmod u+rwx [ROOT]/home/.codex/skills)");
    if chown(home.join("skills"), Some(OTHER), None).is_ok() {
        set_mode(&home.join("skills"), 0o755);
        refused("sudo chown -R \"$USER\" [ROOT]/home/.codex/skills,");
        chown(home.join("skills"), Some(0), None).expect("chown");
    }
    set_mode(&home.join("skills"), 0o755);
    let _ = env.run_unprivileged(&args).code(0);
    set_mode(&env.path("home"), 0o755);
}

#[test]
fn doctor_names_a_read_only_codex_home_and_mount_points_in_it() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let warnings = |env: &TestEnv| unwrapped(&env.run(["doctor"]).stdout);
    let before = warnings(&env);
    assert!(
        !before.contains("not writable") && !before.contains("mount point"),
        "{before}"
    );
    {
        let Some(_mount) = Mount::read_only(&home) else {
            return;
        };
        let text = warnings(&env);
        assert!(
            text.contains("not writable") && text.contains("read-write"),
            "{text}"
        );
    }
    let other = env.write("config.toml", "");
    fs::create_dir_all(home.join("skills/mine/disk")).expect("folder");
    for (of, at) in [
        (&other, home.join("config.toml")),
        (&other, home.join("state_5.sqlite")),
        (&env.path("home"), home.join("skills/mine/disk")),
    ] {
        let Some(_mount) = Mount::bind(of, &at) else {
            return;
        };
        let name = at.strip_prefix(&home).expect("below").display();
        let found = format!("mount points: [ROOT]/home/.codex/{name} ");
        let text = warnings(&env);
        assert!(text.contains(&found), "{text}");
    }
    // A folder at the top may be on another disk.
    let Some(_mount) = Mount::bind(&home.join("skills"), &home.join("skills")) else {
        return;
    };
    let text = warnings(&env);
    assert!(!text.contains("mount point"), "{text}");
}

#[test]
fn doctor_names_a_codex_home_with_a_tilde_that_codex_does_not_expand() {
    let mut env = TestEnv::new();
    sample_home(&env);
    for (value, is_named) in [("~/.codex", true), ("~", true), ("home/.codex", false)] {
        env.set("CODEX_HOME", value);
        let run = env.run(["doctor"]);
        assert_eq!(run.stdout.contains("CODEX_HOME is"), is_named, "{run}");
    }
    // A folder of this name is what Codex uses.
    fs::create_dir_all(env.path("~/.codex")).expect("folder");
    env.set("CODEX_HOME", "~/.codex");
    let run = env.run(["doctor"]);
    assert!(!run.stdout.contains("CODEX_HOME is"), "{run}");
}

#[test]
fn find_works_if_no_index_can_be_written() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "needle", "answer"));
    fs::create_dir_all(env.manager_home()).expect("folder");
    set_mode(&env.manager_home(), 0o555);
    for args in [&["find", "needle"][..], &["find", "answer", "--json"]] {
        let run = env.run_unprivileged(args).code(0);
        assert!(run.stdout.contains(&id(1)[..8]), "{run}");
        assert!(run.stderr.contains("temporary search index"), "{run}");
    }
    assert_eq!(fs::read_dir(env.manager_home()).expect("list").count(), 0);

    // The folder of the index exists and belongs to another user.
    set_mode(&env.manager_home(), 0o755);
    fs::create_dir(env.manager_home().join("index")).expect("folder");
    set_mode(&env.manager_home().join("index"), 0o000);
    let run = env.run_unprivileged(&["find", "needle"]).code(0);
    assert!(run.stdout.contains("needle"), "{run}");

    // An index that exists is used as it is on a read-only disk.
    set_mode(&env.manager_home().join("index"), 0o700);
    let _ = env.run(["find", "needle"]).code(0);
    let Some(_mount) = Mount::read_only(&env.manager_home()) else {
        return;
    };
    let run = env.run(["find", "needle"]).code(0);
    assert!(run.stdout.contains("needle"), "{run}");
}
