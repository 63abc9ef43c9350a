//! The fixes suggested by `doctor` and `status` work: each command is run as printed.

use crate::json_output::world_of_two;
use crate::python_import::python_home;
use crate::support::create_pipe;
use crate::support::env::{Run, TestEnv};
use crate::support::profiles::{alice_and_bob, folder, live_login, profile_login};
use crate::support::sample::{alice, backup, bob, put, sample_home};
use crate::support::sign_in::{auth_json, write_auth};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The prefixes of fixes that are commands; all others are descriptions.
const COMMANDS: [&str; 5] = ["codex-manager ", "codex ", "chmod ", "cp ", "mv "];

/// Creates Alice's home with one archive; the program is on `PATH`.
fn archived() -> TestEnv {
    let env = TestEnv::new();
    sample_home(&env);
    fs::set_permissions(env.codex_home(), Permissions::from_mode(0o700)).unwrap();
    backup(&env, &[]);
    on_path(env)
}

/// Creates Alice's home without an archive.
fn without_archive() -> TestEnv {
    let env = TestEnv::new();
    sample_home(&env);
    fs::set_permissions(env.codex_home(), Permissions::from_mode(0o700)).unwrap();
    on_path(env)
}

/// Creates two profiles; that of the live account has an older login.
fn profiles() -> TestEnv {
    on_path(world_of_two())
}

pub(crate) fn on_path(env: TestEnv) -> TestEnv {
    let program = env.path("bin/codex-manager");
    symlink(env!("CARGO_BIN_EXE_codex-manager"), program).unwrap();
    env
}

/// Runs a copied line in a shell.
pub(crate) fn run_in_shell(env: &TestEnv, line: &str) -> Run {
    let root = env.path("");
    let line = line.replace("[ROOT]/", &root.to_string_lossy());
    let mut sh = env.other_program("sh");
    sh.args(["-c", &line]);
    let output = sh.current_dir(env.path("home")).output().expect("sh");
    Run::of_output(output)
}

/// Returns the findings of `doctor` that are not `ok`.
pub(crate) fn findings(env: &TestEnv) -> Vec<Value> {
    let run = env.run(["doctor", "--json"]);
    let checks = run.json()["checks"].as_array().expect("a list").clone();
    checks.into_iter().filter(|c| c["status"] != "ok").collect()
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    create_pipe(path).unwrap();
}

/// Runs SQL statements on Codex's state database.
fn change_state_database(env: &TestEnv, statements: &str) {
    let path = env.codex_home().join("state_5.sqlite");
    let database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch(statements).unwrap();
}

/// Replaces a folder with a dangling link.
fn replace_with_dangling_link(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    symlink("nowhere", folder).unwrap();
}

fn one(env: &TestEnv, suffix: &str) -> PathBuf {
    fs::read_dir(env.manager_home().join("backups"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(suffix))
        .expect("one such file")
}

/// Returns the path of a file of a profile.
fn profile_file(env: &TestEnv, name: &str, file: &str) -> PathBuf {
    folder(env, name).join(file)
}

/// The way in which a finding is fixed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ExpectedFix {
    /// By the suggested command.
    ByCommand,
    /// By the user, following a description.
    ByHand,
}

type Damage = fn(&mut TestEnv);
type Setup = fn() -> TestEnv;

/// Homes, the damage done to them, and the expected finding.
const FINDINGS: &[(Setup, Damage, &str, ExpectedFix)] = &[
    // The Codex home.
    (
        archived,
        |env| fs::remove_dir_all(env.codex_home()).unwrap(),
        "home",
        ExpectedFix::ByCommand,
    ),
    (
        without_archive,
        |env| fs::remove_dir_all(env.codex_home()).unwrap(),
        "home",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| make_accessible_to_others(&env.codex_home()),
        "home",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| drop(put(env, "config.toml", "= broken")),
        "home.config",
        ExpectedFix::ByHand,
    ),
    (
        without_archive,
        |env| drop(put(env, "config.toml", "= broken")),
        "home.config",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| drop(put(env, "history.jsonl", [0; 4096])),
        "home.texts",
        ExpectedFix::ByCommand,
    ),
    (
        without_archive,
        |env| drop(put(env, "AGENTS.md", [0; 9])),
        "home.texts",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| fifo(&env.codex_home().join("config.toml")),
        "home.config",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| fifo(&env.codex_home().join("history.jsonl")),
        "home.files",
        ExpectedFix::ByCommand,
    ),
    // Databases.
    (
        archived,
        |env| drop(put(env, "state_5.sqlite", "x")),
        "home.databases",
        ExpectedFix::ByHand,
    ),
    (
        without_archive,
        |env| drop(put(env, "state_5.sqlite", "x")),
        "home.databases",
        ExpectedFix::ByHand,
    ),
    (
        without_archive,
        |env| fifo(&env.codex_home().join("queue_1.sqlite")),
        "home.databases",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| change_state_database(env, "ALTER TABLE threads RENAME TO others"),
        "home.databases",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| {
            change_state_database(
                env,
                "PRAGMA writable_schema = ON;
                 UPDATE sqlite_master SET sql = 'CREATE TABLE (' WHERE name = 'threads'",
            );
        },
        "home.databases",
        ExpectedFix::ByHand,
    ),
    // The list of conversations.
    (
        archived,
        |env| change_state_database(env, "DELETE FROM threads"),
        "home.conversations",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| {
            replace_with_dangling_link(&env.codex_home().join("sessions"));
        },
        "home.conversations",
        ExpectedFix::ByHand,
    ),
    // The login.
    (
        without_archive,
        |env| drop(put(env, "auth.json", "")),
        "home.login",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| drop(put(env, "auth.json", "{")),
        "home.login",
        ExpectedFix::ByCommand,
    ),
    (
        profiles,
        |env| drop(put(env, "auth.json", "\0\0")),
        "home.login",
        ExpectedFix::ByCommand,
    ),
    (
        profiles,
        |env| fs::remove_file(env.codex_home().join("auth.json")).unwrap(),
        "home.login",
        ExpectedFix::ByCommand,
    ),
    (
        without_archive,
        |env| fs::remove_file(env.codex_home().join("auth.json")).unwrap(),
        "home.login",
        ExpectedFix::ByHand,
    ),
    (
        profiles,
        |env| fifo(&env.codex_home().join("auth.json")),
        "home.login",
        ExpectedFix::ByCommand,
    ),
    (
        profiles,
        |env| drop(put(env, "auth.json", vec![b'x'; 17 << 20])),
        "home.login",
        ExpectedFix::ByCommand,
    ),
    (
        profiles,
        |env| {
            let auth = env.codex_home().join("auth.json");
            fs::hard_link(auth, env.path("second")).unwrap();
        },
        "home.login",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| make_accessible_to_others(&env.codex_home().join("auth.json")),
        "home.login",
        ExpectedFix::ByCommand,
    ),
    // The manager home.
    (
        archived,
        |env| drop(env.write("home/.codex-manager/inventory.json", "{\"schema\": 99}")),
        "manager.inventory",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| fs::write(env.manager_home().join("inventory.json"), "{").unwrap(),
        "manager.inventory",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| fifo(&env.manager_home().join("inventory.json")),
        "manager.inventory",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| fs::write(env.manager_home().join("cooldown.json"), "]").unwrap(),
        "manager.cooldown",
        ExpectedFix::ByCommand,
    ),
    (
        without_archive,
        |env| {
            let _ = env.run(["profile", "save", "work"]).code(0);
            fs::write(env.manager_home().join("cooldown.json"), "]").unwrap();
            fs::remove_file(env.codex_home().join("auth.json")).unwrap();
        },
        "manager.cooldown",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| {
            let text = json!({"schema": 99, "accounts": []}).to_string();
            fs::write(env.manager_home().join("cooldown.json"), text).unwrap();
        },
        "manager.cooldown",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| make_accessible_to_others(&env.manager_home()),
        "manager.home",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| drop(env.write("home/.codex-manager/config.toml", b"\xff")),
        "manager.config",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| drop(env.write("home/.codex-manager/config.toml/inner", "")),
        "manager.config",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| {
            replace_with_dangling_link(&env.manager_home().join("backups"));
        },
        "archives",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| drop(env.write("home/.codex-manager/config.toml", "= broken")),
        "manager.config",
        ExpectedFix::ByHand,
    ),
    (
        without_archive,
        |env| drop(python_home(env, "home/.codexmgr")),
        "manager.python",
        ExpectedFix::ByCommand,
    ),
    // Profiles.
    (
        profiles,
        |env| fs::write(profile_file(env, "home", "profile.json"), "{").unwrap(),
        "manager.profiles",
        ExpectedFix::ByCommand,
    ),
    (
        profiles,
        |env| {
            fs::write(profile_file(env, "home", "profile.json"), "{").unwrap();
            fs::write(profile_file(env, "home", "auth.json"), "").unwrap();
        },
        "manager.profiles",
        ExpectedFix::ByHand,
    ),
    (
        profiles,
        |env| {
            fs::write(
                profile_file(env, "home", "profile.json"),
                "{\"schema\": 99}",
            )
            .unwrap();
        },
        "manager.profiles",
        ExpectedFix::ByHand,
    ),
    // Live, not live with a history, not live without one.
    (
        profiles,
        |env| fs::write(profile_file(env, "work", "auth.json"), "").unwrap(),
        "manager.profiles",
        ExpectedFix::ByCommand,
    ),
    (
        profiles,
        |env| {
            let _ = env.run(["use", "home"]).code(0);
            fs::write(profile_file(env, "work", "auth.json"), "").unwrap();
        },
        "manager.profiles",
        ExpectedFix::ByCommand,
    ),
    (
        profiles,
        |env| fs::write(profile_file(env, "home", "auth.json"), "").unwrap(),
        "manager.profiles",
        ExpectedFix::ByCommand,
    ),
    // Archives.
    (without_archive, |_| {}, "archives", ExpectedFix::ByCommand),
    (
        archived,
        |env| {
            env.set("CODEX_MANAGER_NOW", "2027-01-20T12:00:00Z");
        },
        "archives",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| {
            env.set("CODEX_MANAGER_NOW", "2027-03-20T12:00:00Z");
        },
        "archives.verified",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| fs::remove_file(one(env, ".metadata.json")).unwrap(),
        "archives.sidecar",
        ExpectedFix::ByCommand,
    ),
    (
        archived,
        |env| fs::remove_file(one(env, ".tar.gz")).unwrap(),
        "archives.damaged",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| fs::write(one(env, ".tar.gz"), "no archive").unwrap(),
        "archives.damaged",
        ExpectedFix::ByHand,
    ),
    (
        archived,
        |env| {
            let folder = env.manager_home().join("tmp/staging-left-over");
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        },
        "temp",
        ExpectedFix::ByCommand,
    ),
    // The machine.
    (
        archived,
        |env| {
            env.set("TZ", "Mars/Olympus");
        },
        "zone",
        ExpectedFix::ByHand,
    ),
    (archived, |_| {}, "codex.binary", ExpectedFix::ByHand),
    // Until `backup` has printed it.
    (
        archived,
        |env| fs::remove_file(env.manager_home().join("notices.json")).unwrap(),
        "archives.disk",
        ExpectedFix::ByHand,
    ),
    // Without conversations, or with few.
    (
        archived,
        |env| fs::remove_dir_all(env.codex_home().join("sessions")).unwrap(),
        "home.conversations",
        ExpectedFix::ByCommand,
    ),
];

fn make_accessible_to_others(path: &Path) {
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn commands_suggested_by_doctor_fix_the_finding() {
    let mut wrong = Vec::new();
    for (i, (world, damage, id, expected_fix)) in FINDINGS.iter().enumerate() {
        let mut env = world();
        damage(&mut env);
        let found = findings(&env);
        let Some(finding) = found.iter().find(|finding| finding["id"] == *id) else {
            wrong.push(format!("{i}: {id} is not found: {found:?}"));
            continue;
        };
        let Some(fix) = finding["fix"].as_str() else {
            wrong.push(format!("{i}: no remedy: {finding}"));
            continue;
        };
        let is_command = COMMANDS.iter().any(|start| fix.starts_with(start));
        if is_command != (*expected_fix == ExpectedFix::ByCommand) {
            wrong.push(format!("{i}: {expected_fix:?}: {finding}"));
        }
        if !finding["why"].is_string() {
            wrong.push(format!("{i}: does not say why it matters: {finding}"));
        }
        if is_command {
            let run = run_in_shell(&env, fix);
            let after = findings(&env);
            let same = |f: &&Value| f["id"] == finding["id"] && f["message"] == finding["message"];
            if let Some(left) = after.iter().find(same) {
                wrong.push(format!("{i}: {fix}: {run}\nis still there: {left}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_in_the_backup_folder_that_are_not_archives_are_named() {
    let env = archived();
    env.write("home/.codex-manager/backups/notes.txt", "");
    let named = |env: &TestEnv| {
        let run = env.run(["doctor", "--json"]);
        let checks = run.json()["checks"].as_array().expect("a list").clone();
        let found = checks.into_iter().find(|c| c["id"] == "archives.foreign");
        found.map(|c| c["message"].as_str().expect("text").to_owned())
    };
    let message = named(&env).expect("a finding");
    assert!(message.ends_with("backups/notes.txt"), "{message}");
    // The folders of the Python tool and the trash are not foreign entries.
    fs::remove_file(env.manager_home().join("backups/notes.txt")).unwrap();
    for folder in ["auth", "sessions", ".trash"] {
        fs::create_dir(env.manager_home().join("backups").join(folder)).unwrap();
    }
    assert_eq!(named(&env), None);
}

#[test]
fn the_suggested_command_makes_an_unreadable_home_readable() {
    let env = archived();
    fs::set_permissions(env.codex_home(), Permissions::from_mode(0o000)).unwrap();
    let find = || {
        let run = env.run_unprivileged(&["doctor", "--json"]);
        let checks = run.json()["checks"].as_array().expect("a list").clone();
        checks
            .into_iter()
            .find(|c| c["id"] == "home")
            .expect("a finding")
    };
    let fix = find()["fix"]
        .as_str()
        .expect("a command")
        .replace("[ROOT]", &env.path("").to_string_lossy());
    let _ = run_in_shell(&env, &fix).code(0);
    assert_eq!(find()["status"], "ok");
}

#[test]
fn doctor_finds_an_unwritable_backup_folder_and_suggests_chown_for_a_login_of_another_user() {
    let found = |env: &TestEnv, id: &str| {
        let run = env.run_unprivileged(&["doctor", "--json"]);
        let checks = run.json()["checks"].as_array().expect("a list").clone();
        let wanted = |c: &Value| c["id"] == id && c["status"] != "ok";
        checks
            .into_iter()
            .find(wanted)
            .expect("a finding")
            .to_string()
    };
    let env = archived();
    let backups = env.manager_home().join("backups");
    fs::set_permissions(&backups, Permissions::from_mode(0o500)).unwrap();
    assert!(found(&env, "manager.home").contains("not writable"));
    fs::set_permissions(&backups, Permissions::from_mode(0o700)).unwrap();

    if std::os::unix::fs::chown(auth(&env), Some(65_534), None).is_ok() {
        fs::set_permissions(auth(&env), Permissions::from_mode(0o600)).unwrap();
        let text = found(&env, "home.login");
        assert!(
            text.contains("sudo chown") && !text.contains("chmod"),
            "{text}"
        );
    }
}

/// Damage in place of `auth.json`, by description.
const DAMAGED_LOGINS: &[(&str, Damage)] = &[
    ("nothing", |env| fs::remove_file(auth(env)).unwrap()),
    ("empty", |env| fs::write(auth(env), "").unwrap()),
    ("not JSON", |env| fs::write(auth(env), "x").unwrap()),
    ("50 MB", |env| {
        fs::write(auth(env), vec![b'x'; 50 << 20]).unwrap();
    }),
    ("a pipe", |env| fifo(&auth(env))),
    ("a folder", |env| {
        fs::remove_file(auth(env)).unwrap();
        fs::create_dir_all(auth(env).join("inner")).unwrap();
    }),
    ("a link to nowhere", |env| {
        fs::remove_file(auth(env)).unwrap();
        symlink("nowhere", auth(env)).unwrap();
    }),
    ("a second link", |env| {
        fs::hard_link(auth(env), env.path("second")).unwrap();
    }),
];

fn auth(env: &TestEnv) -> PathBuf {
    env.codex_home().join("auth.json")
}

#[test]
fn the_remedies_of_status_for_unusual_logins_work() {
    for world in [without_archive as Setup, archived, profiles] {
        for (what, damage) in DAMAGED_LOGINS {
            let mut env = world();
            damage(&mut env);
            let run = env.run(["status"]).code(6);
            let root = env.path("").to_string_lossy().into_owned();
            let root = root.trim_end_matches('/');
            let hint = run.stderr.split_once("hint: ");
            let (_, hint) = hint.unwrap_or_else(|| panic!("{what}: {run}"));
            let hint = hint.replace("[ROOT]", root).replace(":\n    ", ": ");
            if *what == "a folder" {
                assert!(!run.stderr.contains("hard link"), "{what}: {run}");
            }
            for command in commands_in(&hint) {
                // Commands of Codex need Codex and a user.
                if !command.starts_with("codex ") {
                    let _ = run_in_shell(&env, &command).code(0);
                }
            }
            let expects_login = what == &"a second link" || env.manager_home().exists();
            let is_there = env.run(["status"]).stdout.contains("alice@example.com");
            assert_eq!(is_there, expects_login, "{what}: {hint}");
        }
    }
}

/// Returns the commands in a hint, without the text after each.
pub(crate) fn commands_in(hint: &str) -> Vec<String> {
    let parts = hint.split(": ");
    parts
        .map(|part| part.split("; ").next().unwrap_or_default())
        .map(|part| part.lines().next().unwrap_or_default())
        .filter(|part| COMMANDS.iter().any(|start| part.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn list_cooldown_recommend_status_and_current_end_normally_with_a_damaged_login() {
    for (what, damage) in DAMAGED_LOGINS {
        let mut env = profiles();
        damage(&mut env);
        for (args, codes) in [
            (&["list"][..], &[0][..]),
            (&["cooldown"], &[0]),
            (&["recommend"], &[0]),
            (&["status", "--all"], &[6]),
            (&["current"], &[0, 5]),
        ] {
            let run = env.run_to_its_end(args);
            assert!(codes.contains(&run.code), "{what}: {args:?}: {run}");
        }
    }
}

#[test]
fn status_suggests_no_login_that_use_refuses() {
    // The manager has recorded a newer login than the profile has, so `use` refuses the profile.
    let env = profiles();
    let _ = env.run(["use", "home"]).code(0);
    let _ = env.run(["profile", "restore-login", "work"]).code(0);
    write_auth(&env.codex_home(), &alice(0));
    fs::write(auth(&env), "").unwrap();
    let run = env.run(["status"]).code(6);
    assert!(run.stderr.contains("codex-manager use home"), "{run}");
}

#[test]
fn for_a_damaged_login_the_account_that_was_live_is_suggested_not_one_with_a_newer_login() {
    for text in ["", "\0\0"] {
        let env = on_path(alice_and_bob());
        // Bob's login is newer than Alice's, which is live.
        let later = bob()
            .issued_at(1_795_000_000)
            .last_refresh(Some(1_795_000_000));
        let file = env.path("later.json");
        fs::write(&file, auth_json(&later)).unwrap();
        let _ = env
            .run(["profile", "save", "home", "--from", "later.json"])
            .code(0);
        put(&env, "auth.json", text);

        let run = env.run(["status"]);
        assert!(run.stderr.contains("codex-manager use work"), "{run}");
        let check = findings(&env)
            .into_iter()
            .find(|check| check["id"] == "home.login")
            .expect("a finding");
        assert_eq!(check["fix"], "codex-manager use work");
        let _ = run_in_shell(&env, "codex-manager use work").code(0);
        assert_eq!(live_login(&env), profile_login(&env, "work"));
    }
}

#[test]
fn errors_about_a_missing_home_say_which_setting_to_check_and_suggest_no_login() {
    let mut env = on_path(alice_and_bob());
    env.set("CODEX_HOME", env.path("home/.codexx"));
    for args in [
        &["backup"][..],
        &["status"],
        &["current"],
        &["doctor"],
        &["--codex-home", "elsewhere", "backup"],
    ] {
        let run = env.run(args);
        let text = format!("{run}");
        let name = if args.len() == 1 {
            "check CODEX_HOME"
        } else {
            "check --codex-home"
        };
        assert!(text.contains(name), "{run}");
        assert!(text.contains("mkdir -m 700 -p "), "{run}");
        for command in ["codex-manager use", "codex login", "restore latest"] {
            assert!(!text.contains(command), "{command}: {run}");
        }
    }
    assert!(!env.path("home/.codexx").exists());

    // The user moved the home: the setting still names the old folder.
    env.unset("CODEX_HOME");
    let missing = env.path("old").display().to_string();
    let _ = env.run(["config", "set", "codex.home", &missing]).code(0);
    let run = env.run(["backup"]).code(1);
    assert!(run.stderr.contains("check the setting codex.home"), "{run}");
}
