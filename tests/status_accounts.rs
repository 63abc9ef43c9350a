//! `status --account` and `status --all`: each account is probed in the home of its login, and
//! renewed logins are saved.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Mount;
use crate::support::lab::Lab;
use crate::support::pauses::EVENT_LIMIT;
use crate::support::processes;
use crate::support::profiles::{folder, write_age_key};
use crate::support::sign_in::{
    SignIn, api_key_auth_json, auth_json, read_refresh_token, unix_now, write_auth, write_auth_text,
};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const LIMIT: Duration = EVENT_LIMIT;

/// Returns true if no scratch home is left.
fn has_no_scratch_homes(lab: &Lab) -> bool {
    let probes = lab.world.manager_home().join("profiles/.probes");
    let entries = fs::read_dir(probes).into_iter().flatten().flatten();
    entries.filter(|e| e.path().is_dir()).count() == 0
}

#[test]
fn each_account_is_probed_in_its_home_and_renewed_logins_are_saved() {
    let Some(lab) = Lab::of_two(
        &SignIn::alice().with_expired_token(),
        &SignIn::bob().with_expired_token(),
    ) else {
        return;
    };
    let run = lab.manager(["status", "--all", "--json"]).code(0).json();
    let accounts = run["accounts"].as_array().expect("accounts");
    let facts: Vec<_> = accounts
        .iter()
        .map(|a| {
            let week = a["windows"][1]["used_percent"].as_f64().expect("a figure");
            json!([a["profile"], a["email"], a["current"], a["source"], week])
        })
        .collect();
    assert_eq!(
        json!(facts),
        json!([
            ["alice", "alice@example.com", true, "live", 91.0],
            ["bob", "bob@example.com", false, "live", 25.0]
        ])
    );
    assert_eq!(read_refresh_token(&lab.home()), "rt.acct-alice.f1.2");
    assert_eq!(
        read_refresh_token(&folder(&lab.world, "bob")),
        "rt.acct-bob.f1.2"
    );
    assert!(has_no_scratch_homes(&lab));
    let names = |folder: PathBuf| {
        let entries = fs::read_dir(folder).expect("list").flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(folder(&lab.world, "bob")),
        ["auth.json", "history", "profile.json"]
    );
    // Other commands use the recorded answers.
    let best = lab.manager(["recommend", "--json"]).code(0).json();
    assert_eq!(best["recommended"]["profile"], "bob");
    assert_eq!(best["recommended"]["source"], "live");
    let one = lab
        .manager(["status", "--account", "bob", "--json"])
        .code(0);
    assert_eq!(one.json()["windows"][1]["used_percent"], 25.0);
    assert_eq!(one.json()["profile"], "bob");
    let _ = lab.manager(["use", "bob"]).code(0);
    let _ = lab.say("as bob");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
    assert_eq!(lab.backend.refreshes().len(), 2);
}

#[test]
fn i2_a_probe_that_is_killed_while_the_server_rotates_loses_nothing() {
    // Each probe waits for a server, so they run concurrently.
    std::thread::scope(|scope| {
        for wanted in [
            &["use", "bob"][..],
            &["status", "--all"],
            &["list", "--refresh"],
            &["restore"],
            &["profile", "export"],
        ] {
            scope.spawn(move || kill_a_probe_before(wanted));
        }
    });
}

/// Kills a probe whose server has already renewed the login, and runs a command that needs it.
fn kill_a_probe_before(wanted: &[&str]) {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob().with_expired_token()) else {
        return;
    };
    let _ = lab.manager(["use", "bob"]).code(0);
    let bobs = lab.back_up();
    let _ = lab.manager(["use", "alice"]).code(0);
    let bob = lab.backend.account("acct-bob");
    bob.set(|account| account.refresh_delay_ms = 1_500);
    let mut probe = lab
        .world
        .command(["status", "--account", "bob"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    assert!(lab.backend.wait_for_refresh(LIMIT, "rt.acct-bob.f1.1"));
    let _ = probe.kill();
    let _ = probe.wait();
    assert!(!has_no_scratch_homes(&lab));
    // I4 also holds after a kill.
    let left = lab.world.tree("home/.codex-manager/profiles/.probes");
    for (path, kind) in &left.0 {
        let is_private = kind.starts_with("file 600") || !path.ends_with("auth.json");
        let is_folder = kind.starts_with("folder") && path.components().count() <= 1;
        assert!(
            is_private && (!is_folder || kind == "folder 700"),
            "{left:?}"
        );
    }
    let noted = fs::read_to_string(folder(&lab.world, "bob").join("profile.json"));
    assert!(noted.expect("read").contains("\"owner\": \"probe\""));
    // A command that needs the login waits until the renewed one is saved.
    if wanted == ["restore"] {
        let archive = bobs.to_str().expect("text");
        let done = lab.manager(["restore", archive, "--yes", "--json"]).code(0);
        assert_eq!(done.json()["auth"], "kept-newer");
    } else if wanted == ["profile", "export"] {
        let key = write_age_key(&lab.world);
        let with = ["all.age", "--with-logins", "--recipient", &key];
        // Alice is signed in and stays signed in.
        let _ = lab.manager([wanted, &with].concat()).code(6);
        let _ = lab.manager(["use", "bob"]).code(5);
        let import = ["profile", "import", "all.age", "--identity", "key.txt"];
        let _ = lab.manager(import).code(0);
        let _ = lab.manager(["use", "bob"]).code(0);
    } else {
        let _ = lab.manager(wanted).code(0);
        let _ = lab.manager(["use", "bob"]).code(0);
    }
    assert_eq!(read_refresh_token(&lab.home()), "rt.acct-bob.f1.2");
    assert!(has_no_scratch_homes(&lab));
    let _ = lab.say("as bob");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn ctrl_c_waits_until_a_renewed_login_is_saved() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob().with_expired_token()) else {
        return;
    };
    let bob = lab.backend.account("acct-bob");
    bob.set(|account| account.refresh_delay_ms = 1_000);
    let mut probe = lab
        .world
        .command(["status", "--all"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    assert!(lab.backend.wait_for_refresh(LIMIT, "rt.acct-bob.f1.1"));
    processes::signal("INT", probe.id());
    assert_eq!(probe.wait().expect("wait").code(), Some(130));
    assert_eq!(
        read_refresh_token(&folder(&lab.world, "bob")),
        "rt.acct-bob.f1.2"
    );
    assert!(has_no_scratch_homes(&lab));
    let _ = lab.manager(["use", "bob"]).code(0);
    let _ = lab.say("as bob");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn i3_without_disk_space_or_inodes_for_a_renewed_login_codex_is_not_asked() {
    let small = |at: &Path| Mount::tmpfs(at, 1_024);
    let few = |at: &Path| Mount::of_inodes(at, 60);
    assert_not_asked(small, "not enough free disk space");
    assert_not_asked(few, "not enough free inodes");
}

/// Asserts that a manager home on this disk is too full to query an account.
#[track_caller]
fn assert_not_asked(mount: impl FnOnce(&Path) -> Option<Mount>, reason: &str) {
    let env = world();
    let full = env.path("full");
    let Some(_mount) = mount(&full) else {
        return;
    };
    let full = full.to_str().expect("text");
    write_auth(&env.codex_home(), &SignIn::bob().issued_at(1_794_900_000));
    let at = |args: &[&str]| env.run([args, &["--manager-home", full]].concat());
    let _ = at(&["profile", "save", "home"]).code(0);
    write_auth(&env.codex_home(), &SignIn::alice().issued_at(1_794_900_000));
    let run = at(&["status", "--account", "home"]).code(6);
    assert!(run.stderr.contains(reason), "{run}");
}

#[test]
fn i10_a_probe_and_a_switch_at_once_lose_nothing() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob().with_expired_token()) else {
        return;
    };
    let bob = lab.backend.account("acct-bob");
    bob.set(|account| account.refresh_delay_ms = 300);
    let probe = lab
        .world
        .command(["status", "--all", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    assert!(lab.backend.wait_for_refresh(LIMIT, "rt.acct-bob.f1.1"));
    let _ = lab.manager(["use", "bob"]).code(0);
    assert_eq!(read_refresh_token(&lab.home()), "rt.acct-bob.f1.2");
    let probe = probe.wait_with_output().expect("wait");
    // If the switch comes before the answer about alice, that answer is no longer about the live account.
    assert!(matches!(probe.status.code(), Some(0 | 6)), "{probe:?}");
    let _ = lab.say("as bob");
    let _ = lab.manager(["use", "alice"]).code(0);
    let _ = lab.say("as alice");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn an_expired_login_is_reported_and_never_recommended() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob().with_expired_token()) else {
        return;
    };
    let bob = lab.backend.account("acct-bob");
    bob.set(|account| account.refresh_expired = true);
    let run = lab.manager(["status", "--all", "--json"]).code(6).json();
    let problem = run["accounts"][1]["problem"].as_str().expect("a problem");
    assert!(problem.contains("has expired"), "{problem}");
    assert_eq!(run["accounts"][0]["problem"], Value::Null);
    let best = lab.manager(["recommend", "--json"]).code(0).json();
    assert_eq!(best["recommended"]["profile"], "alice");
    let known = lab.manager(["list", "--json"]).code(0).json();
    assert_eq!(known["profiles"][1]["login"], "expired");
    let warned = lab.manager(["use", "bob"]).code(0);
    assert!(
        warned.stderr.contains("server rejected this login"),
        "{warned}"
    );
    let _ = lab.manager(["use", "alice"]).code(0);
    // Codex did not renew the login, so none was lost.
    assert_eq!(
        read_refresh_token(&folder(&lab.world, "bob")),
        "rt.acct-bob.f1.1"
    );
}

#[test]
fn a_login_that_the_server_ended_is_expired_before_its_token_expires() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let bob = lab.backend.account("acct-bob");
    let login = || lab.manager(["list", "--json"]).code(0).json()["profiles"][1]["login"].clone();
    let sign_in = "codex-manager profile login bob";
    bob.set(|account| (account.revoked, account.force_401) = (true, true));
    let asked = lab.manager(["status", "--account", "bob"]).code(6);
    assert!(asked.stderr.contains("the login has expired"), "{asked}");
    assert!(asked.stderr.contains(sign_in), "{asked}");
    assert_eq!(login(), "expired");
    // The same login is still the ended one.
    let saved = folder(&lab.world, "bob").join("auth.json");
    let save = [
        "profile",
        "save",
        "bob",
        "--from",
        saved.to_str().expect("text"),
    ];
    let _ = lab.manager(save).code(0);
    assert_eq!(login(), "expired");
    let best = lab.manager(["recommend", "--json"]).code(0).json();
    assert_eq!(best["recommended"]["profile"], "alice");
    for args in [["list", "--refresh"], ["status", "--all"]] {
        let asked = lab.manager(args).code(6);
        assert!(asked.stderr.contains(sign_in), "{asked}");
    }

    // Without an answer, nothing shows that the login works again.
    bob.set(|account| {
        account.force_401 = false;
        (account.usage_status, account.check_status) = (Some(503), Some(503));
    });
    let _ = lab.manager(["status", "--account", "bob"]).code(6);
    assert_eq!(login(), "expired");
    bob.set(|account| (account.usage_status, account.check_status) = (None, None));
    let _ = lab.manager(["status", "--account", "bob"]).code(0);
    assert_eq!(login(), "ok");

    // The live login, which a program of the user renews.
    let alice = lab.backend.account("acct-alice");
    alice.set(|account| (account.revoked, account.force_401) = (true, true));
    let asked = lab.manager(["current", "--refresh"]).code(6);
    assert!(
        asked.stderr.contains("codex-manager profile login alice"),
        "{asked}"
    );
    let best = lab.manager(["recommend", "--json"]).code(0).json();
    assert_eq!(best["recommended"]["profile"], "bob");
}

#[test]
fn the_refusal_of_an_old_copy_in_another_home_says_nothing_about_the_newer_login() {
    let bob = SignIn::bob().issued_at(unix_now() - 3_600);
    let Some(lab) = Lab::of_two(&SignIn::alice(), &bob) else {
        return;
    };
    let login = || lab.manager(["list", "--json"]).code(0).json()["profiles"][1]["login"].clone();
    let other = lab.world.path("other-home");
    let old_bob = SignIn::bob().issued_at(unix_now() - 86_400).family("f0");
    write_auth(&other, &old_bob);
    let config = lab.world.codex_home().join("config.toml");
    fs::copy(config, other.join("config.toml")).expect("copy");
    let bob = lab.backend.account("acct-bob");
    bob.set(|account| (account.revoked, account.force_401) = (true, true));
    let other = other.to_str().expect("text");
    let asked = lab.manager(["--codex-home", other, "status"]).code(6);
    assert!(asked.stderr.contains("the login has expired"), "{asked}");
    assert_eq!(login(), "ok");

    let _ = lab.manager(["status", "--account", "bob"]).code(6);
    assert_eq!(login(), "expired");

    // Made elsewhere before the refusal, and newer than the refused login.
    let new_bob = SignIn::bob().issued_at(unix_now() - 60).family("f2");
    let file = lab.world.write("new.json", auth_json(&new_bob));
    let save = [
        "profile",
        "save",
        "bob",
        "--from",
        file.to_str().expect("text"),
    ];
    let _ = lab.manager(save).code(0);
    assert_eq!(login(), "ok");
}

/// Signs Alice in as `work`, and saves Bob as `home`. Codex is not installed.
fn world() -> TestEnv {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::bob().issued_at(1_794_900_000));
    let _ = env.run(["profile", "save", "home"]).code(0);
    write_auth(&env.codex_home(), &SignIn::alice().issued_at(1_794_900_000));
    let _ = env.run(["profile", "save", "work"]).code(0);
    env
}

#[test]
fn an_account_is_not_probed_while_its_login_is_elsewhere_or_older_than_a_known_one() {
    let env = world();
    let other = env.path("other");
    let other = other.to_str().expect("text");
    let _ = env.run(["use", "home", "--codex-home", other]).code(0);
    let run = env.run(["status", "--account", "home"]).code(6);
    assert!(run.stderr.contains("live in a Codex home"), "{run}");

    // A login older than a known one would be refused, and its use could invalidate the newer ones.
    let env = world();
    let path = env.manager_home().join("profiles/home/auth.json");
    fs::write(path, auth_json(&SignIn::bob().issued_at(1_794_000_000))).expect("write");
    let run = env.run(["status", "--account", "home"]).code(6);
    assert!(run.stderr.contains("older than the newest"), "{run}");

    let unknown = env.run(["status", "--account", "nobody"]).code(1);
    assert!(unknown.stderr.contains("home"), "{unknown}");
}

#[test]
fn status_all_without_codex_names_the_problem_of_each_account_but_not_of_an_api_key() {
    let env = world();
    let run = env.run(["status", "--all", "--json"]).code(6).json();
    for account in run["accounts"].as_array().expect("accounts") {
        let problem = account["problem"].as_str().expect("a problem");
        assert!(problem.contains("not found on PATH"), "{problem}");
    }
    let keyed = TestEnv::new();
    write_auth_text(&keyed.codex_home(), &api_key_auth_json("sk-test-0000"));
    let _ = keyed.run(["profile", "save", "key"]).code(0);
    let _ = keyed.run(["status", "--all"]).code(0);
    let before = env.tree("");
    let _ = env.run(["status", "--all", "--dry-run"]).code(6);
    assert_same_tree(&before, &env.tree(""));
    let _ = env.run(["status", "--all", "--account", "home"]).code(4);
}

#[test]
fn the_removal_of_a_profile_keeps_the_login_that_a_killed_probe_renewed() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob().with_expired_token()) else {
        return;
    };
    let bob = lab.backend.account("acct-bob");
    bob.set(|account| account.refresh_delay_ms = 1_000);
    let mut probe = lab
        .world
        .command(["status", "--account", "bob"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    assert!(lab.backend.wait_for_refresh(LIMIT, "rt.acct-bob.f1.1"));
    let _ = probe.kill();
    let _ = probe.wait();
    let removed = lab
        .manager(["profile", "remove", "bob", "--yes", "--json"])
        .code(0);
    let trash = lab.path_in(&removed.json()["trash"]);
    assert_eq!(read_refresh_token(&trash), "rt.acct-bob.f1.2");
    assert!(has_no_scratch_homes(&lab));
}

#[test]
fn a_login_that_moved_to_another_machine_causes_no_warning_in_status_all_and_list() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let key = write_age_key(&lab.world);
    let export = ["profile", "export", "all.age", "--with-logins"];
    // Alice is signed in and stays signed in.
    let args = [&export[..], &["--recipient", &key]].concat();
    let _ = lab.manager(args).code(6);
    for args in [&["status", "--all"][..], &["list", "--refresh"]] {
        let run = lab.manager(args).code(0);
        assert!(run.stdout.contains("moved"), "{run}");
        assert!(!run.stderr.contains("warning"), "{run}");
    }
    let run = lab.manager(["status", "--account", "bob"]).code(6);
    assert!(run.stderr.contains("moved to another machine"), "{run}");
}
