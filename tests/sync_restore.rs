//! Snapshots of overwritten files: backup, restore and retention.

use crate::support::copy_tree;
use crate::support::env::assert_same_tree;
use crate::support::held_lock::HeldLock;
use crate::support::pair::{ID, META, Pair, ROLLOUT, SKILL, set_mtime};
use chrono::TimeDelta;
use codex_manager_core::io::clock::Clock;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

/// Sets the mtime of a snapshot.
fn snapshot_at(pair: &Pair, name: &str, secs: u64) {
    let path = pair.0.path("backups-b").join(name);
    let folder = fs::File::open(path).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
    folder.set_modified(time).unwrap();
}

#[test]
fn overwritten_files_are_backed_up_and_restored() {
    for compression in ["none", "zip"] {
        let pair = Pair::new();
        pair.configure(
            "b",
            &format!("[backup]\ncompression = \"{compression}\"\nmax_backups = 1\n"),
        );
        let file = pair.put("a", SKILL, "one");
        set_mtime(&file, 1_795_000_000);
        pair.apply("a");
        pair.apply("b");
        pair.put("a", SKILL, "two");
        pair.apply("a");
        // Retention does not remove foreign entries of the backup folder.
        let foreign = pair.0.write("backups-b/other-20200101T000000Z/x", "mine");
        let json = pair.apply("b");
        let snapshot = json["snapshot"].as_str().unwrap().to_owned();
        assert_eq!(snapshot.contains(".zip"), compression == "zip");
        assert_eq!(pair.text("b", SKILL), "two");
        let _ = pair
            .run("b", &["restore", "--from", "../codex-b", "--apply"])
            .code(4);
        let _ = pair
            .run("b", &["restore", "--from", &snapshot, "--dry-run"])
            .code(0);
        assert_eq!(pair.text("b", SKILL), "two");
        let run = pair
            .run("b", &["restore", "--from", &snapshot, "--apply", "--json"])
            .code(0);
        assert_eq!(run.json()["files"][0], SKILL);
        let back = pair.home("b").join(SKILL);
        assert_eq!(fs::read_to_string(&back).unwrap(), "one");
        assert_eq!(
            back.metadata().unwrap().modified().unwrap(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000)
        );
        assert!(foreign.exists());
    }
}

#[test]
fn a_long_list_of_files_ends_with_the_number_of_the_others() {
    let pair = Pair::new();
    for text in ["one", "two"] {
        for n in 0..45 {
            pair.put("a", &format!("skills/s{n}/SKILL.md"), text);
        }
        pair.apply("a");
        pair.apply("b");
    }
    let run = pair.run("b", &["restore", "--dry-run"]).code(0);
    assert!(run.stdout.contains("… 5 more: --verbose"), "{run}");
}

#[test]
fn the_suggested_command_restores_overwritten_cloud_files() {
    let pair = Pair::new();
    pair.put("b", SKILL, "one");
    pair.apply("b");
    pair.put("b", SKILL, "two, newer");
    let run = pair.run("b", &["run", "--apply"]).code(0);
    assert!(run.stdout.starts_with("1 → cloud folder ("), "{run}");
    assert!(run.stderr.contains("--target cloud --apply"), "{run}");
    assert!(!run.stderr.contains("--target local"), "{run}");
    let json = pair.run("b", &["restore", "--dry-run", "--json"]).code(0);
    assert_eq!(json.json()["target"], "cloud");
    let run = pair.run("b", &["restore", "--apply"]).code(0);
    assert!(run.stdout.contains("restored 1 file ("), "{run}");
    assert_eq!(pair.text("cloud", SKILL), "one");
    assert_eq!(pair.text("b", SKILL), "two, newer");
    let _ = pair
        .run("b", &["restore", "--target", "cloud", "--apply"])
        .code(0);
    assert_eq!(pair.text("cloud", SKILL), "two, newer");
}

#[test]
fn a_missing_or_linked_cloud_folder_is_not_restored_to() {
    let pair = Pair::new();
    pair.put("b", SKILL, "one");
    pair.apply("b");
    pair.put("b", SKILL, "two, newer");
    pair.apply("b");
    let refused = || {
        for mode in ["--dry-run", "--apply"] {
            let args = ["restore", "--target", "cloud", mode];
            let run = pair.run("b", &args).code(5);
            assert!(run.stderr.contains("nothing was changed"), "{run}");
        }
    };
    let (cloud, off) = (pair.cloud(), pair.0.path("cloud.off"));
    fs::rename(&cloud, &off).unwrap();
    refused();
    assert!(!cloud.exists());
    fs::rename(&off, &cloud).unwrap();
    let (ours, elsewhere) = (cloud.join(".codex-manager"), pair.0.path("elsewhere"));
    fs::rename(&ours, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &ours).unwrap();
    let before = pair.tree();
    refused();
    assert_same_tree(&before, &pair.tree());
    assert_eq!(pair.text("cloud", SKILL), "two, newer");
}

#[test]
fn the_latest_snapshot_is_chosen_by_mtime() {
    let pair = Pair::new();
    for (name, text) in [
        ("b-20261101T000000Z", "first"),
        ("b-20261102T000000Z", "second"),
    ] {
        pair.0
            .write(&format!("backups-b/{name}/skills/mine/SKILL.md"), text);
    }
    snapshot_at(&pair, "b-20261101T000000Z", 1_795_000_060);
    snapshot_at(&pair, "b-20261102T000000Z", 1_795_000_000);
    let _ = pair.run("b", &["restore", "--apply"]).code(0);
    assert_eq!(pair.text("b", SKILL), "first");
}

#[test]
fn an_unknown_snapshot_or_one_outside_of_the_backup_folder_is_refused() {
    let pair = Pair::new();
    pair.put("b", SKILL, "first");
    let snapshot = "backups-b/b-20261101T000000Z";
    pair.0.write(&format!("{snapshot}/{SKILL}"), "second");
    pair.0.write("outside/skills/mine/SKILL.md", "outside");
    let outside = pair.0.path("outside").to_string_lossy().into_owned();
    for name in ["../outside", &*outside, "..", ".", "a/../../outside"] {
        let _ = pair
            .run("b", &["restore", "--from", name, "--apply"])
            .code(4);
    }
    let _ = pair
        .run("b", &["restore", "--from", "none", "--apply"])
        .code(1);
    assert_eq!(pair.text("b", SKILL), "first");
}

#[test]
fn a_zip_with_outside_paths_is_refused_and_a_login_in_one_is_not_restored() {
    use std::io::Write;
    for (name, code) in [("../escaped", 5), ("/escaped", 5), ("auth.json", 0)] {
        let pair = Pair::new();
        let path = pair.0.write("backups-b/b-20261101T000000Z.zip", "");
        let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
        for name in [SKILL, name] {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(name, options).unwrap();
            zip.write_all(b"planted").unwrap();
        }
        zip.finish().unwrap();
        let run = pair.run("b", &["restore", "--apply"]).code(code);
        assert_eq!(pair.home("b").join("skills").exists(), code == 0, "{run}");
        assert!(!pair.home("b").join("auth.json").exists(), "{name}");
        assert!(!pair.0.path("escaped").exists(), "{name}");
    }
}

#[test]
fn retention_uses_age_and_number_and_removes_only_own_snapshots() {
    for (more, left) in [
        ("max_backups = 2", 2),
        ("retention_days = 30", 2),
        ("retention_days = 0", 3),
    ] {
        let mut pair = Pair::new();
        pair.0.unset("CODEX_MANAGER_NOW");
        pair.configure("b", &format!("[backup]\n{more}\n"));
        for text in ["one", "two and", "three and more"] {
            pair.put("b", SKILL, text);
            pair.apply("b");
        }
        let backups = pair.0.path("backups-b");
        let ours = || {
            let entries = fs::read_dir(&backups).unwrap().flatten();
            let names = entries.map(|e| e.file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| name.starts_with("b-20")).collect();
            names.sort();
            names
        };
        // The first one is made older, by its name and by the disk.
        let at = Clock::System.now() - TimeDelta::days(60);
        let old = backups.join(at.format("b-%Y%m%dT%H%M%SZ").to_string());
        fs::rename(backups.join(&ours()[0]), &old).unwrap();
        let folder = fs::File::open(&old).unwrap();
        folder.set_modified(at.into()).unwrap();
        let foreign = pair
            .0
            .write("backups-b/b-20190101T000000Z/skills/x", "foreign");
        let other = pair.0.write("backups-b/desk-20190101T000000Z/x", "foreign");
        pair.put("b", SKILL, "four, and then some");
        let run = pair.run("b", &["run", "--apply"]).code(0);
        let is_asserted = run.stderr.contains("removed 1 old snapshot");
        assert_eq!(is_asserted, left == 2, "{more}: {run}");
        assert!(foreign.exists() && other.exists(), "{more}");
        let ours = ours()
            .into_iter()
            .filter(|n| n != "b-20190101T000000Z")
            .count();
        assert_eq!(ours, left, "{more}");
    }
}

#[test]
fn a_dropped_version_can_be_restored() {
    // Once with a conflict, and once with a conflict copy by policy.
    for (policy, keep, compression, before_overwrite) in [
        ("manual_abort", "local", "none", true),
        ("manual_abort", "cloud", "zip", false),
        ("prefer_cloud", "local", "zip", true),
        ("prefer_cloud", "local", "none", false),
        ("prefer_local", "fork", "none", true),
    ] {
        let backup = format!(
            "[backup]\ncompression = \"{compression}\"\nbackup_before_overwrite = {before_overwrite}\n"
        );
        let pair = Pair::new();
        let more = format!("{backup}[conflict]\npolicy = \"{policy}\"\n");
        pair.configure("b", &more);
        let [of_a, of_b] = pair.diverge();
        let dropped = match (policy, keep) {
            ("manual_abort", "local") => &of_a,
            _ => &of_b,
        };
        if policy != "manual_abort" {
            pair.apply("b");
        }
        let run = pair
            .run("b", &["resolve", ID, "--keep", keep, "--json"])
            .code(0);
        let json = run.json();
        let snapshot = json["snapshot"].as_str().expect("a snapshot").to_owned();
        assert!(
            run.stderr.contains(&format!("restore --from {snapshot}")),
            "{run}"
        );
        pair.apply("b");
        assert_ne!(pair.text("b", ROLLOUT), *dropped, "{policy} {keep}");
        assert_eq!(pair.apply("b")["forks"].as_array().unwrap().len(), 0);
        let back = [
            "restore", "--from", &snapshot, "--target", "local", "--apply",
        ];
        let _ = pair.run("b", &back).code(0);
        assert_eq!(pair.text("b", ROLLOUT), *dropped, "{policy} {keep}");
        // The restored version continues, and the replaced one is a version like any other.
        let json = pair.apply("b");
        assert_eq!(pair.text("b", ROLLOUT), *dropped, "{json}");
        assert_eq!(pair.text("cloud", ROLLOUT), *dropped, "{json}");
        assert_eq!(pair.apply("b")["forks"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn unfinished_snapshots_of_killed_runs_are_removed() {
    let pair = Pair::new();
    let left = |name: &str| {
        let folder = format!("backups-b/.codex-manager-unfinished/staging-{name}");
        pair.0.write(&format!("{folder}/snapshot/skills/x"), "x");
        pair.0.path(&folder)
    };
    let (killed, under_way) = (left("killed"), left("under-way"));
    let lock = HeldLock::exclusive(&under_way.join(".lock"));
    pair.apply("b");
    assert!(!killed.exists() && under_way.exists());
    drop(lock);
}

#[test]
fn an_unmounted_cloud_folder_is_not_restored_to() {
    let pair = Pair::new();
    pair.put("b", SKILL, "one");
    pair.apply("b");
    pair.put("b", SKILL, "two, newer");
    pair.apply("b");
    let (cloud, off) = (pair.cloud(), pair.0.path("cloud.off"));
    fs::rename(&cloud, &off).unwrap();
    fs::create_dir(&cloud).unwrap();
    let before = pair.tree();
    for mode in ["--dry-run", "--apply"] {
        let run = pair
            .run("b", &["restore", "--target", "cloud", mode])
            .code(5);
        assert!(run.stderr.contains("seems unmounted"), "{run}");
        assert!(run.stderr.contains("sync run --apply --refill"), "{run}");
    }
    assert_same_tree(&before, &pair.tree());
    let _ = pair.run("b", &["run", "--apply", "--refill"]).code(0);
    let _ = pair
        .run("b", &["restore", "--target", "cloud", "--apply"])
        .code(0);
    assert_eq!(pair.text("cloud", SKILL), "one");
}

#[test]
fn a_sync_restore_with_a_blocked_destination_restores_nothing() {
    let kept = "backups-b/b-20261101T000000Z";
    for (there, expected) in [
        ("skills/x", "a file blocks"),
        ("skills/x/y/z", "a folder blocks"),
    ] {
        let pair = Pair::new();
        pair.0.write(&format!("{kept}/AGENTS.md"), "kept");
        pair.0.write(&format!("{kept}/skills/x/y"), "kept");
        pair.put("b", there, "mine");
        for mode in ["--dry-run", "--apply"] {
            let run = pair.run("b", &["restore", mode]).code(5);
            assert!(run.stderr.contains(expected), "{run}");
            assert!(run.stderr.contains("nothing was changed"), "{run}");
        }
        assert_eq!(pair.text("b", there), "mine");
        assert!(!pair.home("b").join("AGENTS.md").exists());
    }
}

#[test]
fn a_snapshot_with_an_unusable_list_is_refused() {
    for (list, why) in [
        ("{\"schema\":1,\"fil", "EOF"),
        ("{\"schema\":9,\"things\":[]}", "newer codex-manager"),
    ] {
        let pair = Pair::new();
        let folder = "backups-b/b-20261101T000000Z";
        pair.0
            .write(&format!("{folder}/.cloud/{SKILL}"), "of the cloud");
        let file = format!("{folder}/.codex-manager-snapshot.json");
        pair.0.write(&file, list);
        for mode in ["--dry-run", "--apply"] {
            let run = pair.run("b", &["restore", mode]).code(5);
            assert!(run.stderr.contains(why), "{run}");
        }
        assert!(!pair.home("b").join(".cloud").exists());
    }
}

#[test]
fn temp_files_of_killed_runs_are_removed_in_the_managers_folders() {
    let pair = Pair::synced(&[(SKILL, "one")]);
    let replicas = fs::read_dir(pair.0.path("manager-b/sync")).unwrap();
    let replica = replicas.map(|entry| entry.unwrap().path()).next().unwrap();
    let ours = pair.cloud().join(".codex-manager");
    let folders = [ours.join("machines"), ours.join("forks"), replica];
    let temps = folders.map(|folder| {
        fs::create_dir_all(&folder).unwrap();
        let temp = folder.join(".codex-manager-tmp-abc");
        fs::write(&temp, "half").unwrap();
        temp
    });
    pair.apply("b");
    assert_eq!(temps.map(|temp| temp.exists()), [false; 3]);
}

#[test]
fn an_unreadable_old_snapshot_stays_and_fails_no_run() {
    use std::io::Write;
    let pair = Pair::new();
    pair.configure("b", "[backup]\nmax_backups = 1\n");
    let path = pair.0.write("backups-b/b-20200101T000000Z.zip", "");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file(".codex-manager-snapshot.json", stored)
        .unwrap();
    zip.write_all(b"{\"schema\":1,\"files\":[]}").unwrap();
    zip.finish().unwrap();
    let text = fs::read(&path).unwrap();
    let at = text.windows(6).position(|part| part == b"schema").unwrap();
    let mut damaged = text.clone();
    damaged[at] = b'S';
    fs::write(&path, damaged).unwrap();
    for text in ["one", "two, and longer"] {
        pair.put("b", SKILL, text);
        pair.apply("b");
    }
    assert_eq!(pair.text("cloud", SKILL), "two, and longer");
    assert!(path.exists());
}

#[test]
fn a_conversation_that_quotes_a_token_is_restored() {
    let pair = Pair::new();
    let quoting = format!("{META}{{\"access_token\":\"quoted\"}}\n");
    pair.sync(&[(ROLLOUT, &quoting)]);
    let longer = format!("{quoting}{{\"n\":1}}\n");
    pair.put("a", ROLLOUT, &longer);
    pair.apply("a");
    pair.apply("b");
    assert_eq!(pair.text("b", ROLLOUT), longer);
    let _ = pair.run("b", &["restore", "--apply"]).code(0);
    assert_eq!(pair.text("b", ROLLOUT), quoting);
}

#[test]
fn a_conversation_created_by_a_killed_resolve_is_not_created_twice() {
    let pair = Pair::new();
    pair.configure("b", "[conflict]\npolicy = \"prefer_cloud\"\n");
    let _ = pair.diverge();
    pair.apply("b");
    let (sync, ours) = (
        pair.0.path("manager-b/sync"),
        pair.cloud().join(".codex-manager"),
    );
    let kept = [pair.0.path("kept-sync"), pair.0.path("kept-ours")];
    copy_tree(&sync, &kept[0]);
    copy_tree(&ours, &kept[1]);
    let both = ["resolve", ID, "--keep", "both", "--json"];
    let new = pair.run("b", &both).code(0).json()["new_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let made = pair.home("b").join(ROLLOUT.replace(ID, &new));
    // The state before the decision was recorded.
    for (from, to) in [(&kept[0], &sync), (&kept[1], &ours)] {
        fs::remove_dir_all(to).unwrap();
        copy_tree(from, to);
    }
    let grown = fs::read_to_string(&made).unwrap() + "{\"n\":\"further\"}\n";
    fs::write(&made, &grown).unwrap();
    let again = pair.run("b", &both).code(0).json();
    assert_eq!(again["new_id"], *new);
    assert_eq!(fs::read_to_string(&made).unwrap(), grown);
}

#[test]
fn an_mtime_before_1970_is_restored() {
    for compression in ["none", "zip"] {
        let pair = Pair::new();
        pair.configure("b", &format!("[backup]\ncompression = \"{compression}\"\n"));
        pair.sync(&[(SKILL, "one")]);
        let file = pair.home("b").join(SKILL);
        let old = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
        fs::File::open(&file).unwrap().set_modified(old).unwrap();
        pair.put("a", SKILL, "two, and more");
        pair.apply("a");
        pair.apply("b");
        let back = ["restore", "--target", "local", "--apply"];
        let _ = pair.run("b", &back).code(0);
        assert_eq!(pair.text("b", SKILL), "one");
        assert_eq!(file.metadata().unwrap().modified().unwrap(), old);
    }
}

#[test]
fn an_unreadable_conversation_with_a_conflict_copy_does_not_stop_the_run() {
    let pair = Pair::new();
    pair.configure("b", "[conflict]\npolicy = \"prefer_cloud\"\n");
    pair.diverge();
    pair.apply("b");
    assert_eq!(pair.apply("b")["summary"]["forks"], 1);
    let home = pair.home("b");
    fs::remove_file(home.join(ROLLOUT)).unwrap();
    // A zstd frame that ends too early.
    let broken = [0x28, 0xb5, 0x2f, 0xfd, 0x24, 0x40, 0xff];
    fs::write(home.join(format!("{ROLLOUT}.zst")), broken).unwrap();
    pair.put("b", SKILL, "mine");
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert_eq!(pair.text("cloud", SKILL), "mine", "{run}");
    assert_eq!(run.json()["summary"]["forks"], 1);
}

#[test]
fn a_file_that_looks_like_a_login_is_not_restored() {
    for compression in ["none", "zip"] {
        let pair = Pair::new();
        let more = format!("[backup]\ncompression = \"{compression}\"\n");
        pair.configure("b", &more);
        let other = "skills/mine/notes.json";
        let login = "{\"refresh_token\":\"kept where it is\"}";
        pair.sync(&[(SKILL, "one"), (other, "{}")]);
        // The sync overwrites both files and saves their former content in a snapshot.
        pair.put("a", SKILL, "two");
        pair.put("a", other, "{\"two\":2}");
        pair.apply("a");
        pair.apply("b");
        let backups = pair.0.path("backups-b");
        let mut entries = fs::read_dir(&backups).unwrap().flatten();
        let snapshot = entries.find(|entry| entry.file_name() != ".codex-manager-unfinished");
        put_into(&snapshot.unwrap().path(), other, login);
        for mode in ["--dry-run", "--apply"] {
            let run = pair.run("b", &["restore", mode, "--json"]).code(6);
            let json = run.json();
            assert_eq!(json["files"], serde_json::json!([SKILL]), "{run}");
            assert_eq!(json["skipped"][0]["path"], other, "{run}");
            assert!(run.stderr.contains("looks like a login"), "{run}");
            assert!(!run.to_string().contains("kept where it is"), "{run}");
        }
        assert_eq!(pair.text("b", SKILL), "one");
        assert_eq!(pair.text("b", other), "{\"two\":2}");
        let log = fs::read_dir(pair.0.path("manager-b/logs")).unwrap();
        let log = log.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let log = log.collect::<String>();
        assert!(log.contains("left alone") && log.contains(other), "{log}");
    }
}

/// Replaces a file of a snapshot and its size in the list.
fn put_into(snapshot: &std::path::Path, name: &str, text: &str) {
    use std::io::{Read, Write};
    let list = ".codex-manager-snapshot.json";
    let with_size = |old: &str| {
        let mut json: serde_json::Value = serde_json::from_str(old).unwrap();
        let files = json["files"].as_array_mut().unwrap();
        let file = files.iter_mut().find(|file| file["path"] == name).unwrap();
        file["size"] = text.len().into();
        json.to_string()
    };
    if snapshot.is_dir() {
        let old = fs::read_to_string(snapshot.join(list)).unwrap();
        fs::write(snapshot.join(list), with_size(&old)).unwrap();
        fs::write(snapshot.join(name), text).unwrap();
        return;
    }
    let mut old = zip::ZipArchive::new(fs::File::open(snapshot).unwrap()).unwrap();
    let mut files = Vec::new();
    for index in 0..old.len() {
        let mut file = old.by_index(index).unwrap();
        let path = file.name().unwrap().into_owned();
        let mut bytes = String::new();
        file.read_to_string(&mut bytes).unwrap();
        let bytes = match &*path {
            path if path == list => with_size(&bytes),
            path if path == name => text.to_owned(),
            _ => bytes,
        };
        files.push((path, bytes));
    }
    let mut new = zip::ZipWriter::new(fs::File::create(snapshot).unwrap());
    for (path, bytes) in files {
        let options = zip::write::SimpleFileOptions::default();
        new.start_file(&*path, options).unwrap();
        new.write_all(bytes.as_bytes()).unwrap();
    }
    new.finish().unwrap();
}

#[test]
fn conflict_copies_of_two_files_with_one_name_are_distinct() {
    let pair = Pair::new();
    pair.configure("b", "[conflict]\npolicy = \"prefer_cloud\"\n");
    let paths = ["x", "y"].map(|folder| format!("sessions/{folder}/rollout-mine.jsonl"));
    let text = |of: &str| format!("{{\"n\":0}}\n{{\"n\":\"{of}\"}}\n");
    for path in &paths {
        pair.sync(&[(path, "{\"n\":0}\n")]);
    }
    // Both have a conflict copy with the same text.
    for path in &paths {
        pair.put("a", path, &text("a"));
        pair.put("b", path, &text("b, which is longer"));
    }
    pair.apply("a");
    pair.apply("b");
    let json = pair.apply("b");
    let mut forks: Vec<_> = json["forks"].as_array().unwrap().clone();
    assert_eq!(forks.len(), 2, "{json}");
    // The other machine has the same conflict copies and knows their conversations.
    let json = pair.apply("a");
    assert_eq!(*json["forks"].as_array().unwrap(), forks, "{json}");
    let first = forks.remove(0);
    let keep = ["resolve", first.as_str().unwrap(), "--keep", "fork"];
    let _ = pair.run("b", &keep).code(0);
    let went_on = |name| {
        paths
            .iter()
            .filter(|path| pair.text(name, path) == text("b, which is longer"))
            .count()
    };
    assert_eq!(went_on("b"), 1);
    assert_eq!(*pair.apply("b")["forks"].as_array().unwrap(), forks);
    let keep = ["resolve", forks[0].as_str().unwrap(), "--keep", "fork"];
    let _ = pair.run("b", &keep).code(0);
    assert_eq!(pair.apply("b")["forks"].as_array().unwrap().len(), 0);
    assert_eq!(went_on("b"), 2);
    assert_eq!(pair.apply("a")["forks"].as_array().unwrap().len(), 0);
    assert_eq!(went_on("a"), 2);
}

#[test]
fn a_wrong_clock_removes_no_sync_snapshot_by_age() {
    for (off, right) in [
        ("1996-11-27T12:00:00Z", "2026-11-20T12:00:00Z"),
        ("2056-11-12T12:00:00Z", "2026-11-20T12:00:00Z"),
    ] {
        for is_off_first in [true, false] {
            let mut pair = Pair::new();
            let days = "[backup]\nretention_days = 30\nmax_backups = 4\n";
            pair.configure("b", days);
            pair.put("b", SKILL, "0");
            pair.apply("b");
            let mut texts = vec!["0".to_owned()];
            let clocks = if is_off_first {
                [off, off, right, right]
            } else {
                [right, right, off, off]
            };
            let kept = |pair: &Pair| {
                let entries = fs::read_dir(pair.0.path("backups-b")).unwrap().flatten();
                let mut kept: Vec<_> = entries
                    .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
                    .map(|entry| {
                        fs::read_to_string(entry.path().join(".cloud").join(SKILL)).unwrap()
                    })
                    .collect();
                kept.sort();
                kept
            };
            for (n, clock) in clocks.iter().enumerate() {
                pair.0.set("CODEX_MANAGER_NOW", clock);
                let text = format!("{}", n + 1);
                // A different length, so that mtime does not matter.
                pair.put("b", SKILL, &text.repeat(n + 2));
                pair.apply("b");
                assert_eq!(kept(&pair), texts, "{clocks:?} {n}");
                texts.push(text.repeat(n + 2));
            }
            for clock in [right, off] {
                pair.0.set("CODEX_MANAGER_NOW", clock);
                pair.apply("b");
                assert_eq!(kept(&pair).len(), 4, "{clocks:?} {clock}");
            }
            // The snapshot that was created first is removed first, whatever the time in its name.
            pair.put("b", SKILL, "the last one");
            pair.apply("b");
            assert_eq!(kept(&pair), texts[1..], "{clocks:?}");
        }
    }
}

#[test]
fn a_restored_conversation_replaces_its_archived_or_moved_form() {
    for form in ["archived_sessions", "sessions/elsewhere"] {
        let pair = Pair::new();
        pair.configure("b", "[conflict]\npolicy = \"manual_abort\"\n");
        let [_, of_b] = pair.diverge();
        let resolve = ["resolve", ID, "--keep", "cloud", "--json"];
        let json = pair.run("b", &resolve).code(0).json();
        let snapshot = json["snapshot"].as_str().expect("a snapshot");
        pair.apply("b");
        let path = pair.home("b").join(ROLLOUT);
        let moved = pair.home("b").join(form);
        fs::create_dir_all(&moved).unwrap();
        let moved = moved.join(path.file_name().unwrap());
        fs::rename(&path, &moved).unwrap();
        let later = fs::read_to_string(&moved).unwrap();
        let back = |from: &str| {
            let args = [
                "restore", "--from", from, "--target", "local", "--apply", "--json",
            ];
            pair.run("b", &args).code(0).json()
        };
        let json = back(snapshot);
        assert_eq!(pair.text("b", ROLLOUT), of_b);
        assert!(!moved.exists(), "{form}");
        // The replaced file is in the safety snapshot.
        let _ = back(json["safety_snapshot"].as_str().expect("a snapshot"));
        assert_eq!(fs::read_to_string(&moved).unwrap(), later);
        assert!(!path.exists(), "{form}");
    }
}

#[test]
fn a_restore_that_cannot_save_a_replaced_file_leaves_no_snapshot() {
    for compression in ["none", "zip"] {
        let pair = Pair::new();
        pair.configure("b", &format!("[backup]\ncompression = \"{compression}\"\n"));
        let second = "skills/second/SKILL.md";
        for text in ["one", "two"] {
            pair.put("a", SKILL, text);
            pair.put("a", second, text);
            pair.apply("a");
            pair.apply("b");
        }
        let snapshots = || fs::read_dir(pair.0.path("backups-b")).unwrap().count();
        let before = snapshots();
        let hidden = pair.home("b").join(second);
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o0)).unwrap();
        let args = [
            "--manager-home",
            "manager-b",
            "sync",
            "-c",
            "b.toml",
            "restore",
            "--apply",
        ];
        let run = pair.0.run_unprivileged(&args).code(1);
        assert!(run.stderr.contains("keep"), "{run}");
        assert_eq!(snapshots(), before, "{run}");
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).unwrap();
        let _ = pair.run("b", &["restore", "--apply"]).code(0);
        assert_eq!(pair.text("b", SKILL), "one");
        assert_eq!(pair.text("b", second), "one");
    }
}

#[test]
fn a_restored_conversation_stays_if_archived_sessions_links_to_its_folder() {
    let pair = Pair::new();
    pair.configure("b", "[conflict]\npolicy = \"manual_abort\"\n");
    let [_, of_b] = pair.diverge();
    let resolve = ["resolve", ID, "--keep", "cloud", "--json"];
    let json = pair.run("b", &resolve).code(0).json();
    let snapshot = json["snapshot"].as_str().expect("a snapshot");
    pair.apply("b");
    let home = pair.home("b");
    let day = home.join(ROLLOUT);
    let day = day.parent().unwrap();
    std::os::unix::fs::symlink(day, home.join("archived_sessions")).unwrap();
    for _ in 0..2 {
        let back = [
            "restore", "--from", snapshot, "--target", "local", "--apply",
        ];
        let _ = pair.run("b", &back).code(0);
        assert_eq!(pair.text("b", ROLLOUT), of_b);
    }
}
