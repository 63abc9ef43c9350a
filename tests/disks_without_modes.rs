//! Homes on disks that keep no file modes: exFAT, which has no hard links either, and NTFS.

use crate::support::env::{Run, TestEnv, Tree, assert_same_tree};
use crate::support::faults::{Dice, Mount};
use crate::support::injection::{RENAME, can_inject, run_ends_before_call, sample_evenly};
use crate::support::lab::{Lab, rollout};
use crate::support::profiles::live_login;
use crate::support::restic;
use crate::support::sample::{FIRST, backup, bob, put, sample_home, sample_home_at, text};
use crate::support::sign_in::{SignIn, signed_in_home, write_auth};
use crate::vault::set_up;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// Allows logins in all homes of the disk.
fn allow_logins(env: &TestEnv) {
    let setting = format!("shared_logins.{}", env.path("home").display());
    let _ = env.run(["config", "set", &setting, "true"]).code(0);
}

/// Returns the staging folders and journals that commands have left in `folder`, at any depth.
fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    let paths = entries.map(walkdir::DirEntry::into_path);
    let is_left = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        [
            ".codex-manager-restore",
            ".codex-manager-journal",
            "staging-",
        ]
        .iter()
        .any(|part| name.contains(part))
            || path
                .parent()
                .is_some_and(|above| above.ends_with("tmp/restores"))
    };
    paths.filter(is_left).collect()
}

/// Runs every main command with both homes on the disk.
fn run_every_command(kind: &str) {
    let Some(lab) = Lab::empty() else { return };
    let env = &lab.world;
    let Some(_mount) = Mount::without_modes(kind, &env.path("home")) else {
        return;
    };
    signed_in_home(&lab.home(), &lab.backend, &SignIn::bob());
    allow_logins(env);
    let manager = |args: &[&str]| env.run(args).code(0);
    let _ = manager(&["profile", "save", "bob"]);
    write_auth(&lab.home(), &SignIn::alice());
    let _ = manager(&["profile", "save", "alice"]);
    let id = lab.say("the first question");
    let kept = lab.say("the second question");
    let _ = lab.back_up();
    let _ = manager(&["verify", "latest"]);

    let path = rollout(&lab.home(), &id);
    let before = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _ = manager(&["restore", "latest", "--session", &id, "--yes"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::remove_file(&path).unwrap();
    let _ = manager(&["restore", "latest", "--merge", "--yes"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    // FUSE keeps deleted files in their folder until the kernel has released their last handles.
    let deadline = Instant::now() + Duration::from_secs(600);
    while let Err(e) = fs::remove_dir_all(lab.home().join("sessions")) {
        let is_waiting = e.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < deadline;
        assert!(is_waiting, "{e}");
    }
    let _ = manager(&["restore", "latest", "--yes"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    let _ = lab.resume(&lab.home(), &id, "after the restore");
    assert_eq!(lab.listed_ids(&lab.home()).len(), 2);

    let database = lab.home().join("state_5.sqlite");
    let connection = rusqlite::Connection::open(&database).unwrap();
    let removed = connection.execute("DELETE FROM threads WHERE id = ?1", [&id]);
    assert_eq!(removed.unwrap(), 1);
    connection.close().unwrap();
    let _ = manager(&["history", "repair", "--yes"]);
    assert_eq!(lab.listed_ids(&lab.home()).len(), 2);
    let _ = manager(&["history", "undo", "--yes"]);
    let _ = manager(&["history", "repair", "--yes"]);
    let _ = manager(&["prune", "--keep-last", "1", "--yes"]);
    let _ = manager(&["prune", "--empty-trash", "--yes"]);

    let path = rollout(&lab.home(), &id);
    let before = fs::read(&path).unwrap();
    let _ = manager(&["storage", "trash", &id, "--yes"]);
    assert!(!path.exists());
    let _ = manager(&["storage", "undelete", &id, "--yes"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    let all = ["--older-than", "0s", "--min-size", "0"];
    let _ = manager(&[&["storage", "shrink", "--yes"][..], &all].concat());
    let _ = manager(&["storage", "expand", "--yes"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    let _ = manager(&["storage", "vacuum", "--keep-logs", "0d", "--yes"]);

    let _ = manager(&["use", "bob"]);
    let _ = manager(&["use", "alice"]);
    let launched = manager(&[
        "launch",
        "bob",
        "--",
        "exec",
        "--skip-git-repo-check",
        "from bob",
    ]);
    assert!(
        launched.stdout.contains("bob") || !launched.stdout.is_empty(),
        "{launched}"
    );
    let found = manager(&["find", "second question"]);
    assert!(found.stdout.contains(&kept[..8]), "{found}");
    for args in [
        &["sessions"][..],
        &["usage"],
        &["storage"],
        &["list"],
        &["launches"],
    ] {
        let _ = manager(args);
    }
    let _ = manager(&[
        "sync",
        "init",
        "--cloud",
        env.path("home/cloud").to_str().unwrap(),
    ]);
    fs::create_dir_all(env.path("home/cloud")).unwrap();
    let _ = manager(&["sync", "run", "--apply", "--yes"]);
    let doctor = env.run(["doctor"]);
    assert!(
        doctor.stdout.contains("on a disk without file modes (fuse"),
        "{doctor}"
    );
    assert_eq!(leftovers(&env.path("home")), Vec::<PathBuf>::new());
}

#[test]
fn every_main_command_works_with_both_homes_on_exfat() {
    run_every_command("exfat");
}

#[test]
fn every_main_command_works_with_both_homes_on_ntfs() {
    run_every_command("ntfs");
}

/// Kills restores at a sample of their renames. `remount` also takes the disk away before the next command.
fn kill_restores(kind: &str, remount: bool) {
    const KILLS: usize = 8;
    if !can_inject() {
        return;
    }
    let renames: Vec<usize> = (1..40).collect();
    let numbers = sample_evenly(KILLS, &renames, &mut Dice::new());
    // A restore waits for the clock of exFAT, which has steps of two seconds.
    let killed: Option<Vec<bool>> = thread::scope(|scope| {
        let halves = numbers.chunks(KILLS / 4).map(|numbers| {
            let kill = move |number: &usize| kill_restore(kind, remount, *number);
            scope.spawn(move || numbers.iter().map(kill).collect::<Vec<_>>())
        });
        let running: Vec<_> = halves.collect();
        let done = running.into_iter().map(|one| one.join().expect("a thread"));
        done.flatten().collect()
    });
    assert!(killed.is_none_or(|killed| killed.contains(&true)));
}

/// Returns true if the restore was killed, false if it ended before the rename with this number, and `None` if no disk
/// can be mounted.
fn kill_restore(kind: &str, remount: bool, number: usize) -> Option<bool> {
    let env = TestEnv::new();
    let (disk, image) = (env.path("home"), env.path("home.img"));
    let mut mount = Mount::without_modes(kind, &disk)?;
    sample_home(&env);
    allow_logins(&env);
    let archive = text(&backup(&env, &[]));
    let archived = env.tree("home/.codex");
    put(&env, "AGENTS.md", "changed");
    put(&env, "skills/new/SKILL.md", "new");
    let changed = env.tree("home/.codex");
    let args = ["restore", &archive, "--yes"];
    if run_ends_before_call(&env, &args, RENAME, number) {
        return Some(false);
    }
    if remount {
        drop(mount);
        mount = Mount::of_image(kind, &image, &disk).expect("mounts again");
    }
    let next = env.run(["list-backups"]).code(0);
    let context = format!("rename {number}: {next}");
    let skills = env.codex_home().join("skills/new/SKILL.md");
    let expected = if skills.exists() { &changed } else { &archived };
    let tops = [
        "AGENTS.md",
        "skills",
        "sessions",
        "config.toml",
        "auth.json",
        "notes.txt",
    ];
    // exFAT rounds times.
    let contents = |tree: &Tree| -> Vec<(PathBuf, String)> {
        let files = tree.only(&tops).0.into_iter();
        let digest = |text: String| text.rsplit(' ').next().unwrap_or_default().to_owned();
        files.map(|(path, text)| (path, digest(text))).collect()
    };
    let found = contents(&env.tree("home/.codex"));
    assert_eq!(found, contents(expected), "{context}");
    let left = leftovers(&disk);
    let is_kept = |path: &PathBuf| path.to_string_lossy().contains(".kept-");
    assert!(
        left.iter().all(|path| remount && is_kept(path)),
        "{context}\n{left:?}"
    );
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    drop(mount);
    Some(true)
}

#[test]
fn a_restore_killed_on_exfat_is_finished_or_undone_by_the_next_command() {
    kill_restores("exfat", false);
}

#[test]
fn a_restore_killed_on_ntfs_is_finished_or_undone_by_the_next_command() {
    kill_restores("ntfs", false);
}

/// exFAT has other inode numbers after each mount.
#[test]
fn a_restore_killed_on_exfat_is_finished_or_undone_after_the_disk_was_away() {
    kill_restores("exfat", true);
}

#[test]
fn logins_are_left_out_on_a_disk_without_modes_until_the_user_allows_them() {
    let env = TestEnv::new();
    let Some(_mount) = Mount::without_modes("exfat", &env.path("home")) else {
        return;
    };
    sample_home(&env);
    let login = live_login(&env);
    let refused = env.run(["profile", "save", "alice"]).code(5);
    assert!(
        refused
            .stderr
            .contains("others can read logins on a disk without file modes"),
        "{refused}"
    );
    assert!(
        refused
            .stderr
            .contains("codex-manager config set shared_logins."),
        "{refused}"
    );
    assert!(!env.manager_home().join("profiles").exists());
    let partial = env.run(["backup", "--no-status", "--json"]).code(6);
    assert_eq!(
        partial.json()["skipped"][0]["path"],
        json!("21apr_old@example.com_auth.json")
    );
    assert_eq!(partial.json()["skipped"][1]["path"], json!("auth.json"));
    put(&env, "AGENTS.md", "changed");
    let _ = env.run(["restore", "latest", "--yes"]).code(0);
    assert_eq!(live_login(&env), login);

    allow_logins(&env);
    let _ = env.run(["profile", "save", "alice"]).code(0);
    let complete = env.run(["backup", "--no-status", "--json"]).code(0);
    assert_eq!(complete.json()["skipped"], json!([]));
}

#[test]
fn a_codex_home_on_a_disk_without_modes_gets_no_login_from_elsewhere() {
    let env = TestEnv::new();
    let disk = env.path("disk");
    let Some(_mount) = Mount::without_modes("ntfs", &disk) else {
        return;
    };
    sample_home(&env);
    let _ = env.run(["profile", "save", "alice"]).code(0);
    let archive = text(&backup(&env, &[]));
    let home = disk.join("codex");
    sample_home_at(&home);
    write_auth(&home, &bob());
    let before = fs::read(home.join("auth.json")).unwrap();
    let on_disk = |args: &[&str]| {
        let home = home.to_str().unwrap();
        env.run([&["--codex-home", home], args].concat())
    };
    let _ = on_disk(&["profile", "save", "bob"]).code(0);
    let left_out = on_disk(&["restore", &archive, "--yes"]).code(6);
    assert!(
        left_out
            .stderr
            .contains("the logins of the archive are left out"),
        "{left_out}"
    );
    assert_eq!(fs::read(home.join("auth.json")).unwrap(), before);
    assert_eq!(leftovers(&disk), Vec::<PathBuf>::new());
}

/// Anyone can write such a folder to a disk before it is plugged in.
#[test]
fn a_staging_folder_found_on_a_disk_without_modes_is_not_trusted() {
    let env = TestEnv::new();
    let disk = env.path("disk");
    let Some(_mount) = Mount::without_modes("exfat", &disk) else {
        return;
    };
    let home = disk.join("codex");
    sample_home_at(&home);
    let victim = env.write("mine/.x.codex-manager-restore/precious", "text");
    let planted = disk.join(".codex.codex-manager-restore");
    fs::create_dir(&planted).unwrap();
    fs::write(planted.join("lock"), "").unwrap();
    let journal = json!({
        "schema": 1, "state": "committed", "home": &home, "begun": [0, 0], "steps": [],
        "folders": [planted.to_str(), victim.parent().unwrap().to_str()],
    });
    fs::write(planted.join("journal.json"), journal.to_string()).unwrap();
    let before = env.tree("disk");
    let on_disk = |args: &[&str]| -> Run {
        let home = home.to_str().unwrap();
        env.run([&["--codex-home", home], args].concat())
    };
    for args in [
        &["list-backups"][..],
        &["sessions"],
        &["find", "x"],
        &["storage"],
    ] {
        let run = on_disk(args);
        assert!(run.code == 0 || args[0] == "find", "{run}");
        assert!(run.stderr.contains("staging folder"), "{run}");
    }
    let _ = on_disk(&["backup", "--no-status"]).code(5);
    assert!(victim.exists());
    assert_same_tree(&before, &env.tree("disk"));
    // Its own name is not needed by other homes.
    fs::remove_dir_all(&planted).unwrap();
    let _ = on_disk(&["backup", "--no-status"]).code(0);
}

#[test]
fn a_manager_home_on_a_disk_without_modes_works_with_a_codex_home_elsewhere() {
    for kind in ["exfat", "ntfs"] {
        let mut env = TestEnv::new();
        let Some(_mount) = Mount::without_modes(kind, &env.manager_home()) else {
            return;
        };
        sample_home(&env);
        let setting = format!("shared_logins.{}", env.manager_home().display());
        let _ = env.run(["config", "set", &setting, "true"]).code(0);
        for args in [&["list"][..], &["find", "one"], &["doctor"]] {
            let run = env.run(args);
            assert!(!run.stderr.contains("now only you can"), "{run}");
        }
        let run = env.run(["doctor"]);
        assert!(run.stdout.contains("on a disk without file modes"), "{run}");
        let archive = text(&backup(&env, &[]));
        let before = env.tree("home/.codex");
        let path = env
            .codex_home()
            .join(crate::support::sample::rollout(FIRST));
        let bytes = fs::read(&path).unwrap();
        let mode = || path.metadata().unwrap().permissions().mode();
        let mode_before = mode();
        let _ = env.run(["storage", "trash", FIRST, "--yes"]).code(0);
        let _ = env.run(["storage", "undelete", FIRST, "--yes"]).code(0);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(mode(), mode_before);
        put(&env, "AGENTS.md", "changed");
        let _ = env.run(["restore", &archive, "--yes"]).code(0);
        let tops = ["AGENTS.md", "sessions", "skills", "config.toml"];
        assert_same_tree(&before.only(&tops), &env.tree("home/.codex").only(&tops));
        let _ = env.run(["prune", "--keep-last", "1", "--yes"]).code(0);
        if restic::program().is_some() {
            set_up(&mut env);
            let _ = env.run(["vault", "backup"]).code(0);
            put(&env, "AGENTS.md", "changed again");
            let _ = env.run(["vault", "restore", "latest", "--yes"]).code(0);
            assert_same_tree(&before.only(&tops), &env.tree("home/.codex").only(&tops));
        }
        assert_eq!(leftovers(&env.path("home")), Vec::<PathBuf>::new());
    }
}
