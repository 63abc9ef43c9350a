//! `storage shrink` and `expand` with damaged, unusual and changing files lose nothing.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::fake_codex::FakeCodex;
use crate::support::faults::Mount;
use crate::support::injection::{can_inject, run_stopped_at};
use crate::support::sample::{put, set_time};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// 2026-10-01, seven weeks before the tests' clock.
const OLD: u64 = 1_790_812_800;

/// Creates an environment with one idle rollout. Also returns its path and text.
fn home() -> (TestEnv, FakeCodex, PathBuf, Vec<u8>) {
    let mut env = TestEnv::new();
    let codex = FakeCodex::new(&env.path("codex")).version("codex-cli 0.169.0");
    env.set("PATH", format!("{}:/usr/bin:/bin", codex.dir().display()));
    let id = "01a10000-0000-7000-8000-000000000001";
    let meta =
        format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\",\"cwd\":\"/one\"}}}}\n");
    let line = "{\"type\":\"event_msg\",\"payload\":\"words that repeat\"}\n";
    let text = [meta.as_bytes(), line.repeat(2000).as_bytes()].concat();
    let path = format!("sessions/2026/10/01/rollout-2026-10-01T00-00-00-{id}.jsonl");
    let path = put(&env, path, &text);
    set_time(&path, OLD, 0);
    (env, codex, path, text)
}

type Change = fn(&mut Vec<u8>);

fn zst(path: &Path) -> PathBuf {
    path.with_extension("jsonl.zst")
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Returns the action and the reason of the only item.
#[track_caller]
fn item(run: &Run) -> (String, String) {
    let document = run.json();
    let items = document["items"].as_array().expect("items");
    assert_eq!(items.len(), 1, "{document}");
    let text = |key: &str| items[0][key].as_str().unwrap_or_default().to_owned();
    (text("action"), text("reason"))
}

#[test]
fn a_damaged_compressed_file_never_replaces_the_plain_one_and_expand_leaves_it_unchanged() {
    let damages: [(&str, Change); 4] = [
        ("cut", |bytes| bytes.truncate(bytes.len() - 5)),
        ("garbage at its end", |bytes| bytes.extend([0x55; 100])),
        ("a changed byte", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
        }),
        ("nothing in it", Vec::clear),
    ];
    for (damage, change) in damages {
        let (env, _codex, path, text) = home();
        let mut bytes = packed(&text);
        change(&mut bytes);
        fs::write(zst(&path), &bytes).unwrap();
        // A plain file beside the compressed one takes precedence: it stays, or replaces a partial file.
        let _ = env.run(["storage", "shrink"]);
        let kept = fs::read(&path).or_else(|_| zstd::decode_all(fs::File::open(zst(&path))?));
        assert_eq!(kept.unwrap(), text, "{damage}");
        let _ = fs::remove_file(&path);
        fs::write(zst(&path), &bytes).unwrap();
        let before = env.tree("home/.codex/sessions");
        let run = env.run(["storage", "expand", "--json"]).code(6);
        assert_eq!(item(&run).0, "fail", "{damage}: {run}");
        assert_same_tree(&before, &env.tree("home/.codex/sessions"));
    }
}

#[test]
fn a_file_that_grows_while_it_is_compressed_stays() {
    if !can_inject() {
        return;
    }
    // The file grows before the copy is compared, and after that.
    for call in ["fchmod", "fsync", "renameat2"] {
        let (env, _codex, path, text) = home();
        // A new folder is flushed before the file is read.
        fs::create_dir(env.codex_home().join("thread-writer-locks")).unwrap();
        let more = b"{\"type\":\"event_msg\"}\n";
        let args = ["storage", "shrink", "--json"];
        let grow = || {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(more).unwrap();
        };
        let Some(output) = run_stopped_at(&env, &args, (call, 1), grow) else {
            panic!("{call} is not called");
        };
        let run = Run::of_output(output);
        let (action, reason) = item(&run);
        assert_eq!(
            (&*action, &*reason),
            ("skip", "the conversation changed in the meantime"),
            "{call}: {run}"
        );
        assert_eq!(
            fs::read(&path).unwrap(),
            [&text[..], more].concat(),
            "{call}"
        );
        assert!(!zst(&path).exists(), "{call}");
    }
}

#[test]
fn a_linked_folder_of_conversations_works_and_a_linked_rollout_is_left_alone() {
    let (env, _codex, path, text) = home();
    let real = env.path("elsewhere");
    fs::rename(env.codex_home().join("sessions"), &real).unwrap();
    symlink(&real, env.codex_home().join("sessions")).unwrap();
    let _ = env.run(["storage", "shrink"]).code(0);
    assert!(!path.exists() && zst(&path).exists());
    let _ = env.run(["storage", "expand"]).code(0);
    assert_eq!(fs::read(&path).unwrap(), text);
    // A process that has the file open through the other name is detected.
    let name = path
        .strip_prefix(env.codex_home().join("sessions"))
        .unwrap();
    let open = fs::File::open(real.join(name)).unwrap();
    let run = env.run(["storage", "shrink", "--json"]).code(0);
    assert_eq!(item(&run).1, "a process has it open");
    drop(open);

    let outside = env.path("outside.jsonl");
    fs::rename(&path, &outside).unwrap();
    symlink(&outside, &path).unwrap();
    let before = env.tree("");
    let _ = env.run(["storage", "shrink", "--older-than", "0s"]);
    assert_same_tree(
        &before.only(&["outside.jsonl", "elsewhere"]),
        &env.tree("").only(&["outside.jsonl", "elsewhere"]),
    );
}

#[test]
fn a_hard_link_to_a_shrunk_or_trashed_rollout_keeps_its_content() {
    let (env, _codex, path, text) = home();
    let other = env.path("copy.jsonl");
    fs::hard_link(&path, &other).unwrap();
    let _ = env.run(["storage", "shrink"]).code(0);
    assert!(zst(&path).exists());
    assert_eq!(fs::read(&other).unwrap(), text);
    let _ = env.run(["storage", "expand"]).code(0);
    assert_eq!(fs::read(&path).unwrap(), text);
    let _ = env.run(["storage", "trash", "01a1"]).code(0);
    let _ = env.run(["storage", "undelete", "01a1"]).code(0);
    assert_eq!(
        (fs::read(&path).unwrap(), fs::read(&other).unwrap()),
        (text.clone(), text)
    );
}

#[test]
fn conversations_with_non_unicode_names_are_converted_trashed_and_reported() {
    let (mut env, _codex, path, text) = home();
    let folder = env
        .codex_home()
        .join("sessions")
        .join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&folder).unwrap();
    let odd = folder.join(path.file_name().unwrap());
    fs::rename(&path, &odd).unwrap();
    let run = env.run(["storage", "shrink", "--json"]).code(0);
    assert_eq!(item(&run).0, "compress");
    assert!(zst(&odd).exists());
    let run = env.run(["storage", "trash", "01a1", "--json"]).code(0);
    assert_eq!(item(&run).0, "trash");
    let _ = env.run(["storage", "undelete", "01a1", "--json"]).code(0);
    let _ = env.run(["storage", "expand", "--json"]).code(0);
    assert_eq!(fs::read(&odd).unwrap(), text);
    // The home itself gets such a name, for the databases.
    let home = env.path("home").join(OsStr::from_bytes(b"\xfe"));
    fs::rename(env.codex_home(), &home).unwrap();
    let database = rusqlite::Connection::open(home.join("logs_2.sqlite")).unwrap();
    database
        .execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(200000)); DELETE FROM t;")
        .unwrap();
    drop(database);
    env.set("CODEX_HOME", &home);
    let _: Value = env.run(["storage", "vacuum", "--json"]).code(0).json();
}

#[test]
fn a_time_in_the_future_is_not_old_and_is_kept() {
    let (env, _codex, path, _) = home();
    set_time(&path, 1_900_000_000, 5);
    let time = path.metadata().unwrap().modified().unwrap();
    let before = env.tree("home/.codex/sessions");
    let _ = env.run(["storage", "shrink"]).code(0);
    let _ = env.run(["storage", "trash", "--older-than", "1d"]).code(0);
    assert_same_tree(&before, &env.tree("home/.codex/sessions"));
    let _ = env.run(["storage", "shrink", "--older-than", "0s"]).code(0);
    assert_eq!(zst(&path).metadata().unwrap().modified().unwrap(), time);
    let _ = env.run(["storage"]).code(0);
}

#[test]
fn shrink_in_a_read_only_home_fails_and_changes_nothing() {
    let (env, _codex, path, text) = home();
    let home = env.codex_home();
    let Some(_mount) = Mount::bind(&home, &home) else {
        return;
    };
    let read_only = std::process::Command::new("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(&home)
        .status();
    assert!(read_only.unwrap().success());
    let run = env.run(["storage", "shrink", "--json"]).code(6);
    assert_eq!(item(&run).0, "fail", "{run}");
    let run = env.run(["storage", "trash", "01a1", "--json"]).code(6);
    assert_eq!(item(&run).0, "skip", "{run}");
    assert_eq!(fs::read(&path).unwrap(), text);
    let listed = env.run(["storage", "undelete", "--json"]).code(0).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 0, "{listed}");
}
