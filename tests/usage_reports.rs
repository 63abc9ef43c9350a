//! The rows, filters and settings of `usage`.

use crate::support::conversations::{Conversation, id};
use crate::support::env::TestEnv;
use crate::support::usage_lines::{at, context, conversation, count, store};
use serde_json::Value;
use std::fs;
use std::io::Read as _;
use std::process::Stdio;

const A: [u64; 4] = [100, 20, 10, 5];

const REPORTS: [&str; 8] = [
    "daily", "weekly", "monthly", "sessions", "projects", "models", "accounts", "blocks",
];

fn add(env: &TestEnv, made: &Conversation, minutes: i64, times: u64) {
    let used = A.map(|part| part * times);
    let lines = [
        context(at(minutes), "gpt-5"),
        count(at(minutes), used, used, None),
    ];
    store(env, made, &lines);
}

fn total(env: &TestEnv, args: &[&str]) -> u64 {
    let run = env.run([&["usage", "--json"], args].concat()).code(0);
    let json: Value = run.json();
    let rows = json["rows"].as_array().unwrap().iter();
    let sum = rows.map(|row| row["total_tokens"].as_u64().unwrap()).sum();
    assert_eq!(json["totals"]["total_tokens"], sum, "{json}");
    sum
}

#[test]
fn every_filter_selects_in_every_report() {
    let env = TestEnv::new();
    fs::create_dir_all(env.path("home/code/site")).unwrap();
    let here = env.path("home").display().to_string();
    for (number, cwd, account, minutes) in [
        (1, format!("{here}/code/site"), "acct-alice", 0),
        (2, "/elsewhere".to_owned(), "acct-bob", 24 * 60),
    ] {
        let mut made = conversation(number);
        made.cwd = cwd;
        made.account = account.to_owned();
        made.archived = number == 1;
        add(&env, &made, minutes, u64::from(number));
    }
    // A rollout that Codex's list lacks.
    let unlisted = Conversation {
        cwd: format!("{here}/code"),
        ..conversation(3)
    };
    add(&env, &unlisted, 0, 4);
    let list = env.codex_home().join("state_5.sqlite");
    let list = rusqlite::Connection::open(list).unwrap();
    list.execute("DELETE FROM threads WHERE id=?1", [id(3)])
        .unwrap();
    drop(list);
    let accounts = serde_json::json!({"schema": 1, "accounts": [
        {"email": "alice@x.com", "account_id": "acct-alice"},
        {"email": "bob@x.com", "account_id": "acct-bob"},
    ]});
    env.write("home/.codex-manager/cooldown.json", accounts.to_string());
    for by in REPORTS {
        let total = |args: &[&str]| total(&env, &[&[by], args].concat());
        assert_eq!(total(&[]), 7 * 110, "{by}");
        assert_eq!(total(&["--project", "/elsewhere"]), 2 * 110, "{by}");
        assert_eq!(
            total(&["--project", &format!("{here}/code")]),
            5 * 110,
            "{by}"
        );
        assert_eq!(total(&["--here"]), 5 * 110, "{by}");
        assert_eq!(total(&["--account", "bob@x.com"]), 2 * 110, "{by}");
        assert_eq!(total(&["--account", "alice@x.com"]), 110, "{by}");
        assert_eq!(total(&["--since", "2026-11-20"]), 2 * 110, "{by}");
        assert_eq!(total(&["--until", "2026-11-19"]), 5 * 110, "{by}");
        assert_eq!(total(&["bob@x.com"]), 2 * 110, "{by}");
        let both = ["--until", "2026-11-19", "--account", "alice@x.com"];
        assert_eq!(total(&both), 110, "{by}");
    }
}

#[test]
fn usage_takes_an_account_with_or_without_a_kind_of_rows() {
    let env = TestEnv::new();
    let accounts = serde_json::json!({"schema": 1, "accounts": [
        {"email": "alice@x.com", "account_id": "acct-alice"},
        {"email": "bob@x.com", "account_id": "acct-bob"},
    ]});
    env.write("home/.codex-manager/cooldown.json", accounts.to_string());
    for (number, account) in [(1, "acct-alice"), (2, "acct-bob")] {
        let mut made = conversation(number);
        made.account = account.to_owned();
        add(&env, &made, 0, u64::from(number));
    }
    for args in [
        &["bob@x.com"][..],
        &["models", "bob@x.com"],
        &["bob@x.com", "weekly"],
    ] {
        assert_eq!(total(&env, args), 2 * 110, "{args:?}");
    }
    for args in [["daily", "weekly"], ["alice@x.com", "bob@x.com"]] {
        let run = env.run([&["usage"][..], &args].concat()).code(4);
        assert!(
            run.stderr
                .contains("at most one kind of rows and one account"),
            "{run}"
        );
    }
    let run = env.run(["usage", "dayly"]).code(1);
    assert!(run.stderr.contains("codex-manager help usage"), "{run}");
}

#[test]
fn usage_refuses_options_that_do_not_fit_together() {
    let env = TestEnv::new();
    add(&env, &conversation(1), 0, 1);
    for (args, message) in [
        (
            &["daily", "--limit", "3"][..],
            "--limit is not for daily rows",
        ),
        (&["--at", "7d"], "required"),
        (&["sessions", "--window"], "cannot be used with"),
        (&["--window", "--here"], "cannot be used with"),
        (&["--window", "--limit", "3"], "cannot be used with"),
        (&["--archived"], "unexpected argument '--archived'"),
    ] {
        let run = env.run([&["usage"], args].concat()).code(4);
        assert!(format!("{run}").contains(message), "{run}");
    }
}

#[test]
fn a_limit_shows_the_rows_with_the_most_tokens() {
    let env = TestEnv::new();
    for number in 1..=40 {
        let mut made = conversation(number);
        made.cwd = format!("/code/{number}");
        add(&env, &made, 0, number.into());
    }
    let run = env.run(["usage", "sessions", "--limit", "2"]).code(0);
    assert_eq!(run.stdout.lines().count(), 1 + 2 + 1, "{run}");
    assert!(run.stdout.contains("4.4k"), "{run}");
    assert!(run.stdout.contains("total: 90.2k tokens"), "{run}");
    assert!(
        run.stderr
            .contains("there are more; add --limit 40 to see them\n"),
        "{run}"
    );
    let all = env.run(["usage", "projects"]).code(0);
    assert_eq!(all.stdout.lines().count(), 1 + 40 + 1, "{all}");
    let tsv = env
        .run(["usage", "projects", "--format", "tsv", "--limit", "2"])
        .code(0);
    assert_eq!(tsv.stdout.lines().count(), 3, "{tsv}");
}

#[test]
fn limited_sessions_are_the_first_rows_of_the_unlimited_report() {
    let env = TestEnv::new();
    for number in 1..=9 {
        // Three conversations share each total.
        add(&env, &conversation(number), 0, u64::from(number) / 3 + 1);
    }
    let read = |more: &[&str]| {
        let args = [&["usage", "sessions", "--json"], more].concat();
        env.run(args).code(0).json()
    };
    let all = read(&[]);
    let rows = all["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9, "{all}");
    for limit in 0..=10 {
        let limited = read(&["--limit", &limit.to_string()]);
        assert_eq!(limited["totals"], all["totals"], "{limit}");
        let first = &rows[..limit.min(9)];
        assert_eq!(limited["rows"].as_array().unwrap(), first, "{limit}");
    }
}

#[test]
fn a_slow_reader_of_json_does_not_keep_others_from_the_index() {
    let env = TestEnv::new();
    for number in 1..=300 {
        add(&env, &conversation(number), 0, number.into());
    }
    let _ = env.run(["usage"]).code(0);
    let mut command = env.command(["usage", "sessions", "--json"]);
    let mut printing = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = printing.stdout.take().unwrap();
    // The rest is more than a pipe holds, so the program waits until the end of the test.
    stdout.read_exact(&mut [0; 100]).unwrap();
    add(&env, &conversation(301), 0, 301);
    let run = env.run(["usage", "models", "--json"]).code(0);
    assert_eq!(run.json()["totals"]["requests"], 301, "{run}");
    assert_eq!(run.stderr, "", "{run}");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 64 * 1024);
    assert!(printing.wait().unwrap().success());
}

#[test]
fn lists_say_that_a_conversation_has_no_title() {
    let env = TestEnv::new();
    let mut made = conversation(1);
    made.title.clear();
    made.lines.clear();
    add(&env, &made, 0, 5);
    for args in [&["usage", "sessions"][..], &["sessions"]] {
        let run = env.run(args).code(0);
        assert!(run.stdout.contains("(no title)"), "{run}");
        let tsv = env.run([args, &["--format", "tsv"]].concat()).code(0);
        assert!(!tsv.stdout.contains("(no title)"), "{tsv}");
    }
}

#[test]
fn prices_of_the_settings_are_used_unless_the_command_names_others() {
    let env = TestEnv::new();
    add(&env, &conversation(1), 0, 1_000_000);
    let cost = |args: &[&str]| {
        let run = env.run([&["usage", "--json"], args].concat()).code(0);
        run.json()["totals"]["cost_usd"].as_f64().unwrap()
    };
    let input = |price: u32| format!("[models.\"gpt-5\"]\ninput = {price}\noutput = 0\n");
    env.write("home/.codex-manager/prices.toml", input(1));
    assert!((cost(&[]) - 100.0).abs() < 1e-6);
    env.write("home/mine.toml", input(2));
    let _ = env
        .run(["config", "set", "usage.prices", "~/mine.toml"])
        .code(0);
    assert!((cost(&[]) - 200.0).abs() < 1e-6);
    let flag = env.write("flag.toml", input(3));
    assert!((cost(&["--prices", flag.to_str().unwrap()]) - 300.0).abs() < 1e-6);
    fs::remove_file(env.path("home/mine.toml")).unwrap();
    let run = env.run(["usage"]).code(4);
    assert!(run.stderr.contains("mine.toml"), "{run}");
}
