//! `prune`: what goes is what the rules say, it can be put back, and the last good archive stays.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{backup, put, sample_home, text};
use std::fs;
use std::path::PathBuf;

/// Backups of Alice's home, one for each time; oldest first.
pub(crate) fn archives(env: &mut TestEnv, times: &[&str]) -> Vec<PathBuf> {
    sample_home(env);
    let made = times
        .iter()
        .map(|at| {
            env.set("CODEX_MANAGER_NOW", at);
            put(env, "notes.txt", at);
            backup(env, &[])
        })
        .collect();
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    made
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// `name: reason` of the archives in a list of the document.
fn listed(document: &serde_json::Value, list: &str) -> Vec<String> {
    let rows = document[list].as_array().expect("a list");
    rows.iter()
        .map(|row| {
            let archive = row["archive"].as_str().unwrap();
            format!("{}: {}", &archive[..17], row["reason"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn the_plan_is_shown_with_the_reason_for_each() {
    let mut env = TestEnv::new();
    archives(
        &mut env,
        &[
            "2026-11-10T10:00:00Z",
            "2026-11-19T09:00:00Z",
            "2026-11-19T10:00:00Z",
            "2026-11-20T10:00:00Z",
        ],
    );
    let before = env.tree("");
    let run = env
        .run([
            "prune",
            "--keep-last",
            "1",
            "--keep-daily",
            "2",
            "--dry-run",
        ])
        .code(0);
    // Sizes differ from compressor to compressor.
    let shown = regex::Regex::new(r"\d+\.\d kB").unwrap();
    let shown = shown.replace_all(&run.stdout, "[SIZE]");
    insta::assert_snapshot!(shown, @r"
            MADE              KIND  SIZE    WHY
    alice@example.com
      keep  Fri 20 Nov 10:00  full  [SIZE]  last 1, daily
      keep  Thu 19 Nov 10:00  full  [SIZE]  daily
      drop  Thu 19 Nov 09:00  full  [SIZE]  no rule keeps it
      drop  Tue 10 Nov 10:00  full  [SIZE]  no rule keeps it
    2 would go, [SIZE]
    ");
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn no_rule_is_no_prune() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-10T10:00:00Z"]);
    let before = env.tree("home");
    for args in [&["prune"][..], &["prune", "--keep-last", "0"]] {
        let run = env.run(args).code(4);
        assert!(
            run.stderr
                .contains("hint: codex-manager prune --keep-last 3"),
            "{run}"
        );
    }
    let _ = env.run(["prune", "--keep-within", "soon"]).code(4);
    let _ = env.run(["prune", "--undo", "--keep-last", "1"]).code(4);
    assert_same_tree(&before, &env.tree("home"));
    // Rules may stand in the settings.
    let _ = env.run(["config", "set", "prune.keep_last", "1"]).code(0);
    let _ = env.run(["prune"]).code(0);
}

#[test]
fn what_goes_can_be_put_back_as_it_was() {
    let mut env = TestEnv::new();
    archives(
        &mut env,
        &[
            "2026-11-18T10:00:00Z",
            "2026-11-19T10:00:00Z",
            "2026-11-20T10:00:00Z",
        ],
    );
    let backups = || env.tree("home/.codex-manager/backups");
    let before = backups();
    let document = env
        .run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json();
    assert_eq!(listed(&document, "keep"), ["2026-11-20-100000: last 1"]);
    assert_eq!(
        listed(&document, "drop"),
        [
            "2026-11-19-100000: no rule keeps it",
            "2026-11-18-100000: no rule keeps it"
        ]
    );
    assert_eq!(document["dry_run"], false);
    assert!(document["bytes"].as_u64() < document["trash_bytes"].as_u64());
    let left = env.run(["list-backups", "--json"]).code(0).json();
    assert_eq!(left["backups"].as_array().unwrap().len(), 1);

    // A second time nothing goes.
    let again = env
        .run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json();
    assert_eq!(again["drop"].as_array().unwrap().len(), 0);

    let pruned = backups();
    let _ = env.run(["prune", "--undo", "--dry-run"]).code(0);
    assert_same_tree(&pruned, &backups());
    let _ = env.run(["prune", "--undo"]).code(0);
    let mut after = backups();
    after.0.remove(std::path::Path::new(".trash"));
    assert_same_tree(&before, &after);
    let _ = env.run(["prune", "--undo"]).code(1);
    let _ = env.run(["verify", "--all"]).code(0);
}

#[test]
fn the_trash_is_emptied_only_with_consent() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    let before = env.tree("home");
    let _ = env.run(["prune", "--empty-trash"]).code(5);
    let _ = env.run(["prune", "--empty-trash", "--dry-run"]).code(0);
    assert_same_tree(&before, &env.tree("home"));
    let document = env
        .run(["prune", "--empty-trash", "--yes", "--json"])
        .code(0)
        .json();
    assert!(document["bytes"].as_u64() > Some(0));
    assert_eq!(document["trash_bytes"], 0);
    assert_eq!(
        fs::read_dir(env.manager_home().join("backups/.trash"))
            .unwrap()
            .count(),
        0
    );
    let _ = env.run(["verify", "--all"]).code(0);
}

#[test]
fn a_damaged_archive_fills_no_place_and_the_last_verified_one_stays() {
    let mut env = TestEnv::new();
    let made = archives(
        &mut env,
        &[
            "2026-11-17T10:00:00Z",
            "2026-11-18T10:00:00Z",
            "2026-11-19T10:00:00Z",
            "2026-11-20T10:00:00Z",
        ],
    );
    let _ = env.run(["verify", &text(&made[1])]).code(0);
    // The newest is cut off: its footer is gone, and its size is told otherwise.
    let whole = fs::read(&made[3]).unwrap();
    fs::write(&made[3], &whole[..whole.len() / 2]).unwrap();
    let document = env
        .run(["prune", "--keep-last", "1", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_eq!(
        listed(&document, "keep"),
        [
            "2026-11-19-100000: last 1",
            "2026-11-18-100000: last verified full archive"
        ]
    );
    assert!(listed(&document, "drop")[0].starts_with("2026-11-20-100000: damaged: "));

    // Damaged inside, as only opening it tells: same size, no footer.
    let mut torn = whole.clone();
    let end = torn.len() - 64;
    torn[end..].fill(0);
    fs::write(&made[3], torn).unwrap();
    let document = env
        .run(["prune", "--keep-last", "1", "--dry-run", "--json"])
        .code(0)
        .json();
    assert!(
        listed(&document, "drop")[0].starts_with("2026-11-20-100000: damaged: "),
        "{document}"
    );

    // What verify found counts: the newest verified one is another now.
    fs::write(&made[3], &whole).unwrap();
    let _ = env.run(["verify", &text(&made[3])]).code(0);
    let document = env
        .run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json();
    assert_eq!(listed(&document, "keep"), ["2026-11-20-100000: last 1"]);
}

#[test]
fn safety_archives_and_other_modes_count_apart() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    backup(&env, &["--mode", "auth"]);
    put(&env, "notes.txt", "changed");
    let _ = env.run(["restore", &text(&made[0]), "--yes"]).code(0);
    let document = env
        .run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json();
    let kinds: Vec<_> = document["keep"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| k["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["full", "auth", "safety"]);
    assert_eq!(listed(&document, "drop").len(), 1);
    assert_eq!(document["drop"][0]["archive"], name(&made[0]));
}

#[test]
fn a_killed_prune_is_finished_by_the_next_command() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let trash = env.manager_home().join("backups/.trash");
    let name = name(&made[0]);
    let sidecar = name.replace(".tar.gz", ".metadata.json");
    fs::create_dir_all(trash.join("t")).unwrap();
    let moves = serde_json::json!({"schema": 1, "moves": [
        [name, format!(".trash/t/{name}")],
        [sidecar, format!(".trash/t/{sidecar}")],
    ]});
    fs::write(trash.join("moves.json"), moves.to_string()).unwrap();
    fs::rename(&made[0], trash.join("t").join(&name)).unwrap();
    let run = env.run(["list-backups", "--json"]).code(0);
    assert!(
        run.stderr.contains("an interrupted prune was finished"),
        "{run}"
    );
    assert_eq!(run.json()["backups"].as_array().unwrap().len(), 1);
    assert!(trash.join("t").join(&sidecar).exists());
    let _ = env.run(["prune", "--undo"]).code(0);
    assert!(made[0].exists());
}
