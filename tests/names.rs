//! Names of accounts and archives as users type them: mistyped names, beginnings, numbers.

use crate::cooldown::write_cooldown;
use crate::every_command::world;
use crate::prune::archives;
use crate::support::env::TestEnv;
use crate::support::sample::{alice, backup, put, sample_home};
use crate::support::sign_in::write_auth;
use crate::vault::vault_env;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Creates archives of 20, 19 and 18 November, and returns their names, newest first.
fn three_archives() -> (TestEnv, Vec<String>) {
    let mut env = TestEnv::new();
    let times = ["20", "19", "18"].map(|day| format!("2026-11-{day}T10:00:00Z"));
    let made = archives(&mut env, &times.each_ref().map(String::as_str));
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    (env, made.iter().map(name).collect())
}

/// Returns the archive that `restore TEXT` takes.
fn restored(env: &TestEnv, text: &str) -> String {
    let run = env.run(["restore", text, "--dry-run", "--json"]).code(0);
    run.json()["archive"].as_str().unwrap().to_owned()
}

#[test]
fn backups_and_restores_name_an_account_by_its_profile() {
    let (env, made) = three_archives();
    let _ = env.run(["profile", "save", "work"]).code(0);
    let stdout = |args: &[&str]| env.run(args).code(0).stdout;
    let done = stdout(&["backup", "--no-status"]);
    assert!(done.contains("full of work: "), "{done}");
    let run = env.run(["restore", &made[0], "--dry-run"]).code(0);
    let described = format!("{}: full archive of work, made Fri 20 Nov 10:00", made[0]);
    assert!(run.stderr.starts_with(&described), "{run}");
    for listing in [&["list-backups"][..], &["prune", "--keep-last", "1", "-n"]] {
        let shown = stdout(listing);
        let heading = |line: &str| line.trim_end().starts_with("work (alice@example.com)");
        assert_eq!(
            shown.lines().filter(|line| heading(line)).count(),
            1,
            "{shown}"
        );
    }
}

#[test]
fn snapshots_name_an_account_by_its_profile() {
    let Some(env) = vault_env() else { return };
    let _ = env.run(["profile", "save", "work"]).code(0);
    let made = env.run(["vault", "backup"]).code(0).stdout;
    assert!(made.contains("full of work: "), "{made}");
    let listed = env.run(["vault", "snapshots"]).code(0).stdout;
    assert!(listed.contains("  work  "), "{listed}");
    let run = env.run(["vault", "restore", "latest", "--dry-run"]).code(0);
    assert!(
        run.stderr.contains(": full snapshot of work, made"),
        "{run}"
    );
}

#[test]
fn an_unknown_account_suggests_the_three_nearest_and_an_ambiguous_one_lists_three() {
    let env = TestEnv::new();
    let known: Vec<_> = (10..40)
        .map(|i| json!({"email": format!("acct{i}@example.com")}))
        .collect();
    write_cooldown(&env, &known);
    let run = env.run(["use", "acct42"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: no account or profile named "acct42"

hint: did you mean: acct24@example.com, acct12@example.com, acct14@example.com
hint: list all accounts:
    codex-manager accounts
"#);
    let run = env.run(["use", "acct1"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: "acct1" matches 10 accounts

hint: the accounts are: acct10@example.com, acct11@example.com, acct12@example.com and 7 more
"#);
}

#[test]
fn an_unknown_profile_suggests_the_nearest() {
    let (env, _) = three_archives();
    let _ = env.run(["profile", "save", "work"]).code(0);
    let run = env.run(["profile", "show", "wrok"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: no such profile: "wrok"

hint: did you mean: work
hint: list all profiles:
    codex-manager profile list
  nothing was changed
"#);
}

#[test]
fn the_nearest_archives_are_suggested_for_a_mistyped_one() {
    let (env, _) = three_archives();
    let run = env.run(["restore", "lates"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: no archive or account named "lates"

hint: did you mean: latest
hint: list archives with:
    codex-manager list-backups
"#);
    let run = env.run(["restore", "2026-11-21"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: no archive or account named "2026-11-21"

hint: did you mean: 2026-11-20-100000-alice@example.com, 2026-11-19-100000-alice@example.com, 2026-11-18-100000-alice@example.com
hint: list archives with:
    codex-manager list-backups
"#);
    let run = env.run(["verify", "2026-11-21"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: no such archive: 2026-11-21

hint: did you mean: 2026-11-20-100000-alice@example.com, 2026-11-19-100000-alice@example.com, 2026-11-18-100000-alice@example.com
hint: list archives with:
    codex-manager list-backups
"#);
    let run = env.run(["restore", "2026-11"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: "2026-11" is the beginning of 3 archive names

hint: they are: 2026-11-20-100000-alice@example.com (backed up Fri 20 Nov 10:00), 2026-11-19-100000-alice@example.com (backed up Thu 19 Nov 10:00), 2026-11-18-100000-alice@example.com (backed up Wed 18 Nov 10:00)
"#);
}

#[test]
fn without_archives_restore_suggests_a_backup_or_without_a_login_to_sign_in() {
    // Without an archive only a backup could be suggested, and without a login it would fail.
    let empty = TestEnv::new();
    let run = empty.run(["restore", "lates"]).code(1);
    assert!(run.stderr.contains("codex-manager profile login"), "{run}");
    write_auth(&empty.codex_home(), &alice(1));
    let run = empty.run(["restore", "lates"]).code(1);
    assert!(run.stderr.contains("codex-manager backup"), "{run}");
}

#[test]
fn an_archive_is_chosen_by_list_number_name_prefix_or_offset_from_latest() {
    let (env, names) = three_archives();
    let listed = env.run(["list-backups", "--json"]).code(0).json();
    for backup in listed["backups"].as_array().unwrap() {
        let number = usize::try_from(backup["number"].as_u64().unwrap()).unwrap();
        assert_eq!(backup["archive"], names[number - 1]);
        assert_eq!(restored(&env, &number.to_string()), backup["archive"]);
    }
    assert_eq!(restored(&env, "latest"), names[0]);
    assert_eq!(restored(&env, "latest~0"), names[0]);
    assert_eq!(restored(&env, "latest~2"), names[2]);
    assert_eq!(restored(&env, "2026-11-19"), names[1]);
    let verified = env.run(["verify", "latest~1", "3", "--json"]).code(0);
    assert_eq!(verified.json()["archives"][0]["archive"], names[1]);
    assert_eq!(verified.json()["archives"][1]["archive"], names[2]);
    for beyond in ["latest~3", "4", "0"] {
        let run = env.run(["restore", beyond]).code(1);
        assert!(run.stderr.contains("list-backups"), "{run}");
    }
    // A number is not the beginning of a name.
    for command in ["restore", "verify", "diff"] {
        let run = env.run([command, "20"]).code(1);
        let few = "error: no archive has the number 20: there are only 3\n";
        assert!(run.stderr.starts_with(few), "{run}");
    }
    let run = env.run(["restore", "latest~3"]).code(1);
    let few = "error: no latest~3: there are only 3, without safety and partial archives\n";
    assert!(run.stderr.starts_with(few), "{run}");
    // An option with an optional value takes the word after it.
    let run = env.run(["restore", "--session", "latest"]).code(4);
    let hint = "name the archive first:\n    codex-manager restore latest --session\n";
    assert!(run.stderr.contains(hint), "{run}");
    // The numbers do not depend on the order or the filters of the list.
    let table = env.run(["list-backups", "--sort", "size"]).code(0).stdout;
    let oldest = names[2].trim_end_matches("-codex.tar.gz");
    let row = table.lines().find(|row| row.ends_with(oldest)).unwrap();
    assert!(row.starts_with("  3 "), "{table}");
}

#[test]
fn the_name_of_an_archive_that_is_gone_does_not_denote_a_later_one_of_its_window() {
    let env = TestEnv::new();
    sample_home(&env);
    let first = backup(&env, &[]);
    put(&env, "AGENTS.md", "changed");
    let second = backup(&env, &[]);
    let short_name = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.trim_end_matches("-codex.tar.gz").to_owned()
    };
    let (first_name, second_name) = (short_name(&first), short_name(&second));
    assert_eq!(second_name, format!("{first_name}-2"));
    fs::remove_file(&first).unwrap();

    for command in ["restore", "verify"] {
        let run = env.run([command, &first_name]).code(1);
        assert!(run.stderr.contains(&second_name), "{run}");
    }
    let beginning = first_name.strip_suffix("om").expect("an email in .com");
    let _ = env.run(["restore", beginning, "--dry-run"]).code(0);
}

#[test]
fn a_mistyped_conflict_or_snapshot_is_reported_and_without_snapshots_a_sync_is_suggested() {
    let env = world();
    let run = env.run(["sync", "resolve", "typo"]).code(1);
    assert!(
        run.stderr
            .contains("no conflict or conflict copy matches: typo"),
        "{run}"
    );
    let run = env.run(["sync", "restore", "--from", "typo"]).code(1);
    assert!(run.stderr.contains("no such snapshot"), "{run}");
    assert!(run.stderr.contains("codex-manager sync restore"), "{run}");
    fs::remove_dir_all(env.path("home/sync-backups")).expect("remove");
    let run = env.run(["sync", "restore"]).code(1);
    assert!(
        run.stderr.contains("no snapshots in the backup folder: "),
        "{run}"
    );
    assert!(run.stderr.contains("a sync creates one"), "{run}");
}

#[test]
fn an_account_without_a_profile_is_suggested_by_its_email() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(1));
    let run = env
        .run(["status", "--account", "alice@example.con"])
        .code(1);
    let hint = "hint: the accounts are: alice@example.com\n";
    assert!(run.stderr.ends_with(hint), "{run}");
}

#[test]
fn a_dry_run_of_backup_names_the_file_that_the_backup_writes() {
    let env = TestEnv::new();
    sample_home(&env);
    for suffix in [
        "alice@example.com",
        "alice@example.com-2",
        "alice@example.com-3",
    ] {
        let args = ["backup", "--no-status", "--dry-run"];
        let planned = env.run([&args[..], &["--json"]].concat()).code(0).json();
        let name = format!("2026-11-20-120000-{suffix}-codex.tar.gz");
        assert_eq!(planned["archive"], *name);
        let run = env.run(args).code(0);
        assert!(run.stdout.contains(&format!("as {name}\n")), "{run}");
        // No quota is known, so the name may change with what Codex reports.
        assert!(run.stdout.contains("start of the window"), "{run}");
        assert!(backup(&env, &[]).ends_with(&name));
    }
}

#[test]
fn time_options_accept_words_such_as_yesterday() {
    let env = world();
    for words in [
        "sessions --since monday",
        "find word --until yesterday",
        "usage --since 2026-11",
        "usage --window --at yesterday",
        "cooldown --set work --until tomorrow_9:00 -n",
        "backup --reset-at friday_9:00 -n",
    ] {
        let args: Vec<_> = words
            .split(' ')
            .map(|word| word.replace('_', " "))
            .collect();
        let run = env.run(&args);
        assert_ne!(run.code, 4, "{run}");
    }
}
