//! Unusual homes: links, names that are not Unicode, unreadable files, extreme times.

use crate::support::aftermath::{home_tree, stray_files};
use crate::support::archives::{create_archive, restore_archive, restore_archive_onto};
use crate::support::create_pipe;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::hostile::Parts;
use crate::support::sample::{
    FIRST, SECOND, alice, assert_same_home, backup, line, put, put_at, rollout, rows, sample_home,
    sample_home_at, text,
};
use crate::support::sign_in::{auth_json, write_auth, write_auth_text};
use codex_manager_core::archive::format::Compression;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, utimensat};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn names(archive: &Path) -> Vec<String> {
    let parts = Parts::of(&fs::read(archive).expect("read"));
    parts
        .entries
        .iter()
        .map(|e| String::from_utf8_lossy(&e.name).into_owned())
        .collect()
}

#[test]
fn conversations_on_another_disk_are_archived_and_restored_through_the_link() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::create_dir(env.path("disk")).expect("folder");
    fs::rename(home.join("sessions"), env.path("disk/conversations")).expect("move");
    symlink(env.path("disk/conversations"), home.join("sessions")).expect("link");
    let before = (env.tree("home/.codex"), env.tree("disk"));
    let archive = text(&backup(&env, &[]));
    assert!(
        names(Path::new(&archive))
            .iter()
            .any(|n| n == rollout(FIRST).to_str().expect("text"))
    );
    fs::remove_file(home.join(rollout(FIRST))).expect("remove");
    put(&env, rollout(SECOND), "other\n");
    let _ = env.run(["restore", &archive]).code(0);
    assert_same_home(&before.0, &env.tree("home/.codex"));
    assert_same_tree(&before.1, &env.tree("disk"));
    // The same if none of the conversations is left.
    let empty = TestEnv::new();
    write_auth(&empty.codex_home(), &alice(0));
    let none = text(&backup(&empty, &[]));
    let (path, copy) = (Path::new(&none), env.path("none-codex.tar.gz"));
    fs::copy(path, &copy).expect("copy");
    let run = env.run(["restore", &text(&copy), "--json"]).code(0).json();
    assert!(run["removed"].as_array().expect("list").len() >= 2);
    assert!(!home.join(rollout(FIRST)).exists() && home.join("sessions").is_symlink());
    let _ = env
        .run([
            "restore",
            run["safety_backup"].as_str().expect("a safety backup"),
        ])
        .code(0);
    assert_same_tree(&before.1, &env.tree("disk"));
}

#[test]
fn a_home_that_is_a_link_stays_a_link() {
    let env = TestEnv::new();
    sample_home_at(&env.path("disk/real"));
    symlink(env.path("disk/real"), env.codex_home()).expect("link");
    let before = env.tree("disk");
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    let _ = env.run(["restore", &archive]).code(0);
    assert!(env.codex_home().is_symlink());
    assert_same_home(&before, &env.tree("disk"));
}

#[test]
fn files_that_cannot_be_archived_are_named_and_kept_by_a_restore() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    env.write("outside/dotfiles/SKILL.md", "x");
    symlink(env.path("outside/dotfiles"), home.join("skills/shared")).expect("link");
    symlink("mine", home.join("skills/alias")).expect("link");
    symlink("/nowhere/at/all", home.join("sessions/dangling")).expect("link");
    let before = env.tree("home/.codex");
    let run = env.run(["backup", "--no-status", "--json"]).code(6);
    let skipped = run.json()["skipped"].to_string();
    assert!(
        skipped.contains("skills/shared") && skipped.contains("sessions/dangling"),
        "{run}"
    );
    assert!(run.stderr.contains("skills/shared"), "{run}");
    let archive = text(
        &env.manager_home()
            .join("backups")
            .join(run.json()["archive"].as_str().expect("name")),
    );
    put(&env, "AGENTS.md", "changed");
    let run = env.run(["restore", &archive, "--json"]).code(0).json();
    assert_eq!(run["removed"], serde_json::json!([]));
    assert_same_home(&before, &env.tree("home/.codex"));
}

#[test]
fn an_unreadable_file_is_named_and_kept() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let locked = home.join("skills/mine/locked");
    fs::write(&locked, "x").expect("write");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("chmod");
    let run = env.run_unprivileged(&["backup", "--no-status"]).code(6);
    assert!(run.stderr.contains("skills/mine/locked"), "{run}");
    put(&env, "AGENTS.md", "changed");
    let before = env.tree("home/.codex/skills");
    let _ = env.run_unprivileged(&["restore", "latest"]).code(0);
    assert_same_tree(&before, &env.tree("home/.codex/skills"));
}

#[test]
fn a_read_only_home_is_backed_up_but_not_restored() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o500)).expect("chmod");
    let before = env.tree("home/.codex");
    let _ = env.run_unprivileged(&["backup", "--no-status"]).code(0);
    assert_same_tree(&before, &env.tree("home/.codex"));
    let run = env.run_unprivileged(&["restore", "latest", "--only", "AGENTS.md"]);
    assert_eq!(run.code, 5, "{run}");
    assert!(
        run.stderr.contains("home/.codex"),
        "the error names no path: {run}"
    );
    assert_same_tree(&before, &env.tree("home/.codex"));
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("chmod");
}

#[test]
fn an_empty_home_is_restored_as_empty() {
    let env = TestEnv::new();
    let home = env.codex_home();
    fs::create_dir_all(&home).expect("folder");
    let archive = text(&backup(&env, &[]));
    let _ = env.run(["verify"]).code(0);
    let _ = env.run(["restore", &archive]).code(0);
    put(&env, "AGENTS.md", "new");
    let run = env.run(["restore", &archive, "--json"]).code(0).json();
    assert_eq!(run["removed"], serde_json::json!(["AGENTS.md"]));
    assert_eq!(fs::read_dir(&home).expect("folder").count(), 0);
    let there = text(&env.path("there"));
    let _ = env.run(["restore", &archive, "--to", &there]).code(0);
    assert_eq!(fs::read_dir(there).expect("folder").count(), 0);
    let run = env
        .run(["restore", &archive, "--only", "AGENTS.md"])
        .code(1);
    assert!(run.stderr.contains("AGENTS.md"), "{run}");
}

#[test]
fn a_conversation_in_both_sessions_and_archived_sessions_is_restored_in_both() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let name = rollout(FIRST);
    let name = name.file_name().expect("name").to_str().expect("text");
    put(&env, format!("archived_sessions/{name}"), line(77));
    let before = env.tree("home/.codex");
    let archive = backup(&env, &[]);
    let found = names(&archive);
    assert!(
        found.contains(&format!("archived_sessions/{name}")),
        "{found:?}"
    );
    assert!(found.contains(&text(&rollout(FIRST))), "{found:?}");
    fs::remove_dir_all(home.join("archived_sessions")).expect("remove");
    fs::remove_dir_all(home.join("sessions")).expect("remove");
    let _ = env.run(["restore", &text(&archive)]).code(0);
    assert_same_home(&before, &env.tree("home/.codex"));
}

#[test]
fn archived_files_with_any_name_can_be_restored() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    for name in [
        "Notes.txt",
        "NOTES.TXT",
        "a b",
        "new\nline",
        "-rf",
        "tab\t",
        "quote'\"",
        "yarn.lock",
        "skills/mine/tmp/x",
        "skills/mine/a.sqlite",
        "skills/mine/a.sqlite-wal",
        "empty",
    ] {
        put(&env, name, "");
    }
    fs::create_dir_all(home.join("prompts/none/at/all")).expect("folders");
    let before = env.tree("home/.codex");
    let archive = text(&backup(&env, &[]));
    fs::rename(&home, env.path("gone")).expect("move");
    let _ = env.run(["restore", &archive]).code(0);
    let mut expected = before;
    expected.0.retain(|path, _| {
        path.extension().is_none_or(|e| e != "lock") || path.ends_with("yarn.lock")
    });
    let mut found = env.tree("home/.codex");
    found.0.retain(|path, _| {
        path.extension().is_none_or(|e| e != "lock") || path.ends_with("yarn.lock")
    });
    // A new home has mode 0700, and its login has the current mtime.
    for tree in [&mut expected, &mut found] {
        tree.0.remove(Path::new(""));
        tree.0.remove(Path::new("auth.json"));
    }
    assert_same_home(&expected, &found);
    // A variant of one of Codex's names in other letter case is not portable: reported, not archived.
    put(&env, "Config.toml", "x");
    let run = env.run(["backup", "--no-status"]).code(6);
    assert!(run.stderr.contains("Config.toml"), "{run}");
    let _ = env.run(["restore", "latest"]).code(0);
    assert!(home.join("Config.toml").exists());
}

#[test]
fn unexpected_files_at_paths_of_codex_are_named_and_kept() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let before = text(&backup(&env, &[]));
    for file in ["config.toml", "auth.json", "installation_id"] {
        fs::remove_file(home.join(file)).unwrap_or(());
    }
    env.write("outside/folder/x", "x");
    symlink(env.path("outside/folder"), home.join("config.toml")).expect("link");
    put(&env, "installation_id/x", "x");
    put(&env, "state_99.sqlite/x", "x");
    put(&env, "sqlite/notes.txt", "x");
    symlink("notes.txt", home.join("sqlite/a.sqlite")).expect("link");
    symlink(home.join("sqlite/notes.txt"), home.join("sqlite/b.sqlite")).expect("link");
    // A target that begins with the path of the home and leaves it.
    let out = home.join("skills/../../elsewhere");
    symlink(out, home.join("skills/out")).expect("link");
    // Both names differ from Codex's in letter case.
    put(&env, "Prompts/x", "x");
    put(&env, "PROMPTS/x", "x");
    fs::rename(home.join("prompts"), env.path("prompts")).unwrap_or(());
    // Files of the user.
    put(&env, "mine.sqlite/x", "x");
    symlink(&home, home.join("here")).expect("link");
    let run = env.run(["backup", "--no-status", "--json"]).code(6);
    let skipped = run.json()["skipped"].clone();
    let paths = skipped.as_array().expect("list").iter();
    let paths: Vec<_> = paths.map(|s| s["path"].as_str().expect("a path")).collect();
    let expected = [
        "Prompts",
        "config.toml",
        "installation_id",
        "skills/out",
        "sqlite/a.sqlite",
        "sqlite/b.sqlite",
        "state_99.sqlite",
    ];
    assert_eq!(paths, expected);
    let _ = env.run(["verify"]).code(0);
    put(&env, "AGENTS.md", "changed");
    let run = env.run(["restore", "latest", "--json"]).code(0).json();
    assert_eq!(run["removed"], serde_json::json!([]));
    for path in expected.iter().chain(&["mine.sqlite/x", "here"]) {
        assert!(
            home.join(path).symlink_metadata().is_ok(),
            "{path} was removed"
        );
    }
    // An archive without them must not remove them, because no safety backup can save them.
    let run = env.run(["restore", &before]).code(5);
    assert!(run.stderr.contains("installation_id"), "{run}");
    put(&env, "auth.json/x", "x");
    let _ = env.run(["restore", "latest"]).code(0);
    assert!(home.join("auth.json/x").exists());
    let there = env.path("there");
    let _ = env
        .run(["restore", "latest", "--to", &text(&there)])
        .code(0);
    assert!(there.join("mine.sqlite/x").exists() && there.join("PROMPTS/x").exists());
    assert!(there.join("here/AGENTS.md").exists());
}

#[test]
fn an_unreadable_file_with_a_non_unicode_name_is_named_and_kept() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let odd = home
        .join("skills/mine")
        .join(OsStr::from_bytes(b"odd \xff"));
    fs::write(&odd, "x").expect("write");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o000)).expect("chmod");
    let run = env.run_unprivileged(&["backup", "--no-status"]).code(6);
    assert!(run.stderr.contains("skills/mine/odd \u{fffd}"), "{run}");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o600)).expect("chmod");
    put(&env, "AGENTS.md", "changed");
    let _ = env.run(["restore", "latest"]).code(0);
    assert!(odd.exists());
}

#[test]
fn a_read_only_folder_can_be_unpacked_by_any_tar() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    put(&env, "skills/mine/closed/below/x", "x");
    let closed = ["skills/mine/closed/below", "skills/mine/closed"].map(|f| home.join(f));
    let close = |mode| {
        for folder in &closed {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    };
    close(0o555);
    let archive = text(&backup(&env, &[]));
    let there = env.path("there");
    let unpacked = env.path("unpacked");
    fs::create_dir(&unpacked).expect("folder");
    let (archive, into) = (archive.as_str(), text(&unpacked));
    let _ = env
        .run_unprivileged_program("tar", &["-xzf", archive, "-C", &into])
        .code(0);
    let to = text(&there);
    let _ = env
        .run_unprivileged(&["restore", archive, "--to", &to])
        .code(0);
    for folder in [&unpacked, &there] {
        let closed = folder.join("skills/mine/closed");
        let mode = |path: &Path| path.metadata().expect("stat").mode() & 0o777;
        assert_eq!((mode(&closed), mode(&closed.join("below"))), (0o755, 0o755));
        assert!(closed.join("below/x").exists());
    }
    close(0o755);
}

#[test]
fn an_archive_with_a_manifest_of_17_mib_can_be_read() {
    let env = TestEnv::new();
    let folders = vec!["n".repeat(240); 15].join("/");
    let folder = env.codex_home().join("skills").join(folders);
    fs::create_dir_all(&folder).expect("folders");
    for number in 0..5000 {
        fs::write(folder.join(format!("{number:04}")), "").expect("write");
    }
    let (archive, packed) =
        create_archive(&env, "all.tar.gz", Compression::Default, None).expect("archived");
    let text_bytes = serde_json::to_vec(&packed.manifest).expect("text").len();
    assert!(
        text_bytes > 17 << 20,
        "the text is too small for the limit: {text_bytes}"
    );
    let back = restore_archive(&env, &archive, "back");
    let count = walkdir::WalkDir::new(back).into_iter().flatten().count();
    assert!(count > 5000, "{count}");
}

#[test]
fn a_path_too_long_for_an_archive_is_named_and_stops_no_backup_or_restore() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let name = "d".repeat(250);
    // Longer than the path limit of one system call.
    let deepest = home.join("skills");
    let mut at = rustix::fs::open(&deepest, OFlags::DIRECTORY, Mode::empty()).expect("open");
    for _ in 0..17 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("folder");
        at = rustix::fs::openat(&at, &name, OFlags::DIRECTORY, Mode::empty()).expect("open");
    }
    rustix::fs::openat(&at, "x", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).expect("file");
    let run = env.run(["backup", "--no-status"]).code(6);
    assert!(run.stderr.contains("not archived: skills/ddd"), "{run}");
    let _ = env.run(["verify"]).code(0);
    let there = text(&env.path("there"));
    let _ = env.run(["restore", "latest", "--to", &there]).code(0);
}

#[test]
fn a_login_that_is_a_link_is_replaced_and_its_target_kept() {
    for hard in [false, true] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        let archive = text(&backup(&env, &[]));
        let elsewhere = env.write("elsewhere/auth.json", auth_json(&alice(-1)));
        fs::remove_file(home.join("auth.json")).expect("remove");
        if hard {
            fs::hard_link(&elsewhere, home.join("auth.json")).expect("link");
        } else {
            symlink(&elsewhere, home.join("auth.json")).expect("link");
        }
        let before = env.tree("elsewhere");
        let _ = env.run(["restore", &archive]).code(0);
        assert_same_tree(&before, &env.tree("elsewhere"));
        let meta = home.join("auth.json").symlink_metadata().expect("stat");
        assert!(meta.is_file() && meta.nlink() == 1 && meta.mode() & 0o777 == 0o600);
        assert_eq!(
            fs::read_to_string(home.join("auth.json")).expect("read"),
            auth_json(&alice(0))
        );
    }
}

#[test]
fn an_invalid_login_does_not_stop_a_backup() {
    for bytes in ["", "\0\0\0\0", "{\"tok"] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        write_auth_text(&home, bytes);
        let before = env.tree("home/.codex");
        let run = env.run(["backup", "--no-status"]).code(6);
        assert!(run.stderr.contains("auth.json"), "{run}");
        let _ = env.run(["verify"]).code(0);
        assert_same_tree(&before, &env.tree("home/.codex"));
    }
}

#[test]
fn an_auth_json_that_is_no_login_is_kept_by_a_restore() {
    let folder =
        |path: &Path| fs::create_dir(path).and_then(|()| fs::write(path.join("x"), "mine"));
    let pipe = create_pipe;
    let huge = |path: &Path| fs::File::create(path).and_then(|f| f.set_len(300 << 20));
    let garbage = |path: &Path| fs::write(path, "{\"tok");
    type Make = fn(&Path) -> std::io::Result<()>;
    let cases: [(&str, Make, Option<&str>); 4] = [
        ("folder", folder, Some("not a regular file")),
        ("pipe", pipe, Some("not a regular file")),
        ("huge", huge, Some("too large for a login")),
        ("garbage", garbage, None),
    ];
    for (what, make, refusal) in cases {
        let env = TestEnv::new();
        let codex = sample_home(&env);
        let login = codex.join("auth.json");
        let archive = text(&backup(&env, &[]));
        let before = home_tree(&env);
        fs::remove_file(&login).expect("remove");
        make(&login).expect(what);
        let damaged = login.symlink_metadata().expect("stat");
        // A restore without the login leaves it in place.
        let _ = env.run(["restore", &archive, "--auth", "skip"]).code(0);
        let kept = login.symlink_metadata().expect("stat");
        assert_eq!(
            (kept.file_type(), kept.len()),
            (damaged.file_type(), damaged.len()),
            "{what}"
        );
        let run = env.run(["restore", &archive, "--json"]);
        let aside = env.tree("home/.codex-manager/profiles/.unreadable").0;
        if let Some(refusal) = refusal {
            let run = run.code(1);
            assert!(run.stderr.contains(refusal), "{what}: {run}");
            assert!(login.symlink_metadata().is_ok(), "{what}");
            assert!(aside.is_empty(), "{what}: {aside:?}");
        } else {
            let notes = run.code(0).json()["notes"].to_string();
            let kept = "held no login that codex-manager recognizes; it was kept in ";
            assert!(notes.contains(kept), "{notes}");
            assert_same_tree(&before, &home_tree(&env));
            assert_eq!(aside.len(), 2, "{aside:?}");
        }
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{what}");
    }
}

#[test]
fn times_far_in_the_past_and_future_are_restored() {
    // The latest time that a manifest can hold.
    const LAST: (i64, i64) = (9_223_372_036, 854_775_807);
    let env = TestEnv::new();
    let codex = sample_home(&env);
    let set = |name: &str, (secs, nanos): (i64, i64)| {
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time(0, UTIME_OMIT),
            last_modification: time(secs, nanos),
        };
        let path = codex.join(name);
        utimensat(CWD, &path, &times, AtFlags::empty()).expect("set the time");
        let meta = path.metadata().expect("stat");
        assert_eq!(
            (meta.mtime(), meta.mtime_nsec()),
            (secs, nanos),
            "not kept by this disk"
        );
    };
    let time_of = |path: &Path| {
        let meta = path.metadata().expect("stat");
        (meta.mtime(), meta.mtime_nsec())
    };
    let cases = [
        ("skills/before.md", (-1, 500_000_000)),
        ("skills/before-at.md", (-3_600, 0)),
        ("skills/1900.md", (-2_208_988_800, 1)),
        ("skills/2286.md", (10_000_000_000, 7)),
    ];
    for (name, time) in cases {
        put(&env, name, "text");
        set(name, time);
    }
    set("skills", (-86_400, 999_999_999));
    env.tick();
    let archive = text(&backup(&env, &[]));
    // A file whose stored time is clamped still counts as unchanged.
    let again = env.run(["backup", "--no-status", "--json"]).code(0).json();
    assert!(again["reused_bytes"].as_u64() > Some(0), "{again}");
    for _ in 0..2 {
        put(&env, "AGENTS.md", "changed");
        let _ = env.run(["restore", &archive]).code(0);
        for (name, time) in cases {
            assert_eq!(time_of(&codex.join(name)), time.min(LAST), "{name}");
        }
        assert_eq!(time_of(&codex.join("skills")), (-86_400, 999_999_999));
    }
    // Tar headers have times in seconds.
    let there = env.path("there");
    fs::create_dir(&there).expect("folder");
    let tar = Command::new("tar")
        .arg("xzf")
        .arg(&archive)
        .current_dir(&there)
        .output();
    assert!(tar.expect("tar").status.success());
    for (name, (secs, _)) in cases {
        assert_eq!(time_of(&there.join(name)).0, secs.min(LAST.0), "{name}");
    }
}

#[test]
fn a_damaged_database_is_named_and_kept() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let path = home.join("state_5.sqlite");
    let mut torn = fs::read(&path).expect("read");
    torn[4096..8192].fill(0xAA);
    fs::write(&path, &torn).expect("write");
    let run = env.run(["backup", "--no-status"]).code(6);
    assert!(run.stderr.contains("state_5.sqlite"), "{run}");
    let _ = env.run(["restore", &archive]).code(0);
    assert_eq!(rows(&path).len(), 2);
    let kept = env.tree("home/.codex/db-backups");
    assert!(
        kept.0.keys().any(|p| p.ends_with("state_5.sqlite")),
        "{kept:?}"
    );
}

#[test]
fn a_manager_home_inside_the_codex_home_is_not_archived() {
    let mut env = TestEnv::new();
    let home = sample_home(&env);
    env.set("CODEX_MANAGER_HOME", home.join("manager"));
    for _ in 0..2 {
        let document = env.run(["backup", "--no-status", "--json"]).code(0).json();
        assert!(
            document["excluded"].to_string().contains("manager"),
            "{document}"
        );
        let found = names(Path::new(
            document["path"]
                .as_str()
                .expect("path")
                .replace("[ROOT]", &text(&env.path("")))
                .as_str(),
        ));
        assert!(!found.iter().any(|n| n.starts_with("manager")), "{found:?}");
    }
    put_at(&home, "AGENTS.md", "changed");
    let _ = env.run(["restore", "latest"]).code(0);
    assert!(home.join("manager/inventory.json").exists());
    let _ = env.run(["verify", "--all"]).code(0);
}

#[test]
fn an_invalid_database_is_archived_as_it_is_and_named() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    put(&env, "goals_1.sqlite", vec![7; 9000]);
    let whole = fs::read(home.join("state_5.sqlite")).expect("read");
    put(&env, "queue_1.sqlite", &whole[..9]);
    // None of these is invalid.
    put(&env, "notes.sqlite", "the user's own, and no database");
    put(&env, "memories_1.sqlite", "");
    let before = env.tree("home/.codex");
    let run = env.run(["backup", "--no-status", "--json"]).code(6);
    let document = run.json();
    let damaged = |document: &serde_json::Value| -> Vec<String> {
        let list = document["damaged"].as_array().expect("a list");
        let names = list.iter().map(|d| d["path"].as_str().expect("a path"));
        names.map(Into::into).collect()
    };
    assert_eq!(damaged(&document), ["goals_1.sqlite", "queue_1.sqlite"]);
    assert_eq!(document["skipped"], serde_json::json!([]));
    assert!(run.stderr.contains("goals_1.sqlite"), "{run}");
    let plan = env.run(["backup", "--no-status", "--dry-run", "--json"]);
    assert_eq!(damaged(&plan.code(6).json()).len(), 2);
    let doctor = env.run(["doctor"]).code(5);
    assert!(doctor.stdout.contains("goals_1.sqlite"), "{doctor}");
    let _ = env.run(["verify"]).code(0);
    for name in ["goals_1.sqlite", "queue_1.sqlite", "notes.sqlite"] {
        fs::remove_file(home.join(name)).expect("remove");
    }
    let _ = env.run(["restore", "latest"]).code(0);
    assert_same_home(&before, &env.tree("home/.codex"));
    // A restore over an invalid database saves it in the safety backup.
    put(&env, "goals_1.sqlite", vec![8; 9000]);
    let changed = env.tree("home/.codex");
    let run = env.run(["restore", "latest", "--json"]).code(0).json();
    assert_same_home(&before, &env.tree("home/.codex"));
    let safety = run["safety_backup"].as_str().expect("a safety backup");
    let _ = env.run(["restore", safety]).code(0);
    assert_same_home(&changed, &env.tree("home/.codex"));
}

#[test]
fn an_invalid_database_outside_the_home_is_named() {
    let mut env = TestEnv::new();
    sample_home(&env);
    env.write("databases/state_5.sqlite", vec![7; 9000]);
    env.write("databases/other.txt", "no database, and not Codex's");
    let databases = env.path("databases");
    env.set("CODEX_SQLITE_HOME", databases);
    let run = env.run(["backup", "--no-status"]).code(6);
    assert!(run.stderr.contains("state_5.sqlite"), "{run}");
    let run = env.run(["doctor"]).code(5);
    assert!(run.stdout.contains("databases/state_5.sqlite"), "{run}");
}

#[test]
fn a_home_that_is_a_dangling_link_is_not_replaced() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    fs::remove_dir_all(&home).expect("remove");
    symlink(env.path("unmounted"), &home).expect("link");
    for args in [&["--yes"][..], &["--dry-run"]] {
        let run = env.run([&["restore", &archive], args].concat()).code(5);
        assert!(run.stderr.contains("nothing was changed"), "{run}");
    }
    assert!(home.is_symlink() && !env.path("unmounted").exists());
    let run = env.run(["doctor"]).code(5);
    assert!(run.stdout.contains("a dangling link"), "{run}");
    // The disk is mounted again.
    fs::create_dir(env.path("unmounted")).expect("folder");
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    assert!(home.is_symlink() && env.path("unmounted/AGENTS.md").exists());
}

#[test]
fn restore_to_a_dangling_link_is_refused() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let link = env.path("usb");
    symlink(env.path("unmounted"), &link).expect("link");
    let run = env.run(["restore", &archive, "--to", &text(&link)]).code(5);
    assert!(run.stderr.contains("mount its disk"), "{run}");
    assert!(link.is_symlink() && !env.path("unmounted").exists());
}

#[test]
fn restore_to_a_folder_inside_or_above_a_home_is_refused() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    symlink(&home, env.path("alias")).expect("link");
    symlink(env.manager_home(), env.path("manager-alias")).expect("link");
    let before = env.tree("home");
    for inside in [
        home.join("sessions/x"),
        home.clone(),
        env.manager_home(),
        env.manager_home().join("backups/x"),
        env.path("alias/y"),
        env.path("manager-alias/y"),
        env.path("new/../alias/y"),
    ] {
        let run = env
            .run(["restore", &archive, "--to", &text(&inside)])
            .code(4);
        assert!(
            run.stderr
                .contains("is inside the Codex home or the manager home"),
            "{run}"
        );
    }
    assert_same_tree(&before, &env.tree("home"));
    assert!(!env.path("new").exists());
    // A manager home that does not exist yet would be created in the folder.
    let there = text(&env.path("there"));
    let manager = text(&env.path("there/manager"));
    let args = ["restore", &archive, "--to", &there];
    let with = |more: &[&str]| env.run([&args[..], more].concat());
    let _ = with(&["--manager-home", &manager]).code(4);
    assert!(!env.path("there").exists());
    let _ = with(&[]).code(0);
}

#[test]
fn an_empty_exclude_or_a_label_longer_than_200_characters_is_refused() {
    let env = TestEnv::new();
    sample_home(&env);
    for exclude in ["", "/", "//"] {
        let run = env.run(["backup", "--no-status", "--exclude", exclude]);
        assert!(run.code(4).stderr.contains("--exclude"), "{exclude:?}");
    }
    let label = "é".repeat(201);
    let run = env
        .run(["backup", "--no-status", "--label", &label])
        .code(4);
    assert!(run.stderr.contains("200 characters"), "{run}");
    let _ = env
        .run(["backup", "--no-status", "--label", &label[2..]])
        .code(0);
}

#[test]
fn an_excluded_link_is_named_once() {
    let env = TestEnv::new();
    sample_home(&env);
    env.write("elsewhere/big.bin", "x");
    symlink(env.path("elsewhere"), env.codex_home().join("models")).unwrap();
    for args in [&["--dry-run"][..], &[]] {
        let all = ["backup", "--no-status", "--json", "--exclude", "models"];
        let run = env.run(all.iter().chain(args)).code(0).json();
        let excluded = run["excluded"].as_array().unwrap();
        let named = excluded.iter().filter(|e| e["path"] == "models").count();
        assert_eq!(named, 1, "{args:?} {excluded:?}");
    }
}

#[test]
fn an_exclude_or_only_that_matches_nothing_is_reported() {
    let env = TestEnv::new();
    sample_home(&env);
    let unused = "--exclude skill matches nothing";
    for args in [&["--dry-run"][..], &[]] {
        let with = |glob: &str| {
            let all = [
                "backup",
                "--no-status",
                "--exclude",
                "notes.txt",
                "--exclude",
                glob,
            ];
            env.run(all.iter().chain(args)).code(0).stderr
        };
        let printed = with("skill");
        assert!(
            printed.contains(unused) && !printed.contains("notes.txt matches"),
            "{printed}"
        );
        let printed = with("skills/");
        assert!(!printed.contains("matches nothing"), "{printed}");
    }
    // `restore` names files that the archive lacks.
    let run = env.run(["restore", "latest", "--only", "skill"]).code(1);
    assert!(
        run.stderr
            .contains("the archive has no file or folder \"skill\""),
        "{run}"
    );
}

#[test]
fn names_that_differ_only_in_case_are_never_merged() {
    let env = TestEnv::new();
    sample_home(&env);
    // The files have different names, but their folders differ only in letter case.
    put(&env, "skills/Mine/other.md", "# other\n");
    let (archive, _) = create_archive(&env, "x.tar.gz", Compression::Fast, None).expect("archived");
    let Err(refused) = restore_archive_onto(&env, &archive, "there", Some(true)) else {
        panic!("two folders were merged into one");
    };
    let printed = refused.to_string();
    assert!(
        printed.contains("letter case") && printed.to_lowercase().contains("skills/mine"),
        "{printed}"
    );
    assert!(!env.path("there").exists());
    let there = restore_archive_onto(&env, &archive, "there", Some(false)).expect("restored");
    for name in ["skills/Mine/other.md", "skills/mine/SKILL.md"] {
        assert!(there.join(name).is_file(), "{name}");
    }
    // An empty folder counts too.
    fs::remove_dir_all(env.codex_home().join("skills/Mine")).expect("remove");
    fs::create_dir(env.codex_home().join("skills/MINE")).expect("folder");
    let (archive, _) = create_archive(&env, "y.tar.gz", Compression::Fast, None).expect("archived");
    let _ = restore_archive_onto(&env, &archive, "other", Some(true)).expect_err("refused");
    assert!(!env.path("other").exists());
}

#[test]
fn the_no_safety_backup_flag_is_suggested_only_where_it_helps() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let locked = home.join("skills/mine/SKILL.md");
    let lock = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    lock(&locked, 0o000);
    let advice = "--no-safety-backup";
    let run = env.run_unprivileged(&["restore", &archive]).code(5);
    assert!(run.stderr.contains(advice), "{run}");
    let _ = env.run_unprivileged(&["restore", &archive, advice]).code(0);
    assert_eq!(fs::read_to_string(&locked).expect("read"), "# mine\n");
    // Entries of a folder that cannot be listed cannot be linked either.
    let folder = home.join("skills/mine");
    lock(&folder, 0o000);
    let run = env.run_unprivileged(&["restore", &archive]).code(5);
    assert!(!run.stderr.contains(advice), "{run}");
    let _ = env.run_unprivileged(&["restore", &archive, advice]).code(5);
    lock(&folder, 0o700);
}
