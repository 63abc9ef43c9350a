//! `config import-python` copies from the home of a Python codex-manager outside of the manager home,
//! and does not change that home.

use crate::cooldown::{entry, write_cooldown};
use crate::support::copy_tree;
use crate::support::env::{Run, TestEnv, Tree, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::hostile::Parts;
use crate::support::injection::{Fault, can_inject, points, run_with_fault, sample};
use crate::support::sample::{backup, sample_home};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const ALICE: &str = "alice.test@example.com";
const FLAT: &str = "2026-11-17-155500-alice.test@example.com-codex.tar.gz";
const FLAT_SIDECAR: &str = "2026-11-17-155500-alice.test@example.com-codex.metadata.json";
const SECOND: &str = "2026-11-17-155500-alice.test@example.com-2-codex.tar.gz";
const LOGIN: &str = "auth/alice.test@example.com/latest.tar.gz";
const IMPORT: [&str; 2] = ["config", "import-python"];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cm-home")
}

/// Creates a home of version 2.0.0 at `to`: an archive, its sidecar, a link to the latest.
pub(crate) fn python_home(env: &TestEnv, to: &str) -> PathBuf {
    for name in [FLAT, FLAT_SIDECAR] {
        let bytes = fs::read(fixture().join("backups").join(name)).unwrap();
        env.write(&format!("{to}/backups/{name}"), bytes);
    }
    let latest = format!("{to}/backups/{ALICE}-latest-codex.tar.gz");
    symlink(FLAT, env.path(&latest)).unwrap();
    env.path(to)
}

/// Creates a home of version 23 at `to`, with files of version 2.0.0.
fn later_python_home(env: &TestEnv, to: &str) -> PathBuf {
    let to = env.path(to);
    copy_tree(&fixture(), &to);
    to
}

fn import(env: &TestEnv, more: &[&str]) -> Run {
    env.run([&IMPORT, more].concat())
}

fn backups(env: &TestEnv) -> PathBuf {
    env.manager_home().join("backups")
}

/// Returns the outcomes of an import, each as `archive saved_as outcome`.
fn outcomes(json: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let archives = json["archives"].as_array().unwrap().iter();
    archives
        .map(|a| ["archive", "saved_as", "outcome"].map(|key| text(&a[key])))
        .map(|parts| parts.join(" "))
        .collect()
}

/// Returns an account in the output of `cooldown`.
fn account(env: &TestEnv, email: &str) -> Value {
    let json = env.run(["cooldown", "--json"]).code(0).json();
    let accounts = json["accounts"].as_array().unwrap();
    let mut found = accounts.iter().filter(|a| a["email"] == email);
    let account = found.next().unwrap_or_else(|| panic!("no {email}"));
    assert!(found.next().is_none(), "{email} twice: {json:#}");
    account.clone()
}

/// Returns the check of `doctor` about homes of the Python tool.
fn finding(env: &TestEnv) -> Option<Value> {
    let json = env.run(["doctor", "--json"]).json();
    let checks = json["checks"].as_array().unwrap();
    let mut found = checks.iter().filter(|c| c["id"] == "manager.python");
    found.next().cloned()
}

#[test]
fn the_home_of_version_2_is_found_copied_and_not_changed() {
    let env = TestEnv::new();
    let home = python_home(&env, "home/.codexmgr");
    let source = env.tree("home/.codexmgr");

    let offered = env.run(["list-backups"]).code(0).stderr;
    assert!(
        offered.contains("1 archive of the Python codex-manager in [ROOT]/home/.codexmgr"),
        "{offered}"
    );
    assert!(
        offered.contains("codex-manager config import-python"),
        "{offered}"
    );
    let found = finding(&env).expect("a finding");
    assert_eq!(found["status"], "warn");
    assert_eq!(found["fix"], "codex-manager config import-python");

    let before = env.tree("");
    let planned = import(&env, &["--dry-run", "--json"]).code(0).json();
    assert_same_tree(&before, &env.tree(""));
    let done = import(&env, &["--json"]).code(0).json();
    for json in [&planned, &done] {
        assert_eq!(outcomes(json), [format!("{FLAT} {FLAT} added")]);
        assert_eq!(json["accounts"], serde_json::json!([ALICE]));
        assert_eq!(json["source"], "[ROOT]/home/.codexmgr");
    }
    assert_same_tree(&source, &env.tree("home/.codexmgr"));
    for name in [FLAT, FLAT_SIDECAR] {
        let (theirs, copy) = (home.join("backups").join(name), backups(&env).join(name));
        assert_eq!(fs::read(&theirs).unwrap(), fs::read(&copy).unwrap());
        let meta = copy.metadata().unwrap();
        assert_eq!((meta.mode() & 0o777, meta.nlink()), (0o600, 1), "{name}");
    }

    let listed = env.run(["list-backups", "--json"]).code(0).json();
    assert_eq!(listed["backups"][0]["archive"], FLAT);
    assert!(listed["backups"][0]["problem"].is_null());
    let _ = env.run(["verify", "--all"]).code(0);
    let alice = account(&env, ALICE);
    assert_eq!(
        (&alice["source"], &alice["login"]),
        (&"archive".into(), &"archived".into())
    );
    assert_eq!(alice["windows"][0]["used_percent"], 60.0);
    let _ = env.run(["restore", ALICE]).code(0);
    assert!(env.codex_home().join("sessions/2026/11/01").is_dir());

    assert_eq!(finding(&env), None);
    let before = env.tree("home/.codex-manager");
    let again = import(&env, &[]).code(0);
    assert!(
        again
            .stdout
            .contains("archives and records: 0 copied, 1 already present"),
        "{again}"
    );
    assert_same_tree(&before, &env.tree("home/.codex-manager"));
    let quiet = import(&env, &["-q"]).code(0);
    assert_eq!((quiet.stdout, quiet.stderr), (String::new(), String::new()));
}

#[test]
fn the_newer_observation_wins_on_either_side() {
    // The Python tool recorded 40 % left on 20 Nov at 06:04, and a use of alice.
    for (observed_at, used, source) in [
        ("2026-11-20T11:00:00Z", 91.0, "live"),
        ("2026-11-19T11:00:00Z", 60.0, "python"),
    ] {
        let env = TestEnv::new();
        let home = later_python_home(&env, "old-manager");
        let mut known = entry(ALICE, 91.0, "2026-11-24T15:55:00Z");
        known["observation"]["observed_at"] = observed_at.into();
        write_cooldown(&env, &[known]);
        let path = home.to_str().unwrap();
        let planned = import(&env, &[path, "--dry-run", "--json"]).code(0).json();
        let done = import(&env, &[path, "--json"]).code(0).json();
        assert_eq!(planned["accounts"], done["accounts"]);
        let alice = account(&env, ALICE);
        assert_eq!(alice["windows"][0]["used_percent"], used);
        assert_eq!(alice["source"], source);
        assert_eq!(alice["last_used_at"], "2026-11-20T06:04:59+00:00");
        assert_eq!(account(&env, "bob@example.com")["login"], "none");
        let again = import(&env, &[path, "--json"]).code(0).json();
        assert_eq!(again["accounts"], serde_json::json!([]));
    }
}

#[test]
fn an_account_imported_as_expired_is_not_expired_if_its_login_is_saved() {
    let env = TestEnv::new();
    sample_home(&env);
    let _ = env.run(["profile", "save", "work"]).code(0);
    let home = later_python_home(&env, "old-manager");
    env.write(
        "old-manager/cooldown.json",
        r#"{"bob@example.com":{"is_expired":true},"alice@example.com":{"is_expired":true}}"#,
    );
    let _ = import(&env, &[home.to_str().unwrap()]).code(0);
    assert_eq!(account(&env, "bob@example.com")["login"], "expired");
    assert_eq!(account(&env, "alice@example.com")["login"], "ok");
}

#[test]
fn every_archive_of_a_later_python_version_is_imported() {
    let mut env = TestEnv::new();
    let home = later_python_home(&env, "old-manager");
    let source = env.tree("old-manager");
    env.set("CODEXMGR_HOME", &home);
    assert!(finding(&env).is_some());
    let json = import(&env, &["--json"]).code(0).json();
    assert_eq!(outcomes(&json).len(), 4, "{json:#}");
    assert_same_tree(&source, &env.tree("old-manager"));
    let listed = |env: &TestEnv| env.run(["list-backups", "--json"]).code(0).json();
    let here = listed(&env)["backups"].as_array().unwrap().len();
    assert_eq!(here, 4);
    let _ = env.run(["restore", LOGIN]).code(0);
    assert!(env.codex_home().join("auth.json").is_file());
}

#[test]
fn an_archive_of_the_same_name_is_kept_and_the_other_copied_with_a_number() {
    let env = TestEnv::new();
    let home = later_python_home(&env, "old-manager");
    let path = home.to_str().unwrap();
    let _ = import(&env, &[path]).code(0);
    let kept = fs::read(backups(&env).join(FLAT)).unwrap();
    // The Python tool has written both archives again.
    for name in [FLAT, LOGIN] {
        let file = home.join("backups").join(name);
        let mut parts = Parts::of(&fs::read(&file).unwrap());
        parts.entry("config.toml").content = b"model = \"other\"\n".to_vec();
        fs::write(&file, parts.pack()).unwrap();
    }
    for outcome in ["added", "present"] {
        let run = import(&env, &[path, "--json"]).code(6);
        let json = run.json();
        assert!(
            outcomes(&json).contains(&format!("{FLAT} {SECOND} {outcome}")),
            "{json:#}"
        );
        assert_eq!(json["left"][0]["name"], LOGIN);
        assert!(
            run.stderr.contains("another archive has this name"),
            "{run}"
        );
    }
    assert_eq!(fs::read(backups(&env).join(FLAT)).unwrap(), kept);
    let _ = env.run(["restore", SECOND, "--to", "copy"]).code(0);
    let text = fs::read_to_string(env.path("copy/config.toml")).unwrap();
    assert_eq!(text, "model = \"other\"\n");
}

#[test]
fn folders_without_a_python_manager_are_refused_and_nothing_is_created() {
    let mut env = TestEnv::new();
    let refused = |env: &TestEnv, args: &[&str], code: i32, why: &str| {
        let before = env.tree("");
        for more in [&["--dry-run"][..], &[]] {
            let run = import(env, &[args, more].concat()).code(code);
            assert!(run.stderr.contains(why), "{run}");
            assert!(run.stderr.contains("nothing was changed"), "{run}");
        }
        assert_same_tree(&before, &env.tree(""));
    };
    refused(&env, &[], 1, "no such folder: [ROOT]/home/.codexmgr");
    fs::create_dir(env.path("empty")).unwrap();
    refused(
        &env,
        &["empty"],
        5,
        "not a home of the Python codex-manager",
    );
    env.write("file", "x");
    refused(&env, &["file"], 1, "no such folder");

    python_home(&env, "home/.codex-manager");
    refused(
        &env,
        &["home/.codex-manager"],
        5,
        "this is the manager home",
    );
    symlink(env.manager_home(), env.path("home/.codexmgr")).unwrap();
    refused(&env, &[], 5, "this is the manager home");
    assert_eq!(finding(&env), None);
    env.set(
        "CODEX_MANAGER_HOME",
        env.path("home/.codex-manager/new/one"),
    );
    refused(&env, &[], 5, "the folder contains the manager home");

    // A manager home of this program.
    env.unset("CODEX_MANAGER_HOME");
    sample_home(&env);
    backup(&env, &[]);
    env.set("CODEX_MANAGER_HOME", env.path("other"));
    refused(
        &env,
        &["home/.codex-manager"],
        5,
        "a manager home of this codex-manager",
    );
    assert_eq!(
        finding(&env),
        None,
        "the suggested command would be refused"
    );
}

#[test]
fn a_sidecar_without_its_archive_is_imported_as_a_record() {
    let env = TestEnv::new();
    let home = python_home(&env, "home/.codexmgr").join("backups");
    let other = FLAT.replace("155500", "165500");
    fs::copy(home.join(FLAT), home.join(&other)).unwrap();
    fs::remove_file(home.join(FLAT)).unwrap();
    symlink("nowhere", home.join(FLAT)).unwrap();
    let json = import(&env, &["--json"]).code(0).json();
    assert_eq!(outcomes(&json).len(), 2, "{json:#}");
}

#[test]
fn an_unreadable_file_is_reported_and_the_others_are_copied() {
    let env = TestEnv::new();
    let home = python_home(&env, "home/.codexmgr").join("backups");
    let other = FLAT.replace("155500", "165500");
    fs::copy(home.join(FLAT), home.join(&other)).unwrap();
    fs::set_permissions(home.join(FLAT), Permissions::from_mode(0o000)).unwrap();
    let run = env.run_unprivileged(&["config", "import-python"]).code(6);
    assert!(
        run.stderr.contains(&format!("not copied: {FLAT}: ")),
        "{run}"
    );
    assert!(backups(&env).join(&other).is_file() && !backups(&env).join(FLAT).exists());
}

#[test]
fn a_damaged_cooldown_of_the_source_is_ignored_and_reported() {
    let env = TestEnv::new();
    python_home(&env, "home/.codexmgr");
    env.write("home/.codexmgr/cooldown.json", "{");
    let run = import(&env, &[]).code(0);
    assert!(
        run.stderr
            .contains("damaged, so it was ignored: [ROOT]/home/.codexmgr/cooldown.json"),
        "{run}"
    );
    assert!(backups(&env).join(FLAT).is_file());
}

#[test]
fn i2_an_import_that_is_killed_anywhere_is_completed_by_the_next() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let world = || {
        let env = TestEnv::new();
        later_python_home(&env, "home/.codexmgr");
        env
    };
    let state = |env: &TestEnv| {
        let mut tree = env.tree("home/.codex-manager");
        // inventory.json contains mtimes, which differ from run to run.
        tree.0.retain(|path, _| !path.ends_with("inventory.json"));
        let timeless = |text: String| {
            let parts = text.split(' ').enumerate();
            let kept = parts.filter(|(i, _)| *i != 3).map(|(_, part)| part);
            kept.collect::<Vec<_>>().join(" ")
        };
        Tree(
            tree.0
                .into_iter()
                .map(|(path, text)| (path, timeless(text)))
                .collect(),
        )
    };
    let whole = world();
    let source = whole.tree("home/.codexmgr");
    let all = points(&whole, &IMPORT);
    let expected = state(&whole);
    for point in sample(&all, &mut dice) {
        let env = world();
        let _ = run_with_fault(&env, &IMPORT, &point, Fault::Killed);
        let _ = import(&env, &[]).code(0);
        assert_same_tree(&expected, &state(&env));
        assert_same_tree(&source, &env.tree("home/.codexmgr"));
        let _ = env.run(["verify", "--all"]).code(0);
    }
}
