//! A restore links rollouts that the home has with equal content, instead of unpacking them.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::{Dice, Mount};
use crate::support::hostile::Parts;
use crate::support::injection::{
    can_inject, kill_numbers, run_ends_before_call, run_stopped_at, traced,
};
use crate::support::sample::{
    FIRST, SECOND, backup, comparable, line, put, rollout, sample_home, sample_home_at, set_time,
    text,
};
use codex_manager_core::archive::reader::ArchiveReader;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

fn inode(path: &Path) -> (u64, u64) {
    let meta = fs::symlink_metadata(path).expect("metadata");
    (meta.ino(), meta.nlink())
}

/// Restores an archive, and returns the path of the safety backup.
fn restore(env: &TestEnv, archive: &str) -> String {
    let done = env.run(["restore", archive, "--json"]).code(0).json();
    done["safety_backup"].as_str().expect("a backup").to_owned()
}

#[test]
fn only_rollouts_that_differ_are_written() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let before = comparable(&env.tree("home/.codex"));
    let (equal, grown) = (home.join(rollout(FIRST)), home.join(rollout(SECOND)));
    let of_first = fs::read(&equal).expect("read");
    let settings = home.join("config.toml");
    let (of_equal, of_grown, of_settings) = (inode(&equal), inode(&grown), inode(&settings));
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&grown)
        .expect("open");
    file.write_all(line(99).as_bytes()).expect("append");
    drop(file);

    let safety = restore(&env, &archive);
    assert_same_tree(&before, &comparable(&env.tree("home/.codex")));
    assert_eq!(
        inode(&equal),
        of_equal,
        "the rollout was written again, or has another hard link"
    );
    assert_ne!(
        inode(&grown).0,
        of_grown.0,
        "the live file was changed in place"
    );
    // The restore edits staged settings, which would change the live file through a hard link.
    assert_ne!(inode(&settings).0, of_settings.0);
    // The safety backup is complete; it copies the equal rollouts from the archive.
    let _ = env.run(["verify", "--all"]).code(0);
    fs::remove_dir_all(&home).expect("remove");
    let _ = env.run(["restore", &safety]).code(0);
    assert!(
        fs::read_to_string(&grown)
            .expect("read")
            .ends_with(&line(99))
    );
    assert_eq!(fs::read(&equal).expect("read"), of_first);
}

/// Size, mtime and mode of the file equal those of the archive; only its content differs.
#[test]
fn a_rollout_with_silent_corruption_is_replaced_by_the_archived_one() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let path = home.join(rollout(FIRST));
    set_time(&path, 1_790_000_000, 5);
    let archive = text(&backup(&env, &[]));
    let good = fs::read(&path).expect("read");
    let mut rotten = good.clone();
    rotten[10] ^= 1;
    fs::write(&path, &rotten).expect("write");
    set_time(&path, 1_790_000_000, 5);

    let safety = restore(&env, &archive);
    assert_eq!(fs::read(&path).expect("read"), good);
    let _ = env.run(["restore", &safety]).code(0);
    assert_eq!(fs::read(&path).expect("read"), rotten);
}

#[test]
fn an_equal_rollout_gets_the_archived_mtime_and_mode() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let before = comparable(&env.tree("home/.codex"));
    set_time(&home.join(rollout(FIRST)), 1_700_000_000, 0);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(home.join(rollout(SECOND)), readable).expect("chmod");
    let _ = env.run(["restore", &archive]).code(0);
    assert_same_tree(&before, &comparable(&env.tree("home/.codex")));
}

/// A restore of the whole archive refuses a damaged one, also where the home has the same files.
#[test]
fn damage_of_members_that_are_not_written_is_found() {
    let env = TestEnv::new();
    sample_home(&env);
    put(
        &env,
        "sessions/2026/11/18/rollout-big.jsonl",
        line(7).repeat(100_000),
    );
    let archive = backup(&env, &[]);
    let before = comparable(&env.tree("home/.codex"));
    let whole = fs::read(&archive).expect("read");
    let listed = ArchiveReader::open(&archive).expect("open");
    let members = listed.contents().members.clone();
    assert!(members.len() > 3, "{members:?}");
    for member in members {
        let mut bytes = whole.clone();
        let middle = usize::try_from(member.offset + member.len / 2).expect("offset");
        bytes[middle] ^= 1;
        fs::write(&archive, &bytes).expect("write");
        let refused = env.run(["restore", &text(&archive)]);
        assert_eq!(refused.code, 5, "{member:?}: {refused}");
        assert_same_tree(&before, &comparable(&env.tree("home/.codex")));
    }
}

/// The index fits the member, but the content is not the listed one. The safety backup would copy it.
#[test]
fn wrong_content_of_members_that_are_not_written_is_found() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = backup(&env, &[]);
    let mut parts = Parts::of(&fs::read(&archive).expect("read"));
    let name = text(&rollout(FIRST));
    parts.entry(&name).content[10] ^= 1;
    fs::write(&archive, parts.pack()).expect("write");
    let before = comparable(&env.tree("home/.codex"));
    let _ = env.run(["verify", &text(&archive)]).code(5);
    let _ = env.run(["restore", &text(&archive)]).code(5);
    assert_same_tree(&before, &comparable(&env.tree("home/.codex")));
}

/// A home that is larger than the free space can be restored over itself.
#[test]
fn equal_rollouts_need_no_disk_space() {
    let env = TestEnv::new();
    let Some(_mount) = Mount::tmpfs(&env.codex_home(), 8192) else {
        return;
    };
    let home = sample_home(&env);
    let noise = Dice::seeded(3).bytes(5 << 20);
    let big = put(&env, "sessions/2026/11/18/big.jsonl", noise);
    let archive = text(&backup(&env, &[]));
    let before = comparable(&env.tree("home/.codex"));
    put(&env, "AGENTS.md", "changed");
    let done = env.run(["restore", &archive]).code(0);
    assert!(done.stdout.contains("; 3 were unchanged"), "{done}");
    assert_same_tree(&before, &comparable(&env.tree("home/.codex")));
    // With other content the home does not fit.
    fs::write(&big, Dice::seeded(4).bytes(5 << 20)).expect("write");
    let full = env.run(["restore", &archive]).code(1);
    assert!(full.stderr.contains("not enough disk space"), "{full}");
    assert!(home.join("AGENTS.md").exists());
}

/// Syncing a whole file system waits for the writes of all programs, so it is kept for many new files.
#[test]
fn equal_rollouts_do_not_make_a_restore_sync_the_whole_disk() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let place = |n: usize| rollout(&format!("01a1f790-0000-7000-8000-{n:012x}"));
    let many = 1000..1400;
    for n in many.clone() {
        put(&env, place(n), line(n));
    }
    let archive = text(&backup(&env, &[]));
    let synced_disks = || {
        let options = ["-e".to_owned(), "trace=syncfs".to_owned()];
        let (output, log) = traced(&env, &options, &["restore", &archive]);
        assert!(output.status.success(), "{output:?}");
        log.matches("syncfs(").count()
    };
    put(&env, place(1000), "changed\n");
    assert_eq!(synced_disks(), 0);
    for n in many {
        put(&env, place(n), "changed\n");
    }
    assert_ne!(synced_disks(), 0);
}

/// The old and the new home share an equal rollout, so a turn added after a kill is in both.
#[test]
fn i2_a_turn_added_after_a_killed_restore_survives_its_recovery() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::on_disk();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let path = home.join(rollout(FIRST));
    let args = ["restore", &archive, "--no-safety-backup"];
    let mut kills = 0;
    for call in ["linkat", "renameat2", "unlinkat"] {
        for number in kill_numbers(40) {
            // Each restore has another file to replace.
            put(&env, "AGENTS.md", format!("{call} {number}"));
            if run_ends_before_call(&env, &args, call, number) {
                break;
            }
            kills += 1;
            env.tick();
            let before = fs::read_to_string(&path).expect("read");
            let mut file = fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .expect("open");
            file.write_all(line(number).as_bytes()).expect("append");
            drop(file);
            let run = env.run(["recommend"]);
            let after = fs::read_to_string(&path).expect("read");
            assert_eq!(
                after,
                before.clone() + &line(number),
                "{call} {number}: {run}"
            );
            assert!(!run.stderr.contains("kept in "), "{call} {number}: {run}");
            // Equal again for the next restore.
            fs::File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(before.len() as u64))
                .expect("cut");
            let _ = env.run(args).code(0);
        }
    }
    assert!(kills > 3, "{kills}");
}

/// On an overlay over two file systems, a link has a different identity than the file that it links.
#[test]
fn a_home_in_a_lower_overlay_layer_on_another_disk_is_restored() {
    let mut env = TestEnv::on_disk();
    sample_home_at(&env.path("below/.codex"));
    let Some(_memory) = Mount::tmpfs(&env.path("layers"), 16 << 10) else {
        return;
    };
    let Some(_lower) = Mount::bind(&env.path("below"), &env.path("layers/lower")) else {
        return;
    };
    let Some(_mount) = Mount::overlay(&env.path("layers"), &env.path("merged")) else {
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

/// The archive has the files of the folder once for each link, so a linked file would be written by the other one.
#[test]
fn a_killed_restore_leaves_rollouts_below_two_links_to_one_folder_unchanged() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::on_disk();
    let home = sample_home(&env);
    fs::rename(home.join("sessions"), env.path("shared")).expect("move");
    for link in ["sessions", "all"] {
        symlink(env.path("shared"), home.join(link)).expect("link");
    }
    let path = home.join(rollout(FIRST));
    set_time(&path, 1_790_000_000, 5);
    let archive = text(&backup(&env, &[]));
    let before = env.tree("shared");
    let args = ["restore", &archive, "--no-safety-backup"];
    assert!(
        !run_ends_before_call(&env, &args, "utimensat", 1),
        "not killed"
    );
    assert_same_tree(&before, &env.tree("shared"));
    let _ = env.run(["recommend"]);
    assert_same_tree(&before, &env.tree("shared"));
}

/// More files change than are exchanged one by one, so the rest of the home is linked.
#[test]
fn a_restore_of_sessions_removes_another_version_of_a_conversation_in_archived_sessions() {
    let env = TestEnv::new();
    sample_home(&env);
    let place = |n: usize| rollout(&format!("01a1f790-0000-7000-8000-{n:012x}"));
    for n in 0..20 {
        put(&env, place(n), line(n));
    }
    let name = place(1);
    let other = Path::new("archived_sessions").join(name.file_name().expect("name"));
    let other = put(&env, other, "{\"another\":\"version\"}\n");
    let archive = text(&backup(&env, &[]));
    put(&env, place(2), "changed\n");
    let args = ["restore", &archive, "--only", "sessions", "--json"];
    let removed = env.run(args).code(0).json()["removed"].clone();
    assert_eq!(removed.as_array().expect("list").len(), 1, "{removed}");
    assert!(!other.exists(), "{removed}");
}

#[test]
fn a_rollout_written_between_comparison_and_exchange_stops_the_restore() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::on_disk();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    let path = home.join(rollout(FIRST));
    // The second call gives the safety backup its name.
    let output = run_stopped_at(&env, &["restore", &archive], ("renameat2", 2), || {
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|file| file.set_len(5)).expect("cut");
    });
    let output = output.expect("stopped");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(
        message.contains("files were written during the command"),
        "{message}"
    );
    assert!(message.contains(FIRST), "{message}");
    let agents = fs::read_to_string(home.join("AGENTS.md")).expect("read");
    assert_eq!(agents, "changed");
    let _ = env.run(["restore", &archive]).code(0);
    assert!(fs::metadata(&path).expect("metadata").len() > 5);
}

#[test]
fn a_rollout_that_codex_expands_during_a_merge_stops_the_restore() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::on_disk();
    let home = sample_home(&env);
    let plain = home.join(rollout(FIRST));
    let compressed = plain.with_extension("jsonl.zst");
    let content = fs::read(&plain).expect("read");
    fs::write(&compressed, zstd::encode_all(&*content, 1).expect("encode")).expect("write");
    fs::remove_file(&plain).expect("remove");
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    // The folders of the stage are created after the plan.
    let args = ["restore", &archive, "--merge"];
    let output = run_stopped_at(&env, &args, ("linkat", 1), || {
        fs::write(&plain, &content).expect("write");
        fs::remove_file(&compressed).expect("remove");
    });
    let output = output.expect("stopped");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    let expected = "files were written during the command";
    assert!(
        message.contains(expected) && message.contains(FIRST),
        "{message}"
    );
    assert_eq!(fs::read(&plain).expect("read"), content);
    let _ = env.run(["restore", &archive, "--merge"]).code(0);
    assert!(fs::metadata(&plain).is_ok() != fs::metadata(&compressed).is_ok());
}
