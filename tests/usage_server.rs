//! `usage --server` and `current --refresh`: what Codex asks its server about the account.

use crate::support::conversations::{Conversation, id};
use crate::support::env::{Run, TestEnv};
use crate::support::fake_codex::FakeCodex;
use crate::support::lab::Lab;
use crate::support::mock_backend::{MockBackend, RESET_CREDITS};
use crate::support::processes;
use crate::support::sign_in::{SignIn, api_key_home, write_auth};
use crate::support::usage_lines::{Tokens, at, context, conversation, count, store, sum};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Path ending of the daily figures of an account.
const PROFILE: &str = "/wham/profiles/me";
/// Path ending of the estimate of a conversation.
const THREAD: &str = "/wham/usage/thread_usage/query";

const A: Tokens = [1000, 0, 100, 0];

/// Creates a home with Alice's login and a conversation of 2,200 tokens on 2026-11-19, with a fake Codex on `PATH`.
fn world() -> (TestEnv, FakeCodex) {
    let mut env = TestEnv::new();
    let fake = FakeCodex::new(&env.path("bin"));
    env.set("PATH", format!("{}:/usr/bin:/bin", fake.dir().display()));
    write_auth(&env.codex_home(), &SignIn::alice());
    for (number, account) in [(1, "acct-alice"), (2, "acct-bob")] {
        let conversation = Conversation {
            account: account.into(),
            ..conversation(number)
        };
        let lines = [
            context(at(0), "gpt-5"),
            count(at(0), A, A, Some(30.0)),
            count(at(60), sum(A, A), A, Some(31.0)),
        ];
        store(&env, &conversation, &lines);
    }
    (env, fake)
}

/// Returns the answer of app-server about an account.
fn days(buckets: &Value) -> Value {
    json!({"summary": {"lifetimeTokens": 123_456}, "dailyUsageBuckets": buckets, "threadUsage": null})
}

fn bucket(day: &str, tokens: u64) -> Value {
    json!({"startDate": day, "tokens": tokens})
}

/// Runs `usage --server` in a world with this answer.
fn compare(answer: &Value) -> Run {
    let (env, fake) = world();
    let _fake = fake.answer("account/usage/read", answer);
    env.run(["usage", "--server", "--json"])
}

fn row(day: &str, server: Option<u64>, local: u64, elsewhere: Option<u64>) -> Value {
    json!({"key": day, "server_tokens": server, "local_tokens": local, "elsewhere_tokens": elsewhere})
}

#[test]
fn the_servers_days_are_compared_with_the_conversations_of_the_account() {
    let answer = days(&json!([
        bucket("2026-11-18", 500),
        bucket("2026-11-19", 3_000),
        bucket("2026-11-20", 700),
    ]));
    let output = compare(&answer).code(0).json();
    assert_eq!(
        output,
        json!({
            "schema": 1,
            "command": "usage",
            "account": "alice@example.com",
            "lifetime_tokens": 123_456,
            "rows": [
                row("2026-11-18", Some(500), 0, Some(500)),
                row("2026-11-19", Some(3_000), 2_200, Some(800)),
                row("2026-11-20", Some(700), 0, Some(700)),
            ],
            "problem": null,
        })
    );
    let (env, fake) = world();
    let _fake = fake.answer("account/usage/read", &answer);
    insta::assert_snapshot!(env.run(["usage", "--server"]).code(0), @"
    exit 0
    --- stdout
    DAY         SERVER  THIS MACHINE  ELSEWHERE
    2026-11-18     500             0        500
    2026-11-19    3.0k          2.2k        800
    2026-11-20     700             0        700
    alice@example.com: 4.2k tokens reported by the server, 2.0k of them not from the CLI on this machine; days are in UTC
    --- stderr
    ");
}

#[test]
fn days_that_the_server_leaves_out_or_counts_lower_are_shown() {
    let answer = days(&json!([
        bucket("2026-11-18", 1),
        bucket("2026-11-20", 2),
        {"startDate": "2026-11-17"},
        {"startDate": "yesterday", "tokens": 3},
        {"startDate": "2026-11-16", "tokens": -4},
        5,
    ]));
    let output = compare(&answer).code(0).json();
    let rows = [
        row("2026-11-18", Some(1), 0, Some(1)),
        row("2026-11-19", None, 2_200, None),
        row("2026-11-20", Some(2), 0, Some(2)),
    ];
    assert_eq!(output["rows"], json!(rows));
    let lower = compare(&days(&json!([bucket("2026-11-19", 2_000)]))).code(0);
    let rows = [row("2026-11-19", Some(2_000), 2_200, Some(0))];
    assert_eq!(lower.json()["rows"], json!(rows));
}

#[test]
fn a_server_without_figures_is_reported_with_exit_code_6() {
    for answer in [
        days(&Value::Null),
        days(&json!([])),
        days(&json!("malformed")),
        json!([]),
    ] {
        let run = compare(&answer).code(6);
        assert_eq!(run.json()["rows"], json!([]), "{answer}");
        assert_eq!(run.json()["problem"], Value::Null, "{answer}");
        let note = "the server reports no daily figures";
        assert!(run.stderr.contains(note), "{answer}: {run}");
    }
}

#[test]
fn the_reason_for_a_missing_answer_is_reported() {
    let unknown =
        "Invalid request: unknown variant `account/usage/read`, expected one of `initialize`";
    for (code, message, problem) in [
        (
            -32_600,
            unknown,
            "this version of Codex does not report these figures",
        ),
        (
            -32_600,
            "codex account authentication required to read token usage",
            "not signed in",
        ),
        (
            -32_603,
            "failed to fetch token usage: GET http://127.0.0.1:1/x failed: 404 Not Found",
            "the server failed",
        ),
    ] {
        let (env, fake) = world();
        let _fake = fake.error("account/usage/read", code, message);
        let id = id(1);
        for args in [&["usage", "--server"][..], &["usage", "--server", &id]] {
            let run = env.run([args, &["--json"]].concat()).code(6);
            let found = run.json()["problem"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            assert!(found.starts_with(problem), "{run}");
            let warning = format!("no figures from the server: {problem}");
            assert!(run.stderr.contains(&warning), "{run}");
        }
    }
    let (env, fake) = world();
    let fake = fake.silent_on("account/usage/read");
    let started = Instant::now();
    let run = env.run(["usage", "--server", "--json"]).code(6);
    assert_eq!(run.json()["problem"], "no answer within 10 s");
    assert!(started.elapsed() < Duration::from_secs(60));
    let left = processes::wait_for_end(&fake.pids(), Duration::from_secs(60));
    assert_eq!(left, [] as [u32; 0]);
}

#[test]
fn an_api_key_starts_no_query() {
    let (env, fake) = world();
    api_key_home(&env.codex_home(), &MockBackend::start());
    let run = env.run(["usage", "--server", "--json"]).code(6);
    assert_eq!(run.json()["problem"], "an API key has no quota windows");
    assert_eq!(fake.pids(), [] as [u32; 0]);
    let _ = std::fs::remove_file(env.codex_home().join("auth.json"));
    let _ = env.run(["usage", "--server"]).code(1);
}

#[test]
fn a_window_shows_by_day_what_was_used_elsewhere() {
    let (env, fake) = world();
    let fake = fake.answer(
        "account/usage/read",
        &days(&json!([
            bucket("2026-11-16", 1_000_000),
            bucket("2026-11-18", 3_000),
            bucket("2026-11-19", 3_200),
        ])),
    );
    let output = env
        .run(["usage", "--window", "--server", "--json"])
        .code(0)
        .json();
    // Of the window from 2026-11-17, 28 % were used before the first answer, which usually takes 1 %.
    let elsewhere = output["unattributed_percent"].as_f64().expect("a number");
    assert!(elsewhere > 9.9, "{output}");
    let rows = output["rows"].as_array().expect("rows").iter();
    let rows: Vec<_> = rows.filter(|row| row["kind"] == "elsewhere").collect();
    let part = |share: f64| elsewhere * share;
    assert_eq!(
        json!(rows),
        json!([
            {"kind": "elsewhere", "key": "2026-11-18", "tokens": 3_000, "percent_of_window": part(0.75)},
            {"kind": "elsewhere", "key": "2026-11-19", "tokens": 1_000, "percent_of_window": part(0.25)},
        ])
    );
    let text = env.run(["usage", "--window", "--server"]).code(0).stdout;
    assert!(text.contains("NOT FROM THE CLI ON THIS MACHINE"), "{text}");
    let text = env.run(["usage", "--window"]).code(0).stdout;
    assert!(!text.contains("NOT FROM THE CLI"), "{text}");

    let _fake = fake.error("account/usage/read", -32_603, "error sending request");
    let failed = env.run(["usage", "--window", "--server", "--json"]).code(6);
    assert_eq!(
        failed.json()["unattributed_percent"],
        output["unattributed_percent"]
    );
    let _ = env.run(["usage", "--window", "--server", "0"]).code(4);
}

#[test]
fn the_real_codex_queries_the_server_for_days_conversations_and_workspaces() {
    let Some(lab) = Lab::new() else { return };
    let id = lab.say("hello");
    let used = lab.manager(["usage", "models", "--json"]).code(0).json();
    let model = &used["rows"][0]["key"];
    let today = chrono::Utc::now().date_naive().to_string();
    let bucket = json!({"start_date": today, "tokens": 5_000});
    let group = |effort: &str, credits: u64| {
        json!({"model": model, "reasoning_effort": effort, "speed": "standard",
               "estimated_usage_credits_micros": credits, "input_tokens": 1_200,
               "cached_input_tokens": 200, "net_new_input_tokens": 1_000,
               "output_tokens": 34, "total_tokens": 1_234})
    };
    lab.backend.account("acct-alice").set(|alice| {
        let stats = json!({"lifetime_tokens": 9_000, "daily_usage_buckets": [bucket]});
        alice.answers.insert(PROFILE, json!({"stats": stats}));
        let thread = json!({"thread_id": id, "estimated_usage_credits_micros": 2_500_000,
            "estimated_usage_usd_micros": 100_000, "groups": [group("low", 2_000_000), group("high", 500_000)]});
        alice.answers.insert(THREAD, json!({"threads": [thread]}));
        alice.workspaces = vec![json!({
            "id": "acct-team", "name": "Team", "plan_type": "team", "structure": "workspace",
            "account_user_role": "standard-user", "account_routing_override": "NO_CONSTRAINT",
            "workspace_backend_origin": "https://chatgpt.com", "is_deactivated": false,
        })];
    });
    let output = lab.manager(["usage", "--server", "--json"]).code(0).json();
    assert_eq!(output["lifetime_tokens"], 9_000);
    let rows = [row(&today, Some(5_000), 1_234, Some(3_766))];
    assert_eq!(output["rows"], json!(rows));

    let output = lab
        .manager(["usage", "--server", &id, "--json"])
        .code(0)
        .json();
    let title = output["title"].clone();
    assert_eq!(
        output,
        json!({
            "schema": 1, "command": "usage", "session_id": id, "title": title,
            "credits": 2.5, "usd": 0.1,
            "rows": [{"key": model, "server_tokens": 2_468, "local_tokens": 1_234,
                      "elsewhere_tokens": 1_234, "credits": 2.5}],
            "problem": null,
        })
    );
    assert_eq!(lab.backend.requests_to(THREAD).len(), 1);

    let output = lab
        .manager(["current", "--refresh", "--json"])
        .code(0)
        .json();
    assert_eq!(
        output["workspaces"],
        json!([
            {"account_id": "acct-alice", "name": "alice@example.com", "kind": "personal", "active": true},
            {"account_id": "acct-team", "name": "Team", "kind": "workspace", "active": false},
        ])
    );
    let text = lab.manager(["current", "--refresh"]).code(0).stdout;
    let line = "\nworkspaces: alice@example.com (personal, active), Team (workspace)\n";
    assert!(text.contains(line), "{text}");
    let output = lab.manager(["current", "--json"]).code(0).json();
    assert_eq!(output["workspaces"], Value::Null);

    lab.backend
        .account("acct-alice")
        .set(|alice| alice.answers.clear());
    let run = lab.manager(["usage", "--server", "--json"]).code(6);
    let problem = run.json()["problem"]
        .as_str()
        .expect("a problem")
        .to_owned();
    assert!(problem.starts_with("the server failed: "), "{run}");
    let run = lab.manager(["usage", "--server", &id, "--json"]).code(6);
    let note = "the server has no estimate of this conversation";
    assert!(run.stderr.contains(note), "{run}");
}

#[test]
fn codex_0_150_has_all_but_the_workspaces() {
    let Some(lab) = Lab::of_version("0.150.0") else {
        return;
    };
    let id = lab.say("hello");
    lab.backend.account("acct-alice").set(|alice| {
        let buckets = json!([{"start_date": "2026-11-20", "tokens": 1_200}]);
        let stats = json!({"stats": {"daily_usage_buckets": buckets}});
        alice.answers.insert(PROFILE, stats);
        let thread = json!({"thread_id": id, "estimated_usage_credits_micros": 1, "groups": []});
        alice.answers.insert(THREAD, json!({"threads": [thread]}));
        alice
            .answers
            .insert(RESET_CREDITS, json!({"available_count": 2, "credits": []}));
    });
    let output = lab.manager(["usage", "--server", "--json"]).code(0).json();
    assert_eq!(output["rows"][0]["server_tokens"], 1_200);
    let output = lab
        .manager(["usage", "--server", &id, "--json"])
        .code(0)
        .json();
    assert_eq!(output["credits"], 0.000_001);
    let output = lab
        .manager(["current", "--refresh", "--json"])
        .code(0)
        .json();
    assert_eq!(output["reset_credits"]["available"], 2);
    assert_eq!(output["workspaces"], Value::Null);
}

#[test]
fn codex_0_130_has_no_figures_of_the_server() {
    let Some(lab) = Lab::of_version("0.130.0") else {
        return;
    };
    let run = lab.manager(["usage", "--server", "--json"]).code(6);
    let problem = "this version of Codex does not report these figures";
    assert_eq!(run.json()["problem"], problem);
    let output = lab.manager(["status", "--json"]).code(0).json();
    assert_eq!(output["reset_credits"], Value::Null);
}
