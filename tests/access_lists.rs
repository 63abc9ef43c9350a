//! Access lists, attributes and groups of what a restore and a sync replace or create.

use crate::support::env::TestEnv;
use crate::support::injection::{can_inject, traced};
use crate::support::pair::{Pair, SKILL};
use crate::support::sample::{FIRST, backup, put, rollout, sample_home, text};
use crate::support::skips::skip;
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const LIST: &str = "system.posix_acl_access";
const LIST_OF_NEW_ENTRIES: &str = "system.posix_acl_default";

/// Returns an access list that gives the user 1000 this access, and others none.
fn list(access: u16) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let entries = [
        (1_u16, 7, NO_ID),
        (2, access, 1000),
        (4, 5, NO_ID),
        (0x10, 7, NO_ID),
        (0x20, 0, NO_ID),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, access, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(u16::to_le_bytes(access));
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn read(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut bytes = [0; 256];
    let length = getxattr(path, name, &mut bytes).ok()?;
    Some(bytes[..length].to_vec())
}

/// Sets an attribute. Returns false on a disk without such attributes.
fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    let done = setxattr(path, name, value, XattrFlags::empty()).is_ok();
    if !done {
        skip("access lists", "the disk of the tests has none");
    }
    done
}

#[track_caller]
fn assert_kept(path: &Path, name: &str, value: &[u8]) {
    assert_eq!(
        read(path, name).as_deref(),
        Some(value),
        "{}",
        path.display()
    );
}

#[test]
fn each_form_of_a_restore_keeps_access_lists_attributes_and_setgid() {
    for args in [&[][..], &["--only", "skills"], &["--merge"]] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        let (folder, skill) = (home.join("skills/mine"), home.join("skills/mine/SKILL.md"));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o2750)).unwrap();
        let archive = text(&backup(&env, &[]));
        for path in [&home, &folder, &skill] {
            if !set(path, LIST, &list(5)) || !set(path, "user.origin", b"mine") {
                return;
            }
        }
        let _ = set(&folder, LIST_OF_NEW_ENTRIES, &list(7));
        fs::write(&skill, "changed").unwrap();
        let _ = env
            .run([&["restore", &archive, "--yes"][..], args].concat())
            .code(0);
        assert_eq!(fs::read_to_string(&skill).unwrap(), "# mine\n");
        for path in [&home, &folder, &skill] {
            assert_kept(path, LIST, &list(5));
            assert_kept(path, "user.origin", b"mine");
        }
        assert_kept(&folder, LIST_OF_NEW_ENTRIES, &list(7));
        assert_eq!(
            folder.metadata().unwrap().mode() & 0o2000,
            0o2000,
            "{args:?}"
        );
    }
}

#[test]
fn a_new_file_has_the_access_list_of_its_folder_within_its_own_mode() {
    for args in [&[][..], &["--session", FIRST]] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        let archive = text(&backup(&env, &[]));
        if !set(&home.join("sessions"), LIST_OF_NEW_ENTRIES, &list(7)) {
            return;
        }
        fs::remove_dir_all(home.join("sessions/2026")).unwrap();
        let _ = env
            .run([&["restore", &archive, "--yes"][..], args].concat())
            .code(0);
        let file = home.join(rollout(FIRST));
        for folder in file.ancestors().skip(1).take(3) {
            assert_kept(folder, LIST_OF_NEW_ENTRIES, &list(7));
        }
        // The user 1000 is in the list, but the archived mode gives nobody but the owner more than reading.
        let found = read(&file, LIST).expect("a list");
        assert_eq!(found[12..20], list(7)[12..20], "{args:?}");
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640);
    }
}

#[test]
fn restored_files_and_the_staging_folder_have_no_list_of_the_folder_above_the_home() {
    for args in [
        &[][..],
        &["--merge"],
        &["--only", "skills"],
        &["--session", FIRST],
    ] {
        let env = TestEnv::new();
        let home = sample_home(&env).canonicalize().unwrap();
        let archive = text(&backup(&env, &[]));
        if !set(&env.path("home"), LIST_OF_NEW_ENTRIES, &list(7)) {
            return;
        }
        let skill = put(&env, "skills/mine/SKILL.md", "changed");
        fs::remove_dir_all(home.join("sessions/2026")).unwrap();
        let args = [&["restore", &archive, "--yes"][..], args].concat();
        if can_inject() {
            // Killed at the first exchange.
            let kill = "inject=renameat2:signal=KILL";
            let options = ["-e", "trace=renameat2", "-e", kill].map(str::to_owned);
            let (output, log) = traced(&env, &options, &args);
            assert!(!output.status.success(), "{log}");
            let staging = env.path("home/..codex.codex-manager-restore");
            for entry in walkdir::WalkDir::new(&staging) {
                let path = entry.unwrap().into_path();
                assert_eq!(read(&path, LIST), None, "{args:?}: {}", path.display());
            }
        }
        let _ = env.run(&args).code(0);
        for path in [
            &home,
            &skill,
            &home.join("skills/mine"),
            &home.join(rollout(FIRST)),
        ] {
            assert_eq!(read(path, LIST), None, "{args:?}: {}", path.display());
            assert_eq!(read(path, LIST_OF_NEW_ENTRIES), None, "{args:?}");
        }
    }
}

#[test]
fn a_file_that_a_sync_replaces_keeps_its_access_list_and_attributes() {
    let pair = Pair::synced(&[(SKILL, "one")]);
    let skill = pair.home("b").join(SKILL);
    if !set(&skill, LIST, &list(5)) || !set(&skill, "user.origin", b"mine") {
        return;
    }
    pair.put("a", SKILL, "two, longer");
    pair.apply("a");
    pair.apply("b");
    assert_eq!(pair.text("b", SKILL), "two, longer");
    assert_kept(&skill, LIST, &list(5));
    assert_kept(&skill, "user.origin", b"mine");
}

#[test]
fn an_undeleted_conversation_keeps_its_attributes() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::remove_file(home.join("state_5.sqlite")).unwrap();
    let file = put(
        &env,
        rollout(FIRST),
        fs::read(home.join(rollout(FIRST))).unwrap(),
    );
    if !set(&file, LIST, &list(5)) || !set(&file, "user.origin", b"mine") {
        return;
    }
    let run = env.run(["storage", "trash", FIRST, "--yes"]).code(0);
    assert!(!file.exists(), "{run}");
    let _ = env.run(["storage", "undelete", FIRST, "--yes"]).code(0);
    assert_kept(&file, LIST, &list(5));
    assert_kept(&file, "user.origin", b"mine");
}
