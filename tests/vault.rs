//! `vault` with a real restic.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::restic::{self, PASSWORD};
use crate::support::sample::{FIRST, put, rollout, sample_home, set_time};
use crate::support::terminal::Terminal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Maximum time for a prompt to appear.
const LIMIT: Duration = Duration::from_secs(60);

/// Creates a vault in the folder `vault`, with its password in a variable.
pub(crate) fn set_up(env: &mut TestEnv) {
    restic::new_repository(&env.path("vault"));
    env.set("RESTIC_PASSWORD", PASSWORD);
    let _ = env.run(["vault", "init", "vault"]).code(0);
}

/// Returns a sample home with a vault; `None` if restic is not installed.
pub(crate) fn vault_env() -> Option<TestEnv> {
    restic::program()?;
    let mut env = TestEnv::new();
    sample_home(&env);
    age_rollouts(&env);
    set_up(&mut env);
    Some(env)
}

/// Sets an old modification time for all rollouts.
fn age_rollouts(env: &TestEnv) {
    for file in walkdir::WalkDir::new(env.codex_home().join("sessions")) {
        let file = file.unwrap();
        if file.file_type().is_file() {
            set_time(file.path(), 1_790_000_000, 123_456_789);
        }
    }
}

/// Runs restic itself on the vault.
pub(crate) fn run_restic(env: &TestEnv, args: &[&str]) -> Run {
    restic::run(env, &env.path("vault"), args)
}

pub(crate) fn backup(env: &TestEnv) -> Value {
    env.run(["vault", "backup", "--json"]).code(0).json()
}

pub(crate) fn snapshots(env: &TestEnv) -> Vec<Value> {
    let json = env.run(["vault", "snapshots", "--json"]).code(0).json();
    json["snapshots"].as_array().unwrap().clone()
}

#[test]
fn a_snapshot_restores_the_home_as_it_was() {
    let Some(env) = vault_env() else { return };
    let before = env.tree("home/.codex");
    let made = backup(&env);
    assert_eq!(made["email"], "alice@example.com");
    assert_same_tree(&before, &env.tree("home/.codex"));
    put(&env, rollout(FIRST), "lost\n");
    fs::remove_file(env.codex_home().join("config.toml")).unwrap();
    let run = env
        .run(["vault", "restore", "latest", "--json"])
        .code(0)
        .json();
    assert_eq!(run["archive"], made["snapshot"]);
    assert!(run["safety_backup"].is_string(), "{run}");
    let after = env.tree("home/.codex");
    let names = [
        "sessions",
        "config.toml",
        "auth.json",
        "skills",
        "history.jsonl",
    ];
    assert_same_tree(&before.only(&names), &after.only(&names));
    let check = env
        .run(["vault", "check", "--read-data", "--json"])
        .code(0)
        .json();
    assert_eq!(check["ok"], true);
}

#[test]
fn restic_alone_lists_and_restores_a_snapshot() {
    let Some(env) = vault_env() else { return };
    let made = backup(&env);
    let listed = run_restic(&env, &["ls", "latest"]).code(0).stdout;
    let path = format!("/{}", rollout(FIRST).display());
    for path in [&path, "/config.toml", "/.codex-manager/manifest.json"] {
        assert!(listed.lines().any(|line| line == path), "{path}: {listed}");
    }
    let _ = run_restic(&env, &["restore", "latest", "--target", "by-restic"]).code(0);
    let home = env
        .tree("home/.codex")
        .only(&["sessions", "config.toml", "auth.json"]);
    let files = |tree: crate::support::env::Tree| {
        let mut tree = tree.only(&["sessions", "config.toml", "auth.json"]);
        tree.0.retain(|_, text| text.starts_with("file"));
        tree
    };
    assert_same_tree(&files(home), &files(env.tree("by-restic")));
    let database = env.path("by-restic/state_5.sqlite");
    let rows: i64 = rusqlite::Connection::open(database)
        .unwrap()
        .query_row("SELECT count(*) FROM threads", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 2);
    let json: Value =
        serde_json::from_str(&run_restic(&env, &["snapshots", "--json"]).code(0).stdout).unwrap();
    let tags = json[0]["tags"].as_array().unwrap();
    for tag in ["codex-manager", "mode=full", "email=alice@example.com"] {
        assert!(tags.iter().any(|t| t == tag), "{tags:?}");
    }
    assert_eq!(snapshots(&env)[0]["files"], made["files"]);
}

#[test]
fn unchanged_files_are_neither_copied_nor_read_again() {
    let Some(env) = vault_env() else { return };
    backup(&env);
    let file = env.codex_home().join(rollout(FIRST));
    let linked = env.manager_home().join("vault/tree").join(rollout(FIRST));
    let before = fs::metadata(&file).unwrap();
    assert_eq!(before.ino(), fs::metadata(linked).unwrap().ino());
    let again = backup(&env);
    assert_eq!(again["files_new"], 0, "{again}");
    // The login, the database and the manifest, and small files of this very minute.
    let after = fs::metadata(&file).unwrap();
    assert_eq!(
        (before.ctime(), before.ctime_nsec()),
        (after.ctime(), after.ctime_nsec())
    );
    let sessions = again["files_unmodified"].as_u64().unwrap();
    assert!(sessions >= 2, "{again}");
    let left = env.tree("home/.codex-manager/vault/tree");
    let copies = ["auth.json", "state_5.sqlite"];
    assert!(left.only(&copies).0.is_empty(), "{left:?}");
}

#[test]
fn an_unchanged_home_is_captured_without_opening_a_rollout() {
    let Some(env) = vault_env() else { return };
    let rollouts = |args: &[&str]| {
        let mut lines = crate::launch::opened(&env, args);
        lines.retain(|line| line.contains("rollout-"));
        lines
    };
    assert!(
        !rollouts(&["vault", "backup"]).is_empty(),
        "strace sees them"
    );
    let opened = rollouts(&["vault", "backup"]);
    assert!(opened.is_empty(), "{opened:#?}");
}

#[test]
fn a_typed_password_is_stored_for_the_user_only() {
    if restic::program().is_none() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let init = |second: &str| {
        let mut command = env.command(["vault", "init", "vault"]);
        let mut terminal = Terminal::start(&mut command);
        terminal.wait_for("vault password:", LIMIT);
        terminal.type_keys(&format!("{PASSWORD}\r"));
        terminal.wait_for("repeat the password:", LIMIT);
        terminal.type_keys(&format!("{second}\r"));
        let code = terminal.end().code();
        let text = terminal.text();
        assert!(!text.contains(PASSWORD), "{text}");
        (code, text)
    };
    let (code, text) = init("something else");
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("the passwords differ"), "{text}");
    assert!(!env.path("vault").exists());
    // restic strips trailing blanks from a password file, so such a password is refused.
    let mut command = env.command(["vault", "init", "vault"]);
    let mut terminal = Terminal::start(&mut command);
    for prompt in ["vault password:", "repeat the password:"] {
        terminal.wait_for(prompt, LIMIT);
        terminal.type_keys(&format!("{PASSWORD} \r"));
    }
    assert_eq!(terminal.end().code(), Some(4));
    assert!(terminal.text().contains("ends with a space"));
    assert!(!env.path("vault").exists());
    let (code, text) = init(PASSWORD);
    assert_eq!(code, Some(0), "{text}");
    let file = env.manager_home().join("vault/password");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // Without a terminal and without variables, the stored file is used.
    let _ = env.run(["vault", "backup"]).code(0);
    let config = fs::read_to_string(env.manager_home().join("config.toml")).unwrap();
    assert!(!config.contains(PASSWORD), "{config}");
}

#[test]
fn a_url_with_a_password_is_refused() {
    let Some(env) = vault_env() else { return };
    let url = "rest:https://me:hunter2@127.0.0.1:9/vault";
    let run = env.run(["vault", "init", url]).code(4);
    assert!(
        run.stderr
            .contains("the URL contains a password: rest:https://[redacted]@127"),
        "{run}"
    );
    assert!(run.stderr.contains("RESTIC_REST_PASSWORD"), "{run}");
    assert!(!run.to_string().contains("hunter2"), "{run}");
}

#[test]
fn the_password_is_in_no_file_and_no_output() {
    let Some(mut env) = vault_env() else { return };
    env.unset("RESTIC_PASSWORD");
    let file = env.write("home/pw", format!("{PASSWORD}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let run = env.run(["vault", "backup"]).code(4);
    assert!(run.stderr.contains("no password for the vault"), "{run}");
    let flag = format!("--password-file={}", file.display());
    let run = env.run(["vault", "init", "vault", &flag]).code(0);
    let backup = env.run(["vault", "backup", "--verbose"]).code(0);
    let logged = env.run(["vault", "backup", "--verbose", "--log"]).code(0);
    for run in [run, backup, logged] {
        assert!(!run.to_string().contains(PASSWORD), "{run}");
    }
    for file in walkdir::WalkDir::new(env.manager_home()) {
        let file = file.unwrap();
        if file.file_type().is_file() {
            let bytes = fs::read(file.path()).unwrap();
            let has = bytes
                .windows(PASSWORD.len())
                .any(|w| w == PASSWORD.as_bytes());
            assert!(!has, "{}", file.path().display());
        }
    }
    env.write("home/pw", "wrong\n");
    let run = env.run(["vault", "snapshots"]).code(1);
    assert!(run.stderr.contains("error: wrong vault password"), "{run}");
    let command = format!("echo {PASSWORD}");
    let _ = env
        .run(["vault", "snapshots", "--password-command", &command])
        .code(0);
}

#[test]
fn missing_and_unsupported_programs_are_reported_with_a_hint() {
    let mut env = TestEnv::new();
    sample_home(&env);
    let run = env.run(["vault", "backup"]).code(4);
    assert!(run.stderr.contains("codex-manager vault init URL"), "{run}");
    env.set("RESTIC_PASSWORD", PASSWORD);
    env.set("PATH", env.path("bin"));
    let run = env.run(["vault", "init", "vault"]).code(1);
    assert!(
        run.stderr.contains("error: restic is not installed"),
        "{run}"
    );
    assert!(run.stderr.contains("apt install restic"), "{run}");
    env.set(
        "PATH",
        format!("{}:/usr/bin:/bin", env.path("bin").display()),
    );
    for (printed, code, error) in [
        ("restic 0.9.6 compiled", 1, "restic 0.9.6 is too old"),
        ("rustic 0.10.0", 4, "not restic"),
    ] {
        let script = format!("#!/bin/sh\necho '{printed}'\n");
        crate::support::write_program(&env.path("bin/restic"), &script);
        let run = env.run(["vault", "init", "vault"]).code(code);
        assert!(run.stderr.contains(error), "{run}");
    }
    assert!(!Path::new(&env.path("vault")).exists());
    assert!(!env.manager_home().join("config.toml").exists());
}

/// Puts a restic on PATH that writes its arguments, and the command line of its parent, to a file.
pub(crate) fn record_arguments(env: &TestEnv) -> std::path::PathBuf {
    let seen = env.path("home/arguments");
    let script = format!(
        "#!/bin/sh\n{{ echo \"restic $*\"; tr '\\0' ' ' < /proc/$PPID/cmdline; echo; }} >> '{}'\n\
         exec /usr/bin/restic \"$@\"\n",
        seen.display()
    );
    crate::support::write_program(&env.path("bin/restic"), &script);
    seen
}

#[test]
fn the_password_is_in_no_argument() {
    let Some(env) = vault_env() else { return };
    let seen = record_arguments(&env);
    let file = env.write("home/pw", format!("{PASSWORD}\n"));
    let flag = format!("--password-file={}", file.display());
    for args in [
        &["vault", "backup"][..],
        &["vault", "backup", &flag],
        &["vault", "restore", "latest", "--to", "new"],
        &["vault", "check", &flag],
    ] {
        let _ = env.run(args).code(0);
    }
    let text = fs::read_to_string(seen).unwrap();
    assert!(text.contains("restic backup --json"), "{text}");
    assert!(text.contains("vault restore latest"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}

#[test]
fn vault_import_keeps_the_time_of_an_archive_and_vault_export_its_content() {
    let Some(env) = vault_env() else { return };
    let made = env.run(["backup", "--no-status", "--json"]).code(0).json();
    let path = made["path"].as_str().unwrap();
    let path = env.path(path.strip_prefix("[ROOT]/").unwrap());
    let import = || {
        let args = ["vault", "import", path.to_str().unwrap(), "--json"];
        env.run(args).code(0).json()["archives"][0].clone()
    };
    let first = import();
    assert_eq!(first["outcome"], "added");
    assert_eq!(snapshots(&env)[0]["time"], "2026-11-20T12:00:00+00:00");
    let again = import();
    assert_eq!(again["outcome"], "present");
    assert_eq!(snapshots(&env).len(), 1, "the second import adds nothing");
    let args = ["vault", "export", "latest", "--to", "exported", "--json"];
    let exported = env.run(args).code(0).json();
    let archive = exported["path"].as_str().unwrap().replace("[ROOT]/", "");
    let _ = env.run(["verify", &archive]).code(0);
    let unpack = |archive: &Path, folder: &str| {
        fs::create_dir(env.path(folder)).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("xzf").arg(archive).arg("-C").arg(env.path(folder));
        assert!(tar.status().unwrap().success());
        let mut tree = env.tree(folder);
        tree.0.retain(|path, _| !path.starts_with(".codex-manager"));
        tree
    };
    let from_archive = unpack(&path, "a");
    let from_vault = unpack(&env.path(&archive), "b");
    let files = |mut tree: crate::support::env::Tree| {
        tree.0.retain(|_, text| !text.starts_with("folder"));
        tree
    };
    assert_same_tree(&files(from_archive), &files(from_vault));
    let left = env.tree("home/.codex-manager/vault");
    assert!(left.only(&["import"]).0.is_empty(), "{left:?}");
    // A damaged archive creates no snapshot.
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let args = ["vault", "import", path.to_str().unwrap(), "--json"];
    let failed = env.run(args).code(6).json();
    assert_eq!(failed["archives"][0]["outcome"], "failed");
    assert_eq!(snapshots(&env).len(), 1);
}

#[test]
fn forget_applies_the_rules_and_keeps_snapshots_of_other_programs() {
    let Some(mut env) = vault_env() else { return };
    // Snapshots have the time of the system.
    env.unset("CODEX_MANAGER_NOW");
    for text in ["one", "two", "three"] {
        put(&env, "notes.txt", text);
        backup(&env);
    }
    let home = env.codex_home().display().to_string();
    let _ = run_restic(&env, &["backup", &home]).code(0);
    // A snapshot with only the tag is not one of this program.
    let _ = run_restic(&env, &["backup", "--tag", "codex-manager", &home]).code(0);
    let before = snapshots(&env);
    assert_eq!(before[4]["is_own"], false);
    let rules = ["vault", "forget", "--keep-last", "1", "--json"];
    let run = env.run(["vault", "forget"]).code(4);
    assert!(run.stderr.contains("no retention rule is given"), "{run}");
    let plan = env
        .run([&rules[..], &["--dry-run"]].concat())
        .code(0)
        .json();
    assert_eq!(plan["drop"].as_array().unwrap().len(), 2, "{plan}");
    let run = env.run(rules).code(5);
    assert!(
        run.stderr
            .contains("a permanent deletion needs confirmation"),
        "{run}"
    );
    assert_eq!(snapshots(&env), before);
    let done = env.run([&rules[..], &["--yes"]].concat()).code(0).json();
    assert_eq!(done["drop"], plan["drop"]);
    let after = snapshots(&env);
    assert_eq!(
        after,
        before[2..],
        "the newest snapshot and those of the other program"
    );
    let _ = env.run(["vault", "check", "--read-data"]).code(0);
    let text = env.run(["vault", "cat", "latest", "notes.txt"]).code(0);
    assert_eq!(text.stdout, "three");
}

#[test]
fn a_vault_backup_makes_no_hard_links_to_secrets_and_settings() {
    let Some(env) = vault_env() else { return };
    let names = [
        ".credentials.json",
        ".env",
        "auth.json.bak",
        "config.toml",
        "auth.json",
        "21apr_me@x.com_auth.json",
    ];
    for name in names {
        let path = put(&env, name, "{}");
        set_time(&path, 1_790_000_000, 0);
    }
    backup(&env);
    for name in names {
        let meta = fs::metadata(env.codex_home().join(name)).unwrap();
        assert_eq!(meta.nlink(), 1, "{name}");
    }
    let left = env.tree("home/.codex-manager/vault/tree");
    assert!(left.only(&names).0.is_empty(), "{left:?}");
}

#[test]
fn a_vault_in_a_home_and_a_url_without_a_kind_are_refused() {
    let Some(env) = vault_env() else { return };
    let before = env.tree("home");
    std::os::unix::fs::symlink(env.manager_home(), env.path("link")).unwrap();
    for folder in [
        "home/.codex/vault",
        "home/.codex-manager/vault/tree",
        "local:link/vault",
    ] {
        let run = env.run(["vault", "init", folder]).code(4);
        assert!(
            run.stderr.contains("error: the vault would be in the"),
            "{run}"
        );
    }
    let run = env
        .run(["vault", "init", "https://me:hunter2@nas/x"])
        .code(4);
    assert!(!run.to_string().contains("hunter2"), "{run}");
    for url in ["", "local:"] {
        let run = env.run(["vault", "init", url]).code(4);
        assert!(
            run.stderr.contains("the URL of the vault is empty"),
            "{run}"
        );
        assert!(!env.path("keys").exists(), "{run}");
    }
    let run = env.run(["vault", "init", "https://nas/x"]).code(4);
    assert!(
        run.stderr
            .contains("error: not a URL of restic: https://nas/x"),
        "{run}"
    );
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn vault_init_refuses_a_foreign_folder_and_changes_nothing() {
    let Some(env) = vault_env() else { return };
    env.write("foreign/config", "[core]\n");
    env.write("foreign/keys/key", "x");
    let before = env.tree("foreign");
    let run = env.run(["vault", "init", "foreign"]);
    assert_ne!(run.code, 0, "{run}");
    assert_same_tree(&before, &env.tree("foreign"));
    let config = fs::read_to_string(env.manager_home().join("config.toml")).unwrap();
    assert!(!config.contains("foreign"), "{config}");
}

#[test]
fn relative_paths_in_variables_and_urls_work_for_every_command() {
    let Some(mut env) = vault_env() else { return };
    env.unset("RESTIC_PASSWORD");
    let folder = env.path("");
    fs::write(folder.join("pw"), PASSWORD).unwrap();
    env.set("RESTIC_PASSWORD_FILE", "pw");
    env.set("RESTIC_CACHE_DIR", "cache");
    let run = env.run(["vault", "init", "local:other"]).code(0);
    let replaced = "this vault replaces [ROOT]/vault in config.toml";
    assert!(run.stderr.contains(replaced), "{run}");
    let run = env.run(["vault", "init", "local:other"]).code(0);
    assert!(!run.stderr.contains("replaces"), "{run}");
    backup(&env);
    assert_eq!(snapshots(&env).len(), 1);
    let _ = env.run(["vault", "check"]).code(0);
    let left = env.tree("home/.codex-manager/vault/tree");
    assert!(left.only(&["cache"]).0.is_empty(), "{left:?}");
}

#[test]
fn a_machine_without_snapshots_is_named() {
    let Some(env) = vault_env() else { return };
    backup(&env);
    let run = env.run(["vault", "snapshots", "--host", "nope"]).code(0);
    assert!(run.stderr.contains("no snapshots of nope"), "{run}");
}

#[test]
fn vault_cat_refuses_logins_and_keys_and_suggests_to_restore_them() {
    let Some(env) = vault_env() else { return };
    let secrets = [
        ".credentials.json",
        ".env",
        "auth.json.bak",
        "account-sessions/1/auth.json",
    ];
    for path in secrets {
        put(&env, path, r#"{"access_token":"secret"}"#);
    }
    backup(&env);
    for path in [
        &["auth.json", "./auth.json", ".Credentials.json/."],
        &secrets[..],
    ]
    .concat()
    {
        let run = env.run(["vault", "cat", "latest", path]).code(5);
        assert!(
            run.stderr.contains("logins and keys are not printed"),
            "{run}"
        );
        let name = path.trim_start_matches("./").trim_end_matches("/.");
        let command = format!("codex-manager vault restore latest --only {name}\n");
        assert!(run.stderr.contains(&command), "{run}");
        assert!(!run.stdout.contains("secret"), "{run}");
    }
    let listed = env.run(["vault", "ls", "latest", "--json"]).code(0).json();
    let files = listed["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["path"] == "auth.json"));
    let cat = env
        .run(["vault", "cat", "latest", "config.toml", "--json"])
        .code(0)
        .json();
    let text = fs::read_to_string(env.codex_home().join("config.toml")).unwrap();
    assert_eq!(cat["text"], text);
}

#[test]
fn a_backup_with_vault_keeps_its_archive_when_the_vault_fails() {
    let Some(env) = vault_env() else { return };
    let args = ["backup", "--vault", "--no-status", "--json"];
    let json = env.run(args).code(0).json();
    assert_eq!(
        json["snapshot"],
        snapshots(&env)[0]["id"].as_str().unwrap()[..8]
    );
    fs::remove_dir_all(env.path("vault")).unwrap();
    put(&env, "notes.txt", "changed");
    let run = env.run(args).code(6);
    assert!(
        run.stderr
            .contains("no snapshot in the vault: no repository at this URL"),
        "{run}"
    );
    assert_eq!(run.json()["snapshot"], Value::Null);
    let _ = env.run(["verify", "--all"]).code(0);
}

#[test]
fn drill_checks_the_newest_snapshot_and_records_the_result() {
    let Some(env) = vault_env() else { return };
    backup(&env);
    let drill = env.run(["vault", "drill", "--json"]).code(0).json();
    assert_eq!(
        (&drill["ok"], &drill["problems"]),
        (&true.into(), &Value::Array(vec![]))
    );
    let state = fs::read_to_string(env.manager_home().join("vault/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["drill_passed_at"], "2026-11-20T12:00:00Z");
    let left = env.tree("home/.codex-manager");
    let staging = left
        .0
        .keys()
        .filter(|path| path.to_string_lossy().contains("staging"));
    assert_eq!(staging.count(), 0, "{left:?}");
}
