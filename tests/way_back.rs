//! A lost home: each command names the copy with the conversations before a login, and each named command works.

use crate::other_machines::bring_archive;
use crate::remedies::{commands_in, findings, on_path, run_in_shell};
use crate::support::conversations::{Conversation, id, write};
use crate::support::env::{Run, TestEnv};
use crate::support::profiles::save_alice_and_bob;
use crate::support::sample::{alice, backup, sample_home};
use crate::support::sign_in::write_auth;
use crate::support::skips::skip;
use crate::vault::{self, vault_env};
use std::fs;
use std::os::unix::fs::symlink;

/// The number of conversations in the archive.
const ARCHIVED: usize = 6;

/// The commands of a user who looks for conversations. `backup` comes last, because it makes an archive.
const COMMANDS: [&str; 14] = [
    "sessions",
    "sessions --json",
    "resume",
    "find word",
    "accounts",
    "status",
    "storage",
    "usage",
    "history check",
    "history losses",
    "show",
    "export",
    "doctor",
    "backup --no-status",
];

/// Hints of a login. None may come before the copy with the conversations.
const LOGINS: [&str; 4] = [
    "codex login",
    "profile login",
    "codex-manager use",
    "profile save",
];

/// Creates Alice's home with [`ARCHIVED`] conversations and an archive of it, made an hour ago.
fn archived() -> TestEnv {
    let mut env = on_path(TestEnv::new());
    write_auth(&env.codex_home(), &alice(0));
    write_conversations(&env, 1..=ARCHIVED);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T11:00:00Z");
    let _ = backup(&env, &[]);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    env
}

fn write_conversations(env: &TestEnv, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        let number = u32::try_from(number).unwrap();
        write(env, &Conversation::new(number, 60, "a word", "an answer"));
    }
}

fn lose(env: &TestEnv) {
    fs::remove_dir_all(env.codex_home()).unwrap();
}

fn count_rollouts(env: &TestEnv) -> usize {
    let files = walkdir::WalkDir::new(env.codex_home().join("sessions")).into_iter();
    let files = files.filter_map(Result::ok);
    files.filter(|file| file.file_type().is_file()).count()
}

/// Returns all output as one line.
fn one_line(run: &Run) -> String {
    let text = format!("{} {}", run.stdout, run.stderr);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

type Change = fn(&mut TestEnv);

/// States of a lost home, with the command that brings its conversations back.
const STATES: &[(&str, Change, &str)] = &[
    ("no home", |env| lose(env), "restore latest"),
    (
        "no home at the place that CODEX_HOME names",
        |env| {
            lose(env);
            let home = env.codex_home();
            env.set("CODEX_HOME", home);
        },
        "restore latest",
    ),
    (
        "an empty folder",
        |env| {
            lose(env);
            fs::create_dir(env.codex_home()).unwrap();
        },
        "restore latest",
    ),
    (
        "signed in again",
        |env| {
            lose(env);
            write_auth(&env.codex_home(), &alice(1));
        },
        "restore latest",
    ),
    (
        "signed out, and the conversations lost",
        |env| {
            fs::remove_dir_all(env.codex_home().join("sessions")).unwrap();
            fs::remove_file(env.codex_home().join("auth.json")).unwrap();
        },
        "restore latest",
    ),
    (
        "signed in again, one word said",
        |env| {
            lose(env);
            write_auth(&env.codex_home(), &alice(1));
            write_conversations(env, [7]);
        },
        "restore latest --merge",
    ),
    (
        "one word said, and backed up since",
        |env| {
            lose(env);
            write_auth(&env.codex_home(), &alice(1));
            write_conversations(env, [7]);
            let _ = backup(env, &[]);
        },
        "restore 2026-11-20-110000-alice@example.com --merge",
    ),
];

#[test]
fn each_command_names_the_archive_of_a_lost_home_before_a_login() {
    for (state, change, command) in STATES {
        let mut env = archived();
        change(&mut env);
        let is_partial = command.ends_with("--merge");
        for args in COMMANDS {
            // After a backup of a home that has conversations, its own report compares them.
            if is_partial && args.starts_with("backup") {
                continue;
            }
            let run = env.run(args.split(' '));
            let text = one_line(&run);
            let copy = text.find("an archive of today 11:00 has 6 conversations");
            let restore = text.find(&format!("codex-manager {command}"));
            assert!(copy.is_some() && copy < restore, "{state}: {args}: {run}");
            for login in LOGINS {
                let is_later = text.find(login).is_none_or(|place| Some(place) > copy);
                assert!(is_later, "{state}: {args}: {login}: {run}");
            }
            assert!(!text.contains("--only"), "{state}: {args}: {run}");
            let times = text.matches("has 6 conversations").count();
            // `doctor` names it in the check of the login too.
            assert!(times == 1 || *args == *"doctor", "{state}: {args}: {run}");
        }
    }
}

#[test]
fn the_named_commands_bring_the_conversations_and_the_login_back() {
    for (state, change, command) in STATES {
        let mut env = archived();
        save_alice_and_bob(&env);
        change(&mut env);
        let run = env.run(["find", "word"]);
        let hints = run.stderr.replace(":\n    ", ": ");
        let commands = commands_in(&hints);
        assert_eq!(
            commands.first(),
            Some(&format!("codex-manager {command}")),
            "{state}: {run}"
        );
        for command in commands
            .iter()
            .filter(|line| line.starts_with("codex-manager "))
        {
            let _ = run_in_shell(&env, command).code(0);
        }
        assert!(count_rollouts(&env) >= ARCHIVED, "{state}");
        let found = findings(&env);
        let left = found
            .iter()
            .find(|check| check["id"] == "home.conversations");
        assert_eq!(left, None, "{state}");
        let status = env.run(["status"]);
        assert!(
            status.stdout.contains("alice@example.com"),
            "{state}: {status}"
        );
    }
}

#[test]
fn a_kept_conversation_survives_the_named_merge() {
    let mut env = archived();
    STATES[5].1(&mut env);
    let _ = run_in_shell(&env, "codex-manager restore latest --merge").code(0);
    assert_eq!(count_rollouts(&env), ARCHIVED + 1);
}

#[test]
fn doctor_fixes_a_lost_home_by_the_archive() {
    for (state, change, command) in STATES {
        let mut env = archived();
        change(&mut env);
        let found = findings(&env);
        let id = if env.codex_home().exists() {
            "home.conversations"
        } else {
            "home"
        };
        let finding = found.iter().find(|check| check["id"] == id);
        let finding = finding.unwrap_or_else(|| panic!("{state}: {found:?}"));
        assert_eq!(
            finding["fix"],
            format!("codex-manager {command}"),
            "{state}"
        );
        assert!(
            finding["message"]
                .as_str()
                .unwrap()
                .contains("6 conversations"),
            "{state}"
        );
    }
}

/// Changes after which the home lacks nothing that a hint may name.
const COMPLETE: &[(&str, Change)] = &[
    ("a complete home", |_| {}),
    ("two conversations deleted", |env| {
        for number in [1, 2] {
            let path = Conversation::new(number, 0, "", "").relative();
            fs::remove_file(env.codex_home().join(path)).unwrap();
        }
    }),
    ("most conversations in the trash", |env| {
        for number in 1..=5 {
            let _ = env.run(["storage", "trash", &id(number), "--yes"]).code(0);
        }
    }),
    ("the disk of the home not mounted", |env| {
        lose(env);
        symlink("/nowhere/codex", env.codex_home()).unwrap();
    }),
    ("the disk of the conversations not mounted", |env| {
        let sessions = env.codex_home().join("sessions");
        fs::remove_dir_all(&sessions).unwrap();
        symlink("/nowhere/sessions", sessions).unwrap();
    }),
    ("another home, named by mistake", |env| {
        let home = env.path("home/.codexx");
        env.set("CODEX_HOME", home);
    }),
    ("another home with few conversations of its own", |env| {
        let home = env.path("second");
        fs::rename(env.codex_home(), &home).unwrap();
        env.set("CODEX_HOME", home);
        for number in 1..=5 {
            let path = Conversation::new(number, 0, "", "").relative();
            fs::remove_file(env.path("second").join(path)).unwrap();
        }
    }),
];

#[test]
fn a_home_that_lacks_few_conversations_or_that_is_out_of_reach_gets_no_hint_to_restore() {
    for (state, change) in COMPLETE {
        let mut env = archived();
        change(&mut env);
        for args in ["sessions", "find word", "status", "history check", "doctor"] {
            let run = env.run(args.split(' '));
            let text = one_line(&run);
            assert!(
                !text.contains("has 6 conversations"),
                "{state}: {args}: {run}"
            );
            assert!(!text.contains("restore latest"), "{state}: {args}: {run}");
        }
    }
}

#[test]
fn archives_of_another_machine_are_the_way_back_only_of_a_home_without_conversations() {
    let mut env = TestEnv::new();
    write_conversations(&env, 1..=ARCHIVED);
    let _ = bring_archive(&mut env);
    lose(&env);
    let run = env.run(["find", "word"]);
    assert!(run.stderr.contains("has 6 conversations"), "{run}");
    write_conversations(&env, [7]);
    let run = env.run(["find", "word"]);
    assert!(!run.stderr.contains("has 6 conversations"), "{run}");
}

#[test]
fn an_empty_home_at_another_place_names_the_home_of_the_archive() {
    let mut env = archived();
    let home = env.path("second");
    fs::create_dir(&home).unwrap();
    env.set("CODEX_HOME", home);
    let run = env.run(["sessions"]).code(0);
    let copy = "an archive of [ROOT]/home/.codex of today 11:00 has 6 conversations";
    assert!(one_line(&run).contains(copy), "{run}");
}

#[test]
fn without_archives_the_vault_is_the_way_back() {
    let Some(env) = vault_env() else { return };
    let env = on_path(env);
    let _ = vault::backup(&env);
    let before = count_rollouts(&env);
    lose(&env);
    let run = env.run(["find", "word"]).code(1);
    let text = one_line(&run);
    let hint = "the vault has a snapshot of today 12:00: codex-manager vault restore latest";
    assert!(text.contains(hint), "{run}");
    fs::create_dir(env.codex_home()).unwrap();
    // The vault may have a snapshot of the empty home by now, so the user chooses.
    let run = env.run(["sessions"]).code(0);
    let hint = "the vault has a snapshot of today 12:00: codex-manager vault snapshots";
    assert!(one_line(&run).contains(hint), "{run}");
    let _ = run_in_shell(&env, "codex-manager vault snapshots").code(0);
    let _ = run_in_shell(&env, "codex-manager vault restore latest").code(0);
    assert_eq!(count_rollouts(&env), before);
}

#[test]
fn a_prompt_in_a_lost_home_reads_no_archive() {
    let env = archived();
    lose(&env);
    let run = env.run(["recommend", "--format", "{email}", "--verbose"]);
    assert!(!run.stderr.contains("backups"), "{run}");
    assert!(!run.stderr.contains("inventory.json"), "{run}");
}

const SINGLE_DISK: &str =
    "on the same disk as the Codex home, and no copy on another disk is known";

/// Returns true if `doctor` warns that the archives are on the disk of the home.
fn doctor_finds_single_disk(env: &TestEnv) -> bool {
    let checks = findings(env);
    checks.iter().any(|check| check["id"] == "archives.disk")
}

#[test]
fn backup_says_once_that_archives_are_on_the_disk_of_the_home() {
    let env = TestEnv::new();
    sample_home(&env);
    let quiet = env.run(["backup", "--no-status", "--quiet"]).code(0);
    assert!(!quiet.stderr.contains(SINGLE_DISK), "{quiet}");
    assert!(doctor_finds_single_disk(&env));
    let first = env.run(["backup", "--no-status"]).code(0);
    assert!(one_line(&first).contains(SINGLE_DISK), "{first}");
    assert!(
        first.stderr.contains("codex-manager vault init URL"),
        "{first}"
    );
    let second = env.run(["backup", "--no-status"]).code(0);
    assert!(!one_line(&second).contains(SINGLE_DISK), "{second}");
    // `doctor` still lists it, without a warning.
    assert!(!doctor_finds_single_disk(&env));
    let run = env.run(["doctor"]).code(0);
    assert!(one_line(&run).contains(SINGLE_DISK), "{run}");
    assert!(!run.stdout.contains("vault init"), "{run}");
}

#[test]
fn a_vault_elsewhere_or_a_sync_is_a_copy_on_another_disk() {
    let env = TestEnv::new();
    sample_home(&env);
    env.write("home/.codex-manager/sync.toml", "");
    let run = env.run(["backup", "--no-status"]).code(0);
    assert!(!one_line(&run).contains(SINGLE_DISK), "{run}");
    fs::remove_file(env.manager_home().join("sync.toml")).unwrap();
    assert!(doctor_finds_single_disk(&env));

    let set_vault = |url: &str| {
        let _ = env.run(["config", "set", "vault.repository", url]).code(0);
    };
    set_vault("sftp:me@nas:/codex");
    assert!(!doctor_finds_single_disk(&env));
    fs::create_dir(env.path("near")).unwrap();
    set_vault(&env.path("near").display().to_string());
    assert!(doctor_finds_single_disk(&env));
}

#[test]
fn archives_on_another_disk_need_no_vault() {
    use std::os::unix::fs::MetadataExt;
    let env = TestEnv::on_disk();
    sample_home(&env);
    let other = tempfile::tempdir_in("/dev/shm");
    let device = |path: &std::path::Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let Some(other) = other
        .ok()
        .filter(|other| device(other.path()) != device(&env.path("")))
    else {
        return skip("a second disk", "/dev/shm is no other disk");
    };
    fs::create_dir(env.manager_home()).unwrap();
    symlink(other.path(), env.manager_home().join("backups")).unwrap();
    let run = env.run(["backup", "--no-status"]).code(0);
    assert!(!one_line(&run).contains(SINGLE_DISK), "{run}");
    assert!(!doctor_finds_single_disk(&env));
}
