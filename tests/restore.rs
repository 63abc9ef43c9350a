//! `restore`: the files that it writes, removes and keeps.

use crate::support::env::{TestEnv, Tree, assert_same_tree};
use crate::support::sample::{
    FIRST, SECOND, alice, assert_same_home, backup, bob, is_in_wal_mode, line, put, rollout, rows,
    sample_home, set_time, text,
};
use crate::support::sign_in::{auth_json, write_auth, write_auth_text};
use serde_json::json;
use std::fs;
use std::path::Path;

fn sample_with_archive() -> (TestEnv, String) {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    (env, archive)
}

fn home(env: &TestEnv) -> Tree {
    env.tree("home/.codex")
}

fn read(env: &TestEnv, relative: impl AsRef<Path>) -> String {
    fs::read_to_string(env.codex_home().join(relative)).expect("read")
}

/// Runs a restore with `--json`. Returns its document and the name of its safety backup.
fn restore_json(env: &TestEnv, args: &[&str]) -> (serde_json::Value, String) {
    let mut all = vec!["restore", "--json"];
    all.extend(args);
    let document = env.run(all).code(0).json();
    let safety = document["safety_backup"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (document, safety)
}

#[test]
fn i8_rollouts_are_restored_to_the_byte_and_the_nanosecond() {
    let (env, archive) = sample_with_archive();
    let before = home(&env);
    let path = env.codex_home().join(rollout(FIRST));
    fs::write(&path, "changed\n").expect("write");
    fs::remove_file(env.codex_home().join(rollout(SECOND))).expect("remove");
    let _ = env.run(["restore", &archive]).code(0);
    assert_same_home(&before, &home(&env));
    assert_eq!(rows(&env.codex_home().join("state_5.sqlite")).len(), 2);
}

#[test]
fn only_files_of_captured_kinds_are_removed_if_the_archive_lacks_them() {
    let (env, archive) = sample_with_archive();
    let extra = format!(
        "sessions/2026/11/19/rollout-2026-11-19T10-00-00-{}.jsonl",
        "01a1f790-0000-7000-8000-0000000000bb"
    );
    put(&env, &extra, line(0));
    put(&env, "skills/other/SKILL.md", "x");
    for kept in [
        "22apr_b@example.com_auth.json",
        "more-notes.txt",
        "tmp/x",
        "packages/y",
        "db-backups/z",
    ] {
        put(&env, kept, "kept");
    }
    fs::write(env.codex_home().join("installation_id"), "another").expect("write");
    let (document, safety) = restore_json(&env, &[&archive]);
    let removed: Vec<_> = document["removed"]
        .as_array()
        .expect("list")
        .iter()
        .collect();
    assert_eq!(
        removed,
        [
            &extra.clone().into(),
            &serde_json::Value::from("skills/other/SKILL.md")
        ]
    );
    assert!(!env.codex_home().join(&extra).exists());
    for kept in [
        "22apr_b@example.com_auth.json",
        "more-notes.txt",
        "tmp/x",
        "packages/y",
        "db-backups/z",
    ] {
        assert_eq!(read(&env, kept), "kept", "{kept}");
    }
    assert_eq!(read(&env, "installation_id"), "another");
    // The safety backup undoes the restore.
    let _ = env.run(["restore", &safety]).code(0);
    assert_eq!(read(&env, &extra), line(0));
    assert_eq!(read(&env, "skills/other/SKILL.md"), "x");
}

#[test]
fn restoring_the_safety_backup_undoes_a_restore_and_a_merge_of_diverged_versions_is_refused() {
    let (env, archive) = sample_with_archive();
    fs::write(env.codex_home().join(rollout(FIRST)), "another\n").expect("write");
    set_time(&env.codex_home().join(rollout(FIRST)), 1_795_100_000, 7);
    fs::remove_file(env.codex_home().join("AGENTS.md")).expect("remove");
    fs::remove_dir_all(env.codex_home().join("rules")).expect("remove");
    put(&env, "prompts/mine.md", "x");
    put(&env, "skills/mine/extra", "x");
    let before = home(&env);
    for args in [
        &[][..],
        &["--merge"],
        &["--only=skills", "--only=rules", "--only=AGENTS.md"],
    ] {
        if args == ["--merge"] {
            // A merge of versions that diverged is refused.
            let run = env.run(["restore", &archive, "--merge"]).code(2);
            assert!(run.stderr.contains(FIRST), "{run}");
            assert_same_home(&before, &home(&env));
            continue;
        }
        let mut all = vec![archive.as_str()];
        all.extend(args);
        let (_, safety) = restore_json(&env, &all);
        assert_ne!(before, home(&env));
        let _ = env.run(["restore", &safety]).code(0);
        assert_same_home(&before, &home(&env));
    }
}

#[test]
fn a_merge_of_a_safety_backup_keeps_what_only_the_home_has() {
    let (env, archive) = sample_with_archive();
    fs::remove_file(env.codex_home().join(rollout(FIRST))).expect("remove");
    let (_, safety) = restore_json(&env, &[&archive]);
    let continued = read(&env, rollout(FIRST)) + &line(99);
    put(&env, rollout(FIRST), &continued);
    let (document, _) = restore_json(&env, &[&safety, "--merge"]);
    assert_eq!(document["removed"], serde_json::json!([]));
    assert_eq!(read(&env, rollout(FIRST)), continued);
}

#[test]
fn the_option_no_safety_backup_creates_no_archive() {
    let (env, archive) = sample_with_archive();
    put(&env, "AGENTS.md", "changed");
    let backups = env.tree("home/.codex-manager/backups");
    let (document, _) = restore_json(&env, &[&archive, "--no-safety-backup"]);
    assert!(document["safety_backup"].is_null());
    assert_same_tree(&backups, &env.tree("home/.codex-manager/backups"));
    assert_eq!(read(&env, "AGENTS.md"), "be brief\n");
}

#[test]
fn merge_keeps_local_files_and_the_longer_version() {
    let (env, archive) = sample_with_archive();
    let here = format!(
        "sessions/2026/11/19/rollout-2026-11-19T10-00-00-{}.jsonl",
        "01a1f790-0000-7000-8000-0000000000cc"
    );
    put(&env, &here, line(9));
    let longer = read(&env, rollout(FIRST)) + &line(99);
    put(&env, rollout(FIRST), &longer);
    let shorter = line(0);
    put(&env, rollout(SECOND), &shorter);
    put(
        &env,
        "history.jsonl",
        "{\"text\":\"one\"}\n{\"text\":\"three\"}\n",
    );
    let _ = restore_json(&env, &[&archive, "--merge"]);
    assert_eq!(read(&env, &here), line(9));
    assert_eq!(read(&env, rollout(FIRST)), longer);
    assert_eq!(
        read(&env, rollout(SECOND)),
        (0..5).map(line).collect::<String>()
    );
    let history = read(&env, "history.jsonl");
    for text in ["one", "two", "three"] {
        assert_eq!(history.matches(text).count(), 1, "{history}");
    }
}

#[test]
fn a_merge_keeps_the_row_of_each_rollout_that_stays() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let database = home.join("state_5.sqlite");
    let (in_use, archived) = (
        home.join(rollout(FIRST)),
        home.join("archived_sessions")
            .join(rollout(FIRST).file_name().unwrap()),
    );
    fs::create_dir(home.join("archived_sessions")).unwrap();
    let change = |sql: &str| {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
    };
    let move_first = |from: &Path, to: &Path| {
        fs::rename(from, to).unwrap();
        let to = to.display();
        change(&format!(
            "UPDATE threads SET rollout_path='{to}' WHERE id='{FIRST}'"
        ));
    };
    let read_rows = || {
        let connection = rusqlite::Connection::open(&database).unwrap();
        let sql =
            "SELECT id, rollout_path, title, name || is_pinned, (SELECT count(*) FROM tools WHERE thread_id=id)
                   FROM threads ORDER BY id";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            let text = |i| row.get::<_, String>(i);
            Ok(([text(0)?, text(1)?, text(2)?, text(3)?], row.get(4)?))
        });
        rows.unwrap()
            .collect::<Result<Vec<([String; 4], u32)>, _>>()
            .unwrap()
    };
    change(&format!(
        "ALTER TABLE threads ADD COLUMN name TEXT;
         ALTER TABLE threads ADD COLUMN is_pinned INTEGER NOT NULL DEFAULT 0;
         UPDATE threads SET name='a name', is_pinned=1;
         CREATE TABLE tools(thread_id TEXT REFERENCES threads(id) ON DELETE CASCADE);
         INSERT INTO tools VALUES('{FIRST}'), ('{SECOND}');"
    ));

    // Codex archives one conversation, and continues and renames the other.
    let archive = text(&backup(&env, &[]));
    move_first(&in_use, &archived);
    put(
        &env,
        rollout(SECOND),
        read(&env, rollout(SECOND)) + &line(99),
    );
    change(&format!(
        "UPDATE threads SET title='continued', name='renamed' WHERE id='{SECOND}'"
    ));
    let live = read_rows();
    let _ = restore_json(&env, &[&archive, "--merge"]);
    assert!(is_in_wal_mode(&database));
    assert_eq!(read_rows(), live);
    assert!(archived.exists() && !in_use.exists());

    // Codex unarchives the conversation. It lost name and pin, which the archive has.
    let archive = text(&backup(&env, &[]));
    move_first(&archived, &in_use);
    let live = read_rows();
    change(&format!(
        "UPDATE threads SET name=NULL, is_pinned=0 WHERE id='{FIRST}'"
    ));
    let _ = restore_json(&env, &[&archive, "--merge"]);
    assert_eq!(read_rows(), live);

    // Without a live row, the row of the archive gets the path of the file that stays.
    move_first(&in_use, &archived);
    change(&format!("DELETE FROM threads WHERE id='{FIRST}'"));
    let _ = restore_json(&env, &[&archive, "--merge"]);
    assert_eq!(Path::new(&read_rows()[0].0[1]), archived);
}

#[test]
fn a_restore_and_its_dry_run_count_the_same_files_and_bytes() {
    let (env, archive) = sample_with_archive();
    for (lost, selection) in [
        (Path::new("auth.json"), ["--only", "auth.json"]),
        (&rollout(SECOND), ["--session", SECOND]),
    ] {
        fs::remove_file(env.codex_home().join(lost)).expect("remove");
        let database = env.codex_home().join("state_5.sqlite");
        let connection = rusqlite::Connection::open(&database).unwrap();
        let _ = connection.execute("DELETE FROM threads", []).unwrap();
        connection.close().unwrap();

        let args = [&["restore", &archive, "--json"], &selection[..]].concat();
        let plan = env.run([&args[..], &["--dry-run"]].concat()).code(0).json();
        let done = env.run(args).code(0).json();
        assert_eq!(done["files"], 1, "{done}");
        assert_eq!(done["files"], plan["files"], "{done} {plan}");
        assert_eq!(done["bytes"], plan["bytes"], "{done} {plan}");
    }
}

#[test]
fn restore_only_and_session_change_no_other_file_and_refuse_wrong_selections() {
    let (env, archive) = sample_with_archive();
    put(&env, "config.toml", "model = \"other\"\n");
    put(&env, "AGENTS.md", "other");
    for id in [FIRST, SECOND] {
        fs::remove_file(env.codex_home().join(rollout(id))).expect("remove");
    }
    let before = home(&env);
    let _ = restore_json(&env, &[&archive, "--session", "a name"]);
    let mut after = home(&env);
    assert_eq!(
        after
            .0
            .remove(&rollout(FIRST))
            .map(|t| t.contains("123456789")),
        Some(true)
    );
    assert_same_home(&before, &after);
    let restored = read(&env, rollout(FIRST));
    fs::remove_file(env.codex_home().join(rollout(FIRST))).expect("remove");
    let _ = restore_json(&env, &[&archive, "--session", "A Na"]);
    assert_eq!(read(&env, rollout(FIRST)), restored);
    let _ = restore_json(&env, &[&archive, "--only", "config.toml"]);
    assert_eq!(read(&env, "config.toml"), "model = \"gpt-5\"\n");
    assert_eq!(read(&env, "AGENTS.md"), "other");
    for wrong in ["../x", "/etc/passwd"] {
        let _ = env.run(["restore", &archive, "--only", wrong]).code(4);
    }
    let _ = env
        .run(["restore", &archive, "--only", "nothing-such"])
        .code(1);
    let _ = env
        .run(["restore", &archive, "--session", "nobody"])
        .code(1);
    let kept = env
        .run(["restore", &archive, "--only", "installation_id"])
        .code(1);
    let reason = "nothing would be restored there: installation_id";
    assert!(kept.stderr.contains(reason), "{kept}");
    let _ = env
        .run([
            "restore",
            &archive,
            "--only",
            "installation_id",
            "--to",
            "new",
        ])
        .code(0);
}

#[test]
fn the_archive_argument_may_follow_the_path_of_only() {
    let (env, archive) = sample_with_archive();
    put(&env, "config.toml", "model = \"other\"\n");
    put(&env, "AGENTS.md", "other");
    for what in ["latest", &archive] {
        let args = [
            "restore",
            "--only",
            "config.toml",
            what,
            "--dry-run",
            "--json",
        ];
        let planned = env.run(args).code(0).json();
        assert_eq!(planned["files"], 1, "{what}");
    }
    let several = [
        "restore",
        "--only",
        "config.toml",
        "--only",
        "AGENTS.md",
        "latest",
    ];
    let _ = env.run(several).code(0);
    assert_eq!(read(&env, "AGENTS.md"), "be brief\n");
}

#[test]
fn restore_session_also_restores_the_conversations_that_it_continues() {
    let third = "01a1f7a0-0000-7000-8000-0000000000bb";
    let meta = |id: &str, base: Option<&str>| {
        let base = base.map(|id| json!({"thread_id": id, "end_ordinal_exclusive": 4}));
        let payload = json!({"id": id, "timestamp": "2026-11-18T10:00:00Z", "history_base": base});
        format!("{}\n", json!({"type": "session_meta", "payload": payload}))
    };
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, rollout(FIRST), meta(FIRST, None));
    put(&env, rollout(SECOND), meta(SECOND, Some(FIRST)));
    put(&env, rollout(third), meta(third, Some(SECOND)));
    let other = rollout("01a1f7b0-0000-7000-8000-0000000000cc");
    put(&env, &other, "{}\n");
    let archive = text(&backup(&env, &[]));
    let before = home(&env);
    for file in [
        rollout(FIRST),
        rollout(SECOND),
        rollout(third),
        other.clone(),
    ] {
        fs::remove_file(env.codex_home().join(file)).expect("remove");
    }
    let planned = env.run([
        "restore",
        &archive,
        "--session",
        third,
        "--dry-run",
        "--json",
    ]);
    assert_eq!(planned.code(0).json()["files"], 3);
    let _ = restore_json(&env, &[&archive, "--session", third]);
    let mut expected = before;
    let _ = expected.0.remove(&other);
    assert_same_home(&expected, &home(&env));
}

#[test]
fn a_folder_at_the_path_of_a_file_is_saved_before_its_removal() {
    let (env, archive) = sample_with_archive();
    fs::remove_file(env.codex_home().join("notes.txt")).expect("remove");
    put(&env, "notes.txt/precious", "x");
    let before = home(&env);
    let (document, safety) = restore_json(&env, &[&archive, "--only", "notes.txt"]);
    assert_eq!(document["removed"][0], "notes.txt/precious");
    assert_eq!(read(&env, "notes.txt"), "the user's\n");
    let _ = env.run(["restore", &safety]).code(0);
    assert_same_home(&before, &home(&env));
}

#[test]
fn restore_with_to_restores_into_a_separate_home_and_refuses_a_folder_that_is_not_empty() {
    let (env, archive) = sample_with_archive();
    let before = home(&env);
    let to = env.path("new/home");
    let (document, _) = restore_json(&env, &[&archive, "--to", &text(&to)]);
    assert_eq!(document["auth"], "restored");
    assert_same_tree(&before, &home(&env));
    assert!(is_in_wal_mode(&to.join("state_5.sqlite")));
    for (_, path) in rows(&to.join("state_5.sqlite")) {
        assert!(
            Path::new(&path).starts_with(&to) && Path::new(&path).exists(),
            "{path}"
        );
    }
    // The folder is not empty any more.
    let there = env.tree("new");
    let run = env.run(["restore", &archive, "--to", &text(&to)]).code(5);
    assert!(run.stderr.contains("not empty"), "{run}");
    assert_same_tree(&there, &env.tree("new"));
    let (document, _) = restore_json(&env, &[&archive, "--to", "other", "--auth", "skip"]);
    assert_eq!(document["auth"], "skipped");
    assert!(!env.path("other/auth.json").exists());

    // The printed command is the same with and without a login.
    let use_hint = |args: &[&str]| {
        let run = env.run([&["restore", &archive][..], args].concat()).code(0);
        let lines = run
            .stderr
            .lines()
            .skip_while(|line| !line.starts_with("use it with"));
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(use_hint(&["--to", "copy"]), @r"
    use it with:
        CODEX_HOME=[ROOT]/copy codex
    ");
    insta::assert_snapshot!(use_hint(&["--to", "bare", "--auth", "skip"]), @r"
    use it with:
        CODEX_HOME=[ROOT]/bare codex
    ");
}

#[test]
fn i5_an_older_login_never_replaces_a_newer_one() {
    let (env, archive) = sample_with_archive();
    write_auth(&env.codex_home(), &alice(3));
    let (document, _) = restore_json(&env, &[&archive]);
    assert_eq!(document["auth"], "kept-newer");
    assert_eq!(read(&env, "auth.json"), auth_json(&alice(3)));
    let (document, _) = restore_json(&env, &[&archive, "--auth", "skip"]);
    assert_eq!(document["auth"], "skipped");
    // Only `--auth archive` restores the login. The newer one is saved to the profile first.
    let run = env.run(["restore", &archive, "--auth", "archive"]).code(0);
    assert!(run.stderr.contains("spent"), "{run}");
    assert_eq!(read(&env, "auth.json"), auth_json(&alice(0)));
    let kept = env
        .manager_home()
        .join("profiles/alice@example.com/auth.json");
    assert_eq!(
        fs::read_to_string(&kept).expect("read"),
        auth_json(&alice(3))
    );
    // The newer one of the profile is restored if no login is live.
    fs::remove_file(env.codex_home().join("auth.json")).expect("remove");
    let _ = restore_json(&env, &[&archive]);
    assert_eq!(read(&env, "auth.json"), auth_json(&alice(3)));
}

#[test]
fn i6_another_accounts_archive_needs_yes_and_saves_the_live_login() {
    let (env, archive) = sample_with_archive();
    write_auth(&env.codex_home(), &bob());
    let before = env.tree("");
    let run = env.run(["restore", &archive]).code(5);
    assert!(
        run.stderr.contains("bob@example.com") && run.stderr.contains("alice@example.com"),
        "{run}"
    );
    assert_same_tree(&before, &env.tree(""));
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    assert_eq!(read(&env, "auth.json"), auth_json(&alice(0)));
    let profiles = env.manager_home().join("profiles");
    let saved = fs::read_to_string(profiles.join("bob@example.com/auth.json")).expect("read");
    assert_eq!(saved, auth_json(&bob()));
    for profile in fs::read_dir(&profiles).expect("list").flatten() {
        let name = profile.file_name().into_string().expect("text");
        let bytes = fs::read_to_string(profile.path().join("auth.json")).unwrap_or_default();
        let whose = if name.starts_with("bob") {
            bob()
        } else {
            alice(0)
        };
        assert!(bytes.is_empty() || bytes == auth_json(&whose), "{name}");
    }
    // The safety backup restores Bob's login.
    let live = home(&env);
    let list = env.run(["list-backups", "--json"]).code(0).json();
    let safety = list["backups"]
        .as_array()
        .expect("list")
        .iter()
        .find(|b| b["label"] == "safety")
        .expect("one")["archive"]
        .clone();
    let _ = env
        .run(["restore", safety.as_str().expect("text"), "--yes"])
        .code(0);
    assert_eq!(read(&env, "auth.json"), auth_json(&bob()));
    assert_ne!(live, home(&env));
}

#[test]
fn unrecognized_bytes_in_auth_json_are_kept_before_replacement() {
    for (what, bytes) in [
        ("empty", String::new()),
        ("NUL", "\0".repeat(200)),
        ("cut", "{\"tokens\":".to_owned()),
        ("unknown", "{\"a_login_of_tomorrow\":\"secret\"}".to_owned()),
    ] {
        let (env, archive) = sample_with_archive();
        write_auth_text(&env.codex_home(), &bytes);
        let _ = env.run(["restore", &archive]).code(0);
        assert_eq!(read(&env, "auth.json"), auth_json(&alice(0)), "{what}");
        let kept: Vec<_> = fs::read_dir(env.manager_home().join("profiles/.unreadable"))
            .unwrap_or_else(|e| panic!("{what}: {e}"))
            .flatten()
            .map(|e| fs::read_to_string(e.path()).expect("read"))
            .collect();
        assert_eq!(kept, [bytes], "{what}");
    }
}

#[test]
fn i1_a_legacy_login_file_is_never_replaced() {
    let (env, archive) = sample_with_archive();
    let name = "21apr_old@example.com_auth.json";
    put(&env, name, "changed since");
    let (_, safety) = restore_json(&env, &[&archive]);
    assert_eq!(read(&env, name), "changed since");
    let _ = env.run(["restore", &safety]).code(0);
    assert_eq!(read(&env, name), "changed since");
    // The file is restored if the home has none. The undo does not remove it.
    fs::remove_file(env.codex_home().join(name)).expect("remove");
    let (_, safety) = restore_json(&env, &[&archive]);
    assert!(env.codex_home().join(name).exists());
    let _ = env.run(["restore", &safety]).code(0);
    assert!(env.codex_home().join(name).exists());
}

#[test]
fn restoring_an_archive_of_mode_auth_changes_no_conversation() {
    let (env, _) = sample_with_archive();
    let archive = text(&backup(&env, &["--mode", "auth"]));
    put(&env, "config.toml", "changed");
    put(&env, "rules/more.rules", "x");
    let before = home(&env);
    let (document, safety) = restore_json(&env, &[&archive]);
    assert_eq!(document["removed"], serde_json::json!(["rules/more.rules"]));
    assert_same_tree(
        &before.only(&["sessions", "state_5.sqlite", "skills", "history.jsonl"]),
        &home(&env).only(&["sessions", "state_5.sqlite", "skills", "history.jsonl"]),
    );
    let _ = env.run(["restore", &safety]).code(0);
    assert_same_home(&before, &home(&env));
}

#[test]
fn doctor_accepts_a_backup_with_excludes_of_a_home_without_conversations() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    let _ = backup(&env, &["--exclude", "plugins"]);
    let checks = env.run(["doctor", "--json"]).json();
    let checks = checks["checks"].as_array().unwrap();
    let age = checks.iter().find(|check| check["id"] == "archives");
    assert_eq!(age.expect("the age")["status"], "ok", "{age:?}");
}

#[test]
fn latest_is_a_backup_with_conversations_even_if_a_newer_one_excludes_them() {
    let mut env = TestEnv::new();
    sample_home(&env);
    let complete = backup(&env, &[]);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let without = backup(
        &env,
        &["--exclude", "sessions", "--exclude", "archived_sessions"],
    );
    let listed = env.run(["list-backups"]).code(0).stdout;
    assert_eq!(listed.matches("full (--exclude)").count(), 1, "{listed}");
    let json = env.run(["list-backups", "--json"]).code(0).json();
    let excludes = [0, 1].map(|i| json["backups"][i]["excludes"].clone());
    assert_eq!(excludes, [json!(true), json!(false)]);

    fs::remove_dir_all(env.codex_home()).expect("remove");
    let file_name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let restored = env.run(["restore", "latest", "--yes"]).code(0);
    let name = file_name(&complete);
    assert!(
        restored.stderr.contains(&format!("{name}: full archive")),
        "{restored}"
    );
    let passed_over = format!(
        "{} is newer, but was made with --exclude or backup.exclude and has no conversations",
        file_name(&without)
    );
    assert!(restored.stderr.contains(&passed_over), "{restored}");
    assert!(env.codex_home().join(rollout(FIRST)).exists());

    // By its name it is restored, and the excluded paths are named.
    let named = env.run(["restore", &text(&without), "--dry-run"]).code(0);
    assert!(named.stderr.contains("full (--exclude) archive"), "{named}");
    let shown = named.stderr.replace('\n', " ");
    let names_folders = |folders: &str| shown.contains(&format!(", without {folders}"));
    assert!(
        names_folders("archived_sessions, sessions")
            || names_folders("sessions, archived_sessions"),
        "{named}"
    );

    // Without another archive, it is the latest one.
    fs::remove_file(&complete).expect("remove");
    let _ = env.run(["restore", "latest", "--yes"]).code(0);
}

#[test]
fn a_backup_of_an_emptied_home_does_not_take_the_place_of_the_last_full_one() {
    let mut env = TestEnv::new();
    sample_home(&env);
    let _ = backup(&env, &[]);
    // The login stays, so that both archives are of one account.
    let login = fs::read(env.codex_home().join("auth.json")).expect("read");
    fs::remove_dir_all(env.codex_home()).expect("remove");
    fs::create_dir(env.codex_home()).expect("create");
    fs::write(env.codex_home().join("auth.json"), login).expect("write");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let run = env.run(["backup", "--no-status", "--if-older", "0min"]);
    let warning =
        "warning: an archive of today 12:00 has 2 conversations:\n    codex-manager restore latest";
    assert!(run.stderr.contains(warning), "{run}");

    let kept = env
        .run(["prune", "--keep-last", "1", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_eq!(kept["drop"], json!([]), "{kept}");
    assert!(
        kept.to_string().contains("last with conversations"),
        "{kept}"
    );
    let restored = env.run(["restore", "latest", "--yes"]).code(0);
    assert!(
        restored
            .stderr
            .contains("is newer, but has no conversations"),
        "{restored}"
    );
    assert!(env.codex_home().join(rollout(FIRST)).exists());
}

#[test]
fn errors_about_what_an_archive_lacks_name_the_archive() {
    let (env, archive) = sample_with_archive();
    let run = env
        .run(["restore", "latest", "--session", "nosuch"])
        .code(1);
    let name = Path::new(&archive).file_name().unwrap().to_str().unwrap();
    assert!(run.stderr.contains("codex-manager restore "), "{run}");
    assert!(run.stderr.contains(&format!("{name} --session")), "{run}");
    assert!(!run.stderr.contains("tar tzf"), "{run}");
    let run = env.run(["restore", "latest", "--only", "nosuch"]).code(1);
    assert!(run.stderr.contains("tar tzf "), "{run}");
    assert!(run.stderr.contains(&format!("/{name}")), "{run}");
    let args = ["restore", "latest", "--only", "auth.json", "--auth", "skip"];
    let run = env.run(args).code(1);
    let reason = "nothing would be restored there: auth.json";
    assert!(run.stderr.contains(reason), "{run}");
}
