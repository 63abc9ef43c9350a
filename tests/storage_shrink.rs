//! `storage shrink` and `storage expand`: converted files, skipped files, and failures.

use crate::support::env::{Run, TestEnv, Tree, assert_same_tree};
use crate::support::fake_codex::FakeCodex;
use crate::support::faults::{Dice, Mount};
use crate::support::held_lock::HeldLock;
use crate::support::injection::{Fault, can_inject, points, run_with_fault, sample_evenly};
use crate::support::pauses::wait_until;
use crate::support::sample::{put, set_time};
use codex_manager_core::codex::rollout::open_plain;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// 2026-10-01, seven weeks before the tests' clock.
const OLD: u64 = 1_790_812_800;
/// Two days before the tests' clock.
const RECENT: u64 = 1_795_000_000;

fn id(n: u32) -> String {
    format!("01a10000-0000-7000-8000-{n:012x}")
}

/// Returns the text of a rollout of about `bytes` bytes with the working folder `cwd`.
fn text(n: u32, cwd: &str, bytes: usize) -> String {
    let mut dice = Dice::seeded(n.into());
    let mut text = format!(
        "{{\"timestamp\":\"2026-10-01T00:00:00Z\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{}\",\"cwd\":\"{cwd}\"}}}}\n",
        id(n)
    );
    while text.len() < bytes {
        let words: Vec<_> = (0..20).map(|_| dice.below(500).to_string()).collect();
        text += "{\"type\":\"event_msg\",\"payload\":\"";
        text += &words.join(" ");
        text += "\"}\n";
    }
    text
}

/// Writes a rollout with this modification time.
fn rollout(env: &TestEnv, n: u32, cwd: &str, bytes: usize, secs: u64) -> PathBuf {
    let name = format!("rollout-2026-10-01T00-00-00-{}.jsonl", id(n));
    let path = put(
        env,
        format!("sessions/2026/10/01/{name}"),
        text(n, cwd, bytes),
    );
    set_time(&path, secs, 123_456_789);
    path
}

fn zst(path: &Path) -> PathBuf {
    path.with_extension("jsonl.zst")
}

/// Creates an environment whose Codex prints this version.
fn with_codex(version: &str) -> (TestEnv, FakeCodex) {
    let mut env = TestEnv::new();
    let codex = FakeCodex::new(&env.path("codex")).version(&format!("codex-cli {version}"));
    env.set("PATH", format!("{}:/usr/bin:/bin", codex.dir().display()));
    fs::create_dir_all(env.codex_home()).unwrap();
    (env, codex)
}

/// Returns the number, the action and the reason of each conversation in a report.
fn actions(run: &Run) -> Vec<(String, String, String)> {
    let document = run.json();
    let items = document["items"].as_array().expect("items");
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let row = |item| {
        let id = text(item, "session_id");
        let n = id.rsplit('0').next().unwrap_or_default().to_owned();
        (n, text(item, "action"), text(item, "reason"))
    };
    let mut rows: Vec<_> = items.iter().map(row).collect();
    rows.sort();
    rows
}

fn row(n: &str, action: &str, reason: &str) -> (String, String, String) {
    (n.into(), action.into(), reason.into())
}

#[test]
fn shrink_and_expand_are_inverse() {
    let (env, _codex) = with_codex("0.169.0");
    let first = rollout(&env, 1, "/one", 400_000, OLD);
    fs::set_permissions(&first, fs::Permissions::from_mode(0o640)).unwrap();
    let archived = format!(
        "archived_sessions/rollout-2026-10-01T00-00-00-{}.jsonl",
        id(2)
    );
    let archived = put(&env, archived, text(2, "/two", 40_000_000));
    set_time(&archived, OLD, 1);
    let before = env
        .tree("home/.codex")
        .only(&["sessions", "archived_sessions"]);
    let times = [&first, &archived].map(|path| path.metadata().unwrap().modified().unwrap());

    let run = env.run(["storage", "shrink", "--json"]).code(0);
    assert_eq!(
        actions(&run),
        [row("1", "compress", ""), row("2", "compress", "")]
    );
    let document = run.json();
    let after: u64 = [&first, &archived]
        .iter()
        .map(|p| zst(p).metadata().unwrap().len())
        .sum();
    assert_eq!(document["after_bytes"], after);
    assert!(document["before_bytes"].as_u64().unwrap() > 2 * after);
    for (path, time) in [&first, &archived].iter().zip(times) {
        assert!(!path.exists());
        assert_eq!(zst(path).metadata().unwrap().modified().unwrap(), time);
    }
    assert_eq!(
        zst(&first).metadata().unwrap().permissions().mode() & 0o777,
        0o640
    );
    // The frame has a content checksum: bit 2 of the frame header descriptor.
    assert_eq!(fs::read(zst(&archived)).unwrap()[4] & 0b100, 0b100);

    let run = env.run(["storage", "expand", "--json"]).code(0);
    assert_eq!(
        actions(&run),
        [row("1", "expand", ""), row("2", "expand", "")]
    );
    assert_same_tree(
        &before,
        &env.tree("home/.codex")
            .only(&["sessions", "archived_sessions"]),
    );
    for (path, time) in [&first, &archived].iter().zip(times) {
        assert_eq!(path.metadata().unwrap().modified().unwrap(), time);
    }
    let locks = fs::read_dir(env.codex_home().join("thread-writer-locks")).unwrap();
    let locks: Vec<_> = locks.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(locks, [".coordination.lock"]);
}

#[test]
fn large_rollouts_of_one_conversation_are_all_converted() {
    let (env, _codex) = with_codex("0.169.0");
    // Larger than the limit above which the next rollout is compressed while one is compared.
    let text = text(1, "/one", 1 << 20).repeat(33);
    let names = [id(1), format!("{}_{}", id(1), id(2))];
    let paths = names.map(|name| {
        let path = format!("sessions/2026/10/01/rollout-2026-10-01T00-00-00-{name}.jsonl");
        let path = put(&env, path, &text);
        set_time(&path, OLD, 0);
        path
    });

    let run = env.run(["storage", "shrink", "--json"]).code(0);
    assert_eq!(actions(&run), [(); 2].map(|()| row("1", "compress", "")));
    assert!(
        paths
            .iter()
            .all(|path| !path.exists() && zst(path).exists())
    );
    let run = env.run(["storage", "expand", "--json"]).code(0);
    assert_eq!(actions(&run), [(); 2].map(|()| row("1", "expand", "")));
    assert!(
        paths
            .iter()
            .all(|path| fs::read_to_string(path).unwrap() == text)
    );
}

#[test]
fn files_of_killed_conversions_are_removed_even_if_nothing_is_converted() {
    let (env, _codex) = with_codex("0.169.0");
    let young = rollout(&env, 1, "/one", 400_000, u64::from(u32::MAX));
    let left = ["sessions/2026/10/02", "archived_sessions"].map(|folder| {
        let path = format!("{folder}/.codex-manager-tmp-AbCd12");
        put(&env, path, "half of a conversation")
    });
    for verb in ["shrink", "expand"] {
        let _ = env.run(["storage", verb, "--dry-run"]).code(0);
        assert!(left.iter().all(|path| path.exists()), "{verb}");
    }
    let run = env.run(["storage", "shrink"]).code(0);
    assert!(run.stdout.contains("no conversations to compress"), "{run}");
    assert!(young.exists() && !left.iter().any(|path| path.exists()));
}

#[test]
fn age_size_project_and_session_choose_what_is_compressed() {
    let (env, _codex) = with_codex("0.137.0");
    let _ = rollout(&env, 1, "/one", 100_000, OLD);
    let _ = rollout(&env, 2, "/one/sub", 100_000, OLD);
    let _ = rollout(&env, 3, "/other", 100_000, OLD);
    let _ = rollout(&env, 4, "/one", 100_000, RECENT);
    let _ = rollout(&env, 5, "/one", 10_000, OLD);
    let chosen = |args: &[&str]| -> Vec<String> {
        let args = [&["storage", "shrink", "--dry-run", "--json"], args].concat();
        let rows = actions(&env.run(args).code(0));
        rows.into_iter().map(|(n, ..)| n).collect()
    };
    let before = env.tree("home");
    assert_eq!(chosen(&[]), ["1", "2", "3"]);
    assert_eq!(chosen(&["--project", "/one"]), ["1", "2"]);
    assert_eq!(chosen(&["--older-than", "1d"]), ["1", "2", "3", "4"]);
    assert_eq!(chosen(&["--min-size", "1kB"]), ["1", "2", "3", "5"]);
    assert_eq!(
        chosen(&["--session", &id(4), "--session", &id(5)]),
        ["4", "5"]
    );
    assert_eq!(
        chosen(&["--session", "01A10000-0000-7000-8000-000000000004"]),
        ["4"]
    );
    assert_same_tree(&before, &env.tree("home"));
    let database = env.path("home/.codex/state_5.sqlite");
    let database = rusqlite::Connection::open(database).expect("create");
    let sql = "CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL, title TEXT NOT NULL);";
    database.execute_batch(sql).expect("create");
    let row = "INSERT INTO threads VALUES(?1, '', 'release notes')";
    assert_eq!(database.execute(row, [id(4)]), Ok(1));
    assert_eq!(chosen(&["--session", "Release"]), ["4"]);
    let run = env.run(["storage", "shrink", "--session", "01a1"]).code(1);
    assert!(
        run.stderr.contains("matches several conversations"),
        "{run}"
    );
    let run = env.run(["storage", "shrink", "--session", "ffff"]).code(1);
    assert!(run.stderr.contains("no such conversation"), "{run}");
    for bad in [
        ["--older-than", "x"],
        ["--min-size", "9x"],
        ["--max-time", "x"],
    ] {
        let _ = env.run([&["storage", "shrink"], &bad[..]].concat()).code(4);
    }
    let run = env
        .run(["storage", "shrink", "--max-time", "0s", "--json"])
        .code(0);
    let skipped = actions(&run);
    assert!(!skipped.is_empty(), "{run}");
    assert!(
        skipped.iter().all(|(_, action, _)| action == "skip"),
        "{run}"
    );
    assert_same_tree(
        &before.only(&[".codex/sessions"]),
        &env.tree("home").only(&[".codex/sessions"]),
    );
}

#[test]
fn the_report_has_a_row_for_each_project_largest_gain_first() {
    let (env, _codex) = with_codex("0.169.0");
    let _ = rollout(&env, 1, "/small", 100_000, OLD);
    let _ = rollout(&env, 2, "/large", 300_000, OLD);
    let _ = rollout(&env, 3, "/large", 300_000, OLD);
    for (args, end) in [
        (&["--dry-run"][..], "would be compressed"),
        (&[], "compressed: 700"),
    ] {
        let run = env.run([&["storage", "shrink"], args].concat()).code(0);
        let lines: Vec<&str> = run.stdout.lines().collect();
        let row = |n: usize| lines[n].split_whitespace().take(2).collect::<Vec<_>>();
        assert_eq!(
            (row(1), row(2)),
            (vec!["/large", "2"], vec!["/small", "1"]),
            "{run}"
        );
        assert!(
            lines[3].starts_with("3 conversations") && lines[3].contains(end),
            "{run}"
        );
    }
}

#[test]
fn a_dry_run_estimates_the_size() {
    let (env, _codex) = with_codex("0.169.0");
    for n in 1..=9 {
        let _ = rollout(&env, n, "/one", 200_000, OLD);
    }
    let estimate = env
        .run(["storage", "shrink", "--dry-run", "--json"])
        .code(0)
        .json();
    let done = env.run(["storage", "shrink", "--json"]).code(0).json();
    let bytes = |document: &Value| document["after_bytes"].as_u64().unwrap();
    assert!(
        bytes(&estimate).abs_diff(bytes(&done)) * 10 < bytes(&done),
        "{estimate}\n{done}"
    );
}

#[test]
fn conversations_in_use_are_skipped() {
    let (env, _codex) = with_codex("0.169.0");
    let locked = rollout(&env, 1, "/one", 100_000, OLD);
    let open = rollout(&env, 2, "/one", 100_000, OLD);
    let lock = format!("thread-writer-locks/{}.lock", id(1));
    let lock = HeldLock::exclusive(&put(&env, lock, ""));
    let file = fs::OpenOptions::new().append(true).open(&open).unwrap();
    let run = env.run(["storage", "shrink", "--json"]).code(0);
    let reasons = [
        row("1", "skip", "Codex has this conversation open"),
        row("2", "skip", "a process has it open"),
    ];
    assert_eq!(actions(&run), reasons);
    assert!(locked.exists() && open.exists());
    drop((lock, file));
    // A program that another test starts at this moment has the files until its exec.
    wait_until("nothing has the conversations open", || {
        let _ = env.run(["storage", "shrink"]).code(0);
        zst(&locked).exists() && zst(&open).exists()
    });
}

#[test]
fn shrink_is_refused_if_codex_cannot_read_compressed_rollouts() {
    for version in ["0.136.0", "dev"] {
        let (env, _codex) = with_codex(version);
        let path = rollout(&env, 1, "/one", 100_000, OLD);
        let run = env.run(["storage", "shrink"]).code(5);
        assert!(run.stderr.contains("0.137"), "{run}");
        assert!(path.exists());
    }
    let mut env = TestEnv::new();
    env.set("PATH", "/nonexistent");
    let _ = rollout(&env, 1, "/one", 100_000, OLD);
    let _ = env.run(["storage", "shrink"]).code(5);
}

#[test]
fn doctor_reports_compressed_conversations_that_codex_does_not_read() {
    let (env, codex) = with_codex("0.169.0");
    let path = rollout(&env, 1, "/one", 100_000, OLD);
    let _ = env.run(["storage", "shrink"]).code(0);
    let check = || {
        let document = env.run(["doctor", "--json"]).json();
        let checks = document["checks"].as_array().unwrap().iter();
        let mut found = checks.filter(|check| check["id"] == "home.compressed");
        found.next().cloned()
    };
    assert_eq!(check(), None);
    let codex = codex.version("codex-cli 0.136.0");
    let found = check().expect("a finding");
    assert_eq!(found["status"], "fail");
    assert_eq!(found["fix"], "codex-manager storage expand");
    let _ = env.run(["storage", "expand"]).code(0);
    assert!(path.exists());
    assert_eq!(check(), None);
    drop(codex);
}

#[test]
fn an_equal_or_partial_second_file_of_a_rollout_is_removed_and_a_different_one_kept() {
    let (env, _codex) = with_codex("0.169.0");
    let compress = |path: &Path, bytes: &[u8]| {
        fs::write(zst(path), zstd::encode_all(bytes, 1).unwrap()).unwrap();
    };
    let equal = rollout(&env, 1, "/one", 100_000, OLD);
    compress(&equal, &fs::read(&equal).unwrap());
    let stale = rollout(&env, 2, "/one", 100_000, OLD);
    let bytes = fs::read(&stale).unwrap();
    compress(&stale, &bytes[..50_000]);
    let other = rollout(&env, 3, "/one", 100_000, OLD);
    compress(&other, b"another text");
    let run = env.run(["storage", "shrink", "--json"]).code(6);
    let diverged = "the plain and the compressed file have different contents";
    let expected = [
        row("1", "compress", ""),
        row("2", "compress", ""),
        row("3", "fail", diverged),
    ];
    assert_eq!(actions(&run), expected);
    assert!(!equal.exists() && !stale.exists() && other.exists());
    assert_eq!(read(&zst(&stale)), bytes);

    // If the plain file is longer, Codex has appended to it.
    fs::write(&stale, [&bytes[..], b"{}\n"].concat()).unwrap();
    let run = env
        .run(["storage", "expand", "--session", &id(2), "--json"])
        .code(0);
    assert_eq!(actions(&run), [row("2", "expand", "")]);
    assert!(!zst(&stale).exists());
    assert!(fs::read(&stale).unwrap().ends_with(b"{}\n"));
}

#[test]
fn incompressible_files_are_not_compressed_and_damaged_ones_are_not_expanded() {
    let (env, _codex) = with_codex("0.169.0");
    let noise = put(
        &env,
        format!("sessions/rollout-2026-10-01T00-00-00-{}.jsonl", id(1)),
        Dice::seeded(1).bytes(100_000),
    );
    set_time(&noise, OLD, 0);
    let run = env.run(["storage", "shrink", "--json"]).code(0);
    assert_eq!(
        actions(&run),
        [row("1", "skip", "compression does not make it smaller")]
    );
    let cut = rollout(&env, 2, "/one", 100_000, OLD);
    let packed = zstd::encode_all(&*fs::read(&cut).unwrap(), 1).unwrap();
    fs::write(zst(&cut), &packed[..packed.len() / 2]).unwrap();
    fs::remove_file(&cut).unwrap();
    let before = env.tree("home/.codex/sessions");
    let run = env.run(["storage", "expand"]).code(6);
    assert!(run.stderr.contains(&id(2)), "{run}");
    assert_same_tree(&before, &env.tree("home/.codex/sessions"));
}

#[test]
fn i3_a_full_disk_loses_nothing() {
    let (env, _codex) = with_codex("0.169.0");
    let Some(_mount) = Mount::tmpfs(&env.codex_home(), 1500) else {
        return;
    };
    let path = rollout(&env, 1, "/one", 400_000, OLD);
    put(&env, "filler", vec![1; 1_050_000]);
    let before = env.tree("home/.codex/sessions");
    let run = env.run(["storage", "shrink", "--json"]).code(6);
    assert_eq!(actions(&run)[0].1, "fail", "{run}");
    assert_same_tree(&before, &env.tree("home/.codex/sessions"));
    fs::remove_file(env.codex_home().join("filler")).unwrap();
    let _ = env.run(["storage", "shrink"]).code(0);
    assert!(zst(&path).exists());
}

/// Returns the text of a plain or compressed rollout.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = open_plain(path).expect("open");
    std::io::Read::read_to_end(&mut reader, &mut bytes).expect("read");
    bytes
}

/// The number of points that the test tries per command and kind of fault.
const POINTS: usize = 12;

#[test]
fn i2_i3_a_conversion_that_fails_anywhere_leaves_a_whole_file() {
    if !can_inject() {
        return;
    }
    let (env, _codex) = with_codex("0.169.0");
    let mut dice = Dice::new();
    for command in ["shrink", "expand"] {
        let texts: Vec<_> = (1..=3)
            .map(|n| {
                let plain = rollout(&env, n, "/one", 60_000, OLD);
                (plain.clone(), fs::read(&plain).unwrap())
            })
            .collect();
        let reset = || {
            for (path, text) in &texts {
                let _ = (fs::remove_file(path), fs::remove_file(zst(path)));
                let (path, text) = match command {
                    "shrink" => (path.clone(), text.clone()),
                    _ => (zst(path), zstd::encode_all(&**text, 1).unwrap()),
                };
                fs::write(&path, text).unwrap();
                set_time(&path, OLD, 0);
            }
        };
        reset();
        let args = ["storage", command];
        let all = points(&env, &args);
        let faults = [
            Fault::Killed,
            Fault::FromThenOn("ENOSPC"),
            Fault::Once("EIO"),
            Fault::Interrupted,
        ];
        let mut tried = 0;
        for fault in faults {
            for point in sample_evenly(POINTS, &all, &mut dice) {
                reset();
                let context = format!("{command} {point:?} {fault:?}");
                let Some(output) = run_with_fault(&env, &args, &point, fault) else {
                    continue;
                };
                tried += 1;
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(!said.contains("time limit"), "{context}: {said}");
                for (path, text) in &texts {
                    let forms = [path.clone(), zst(path)];
                    let forms: Vec<_> = forms.iter().filter(|path| path.exists()).collect();
                    assert!(!forms.is_empty(), "{context}: lost\n{output:?}");
                    for form in forms {
                        assert_eq!(&read(form), text, "{context}\n{output:?}");
                    }
                }
                // The next run completes it.
                let _ = env.run(args).code(0);
                for (path, text) in &texts {
                    let (form, other) = match command {
                        "shrink" => (zst(path), path.clone()),
                        _ => (path.clone(), zst(path)),
                    };
                    assert_eq!(&read(&form), text, "{context}");
                    assert!(!other.exists(), "{context}");
                }
            }
        }
        println!("{command}: {} points, {tried} faults tried", all.len());
        assert!(tried > POINTS, "{tried}");
        // Two signals at once end a command before it removes its temp files. The next run removes them.
        reset();
        let _ = env.run(args).code(0);
        let left = Tree::of(&env.codex_home()).0.into_keys();
        let left: Vec<_> = left
            .filter(|p| p.to_string_lossy().contains("manager-tmp"))
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

#[test]
fn the_undo_of_a_selection_leaves_other_conversations_compressed() {
    let (env, _codex) = with_codex("0.169.0");
    let other = rollout(&env, 1, "/one", 100_000, OLD);
    let chosen = rollout(&env, 2, "/two", 100_000, OLD);
    let all = env.run(["storage", "shrink", "--project", "/one"]).code(0);
    assert!(
        all.stderr.contains("storage expand --project /one\n"),
        "{all}"
    );
    let run = env.run(["storage", "shrink", "--session", &id(2)]).code(0);
    let undo = format!("codex-manager storage expand --session {}", id(2));
    assert!(run.stderr.contains(&undo), "{run}");
    let _ = env.run(undo.split(' ').skip(1)).code(0);
    assert!(chosen.exists() && zst(&other).exists());
}

#[test]
fn a_named_conversation_in_use_makes_the_result_partial() {
    let (env, _codex) = with_codex("0.169.0");
    let _ = rollout(&env, 1, "/one", 100_000, OLD);
    let lock = format!("thread-writer-locks/{}.lock", id(1));
    let _lock = HeldLock::exclusive(&put(&env, lock, ""));
    let _ = env.run(["storage", "shrink", "--session", &id(1)]).code(6);
    let _ = env.run(["storage", "shrink"]).code(0);
}
