//! `prune` drops archives by rules, can move them back, and keeps the last good one.

use crate::damaged_texts::edit_sidecar;
use crate::support::conversations::{Conversation, write};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::hostile::Parts;
use crate::support::injection::{can_inject, run_ends_before_call};
use crate::support::sample::{alice, backup, bob, put, sample_home, sample_home_at, text};
use crate::support::sign_in::write_auth;
use crate::support::terminal::Terminal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// One time on each of four consecutive days.
const DAYS: [&str; 4] = [
    "2026-11-17T10:00:00Z",
    "2026-11-18T10:00:00Z",
    "2026-11-19T10:00:00Z",
    "2026-11-20T10:00:00Z",
];

/// Creates a backup of Alice's home at each time, oldest first.
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

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Returns `name: reason` for each archive in a list of the document.
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
fn archives_with_exclusions_are_counted_separately() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &DAYS[..1]);
    let part = backup(&env, &["--exclude", "sessions"]);
    let _ = env.run(["verify", "--all"]).code(0);
    let plan = env.run(["prune", "--keep-last", "1", "--yes", "--json"]);
    let plan = plan.code(0).json();
    assert_eq!(plan["drop"].as_array().expect("a list").len(), 0, "{plan}");
    assert_eq!(
        listed(&plan, "keep"),
        [
            "2026-11-17-100000: last 1",
            "2026-11-20-120000: last 1 with --exclude"
        ]
    );
    assert!(made[0].exists() && part.exists());
}

#[test]
fn archives_with_skipped_files_are_counted_separately() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &DAYS[..1]);
    // A link out of the home cannot be archived, and the user did not exclude it.
    let link = env.codex_home().join("skills/mine/out");
    symlink("/etc/hostname", &link).expect("link");
    let _ = env.run(["backup", "--no-status"]).code(6);
    let _ = env.run(["verify", "--all"]).code(0);
    let plan = env.run(["prune", "--keep-last", "1", "--yes", "--json"]);
    let plan = plan.code(0).json();
    assert_eq!(plan["drop"].as_array().expect("a list").len(), 0, "{plan}");
    assert_eq!(
        listed(&plan, "keep"),
        [
            "2026-11-17-100000: last 1",
            "2026-11-20-120000: last 1 with skipped files"
        ]
    );
    assert!(made[0].exists());
}

#[test]
fn at_80_columns_the_plan_has_the_whole_name_and_the_conversations_of_each_archive() {
    let mut env = TestEnv::new();
    archives(&mut env, &DAYS);
    let mut command = env.command(["prune", "--keep-last", "2", "--dry-run"]);
    command.env_remove("COLUMNS");
    let mut terminal = Terminal::watch(&mut command, 80);
    assert!(terminal.end().success());
    let text = terminal.text();
    for column in ["DO", "KIND", "CONV", "SIZE", "ARCHIVE", "WHY"] {
        assert!(text.contains(column), "{column}: {text}");
    }
    let dropped = " kB  2026-11-17-100000-alice@example.com  no rule";
    assert!(text.contains(dropped), "{text}");
    let reasons = text.lines().filter(|line| line.contains(" full "));
    let mut reasons = reasons.map(str::trim_end);
    assert!(
        reasons.all(|line| line.ends_with("  no rule") || line.ends_with("  last 2")),
        "{text}"
    );
    let widest = text
        .lines()
        .map(|line| line.trim_end().chars().count())
        .max();
    assert!(widest <= Some(80), "{text}");
}

#[test]
fn the_plan_shows_the_reason_for_each_archive() {
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
    // Sizes differ between compressors.
    let shown = regex::Regex::new(r"\d+\.\d kB").unwrap();
    let shown = shown.replace_all(&run.stdout, "[SIZE]");
    insta::assert_snapshot!(shown, @r"
      DO    CREATED           KIND  CONV    SIZE  ARCHIVE                              WHY
    alice@example.com
      keep  Fri 20 Nov 10:00  full     2  [SIZE]  2026-11-20-100000-alice@example.com  last 1, daily
      keep  Thu 19 Nov 10:00  full     2  [SIZE]  2026-11-19-100000-alice@example.com  daily
      drop  Thu 19 Nov 09:00  full     2  [SIZE]  2026-11-19-090000-alice@example.com  no rule
      drop  Tue 10 Nov 10:00  full     2  [SIZE]  2026-11-10-100000-alice@example.com  no rule
    2 archives would be moved to the trash, [SIZE]
    ");
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn prune_without_a_rule_is_refused() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-10T10:00:00Z"]);
    let before = env.tree("home");
    for args in [&["prune"][..], &["prune", "--keep-last", "0"]] {
        let run = env.run(args).code(4);
        assert!(
            run.stderr.contains("codex-manager prune --keep-last 3"),
            "{run}"
        );
    }
    let _ = env.run(["prune", "--keep-within", "soon"]).code(4);
    let _ = env.run(["prune", "--undo", "--keep-last", "1"]).code(4);
    assert_same_tree(&before, &env.tree("home"));
    // Rules can be settings.
    let _ = env.run(["config", "set", "prune.keep_last", "1"]).code(0);
    let _ = env.run(["prune"]).code(0);
}

#[test]
fn undo_moves_archives_back_unchanged() {
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
        ["2026-11-19-100000: no rule", "2026-11-18-100000: no rule"]
    );
    assert_eq!(document["dry_run"], false);
    assert!(document["bytes"].as_u64() < document["trash_bytes"].as_u64());
    let left = env.run(["list-backups", "--json"]).code(0).json();
    assert_eq!(left["backups"].as_array().unwrap().len(), 1);

    let name = "2026-11-19-100000-alice@example.com";
    for (command, argument) in [
        ("restore", name),
        ("verify", name),
        ("restore", "2026-11-19"),
    ] {
        let run = env.run([command, argument]).code(1);
        assert!(run.stderr.contains("it is in the trash: [ROOT]/"), "{run}");
        assert!(run.stderr.contains("codex-manager prune --undo"), "{run}");
    }

    let pruned = backups();
    let shown = |prefix| {
        ["18", "19"].map(|day| {
            let weekday = if day == "18" { "Wed" } else { "Thu" };
            let name = format!("2026-11-{day}-100000-alice@example.com-codex.tar.gz");
            format!("{prefix}moved back: {name}, made {weekday} {day} Nov 10:00\n")
        })
    };
    let run = env.run(["prune", "--undo", "--dry-run"]).code(0);
    assert_eq!(run.stdout, shown("would be ").concat());
    assert_same_tree(&pruned, &backups());
    let run = env.run(["prune", "--undo"]).code(0);
    assert_eq!(run.stdout, shown("").concat());
    let mut after = backups();
    after.0.remove(Path::new(".trash"));
    assert_same_tree(&before, &after);
    let _ = env.run(["prune", "--undo"]).code(1);
    let _ = env.run(["verify", "--all"]).code(0);
}

#[test]
fn an_archive_that_undo_renames_keeps_its_verify_result() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &DAYS[..2]);
    let _ = env.run(["verify", "--all"]).code(0);
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    // Another archive takes the name.
    fs::copy(&made[1], &made[0]).unwrap();
    let _ = env.run(["prune", "--undo"]).code(0);
    let inventory = fs::read(env.manager_home().join("inventory.json")).unwrap();
    let inventory: serde_json::Value = serde_json::from_slice(&inventory).unwrap();
    let mut records = inventory["archives"].as_array().unwrap().iter();
    let renamed = records.find(|r| r["path"].as_str().unwrap().ends_with("-2-codex.tar.gz"));
    assert_eq!(
        renamed.expect("a record")["verified"]["ok"],
        true,
        "{inventory}"
    );
}

#[test]
fn doctor_reports_the_trash_as_ok_and_suggests_no_fix() {
    let mut env = TestEnv::new();
    archives(&mut env, &DAYS);
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    let found = env.run(["doctor", "--json"]).json();
    let mut checks = found["checks"].as_array().expect("checks").iter();
    let trash = checks.find(|check| check["id"] == "archives.trash");
    let trash = trash.expect("a finding");
    assert_eq!(trash["status"], "ok", "{trash}");
    assert!(trash["fix"].is_null(), "{trash}");
}

#[test]
fn a_quiet_prune_prints_no_table() {
    let mut env = TestEnv::new();
    archives(&mut env, &DAYS[..2]);
    let rules = ["prune", "--keep-last", "1", "--dry-run"];
    let shown = env.run(rules).code(0).stdout;
    for day in &DAYS[..2] {
        let name = format!(
            "{}-alice@example.com",
            day[..19].replace(':', "").replace('T', "-")
        );
        assert!(shown.contains(&name), "{shown}");
    }
    let quiet = env.run(rules.iter().chain(&["--quiet"])).code(0).stdout;
    assert!(!quiet.contains("keep"), "{quiet}");
}

#[test]
fn undo_keeps_verify_results() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &DAYS[..3]);
    damage(&made[2]);
    let _ = env.run(["verify", "--all"]).code(5);
    let prune = ["prune", "--keep-last", "1", "--json"];
    let first = env.run(prune).code(0).json();
    assert_eq!(listed(&first, "keep"), ["2026-11-18-100000: last 1"]);
    let _ = env.run(["prune", "--undo"]).code(0);
    let second = env.run(prune).code(0).json();
    for list in ["keep", "drop"] {
        assert_eq!(listed(&second, list), listed(&first, list));
    }
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
fn a_damaged_archive_satisfies_no_rule_and_the_last_verified_one_is_kept() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &DAYS);
    let _ = env.run(["verify", &text(&made[1])]).code(0);
    // The newest archive is truncated: it has no footer, and a different size than recorded.
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

    // Damage that only opening detects: equal size, no footer.
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

    // The results of verify count: another archive is now the newest verified one.
    fs::write(&made[3], &whole).unwrap();
    let _ = env.run(["verify", &text(&made[3])]).code(0);
    let document = env
        .run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json();
    assert_eq!(listed(&document, "keep"), ["2026-11-20-100000: last 1"]);
}

#[test]
fn safety_archives_and_other_modes_are_counted_separately() {
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
fn i2_a_prune_or_its_undo_killed_at_any_rename_never_separates_archive_and_sidecar() {
    if !can_inject() {
        return;
    }
    let mut env = TestEnv::new();
    let made = archives(&mut env, &DAYS[..3]);
    let trash = env.manager_home().join("backups/.trash");
    let mut moved = [0; 2];
    for args in [&["prune", "--keep-last", "1"][..], &["prune", "--undo"]] {
        for number in 1.. {
            let ended = run_ends_before_call(&env, args, "renameat2", number);
            let list = env.run(["list-backups", "--json"]).code(0).json();
            let listed = list["backups"].as_array().expect("a list");
            let is_whole = |row: &serde_json::Value| row["problem"].is_null();
            assert!(listed.iter().all(is_whole), "{args:?} {number}: {list}");
            let in_trash = walkdir::WalkDir::new(&trash).into_iter().flatten();
            let in_trash = in_trash.filter(|e| e.file_type().is_file()).count();
            // Both archives with their sidecars, or none.
            assert!([0, 4].contains(&in_trash), "{args:?} {number}: {in_trash}");
            assert_eq!(listed.len() * 2 + in_trash, 6, "{args:?} {number}");
            moved[usize::from(in_trash == 4)] += 1;
            if ended {
                break;
            }
        }
    }
    assert!(moved.iter().all(|n| *n > 1), "{moved:?}");
    assert!(made.iter().all(|archive| archive.exists()));
}

/// Damages the compressed content of an archive; its structure stays valid.
fn damage(archive: &Path) {
    let mut bytes = fs::read(archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20].fill(0xff);
    fs::write(archive, bytes).unwrap();
}

/// Returns the times in the names of the archives that a plan keeps.
fn kept(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let all = ["prune", "--dry-run", "--json"].iter().chain(args);
    let document = env.run(all).code(0).json();
    let rows = document["keep"].as_array().expect("a list");
    rows.iter()
        .map(|row| row["archive"].as_str().unwrap()[..17].to_owned())
        .collect()
}

#[test]
fn each_rule_can_be_a_flag_or_a_setting() {
    let mut env = TestEnv::new();
    archives(
        &mut env,
        &[
            "2026-09-10T10:00:00Z",
            "2026-11-10T10:00:00Z",
            "2026-11-18T10:00:00Z",
            "2026-11-20T09:00:00Z",
            "2026-11-20T10:00:00Z",
        ],
    );
    let newest = "2026-11-20-100000";
    for (rule, value, others) in [
        ("last", "2", &["2026-11-20-090000"][..]),
        ("within", "2d", &["2026-11-20-090000", "2026-11-18-100000"]),
        ("daily", "2", &["2026-11-18-100000"]),
        ("weekly", "2", &["2026-11-10-100000"]),
        ("monthly", "2", &["2026-09-10-100000"]),
    ] {
        let expected = [&[newest], others].concat();
        let (flag, key) = (format!("--keep-{rule}"), format!("prune.keep_{rule}"));
        assert_eq!(kept(&env, &[&flag, value]), expected, "{rule}");
        let _ = env.run(["config", "set", &key, value]).code(0);
        assert_eq!(kept(&env, &[]), expected, "{key}");
        let _ = env.run(["config", "unset", &key]).code(0);
    }
    // A flag overrides its setting, and rules add up.
    let _ = env.run(["config", "set", "prune.keep_last", "5"]).code(0);
    assert_eq!(kept(&env, &["--keep-last", "1"]), [newest]);
    assert_eq!(
        kept(&env, &["--keep-last", "1", "--keep-monthly", "2"]),
        [newest, "2026-09-10-100000"]
    );
}

#[test]
fn rules_apply_to_each_account_separately() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-17T10:00:00Z", "2026-11-18T10:00:00Z"]);
    write_auth(&env.codex_home(), &bob());
    for at in ["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"] {
        env.set("CODEX_MANAGER_NOW", at);
        put(&env, "notes.txt", at);
        backup(&env, &[]);
    }
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    assert_eq!(
        kept(&env, &["--keep-last", "1"]),
        ["2026-11-18-100000", "2026-11-20-100000"]
    );
}

#[test]
fn the_newest_archive_is_chosen_by_instant_across_time_zones() {
    let mut env = TestEnv::new();
    sample_home(&env);
    // 20 November in Tokyo, and, four hours later, 19 November in New York.
    for (zone, at) in [
        ("Asia/Tokyo", "2026-11-19T16:00:00Z"),
        ("America/New_York", "2026-11-19T20:00:00Z"),
    ] {
        env.set("TZ", zone).set("CODEX_MANAGER_NOW", at);
        put(&env, "notes.txt", at);
        backup(&env, &[]);
    }
    env.set("TZ", "UTC")
        .set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    assert_eq!(kept(&env, &["--keep-last", "1"]), ["2026-11-19-150000"]);
    // 16:00 and 20:00 are on one day in UTC and on two in Dubai, four hours ahead.
    for (zone, days) in [("UTC", 1), ("Asia/Dubai", 2)] {
        let daily = kept(&env, &["--keep-daily", "9", "--timezone", zone]);
        assert_eq!(daily.len(), days, "{zone}");
    }
}

#[test]
fn rules_apply_to_each_backup_mode_separately() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z"]);
    for (mode, at) in [
        ("sessions", "2026-11-19T11:00:00Z"),
        ("auth", "2026-11-19T12:00:00Z"),
        ("sessions", "2026-11-19T13:00:00Z"),
        ("auth", "2026-11-19T14:00:00Z"),
    ] {
        env.set("CODEX_MANAGER_NOW", at);
        backup(&env, &["--mode", mode]);
    }
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    assert_eq!(
        kept(&env, &["--keep-last", "1"]),
        [
            "2026-11-19-100000",
            "2026-11-19-140000",
            "2026-11-19-130000"
        ]
    );
}

#[test]
fn i9_a_second_prune_drops_nothing() {
    let mut env = TestEnv::new();
    archives(
        &mut env,
        &[
            "2026-11-10T10:00:00Z",
            "2026-11-18T10:00:00Z",
            "2026-11-19T10:00:00Z",
            "2026-11-20T10:00:00Z",
        ],
    );
    let rules = ["prune", "--keep-last", "1", "--keep-weekly", "2", "--json"];
    let first = env.run(rules).code(0).json();
    assert_eq!(first["drop"].as_array().unwrap().len(), 2);
    let before = env.tree("home");
    let second = env.run(rules).code(0).json();
    assert_eq!(second["drop"], serde_json::json!([]));
    assert_eq!(second["keep"], first["keep"]);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn undo_after_emptying_the_trash_is_refused() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    let _ = env.run(["prune", "--empty-trash", "--yes"]).code(0);
    let run = env.run(["prune", "--undo"]).code(1);
    assert!(run.stderr.contains("the trash is empty"), "{run}");
    // Only the trash was deleted.
    assert_eq!(kept(&env, &["--keep-last", "9"]), ["2026-11-20-100000"]);
}

#[test]
fn the_only_good_archive_survives_a_newer_one_with_damaged_content() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &DAYS[..3]);
    damage(&made[2]);
    env.tick();
    let before = env.tree("");
    let dry = env.run(["prune", "--keep-last", "1", "--dry-run", "--json"]);
    let dry = dry.code(0).json();
    assert_same_tree(&before, &env.tree(""));
    let done = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
    let done = done.json();
    for document in [&dry, &done] {
        assert_eq!(listed(document, "keep"), ["2026-11-18-100000: last 1"]);
        let gone = listed(document, "drop");
        assert!(
            gone[0].starts_with("2026-11-19-100000: damaged: "),
            "{gone:?}"
        );
        assert_eq!(gone[1], "2026-11-17-100000: no rule");
    }
    assert!(made[1].exists() && !made[2].exists());
    let inventory = fs::read_to_string(env.manager_home().join("inventory.json")).unwrap();
    assert!(inventory.contains("\"ok\":true"), "{inventory}");
    let _ = env.run(["verify", "--all"]).code(0);
}

#[test]
fn a_backup_or_restore_that_cannot_be_recorded_exits_with_6_and_a_prune_moves_nothing() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z"]);
    let newer = "{\"schema\":99,\"archives\":[]}";
    env.write("home/.codex-manager/inventory.json", newer);

    env.set("CODEX_MANAGER_NOW", "2026-11-20T10:00:00Z");
    put(&env, "notes.txt", "changed");
    let run = env.run(["backup", "--no-status", "--json"]).code(6);
    assert!(run.stderr.contains("newer codex-manager"), "{run}");
    assert!(!run.stderr.contains("nothing was changed"), "{run}");
    let path = run.json()["path"]
        .as_str()
        .unwrap()
        .replace("[ROOT]", &text(&env.path("")));
    assert!(PathBuf::from(path).exists(), "{run}");

    env.set("CODEX_MANAGER_NOW", "2026-11-20T11:00:00Z");
    let run = env.run(["restore", &text(&made[0]), "--json"]).code(6);
    assert!(run.stderr.contains("newer codex-manager"), "{run}");
    assert!(!run.stderr.contains("nothing was changed"), "{run}");
    let safety = run.json()["safety_backup"].as_str().unwrap().to_owned();
    assert!(
        env.manager_home().join("backups").join(&safety).exists(),
        "{run}"
    );
    let _ = env.run(["restore", &safety]).code(6);
    assert_eq!(
        fs::read(env.codex_home().join("notes.txt")).unwrap(),
        b"changed"
    );

    // The use of the account is recorded anyway.
    let cooldown = fs::read_to_string(env.manager_home().join("cooldown.json")).unwrap();
    assert!(cooldown.contains("2026-11-20T11:00:00"), "{cooldown}");
    let inventory = fs::read_to_string(env.manager_home().join("inventory.json")).unwrap();
    assert_eq!(inventory, newer, "the inventory was changed");
    // A prune that cannot record its checks moves nothing.
    let before = env.tree("home/.codex-manager/backups");
    let _ = env.run(["prune", "--keep-last", "1"]).code(5);
    assert_same_tree(&before, &env.tree("home/.codex-manager/backups"));
}

#[test]
fn foreign_files_in_tmp_stop_no_backup() {
    let env = TestEnv::new();
    sample_home(&env);
    backup(&env, &[]);
    // No process uses either folder. The lock of one cannot be opened, the content of the other
    // cannot be deleted.
    let tmp = env.manager_home().join("tmp");
    let (locked, stuck) = (tmp.join("staging-locked"), tmp.join("staging-stuck"));
    for folder in [&locked, &stuck] {
        fs::create_dir_all(folder.join("in")).unwrap();
        fs::write(folder.join(".lock"), "").unwrap();
    }
    fs::set_permissions(locked.join(".lock"), fs::Permissions::from_mode(0o000)).unwrap();
    let immutable = |on: &str| {
        let chattr = std::process::Command::new("chattr")
            .arg(on)
            .arg(stuck.join("in"))
            .output();
        chattr.is_ok_and(|output| output.status.success())
    };
    let is_stuck = immutable("+i");
    let run = env.run_unprivileged(&["backup", "--no-status"]);
    immutable("-i");
    let run = run.code(0);
    assert!(locked.exists(), "the folder was removed: {run}");
    assert_eq!(run.stderr.contains("staging-stuck"), is_stuck, "{run}");
    assert_eq!(stuck.exists(), is_stuck);
}

#[test]
fn prune_keeps_the_only_archive_of_another_home() {
    let mut env = TestEnv::new();
    let other = env.path("home/work");
    sample_home_at(&other);
    let args = ["backup", "--no-status", "--json", "--codex-home"];
    let only = env
        .run(args.iter().copied().chain([&*text(&other)]))
        .code(0)
        .json();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let document = env
        .run(["prune", "--keep-last", "1", "--json"])
        .code(0)
        .json();
    assert_eq!(document["drop"].as_array().unwrap().len(), 1);
    let archive = only["archive"].as_str().unwrap();
    assert!(env.manager_home().join("backups").join(archive).exists());
    let kept = document["keep"].as_array().unwrap();
    let kept = kept.iter().find(|k| k["archive"] == archive).unwrap();
    let reason = kept["reason"]
        .as_str()
        .unwrap()
        .replace(&text(&env.path("")), "[ROOT]/");
    assert!(reason.ends_with("home/work"), "{reason}");
}

/// Makes an archive for each reason to keep or drop one.
fn make_an_archive_for_each_reason(env: &mut TestEnv) {
    write_auth(&env.codex_home(), &alice(0));
    let newer = make_archive(env, "2026-11-04T10:00:00Z", &[]);
    edit_sidecar(&newer, |sidecar| sidecar["schema"] = 99.into());
    let prompts = put(env, "history.jsonl", "{\"text\":\"one\"}\n");
    make_archive(env, "2026-11-05T10:00:00Z", &[]);
    fs::write(&prompts, [0; 15]).unwrap();
    env.set("CODEX_MANAGER_NOW", "2026-11-06T10:00:00Z");
    let _ = env.run(["backup", "--no-status"]).code(6);
    fs::remove_file(prompts).unwrap();
    let [hidden, uncompared, gone] =
        [2, 3, 4].map(|number| Conversation::new(number, 60, "How?", "So."));
    for (day, conversation) in [(6, &gone), (7, &uncompared), (8, &hidden)] {
        let rollout = write(env, conversation);
        make_archive(env, &format!("2026-11-0{day}T11:00:00Z"), &[]);
        fs::remove_file(rollout).unwrap();
    }

    let mut conversation = Conversation::new(1, 60, "How?", "So.");
    write(env, &conversation);
    make_archive(env, "2026-11-09T10:00:00Z", &[]);
    conversation.lines.pop();
    for day in 10..14 {
        let cut = write(env, &conversation);
        let archive = make_archive(env, &format!("2026-11-{day}T10:00:00Z"), &[]);
        match day {
            11 => drop(env.run(["verify", &text(&archive)]).code(0)),
            12 => cut_off(&archive),
            _ => {}
        }
        fs::remove_file(cut).unwrap();
    }
    for (at, options) in [
        ("2026-11-19T10:00:00Z", &[][..]),
        ("2026-11-20T10:00:00Z", &[]),
        ("2026-11-20T11:00:00Z", &["--exclude", "skills"]),
        ("2026-12-05T10:00:00Z", &[]),
    ] {
        make_archive(env, at, options);
    }
    cut_off(&make_archive(
        env,
        "2026-11-18T10:00:00Z",
        &["--mode", "auth"],
    ));
    let backups = env.manager_home().join("backups");
    let python = backups.join("auth/alice@example.com/latest.tar.gz");
    fs::create_dir_all(python.parent().unwrap()).unwrap();
    let old = backups.join("2026-11-10-100000-alice@example.com-codex.tar.gz");
    fs::copy(&old, python).unwrap();
    let mut newer = Parts::parse(&fs::read(old).unwrap());
    newer.manifest.as_mut().unwrap()["schema"] = serde_json::json!(99);
    let newer_path = backups.join("2026-11-17-100000-carol@example.com-codex.tar.gz");
    fs::write(newer_path, newer.pack()).unwrap();
    let unknown = backups.join("2026-11-16-100000-carol@example.com-codex.tar.gz");
    fs::write(unknown, "junk").unwrap();
    write(env, &conversation);
    let migrated = write(env, &hidden);
    fs::write(migrated, migrate(&hidden)).unwrap();
    let rollout = write(env, &uncompared);
    // The magic number of zstd, without a valid frame.
    let damaged = [0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff, 0xff];
    fs::write(rollout.with_extension("jsonl.zst"), damaged).unwrap();
    fs::remove_file(rollout).unwrap();

    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
}

#[test]
fn each_reason_is_beside_the_whole_name_and_the_conversations_at_80_columns() {
    let mut env = TestEnv::new();
    make_an_archive_for_each_reason(&mut env);
    let rules = [
        "prune",
        "--keep-last",
        "1",
        "--keep-daily",
        "2",
        "--dry-run",
    ];
    let mut terminal = Terminal::watch(env.command(rules).env_remove("COLUMNS"), 80);
    assert!(terminal.end().success());
    let sizes = regex::Regex::new(r"[\d.]+ k?B").unwrap();
    let paths = regex::Regex::new(r"/\S+carol\S+").unwrap();
    let text = paths.replace_all(&terminal.text(), "[PATH]").into_owned();
    // The warnings before it have the path of the home.
    let text = &text[text.find("  DO ").expect("the table")..];
    insta::assert_snapshot!(sizes.replace_all(text, "[SIZE]"), @r"
      DO    KIND  CONV  ARCHIVE                               WHY
    alice@example.com
      keep  full     0  2026-12-05-100000-alice@example.com   dated in the future
      keep  full     0  2026-11-20-110000-alice@example.com   last 1, daily with
                                                              --exclude
      keep  full     0  2026-11-20-100000-alice@example.com   last 1, daily
      keep  full     0  2026-11-19-100000-alice@example.com   daily
      keep  full     1  2026-11-13-100000-alice@example.com   last with
                                                              conversations
      drop  full     1  2026-11-12-100000-alice@example.com   damaged: incomplete
                                                              deflate stream
      keep  full     1  2026-11-11-100000-alice@example.com   last verified full
                                                              archive
      keep  full     1  auth/alice@example.com/latest.tar.gz  never moved: it is in
                                                              a folder of the Python
                                                              codex-manager
      drop  full     1  2026-11-10-100000-alice@example.com   no rule
      keep  full     1  2026-11-09-100000-alice@example.com   has messages that the
                                                              conversation 01a1f78b
                                                              lost
      keep  full     1  2026-11-08-110000-alice@example.com   has turns of the
                                                              conversation 01a1f78b
                                                              that Codex hides
      keep  full     1  2026-11-07-110000-alice@example.com   has the conversation
                                                              01a1f78b, which could
                                                              not be compared
      keep  full     1  2026-11-06-110000-alice@example.com   alone has the
                                                              conversation 01a1f78b
      drop  full     0  2026-11-06-100000-alice@example.com   no rule
      keep  full     0  2026-11-05-100000-alice@example.com   has the newest good
                                                              copy of history.jsonl
      keep  full     0  2026-11-04-100000-alice@example.com   its sidecar has the
                                                              newer schema 99
      keep  auth     0  2026-11-18-100000-alice@example.com   damaged, but there is
                                                              no undamaged one
    unknown
      keep  full     ?  2026-11-17-100000-carol@example.com   cannot be read: the
                                                              archive was written by
                                                              a newer codex-manager
                                                              (schema 99):
                                                              [PATH]
      keep  full     ?  2026-11-16-100000-carol@example.com   its account and time
                                                              are unknown
    3 archives would be moved to the trash, [SIZE]
    nothing was written (--dry-run)
    ");
    assert!(
        text.lines()
            .all(|line| line.trim_end().chars().count() <= 80)
    );
}

fn make_archive(env: &mut TestEnv, at: &str, options: &[&str]) -> PathBuf {
    env.set("CODEX_MANAGER_NOW", at);
    backup(env, options)
}

/// Returns the text of a subagent's rollout after a migration of Codex that hides its turns.
fn migrate(conversation: &Conversation) -> String {
    let lines = conversation.text();
    let lines = lines.lines().enumerate().map(|(number, line)| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["ordinal"] = number.into();
        if number == 0 {
            line["payload"]["history_mode"] = "paginated".into();
            line["payload"]["subagent_history_start_ordinal"] = 99.into();
        }
        format!("{line}\n")
    });
    lines.collect()
}

/// Removes the end of an archive.
fn cut_off(archive: &Path) {
    let file = fs::File::options().write(true).open(archive).unwrap();
    file.set_len(file.metadata().unwrap().len() - 10).unwrap();
}
