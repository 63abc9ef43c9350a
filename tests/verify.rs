//! `verify`, and its records: problems of an archive and of its sidecar are separate.

use crate::prune::archives;
use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::injection::{can_inject, traced};
use crate::support::sample::{backup, bob, put, sample_home, text};
use crate::support::sign_in::write_auth;
use crate::support::terminal::{LINES, Terminal};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn sidecar(archive: &Path) -> PathBuf {
    text(archive).replace(".tar.gz", ".metadata.json").into()
}

fn inventory(env: &TestEnv) -> PathBuf {
    env.manager_home().join("inventory.json")
}

fn json_in(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Returns the rows of `list-backups`, newest first.
fn listed(env: &TestEnv) -> Vec<Value> {
    let list = env.run(["list-backups", "--json"]).code(0).json();
    list["backups"].as_array().expect("a list").clone()
}

/// Returns the archive that `restore latest` would restore.
fn latest(env: &TestEnv) -> String {
    let run = env.run(["restore", "latest", "--dry-run", "--json"]);
    run.code(0).json()["archive"].as_str().unwrap().to_owned()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Changes compressed content in the middle of the archive; its structure stays valid.
fn damage(archive: &Path) {
    let mut bytes = fs::read(archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20].fill(0xff);
    fs::write(archive, bytes).unwrap();
}

#[test]
fn a_damaged_sidecar_without_its_archive_is_not_to_be_repaired() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = backup(&env, &[]);
    fs::write(sidecar(&archive), "{").unwrap();
    fs::remove_file(&archive).unwrap();
    assert_eq!(listed(&env)[0]["problem"], "the archive is missing");
    let fixed = env.run(["doctor", "--fix", "--json"]).code(5);
    assert!(!fixed.stdout.contains("--repair"), "{fixed}");
}

#[test]
fn an_archive_without_a_good_sidecar_is_not_pruned_and_is_the_latest() {
    for lost in [None, Some("{"), Some("{\"schema\":99}")] {
        for verified in [false, true] {
            let mut env = TestEnv::new();
            let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
            match lost {
                None => fs::remove_file(sidecar(&made[1])).unwrap(),
                Some(text) => fs::write(sidecar(&made[1]), text).unwrap(),
            }
            let what = format!("{lost:?} {verified}");
            if verified {
                let run = env.run(["verify", "--json"]).code(5).json();
                let found = &run["archives"][0];
                assert_eq!(found["archive"], name(&made[1]), "{what}");
                assert_eq!(found["ok"], false, "{what}");
                let printed = found["problems"][0].as_str().unwrap();
                assert!(printed.contains("sidecar"), "{what}: {printed}");
            }
            assert_eq!(latest(&env), name(&made[1]), "{what}");
            let pruned = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
            let pruned = pruned.json();
            assert_eq!(pruned["keep"][0]["archive"], name(&made[1]), "{what}");
            assert_eq!(pruned["drop"][0]["archive"], name(&made[0]), "{what}");
            assert!(made[1].exists() && !made[0].exists(), "{what}");
        }
    }
}

#[test]
fn a_read_error_of_the_disk_during_prune_does_not_make_an_archive_count_as_damaged() {
    if !can_inject() {
        return;
    }
    for has_sidecar in [true, false] {
        let mut env = TestEnv::new();
        let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
        if !has_sidecar {
            fs::remove_file(sidecar(&made[1])).unwrap();
        }
        let mut failed = 0;
        for number in 1.. {
            // The command must not use a result of an earlier read.
            let _ = fs::remove_file(inventory(&env));
            let newest = text(&made[1]);
            let inject = format!("inject=read,pread64:error=EIO:when={number}+");
            let options = ["-P", &newest, "-e", "trace=read,pread64", "-e", &inject];
            let options = options.map(str::to_owned);
            let (output, log) = traced(&env, &options, &["prune", "--keep-last", "1", "--json"]);
            if !log.contains("INJECTED") {
                break;
            }
            failed += 1;
            let what = format!("{has_sidecar}, read {number}: {output:?}");
            assert!(made[1].exists(), "{what}");
            assert_eq!(latest(&env), name(&made[1]), "{what}");
            if !made[0].exists() {
                // The read failed at the only source of information about the newest archive.
                let _ = env.run(["prune", "--undo"]).code(0);
            }
        }
        // strace counts the reads of each thread.
        assert!(failed > 2, "{failed}");
        let _ = env
            .run(["verify", &text(&made[1])])
            .code(if has_sidecar { 0 } else { 5 });
        let pruned = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
        assert!(made[1].exists() && !made[0].exists(), "{pruned}");
    }
}

#[test]
fn verify_reports_a_missing_sidecar_and_repair_writes_it() {
    let env = TestEnv::new();
    sample_home(&env);
    let made = backup(&env, &[]);
    fs::remove_file(sidecar(&made)).unwrap();
    insta::assert_snapshot!(env.run(["verify"]).code(5).stdout, @r"
    sidecar 2026-11-20-120000-alice@example.com-codex.tar.gz (backed up Fri 20 Nov 12:00)
            no sidecar; create it with: codex-manager verify --repair 2026-11-20-120000-alice@example.com-codex.tar.gz
    ");
    let before = env.tree("");
    let run = env.run(["verify", "--repair", "--dry-run"]).code(5);
    assert!(run.stderr.contains("would write the sidecar"), "{run}");
    assert_same_tree(&before, &env.tree(""));
    let run = env.run(["verify", "--repair"]).code(0);
    assert!(run.stderr.contains("wrote the sidecar"), "{run}");
    let _ = env.run(["verify"]).code(0);
}

#[test]
fn the_command_for_a_missing_sidecar_names_its_archive() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-18T10:00:00Z", "2026-11-19T10:00:00Z"]);
    fs::remove_file(sidecar(&made[0])).unwrap();
    let listed = env.run(["list-backups", "--json"]).code(0).json();
    let rows = listed["backups"].as_array().unwrap();
    let mut problems = rows.iter().filter_map(|row| row["problem"].as_str());
    let problem = problems.next().expect("a problem");
    let (_, command) = problem.split_once(": codex-manager ").expect("a command");
    let _ = env.run(command.split(' ')).code(0);
    assert!(sidecar(&made[0]).exists(), "{command}");

    // An archive outside of `backups/`.
    let moved = env.path("moved-codex.tar.gz");
    fs::rename(&made[0], &moved).unwrap();
    let run = env.run(["verify", &text(&moved)]).code(5);
    let repair = "codex-manager verify --repair [ROOT]/moved-codex.tar.gz\n";
    assert!(run.stdout.ends_with(repair), "{run}");
    let _ = env.run(["verify", "--repair", &text(&moved)]).code(0);
}

#[test]
fn an_archive_of_unknown_date_is_not_of_1970() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-18T10:00:00Z", "2026-11-19T10:00:00Z"]);
    fs::remove_file(sidecar(&made[0])).unwrap();
    let archive = fs::read(&made[0]).unwrap();
    fs::write(&made[0], &archive[..archive.len() / 2]).unwrap();
    for (args, code) in [
        (&["list-backups"][..], 0),
        (&["list-backups", "--format", "tsv"], 0),
        (&["list-backups", "--json"], 0),
        (&["verify", "--all"], 5),
        (&["prune", "--keep-last", "1", "--dry-run"], 0),
    ] {
        let run = env.run(args).code(code).to_string();
        assert!(
            !run.contains("1970") && !run.contains("signed out"),
            "{run}"
        );
    }
    assert!(env.run(["list-backups"]).stdout.contains("unknown"));
    let listed = env.run(["list-backups", "--json"]).json();
    assert_eq!(listed["backups"][1]["created_at"], Value::Null, "{listed}");
}

#[test]
fn latest_is_a_full_archive_rather_than_a_newer_safety_backup_which_each_list_names_as_such() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z"]);
    put(&env, "notes.txt", "changed");
    let restored = env.run(["restore", "latest", "--only", "notes.txt", "--json"]);
    let safety = restored.code(0).json()["safety_backup"].clone();
    let verified = |env: &TestEnv, args: &[&str]| {
        let run = env.run([&["verify", "--json"], args].concat()).code(0);
        run.json()["archives"][0]["archive"].clone()
    };
    assert_eq!(verified(&env, &[]), name(&made[0]));
    assert_eq!(verified(&env, &["latest"]), name(&made[0]));
    assert_eq!(latest(&env), name(&made[0]));
    let newest = env.run(["list-backups", "--latest", "--json"]).code(0);
    assert_eq!(newest.json()["backups"][0]["archive"], name(&made[0]));

    // Each list labels the safety backup as one, not as a full archive.
    let rows = env.run(["list-backups"]).code(0).stdout;
    let row = rows.lines().find(|row| row.contains("2026-11-20"));
    assert!(
        row.is_some_and(|row| row.contains("  safety (partial)  ")),
        "{rows}"
    );
    let plan = env.run(["prune", "--keep-last", "1", "--dry-run"]).code(0);
    assert!(plan.stdout.contains("  safety (partial)  "), "{plan}");
    let mut picker = Terminal::start(&mut env.command(["restore"]));
    picker.wait_for("which archive?", std::time::Duration::from_secs(60));
    let shown = picker.picture(120, LINES);
    let row = shown.lines().find(|row| row.starts_with("  1  "));
    assert!(
        row.is_some_and(|row| row.contains("  safety (partial)  ")),
        "{shown}"
    );
    picker.type_keys("\u{1b}");
    let _ = picker.end();

    fs::remove_file(&made[0]).unwrap();
    fs::remove_file(sidecar(&made[0])).unwrap();
    for command in ["verify", "restore"] {
        let refused = env.run([command, "latest"]).code(1);
        assert!(
            refused.stderr.contains("only safety and partial"),
            "{refused}"
        );
    }
    let only = env.run(["list-backups", "--latest", "--json"]).code(0);
    assert_eq!(only.json()["backups"][0]["archive"], safety);
}

#[test]
fn list_backups_distinguishes_no_archive_from_no_match() {
    let mut env = TestEnv::new();
    let none = env.run(["list-backups", "--ready"]).code(0);
    assert!(none.stderr.contains("no archives; "), "{none}");
    let _ = archives(&mut env, &["2026-11-19T10:00:00Z"]);
    let held = ["cooldown", "--set", "alice@example.com", "--until", "+3d"];
    let _ = env.run(held).code(0);
    let unmatched = env.run(["list-backups", "--ready"]).code(0);
    assert!(
        unmatched.stderr.contains("no archive matches"),
        "{unmatched}"
    );
}

#[test]
fn restore_latest_warns_of_a_newer_damaged_archive() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    damage(&made[1]);
    // `verify` reports the damage of the latest archive each time.
    for _ in 0..2 {
        let _ = env.run(["verify"]).code(5);
    }
    let planned = env.run(["restore", "latest", "--dry-run"]).code(0);
    let warning = format!("{} is newer, but damaged", name(&made[1]));
    assert!(planned.stderr.contains(&warning), "{planned}");
    assert_eq!(latest(&env), name(&made[0]));
}

#[test]
fn restore_latest_calls_no_older_archive_newer() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z"]);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T10:00:00Z");
    let _ = backup(&env, &["--mode", "sessions"]);
    damage(&made[0]);
    let _ = env.run(["verify", "--all"]).code(5);
    let planned = env.run(["restore", "latest", "--dry-run"]).code(0);
    let warning = format!("{} is preferred, but damaged", name(&made[0]));
    assert!(planned.stderr.contains(&warning), "{planned}");
    assert!(!planned.stderr.contains("is newer"), "{planned}");
}

#[test]
fn a_damaged_archive_without_a_sidecar_is_never_the_latest() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    fs::remove_file(sidecar(&made[1])).unwrap();
    damage(&made[1]);
    env.tick();
    let run = env.run(["verify", "--all", "--repair", "--json"]).code(5);
    assert!(
        !sidecar(&made[1]).exists(),
        "no sidecar for a damaged archive: {run}"
    );
    assert!(!run.stdout.contains("create it with"), "{run}");
    assert_eq!(latest(&env), name(&made[0]));
    let newest = env.run(["list-backups", "--latest", "--json"]).code(0);
    assert_eq!(newest.json()["backups"][0]["archive"], name(&made[0]));
    let rows = listed(&env);
    let problem = rows[0]["problem"].as_str().unwrap();
    assert!(problem.starts_with("damaged, as found by "), "{problem}");
}

#[test]
fn the_sidecar_of_another_archive_is_not_used() {
    // Bob's archive has the name and the sidecar of Alice's newest one.
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-18T10:00:00Z", "2026-11-19T10:00:00Z"]);
    write_auth(&env.codex_home(), &bob());
    put(&env, "more.txt", "of Bob's");
    let bobs = backup(&env, &[]);
    fs::rename(&bobs, &made[1]).unwrap();
    fs::remove_file(sidecar(&bobs)).unwrap();
    env.tick();
    let row = &listed(&env)[0];
    assert_eq!(row["email"], "bob@example.com", "{row}");
    let problem = row["problem"].as_str().unwrap();
    assert!(problem.contains("another archive"), "{problem}");
    let pruned = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
    assert_eq!(
        pruned.json()["drop"],
        json!([]),
        "one archive of each account"
    );
    assert!(made[0].exists(), "the only archive of Alice was dropped");
}

#[test]
fn prune_detects_the_sidecar_of_another_archive_of_the_same_size() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-18T10:00:00Z", "2026-11-19T10:00:00Z"]);
    write_auth(&env.codex_home(), &bob());
    let bobs = backup(&env, &[]);
    // Only the digest differs: the sidecar has the correct size.
    let mut document = json_in(&sidecar(&made[1]));
    document["archive_bytes"] = fs::metadata(&bobs).unwrap().len().into();
    fs::write(sidecar(&made[1]), document.to_string()).unwrap();
    fs::rename(&bobs, &made[1]).unwrap();
    fs::remove_file(sidecar(&bobs)).unwrap();
    env.tick();
    assert_eq!(listed(&env)[0]["email"], "alice@example.com");
    let pruned = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
    assert_eq!(pruned.json()["drop"], json!([]), "{pruned}");
    assert!(made[0].exists(), "the only archive of Alice was dropped");
    // Later lists use the archive's own metadata.
    let row = &listed(&env)[0];
    assert_eq!(row["email"], "bob@example.com", "{row}");
    let _ = env.run(["verify", "--all"]).code(5);
    assert_eq!(listed(&env)[0]["email"], "bob@example.com");
}

#[test]
fn a_recorded_result_does_not_cover_a_later_sidecar() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-18T10:00:00Z", "2026-11-19T10:00:00Z"]);
    write_auth(&env.codex_home(), &bob());
    let bobs = backup(&env, &[]);
    let _ = env.run(["verify", &text(&bobs)]).code(0);
    // Only the sidecar of Alice's newest archive is left, and is moved beside Bob's archive.
    let mut document = json_in(&sidecar(&made[1]));
    document["archive_bytes"] = fs::metadata(&bobs).unwrap().len().into();
    fs::write(sidecar(&bobs), document.to_string()).unwrap();
    fs::remove_file(&made[1]).unwrap();
    fs::remove_file(sidecar(&made[1])).unwrap();
    env.tick();
    let pruned = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
    assert_eq!(pruned.json()["drop"], json!([]), "{pruned}");
    assert!(made[0].exists(), "the only archive of Alice was dropped");
    assert_eq!(listed(&env)[0]["email"], "bob@example.com");
}

#[test]
fn an_unreadable_archive_without_a_sidecar_is_not_pruned_and_is_read_again_later() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    fs::remove_file(sidecar(&made[1])).unwrap();
    fs::remove_file(inventory(&env)).unwrap();
    mode(&made[1], 0o000);
    // The problem stays recorded while the file cannot be read.
    let first = text(&made[0]);
    let _ = env.run_unprivileged(&["verify", &first]).code(0);
    let list = env
        .run_unprivileged(&["list-backups", "--json"])
        .code(0)
        .json();
    let unreadable = |row: &&Value| row["archive"] == name(&made[1]);
    let rows = list["backups"].as_array().unwrap();
    let row = rows.iter().find(unreadable).unwrap();
    let problem = row["problem"].as_str().unwrap();
    assert!(problem.starts_with("cannot be read: "), "{problem}");
    let args = ["prune", "--keep-last", "1", "--json"];
    let pruned = env.run_unprivileged(&args).code(0).json();
    assert_eq!(
        pruned["drop"],
        json!([]),
        "an archive without a recorded result was dropped"
    );
    mode(&made[1], 0o600);
    assert!(
        listed(&env)[0]["problem"]
            .as_str()
            .unwrap()
            .starts_with("no sidecar")
    );
    assert_eq!(latest(&env), name(&made[1]));
}

#[test]
fn an_unreadable_archive_does_not_stop_the_check_of_the_others() {
    let mut env = TestEnv::new();
    let made = archives(
        &mut env,
        &[
            "2026-11-18T10:00:00Z",
            "2026-11-19T10:00:00Z",
            "2026-11-20T10:00:00Z",
        ],
    );
    mode(&made[1], 0o000);
    let run = env.run_unprivileged(&["verify", "--all", "--json"]).code(5);
    let found = run.json()["archives"].clone();
    let ok: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["ok"].clone())
        .collect();
    assert_eq!(ok, [true, false, true], "{run}");
    let why = found[1]["problems"][0].as_str().unwrap();
    assert!(why.contains("Permission denied"), "{why}");
    let noted = json_in(&inventory(&env));
    let noted: Vec<_> = noted["archives"].as_array().unwrap().iter().collect();
    let verified: Vec<_> = noted.iter().map(|r| r["verified"]["ok"].clone()).collect();
    assert_eq!(verified, [json!(true), Value::Null, json!(true)]);
    // An unreadable archive is not a damaged one.
    mode(&made[1], 0o600);
    assert!(listed(&env).iter().all(|row| row["problem"].is_null()));
}

#[test]
fn repair_does_not_change_a_sidecar_of_a_newer_version() {
    let env = TestEnv::new();
    sample_home(&env);
    let made = backup(&env, &[]);
    fs::write(sidecar(&made), "{\"schema\":99,\"more\":1}").unwrap();
    for args in [&["verify", "--repair"][..], &["doctor", "--fix"]] {
        let run: Run = env.run(args).code(5);
        let printed = format!("{}{}", run.stdout, run.stderr);
        assert!(printed.contains("written by a newer"), "{run}");
        let left = fs::read_to_string(sidecar(&made)).unwrap();
        assert_eq!(left, "{\"schema\":99,\"more\":1}", "{args:?}");
    }
}

#[test]
fn repair_keeps_a_copy_of_a_damaged_sidecar() {
    for args in [&["verify", "--repair"][..], &["doctor", "--fix"]] {
        let env = TestEnv::new();
        sample_home(&env);
        let made = backup(&env, &[]);
        let good = fs::read(sidecar(&made)).unwrap();
        fs::write(sidecar(&made), "{").unwrap();
        let _ = env.run(args).code(0);
        assert_eq!(fs::read(sidecar(&made)).unwrap(), good, "{args:?}");
        let kept = format!("{}.damaged", text(&sidecar(&made)));
        assert_eq!(fs::read(kept).unwrap(), b"{", "{args:?}");
    }
}

#[test]
fn archives_in_a_read_only_manager_home_can_be_verified() {
    let env = TestEnv::new();
    sample_home(&env);
    let made = backup(&env, &[]);
    let manager = env.manager_home();
    let folders = [manager.join("tmp"), manager.join("backups"), manager];
    let close = |bits| {
        for folder in &folders {
            mode(folder, bits);
        }
    };
    close(0o500);
    let run = env.run_unprivileged(&["verify"]);
    close(0o700);
    assert!(run.stdout.contains("ok"), "{run}");
    assert!(run.stdout.contains(&name(&made)), "{run}");
    let run = run.code(0);
    assert!(run.stderr.contains("the result is not recorded"), "{run}");
}

#[test]
fn a_number_in_place_of_a_sidecar_time_is_reported_with_the_expected_form() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = backup(&env, &[]);
    for key in ["created_at", "reset_at"] {
        let mut document = json_in(&sidecar(&archive));
        document[key] = 5.into();
        fs::write(sidecar(&archive), document.to_string()).unwrap();
        let problem = listed(&env)[0]["problem"].to_string();
        let expected = "expected a time in the form of RFC 3339";
        assert!(problem.contains(expected), "{key}: {problem}");
        let _ = env.run(["verify", "--repair", "latest"]).code(0);
    }
}

#[test]
fn a_sidecar_time_at_the_end_of_the_calendar_stops_no_command() {
    let mut env = TestEnv::new();
    let made = archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    for at in ["-262143-01-01T00:00:00Z", "+262142-12-31T23:59:59Z"] {
        let mut document = json_in(&sidecar(&made[0]));
        for key in [
            "created_at",
            "session_start_at",
            "reset_at",
            "next_available_at",
        ] {
            document[key] = at.into();
        }
        fs::write(sidecar(&made[0]), document.to_string()).unwrap();
        for zone in ["UTC", "America/New_York", "Asia/Tokyo"] {
            env.set("TZ", zone);
            for args in [
                &["list-backups"][..],
                &["list-backups", "--json", "--sort", "reset-at"],
                &[
                    "prune",
                    "--keep-weekly",
                    "3",
                    "--keep-within",
                    "2d",
                    "--dry-run",
                ],
                &[
                    "prune",
                    "--keep-daily",
                    "3",
                    "--keep-monthly",
                    "2",
                    "--dry-run",
                    "--json",
                ],
                &["backup", "--no-status", "--if-older", "12h", "--dry-run"],
                &["restore", "latest", "--dry-run"],
                &["doctor"],
                &["cooldown"],
                &["recommend"],
                &["verify", "--all", "--dry-run"],
            ] {
                let run = env.run(args);
                let is_civil = [0, 1, 2, 5, 6].contains(&run.code);
                assert!(
                    is_civil && !run.stderr.contains("panicked"),
                    "{at} {zone} {args:?}\n{run}"
                );
            }
        }
    }
}

#[test]
fn doctor_accepts_the_damaged_sidecar_that_a_repair_kept() {
    let env = TestEnv::new();
    sample_home(&env);
    let made = backup(&env, &[]);
    fs::write(sidecar(&made), "{").unwrap();
    let _ = env.run(["verify", "--repair"]).code(0);
    assert!(Path::new(&format!("{}.damaged", text(&sidecar(&made)))).exists());
    let checks = env.run(["doctor", "--json"]).json()["checks"].clone();
    let checks = checks.as_array().unwrap().clone();
    assert!(
        checks.iter().all(|c| c["id"] != "archives.foreign"),
        "{checks:?}"
    );
}

#[test]
fn verify_suggests_a_new_backup_for_a_damaged_archive() {
    let env = TestEnv::new();
    sample_home(&env);
    let made = backup(&env, &[]);
    let bytes = fs::read(&made).unwrap();
    fs::write(&made, &bytes[..bytes.len() / 2]).unwrap();
    let run = env.run(["verify"]).code(5);
    assert!(run.stderr.contains("codex-manager backup"), "{run}");
}
