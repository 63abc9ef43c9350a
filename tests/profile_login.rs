//! `profile login`: a new login is never lost and never duplicated.

#![allow(
    clippy::print_stdout,
    reason = "how often each state was met is shown when a test fails, or with --nocapture"
)]

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::injection::{Fault, can_inject, points, run_with_fault, sample};
use crate::support::lab::Lab;
use crate::support::mock_backend::MockBackend;
use crate::support::profiles::{alice_and_bob, folder, profile_login};
use crate::support::sample::{alice, bob};
use crate::support::sign_in::{
    SignIn, api_key_auth_json, auth_json, read_auth, read_refresh_token, signed_in_home, write_auth,
};
use crate::support::{create_pipe, processes, write_program};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Returns the login homes that still exist.
fn login_homes(env: &TestEnv) -> Vec<PathBuf> {
    let entries = fs::read_dir(env.manager_home().join("tmp"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("/login-"))
        .collect()
}

/// Runs `profile login NAME` with a device code, against the mock backend.
fn login_with_device_code(lab: &Lab, name: &str) -> Run {
    let issuer = lab.backend.base_url();
    let args = ["profile", "login", name, "--json", "--"];
    let codex = ["--device-auth", "--experimental_issuer", &issuer];
    lab.manager([&args[..], &codex].concat())
}

/// Creates a `codex` whose `login` runs this script.
fn write_codex(env: &TestEnv, script: &str) {
    let path = env.path("bin/codex");
    write_program(&path, &format!("#!/bin/sh\n{script}\n"));
}

/// Returns a script that signs in with this login.
fn signs_in(login: &SignIn) -> String {
    format!(
        "umask 077; cat > \"$CODEX_HOME/auth.json\" <<'END'\n{}\nEND",
        auth_json(login)
    )
}

#[test]
fn the_real_codex_signs_in_with_an_api_key_in_a_temporary_home() {
    let Some(lab) = Lab::new() else { return };
    let before = lab.world.tree("home/.codex");
    let args = [
        "profile",
        "login",
        "billed",
        "--json",
        "--",
        "--with-api-key",
    ];
    let output = lab.world.run_with_input(args, "sk-test-1234\n").code(0);
    let view = output.json();
    assert_eq!(view["profile"], "billed", "{output}");
    assert_eq!(view["outcome"], "created");
    assert_eq!(view["live"], "no");
    assert!(!format!("{output}").contains("sk-test-1234"), "{output}");
    let auth = profile_login(&lab.world, "billed");
    assert!(auth.contains("sk-test-1234"));
    assert_same_tree(&before, &lab.world.tree("home/.codex"));
    assert_eq!(login_homes(&lab.world), Vec::<PathBuf>::new());
    assert_eq!(lab.backend.revocations(), Vec::<String>::new());
    let file = folder(&lab.world, "billed").join("auth.json");
    let mode = file.metadata().expect("stat").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_real_codex_signs_in_with_a_device_code_and_use_switches_to_it() {
    let Some(lab) = Lab::new() else { return };
    lab.backend.sign_in_as(Some("acct-bob"));
    let output = login_with_device_code(&lab, "client").code(0);
    let view = output.json();
    assert_eq!(view["email"], "bob@example.com", "{output}");
    assert_eq!(view["profile"], "client");
    let token = "rt.acct-bob.login1.1";
    assert!(profile_login(&lab.world, "client").contains(token));
    assert!(!format!("{output}").contains(token), "{output}");
    let _ = lab.manager(["use", "client"]).code(0);
    assert_eq!(read_auth(&lab.home())["tokens"]["refresh_token"], token);
    let turn = lab.codex.exec(&lab.home(), &lab.backend, &["hello"]);
    let _ = turn.expect_success();
    assert_eq!(lab.backend.reused_tokens(), Vec::<String>::new());
    assert_eq!(lab.backend.revocations(), Vec::<String>::new());
}

#[test]
fn a_new_login_of_the_live_account_replaces_the_live_login() {
    let Some(lab) = Lab::new() else { return };
    let _ = lab.manager(["profile", "save", "work"]).code(0);
    let old = fs::read_to_string(lab.home().join("auth.json")).expect("read");
    lab.backend.sign_in_as(Some("acct-alice"));
    // The account has a profile, which keeps its name.
    let output = login_with_device_code(&lab, "other").code(6);
    let view = output.json();
    assert_eq!(view["profile"], "work", "{output}");
    assert_eq!(view["outcome"], "updated");
    assert_eq!(view["live"], "renewed");
    assert!(
        output
            .stderr
            .contains("codex-manager profile rename work other"),
        "{output}"
    );
    let live = fs::read_to_string(lab.home().join("auth.json")).expect("read");
    assert!(live.contains("rt.acct-alice.login1.1"));
    assert_eq!(live, profile_login(&lab.world, "work"));
    assert!(!folder(&lab.world, "other").exists());
    let history = fs::read_dir(folder(&lab.world, "work").join("history")).expect("history");
    let history: Vec<_> = history
        .map(|e| fs::read_to_string(e.expect("entry").path()).expect("read"))
        .collect();
    assert_eq!(history, [old]);
    let turn = lab.codex.exec(&lab.home(), &lab.backend, &["hello"]);
    let _ = turn.expect_success();
}

#[test]
fn a_sign_in_to_the_account_of_another_home_names_that_home() {
    let env = alice_and_bob();
    write_codex(&env, &signs_in(&alice(9)));
    fs::create_dir(env.path("other")).expect("create");
    let login = ["--codex-home", "other", "profile", "login", "work"];
    let run = env.run(login).code(0);
    let command = "--codex-home [ROOT]/home/.codex use ACCOUNT";
    assert!(run.stderr.contains(command), "{run}");
    assert!(!run.stderr.contains("switch to it"), "{run}");
}

#[test]
fn i6_a_login_of_another_account_gets_a_separate_profile() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    let _ = env.run(["profile", "save", "work"]).code(0);
    let work = env.tree("home/.codex-manager/profiles/work");
    write_codex(&env, &signs_in(&bob()));
    let output = env.run(["profile", "login", "work"]).code(6);
    assert!(
        output
            .stderr
            .contains("work is the profile of alice@example.com"),
        "{output}"
    );
    assert_same_tree(&work, &env.tree("home/.codex-manager/profiles/work"));
    assert_eq!(
        profile_login(&env, "bob@example.com"),
        auth_json(&bob()) + "\n"
    );
    assert_eq!(
        read_auth(&env.codex_home())["tokens"]["account_id"],
        "acct-alice"
    );
}

#[test]
fn a_second_api_key_gets_a_profile_and_the_exit_code_of_a_partial_success() {
    let env = TestEnv::new();
    let mut names = Vec::new();
    for (key, code) in [("sk-1", 0), ("sk-2", 6)] {
        let login = api_key_auth_json(key);
        write_codex(
            &env,
            &format!("cat > \"$CODEX_HOME/auth.json\" <<'END'\n{login}\nEND"),
        );
        let output = env.run(["profile", "login", "billed", "--json"]).code(code);
        let name = output.json()["profile"]
            .as_str()
            .expect("a name")
            .to_owned();
        assert_eq!(output.json()["outcome"], "created");
        assert_eq!(profile_login(&env, &name).trim_end(), login);
        names.push(name);
    }
    assert_eq!(names[0], "billed");
    assert!(names[1].starts_with("api-key-"), "{names:?}");
}

#[test]
fn a_failed_login_reports_codexs_exit_code_and_changes_nothing() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    let _ = env.run(["profile", "save", "work"]).code(0);
    let before = env.tree("home/.codex-manager/profiles");
    let live = env.tree("home/.codex");
    for (script, code, text) in [
        ("echo no >&2; exit 7", 1, "exit code 7"),
        ("exit 0", 1, "wrote no auth.json"),
        ("kill -9 $$", 1, "ended by a signal"),
        (
            "echo garbage > \"$CODEX_HOME/auth.json\"",
            1,
            "cannot read the login that codex login wrote",
        ),
    ] {
        write_codex(&env, script);
        let output = env.run(["profile", "login", "work"]).code(code);
        assert!(output.stderr.contains(text), "{output}");
        assert_eq!(login_homes(&env), Vec::<PathBuf>::new());
    }
    let mut after = env.tree("home/.codex-manager/profiles");
    assert!(after.0.keys().any(|p| p.starts_with(".unreadable")));
    after.0.retain(|p, _| !p.starts_with(".unreadable"));
    assert_same_tree(&before, &after);
    assert_same_tree(&live, &env.tree("home/.codex"));
    for (name, code) in [("../x", 4), ("", 4)] {
        let _ = env.run(["profile", "login", name]).code(code);
    }
    fs::remove_file(env.path("bin/codex")).expect("remove");
    let output = env.run(["profile", "login", "work"]).code(1);
    assert!(output.stderr.contains("--codex-bin"), "{output}");
}

#[test]
fn i11_a_dry_run_of_a_login_starts_nothing_and_writes_nothing() {
    let env = TestEnv::new();
    let canary = env.path("started");
    write_codex(&env, &format!("touch {}", canary.display()));
    let before = env.tree("");
    let output = env.run(["profile", "login", "work", "--dry-run", "--json"]);
    assert_eq!(
        output.code(0).json(),
        json!({"schema": 1, "command": "profile login", "profile": "work", "wanted": "work",
               "outcome": null, "email": null, "account_id": null, "last_refresh": null,
               "live": null, "dry_run": true})
    );
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn login_ignores_login_variables_and_the_keyring_setting() {
    let mut env = TestEnv::new();
    let config =
        "cli_auth_credentials_store = \"keyring\"\nchatgpt_base_url = \"http://127.0.0.1:9\"\n";
    env.write("home/.codex/config.toml", config);
    env.set("OPENAI_API_KEY", "sk-env")
        .set("CODEX_ACCESS_TOKEN", "x");
    let check = "test -z \"$OPENAI_API_KEY$CODEX_ACCESS_TOKEN\" || exit 9\n\
                 grep -q 'store = \"file\"' \"$CODEX_HOME/config.toml\" || exit 8\n\
                 grep -q 127.0.0.1:9 \"$CODEX_HOME/config.toml\" || exit 7\n\
                 test \"$(stat -c %a \"$CODEX_HOME\")\" = 700 || exit 6\n\
                 test \"$1 $2\" = 'login --flag' || exit 5";
    write_codex(&env, &format!("{check}\n{}", signs_in(&bob())));
    let args = ["profile", "login", "work", "--", "--flag"];
    let output = env.run(args).code(0);
    assert!(
        output.stdout.contains("signed in as bob@example.com"),
        "{output}"
    );
}

/// Starts a login in the background. `WAIT` in the script blocks on the returned pipe.
fn start_waiting_login(env: &TestEnv, script: &str) -> (std::process::Child, PathBuf) {
    let pipe = env.path("gate");
    if !pipe.exists() {
        create_pipe(&pipe).expect("a pipe");
    }
    let ready = env.path("ready");
    if !ready.exists() {
        create_pipe(&ready).expect("a pipe");
    }
    write_codex(
        env,
        &script.replace(
            "WAIT",
            &format!("echo $$ > {}; read x < {}", ready.display(), pipe.display()),
        ),
    );
    let child = env
        .command(["profile", "login", "work"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let pid = fs::read_to_string(&ready).expect("the script is there");
    (child, PathBuf::from(pid.trim()))
}

fn end(pid: &Path) {
    let pid: u32 = pid.to_str().and_then(|p| p.parse().ok()).expect("a pid");
    processes::signal("KILL", pid);
    let left = processes::wait_for_end(&[pid], Duration::from_secs(20));
    assert_eq!(left, Vec::<u32>::new());
}

#[test]
fn i2_the_next_profile_command_saves_a_finished_login() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    // Killed after Codex has written the login, and before the manager has saved it.
    let (mut child, script) = start_waiting_login(&env, &format!("{}\nWAIT", signs_in(&bob())));
    child.kill().expect("kill");
    child.wait().expect("wait");
    let dry = env.run(["profile", "save", "x", "--dry-run"]).code(0);
    assert!(!dry.stderr.contains("interrupted"), "{dry}");
    let output = env.run(["profile", "list"]).code(0);
    assert!(
        output
            .stderr
            .contains("finished an interrupted sign-in: saved bob@example.com"),
        "{output}"
    );
    assert_eq!(profile_login(&env, "work"), auth_json(&bob()) + "\n");
    assert_eq!(login_homes(&env), Vec::<PathBuf>::new());
    end(&script);
    // Killed before Codex has written a login: nothing is left after the end of Codex.
    let before = env.tree("home/.codex-manager/profiles");
    let (mut child, script) = start_waiting_login(&env, "WAIT");
    child.kill().expect("kill");
    child.wait().expect("wait");
    end(&script);
    let _ = env.run(["profile", "list"]).code(0);
    assert_eq!(login_homes(&env), Vec::<PathBuf>::new());
    assert_same_tree(&before, &env.tree("home/.codex-manager/profiles"));
}

#[test]
fn i2_a_login_killed_at_any_point_is_saved_or_absent_but_never_lost() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    let made = env.path("made");
    let script = format!(
        "umask 077; cat > \"$CODEX_HOME/.new\" <<'END'\n{}\nEND\n\
         mv \"$CODEX_HOME/.new\" \"$CODEX_HOME/auth.json\" && echo > {}",
        auth_json(&bob()),
        made.display()
    );
    write_codex(&env, &script);
    let args = ["profile", "login", "work"];
    let clean = || {
        let _ = env.run(["profile", "remove", "work", "--purge", "--yes"]);
        let _ = fs::remove_file(&made);
    };
    let all = points(&env, &args);
    clean();
    let (mut there, mut none) = (0, 0);
    for point in sample(&all, &mut dice) {
        let _ = run_with_fault(&env, &args, &point, Fault::Killed);
        let output = env.run(["profile", "list"]).code(0);
        let login = fs::read_to_string(folder(&env, "work").join("auth.json")).ok();
        match &login {
            Some(text) => assert_eq!(*text, auth_json(&bob()) + "\n", "{point:?}"),
            None => assert!(!made.exists(), "{point:?}: the login is lost\n{output}"),
        }
        let profiles = env.run(["profile", "list", "--json"]).code(0).json();
        let count = profiles["profiles"].as_array().expect("profiles").len();
        assert_eq!(count, usize::from(login.is_some()), "{point:?} {profiles}");
        assert_eq!(login_homes(&env), Vec::<PathBuf>::new(), "{point:?}");
        if login.is_some() {
            there += 1;
        } else {
            none += 1;
        }
        clean();
    }
    println!("{there} kills with the login saved, {none} without");
    assert!(there > 0 && none > 0, "{there} {none}");
}

#[test]
fn other_commands_leave_a_running_sign_in_alone() {
    let env = TestEnv::new();
    let (mut child, script) = start_waiting_login(&env, &format!("WAIT\n{}", signs_in(&bob())));
    let _ = env.run(["profile", "list"]).code(0);
    assert_eq!(login_homes(&env).len(), 1);
    fs::write(env.path("gate"), "go\n").expect("write to the pipe");
    assert!(child.wait().expect("wait").success());
    assert_eq!(profile_login(&env, "work"), auth_json(&bob()) + "\n");
    drop(script);
}

#[test]
fn an_interrupted_login_ends_codex_and_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let before = lab.world.tree("home/.codex");
    let issuer = lab.backend.base_url();
    let args = ["profile", "login", "work", "--", "--device-auth"];
    let mut child = lab
        .world
        .command([&args[..], &["--experimental_issuer", &issuer]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
    let is_polling = |backend: &MockBackend| {
        backend.wait_for(Duration::from_secs(60), |requests| {
            requests
                .iter()
                .any(|r| r.path.ends_with("/deviceauth/token"))
        })
    };
    assert!(is_polling(&lab.backend));
    processes::signal("TERM", child.id());
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    let homes = lab.world.manager_home().join("tmp");
    let homes = homes.to_str().expect("text");
    let left: Vec<_> = processes::all()
        .into_iter()
        .filter(|p| {
            fs::read(format!("/proc/{}/environ", p.pid))
                .is_ok_and(|e| String::from_utf8_lossy(&e).contains(homes))
        })
        .map(|p| p.pid)
        .collect();
    assert_eq!(
        processes::wait_for_end(&left, Duration::from_secs(10)),
        Vec::<u32>::new()
    );
    assert_eq!(login_homes(&lab.world), Vec::<PathBuf>::new());
    assert!(!lab.world.manager_home().join("profiles").exists());
    assert_same_tree(&before, &lab.world.tree("home/.codex"));
}

#[test]
fn a_login_under_the_email_of_another_account_is_saved_and_blocks_no_later_command() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_codex(&env, &signs_in(&bob()));
    let output = env
        .run(["profile", "login", "alice@example.com", "--json"])
        .code(6);
    let name = output.json()["profile"]
        .as_str()
        .expect("a name")
        .to_owned();
    assert_eq!(profile_login(&env, &name).trim_end(), auth_json(&bob()));
    assert_eq!(login_homes(&env), Vec::<PathBuf>::new());
    let _ = env.run(["profile", "save", "work"]).code(0);
}

#[test]
fn codex_login_ends_the_login_of_the_home_and_profile_login_keeps_it() {
    let Some(lab) = Lab::new() else { return };
    let issuer = lab.backend.base_url();
    lab.backend.sign_in_as(Some("acct-bob"));
    let _ = login_with_device_code(&lab, "bob").code(0);
    assert_eq!(lab.backend.revocations(), Vec::<String>::new());

    let args = ["login", "--device-auth", "--experimental_issuer", &issuer];
    let output = lab.codex.run(&lab.home(), &lab.backend, &args);
    let _ = output.expect_success();
    assert_eq!(lab.backend.revocations(), [SignIn::alice().refresh_token()]);
}

#[test]
fn profile_login_ends_the_use_of_one_login_in_two_homes() {
    let Some(mut lab) = Lab::new() else { return };
    let _ = lab.manager(["profile", "save", "alice"]).code(0);
    let copy = lab.world.path("copy");
    signed_in_home(&copy, &lab.backend, &SignIn::alice());
    lab.world.set("CODEX_HOME", &copy);
    let run = lab.manager(["profile", "save", "alice"]).code(0);
    assert!(
        run.stderr.contains("codex-manager profile login alice"),
        "{run}"
    );
    lab.backend.sign_in_as(Some("acct-alice"));
    let _ = login_with_device_code(&lab, "alice").code(0);
    assert_eq!(lab.backend.revocations(), Vec::<String>::new());
    assert_ne!(read_refresh_token(&copy), read_refresh_token(&lab.home()));
}
