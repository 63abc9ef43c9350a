//! The screen of accounts and its other names, the account of the prompt and of the folder, and names of accounts that
//! the user types.

use crate::cooldown::{entry, write_cooldown};
use crate::support::env::{PROGRAM, TestEnv, assert_same_tree};
use crate::support::profiles::alice_and_bob;
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use crate::support::skips::skip;
use crate::support::terminal::{LINES, Terminal};
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

const RESET: &str = "2026-11-24T15:55:00Z";

fn sign_in(name: &str) -> SignIn {
    SignIn::new(&format!("acct-{name}"), &format!("{name}@example.com"))
}

/// Creates a profile and an entry for each name and its used quota. The first one is live.
fn world(accounts: &[(&str, f64)]) -> TestEnv {
    let env = TestEnv::new();
    let entries: Vec<_> = accounts
        .iter()
        .map(|(name, used)| {
            let path = format!("home/.codex-manager/profiles/{name}/auth.json");
            env.write(&path, auth_json(&sign_in(name)));
            let mut entry = entry(&format!("{name}@example.com"), *used, RESET);
            entry["profile"] = json!(name);
            entry["account_id"] = json!(format!("acct-{name}"));
            entry["login"] = json!("ok");
            entry["plan"] = json!("plus");
            entry
        })
        .collect();
    write_cooldown(&env, &entries);
    write_auth(&env.codex_home(), &sign_in(accounts[0].0));
    env
}

fn three() -> TestEnv {
    world(&[("work", 88.0), ("home", 100.0), ("spare", 12.0)])
}

fn prompt(env: &TestEnv) -> String {
    let run = env.run(["recommend", "--format", "{prompt}"]).code(0);
    assert_eq!(run.stderr, "", "{run}");
    run.stdout.trim_end().to_owned()
}

#[test]
fn list_cooldown_and_status_all_show_the_table_of_accounts() {
    let env = three();
    let shown = env.run(["accounts"]).code(0).stdout;
    let rows: Vec<_> = shown.lines().skip(1).collect();
    // Ready accounts come first, although `home` is the first name.
    assert!(
        rows[0].contains("spare") && rows[0].contains("88 %"),
        "{shown}"
    );
    assert!(
        rows[1].contains("work") && rows[1].contains("12 %"),
        "{shown}"
    );
    assert!(
        rows[2].contains("home") && rows[2].contains("cooldown"),
        "{shown}"
    );
    for name in [
        &["list"][..],
        &["ls"],
        &["profile", "list"],
        &["cooldown"],
        &["status", "--all", "--dry-run"],
    ] {
        let other = env.run(name).stdout;
        assert_eq!(other, shown, "{name:?}");
    }
    let timeline = env.run(["accounts", "--timeline"]).code(0).stdout;
    assert_eq!(env.run(["list", "--timeline"]).code(0).stdout, timeline);
    assert_eq!(env.run(["cooldown", "--timeline"]).code(0).stdout, timeline);
}

#[test]
fn accounts_json_has_all_keys_of_cooldown_json_and_list_json_is_ordered_by_name() {
    let env = three();
    let document = env.run(["accounts", "--json"]).code(0).json();
    assert_eq!(document["command"], "accounts");
    let cooldown = env.run(["cooldown", "--json"]).code(0).json();
    let rows = document["accounts"].as_array().expect("accounts");
    let known = cooldown["accounts"].as_array().expect("accounts");
    assert_eq!(rows.len(), 3);
    for (row, known) in rows.iter().zip(known) {
        for (key, value) in known.as_object().expect("an object") {
            assert_eq!(row[key], *value, "{key}");
        }
        assert_eq!(row["plan"], "plus");
        assert_eq!(row["current"], row["profile"] == "work");
        assert_eq!(row["session"], Value::Null);
    }
    // The document of `list` has profiles in the order of their names.
    let list = env.run(["list", "--json"]).code(0).json();
    let names = list["profiles"].as_array().expect("profiles").iter();
    let names: Vec<_> = names.map(|profile| profile["name"].clone()).collect();
    assert_eq!(names, ["home", "spare", "work"]);
}

#[test]
fn current_prints_what_status_prints() {
    let env = three();
    let status = env.run(["status", "--dry-run"]).code(0).stdout;
    assert!(status.starts_with("work (work@example.com, "), "{status}");
    assert_eq!(env.run(["current"]).code(0).stdout, status);
}

#[test]
fn an_account_argument_equals_the_account_option() {
    let env = three();
    for (plain, option) in [
        (
            &["status", "spare", "--dry-run"][..],
            &["status", "--account", "spare", "--dry-run"][..],
        ),
        (
            &["list-backups", "spare"],
            &["list-backups", "--account", "spare"],
        ),
        (&["launches", "spare"], &["launches", "--profile", "spare"]),
    ] {
        let (plain, option) = (env.run(plain), env.run(option));
        assert_eq!(plain.to_string(), option.to_string());
    }
    for name in ["accounts", "list", "cooldown"] {
        let shown = env.run([name, "spare"]).code(0);
        assert_eq!(shown.stdout.lines().count(), 2, "{shown}");
        assert!(shown.stdout.contains("spare@example.com"), "{shown}");
    }
    let json = env.run(["accounts", "spare", "--json"]).code(0).json();
    assert_eq!(json["accounts"].as_array().map(Vec::len), Some(1), "{json}");
    let shown = env.run(["status", "spare", "--dry-run"]).code(0);
    assert!(
        shown.stdout.starts_with("spare (spare@example.com"),
        "{shown}"
    );
    let both = ["status", "spare", "--account", "work"];
    let _ = env.run(both).code(4);
}

#[test]
fn the_prompt_shows_the_live_account_and_a_clearly_better_one() {
    let env = three();
    assert_eq!(prompt(&env), "work 12 % → spare 88 %");
    let shown = |accounts: &[(&str, f64)]| prompt(&world(accounts));
    // The difference is small, or the other one has less.
    assert_eq!(shown(&[("work", 20.0), ("home", 15.0)]), "work 80 %");
    assert_eq!(shown(&[("work", 20.0), ("home", 90.0)]), "work 80 %");
    // No account is ready: the live one is still shown.
    assert_eq!(shown(&[("work", 100.0), ("home", 100.0)]), "work 0 %");
    // A ready one is better than an exhausted one, whatever it has left.
    assert_eq!(
        shown(&[("work", 100.0), ("home", 97.0)]),
        "work 0 % → home 3 %"
    );
    let _ = env
        .run(["config", "set", "recommend.strategy", "stay"])
        .code(0);
    assert_eq!(prompt(&env), "work 12 %");
    // The better account has lost its login.
    let env = three();
    std::fs::remove_file(env.path("home/.codex-manager/profiles/spare/auth.json")).unwrap();
    assert_eq!(prompt(&env), "work 12 %");
    std::fs::remove_file(env.codex_home().join("auth.json")).unwrap();
    assert_eq!(prompt(&env), "→ work 12 %");
}

#[test]
fn the_hook_of_bash_uses_the_prompt_format_unless_another_is_given() {
    let env = three();
    let default = env.run(["hook", "bash"]).code(0).stdout;
    assert!(
        default.contains("recommend --format '{prompt}'"),
        "{default}"
    );
    let custom = env.run(["hook", "bash", "--format", "{label}"]).code(0);
    let expected = "recommend --ready-only --format '{label}'";
    assert!(custom.stdout.contains(expected), "{custom}");
}

#[test]
fn recommend_names_the_live_account_if_it_is_ready_too() {
    let env = world(&[("work", 25.0), ("spare", 78.0)]);
    let path = env.path("home/.codex-manager/cooldown.json");
    let mut known: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    known["accounts"][0]["last_used_at"] = json!("2026-11-20T11:00:00Z");
    std::fs::write(&path, known.to_string()).expect("write");
    let shown = env.run(["recommend"]).code(0).stdout;
    let line = "work, the live account, is ready too; 75 % of the weekly quota left";
    assert!(shown.starts_with("spare (spare@example.com)"), "{shown}");
    assert!(shown.contains(line), "{shown}");
    // In cooldown it is not named.
    let shown = world(&[("work", 100.0), ("spare", 78.0)]).run(["recommend"]);
    assert!(!shown.stdout.contains("the live account"), "{shown}");
}

#[test]
fn status_of_all_accounts_counts_their_conversations_as_their_last_use() {
    let env = crate::session_picker::home();
    let used_at = || {
        let json = env.run(["accounts", "--json"]).code(0).json();
        let accounts = json["accounts"].as_array().expect("accounts").clone();
        let home = accounts.into_iter().find(|one| one["profile"] == "home");
        home.expect("a profile")["last_used_at"].clone()
    };
    let _ = env.run(["status", "--all", "--dry-run"]);
    assert_eq!(used_at(), Value::Null);
    // Without Codex the figures are unknown, the conversations are not.
    let _ = env.run(["status", "--all"]);
    assert_eq!(used_at(), "2026-11-20T11:30:00+00:00");
}

#[test]
fn recommend_and_current_name_the_account_of_the_folder() {
    let env = three();
    let folder = env.path("home/client");
    std::fs::create_dir_all(&folder).expect("a folder");
    let run_there = |args: &[&str]| {
        let mut command = env.command(args);
        command.current_dir(&folder);
        let output = command.output().expect("run");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(output.stdout), text(output.stderr))
    };
    let (json, _) = run_there(&["current", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["folder_profile"], Value::Null);
    let set = ["config", "set", "folders.~/client", "spare"];
    let _ = env.run(set).code(0);
    let line = "the account of this folder is spare (88 % left); start Codex with it:\n    codex-manager launch";
    for command in ["recommend", "current"] {
        assert!(run_there(&[command]).1.contains(line), "{command}");
        let json: Value = serde_json::from_str(&run_there(&[command, "--json"]).0).expect("JSON");
        assert_eq!(json["folder_profile"], "spare", "{command}");
    }
    let (shown, notes) = run_there(&["recommend", "--format", "{prompt}"]);
    assert_eq!((&*shown, &*notes), ("work 12 % → spare 88 %\n", ""));
}

#[test]
fn a_prompt_opens_only_the_cache_the_settings_and_two_logins() {
    let env = three();
    let args = ["recommend", "--format", "{prompt}"];
    let log = env.path("strace.log");
    let mut traced = env.other_program("strace");
    traced
        .args([
            "-f",
            "-e",
            "trace=open,openat,openat2,getdents64,connect",
            "-o",
        ])
        .arg(&log)
        .arg(PROGRAM)
        .args(args);
    let output = match traced.output() {
        Ok(output) => output,
        Err(e) => return skip("strace", &e.to_string()),
    };
    assert!(output.status.success(), "{output:?}");
    let log = std::fs::read_to_string(&log).expect("the log");
    let home = env.path("home");
    let home = home.to_str().expect("text");
    // Missing files of interrupted commands are looked for, and not found.
    let is_found = |line: &&str| line.contains(home) && !line.contains(" = -1 ");
    let opened = log.lines().filter(is_found);
    let opened: Vec<_> = opened
        .filter_map(|line| line.split('"').nth(1))
        .filter(|path| !path.ends_with("/.codex") && !path.ends_with("/.codex-manager"))
        .map(|path| path.strip_prefix(home).unwrap_or(path))
        .collect();
    let allowed = [
        "/.codex-manager/config.toml",
        "/.codex-manager/cooldown.json",
        "/.codex/auth.json",
        "/.codex/config.toml",
        "/.codex-manager/profiles/spare/auth.json",
        "/.codex-manager/profiles/spare/profile.json",
    ];
    let others: Vec<_> = opened
        .iter()
        .filter(|path| !allowed.contains(path))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(opened.len() <= 12, "{opened:?}");
    assert!(!log.contains("connect("), "{log}");
}

#[test]
fn use_by_one_letter_needs_consent() {
    let env = three();
    let before = env.tree("home");
    let run = env.run(["use", "s"]).code(5);
    assert!(
        run.stderr
            .contains("one letter is not enough to switch to spare"),
        "{run}"
    );
    assert!(run.stderr.contains("codex-manager use spare"), "{run}");
    assert_same_tree(&before, &env.tree("home"));
    let mut terminal = Terminal::start(&mut env.command(["use", "s"]));
    terminal.wait_for("switch to spare? [y/N]", LIMIT);
    terminal.type_keys("n\r");
    assert!(!terminal.end().success(), "{}", terminal.text());
    let _ = env.run(["use", "s", "--yes"]).code(0);
    assert_eq!(
        env.run(["current", "--json"]).code(0).json()["profile"],
        "spare"
    );
    let _ = env.run(["use", "wo"]).code(0);
}

#[test]
fn the_picker_of_use_filters_by_a_part_of_the_email() {
    let env = three();
    let entry =
        json!({"email": "d.novak@opensource.example", "account_id": "acct-oss", "profile": "oss"});
    let path = env.path("home/.codex-manager/cooldown.json");
    let mut known: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    known["accounts"]
        .as_array_mut()
        .expect("accounts")
        .push(entry);
    std::fs::write(&path, known.to_string()).expect("write");
    let login = SignIn::new("acct-oss", "d.novak@opensource.example");
    env.write(
        "home/.codex-manager/profiles/oss/auth.json",
        auth_json(&login),
    );
    for part in ["novak", "source.exa", "d.novak@open"] {
        let mut terminal = Terminal::start(&mut env.command(["use", "--dry-run"]));
        terminal.wait_until((120, LINES), LIMIT, |picture| picture.contains("4/4"));
        terminal.type_keys(part);
        terminal.wait_until((120, LINES), LIMIT, |picture| picture.contains("1/4"));
        terminal.type_keys("\r");
        assert!(terminal.end().success(), "{}", terminal.text());
        let left = terminal.picture(120, LINES);
        assert!(left.contains("would switch to oss"), "{left}");
    }
}

#[test]
fn a_mistyped_name_suggests_the_nearest_account_and_an_unknown_email_suggests_none() {
    let names: Vec<_> = (10..20).map(|n| format!("oss-{n}")).collect();
    let accounts: Vec<_> = names.iter().map(|name| (name.as_str(), 10.0)).collect();
    let env = world(&accounts);
    let run = env.run(["status", "oos-14"]).code(1);
    assert!(
        run.stderr
            .contains("did you mean: oss-14 (oss-14@example.com)"),
        "{run}"
    );
    let run = env.run(["status", "nobody@example.com"]).code(1);
    assert!(!run.stderr.contains("did you mean"), "{run}");
}

#[test]
fn profile_save_without_a_name_names_the_profile_after_the_email() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &sign_in("dana"));
    let saved = env.run(["profile", "save", "--json"]).code(0).json();
    assert_eq!(saved["profile"], "dana");
    let _ = env.run(["profile", "rename", "dana", "work"]).code(0);
    // An account has one profile, which keeps its name.
    let again = env.run(["profile", "save", "--json"]).code(0).json();
    assert_eq!(
        (&again["profile"], &again["renamed_from"]),
        (&json!("work"), &Value::Null)
    );
    // The name is taken by another account.
    let _ = env.run(["profile", "rename", "work", "erin"]).code(0);
    write_auth(&env.codex_home(), &sign_in("erin"));
    let other = env.run(["profile", "save", "--json"]).code(0).json();
    assert_eq!(other["profile"], "erin@example.com");
    // So is the email, by another workspace of the user.
    for (account, email, name) in [
        ("acct-2", "erin@example.com", "erin@example.com-2"),
        ("acct-3", "erin@example.com", "erin@example.com-3"),
        ("acct-4", ".hid@a.com", "hid"),
        ("acct-5", "a/b@x.com", "ab"),
        ("acct-6", "latest@x.com", "latest@x.com"),
    ] {
        write_auth(&env.codex_home(), &SignIn::new(account, email));
        let planned = env.run(["profile", "save", "--dry-run", "--json"]);
        assert_eq!(planned.code(0).json()["profile"], name);
        let saved = env.run(["profile", "save", "--json"]).code(0).json();
        assert_eq!(saved["profile"], name);
    }
}

#[test]
fn profile_remove_without_a_terminal_needs_yes() {
    let env = three();
    let before = env.tree("home/.codex-manager/profiles/spare");
    let run = env.run(["profile", "remove", "spare"]).code(5);
    assert!(run.stderr.contains("add --yes"), "{run}");
    assert_same_tree(&before, &env.tree("home/.codex-manager/profiles/spare"));
    let _ = env.run(["profile", "remove", "spare", "--yes"]).code(0);
    let _ = env.run(["profile", "undo", "spare"]).code(0);
}

#[test]
fn the_window_of_an_account_that_was_never_queried_is_an_empty_report() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &sign_in("dana"));
    let run = env.run(["usage", "--window", "--json"]).code(0);
    let json = run.json();
    assert_eq!(json["rows"], json!([]));
    for key in ["window", "used_percent", "unattributed_percent"] {
        assert_eq!(json[key], Value::Null, "{key}");
    }
    assert_eq!(json["forecast"]["exhausted_at"], Value::Null);
    let text = env.run(["usage", "--window"]).code(0);
    assert_eq!(text.stdout, "");
    assert!(
        text.stderr
            .contains("query it:\n    codex-manager status dana@example.com"),
        "{text}"
    );
    let history = env.run(["status", "dana@example.com", "--history"]).code(0);
    let hint = "add one with:\n    codex-manager status dana@example.com\n";
    assert!(history.stderr.ends_with(hint), "{history}");
}

#[test]
fn status_all_counts_the_answers_on_a_terminal() {
    let env = three();
    // Without Codex each account is answered at once, from its last figures.
    let mut command = env.command(["status", "--all"]);
    let mut terminal = Terminal::watch(command.env("TERM", "xterm"), 120);
    let _ = terminal.end();
    let text = terminal.colored();
    assert!(
        text.contains("asking Codex about accounts: 0 of 3"),
        "{text}"
    );
    let piped = env.run(["status", "--all"]);
    assert!(!piped.stderr.contains("asking Codex"), "{piped}");
}

#[test]
fn launch_names_the_account_that_stays_live() {
    let mut env = alice_and_bob();
    env.unset("CODEX_MANAGER_NOW");
    crate::launch::codex(&env, "exit 0");
    let launch = |args: &[&str]| env.run([&["launch"], args].concat()).code(0).stderr;
    let notes = launch(&["home"]);
    let line = "home stays the live account; to return to work:\n    codex-manager use work";
    assert!(notes.contains(line), "{notes}");
    let notes = launch(&["work", "--isolated"]);
    assert!(notes.contains("home stays the live account\n"), "{notes}");
    let notes = launch(&["home"]);
    assert!(!notes.contains("stays the live account"), "{notes}");
}
