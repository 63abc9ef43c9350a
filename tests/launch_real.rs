//! Tests of `launch` and `resume` with the real Codex: the account of each turn, Codex's list of
//! conversations, and the background daemon.

use crate::support::lab::{self, Lab};
use crate::support::mock_backend::MockBackend;
use crate::support::sign_in::{SignIn, api_key_home, write_auth};
use crate::support::terminal::Terminal;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn launches(lab: &Lab) -> Vec<Value> {
    let run = lab.manager(["launches", "--all", "--json"]).code(0);
    run.json()["sessions"].as_array().expect("a list").clone()
}

/// Returns the account of each turn so far, in order.
fn accounts_of_turns(backend: &MockBackend) -> Vec<String> {
    let turns = backend.requests_to("/responses");
    let paid = turns.into_iter().filter(|turn| turn.status == 200);
    paid.filter_map(|turn| turn.account_id).collect()
}

/// Returns the account that a rollout names as its creator.
fn creator(rollout: &Path) -> String {
    let text = std::fs::read_to_string(rollout).expect("the rollout");
    let meta: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    let creator = meta["payload"]["creator_account_id"].as_str();
    creator.expect("a creator").to_owned()
}

/// Returns the only folder in `folder`.
fn only_folder(folder: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder).expect("list");
    let only = entries.next().expect("a folder").expect("an entry").path();
    assert!(entries.next().is_none());
    only
}

fn exec<'a>(profile: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let exec = ["--", "exec", "--skip-git-repo-check"];
    [&["launch", profile][..], &exec, more].concat()
}

#[test]
fn a_launched_conversation_uses_the_quota_of_its_account() {
    let Some(mut lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    lab.world.set("PATH", lab.codex.through_npm().search_path());
    let _ = lab.manager(exec("bob", &["hello"])).code(0);
    let _ = lab.manager(exec("alice", &["hello again"])).code(0);
    assert_eq!(accounts_of_turns(&lab.backend), ["acct-bob", "acct-alice"]);
    let launches = launches(&lab);
    assert_eq!(launches.len(), 2);
    for (launch, account, title) in [
        (&launches[0], "acct-alice", "hello again"),
        (&launches[1], "acct-bob", "hello"),
    ] {
        assert_eq!(launch["account_id"], account);
        assert_eq!(launch["state"], "bound", "{launch}");
        assert_eq!(launch["title"], title);
        assert!(launch["first_token_count_at"].is_string(), "{launch}");
        let id = launch["session_id"].as_str().unwrap();
        let rollout = lab::rollout(&lab.home(), id);
        assert_eq!(lab.path_in(&launch["rollout_path"]), rollout);
        assert_eq!(creator(&rollout), account);
    }
    // The usage that the server reported during the turn belongs to that profile only.
    let profiles = lab.manager(["list", "--json"]).code(0).json();
    for profile in profiles["profiles"].as_array().unwrap() {
        let bound = launches.iter().find(|l| l["profile"] == profile["name"]);
        assert_eq!(
            profile["session"]["session_id"],
            bound.unwrap()["session_id"]
        );
        assert!(!profile["session"]["windows"].as_array().unwrap().is_empty());
    }
}

#[test]
fn an_isolated_conversation_is_resumed_in_the_normal_home_and_archived_in_the_isolated_one() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let _ = lab.manager(exec("bob", &["isolated"])).code(0);
    let _ = lab.manager(["use", "alice"]).code(0);
    lab.backend.forget_requests();
    let args = [
        "launch",
        "bob",
        "--isolated",
        "--",
        "exec",
        "--skip-git-repo-check",
        "apart",
    ];
    let _ = lab.manager(args).code(0);
    assert_eq!(accounts_of_turns(&lab.backend), ["acct-bob"]);
    let launch = launches(&lab).remove(0);
    let id = launch["session_id"].as_str().unwrap().to_owned();
    let isolated = lab.world.manager_home().join("profiles/.isolated");
    for (row, path) in lab::rows(&lab.home()) {
        assert!(
            !path.starts_with(&isolated),
            "{row} points to {}",
            path.display()
        );
    }
    let databases = lab.world.tree("home/.codex-manager").0;
    let databases: Vec<_> = databases
        .keys()
        .filter(|path| path.to_string_lossy().contains(".sqlite"))
        .collect();
    assert!(databases.is_empty(), "{databases:?}");
    assert!(lab.listed_ids(&lab.home()).contains(&id));
    lab.resume(&lab.home(), &id, "from the normal home");
    let rollout = lab::rollout(&lab.home(), &id);
    assert_eq!(lab::messages(&rollout), ["apart", "from the normal home"]);
    // Archives and unarchives through the links of the isolated home. The next launch corrects the paths.
    let home = only_folder(&isolated).join("home");
    for (word, folder) in [("archive", "archived_sessions"), ("unarchive", "sessions")] {
        let codex = lab
            .codex
            .start_with(&home, &lab.backend, &[word, &id], |command| {
                command.env("CODEX_SQLITE_HOME", lab.home());
            });
        codex.finish(LIMIT).expect_success();
        let rollout = lab::rollout(&lab.home(), &id);
        assert!(
            rollout.starts_with(lab.home().join(folder)),
            "{}",
            rollout.display()
        );
        assert!(
            !home.join(folder).symlink_metadata().unwrap().is_dir(),
            "still a link"
        );
    }
    let args = [
        "resume",
        &id,
        "--isolated",
        "--",
        "exec",
        "--skip-git-repo-check",
        "apart again",
    ];
    let _ = lab.manager(args).code(0);
    let row = lab::rows(&lab.home())
        .into_iter()
        .find(|(row, _)| *row == id);
    assert_eq!(row.unwrap().1, lab::rollout(&lab.home(), &id));
    lab.resume(&lab.home(), &id, "once more");
}

#[test]
fn resume_switches_to_the_account_of_the_conversation_and_another_needs_rebind() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let _ = lab.manager(exec("bob", &["first"])).code(0);
    let id = launches(&lab)[0]["session_id"].as_str().unwrap().to_owned();
    let _ = lab.manager(["use", "alice"]).code(0);
    // Started without `launch`, so that only the rollout names the account.
    let direct = lab.say("directly");
    lab.backend.forget_requests();
    let resume = |id: &str, prompt: &str| {
        lab.manager(["resume", id, "--", "exec", "--skip-git-repo-check", prompt])
            .code(0)
    };
    let _ = resume(&id, "second");
    let _ = resume(&direct, "third");
    assert_eq!(accounts_of_turns(&lab.backend), ["acct-bob", "acct-alice"]);
    let launches = launches(&lab);
    assert_eq!(launches[0]["session_id"], *direct);
    assert_eq!(launches[1]["session_id"], *id);
    let output = lab::messages(&lab::rollout(&lab.home(), &id));
    assert_eq!(output, ["first", "second"]);
    // The usage of the second launch is read from its own bytes.
    let registry = lab.world.manager_home().join("launches.jsonl");
    let registry = std::fs::read_to_string(registry).unwrap();
    let records = registry
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut records = records.rev();
    let second = records
        .find(|record| record["launch_id"] == launches[1]["launch_id"])
        .unwrap();
    assert!(
        second["conversations"][0]["start_offset"].as_u64().unwrap() > 0,
        "{second}"
    );
    // Another account is used only on request.
    let args = ["resume", &id, "--profile", "alice", "--", "exec", "x"];
    let _ = lab.manager(args).code(5);
    let args = [
        "resume",
        &id,
        "--profile",
        "alice",
        "--rebind",
        "--",
        "exec",
        "--skip-git-repo-check",
        "x",
    ];
    let _ = lab.manager(args).code(0);
    assert_eq!(
        accounts_of_turns(&lab.backend).last().unwrap(),
        "acct-alice"
    );
}

#[test]
fn the_terminal_interface_runs_beside_the_daemon_of_another_account() {
    let Some(mut lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    lab.world.set("PATH", lab.codex.through_npm().search_path());
    let daemon = lab.codex.start_daemon(&lab.home(), &lab.backend);
    let pid = daemon.pid().expect("a pid");
    lab.backend.forget_requests();
    let mut command = lab.world.command(["launch", "bob"]);
    command.env("TERM", "xterm-256color");
    let mut screen = Terminal::start(&mut command);
    screen.wait_for(&format!("PID {pid}"), LIMIT);
    screen.wait_for("To get started", LIMIT);
    screen.type_keys("tell me");
    screen.wait_for("tell me", LIMIT);
    screen.type_keys("\r");
    let is_paid = |requests: &[crate::support::mock_backend::Request]| {
        requests
            .iter()
            .any(|r| r.path.ends_with("/responses") && r.status == 200)
    };
    assert!(lab.backend.wait_for(LIMIT, is_paid), "{}", screen.text());
    assert_eq!(accounts_of_turns(&lab.backend), ["acct-bob"]);
    screen.wait_for("Hello", LIMIT);
    let running = launches(&lab).remove(0);
    assert_eq!(running["state"], "running");
    screen.forget();
    screen.type_keys("/quit");
    screen.wait_for("exit", LIMIT);
    screen.type_keys("\r");
    assert!(screen.end().success());
    let launch = launches(&lab).remove(0);
    assert_eq!(launch["state"], "bound", "{launch}");
    let id = launch["session_id"].as_str().unwrap();
    assert_eq!(creator(&lab::rollout(&lab.home(), id)), "acct-bob");
    assert_eq!(daemon.pid(), Some(pid), "the daemon is the same process");
}

/// Codex up to 0.150 writes no creator, so a rollout does not say who made it.
#[test]
fn an_idle_launch_is_not_bound_to_the_conversation_of_another_account() {
    let Some(lab) = Lab::of_version("0.150.0") else {
        return;
    };
    let mut command = lab.world.command(["launch", "bob", "--isolated"]);
    command.env("TERM", "xterm-256color");
    command.current_dir(lab.world.path(""));
    let mut screen = Terminal::start(&mut command);
    screen.wait_for("Do you trust", LIMIT);
    let there = |command: &mut std::process::Command| {
        command.current_dir(lab.world.path(""));
    };
    let said = lab.codex.start_with(
        &lab.home(),
        &lab.backend,
        &["exec", "--skip-git-repo-check", "of alice"],
        there,
    );
    let said = said.finish(LIMIT).expect_success();
    let id = said.session_id().expect("a session id").to_owned();
    screen.type_keys("2");
    screen.end();
    assert_eq!(accounts_of_turns(&lab.backend), ["acct-alice"]);
    let launch = launches(&lab).remove(0);
    assert_eq!(launch["state"], "ended", "{launch}");
    let listed = lab.manager(["sessions", "--json"]).code(0).json();
    assert_eq!(listed["sessions"][0]["id"], id.as_str());
    assert_eq!(listed["sessions"][0]["profile"], Value::Null);
    let profiles = lab.manager(["list", "--json"]).code(0).json();
    assert_eq!(profiles["profiles"][1]["session"], Value::Null);
}

#[test]
fn a_login_due_for_renewal_is_renewed_once_and_saved() {
    let Some(lab) = Lab::of_two(
        &SignIn::alice().with_expired_token(),
        &SignIn::bob().with_expired_token(),
    ) else {
        return;
    };
    for isolated in [false, true] {
        let mut args = vec!["launch", "bob"];
        args.extend(isolated.then_some("--isolated"));
        args.extend(["--", "exec", "--skip-git-repo-check", "hello"]);
        let _ = lab.manager(args).code(0);
        let _ = lab.manager(["use", "alice"]).code(0);
    }
    assert!(lab.backend.reused_tokens().is_empty());
    let bob = lab
        .backend
        .refreshes()
        .into_iter()
        .filter(|(token, _)| token.contains("acct-bob"));
    assert_eq!(
        bob.count(),
        1,
        "the second launch uses the login that the first one renewed"
    );
    write_auth(&lab.home(), &SignIn::alice());
}

#[test]
fn conversations_of_a_renamed_profile_have_its_new_name_and_of_a_removed_one_the_recorded() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let _ = lab.manager(exec("bob", &["fix it"])).code(0);
    let rename = |old: &str, new: &str| {
        let _ = lab.manager(["profile", "rename", old, new]).code(0);
    };
    rename("bob", "old");
    rename("alice", "bob");

    assert_eq!(launches(&lab)[0]["profile"], "old");
    let list = |args: &[&str]| -> Vec<_> {
        let run = lab.manager([&["sessions", "--json"], args].concat());
        let json = run.code(0).json();
        let sessions = json["sessions"].as_array().expect("a list").iter();
        let shown = sessions.map(|session| (session["profile"].clone(), session["email"].clone()));
        shown.collect()
    };
    let of_bob = [("old".into(), "bob@example.com".into())];
    assert_eq!(list(&[]), of_bob);
    assert_eq!(list(&["old"]), of_bob);
    assert_eq!(list(&["bob"]), []);

    let usage = lab.manager(["usage", "accounts", "--json"]).code(0).json();
    let rows = usage["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 1, "{usage}");
    assert!(usage.to_string().contains("\"old\""), "{usage}");

    // Without a profile the recorded name stays, unless another account has it.
    let _ = lab.manager(["use", "bob"]).code(0);
    let _ = lab.manager(["profile", "remove", "old", "--yes"]).code(0);
    assert_eq!(list(&[]), [(Value::Null, "bob@example.com".into())]);
    rename("bob", "alice");
    assert_eq!(list(&[]), [("bob".into(), "bob@example.com".into())]);
}

#[test]
fn resume_of_a_conversation_of_an_api_key_needs_untracked() {
    let Some(lab) = Lab::empty() else { return };
    api_key_home(&lab.home(), &lab.backend);
    let id = lab.say("hello");
    let run = lab.manager(["resume", &id]).code(1);
    assert!(
        run.stderr
            .starts_with("error: the account of this conversation is unknown\n"),
        "{run}"
    );
    assert!(
        run.stderr.contains("without a record: --untracked"),
        "{run}"
    );
    let resume = ["resume", &id, "--untracked", "--", "exec"];
    let _ = lab
        .manager([&resume[..], &["--skip-git-repo-check", "again"]].concat())
        .code(0);
}
