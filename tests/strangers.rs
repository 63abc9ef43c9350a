//! Files of strangers: databases, rows, links and names from another person's home neither run, nor lead elsewhere,
//! nor deceive the reader of a terminal.

use crate::cooldown::{entry, write_cooldown};
use crate::every_command::leaves;
use crate::support::conversations::{Conversation, id, state, write};
use crate::support::env::{Run, TestEnv};
use crate::support::fake_codex::{Behaviour, FakeCodex, account_read};
use crate::support::sample::{put, sample_home};
use crate::support::sign_in::{SignIn, write_auth};
use crate::support::write_program;
use crate::vault::vault_env;
use rusqlite::Connection;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A list of conversations whose first row never comes.
const ENDLESS_VIEW: &str =
    "CREATE VIEW threads AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)
     SELECT 'x' || id AS id, '' AS rollout_path, '' AS title, 0 AS updated_at FROM n WHERE id < 0;";

#[test]
fn every_reading_command_reports_a_threads_table_replaced_by_an_endless_view() {
    let env = TestEnv::new();
    sample_home(&env);
    let path = env.codex_home().join("state_5.sqlite");
    let database = Connection::open(&path).unwrap();
    let sql = format!("ALTER TABLE threads RENAME TO was; {ENDLESS_VIEW}");
    database.execute_batch(&sql).unwrap();
    database.close().unwrap();
    let first = id(1);
    for args in [
        &["sessions"][..],
        &["find", "one"],
        &["show", &first],
        &["history", "check"],
        &["usage"],
        &["doctor"],
    ] {
        let run = env.run_to_its_end(args);
        assert!(!run.stderr.contains("panicked"), "{run}");
        let text = format!("{}{}", run.stdout, run.stderr).replace('\n', " ");
        let is_named = text.contains("threads is a view") && text.contains("state_5.sqlite");
        assert!(is_named, "{args:?} {run}");
    }
    let _ = env.run_to_its_end(["backup"]);
}

fn fired(env: &TestEnv) -> i64 {
    let database = Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    let count = database.query_row("SELECT count(*) FROM fired", [], |row| row.get(0));
    count.unwrap()
}

#[test]
fn repair_trash_and_undelete_fire_no_trigger_of_the_database() {
    let mut env = TestEnv::new();
    let codex = FakeCodex::new(&env.path("codex"));
    env.set("PATH", format!("{}:/usr/bin:/bin", codex.dir().display()));
    for number in 1..=3 {
        let mut conversation = Conversation::new(number, 60 * 24 * 100, "one", "two");
        conversation.archived = number == 2;
        write(&env, &conversation);
    }
    state(&env)
        .execute_batch(
            "CREATE TABLE fired(x);
             CREATE TRIGGER i AFTER INSERT ON threads BEGIN INSERT INTO fired VALUES('i'); END;
             CREATE TRIGGER u AFTER UPDATE ON threads BEGIN INSERT INTO fired VALUES('u'); END;
             CREATE TRIGGER d AFTER DELETE ON threads BEGIN INSERT INTO fired VALUES('d'); END;
             DELETE FROM threads WHERE substr(id, 13, 1) = '3'; DELETE FROM fired;
             UPDATE threads SET rollout_path = rollout_path || 'x' WHERE archived = 1;
             DELETE FROM fired;",
        )
        .unwrap();
    let repaired = env.run(["history", "repair", "--yes", "--json"]).code(0);
    assert_ne!(repaired.json()["changed"], json!([]), "{repaired}");
    assert_eq!(fired(&env), 0, "{repaired}");
    let first = id(1);
    let trashed = env
        .run(["storage", "trash", &first, "--yes", "--json"])
        .code(0);
    assert_eq!(fired(&env), 0, "{trashed}");
    let _ = env.run(["storage", "undelete", &first, "--yes"]).code(0);
    assert_eq!(fired(&env), 0);
    let count = "SELECT count(*) FROM threads";
    let rows: i64 = state(&env).query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3);
}

#[test]
fn files_that_are_no_conversation_of_the_home_are_neither_shown_nor_exported() {
    let env = TestEnv::new();
    let secret = "the-secret-of-another-file";
    let line = format!(
        "{{\"OPENAI_API_KEY\":\"{secret}\",\"type\":\"x\",\"payload\":{{}},\"timestamp\":1}}\n"
    );
    let login = put(&env, "auth.json", &line);
    let outside = env.write("elsewhere/rollout-2026-11-20T06-00-00-x.jsonl", &line);
    for (number, target) in [(1, &login), (2, &outside)] {
        let mut conversation = Conversation::new(number, 1, "one", "two");
        conversation.lines.clear();
        let path = write(&env, &conversation);
        fs::remove_file(&path).unwrap();
        state(&env)
            .execute(
                "UPDATE threads SET rollout_path=?2 WHERE id=?1",
                [&id(number), &target.display().to_string()],
            )
            .unwrap();
    }
    let linked = Conversation::new(3, 1, "one", "two");
    let path = write(&env, &linked);
    fs::remove_file(&path).unwrap();
    symlink(&outside, &path).unwrap();
    // A rollout in the home that is no conversation.
    let other = write(&env, &Conversation::new(4, 1, "one", "two"));
    fs::write(&other, format!("{secret}:$6$hash\n")).unwrap();
    for number in 1..=4 {
        let id = id(number);
        for args in [
            &["show", &id, "--raw"][..],
            &["show", &id, "--no-redact"],
            &["show", &id, "--json", "--no-redact"],
            &["export", &id, "--format", "json", "--no-redact", "--tools"],
            &["export", &id, "--format", "html", "--no-redact"],
        ] {
            let run = env.run(args);
            assert_eq!(run.code, 1, "{args:?} {run}");
            let printed = format!("{}{}", run.stdout, run.stderr);
            assert!(!printed.contains(secret), "{args:?} {run}");
        }
    }
    let found = env.run(["find", secret]);
    assert!(!found.stdout.contains("elsewhere"), "{found}");
}

/// Characters that reverse or hide text, or steer a terminal.
const EVIL: &str =
    "\u{202e}gpj\u{2066}x\u{200b}y\u{200f}z\u{9b}31m\x1b[2J\x1b]0;title\x07\u{feff}\u{2060}\u{61c}";

/// Returns true for characters that piped output must not contain.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[track_caller]
fn assert_honest(what: &str, run: &Run) {
    for (name, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        let line = text.lines().find(|line| line.contains(is_deceptive));
        assert_eq!(line, None, "{what}: {name}");
    }
}

/// Creates a home in which every text of a stranger has [`EVIL`] characters.
fn evil_world() -> (TestEnv, FakeCodex) {
    let mut env = TestEnv::new();
    sample_home(&env);
    let email = format!("{EVIL}alice@example.com");
    let mut sign_in = SignIn::new("acct-alice", &email);
    sign_in.plan = format!("plus{EVIL}");
    write_auth(&env.codex_home(), &sign_in);
    fs::remove_file(env.codex_home().join("state_5.sqlite")).unwrap();
    for number in 1..=3 {
        let text = format!("a title {EVIL} of {number}");
        let mut conversation = Conversation::new(number, 60, &text, &text);
        conversation.cwd = format!("/home/alice/{EVIL}");
        conversation.source = format!("cli{EVIL}");
        write(&env, &conversation);
    }
    state(&env)
        .execute(
            "UPDATE threads SET name=?1, git_branch=?1, model=?1",
            [format!("a name {EVIL}")],
        )
        .unwrap();
    let name = json!({"id": id(1), "thread_name": format!("named {EVIL}"), "updated_at": "2026-11-20T06:00:00Z"});
    put(&env, "session_index.jsonl", format!("{name}\n"));
    let file = EVIL.replace('/', "");
    put(&env, format!("skills/{file}/SKILL.md"), "text");
    put(&env, format!("prompts/{file}.md"), "text");
    put(&env, format!("{file}.sqlite"), "no database");
    put(
        &env,
        "config.toml",
        format!("model = \"{}\"\n", "\u{202e}gpt"),
    );
    write_cooldown(&env, &[entry(&email, 40.0, "2026-11-24T15:55:00Z")]);
    for folder in ["backups/alice", "profiles", "cloud"] {
        env.write(&format!("home/.codex-manager/{folder}/{file}/x"), "x");
    }
    env.write(
        &format!("home/.codex-manager/backups/{file}/2026-11-20-120000-{file}-codex.tar.gz"),
        "x",
    );
    let config = env.write(
        "home/.codex-manager/sync.toml",
        "[sync]\ndry_run_default = false\n[paths]\ncloud_root_dir = \"~/cloud\"\nbackup_dir = \"~/sync-backups\"\n",
    );
    fs::set_permissions(config, fs::Permissions::from_mode(0o600)).unwrap();
    env.write(
        &format!("home/cloud/prompts/{file}.md"),
        "of another machine\n",
    );
    let codex = FakeCodex::new(&env.path("codex"))
        .answer(
            "account/read",
            &account_read(&email, "acct-alice", &format!("plus{EVIL}")),
        )
        .error("account/rateLimits/read", -1, &format!("an error {EVIL}"))
        .error("thread/list", -1, &format!("an error {EVIL}"));
    env.set(
        "PATH",
        format!(
            "{}:{}:/usr/bin:/bin",
            env.path("bin").display(),
            codex.dir().display()
        ),
    );
    write_program(
        &env.path("bin/restic"),
        &format!(
            "#!/bin/sh\ncase $1 in version) echo restic 0.18.0 compiled;; *) printf 'Fatal: {EVIL} failed\\n' >&2; exit 1;; esac\n"
        ),
    );
    env.set("RESTIC_PASSWORD", "x");
    env.set("EDITOR", "true");
    (env, codex)
}

#[test]
fn untrusted_text_is_printed_without_control_or_bidi_characters() {
    let (env, _codex) = evil_world();
    let _ = env.run(["backup"]);
    let _ = env
        .run(["config", "set", "vault.repository", "/vault"])
        .code(0);
    let mut printed = 0;
    for leaf in leaves() {
        // A hook and a completion script are run by a shell, not read.
        if ["completions", "man", "hook"].contains(&&*leaf.words[0]) {
            continue;
        }
        let run = env.run_to_its_end(leaf.with(&[]));
        assert_honest(&leaf.words.join(" "), &run);
        printed += usize::from(run.stdout.contains('\u{fffd}') || run.stderr.contains('\u{fffd}'));
    }
    assert!(printed > 10, "only {printed} commands printed such a text");
    let (one, email) = (id(1), format!("{EVIL}alice@example.com"));
    for args in [
        &["show", &one, "--tools"][..],
        &["list-backups", "--format", "tsv"],
        &["list", "--format", "tsv"],
        &["usage", "models", "--format", "tsv"],
        &["usage", "projects", "--format", "tsv"],
        &["find", "title"],
        &["export", &one],
        &["backup", "--verbose", "--dry-run"],
        &["use", &email],
        &["show", EVIL],
        &["vault", "snapshots", "--repo", "rest:http://h/"],
        &["status", "--verbose"],
        &["sync", "plan"],
    ] {
        assert_honest(&format!("{args:?}"), &env.run_to_its_end(args));
    }
}

#[test]
fn restic_gets_the_environment_without_keys_of_openai() {
    let Some(mut env) = vault_env() else { return };
    let seen = env.path("home/environment");
    let script = format!(
        "#!/bin/sh\nenv >> '{}'\nexec /usr/bin/restic \"$@\"\n",
        seen.display()
    );
    write_program(&env.path("bin/restic"), &script);
    for name in [
        "OPENAI_API_KEY",
        "CODEX_API_KEY",
        "CODEX_ACCESS_TOKEN",
        "OPENAI_ORG_ID",
        "codex_token",
    ] {
        env.set(name, "a-key-of-openai");
    }
    env.set("AWS_ACCESS_KEY_ID", "a-key-of-aws");
    env.set("BW_SESSION", "of-a-password-manager");
    let _ = env.run(["vault", "snapshots"]).code(0);
    let variables = fs::read_to_string(seen).unwrap();
    assert!(!variables.contains("a-key-of-openai"), "{variables}");
    assert!(!variables.contains("\nCODEX_"), "{variables}");
    for kept in [
        "AWS_ACCESS_KEY_ID=a-key-of-aws",
        "BW_SESSION=of",
        "RESTIC_PASSWORD=",
    ] {
        assert!(variables.contains(kept), "{variables}");
    }
}

#[test]
fn a_drill_reports_a_codex_that_makes_no_progress() {
    let Some(mut env) = vault_env() else { return };
    let _ = env.run(["vault", "backup"]).code(0);
    let codex = FakeCodex::new(&env.path("codex")).behaviour(Behaviour::NeverAnswers);
    env.set("PATH", format!("{}:/usr/bin:/bin", codex.dir().display()));
    let run = env
        .run_to_its_end(["vault", "drill", "--timeout", "2"])
        .code(5);
    assert!(run.stdout.contains("no progress within 2 s"), "{run}");
}

#[test]
fn a_drill_reports_a_restic_that_makes_no_progress() {
    let Some(env) = vault_env() else { return };
    let _ = env.run(["vault", "backup"]).code(0);
    let script =
        "#!/bin/sh\ncase \"$*\" in *dump*) exec sleep 1000;; esac\nexec /usr/bin/restic \"$@\"\n";
    write_program(&env.path("bin/restic"), script);
    let run = env
        .run_to_its_end(["vault", "drill", "--timeout", "2"])
        .code(1);
    assert!(run.stderr.contains("no progress for 2 s"), "{run}");
}

#[test]
fn files_in_the_trash_are_private_and_come_back_with_their_mode() {
    let env = TestEnv::new();
    let path = write(&env, &Conversation::new(1, 60 * 24 * 100, "one", "two"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let one = id(1);
    let _ = env.run(["storage", "trash", &one, "--yes"]).code(0);
    let mut files = 0;
    for entry in walkdir::WalkDir::new(env.manager_home().join("trash")) {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
        files += usize::from(entry.file_type().is_file());
    }
    assert!(files >= 2);
    let _ = env.run(["storage", "undelete", &one, "--yes"]).code(0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_manager_home_writable_by_others_is_made_private_unless_sticky_or_with_foreign_files() {
    let env = TestEnv::new();
    sample_home(&env);
    let home = env.manager_home();
    fs::create_dir(&home).unwrap();
    for (before, after) in [
        (0o777, 0o700),
        (0o770, 0o700),
        (0o1777, 0o1777),
        (0o755, 0o755),
    ] {
        fs::set_permissions(&home, fs::Permissions::from_mode(before)).unwrap();
        let run = env.run(["profile", "save", "alice"]);
        assert_eq!(mode(&home), after, "{before:o} {run}");
        let is_told = run.stderr.contains("now only you can");
        assert_eq!(is_told, before != after, "{run}");
    }
    // Not a folder of this program alone.
    env.write("home/.codex-manager/photos/one.jpg", "x");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    let _ = env.run(["list"]);
    assert_eq!(mode(&home), 0o777);
}

#[test]
fn a_manager_home_of_another_user_is_refused_if_others_can_write_to_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let home = env.manager_home();
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::chown(&home, Some(12345), None).unwrap();
    let run = env.run(["profile", "save", "alice"]).code(5);
    assert!(
        run.stderr.contains("another user owns the manager home"),
        "{run}"
    );
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}

/// Creates folders inside each other, deeper than a path of the system can name.
fn deep_folder(top: &Path, name: &str, levels: usize) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    fs::create_dir_all(top).unwrap();
    let open = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut folder = openat(CWD, top, open, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&folder, name, Mode::RWXU).unwrap();
        folder = openat(&folder, name, open, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(&folder, "SKILL.md", flags, Mode::RUSR).unwrap());
}

#[test]
fn a_too_deeply_nested_folder_is_skipped_and_reported_once() {
    let Some(env) = vault_env() else { return };
    let _ = env.write("home/cloud/README", "");
    let _ = env
        .run(["sync", "init", "--cloud", "home/cloud", "--yes"])
        .code(0);
    let checked = env.run(["history", "check"]).code;
    for top in ["skills", "sessions", "prompts"] {
        deep_folder(&env.codex_home().join(top), "d", 1500);
        deep_folder(&env.codex_home().join(top), "directory-x", 1500);
    }
    let deep = |text: &str| text.matches("nested too deeply").count();
    let run = env.run_to_its_end(["backup", "--no-status"]).code(6);
    assert_eq!(deep(&run.stderr), 6, "{run}");
    let _ = env.run_to_its_end(["verify", "latest"]).code(0);
    let _ = env
        .run_to_its_end(["restore", "latest", "--to", "other", "--yes"])
        .code(0);
    let run = env.run_to_its_end(["vault", "backup"]).code(6);
    assert_eq!(deep(&run.stderr), 6, "{run}");
    let plan = env.run_to_its_end(["sync", "plan"]);
    assert!(
        [0, 6].contains(&plan.code) && deep(&plan.stderr) + deep(&plan.stdout) > 0,
        "{plan}"
    );
    let _ = env.run_to_its_end(["history", "check"]).code(checked);
    let _ = env.run_to_its_end(["find", "one"]);
    let run = env.run_to_its_end(["storage"]).code(6);
    assert!(run.stderr.contains("could not be read"), "{run}");
    assert!(!run.stderr.contains("panicked"), "{run}");
}
