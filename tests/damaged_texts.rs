//! Texts of the user that a power cut damaged: `backup` and `doctor` name them, and `prune` keeps a good copy.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::hostile::{Parts, digest};
use crate::support::sample::{backup, put, sample_home, text};
use crate::support::{restic, sample};
use crate::vault;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A path, its good content, its damaged content, and a part of the reason.
fn damages() -> Vec<(&'static str, Vec<u8>, Vec<u8>, &'static str)> {
    let prompts = "{\"text\":\"a prompt\"}\n".repeat(300).into_bytes();
    let hole = {
        let mut bytes = prompts.clone();
        bytes[2048..2560].fill(0);
        bytes
    };
    let names = b"{\"id\":\"x\",\"thread_name\":\"a name\"}\n".repeat(20);
    let zeros = "zeros where its text was";
    vec![
        ("history.jsonl", prompts.clone(), vec![0; 5700], zeros),
        ("history.jsonl", prompts.clone(), hole, zeros),
        (
            "history.jsonl",
            prompts.clone(),
            prompts[..5007].to_vec(),
            "middle of a line",
        ),
        (
            "session_index.jsonl",
            names.clone(),
            [&names[..200], &[0; 300]].concat(),
            zeros,
        ),
        ("AGENTS.md", b"be brief\n".to_vec(), vec![0; 9], zeros),
        (
            "prompts/review.md",
            b"look\n".repeat(2000),
            b"look\n".repeat(2000)[..4096].to_vec(),
            "middle of a line",
        ),
        (
            "skills/mine/data.json",
            b"{\"a\": [1, 2]}\n".to_vec(),
            b"{\"a\": [1,".to_vec(),
            "middle of a value",
        ),
        (
            ".codex-global-state.json",
            b"{\"a\": 1}".to_vec(),
            vec![0; 4096],
            zeros,
        ),
        (
            "rules/default.rules",
            b"allow ls\n".to_vec(),
            vec![0; 9],
            zeros,
        ),
    ]
}

fn prune(env: &TestEnv) -> Value {
    let _ = env.run(["verify", "--all"]);
    env.run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json()
}

/// Returns `DAY: reason` for each kept archive.
fn kept(plan: &Value) -> Vec<String> {
    let rows = plan["keep"].as_array().expect("a list").iter();
    let row = |row: &Value| {
        format!(
            "{}: {}",
            &text_of(&row["archive"])[8..10],
            text_of(&row["reason"])
        )
    };
    rows.map(row).collect()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn damaged_in(run: &Run) -> Vec<String> {
    let run = run.json();
    let rows = run["damaged"].as_array().expect("a list").iter();
    rows.map(|row| format!("{}: {}", text_of(&row["path"]), text_of(&row["reason"])))
        .collect()
}

/// Returns the path of the archive that `backup` made.
fn archive_of(env: &TestEnv, run: &Run) -> PathBuf {
    let backups = env.manager_home().join("backups");
    backups.join(text_of(&run.json()["archive"]))
}

fn texts_by_doctor(env: &TestEnv) -> Vec<Value> {
    let checks = env.run(["doctor", "--json"]).json()["checks"].clone();
    let checks = checks.as_array().expect("a list").clone();
    checks
        .into_iter()
        .filter(|check| check["id"] == "home.texts")
        .collect()
}

/// Runs a command line that a command printed.
fn run_line(env: &TestEnv, line: &str) -> Run {
    let words = line
        .strip_prefix("codex-manager ")
        .expect("a command")
        .split(' ');
    env.run(words)
}

#[test]
fn backup_and_doctor_name_each_damaged_text_and_the_suggested_command_brings_it_back() {
    for (path, good, damaged, reason) in damages() {
        let mut env = TestEnv::new();
        sample_home(&env);
        put(&env, path, &good);
        let made = backup(&env, &[]);
        env.tick();
        put(&env, path, &damaged);
        env.tick();
        let dry = env
            .run(["backup", "--no-status", "--dry-run", "--json"])
            .code(6);
        env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
        // The second backup copies the file from the first one, and reads it no more.
        let first = env.run(["backup", "--no-status", "--json"]).code(6);
        env.set("CODEX_MANAGER_NOW", "2026-11-20T14:00:00Z");
        let second = env.run(["backup", "--no-status", "--json"]).code(6);
        let reused = |run: &Run| run.json()["reused_bytes"].as_u64();
        if path.starts_with("prompts/") {
            assert!(reused(&second) > reused(&first), "{second}");
        }
        for run in [&dry, &first, &second] {
            let found = damaged_in(run);
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(
                found[0].starts_with(path) && found[0].contains(reason),
                "{found:?}"
            );
        }
        let shown = env.run(["backup", "--no-status"]).code(6);
        assert!(
            shown
                .stderr
                .contains(&format!("archived unchanged, but damaged: {path}")),
            "{shown}"
        );

        let found = texts_by_doctor(&env);
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        let name = made
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let name = name.trim_end_matches("-codex.tar.gz");
        let command = format!("codex-manager restore {name} --only {path}");
        assert_eq!(found[0]["fix"], command);
        assert!(shown.stderr.contains(&command), "{shown}");
        let planned = env.run(["restore", "latest", "--dry-run"]).code(0);
        assert!(
            planned.stderr.contains(&format!("in the archive, {path}")),
            "{planned}"
        );
        let restored = run_line(&env, &command).code(0);
        assert!(!restored.stderr.contains("in the archive, "), "{restored}");
        assert!(
            fs::read(env.codex_home().join(path)).expect("read") == good,
            "{path}"
        );
        assert_eq!(texts_by_doctor(&env), [] as [Value; 0]);
        let after = env.run(["backup", "--no-status", "--json"]).code(0);
        assert_eq!(damaged_in(&after), [] as [&str; 0]);
    }
}

#[test]
fn files_that_look_odd_but_are_whole_or_not_the_users_own_text_are_not_named() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, "history.jsonl", "");
    put(&env, "AGENTS.md", "");
    put(&env, "prompts/short.md", "without a newline");
    put(&env, "skills/mine/comments.json", "{ // why\n\"a\": 1}");
    put(
        &env,
        "skills/mine/picture.png",
        [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0; 4080]].concat(),
    );
    put(&env, "plugins/other/cut.json", "{\"a\":");
    put(&env, "notes.txt", vec![0; 4096]);
    let run = env.run(["backup", "--no-status", "--json"]).code(0);
    assert_eq!(damaged_in(&run), [] as [&str; 0]);
    assert_eq!(texts_by_doctor(&env), [] as [Value; 0]);
}

#[test]
fn a_good_copy_outlives_a_prune_until_a_newer_archive_has_one() {
    let mut env = TestEnv::new();
    let home = sample_home(&env);
    let mut archives = Vec::new();
    let mut add = |env: &mut TestEnv, day: u32, code: i32| {
        env.set("CODEX_MANAGER_NOW", format!("2026-11-{day}T10:00:00Z"));
        put(env, "notes.txt", format!("{day}"));
        let run = env.run(["backup", "--no-status", "--json"]).code(code);
        archives.push(archive_of(env, &run));
    };
    let prompts = fs::read(home.join("history.jsonl")).expect("read");
    add(&mut env, 11, 0);
    add(&mut env, 12, 0);
    put(&env, "history.jsonl", vec![0; prompts.len()]);
    put(&env, "prompts/mine.md", "be brief\n");
    add(&mut env, 13, 6);
    put(&env, "prompts/mine.md", vec![0; 9]);
    add(&mut env, 14, 6);
    add(&mut env, 15, 6);

    // Of each text, the newest archive with a good copy stays; the third one has the prompt, and a damaged history.
    let plan = prune(&env);
    assert_eq!(
        kept(&plan),
        [
            "15: last 1",
            "13: has the newest good copy of prompts/mine.md",
            "12: has the newest good copy of history.jsonl",
        ]
    );
    assert_eq!(prune(&env)["drop"], Value::Array(Vec::new()));

    put(&env, "prompts/mine.md", "be brief\n");
    put(&env, "history.jsonl", &prompts);
    add(&mut env, 16, 0);
    assert_eq!(kept(&prune(&env)), ["16: last 1"]);
    assert!(archives[5].exists() && !archives[1].exists());
}

/// Changes the manifest of an archive, and describes the new file in its sidecar.
pub(crate) fn edit_manifest(archive: &Path, edit: impl FnOnce(&mut Value)) {
    let mut parts = Parts::of(&fs::read(archive).expect("read"));
    edit(parts.manifest_mut());
    let bytes = parts.pack();
    fs::write(archive, &bytes).expect("write");
    edit_sidecar(archive, |sidecar| {
        let fields = sidecar.as_object_mut().expect("an object");
        fields.remove("archive_blake3");
        fields.insert("archive_sha256".into(), digest(&bytes).into());
        fields.insert("archive_bytes".into(), bytes.len().into());
    });
}

pub(crate) fn edit_sidecar(archive: &Path, edit: impl FnOnce(&mut Value)) {
    let path = text(archive).replace(".tar.gz", ".metadata.json");
    let mut sidecar: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    edit(&mut sidecar);
    fs::write(path, sidecar.to_string()).expect("write");
}

fn forget_damage(manifest: &mut Value) {
    manifest
        .as_object_mut()
        .expect("an object")
        .remove("damaged");
}

#[test]
fn archives_of_older_versions_are_searched_for_damage_before_they_count_as_good() {
    let mut env = TestEnv::new();
    let home = sample_home(&env);
    put(&env, "skills/mine/data.json", "{}\n");
    let good = fs::read(home.join("history.jsonl")).expect("read");
    let mut archives = Vec::new();
    for day in 11..=13 {
        env.set("CODEX_MANAGER_NOW", format!("2026-11-{day}T10:00:00Z"));
        if day == 12 {
            put(&env, "history.jsonl", vec![0; good.len()]);
            put(&env, "skills/mine/data.json", "{\"a\":");
            env.tick();
        }
        let run = env.run(["backup", "--no-status", "--json"]);
        let archive = archive_of(&env, &run);
        // The first two archives do not record damage.
        if day < 13 {
            edit_manifest(&archive, forget_damage);
            edit_sidecar(&archive, |sidecar| {
                let fields = sidecar.as_object_mut().expect("an object");
                fields.remove("damaged");
            });
        } else {
            // The unchanged files are read once, because the older archive does not say that they are good.
            assert_eq!(damaged_in(&run.code(6)).len(), 2);
        }
        archives.push(archive);
    }
    assert_eq!(
        kept(&prune(&env)),
        [
            "13: last 1",
            "11: has the newest good copy of history.jsonl"
        ]
    );
    assert!(archives[0].exists() && !archives[1].exists());
}

#[test]
fn an_archive_of_a_newer_version_that_this_one_cannot_read_stays_and_is_named() {
    let newer_version = |sidecar: &mut Value| sidecar["manager_version"] = "99.0.0".into();
    for (case, reason) in [
        (0, "its sidecar has the newer schema 9999"),
        (1, "newer codex-manager"),
        (2, "no rule"),
    ] {
        let mut env = TestEnv::new();
        let made =
            crate::prune::archives(&mut env, &["2026-11-18T10:00:00Z", "2026-11-19T10:00:00Z"]);
        match case {
            0 => edit_sidecar(&made[0], |sidecar| sidecar["schema"] = 9999.into()),
            1 => {
                edit_manifest(&made[0], |manifest| manifest["schema"] = 9999.into());
                edit_sidecar(&made[0], newer_version);
            }
            // A newer version with documents that this one reads.
            _ => edit_sidecar(&made[0], newer_version),
        }
        let before = fs::read(&made[0]).expect("read");
        let plan = env
            .run(["prune", "--keep-last", "1", "--json"])
            .code(0)
            .json();
        let rows = ["keep", "drop"].map(|list| plan[list].as_array().expect("a list").clone());
        let rows = rows.concat();
        let row = rows
            .iter()
            .find(|row| text_of(&row["archive"]).starts_with("2026-11-18"));
        let shown = text_of(&row.expect("the archive")["reason"]);
        assert!(shown.contains(reason), "{case}: {shown}");
        assert_eq!(made[0].exists(), case != 2, "{case}");
        if case != 2 {
            assert!(fs::read(&made[0]).expect("read") == before);
            let table = env.run(["prune", "--keep-last", "1", "--dry-run"]).code(0);
            assert!(table.stdout.contains("2026-11-18-100000"), "{table}");
        }
    }
}

#[test]
fn vault_forget_keeps_the_newest_snapshot_with_a_good_copy_of_a_damaged_text() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    let home = sample_home(&env);
    vault::set_up(&mut env);
    // Snapshots have the time of the system.
    env.unset("CODEX_MANAGER_NOW");
    let good = fs::read(home.join("history.jsonl")).expect("read");
    let back_up = |code: i32| {
        let made = env.run(["vault", "backup", "--json"]).code(code).json();
        text_of(&made["snapshot"]).to_owned()
    };
    let forget = || {
        let forget = ["vault", "forget", "--keep-last", "1", "--yes", "--json"];
        env.run(forget).code(0).json()
    };
    let first = back_up(0);
    put(&env, "history.jsonl", vec![0; good.len()]);
    let _ = (back_up(6), back_up(6));
    let plan = forget();
    let kept: Vec<_> = plan["keep"].as_array().expect("a list").iter().collect();
    assert_eq!(kept.len(), 2, "{plan}");
    assert!(text_of(&kept[1]["archive"]).starts_with(&first), "{plan}");
    assert_eq!(
        kept[1]["reason"],
        "has the newest good copy of history.jsonl"
    );
    assert_eq!(plan["drop"].as_array().expect("a list").len(), 1);

    put(&env, "history.jsonl", &good);
    back_up(0);
    assert_eq!(forget()["keep"].as_array().expect("a list").len(), 1);
}

#[test]
fn a_snapshot_of_a_damaged_text_ends_with_6_each_time() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    sample_home(&env);
    vault::set_up(&mut env);
    put(&env, "history.jsonl", vec![0; 5000]);
    sample::set_time(&env.codex_home().join("history.jsonl"), 1_795_000_000, 0);
    let before = env.tree("home/.codex");
    for args in [
        &["vault", "backup", "--dry-run", "--json"][..],
        &["vault", "backup", "--json"],
        &["vault", "backup", "--json"],
    ] {
        let run = env.run(args).code(6);
        assert_eq!(
            damaged_in(&run),
            ["history.jsonl: has zeros where its text was"]
        );
    }
    assert_same_tree(&before, &env.tree("home/.codex"));
}
