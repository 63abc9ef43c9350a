//! `doctor` reports every fault with its fix, and `--fix` applies the safe ones.

use crate::current::note_switch;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::real_codex::RealCodex;
use crate::support::sample::sample_home;
use crate::support::sign_in::{SignIn, auth_json, unix_now, write_auth};
use codex_manager_core::io::processes;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

fn home(env: &TestEnv) {
    env.write("home/.codex/auth.json", auth_json(&SignIn::alice()));
    env.write("home/.codex/config.toml", "model = \"gpt-5-codex\"\n");
    for (path, mode) in [("home/.codex", 0o700), ("home/.codex/auth.json", 0o600)] {
        fs::set_permissions(env.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn backed_up(env: &TestEnv) {
    home(env);
    let _ = env.run(["backup", "--no-status"]).code(0);
}

/// The warning about a machine without Codex.
const EXPECTED_WARNINGS: [&str; 1] = ["codex.binary: warn"];

/// Returns the checks that are not "ok", as `id: status`.
fn findings(document: &Value) -> Vec<String> {
    document["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|c| c["status"] != "ok")
        .map(|c| {
            format!(
                "{}: {}",
                c["id"].as_str().unwrap(),
                c["status"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn a_healthy_home_without_codex_has_one_warning_and_passes() {
    let env = TestEnv::new();
    backed_up(&env);
    let run = env.run(["doctor", "--json"]).code(0);
    assert_eq!(findings(&run.json()), EXPECTED_WARNINGS);
}

#[test]
fn each_fault_is_reported_with_its_status_and_a_message() {
    type Fault = fn(&TestEnv);
    let faults: &[(&str, Fault)] = &[
        ("home.login: fail", |env| {
            drop(env.write("home/.codex/auth.json", ""));
        }),
        ("home.login: warn", |env| {
            fs::remove_file(env.codex_home().join("auth.json")).unwrap();
        }),
        ("home.login: fail", |env| {
            fs::hard_link(env.codex_home().join("auth.json"), env.path("second")).unwrap();
        }),
        ("home.config: fail", |env| {
            drop(env.write("home/.codex/config.toml", "= broken"));
        }),
        ("home.store: warn", |env| {
            env.write(
                "home/.codex/config.toml",
                "cli_auth_credentials_store = \"keyring\"\n",
            );
        }),
        ("home: warn", |env| {
            fs::rename(env.codex_home(), env.path("gone")).unwrap();
        }),
        ("home: warn", |env| {
            fs::set_permissions(env.codex_home(), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("manager.home: fail", |env| {
            fs::set_permissions(env.manager_home(), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("manager.inventory: fail", |env| {
            env.write("home/.codex-manager/inventory.json", "{");
        }),
        ("manager.cooldown: fail", |env| {
            drop(env.write("home/.codex-manager/cooldown.json", "]"));
        }),
        ("archives.sidecar: fail", |env| {
            fs::remove_file(only(env, ".metadata.json")).unwrap();
        }),
        ("archives.damaged: fail", |env| {
            fs::remove_file(only(env, ".tar.gz")).unwrap();
        }),
        ("temp: warn", |env| {
            leave_temp_files(env);
        }),
    ];
    for (finding, fault) in faults {
        let env = TestEnv::new();
        backed_up(&env);
        fault(&env);
        let run = env.run(["doctor", "--json"]);
        let expected = if finding.ends_with("fail") { 5 } else { 0 };
        assert!(
            findings(&run.json()).iter().any(|f| f == finding),
            "{finding}\n{run}"
        );
        let run = run.code(expected);
        let (id, _) = finding.split_once(':').unwrap();
        let json = run.json();
        let check = json["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["id"] == id)
            .unwrap();
        assert!(
            check["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{check}"
        );
    }
}

fn leave_temp_files(env: &TestEnv) {
    let folder = env.manager_home().join("tmp/staging-left-over");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}

fn only(env: &TestEnv, suffix: &str) -> std::path::PathBuf {
    fs::read_dir(env.manager_home().join("backups"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.to_string_lossy().ends_with(suffix))
        .expect("one such file")
}

#[test]
fn fix_repairs_the_manager_home_and_a_second_run_is_clean() {
    let env = TestEnv::new();
    backed_up(&env);
    let sidecar = only(&env, ".metadata.json");
    let before = fs::read(&sidecar).unwrap();
    fs::remove_file(&sidecar).unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(env.manager_home().join("backups"), open).unwrap();
    leave_temp_files(&env);
    env.write("home/.codex-manager/inventory.json", "{");

    let untouched = env.tree("home");
    let run = env.run(["doctor", "--fix", "--dry-run"]);
    assert!(
        run.stdout.contains("inventory.json would be created again"),
        "{run}"
    );
    assert_same_tree(&untouched, &env.tree("home"));

    let _ = env.run(["doctor", "--fix"]).code(0);
    assert_eq!(
        fs::read(&sidecar).unwrap(),
        before,
        "the sidecar was changed"
    );
    assert!(
        env.manager_home().join("inventory.json.damaged").exists(),
        "the damaged inventory was not kept"
    );
    let run = env.run(["doctor", "--json"]).code(0);
    assert_eq!(findings(&run.json()), EXPECTED_WARNINGS);
}

#[test]
fn fix_leaves_the_mode_of_the_codex_home_unchanged() {
    let env = TestEnv::new();
    backed_up(&env);
    fs::set_permissions(env.codex_home(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = env.tree("home/.codex");
    let _ = env.run(["doctor", "--fix"]);
    assert_same_tree(&before, &env.tree("home/.codex"));
}

#[test]
fn doctor_creates_no_codex_home() {
    for version in ["0.98.0", "0.169.0"] {
        let Some(codex) = RealCodex::of_version(version) else {
            continue;
        };
        let mut env = TestEnv::new();
        env.set("PATH", codex.search_path());
        let run = env.run(["doctor"]);
        assert!(run.stdout.contains(version), "{run}");
        assert!(!env.codex_home().exists(), "{run}");
    }
}

#[test]
fn for_a_damaged_profile_a_save_from_a_file_and_a_sign_in_are_suggested() {
    let env = TestEnv::new();
    backed_up(&env);
    env.write("home/.codex-manager/profiles/work/profile.json", "{");
    let document = env.run(["doctor", "--json"]).code(5).json();
    let mut checks = document["checks"].as_array().expect("checks").iter();
    let finding = checks.find(|c| c["id"] == "manager.profiles");
    let advice = finding.expect("a finding")["fix"].to_string();
    assert!(advice.contains("profile save work --from FILE"), "{advice}");
    assert!(
        advice.contains("codex-manager profile login work"),
        "{advice}"
    );
}

fn mode_of(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn fix_restricts_the_folders_and_changes_no_file_below() {
    let env = TestEnv::new();
    backed_up(&env);
    let below = [
        "home/.codex-manager/nightly.sh",
        "home/.codex-manager/backups/notes.sh",
        "home/.codex-manager/sync-backups/desk/skills/run.sh",
    ];
    for path in below {
        let path = env.write(path, "#!/bin/sh\n");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let folders = [env.manager_home(), env.manager_home().join("backups")];
    for folder in &folders {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o2755)).unwrap();
    }

    let _ = env.run(["doctor", "--fix"]).code(0);
    for path in below {
        assert_eq!(mode_of(env.path(path)), 0o755, "{path}");
    }
    for folder in folders {
        assert_eq!(mode_of(folder), 0o2700);
    }
    let run = env.run(["doctor", "--json"]).code(0);
    assert_eq!(findings(&run.json()), EXPECTED_WARNINGS);
}

#[test]
fn overlapping_homes_are_reported_and_not_changed() {
    for place in ["home/.codex", "home", "home/.codex/inner"] {
        let mut env = TestEnv::new();
        home(&env);
        let tool = env.write("home/.codex/skills/run.sh", "");
        fs::create_dir_all(env.path(place)).unwrap();
        env.set("CODEX_MANAGER_HOME", env.path(place));
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let run = env.run(["doctor", "--fix", "--json"]);
        let found = findings(&run.json());
        assert!(found.contains(&"manager.home: warn".into()), "{run}");
        assert_eq!(mode_of(&tool), 0o755, "{place}");
    }
}

#[test]
fn fix_restricts_linked_homes_at_their_target() {
    let env = TestEnv::new();
    backed_up(&env);
    for (link, place) in [
        ("home/.codex-manager", "home/kept"),
        ("home/kept/backups", "home/b"),
    ] {
        fs::rename(env.path(link), env.path(place)).unwrap();
        std::os::unix::fs::symlink(env.path(place), env.path(link)).unwrap();
        fs::set_permissions(env.path(place), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let _ = env.run(["doctor", "--fix"]).code(0);
    assert_eq!(mode_of(env.path("home/kept")), 0o700);
    assert_eq!(mode_of(env.path("home/b")), 0o700);
}

#[test]
fn a_home_that_is_not_a_folder_is_reported() {
    for name in ["home/.codex", "home/.codex-manager"] {
        let env = TestEnv::new();
        env.write(name, "a file");
        let run = env.run(["doctor"]).code(5);
        assert!(run.stdout.contains("not a folder"), "{run}");
        assert!(run.stdout.contains(name), "{run}");
        let run = env.run(["backup", "--no-status"]);
        assert!([1, 4].contains(&run.code), "{run}");
        assert!(run.stderr.contains(name), "{run}");
    }
}

#[test]
fn a_daemon_of_another_account_is_reported_with_the_command_to_stop_it() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::bob());
    // This process acts as the daemon, which was started before the recorded switch.
    let pid = std::process::id();
    let started = processes::start_time(pid).expect("a start");
    let note = json!({"pid": pid, "processIdentity": {"startTicks": started}});
    env.write("home/.codex/app-server-daemon/daemon.pid", note.to_string());
    note_switch(&env, unix_now() + 60, None);
    let document = env.run(["doctor", "--json"]).json();
    let checks = document["checks"].as_array().expect("checks");
    let daemon = checks.iter().find(|c| c["id"] == "home.daemon");
    let daemon = daemon.expect("a check of the daemon");
    assert_eq!(daemon["status"], "warn", "{daemon}");
    let text = daemon.to_string();
    assert!(text.contains("alice@example.com"), "{text}");
    assert!(text.contains("codex app-server daemon stop"), "{text}");
}

#[test]
fn suggested_commands_quote_unusual_paths() {
    let mut env = TestEnv::new();
    let home = env.path("a b/it's");
    fs::create_dir_all(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    env.set("CODEX_HOME", &home);
    let run = env.run(["doctor"]);
    let line = run
        .stdout
        .lines()
        .find_map(|line| line.split_once("chmod 700 "));
    let (_, word) = line.unwrap_or_else(|| panic!("{run}"));
    let printed = Command::new("sh")
        .args(["-c", &format!("printf %s {word}")])
        .output()
        .expect("sh");
    assert!(
        String::from_utf8_lossy(&printed.stdout).ends_with("/a b/it's"),
        "{run}"
    );
}

#[test]
fn every_documented_check_is_in_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md");
    let page = fs::read_to_string(path).expect("read");
    let rows: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .filter_map(|row| Some(row.split_once("` | ")?.0))
        .collect();
    assert!(rows.len() > 40, "{rows:?}");
    // A debug build refuses a check without a row. The other way round, each row is a check of the program.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = walkdir::WalkDir::new(source).into_iter().flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|e| e == "rs"));
    let code: String = files
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .collect();
    let missing: Vec<_> = rows
        .iter()
        .filter(|id| !code.contains(&format!("\"{id}\"")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Returns the messages of a check that is not ok.
fn messages(env: &TestEnv, id: &str) -> Vec<String> {
    let document = env.run(["doctor", "--json"]).json();
    let checks = document["checks"].as_array().expect("checks").clone();
    let wanted = |c: &&Value| c["id"] == id && c["status"] != "ok";
    let found = checks.iter().filter(wanted);
    found
        .map(|c| c["message"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn the_age_of_backups_is_that_of_the_newest_full_archive() {
    let mut env = TestEnv::new();
    home(&env);
    env.set("CODEX_MANAGER_NOW", "2026-06-01T12:00:00Z");
    let _ = env.run(["backup", "--no-status"]).code(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    let _ = env.run(["backup", "--no-status", "--mode", "auth"]).code(0);
    let found = messages(&env, "archives");
    assert!(
        found[0].contains("the newest full archive is 172 d old"),
        "{found:?}"
    );

    // An archive from a machine with a wrong clock does not count.
    env.set("CODEX_MANAGER_NOW", "2027-06-01T12:00:00Z");
    let _ = env.run(["backup", "--no-status"]).code(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    let found = messages(&env, "archives");
    assert!(found[0].contains("172 d old"), "{found:?}");
    assert!(found[1].contains("dated in the future"), "{found:?}");
}

#[test]
fn temp_files_of_killed_commands_are_found_and_removed_in_every_folder() {
    let env = TestEnv::new();
    backed_up(&env);
    let places = [
        "home/.codex",
        "home/.codex-manager",
        "home/.codex-manager/backups",
        "home/.codex-manager/profiles",
        "home/.codex-manager/profiles/x/history",
        "home/.codex-manager/observations",
        "home/.codex-manager/history/x",
        "home/.codex-manager/schedule",
    ];
    for place in places {
        let path = env.write(&format!("{place}/.codex-manager-tmp-left"), "x");
        let of_an_hour = SystemTime::now() - Duration::from_secs(3600);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(of_an_hour).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        let temp = |document: &Value| {
            let checks = document["checks"].as_array().unwrap();
            let check = checks.iter().find(|c| c["id"] == "temp").unwrap();
            check["status"] == "warn"
        };
        let run = env.run(["doctor", "--json"]);
        assert!(temp(&run.json()), "{place}: {run}");
        let _ = env.run(["doctor", "--fix"]);
        assert!(!path.exists(), "{place}");
        assert!(!temp(&env.run(["doctor", "--json"]).json()), "{place}");
    }
    // The next backup removes the temp files of the manager home.
    let left = env.write("home/.codex-manager/profiles/.codex-manager-tmp-x", "x");
    let _ = env.run(["backup", "--no-status"]);
    assert!(!left.exists());
}

#[test]
fn an_invalid_config_toml_and_a_failing_codex_are_reported() {
    let env = TestEnv::new();
    home(&env);
    env.write(
        "home/.codex/config.toml",
        "model = \"gpt-5-codex\"\n\n= broken\n",
    );
    let codex = env.write("bin/codex", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(&codex, fs::Permissions::from_mode(0o755)).unwrap();
    let program = codex.to_str().unwrap();
    let run = env
        .run(["doctor", "--json", "--codex-bin", program])
        .code(5);
    let document = run.json();
    let check = |id: &str| {
        let checks = document["checks"].as_array().expect("checks");
        let found = checks.iter().find(|check| check["id"] == id);
        found.expect("the check").clone()
    };
    let message = check("home.config")["message"].clone();
    let message = message.as_str().unwrap();
    assert!(
        message.starts_with("cannot parse config.toml: line 3: "),
        "{message}"
    );
    let fix = check("codex.binary")["fix"].clone();
    let fix = fix.as_str().unwrap();
    assert!(fix.ends_with("/bin/codex --version"), "{fix}");
}

#[test]
fn the_last_line_counts_the_checks_and_fix_reports_that_nothing_needs_fixing() {
    let env = TestEnv::new();
    sample_home(&env);
    let last = |args: &[&str]| {
        let run = env.run(args);
        let checks = env.run([args, &["--json"]].concat()).json();
        let checks = checks["checks"].as_array().expect("checks").clone();
        let count = |status: &str| checks.iter().filter(|c| c["status"] == status).count();
        let line = run.stdout.lines().last().expect("a line").to_owned();
        (line, checks.len(), count("warn"), count("fail"), run.stdout)
    };
    let (line, checks, warnings, failures, _) = last(&["doctor"]);
    assert!(warnings > 1 && failures == 0, "{line}");
    assert_eq!(line, format!("{checks} checks, {warnings} warnings"));
    let (.., shown) = last(&["doctor", "--fix"]);
    assert!(
        shown.starts_with("nothing to fix automatically\n"),
        "{shown}"
    );
    fs::create_dir(env.manager_home()).expect("create");
    fs::set_permissions(env.manager_home(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let (.., shown) = last(&["doctor", "--fix"]);
    assert!(!shown.contains("nothing to fix"), "{shown}");
    fs::write(env.codex_home().join("state_5.sqlite"), "garbage").expect("write");
    let (line, checks, warnings, failures, _) = last(&["doctor"]);
    assert_eq!(failures, 1, "{line}");
    assert_eq!(
        line,
        format!("{checks} checks, 1 failure, {warnings} warnings")
    );
}
